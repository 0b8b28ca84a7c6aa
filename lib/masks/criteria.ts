/** What makes a weight worth keeping: one row a criterion, one score a weight, largest kept. */
import type { Random } from "../random";
import type { Segment } from "./mask";

/** What criteria compute scores from; each a number for every parameter, but for the last four. */
export interface Ingredients {
  /** The weights of the model. */
  final: Float64Array;
  /** Those that training began with. */
  initial: Float64Array;
  /** Of the loss, at the model's weights. */
  gradient: Float64Array;
  /** Of the loss, at the initial weights. */
  initialGradient: Float64Array;
  /** Of the curvature. */
  diagonal: Float64Array;
  /** Of the inverse of the curvature's damped diagonal blocks. */
  inverseDiagonal: Float64Array;
  /** Eigenvectors of the curvature. */
  vectors: readonly Float64Array[];
  /** Their eigenvalues. */
  values: Float64Array;
  random: Random;
  /** What the parameters are of; always there. */
  tensors: readonly Segment[];
}

export type Ingredient = Exclude<keyof Ingredients, "tensors">;

interface CriterionRow {
  needs: readonly Ingredient[];
  /** What is kept, in a few words. */
  keeps: string;
  score: (given: Ingredients) => (i: number) => number;
  /** Whether it has the variants _same_sign and _diff_sign. */
  signs?: true;
}

const { abs, min } = Math;

/** The share of the entries of a tensor whose magnitude, times `sign`, is less than each one's. */
function percentiles(
  values: Float64Array,
  tensors: readonly Segment[],
  sign: 1 | -1,
): Float64Array {
  const found = new Float64Array(values.length);
  for (const { offset, size } of tensors) {
    const magnitudes = values.subarray(offset, offset + size).map((x) => sign * abs(x));
    const ascending = magnitudes.slice().sort();
    for (let i = 0; i < size; i++) {
      let [low, high] = [0, size];
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (ascending[middle]! < magnitudes[i]!) low = middle + 1;
        else high = middle;
      }
      found[offset + i] = low / size;
    }
  }
  return found;
}

