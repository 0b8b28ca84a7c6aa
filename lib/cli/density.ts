/** eigenscope density: how many eigenvalues lie where. */
import { type SpectralDensity, type SpectralDensityOptions, spectralDensity } from "../density";
import { axisOf } from "../density/axis";
import type { Estimate } from "../density/estimate";
import { densityFigure } from "../density/figure";
import { type AnalysisArguments, analyse } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { printPairs } from "./pairs";

interface DensityArguments extends AnalysisArguments {
  method?: NonNullable<SpectralDensityOptions["method"]>;
  probes?: number;
  steps?: number;
  probeType?: NonNullable<SpectralDensityOptions["probeType"]>;
  axis?: NonNullable<SpectralDensityOptions["axis"]>;
  points?: number;
  kernelWidth?: number;
  threshold?: number;
  count?: [number, number][];
  below?: number[];
}

/** Of --max-memory, the part that bases may take beside the operator. */
const BASES = 0.25;

export function run(file: string, args: DensityArguments, globals: Globals): Promise<number> {
  return analyse("density", file, args, globals, async ({ operator }, call) => {
    const { method, probes, steps, probeType, points, kernelWidth, threshold, seed } = args;
    const found = await spectralDensity(operator, {
      ...{ method, probes, steps, probeType, points, kernelWidth, threshold, seed },
      axis: args.axis ?? "symlog",
      maxMemory: args.maxMemory && Math.max(1, Math.floor(BASES * args.maxMemory)),
      normalisation: "dim",
      ...call,
    });
    const counts = (args.count ?? []).map(([low, high]) => ({
      low,
      high,
      ...found.count(low, high),
    }));
    const below = (args.below ?? []).map((t) => ({ threshold: t, ...found.massBelow(t) }));
    const { axis, kernel, outside, complete, rigorous, resolution, scale } = found;
    return {
      json: {
        method: found.method,
        probes: found.nodes.length,
        steps: Math.max(...found.nodes.map((nodes) => nodes.length)),
        axis,
        ...(found.threshold !== undefined && { threshold: found.threshold }),
        ...{ kernelWidth: found.kernelWidth, kernel, outside, complete, rigorous },
        ...{ resolution, scale, nodes: found.nodes, weights: found.weights },
        ...{ grid: found.grid, density: found.density, band: found.band },
        ...(counts.length > 0 && { counts }),
        ...(below.length > 0 && { below }),
      },
      products: found.products,
      warnings: found.warnings,
      arrays: {
        nodes: padded(found.nodes),
        weights: padded(found.weights),
        grid: { values: found.grid },
        density: { values: found.density },
        lower: { values: found.band.lower },
        upper: { values: found.band.upper },
      },
      figures: { density: densityFigure(found) },
      human: () => {
        for (const line of chart(found)) print(line);
        print();
        describe(found);
        if (counts.length > 0) {
          print();
          printCounts(counts, found.rigorous);
        }
        if (below.length > 0) {
          print();
          printBelow(below);
        }
      },
    };
  });
}

/** One row a probe; where a probe has fewer entries, NaN. */
function padded(lists: readonly Float64Array[]): { values: Float64Array; shape: number[] } {
  const width = Math.max(...lists.map((list) => list.length));
  const values = new Float64Array(lists.length * width).fill(Number.NaN);
  lists.forEach((list, i) => {
    values.set(list, i * width);
  });
  return { values, shape: [lists.length, width] };
}

const COLUMNS = 64;
const ROWS = 10;
const MARGIN = 10;

/**
 * Eigenvalues a column over the axis, on a logarithmic scale from a tenth of one to all: '#' is
 * full, ':' the upper half of a row reached, '.' something in the lower half.
 */
export function chart(found: SpectralDensity): string[] {
  const perColumn = new Float64Array(COLUMNS);
  const points = found.mass.length;
  found.mass.forEach((mass, i) => {
    perColumn[Math.min(COLUMNS - 1, Math.floor((i * COLUMNS) / points))]! += mass;
  });
  const top = Math.max(1, Math.ceil(Math.log10(Math.max(...perColumn, 1))));
  const bottom = -1;
  const level = (x: number) => ((Math.log10(x) - bottom) / (top - bottom)) * ROWS;
  const lines = ["eigenvalues a column".padStart(MARGIN + 20)];
  for (let row = ROWS - 1; row >= 0; row--) {
    const bars = Array.from(perColumn, (x) => {
      const height = x > 0 ? level(x) - row : 0;
      return height >= 0.75 ? "#" : height >= 0.4 ? ":" : height > 0.05 ? "." : " ";
    });
    // A label where a power of ten lies in the row.
    const power = Math.ceil((row / ROWS) * (top - bottom) + bottom - 1e-9);
    const inRow = power < ((row + 1) / ROWS) * (top - bottom) + bottom - 1e-9;
    const label = inRow ? power10(power) : "";
    lines.push(`${label.padStart(MARGIN - 2)} |${bars.join("")}`.trimEnd());
  }
  return [...lines, ...scaleBelow(found)];
}

