/** Spectral densities of operators: how many eigenvalues lie where. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { type AxisName, axisOf, CUT, medianGap, smooth } from "./density/axis";
import {
  type Estimate,
  estimateOf,
  meanOf,
  type Sample,
  samplingOf,
  student975,
} from "./density/estimate";
import { ChebyshevMeasure, GaussMeasure, type Measure } from "./density/measure";
import { OptionError } from "./errors";
import { LinearOperator } from "./linear-operator";
import type { NativeMoments, NativeQuadrature } from "./native";
import { type Check, check, checkOptions, describe } from "./options";

/** Random vectors that a spectrum is seen from. */
export interface ProbeOptions extends CallOptions {
  /** Random vectors. Default 8. */
  probes?: number | undefined;
  /** Products a probe. Default 64; at most dim are taken. */
  steps?: number | undefined;
  /** Of the random vectors, with the probe's number and the parameter's index. Default 0. */
  seed?: number | bigint | undefined;
  /** Entries +-1 ("rademacher", default) or normal ("gaussian"), then scaled to length 1. */
  probeType?: "rademacher" | "gaussian" | undefined;
  /**
   * Probes side by side, whose products are one block. Default: all up to 16, as far as their bases
   * fit into maxMemory.
   */
  blockSize?: number | undefined;
  /** Bytes for bases. Default 1 GiB, and one probe whatever it takes. */
  maxMemory?: number | undefined;
}

