/** What analyses of paths look like. */
import type { Axis, Figure, Heat, Series } from "../figures/figure";
import type { ChargeDrift } from "./charges";
import type { CurvatureAlong, CurvaturePoint } from "./curvature";
import type { PathGeometry } from "./geometry";
import type { InPcaEmbedding } from "./in-pca";
import type { MaskStability } from "./mask-stability";

const percent = (share: number) => `${(100 * share).toPrecision(3)} %`;

/** Steps that grow by factors are shown on a scale that does. */
function stepAxis(steps: ArrayLike<number>): Axis {
  const all = Array.from(steps);
  const middle = all[Math.floor(all.length / 2)]!;
  const far = all[0]! >= 0 && all.at(-1)! > 20 * Math.max(middle, 1);
  return { label: "step", ...(far && { scale: "symlog" as const }) };
}

const line = (name: string, x: ArrayLike<number>, y: ArrayLike<number>, more = {}): Series => ({
  kind: "line",
  name,
  x: Float64Array.from(x),
  y: Float64Array.from(y),
  ...more,
});

const dots = (series: Series): Series => ({ ...series, kind: "dots", dashed: undefined });

/** The path in its first two components. */
export function pathFigure({ steps, whole }: PathGeometry): Figure {
  const { coordinates, explained, variances } = whole.pca;
  const k = variances.length;
  const along = (c: number) => Float64Array.from(steps, (_, t) => coordinates[t * k + c] ?? 0);
  const [x, y] = [along(0), along(1)];
  const end = steps.length - 1;
  return {
    title: "The path in its first two principal components",
    caption: `${steps.length} checkpoints; a random walk with these steps: ${whole.randomWalk.explained
      .slice(0, 2)
      .reduce((list, share) => `${list}${list && ", "}${percent(share)}`, "")}`,
    x: { label: `component 1 (${percent(explained[0]!)} of the variance)` },
    y: { label: `component 2 (${percent(explained[1] ?? 0)})` },
    marks: [
      line("path", x, y),
      { kind: "dots", name: "path", x, y },
      { kind: "dots", name: `step ${steps[0]}`, x: [x[0]!], y: [y[0]!] },
      { kind: "dots", name: `step ${steps[end]}`, x: [x[end]!], y: [y[end]!] },
    ],
  };
}

function heat(values: Float64Array, names: ArrayLike<number>, label: string): Heat {
  const rows = Array.from(names, String);
  return {
    kind: "heat",
    values,
    rows,
    columns: rows,
    label,
    domain: label === "overlap" ? [0, 1] : undefined,
  };
}

/** Cosines between places relative to the first. */
export function mapFigure({ steps, whole }: PathGeometry): Figure {
  const { cosines, omega } = whole.relativeMap;
  return {
    title: "Trajectory map: cosines between ways from the first checkpoint",
    caption: `omega ${omega.toFixed(3)}; of a random walk ${whole.randomWalk.omega.toFixed(3)}`,
    x: { label: "step" },
    y: { label: "step" },
    marks: [heat(cosines, steps.slice(1), "cosine")],
    width: 360,
    height: 360,
  };
}

/** Variances along components beside those of a random walk. */
export function componentsFigure({ whole }: PathGeometry): Figure {
  const { explained } = whole.pca;
  const x = explained.map((_, i) => i + 1);
  const walk = whole.randomWalk.explained;
  return {
    title: "Variance along principal components of the path",
    x: { label: "component" },
    y: { label: "share of the variance", scale: "log" },
    marks: [
      line("path", x, explained),
      dots(line("path", x, explained)),
      line("random walk", x, walk, { dashed: true }),
    ],
  };
}

/** How much the leading spaces of checkpoints overlap. */
export function overlapFigure({ points, overlaps, operator, k }: CurvatureAlong): Figure {
  const { matrix, chance } = overlaps.find((entry) => entry.k === k) ?? overlaps.at(-1)!;
  return {
    title: `Overlap of the top ${k} eigenspaces of ${operator}`,
    caption: `by chance ${chance.expected.toPrecision(3)}`,
    x: { label: "step" },
    y: { label: "step" },
    marks: [
      heat(
        matrix,
        points.map(({ step }) => step),
        "overlap",
      ),
    ],
    width: 360,
    height: 360,
  };
}

function chanceLine(name: string, steps: Float64Array, level: number): Series {
  const ends = [steps[0]!, steps.at(-1)!];
  return line(name, ends, [level, level], { dashed: true });
}

/** The share of displacement in the leading spaces, at the last checkpoint and at each. */
export function confinementFigure(found: CurvatureAlong): Figure {
  const { points, shareByChance, operator } = found;
  const later = points.filter(({ checkpoint }) => checkpoint > 0);
  const steps = Float64Array.from(later, ({ step }) => step);
  const of = (k: number, get: (point: CurvaturePoint) => Float64Array) =>
    later.map((point) => get(point)[k - 1]!);
  const { k, chance } = shareByChance.at(-1)!;
  const shown = shareByChance.slice(-3);
  return {
    title: `The way from the first checkpoint in top eigenspaces of ${operator}`,
    caption: `dashed: chance for ${k}, ${chance.expected.toPrecision(3)}`,
    x: stepAxis(steps),
    y: { label: "share of the squared displacement", scale: "log" },
    marks: [
      ...shown.map((entry) =>
        line(
          `last space, k = ${entry.k}`,
          steps,
          of(entry.k, ({ confinement }) => confinement),
        ),
      ),
      line(
        `own space, k = ${k}`,
        steps,
        of(k, ({ displacementShares }) => displacementShares),
      ),
      chanceLine(`chance, k = ${k}`, steps, chance.expected),
    ],
  };
}

