/** The ends of a spectrum, or all of it, with intervals; and Cauchy's interlacing of two. */
import type { CallOptions } from "../call";
import { exactOrder, exactSpectrum } from "../exact";
import type { LinearOperator } from "../linear-operator";
import type { Vectors } from "../native";
import { eigsh } from "../spectra";
import { trace } from "../trace";

/** Where an eigenvalue lies. */
export interface ValueInterval {
  readonly low: number;
  readonly high: number;
}

export interface Estimated {
  readonly value: number;
  /** 0 where it is exact. */
  readonly standardError: number;
}

/** Eigenvalues of an operator: all of them, or some at its ends. */
export interface EndSpectrum {
  readonly dim: number;
  /** Whether `values` are all dim of them. */
  readonly exact: boolean;
  /** Largest first. */
  readonly values: Float64Array;
  readonly intervals: readonly ValueInterval[];
  /** Of operators that may be indefinite, where not all are known: the smallest, smallest first. */
  readonly smallest: Float64Array;
  readonly smallestIntervals: readonly ValueInterval[];
  readonly trace: Estimated;
  readonly converged: boolean;
  readonly reason: string;
  readonly products: number;
}

/** The same with vectors of the k eigenvalues of largest magnitude. */
export interface SolvedSpectrum extends EndSpectrum {
  readonly top: { readonly values: Float64Array; readonly vectors: Vectors; readonly dim: number };
}

export interface SpectrumOptions extends CallOptions {
  k: number;
  /** All eigenvalues are computed of matrices up to this order. */
  maxExact: number;
  seed: number | bigint;
  /** Whether no eigenvalue is negative: then the smallest are not looked for. */
  definite: boolean;
  /** Where it is known. */
  trace?: number | undefined;
  vectors?: boolean | undefined;
}

/** Rounding of a product over the largest |eigenvalue|, as in `eigsh`. */
const ROUNDING = { float32: 1.2e-6, float64: 1e-13 };

/** For traces that are not known exactly. */
const TRACE_PRODUCTS = 60;

/** The k of largest magnitude of eigenvalues and their vectors. */
function largest(
  values: ArrayLike<number>,
  vectors: Vectors,
  dim: number,
  k: number,
): SolvedSpectrum["top"] {
  const count = Math.min(values.length, vectors.length / dim);
  const order = Array.from({ length: count }, (_, i) => i)
    .sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!))
    .slice(0, k);
  const chosen = vectors.slice(0, order.length * dim);
  order.forEach((from, to) => {
    chosen.set(vectors.subarray(from * dim, (from + 1) * dim), to * dim);
  });
  return { values: Float64Array.from(order, (i) => values[i]!), vectors: chosen, dim };
}

/** The spectrum of an operator: all of it where its matrix is small, else its ends. */
export async function spectrumOf(
  operator: LinearOperator,
  { k, maxExact, seed, definite, trace: known, vectors: wanted = false, ...call }: SpectrumOptions,
): Promise<SolvedSpectrum> {
  const { dim } = operator;
  const order = await exactOrder(operator, call);
  if (order <= maxExact) {
    const count = wanted ? (definite ? Math.min(k, dim) : dim) : 0;
    const all = await exactSpectrum(operator, { vectors: count, ...call });
    const size = Math.max(Math.abs(all.values[0]!), Math.abs(all.values.at(-1)!));
    const error = Math.max(ROUNDING[operator.dtype], dim * 2 ** -52) * size;
    return {
      ...{ dim, exact: true, values: all.values },
      intervals: Array.from(all.values, (x) => ({ low: x - error, high: x + error })),
      ...{ smallest: new Float64Array(), smallestIntervals: [] },
      trace: { value: all.values.reduce((sum, x) => sum + x, 0), standardError: 0 },
      ...{ converged: true, reason: "", products: all.products },
      top: largest(all.values.subarray(0, count), all.vectors, dim, k),
    };
  }
  const count = Math.min(definite ? k : 2 * k, dim);
  const found = await eigsh(operator, { k: count, which: definite ? "LA" : "BE", seed, ...call });
  const high = definite ? count : Math.ceil(count / 2);
  const total =
    known === undefined
      ? await trace(operator, { products: TRACE_PRODUCTS, seed, ...call })
      : { value: known, standardError: 0, products: 0 };
  return {
    ...{ dim, exact: false, values: found.values.slice(0, high) },
    intervals: found.intervals.slice(0, high),
    smallest: found.values.slice(high).reverse(),
    smallestIntervals: found.intervals.slice(high).reverse(),
    trace: { value: total.value, standardError: total.standardError },
    ...{ converged: found.converged, reason: found.reason },
    products: found.products + total.products,
    top: largest(found.values, found.vectors, dim, k),
  };
}

/** An inequality of interlacing that the intervals contradict. */
export interface Violation {
  /** Of the part's eigenvalue, 0 for the largest. */
  readonly index: number;
  /** Which bound: the whole's eigenvalue of the same index, or that of index + p - m. */
  readonly bound: "upper" | "lower";
  readonly part: ValueInterval;
  readonly whole: ValueInterval;
}

/** Cauchy's inequalities l_i(A) >= l_i(A_MM) >= l_(i + p - m)(A), as far as the values are known. */
export interface Interlacing {
  /** Inequalities that could be compared. */
  readonly compared: number;
  /** Those that hold wherever in their intervals the eigenvalues lie; others may hold with equality. */
  readonly certain: number;
  readonly violations: readonly Violation[];
  /** Whether none is contradicted. */
  readonly holds: boolean;
}

type Ends = Pick<EndSpectrum, "dim" | "intervals" | "smallestIntervals">;

function at({ dim, intervals, smallestIntervals }: Ends, i: number): ValueInterval | undefined {
  return intervals[i] ?? smallestIntervals[dim - 1 - i];
}

/**
 * Whether the spectrum of a principal submatrix interlaces that of the whole, as Cauchy's theorem
 * says it must: what violates it is an eigenvalue that was missed or is less accurate than its
 * interval says.
 *
 * @param whole, part `intervals` from the largest down, `smallestIntervals` from the smallest up
 */
export function interlacing(whole: Ends, part: Ends): Interlacing {
  const gap = whole.dim - part.dim;
  const violations: Violation[] = [];
  let compared = 0;
  let certain = 0;
  for (let index = 0; index < part.dim; index++) {
    const here = at(part, index);
    if (!here) continue;
    const bounds = { upper: at(whole, index), lower: at(whole, index + gap) };
    for (const bound of ["upper", "lower"] as const) {
      const there = bounds[bound];
      if (!there) continue;
      const [small, large] = bound === "upper" ? [here, there] : [there, here];
      compared++;
      if (small.high <= large.low) certain++;
      if (small.low > large.high) violations.push({ index, bound, part: here, whole: there });
    }
  }
  return { compared, certain, violations, holds: violations.length === 0 };
}
