/** Eigenvalues and eigenvectors of operators. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { MemoryBudgetError, OptionError } from "./errors";
import { LinearOperator, vectors } from "./linear-operator";
import type { Vectors } from "./native";
import { type Check, check, checkOptions, describe } from "./options";

const METHODS = [
  "lanczos",
  "krylov",
  "subspace",
  "nystrom",
  "lobpcg",
  "two-sketch",
  "shift-invert",
  "filter",
] as const;

export interface EigshOptions extends CallOptions {
  /** How many pairs, from 1 to the operator's dimension. Default 6, or the dimension. */
  k?: number | undefined;
  /**
   * Which, and their order: "LM" largest magnitude first (default), "LA" largest first, "SA"
   * smallest first, "BE" half from each end (odd k: one more from the high end), largest first.
   */
  which?: "LM" | "LA" | "SA" | "BE" | undefined;
  /**
   * Largest residual ||A v - lambda v|| over the largest |Ritz value|. Default 1e-5 in float32,
   * whose products carry noise of about 1e-6, and 1e-9 in float64.
   */
  tol?: number | undefined;
  /** Products with single vectors, all phases together. Default 1000 + 50 k + 2 min(dim, 2000). */
  maxProducts?: number | undefined;
  /** Of the random start. Default 0. */
  seed?: number | bigint | undefined;
  /**
   * "lanczos" (default): thick-restart Lanczos with full reorthogonalisation (Wu and Simon 2000),
   * fewest products on most spectra. The randomized ones trade products for large blocks and few
   * passes over the data: "krylov", block Krylov (Musco and Musco 2015), any symmetric operator;
   * "subspace", subspace iteration with Rayleigh-Ritz, LM only; "nystrom" (Tropp et al. 2017),
   * positive semi-definite operators only, LM or LA, refuses others; "two-sketch", a single pass
   * with two random blocks (Tropp et al. 2017, Nakatsukasa 2020), LM only, also of indefinite
   * operators. "lobpcg" (Knyazev 2001) takes a preconditioner. "shift-invert" and "filter" belong to
   * `sigma` and `interval`.
   */
  method?: (typeof METHODS)[number] | undefined;
  /**
   * The k eigenvalues nearest to this, nearest first, in place of `which`: Lanczos on the inverse of
   * A - sigma, by MINRES (Paige and Saunders 1975). Up to dimension 2000 from the whole matrix.
   */
  sigma?: number | undefined;
  /**
   * All eigenvalues in [low, high], smallest first, in place of `which`; more than k of them are an
   * error (default 50). Lanczos on a Chebyshev filter (Li, Xi, Vecharynski, Yang and Saad 2016), and
   * a stochastic count of what remains; up to dimension 2000 from the whole matrix.
   */
  interval?: readonly [low: number, high: number] | undefined;
  /**
   * Vectors to begin with, m x dim, row-major, in the operator's dtype: eigenvectors of another
   * checkpoint, say. They save products where they are near, and change no result: blocks of k
   * vectors or more keep k random ones beside them, so that `oversample` says how many fit.
   */
  start?: Vectors | undefined;
  /**
   * Vectors, m x dim, in the operator's dtype, not necessarily orthonormal: all pairs are orthogonal
   * to their span. With eigenvectors, the next pairs are found; with others, those of P A P, where
   * P = I - Q Q^T, with a warning. Costs k more products.
   */
  deflate?: Vectors | undefined;
  /**
   * Of lobpcg: a positive definite operator of the same dimension and dtype, near the inverse of
   * A - lambda on the wanted vectors. Its products are not counted.
   */
  preconditioner?: LinearOperator | undefined;
  /**
   * A file that the state of the solve is written to at each restart (lanczos, krylov) or iteration
   * (lobpcg, subspace), whole or not at all. Solves that are done densely write none.
   */
  checkpoint?: string | undefined;
  /**
   * A file written by `checkpoint` for the same operator and options: the solve goes on from there.
   * `products`, and `maxProducts`, count those before as well.
   */
  resume?: string | undefined;
  /** Vectors a product. Default 1 for lanczos, k + oversample for the others. */
  blockSize?: number | undefined;
  /** Extra vectors of the randomized methods. Default 10. */
  oversample?: number | undefined;
  /** Most basis vectors kept at once. Default: by method. */
  basisSize?: number | undefined;
  /** Bytes for the basis and work vectors. Default: no limit. */
  maxMemory?: number | undefined;
}

const PATH: Check = {
  expected: "the path of a file",
  fits: (value) => typeof value === "string" && value.length > 0,
};