/** @internal */
export const PROBE_OPTIONS: { [K in keyof Required<ProbeOptions>]: Check } = {
  ...CALL_OPTIONS,
  probes: check.positiveInteger,
  steps: check.positiveInteger,
  seed: check.seed,
  probeType: check.oneOf("rademacher", "gaussian"),
  blockSize: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

export interface SpectralDensityOptions extends ProbeOptions {
  /** "slq" (default): Lanczos quadrature; "kpm": kernel polynomials with Jackson's kernel. */
  method?: "slq" | "kpm" | undefined;
  /** Default "linear". "log" is for semi-definite operators, "symlog" for all. */
  axis?: AxisName | undefined;
  /** Cells of the grid. Default 1024. */
  points?: number | undefined;
  /**
   * Standard deviation of the Gaussian kernel of slq, as a share of the range of the nodes on the
   * axis. Default: the median gap between neighbouring nodes, within 1/500 and 1/10.
   */
  kernelWidth?: number | undefined;
  /** Where a symlog axis turns from linear to logarithmic. Default 1e-4 of the largest |node|. */
  threshold?: number | undefined;
  /** What the density integrates to: "one" (default) or "dim". */
  normalisation?: "one" | "dim" | undefined;
}

const positive: Check = {
  expected: "a number above 0",
  fits: (value) => Number.isFinite(value) && (value as number) > 0,
};

const DENSITY_OPTIONS: { [K in keyof Required<SpectralDensityOptions>]: Check } = {
  ...PROBE_OPTIONS,
  method: check.oneOf("slq", "kpm"),
  axis: check.oneOf("linear", "log", "symlog"),
  points: {
    expected: "a whole number of at least 2",
    fits: (x) => Number.isSafeInteger(x) && (x as number) >= 2,
  },
  kernelWidth: positive,
  threshold: positive,
  normalisation: check.oneOf("one", "dim"),
};

/** A share of a sum, with the sampling error alone. */
export interface SampledShare {
  value: number;
  /** Half width of the 95 % interval (Student's t). */
  sampling: number;
  interval: [number, number];
}

/** A density on a grid, and the measures behind it. */
export class SpectralDensity {
  readonly method: "slq" | "kpm";
  readonly dim: number;
  readonly axis: AxisName;
  /** Of a symlog axis; undefined elsewhere. */
  readonly threshold: number | undefined;
  /** Middles of the cells, as eigenvalues, ascending. */
  readonly grid: Float64Array;
  /** Borders of the cells, one more. */
  readonly edges: Float64Array;
  /**
   * Mass of each cell over its width on the axis: per unit of eigenvalue (linear) or per decade
   * (log, and symlog above the threshold).
   */
  readonly density: Float64Array;
  /** 95 % interval of `density` over probes, pointwise; infinite above for a single probe. */
  readonly band: { lower: Float64Array; upper: Float64Array };
  /** Mass in each cell; with `outside` it sums to `total`. */
  readonly mass: Float64Array;
  /** Mass that a log axis does not show: eigenvalues that are zero up to rounding. */
  readonly outside: number;
  /** 1, or dim. */
  readonly total: number;
  /** The kernel's standard deviation as a share of the range of the nodes on the axis. */
  readonly kernelWidth: number;
  /** The same on the axis: in units of eigenvalues (linear) or decades. */
  readonly kernel: number;
  /** Of each probe, ascending. Gauss nodes (slq) or Chebyshev points (kpm). */
  readonly nodes: readonly Float64Array[];
  /** Of each probe; they sum to 1. */
  readonly weights: readonly Float64Array[];
  /** Of the Ritz pairs behind the nodes (slq): an eigenvalue lies that near. Empty for kpm. */
  readonly residuals: readonly Float64Array[];
  /** Whether the whole spectrum is known: a probe saw dim distinct eigenvalues. */
  readonly complete: boolean;
  /** Whether `lower` and `upper` of estimates are proven bounds (slq) or an indication (kpm). */
  readonly rigorous: boolean;
  /** Eigenvalues nearer than this are not told from one another: rounding in products. */
  readonly resolution: number;
  /** The largest |node|. */
  readonly scale: number;
  /** Products with single vectors that were used. */
  readonly products: number;
  readonly warnings: readonly string[];
  readonly seconds: number;
  readonly #measures: readonly Measure[];

  /** @internal */
  constructor(fields: PublicFields, measures: readonly Measure[]) {
    this.method = fields.method;
    this.dim = fields.dim;
    this.axis = fields.axis;
    this.threshold = fields.threshold;
    this.grid = fields.grid;
    this.edges = fields.edges;
    this.density = fields.density;
    this.band = fields.band;
    this.mass = fields.mass;
    this.outside = fields.outside;
    this.total = fields.total;
    this.kernelWidth = fields.kernelWidth;
    this.kernel = fields.kernel;
    this.nodes = fields.nodes;
    this.weights = fields.weights;
    this.residuals = fields.residuals;
    this.complete = fields.complete;
    this.rigorous = fields.rigorous;
    this.resolution = fields.resolution;
    this.scale = fields.scale;
    this.products = fields.products;
    this.warnings = fields.warnings;
    this.seconds = fields.seconds;
    this.#measures = measures;
  }

  /** The share of eigenvalues that are at most x. No products. */
  cdf(x: number): Estimate {
    return this.#between("cdf", Number.NEGATIVE_INFINITY, x, 1);
  }

  /** The same of a single probe, whose bounds hold for that probe's measure. */
  probeCdf(probe: number, x: number): Sample {
    const measure = this.#measures[probe];
    if (!measure)
      throw new OptionError(
        `probeCdf: probe: expected an index from 0 to ${this.#measures.length - 1}, ` +
          `got ${describe(probe)}`,
      );
    return sampleOf(measure, Number.NEGATIVE_INFINITY, checkedNumber("probeCdf: x", x));
  }

  /** The number of eigenvalues in [low, high]; either may be infinite. No products. */
  count(low: number, high: number): Estimate {
    return this.#between("count", low, high, this.dim);
  }

  /**
   * The share of eigenvalues with |lambda| <= t, and their share of the sum of |lambda| (the trace,
   * for a semi-definite operator). No products.
   *
   * @throws OptionError where t is negative
   */
  massBelow(t: number): { fraction: Estimate; trace: SampledShare } {
    if (!(checkedNumber("massBelow: t", t) >= 0))
      throw new OptionError(`massBelow: t: expected a number of at least 0, got ${describe(t)}`);
    const fraction = this.#between("massBelow", -t, t, 1);
    const sums = this.#measures.map(({ nodes, weights }) => {
      let inside = 0;
      let all = 0;
      for (let i = 0; i < nodes.length; i++) {
        const size = weights[i]! * Math.abs(nodes[i]!);
        all += size;
        if (Math.abs(nodes[i]!) <= t + this.resolution) inside += size;
      }
      return { inside, all };
    });
    const all = meanOf(sums.map((sum) => sum.all));
    const value = all > 0 ? meanOf(sums.map((sum) => sum.inside)) / all : 1;
    // The error of a ratio of means, to first order.
    const sampling =
      all > 0
        ? samplingOf(
            sums.map((sum) => (sum.inside - value * sum.all) / all),
            this.complete,
          )
        : 0;
    const interval: [number, number] = [
      Math.max(0, value - sampling),
      Math.min(1, value + sampling),
    ];
    return { fraction, trace: { value, sampling, interval } };
  }

  #between(where: string, low: number, high: number, unit: number): Estimate {
    checkedNumber(`${where}: x`, low);
    checkedNumber(`${where}: x`, high);
    if (low > high) throw new OptionError(`${where}: expected low <= high, got ${low} and ${high}`);
    const samples = this.#measures.map((measure) => sampleOf(measure, low, high));
    return estimateOf(samples, { unit, complete: this.complete });
  }
}

