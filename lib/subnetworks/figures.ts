/** Pictures of sub-networks, symmetry breaking and what links them. */
import type { Figure, Series } from "../figures/figure";
import { BREAKING_MEASURES, type BreakingCourse, type BreakingMeasure } from "../symmetry/breaking";
import { sum } from "../vectors";
import type { MaskedCurvature } from "./curvature";
import type { Link } from "./link";

/** Leading eigenvalues of the whole network and of its sub-network, at the two places. */
export function maskedSpectraFigure(
  found: Pick<MaskedCurvature, "operator" | "kept" | "dim" | "whole" | "dense" | "pruned">,
): Figure {
  const series = (name: string, values: Float64Array): Series => {
    const positive = values.filter((x) => x > 0);
    return { kind: "dots", name, x: Array.from(positive, (_, i) => i + 1), y: positive };
  };
  return {
    title: "Leading eigenvalues of a sub-network",
    caption: `${found.operator} of the whole network, and of ${found.kept} of ${found.dim} parameters at the trained and the pruned network`,
    x: { label: "eigenvalue" },
    y: { label: "value", scale: "log" },
    marks: [
      series("whole", found.whole.values),
      series("trained", found.dense.values),
      series("pruned", found.pruned.values),
    ],
  };
}

/** A measure of symmetry breaking over training, a line a layer. */
export function breakingFigure(
  courses: readonly BreakingCourse[],
  steps: ArrayLike<number>,
  measure: BreakingMeasure,
): Figure {
  return {
    title: "Symmetry breaking in training",
    caption: BREAKING_MEASURES[measure],
    x: { label: "step" },
    y: { label: measure },
    marks: courses.map(({ name, measures }) => ({
      ...{ kind: "line", name, x: Array.from(steps), y: measures[measure] },
    })),
  };
}

/** Values less their mean over the layers of a network, over the deviation there. */
function standardised(values: Float64Array): Float64Array {
  const known = values.filter((x) => Number.isFinite(x));
  const mean = sum(known) / known.length;
  const deviation = Math.sqrt(sum(known.map((x) => (x - mean) ** 2)) / known.length);
  return values.map((x) =>
    deviation > 1e-12 * Math.abs(mean) ? (x - mean) / deviation : x - mean,
  );
}

/** Room for a row or column each. */
const widthOf = (columns: number) => Math.max(460, 36 * columns);
const heightOf = (rows: number) => Math.max(300, 15 * rows);

/** The table in colours: columns standardised over the layers of each network. */
export function linkFigure({ columns, rows }: Pick<Link, "columns" | "rows">): Figure {
  const networks = [...new Set(rows.map(({ network }) => network))];
  const values = new Float64Array(rows.length * columns.length);
  for (const network of networks) {
    const at = [...rows.keys()].filter((r) => rows[r]!.network === network);
    columns.forEach((_, c) => {
      const column = standardised(Float64Array.from(at, (r) => rows[r]!.values[c]!));
      at.forEach((r, i) => {
        values[r * columns.length + c] = column[i]!;
      });
    });
  }
  const names = rows.map(({ network, layer }) =>
    networks.length === 1 ? layer : `${network}: ${layer}`,
  );
  const heads = columns.map(({ name }) => name);
  return {
    title: "Layers by sub-networks, symmetry breaking and curvature",
    caption: "Each column less its mean over the layers of a network, over its deviation there",
    ...{ width: widthOf(heads.length), height: heightOf(names.length) },
    x: { label: "", categories: heads },
    y: { label: "layer", categories: names },
    marks: [
      {
        ...{ kind: "heat", values, rows: names, columns: heads },
        ...{ label: "standardised", domain: [-2, 2] },
      },
    ],
  };
}

/** Spearman's correlations between all columns of different families. */
export function correlationFigure({
  columns,
  correlations,
}: Pick<Link, "columns" | "correlations">): Figure {
  const names = columns.map(({ name }) => name);
  const values = new Float64Array(names.length ** 2).fill(Number.NaN);
  for (const { a, b, spearman } of correlations) {
    const [i, j] = [names.indexOf(a), names.indexOf(b)];
    values[i * names.length + j] = values[j * names.length + i] = spearman;
  }
  const n = Math.max(0, ...correlations.map((row) => row.n));
  return {
    title: "Rank correlations over layers",
    caption: `Spearman, ranks within each network, up to ${n} layers`,
    width: widthOf(names.length),
    x: { label: "", categories: names },
    y: { label: "", categories: names },
    marks: [
      {
        ...{ kind: "heat", values, rows: names, columns: names },
        ...{ label: "Spearman's rho", domain: [-1, 1] },
      },
    ],
  };
}