const EIGSH_OPTIONS: { [K in keyof Required<EigshOptions>]: Check } = {
  ...CALL_OPTIONS,
  k: check.positiveInteger,
  which: check.oneOf("LM", "LA", "SA", "BE"),
  tol: check.notNegative,
  maxProducts: check.positiveInteger,
  seed: check.seed,
  method: check.oneOf(...METHODS),
  sigma: { expected: "a finite number", fits: Number.isFinite },
  interval: {
    expected: "two finite numbers [low, high] with low < high",
    fits: (value) =>
      Array.isArray(value) &&
      value.length === 2 &&
      value.every(Number.isFinite) &&
      value[0] < value[1],
  },
  start: check.anything,
  deflate: check.anything,
  preconditioner: {
    expected: "a LinearOperator",
    fits: (value) => value instanceof LinearOperator,
  },
  checkpoint: PATH,
  resume: PATH,
  blockSize: check.positiveInteger,
  oversample: check.naturalNumber,
  basisSize: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

/** Where an eigenvalue lies. */
export interface EigenInterval {
  low: number;
  high: number;
  /**
   * What says so. "residual": some eigenvalue lies within the residual. "gap": the bound of Kato and
   * Temple, residual^2 over the gap to the pairs on both sides; it holds when no wanted eigenvalue
   * was missed. "cluster": as many eigenvalues as there are overlapping intervals lie within
   * the root of the sum of their squared residuals (Kahan 1967). The rounding of a product is added
   * to each residual: 1.2e-6 of the largest |Ritz value| in float32, 1e-13 in float64.
   */
  bound: "residual" | "gap" | "cluster";
}

/** Whether wanted eigenvalues went unseen. */
export interface MissedStatement {
  /**
   * At most how likely, over random starts, an eigenvalue as wanted as the last one was missed: 0
   * after a dense solve; an estimate from the growth of Chebyshev polynomials after the search of
   * lanczos; undefined where nothing was shown.
   */
  probability: number | undefined;
  how: string;
}

/** How many eigenvalues an interval holds. */
export interface IntervalCount {
  /** Whether the count is that of a dense solve. */
  exact: boolean;
  /** The pairs found, and the stochastic count of what remains beside them. */
  estimate: number;
  standardError: number;
  probes: number;
}

/** Eigenpairs, in the order of the criterion. */
export class Eigenpairs {
  readonly values: Float64Array;
  /** values.length x dim, row-major, unit vectors in the operator's dtype; see `vector`. */
  readonly vectors: Vectors;
  /** ||A v - lambda v|| of each, from a fresh product. */
  readonly residuals: Float64Array;
  /** Where the eigenvalue of each lies. */
  readonly intervals: readonly EigenInterval[];
  /** Whether eigenvalues were missed. */
  readonly missed: MissedStatement;
  /** Of `interval`: whether all were found. */
  readonly count: IntervalCount | undefined;
  /** Of `deflate`: the longest ||Q^T A v||; 0 where Q spans eigenvectors. */
  readonly coupling: number;
  /** Whether every residual is at most tol * scale. */
  readonly converged: boolean;
  /** Why not; "" when converged. */
  readonly reason: string;
  /** Products with single vectors that were used. */
  readonly products: number;
  readonly restarts: number;
  /** What ran: the method, or "dense" where the operator was small enough to form. */
  readonly method: string;
  /** The largest |Ritz value|. */
  readonly scale: number;
  /** The tolerance that was used. */
  readonly tol: number;
  readonly warnings: readonly string[];
  readonly seconds: number;
  readonly dim: number;

  /** @internal */
  constructor(fields: Omit<Eigenpairs, "vector">) {
    this.values = fields.values;
    this.vectors = fields.vectors;
    this.residuals = fields.residuals;
    this.intervals = fields.intervals;
    this.missed = fields.missed;
    this.count = fields.count;
    this.coupling = fields.coupling;
    this.converged = fields.converged;
    this.reason = fields.reason;
    this.products = fields.products;
    this.restarts = fields.restarts;
    this.method = fields.method;
    this.scale = fields.scale;
    this.tol = fields.tol;
    this.warnings = fields.warnings;
    this.seconds = fields.seconds;
    this.dim = fields.dim;
  }

  /** Eigenvector i, a view of `vectors`. */
  vector(i: number): Vectors {
    if (!Number.isInteger(i) || i < 0 || i >= this.values.length)
      throw new OptionError(
        `vector: expected an index from 0 to ${this.values.length - 1}, got ${describe(i)}`,
      );
    return this.vectors.subarray(i * this.dim, (i + 1) * this.dim);
  }
}

/**
 * The k eigenpairs of a symmetric operator at one end of its spectrum, at both, nearest to a number,
 * or all those in an interval. Accepted by their residuals in fresh products; multiple eigenvalues
 * are looked for; each value comes with an interval that holds an eigenvalue. For given options the result is
 * the same to the last bit on any number of threads.
 *
 * Running out of products, or a tolerance below the operator's noise, is no error: `converged` is
 * false then, and `reason` says why. On scale: eigsh(c A) is c eigsh(A).
 *
 * @throws OptionError when an option is out of range, nystrom meets an indefinite operator, an
 * interval holds more than k eigenvalues, or a checkpoint belongs to another solve;
 * DataMismatchError when the operator returns NaN or infinity; MemoryBudgetError; AbortError; what
 * the function of a `linearOperator` throws
 */
export async function eigsh(
  operator: LinearOperator,
  options: EigshOptions = {},
): Promise<Eigenpairs> {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`eigsh: expected an operator, got ${describe(operator)}`);
  const checked = checkOptions("eigsh", options, EIGSH_OPTIONS);
  const { dim, dtype } = operator;
  const method = methodOf(checked);
  const k = checked.k ?? Math.min(checked.interval ? 50 : 6, dim);
  if (k > dim)
    throw new OptionError(
      `eigsh: k: expected at most ${dim}, the dimension of ${operator.name}, got ${k}`,
    );
  const begin = performance.now();
  const room = roomFor(k, dim, dtype);
  const result = await run(
    (onProgress) =>
      operator.native.call(
        "eigsh",
        {
          k,
          which: checked.which ?? "LM",
          method,
          tol: checked.tol ?? 0,
          maxProducts: checked.maxProducts ?? 0,
          seed: checked.seed ?? 0,
          blockSize: checked.blockSize ?? 0,
          oversample: checked.oversample ?? 10,
          basisSize: checked.basisSize ?? 0,
          memoryBudget: checked.maxMemory ?? 0,
          start: checked.start,
          deflate: checked.deflate,
          preconditioner: checked.preconditioner?.native,
          sigma: checked.sigma ?? 0,
          low: checked.interval?.[0] ?? 0,
          high: checked.interval?.[1] ?? 0,
          checkpoint: checked.checkpoint ?? "",
          resume: checked.resume ?? "",
          vectors: room,
        },
        onProgress,
      ),
    checked,
  );
  const seconds = (performance.now() - begin) / 1000;
  const found = room.subarray(0, result.values.length * dim);
  const { low, high, bounds, missedProbability: chance } = result;
  return new Eigenpairs({
    ...result,
    intervals: bounds.map((bound, i) => ({ low: low[i]!, high: high[i]!, bound })),
    missed: { probability: Number.isNaN(chance) ? undefined : chance, how: result.missedHow },
    count: checked.interval && {
      exact: result.countExact,
      estimate: result.countEstimate,
      standardError: result.countError,
      probes: result.countProbes,
    },
    vectors: found,
    seconds,
    dim,
  });
}