type PublicFields = Omit<SpectralDensity, "cdf" | "probeCdf" | "count" | "massBelow">;

function sampleOf(measure: Measure, low: number, high: number): Sample {
  const from = measure.share(low);
  const to = measure.share(high);
  return {
    value: Math.max(0, to.upTo - from.below),
    lower: Math.max(0, to.lower - from.upper),
    upper: Math.max(0, to.upper - from.lower),
  };
}

function checkedNumber(where: string, value: unknown): number {
  if (typeof value !== "number" || Number.isNaN(value))
    throw new OptionError(`${where}: expected a number, got ${describe(value)}`);
  return value;
}

/** What a method measured, before it is put on an axis. */
interface Measured {
  measures: readonly Measure[];
  nodes: readonly Float64Array[];
  weights: readonly Float64Array[];
  residuals: readonly Float64Array[];
  complete: boolean;
  least: number;
  largest: number;
  scale: number;
  resolution: number;
  products: number;
  warnings: readonly string[];
}

/**
 * The spectral density of a symmetric operator, with its nodes and weights, distribution function
 * and counts of eigenvalues, each with its error. Random unit vectors v see the measure
 * sum_i (u_i^T v)^2 delta(lambda_i), whose mean is the spectrum's. Costs probes * steps products in
 * blocks (kpm: 20 more).
 *
 * "slq": Lanczos with full reorthogonalisation gives the Gauss rule of each probe's measure (Golub
 * and Meurant 2010; Chen, Trogdon and Ubaru 2021), hence proven bounds of its distribution function.
 * "kpm": Chebyshev moments with Jackson's kernel (Weisse et al. 2006), uniform resolution of pi/steps
 * of the half range.
 *
 * On scale: the density of c A is that of A, with nodes c times as large. The same to the last bit
 * on any number of threads.
 *
 * @throws OptionError when an option is out of range, or a log axis meets negative eigenvalues;
 * DataMismatchError when the operator returns NaN or infinity; MemoryBudgetError; AbortError
 */
