/** Eigenvalues and eigenvectors of operators. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { MemoryBudgetError, OptionError } from "./errors";
import { LinearOperator, vectors } from "./linear-operator";
import type { Vectors } from "./native";
import { type Check, check, checkOptions, describe } from "./options";

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
   * positive semi-definite operators only, LM or LA, refuses others.
   */
  method?: "lanczos" | "krylov" | "subspace" | "nystrom" | undefined;
  /** Vectors a product. Default 1 for lanczos, k + oversample for the others. */
  blockSize?: number | undefined;
  /** Extra vectors of the randomized methods. Default 10. */
  oversample?: number | undefined;
  /** Most basis vectors kept at once. Default: by method. */
  basisSize?: number | undefined;
  /** Bytes for the basis and work vectors. Default: no limit. */
  maxMemory?: number | undefined;
}

const EIGSH_OPTIONS: { [K in keyof Required<EigshOptions>]: Check } = {
  ...CALL_OPTIONS,
  k: check.positiveInteger,
  which: check.oneOf("LM", "LA", "SA", "BE"),
  tol: check.notNegative,
  maxProducts: check.positiveInteger,
  seed: check.seed,
  method: check.oneOf("lanczos", "krylov", "subspace", "nystrom"),
  blockSize: check.positiveInteger,
  oversample: check.naturalNumber,
  basisSize: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

/** Eigenpairs, in the order of the criterion. */
export class Eigenpairs {
  readonly values: Float64Array;
  /** values.length x dim, row-major, unit vectors in the operator's dtype; see `vector`. */
  readonly vectors: Vectors;
  /** ||A v - lambda v|| of each, from a fresh product. */
  readonly residuals: Float64Array;
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
 * The k eigenpairs of a symmetric operator at one end of its spectrum, or both. Accepted by their
 * residuals in fresh products; multiple eigenvalues are looked for. For given options the result is
 * the same to the last bit on any number of threads.
 *
 * Running out of products, or a tolerance below the operator's noise, is no error: `converged` is
 * false then, and `reason` says why. On scale: eigsh(c A) is c eigsh(A).
 *
 * @throws OptionError when an option is out of range or nystrom meets an indefinite operator;
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
  const k = checked.k ?? Math.min(6, dim);
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
          method: checked.method ?? "lanczos",
          tol: checked.tol ?? 0,
          maxProducts: checked.maxProducts ?? 0,
          seed: checked.seed ?? 0,
          blockSize: checked.blockSize ?? 0,
          oversample: checked.oversample ?? 10,
          basisSize: checked.basisSize ?? 0,
          memoryBudget: checked.maxMemory ?? 0,
          vectors: room,
        },
        onProgress,
      ),
    checked,
  );
  const seconds = (performance.now() - begin) / 1000;
  const found = room.subarray(0, result.values.length * dim);
  return new Eigenpairs({ ...result, vectors: found, seconds, dim });
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