/** Shares of gradient, update and displacement in the leading space of each checkpoint. */
export function sharesFigure({ points, shareByChance, operator, k }: CurvatureAlong): Figure {
  const steps = Float64Array.from(points, ({ step }) => step);
  const last = (shares: Float64Array | undefined) => shares?.at(-1) ?? Number.NaN;
  const { chance } = shareByChance.at(-1)!;
  const marks = [
    line(
      "gradient",
      steps,
      points.map(({ gradientShares }) => last(gradientShares)),
    ),
    line(
      "update",
      steps,
      points.map(({ updateShares }) => last(updateShares)),
    ),
    line(
      "displacement",
      steps,
      points.map(({ displacementShares }) => last(displacementShares)),
    ),
    chanceLine("chance", steps, chance.expected),
  ];
  return {
    title: `Shares in the top ${k} eigenspace of ${operator} at each checkpoint`,
    caption: "the rest, 1 - share, lies in the bulk",
    x: stepAxis(steps),
    y: { label: "share of the squared length", scale: "log" },
    marks,
  };
}

/** The largest eigenvalue of the Hessian beside the edge of stability; undefined where unknown. */
export function sharpnessFigure({ points }: CurvatureAlong): Figure | undefined {
  const known = points.filter(({ sharpness }) => sharpness !== undefined);
  if (known.length === 0) return undefined;
  const steps = Float64Array.from(known, ({ step }) => step);
  const edges = known.every(({ threshold }) => threshold !== undefined);
  return {
    title: "Sharpness along training",
    caption: edges ? "dashed: where descent with the learning rate stops being stable" : undefined,
    x: stepAxis(steps),
    y: { label: "largest eigenvalue of the Hessian", scale: "log" },
    marks: [
      line(
        "sharpness",
        steps,
        known.map(({ sharpness }) => sharpness!),
      ),
      ...(edges
        ? [
            line(
              "2 / rate",
              steps,
              known.map(({ threshold }) => threshold!),
              { dashed: true },
            ),
          ]
        : []),
    ],
  };
}

/** Masks against the last ones. */
export function masksFigure(found: readonly MaskStability[]): Figure {
  const { steps, threshold } = found[0]!;
  const kept = (1 - found[0]!.final.sparsity).toPrecision(2);
  const levels = found.map(({ chance }) => chance.at(-1)!);
  const alike = levels.every((level) => Math.abs(level - levels[0]!) < 0.005);
  const byChance = (of: MaskStability) =>
    line(alike ? "by chance" : `${of.name}, by chance`, steps, of.chance, { dashed: true });
  return {
    title: "Masks along training against the last ones",
    caption: `${kept} of the parameters kept; settled at ${threshold}`,
    x: stepAxis(steps),
    y: { label: "intersection over union", domain: [0, 1] },
    marks: [
      ...found.map(({ name, iou }) => line(name, steps, iou)),
      ...(alike ? found.slice(0, 1) : found).map(byChance),
    ],
  };
}

/** Models in the first two intensive components. */
export function predictionsFigure(found: InPcaEmbedding): Figure {
  const { names, runs, coordinates, eigenvalues, explainedStress } = found;
  const k = eigenvalues.length;
  const kinds = [...new Set(runs.filter((run) => run !== undefined))];
  const of = (indices: number[], c: number) => indices.map((i) => coordinates[i * k + c] ?? 0);
  const label = (c: number) =>
    `component ${c + 1}${(eigenvalues[c] ?? 0) < 0 ? " (imaginary: lengths count as negative)" : ""}`;
  const marks = kinds.flatMap((run): Series[] => {
    const indices = [...names.keys()].filter((i) => runs[i] === run);
    const series = line(run, of(indices, 0), of(indices, 1));
    return [series, dots(series)];
  });
  names.forEach((name, i) => {
    if (runs[i] === undefined) marks.push({ kind: "dots", name, x: of([i], 0), y: of([i], 1) });
  });
  return {
    title: "Models by what they predict: intensive principal components",
    caption: `explained stress of two: ${(explainedStress[1] ?? 1).toFixed(3)}`,
    x: { label: label(0) },
    y: { label: label(1) },
    marks,
  };
}

/** The most series that one figure tells apart. */
const MOST_SERIES = 8;

/** Drift of conserved charges, of those that drift most. */
export function chargesFigure(found: readonly ChargeDrift[], steps: Float64Array): Figure {
  const last = ({ relativeDrift }: ChargeDrift) => relativeDrift.at(-1) || 0;
  const most = [...found].sort((a, b) => last(b) - last(a)).slice(0, MOST_SERIES);
  const shown = found.filter((row) => most.includes(row));
  const left = found.length - shown.length;
  return {
    title: "Drift of conserved charges",
    caption: `norm of q(t) - q(0) over that of q(0)${left > 0 ? `; ${left} drift less` : ""}`,
    x: stepAxis(steps),
    y: { label: "relative drift", scale: "log" },
    marks: shown.map(({ name, relativeDrift }) => line(name, steps, relativeDrift)),
  };
}