export async function spectralDensity(
  operator: LinearOperator,
  options: SpectralDensityOptions = {},
): Promise<SpectralDensity> {
  const checked = checkOptions("spectralDensity", options, DENSITY_OPTIONS);
  const { method = "slq", axis = "linear", points = 1024, normalisation = "one" } = checked;
  if (method === "kpm" && checked.kernelWidth !== undefined)
    throw new OptionError(
      "spectralDensity: kernelWidth: the kernel of kpm follows from steps, its width is " +
        "pi / (4 steps) of the range; give steps instead",
    );
  if (axis !== "symlog" && checked.threshold !== undefined)
    throw new OptionError(
      `spectralDensity: threshold: is for axis "symlog", the axis is "${axis}"`,
    );
  const begin = performance.now();
  const measured =
    method === "slq"
      ? measuredByLanczos(await quadrature(operator, checked, "spectralDensity"), operator.dim)
      : measuredByMoments(await moments(operator, checked));
  const total = normalisation === "dim" ? operator.dim : 1;
  const shown = onAxis(measured, axis, points, checked, total, operator.name);
  const warnings = [...measured.warnings];
  if (measured.measures.length === 1 && !measured.complete)
    warnings.push("a single probe tells nothing of the sampling error; take several");
  return new SpectralDensity(
    {
      ...shown,
      method,
      dim: operator.dim,
      axis,
      total,
      nodes: measured.nodes,
      weights: measured.weights,
      residuals: measured.residuals,
      complete: measured.complete,
      rigorous: method === "slq",
      resolution: measured.resolution,
      scale: measured.scale,
      products: measured.products,
      warnings,
      seconds: (performance.now() - begin) / 1000,
    },
    measured.measures,
  );
}

/** @internal Gauss rules of random probes. */
export function quadrature(
  operator: LinearOperator,
  options: ProbeOptions,
  where: string,
): Promise<NativeQuadrature> {
  const given = probesFor(operator, options, where);
  return run((onProgress) => operator.native.call("quadrature", given, onProgress), options);
}

function moments(operator: LinearOperator, options: ProbeOptions): Promise<NativeMoments> {
  const given = probesFor(operator, options, "spectralDensity");
  return run((onProgress) => operator.native.call("moments", given, onProgress), options);
}

function probesFor(operator: LinearOperator, options: ProbeOptions, where: string) {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`${where}: expected an operator, got ${describe(operator)}`);
  return {
    probes: options.probes ?? 8,
    steps: options.steps ?? 64,
    seed: options.seed ?? 0,
    probeType: options.probeType ?? "rademacher",
    blockSize: options.blockSize ?? 0,
    memoryBudget: options.maxMemory ?? 0,
  };
}

/** @internal All eigenvalues, where a probe saw dim distinct ones. */
export function completeSpectrum(
  { rules }: NativeQuadrature,
  dim: number,
): Float64Array | undefined {
  return rules.find((rule) => rule.nodes.length === dim)?.nodes;
}

function measuredByLanczos(result: NativeQuadrature, dim: number): Measured {
  const { rules, scale, resolution, products, warnings } = result;
  const nodes = rules.map((rule) => rule.nodes);
  const all = completeSpectrum(result, dim);
  const even = all && {
    diagonal: all,
    offDiagonal: new Float64Array(dim),
    exact: true,
    nodes: all,
    weights: new Float64Array(dim).fill(1 / dim),
  };
  return {
    measures: (even ? [even] : rules).map((rule) => new GaussMeasure(rule, scale, resolution)),
    nodes,
    weights: rules.map((rule) => rule.weights),
    residuals: rules.map((rule) => rule.residuals),
    complete: all !== undefined,
    least: nodes.reduce((least, list) => Math.min(least, list[0]!), Number.POSITIVE_INFINITY),
    largest: nodes.reduce((most, list) => Math.max(most, list.at(-1)!), Number.NEGATIVE_INFINITY),
    scale,
    resolution,
    products,
    warnings,
  };
}

function measuredByMoments(result: NativeMoments): Measured {
  const measures = result.probes.map(
    (probe) => new ChebyshevMeasure(probe.moments, result.center, result.halfWidth),
  );
  return {
    ...result,
    measures,
    nodes: measures.map((measure) => measure.nodes),
    weights: measures.map((measure) => measure.weights),
    residuals: [],
    complete: false,
  };
}

const ascending = (a: number, b: number) => a - b;

type Shown = Pick<
  SpectralDensity,
  | "threshold"
  | "grid"
  | "edges"
  | "density"
  | "band"
  | "mass"
  | "outside"
  | "kernelWidth"
  | "kernel"
>;