/** Names and formulas of Zhou et al. 2019 (arXiv:1905.01067) where they have one. */
const ROWS = {
  magnitude: {
    needs: ["final"],
    keeps: "|w|, as large_final",
    score:
      ({ final }) =>
      (i) =>
        abs(final[i]!),
    signs: true,
  },
  large_final: {
    needs: ["final"],
    keeps: "|w|",
    score:
      ({ final }) =>
      (i) =>
        abs(final[i]!),
    signs: true,
  },
  small_final: {
    needs: ["final"],
    keeps: "-|w|",
    score:
      ({ final }) =>
      (i) =>
        -abs(final[i]!),
  },
  large_init: {
    needs: ["initial"],
    keeps: "|w0|",
    score:
      ({ initial }) =>
      (i) =>
        abs(initial[i]!),
    signs: true,
  },
  small_init: {
    needs: ["initial"],
    keeps: "-|w0|",
    score:
      ({ initial }) =>
      (i) =>
        -abs(initial[i]!),
  },
  // Both beyond the same percentile of their tensor: what adjusting alpha does in Zhou's
  // min(alpha |w|, |w0|), as training changes the scale of weights.
  large_init_large_final: {
    needs: ["initial", "final"],
    keeps: "the lesser percentile of |w0| and |w| in their tensor",
    score: ({ initial, final, tensors }) => {
      const start = percentiles(initial, tensors, 1);
      const end = percentiles(final, tensors, 1);
      return (i) => min(start[i]!, end[i]!);
    },
    signs: true,
  },
  small_init_small_final: {
    needs: ["initial", "final"],
    keeps: "the lesser percentile of -|w0| and -|w| in their tensor",
    score: ({ initial, final, tensors }) => {
      const start = percentiles(initial, tensors, -1);
      const end = percentiles(final, tensors, -1);
      return (i) => min(start[i]!, end[i]!);
    },
  },
  magnitude_increase: {
    needs: ["initial", "final"],
    keeps: "|w| - |w0|",
    score:
      ({ initial, final }) =>
      (i) =>
        abs(final[i]!) - abs(initial[i]!),
    signs: true,
  },
  movement: {
    needs: ["initial", "final"],
    keeps: "|w - w0|",
    score:
      ({ initial, final }) =>
      (i) =>
        abs(final[i]! - initial[i]!),
    signs: true,
  },
  // What began at zero and moved has moved infinitely far.
  relative_change: {
    needs: ["initial", "final"],
    keeps: "|w - w0| / |w0|",
    score:
      ({ initial, final }) =>
      (i) => {
        const moved = abs(final[i]! - initial[i]!);
        return moved === 0 ? 0 : moved / abs(initial[i]!);
      },
    signs: true,
  },
  // Lee, Ajanthan and Torr 2019 (arXiv:1810.02340).
  snip: {
    needs: ["initial", "initialGradient"],
    keeps: "|g0 w0|, the gradient at the initial weights",
    score:
      ({ initial, initialGradient }) =>
      (i) =>
        abs(initialGradient[i]! * initial[i]!),
  },
  grad: {
    needs: ["initial", "initialGradient"],
    keeps: "|g0|",
    score:
      ({ initialGradient }) =>
      (i) =>
        abs(initialGradient[i]!),
  },
  // Molchanov et al. 2019 (arXiv:1906.10771), and 2017 (arXiv:1611.06440).
  taylor: {
    needs: ["final", "gradient"],
    keeps: "(g w)^2",
    score:
      ({ final, gradient }) =>
      (i) =>
        (gradient[i]! * final[i]!) ** 2,
  },
  taylor_abs: {
    needs: ["final", "gradient"],
    keeps: "|g w|",
    score:
      ({ final, gradient }) =>
      (i) =>
        abs(gradient[i]! * final[i]!),
  },
  // LeCun, Denker and Solla 1990.
  obd: {
    needs: ["final", "diagonal"],
    keeps: "F_jj w^2 / 2",
    score:
      ({ final, diagonal }) =>
      (i) =>
        (diagonal[i]! * final[i]! ** 2) / 2,
  },
  // Hassibi and Stork 1993; in blocks Singh and Alistarh 2020 (arXiv:2004.14340).
  obs: {
    needs: ["final", "inverseDiagonal"],
    keeps: "w^2 / (2 [F^-1]_jj), F in damped blocks",
    score:
      ({ final, inverseDiagonal }) =>
      (i) =>
        final[i]! ** 2 / (2 * inverseDiagonal[i]!),
  },
  fisher: {
    needs: ["diagonal"],
    keeps: "F_jj",
    score:
      ({ diagonal }) =>
      (i) =>
        diagonal[i]!,
  },
  eigenvectors: {
    needs: ["vectors"],
    keeps: "mass of the top eigenvectors, sum of v_j^2",
    score:
      ({ vectors }) =>
      (i) =>
        vectors.reduce((sum, v) => sum + v[i]! ** 2, 0),
  },
  weighted_eigenvectors: {
    needs: ["vectors", "values"],
    keeps: "the same, by |lambda|",
    score:
      ({ vectors, values }) =>
      (i) =>
        vectors.reduce((sum, v, k) => sum + abs(values[k]!) * v[i]! ** 2, 0),
  },
  random: {
    needs: ["random"],
    keeps: "random ones",
    score:
      ({ random }) =>
      () =>
        random.uniform(),
  },
} satisfies Record<string, CriterionRow>;

type Row = keyof typeof ROWS;
type Signed = { [K in Row]: (typeof ROWS)[K] extends { signs: true } ? K : never }[Row];
export type Criterion = Row | `${Signed}_same_sign` | `${Signed}_diff_sign`;

/**
 * A criterion with the scores set to 0 where the sign of the weight has changed, or has not. That is
 * what Zhou et al. do, so that negative scores of magnitude_increase rank below those.
 */
function signed(row: CriterionRow, same: boolean): CriterionRow {
  return {
    needs: [...new Set([...row.needs, "initial", "final"] as const)],
    keeps: `${row.keeps}, 0 where the sign ${same ? "changed" : "did not change"}`,
    score: (given) => {
      const score = row.score(given);
      const { initial, final } = given;
      return (i) => ((Math.sign(initial[i]!) === Math.sign(final[i]!)) === same ? score(i) : 0);
    },
  };
}

function table(): Record<Criterion, CriterionRow> {
  const all: [string, CriterionRow][] = [];
  for (const [name, row] of Object.entries(ROWS) as [string, CriterionRow][]) {
    all.push([name, row]);
    if (row.signs)
      all.push([`${name}_same_sign`, signed(row, true)], [`${name}_diff_sign`, signed(row, false)]);
  }
  return Object.fromEntries(all) as Record<Criterion, CriterionRow>;
}

/** @internal Every criterion by its name. */
export const TABLE: Readonly<Record<Criterion, CriterionRow>> = table();

/** The names of all criteria. */
export const CRITERIA: readonly Criterion[] = Object.keys(TABLE) as Criterion[];