const power10 = (power: number) => (power < 0 ? (10 ** power).toString() : count(10 ** power));

/** The axis line with marks, and their eigenvalues. */
function scaleBelow(found: SpectralDensity): string[] {
  const marks = [0, 16, 32, 48, 63];
  const { from, to } = axisOf(found.axis, found.threshold ?? 1);
  const low = to(found.edges[0]!);
  const step = (to(found.edges.at(-1)!) - low) / COLUMNS;
  const line = Array.from({ length: COLUMNS }, (_, i) => (marks.includes(i) ? "+" : "-")).join("");
  const labels = Array(COLUMNS + MARGIN + 8).fill(" ");
  for (const mark of marks) {
    const text = tick(from(low + (mark + 0.5) * step), found);
    const begin = Math.min(
      MARGIN + mark - Math.floor(text.length / 2),
      MARGIN + COLUMNS - text.length + 4,
    );
    labels.splice(begin, text.length, ...text);
  }
  return [`${" ".repeat(MARGIN - 1)}+${line}`, labels.join("").trimEnd()];
}

/** Two significant digits; what is small against the spectrum on a linear axis is 0. */
function tick(value: number, { axis, scale, threshold }: SpectralDensity): string {
  const zero = axis === "linear" ? 1e-3 * scale : axis === "symlog" ? 0.05 * threshold! : 0;
  if (Math.abs(value) <= zero) return "0";
  const size = Math.abs(value);
  return size >= 0.01 && size < 1000
    ? String(Number(value.toPrecision(2)))
    : value.toExponential(0);
}

function describe(found: SpectralDensity): void {
  const { nodes, axis, kernelWidth, kernel } = found;
  const steps = Math.max(...nodes.map((list) => list.length));
  const unit = axis === "linear" ? short(kernel) : `${kernel.toPrecision(2)} decades`;
  const ends = [
    Math.min(...nodes.map((list) => list[0]!)),
    Math.max(...nodes.map((list) => list.at(-1)!)),
  ];
  const onAxis =
    axis === "symlog"
      ? `symlog, linear within +-${found.threshold!.toPrecision(2)}`
      : `${axis}${found.outside > 0 ? `, without ${count(Math.round(found.outside))} eigenvalues at 0` : ""}`;
  printPairs([
    [
      "method",
      `${found.method}, ${nodes.length} probes of ${steps} ${found.method === "slq" ? "nodes" : "points"}`,
    ],
    ["axis", onAxis],
    ["kernel", `${unit}, ${(100 * kernelWidth).toPrecision(2)} % of the range`],
    [found.method === "slq" ? "nodes" : "interval", `${short(ends[0]!)} to ${short(ends[1]!)}`],
    ...(found.complete ? [["complete", "all eigenvalues are known"] as const] : []),
  ]);
}

/** A bound of an interval, or an infinity. */
const end = (x: number) => (Number.isFinite(x) ? String(x) : x > 0 ? "inf" : "-inf");

/** One digit behind the point up to 1000, whole numbers above. */
const amount = (x: number) => (x < 1000 ? x.toFixed(1) : count(Math.round(x)));

function printCounts(
  counts: readonly (Estimate & { low: number; high: number })[],
  proven: boolean,
): void {
  const rows = counts.map(({ low, high, value, lower, upper, sampling, interval }) => [
    `${end(low)} to ${end(high)}`,
    amount(value),
    `${amount(lower)} to ${amount(upper)}`,
    Number.isFinite(sampling) ? `+-${amount(sampling)}` : "unknown",
    `${amount(interval[0])} to ${amount(interval[1])}`,
  ]);
  const head = [
    "interval",
    "eigenvalues",
    proven ? "bounds of quadrature" : "within the kernel",
    "sampling 95 %",
    "both",
  ];
  for (const line of table(head, rows)) print(line);
}

function printBelow(
  below: readonly {
    threshold: number;
    fraction: Estimate;
    trace: { value: number; sampling: number };
  }[],
): void {
  const percent = (x: number) =>
    x === 0 ? "0 %" : Number.isFinite(x) ? `${(100 * x).toPrecision(3)} %` : "unknown";
  const rows = below.map(({ threshold, fraction, trace }) => [
    `|lambda| <= ${threshold}`,
    percent(fraction.value),
    fraction.interval.map(percent).join(" to "),
    percent(trace.value),
    `+-${percent(trace.sampling)}`,
  ]);
  const head = ["", "of eigenvalues", "95 % interval", "of sum |lambda|", "95 %"];
  for (const line of table(head, rows)) print(line);
}