function onAxis(
  measured: Measured,
  name: AxisName,
  points: number,
  options: SpectralDensityOptions,
  total: number,
  operator: string,
): Shown {
  const { measures, scale, resolution, least } = measured;
  if (name === "log" && least < -resolution)
    throw new OptionError(
      `spectralDensity: axis: expected "linear" or "symlog", as ${operator} has negative ` +
        `eigenvalues (a Ritz value is ${least.toPrecision(3)}), got "log"`,
    );
  const threshold = name === "symlog" ? (options.threshold ?? (1e-4 * scale || 1)) : undefined;
  const axis = axisOf(name, threshold ?? 1);
  const visible = (x: number) => name !== "log" || x > resolution;
  const series = measures.some((measure) => measure instanceof ChebyshevMeasure);
  const lowest = series ? measures[0]!.nodes[0]! : least;
  const highest = series ? measures[0]!.nodes.at(-1)! : measured.largest;
  const shown = measures.flatMap(({ nodes }) => Array.from(nodes).filter(visible)).sort(ascending);
  let low = axis.to(name === "log" ? (shown[0] ?? Number.NaN) : lowest);
  let high = axis.to(name === "log" ? (shown.at(-1) ?? Number.NaN) : highest);
  if (!Number.isFinite(low) || !Number.isFinite(high)) low = high = 0;
  const range = high - low || (name === "linear" ? scale : 0) || 1;

  const gap = medianGap(measures.map(({ nodes }) => nodes.filter(visible).map(axis.to))) / range;
  const kernelWidth = series
    ? Math.PI / (2 * measures[0]!.nodes.length)
    : (options.kernelWidth ?? Math.min(0.1, Math.max(0.002, gap || 0.01)));
  const kernel = kernelWidth * range;
  if (!series || name !== "linear") {
    low -= CUT * kernel;
    high += CUT * kernel;
  }
  const step = (high - low) / points;
  const edges = Float64Array.from({ length: points + 1 }, (_, i) => axis.from(low + i * step));
  const grid = Float64Array.from({ length: points }, (_, i) => axis.from(low + (i + 0.5) * step));

  const cells = measures.map((measure) => {
    if (measure instanceof ChebyshevMeasure) {
      const upTo = edges.map((edge) => measure.share(edge).upTo);
      // What lies beyond the ends of the series' interval is nothing, but for rounding.
      return Float64Array.from({ length: points }, (_, i) => {
        const from = i === 0 && name !== "log" ? 0 : upTo[i]!;
        return Math.max(0, (i === points - 1 ? 1 : upTo[i + 1]!) - from);
      });
    }
    const kept = Array.from(measure.nodes.keys()).filter((i) => visible(measure.nodes[i]!));
    const at = kept.map((i) => axis.to(measure.nodes[i]!));
    const weights = kept.map((i) => measure.weights[i]!);
    return smooth(at, weights, kernel, low, high, points);
  });
  const n = cells.length;
  const factor = total / step;
  const density = new Float64Array(points);
  const mass = new Float64Array(points);
  const band = { lower: new Float64Array(points), upper: new Float64Array(points) };
  const spread = n > 1 ? student975(n - 1) / Math.sqrt(n * (n - 1)) : Number.POSITIVE_INFINITY;
  let inside = 0;
  for (let i = 0; i < points; i++) {
    let mean = 0;
    for (const cell of cells) mean += cell[i]! / n;
    let squares = 0;
    for (const cell of cells) squares += (cell[i]! - mean) ** 2;
    const half =
      measured.complete || (n > 1 && squares === 0) ? 0 : spread * (n > 1 ? Math.sqrt(squares) : 1);
    inside += mean;
    mass[i] = mean * total;
    density[i] = mean * factor;
    band.lower[i] = Math.max(0, mean - half) * factor;
    band.upper[i] = (mean + half) * factor;
  }
  const outside = name === "log" ? Math.max(0, 1 - inside) * total : 0;
  return { threshold, grid, edges, density, band, mass, outside, kernelWidth, kernel };
}