/** The method, where sigma and interval have their own. */
function methodOf({ method, which, sigma, interval }: EigshOptions): (typeof METHODS)[number] {
  if (sigma !== undefined && interval !== undefined)
    throw new OptionError("eigsh: expected sigma or interval, got both");
  const own = {
    sigma: sigma === undefined ? undefined : "shift-invert",
    interval: interval === undefined ? undefined : "filter",
  } as const;
  for (const [name, its] of Object.entries(own)) {
    if (its !== undefined && method !== undefined && method !== its)
      throw new OptionError(
        `eigsh: ${name} belongs to method "${its}", got method "${method}"; leave method out`,
      );
    if (its !== undefined && which !== undefined)
      throw new OptionError(`eigsh: ${name} takes the place of which, got both; leave which out`);
  }
  if (method === "shift-invert" && sigma === undefined)
    throw new OptionError('eigsh: sigma: expected a number for method "shift-invert", got none');
  if (method === "filter" && interval === undefined)
    throw new OptionError('eigsh: interval: expected [low, high] for method "filter", got none');
  return own.sigma ?? own.interval ?? method ?? "lanczos";
}

function roomFor(k: number, dim: number, dtype: LinearOperator["dtype"]): Vectors {
  try {
    return vectors(dtype, k * dim);
  } catch (cause) {
    throw new MemoryBudgetError(
      `eigsh: ${k} eigenvectors of dimension ${dim} do not fit into one array; ask for fewer`,
      { cause },
    );
  }
}
