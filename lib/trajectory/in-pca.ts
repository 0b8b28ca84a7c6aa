/** Models as points by what they predict: Bhattacharyya distances and intensive PCA. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { DataMismatchError, OptionError } from "../errors";
import { type Check, check, checkOptions, describe } from "../options";
import { centred, components } from "./components";
import { breath } from "./pairs";
import type { Predictions } from "./predictions";

export interface InPcaOptions extends CallOptions {
  /** Components that are kept. Default 10. */
  components?: number | undefined;
}

const OPTIONS: { [K in keyof Required<InPcaOptions>]: Check } = {
  ...CALL_OPTIONS,
  components: check.positiveInteger,
};

export interface InPcaEmbedding {
  /** In the order of the predictions. */
  readonly names: readonly string[];
  readonly runs: readonly (string | undefined)[];
  readonly steps: readonly (number | undefined)[];
  /** m x m distances. */
  readonly distances: Float64Array;
  /** By magnitude; those below 0 are directions of negative squared length (imaginary ones). */
  readonly eigenvalues: Float64Array;
  /** m x eigenvalues.length: sqrt(|eigenvalue|) times the eigenvector's entries. */
  readonly coordinates: Float64Array;
  /** 1 - sqrt(1 - sum_(i <= k) lambda_i^2 / sum lambda_i^2) for k = 1, 2, ... */
  readonly explainedStress: Float64Array;
  /** Of all eigenvalues' magnitudes, the share of those below 0. */
  readonly negativeShare: number;
}

function checkAlike(where: string, u: Predictions, v: Predictions): void {
  if (u?.samples !== v?.samples || u.classes !== v.classes)
    throw new OptionError(
      `${where}: expected predictions for the same samples and classes, got ` +
        `${u?.samples} x ${u?.classes} of ${u?.name} and ${v?.samples} x ${v?.classes} of ${v?.name}`,
    );
}

/** Half log-probabilities as square roots, exactly 0 where a class is ruled out. */
const rootsOf = ({ logs }: Predictions) => logs.map((x) => Math.exp(x / 2));

/**
 * d(u, v) = -(1/N) sum_n log sum_c sqrt(u_nc v_nc), the Bhattacharyya distance of the joint
 * distributions over all samples, a sample: 0 where predictions agree.
 *
 * @throws OptionError for predictions of other samples or classes; DataMismatchError where two rule
 * one another out on a sample, so that the distance is infinite
 */
export function bhattacharyyaDistance(u: Predictions, v: Predictions): number {
  checkAlike("bhattacharyyaDistance", u, v);
  return distance("bhattacharyyaDistance", u, v, rootsOf(u), rootsOf(v));
}

function distance(
  where: string,
  u: Predictions,
  v: Predictions,
  a: Float64Array,
  b: Float64Array,
): number {
  const { samples, classes } = u;
  let sum = 0;
  for (let n = 0; n < samples; n++) {
    let overlap = 0;
    for (let i = n * classes; i < (n + 1) * classes; i++) overlap += a[i]! * b[i]!;
    // Where roots underflow, from the logarithms.
    sum += overlap > 1e-290 ? Math.log(overlap) : logOverlap(where, u, v, n);
  }
  return Math.max(0, -sum / samples);
}

function logOverlap(where: string, u: Predictions, v: Predictions, n: number): number {
  const { classes } = u;
  const terms = Array.from(
    { length: classes },
    (_, c) => (u.logs[n * classes + c]! + v.logs[n * classes + c]!) / 2,
  );
  const largest = Math.max(...terms);
  if (!Number.isFinite(largest))
    throw new DataMismatchError(
      `${where}: ${u.name} and ${v.name} rule one another out on sample ${n}: expected ` +
        "probabilities that are not 0 wherever the other's are not",
    );
  return largest + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - largest), 0));
}

/**
 * Intensive principal components of models by their predictions (Quinn et al. 2019; Mao et al. 2024):
 * the matrix W = -L D L / 2 of Bhattacharyya distances D (not squared) with L = I - 1/m, its
 * eigenvalues by magnitude, and coordinates with sqrt(|eigenvalue|). W need not be positive: a negative
 * eigenvalue is a direction whose squared lengths count as negative. Any models and moments of training
 * go together, and the truth and ignorance as points of their own.
 *
 * ```ts
 * const runs = await Promise.all(["a", "b"].map((folder) => trajectory(model, folder, { name: folder })));
 * const seen = (await Promise.all(runs.map((run) => predictionsAlong(run, data)))).flat();
 * const { coordinates } = await inPca([...seen, labelPredictions(labels, 10)]);
 * ```
 *
 * Costs m^2 / 2 times samples times classes, and m^3.
 *
 * @throws as `bhattacharyyaDistance`; AbortError
 */
export async function inPca(
  predictions: readonly Predictions[],
  options?: InPcaOptions,
): Promise<InPcaEmbedding> {
  const given = checkOptions("inPca", options, OPTIONS);
  if (!Array.isArray(predictions) || predictions.length < 3)
    throw new OptionError(
      `inPca: expected predictions of at least three models, got ${describe(predictions)}`,
    );
  const { components: wanted = 10, signal, onProgress } = given;
  const begin = performance.now();
  const m = predictions.length;
  const all = predictions as readonly Predictions[];
  for (const other of all) checkAlike("inPca", all[0]!, other);
  const roots = all.map(rootsOf);
  const distances = new Float64Array(m * m);
  for (let i = 0; i < m; i++) {
    for (let j = i + 1; j < m; j++) {
      const d = distance("inPca", all[i]!, all[j]!, roots[i]!, roots[j]!);
      distances[i * m + j] = d;
      distances[j * m + i] = d;
    }
    await breath(signal);
    onProgress?.({
      products: 0,
      fraction: 1 - ((m - i - 1) / m) ** 2,
      seconds: (performance.now() - begin) / 1000,
    });
  }
  const W = centred(distances, m).map((x) => -x / 2);
  const found = await components(W, m, m, signal);
  const squares = found.values.map((x) => x * x);
  const whole = squares.reduce((sum, x) => sum + x, 0);
  const magnitudes = found.values.reduce((sum, x) => sum + Math.abs(x), 0);
  const negative = found.values.reduce((sum, x) => sum + Math.max(0, -x), 0);
  const kept = Math.min(wanted, m - 1);
  let sum = 0;
  const explained = squares.map((x) => {
    sum += x;
    return 1 - Math.sqrt(Math.max(0, 1 - sum / whole));
  });
  return {
    names: all.map(({ name }) => name),
    runs: all.map(({ run }) => run),
    steps: all.map(({ step }) => step),
    distances,
    eigenvalues: found.values.slice(0, kept),
    coordinates: Float64Array.from(
      { length: m * kept },
      (_, at) => found.coordinates[Math.floor(at / kept) * m + (at % kept)]!,
    ),
    explainedStress: explained.slice(0, kept),
    negativeShare: negative / magnitudes,
  };
}
