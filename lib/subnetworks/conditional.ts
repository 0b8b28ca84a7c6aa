/** The curvature of some parameters when the others are free to follow: Schur complements. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { matrixProduct, symmetricEigen, symmetricEigenvalues } from "../dense";
import { OptionError } from "../errors";
import { exactDiagonal, requireOperator } from "../exact";
import { type LinearOperator, linearOperator, vectors } from "../linear-operator";
import { Mask } from "../masks/mask";
import type { Vectors } from "../native";
import { type Check, check, checkOptions, describe } from "../options";
import { inverse } from "../solve";
import { eigsh } from "../spectra";
import { trace } from "../trace";
import { dot, sum } from "../vectors";
import type { Estimated } from "./spectrum";

export interface ConditionalOptions extends CallOptions {
  /**
   * "dense": from the whole matrix, with the pseudo-inverse of the rest (dim products, 24 dim^2
   * bytes). "iterative": by solving with the rest, damped. Default "auto": dense up to `maxExact`.
   */
  method?: "auto" | "dense" | "iterative" | undefined;
  /** Default 2000. */
  maxExact?: number | undefined;
  /**
   * Added to the diagonal of the rest, as a share of the operator's largest |eigenvalue|. Default 0
   * for dense, 1e-3 for iterative, which cannot do without where the rest is singular.
   */
  damping?: number | undefined;
  /** iterative: eigenvalues. Default 5. */
  k?: number | undefined;
  /** iterative: products for traces that are not known exactly. Default 20; 0: none. */
  probes?: number | undefined;
  /** A vector over all parameters, whose part in the mask the quadratic forms are of. */
  direction?: Float64Array | Float32Array | undefined;
  /** Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<ConditionalOptions>]: Check } = {
  ...CALL_OPTIONS,
  method: check.oneOf("auto", "dense", "iterative"),
  maxExact: check.positiveInteger,
  damping: check.notNegative,
  k: check.positiveInteger,
  probes: check.naturalNumber,
  direction: { expected: "a Float64Array", fits: ArrayBuffer.isView },
  seed: check.seed,
};

/** One of the two curvatures of the parameters of a mask. */
export interface PartCurvature {
  /** Largest first: all of them (dense), or k. */
  readonly values: Float64Array;
  /** undefined where it was not asked for. */
  readonly trace: Estimated | undefined;
  /** d^T A d for the direction's part in the mask. */
  readonly quadratic: number | undefined;
}

export interface ConditionalCurvature {
  readonly method: "dense" | "iterative";
  /** A_MM: the others stay where they are. */
  readonly marginal: PartCurvature;
  /** A_MM - A_MN (A_NN + damping I)^+ A_NM: the others move to where the quadratic model is stationary. */
  readonly conditional: PartCurvature;
  /** As a number, in the units of the operator. */
  readonly damping: number;
  /**
   * dense: the rank of A_NN, eigenvalues above `cutoff` by magnitude. iterative: undefined.
   */
  readonly restRank: number | undefined;
  readonly cutoff: number | undefined;
  /**
   * Whether A_NN has no negative eigenvalue: where it has, "the rest follows" leads to a saddle, and
   * the conditional curvature need not be below the marginal one. undefined where it is not known.
   */
  readonly restSemiDefinite: boolean | undefined;
  readonly converged: boolean;
  readonly reason: string;
  readonly products: number;
  readonly seconds: number;
}

/** Positions that a mask keeps, and the others. */
interface Split {
  readonly kept: Float64Array;
  readonly rest: Float64Array;
}

function splitOf(where: string, operator: LinearOperator, mask: Mask): Split {
  requireOperator(where, operator);
  if (!(mask instanceof Mask) || mask.size !== operator.dim)
    throw new OptionError(
      `${where}: mask: expected a Mask of ${operator.dim} entries, the dimension of ` +
        `${operator.name}, got ${mask instanceof Mask ? mask.size : describe(mask)}`,
    );
  if (mask.count === 0 || mask.count === mask.size)
    throw new OptionError(
      `${where}: mask: expected one that keeps some of the ${mask.size} parameters and not all, ` +
        `got ${mask.count}`,
    );
  return { kept: mask.indices(), rest: mask.not().indices() };
}

/** Rows of `count` vectors of dimension `dim`, at these positions. */
function take(V: Vectors, dim: number, positions: Float64Array): Vectors {
  const count = V.length / dim;
  const part = vectors(V instanceof Float32Array ? "float32" : "float64", count * positions.length);
  for (let row = 0; row < count; row++)
    for (let i = 0; i < positions.length; i++)
      part[row * positions.length + i] = V[row * dim + positions[i]!]!;
  return part;
}

function put(into: Vectors, dim: number, positions: Float64Array, part: Vectors, factor = 1): void {
  const count = part.length / positions.length;
  for (let row = 0; row < count; row++)
    for (let i = 0; i < positions.length; i++)
      into[row * dim + positions[i]!] = factor * part[row * positions.length + i]!;
}

export interface ConditionalOperatorOptions {
  /** Added to the diagonal of the rest, in the units of the operator. Over 0 where it is singular. */
  damping?: number | undefined;
  /** Largest residual of the solves. Default 1e-8 in float64, 1e-5 in float32. */
  tol?: number | undefined;
  /** Vectors of the Nystrom preconditioner, for sums over samples with damping. Default 50. */
  rank?: number | undefined;
  /** Of its sketch. Default 0. */
  seed?: number | bigint | undefined;
}

const OPERATOR_OPTIONS: { [K in keyof Required<ConditionalOperatorOptions>]: Check } = {
  damping: check.notNegative,
  tol: check.notNegative,
  rank: check.positiveInteger,
  seed: check.seed,
};

/**
 * The Schur complement A_MM - A_MN (A_NN + damping I)^-1 A_NM as an operator of dimension |M|, for
 * every solver: the curvature of the mask's parameters when the others follow. A product costs two
 * of A and a solve with A_NN, by conjugate gradients for Gauss-Newton and Fisher matrices and by
 * MINRES for others. Linear and symmetric to the accuracy of the solves.
 *
 * @throws OptionError; calls reject as those of `inverse`
 */
export function conditionalOperator(
  operator: LinearOperator,
  mask: Mask,
  options: ConditionalOperatorOptions = {},
): LinearOperator {
  const where = "conditionalOperator";
  const { kept, rest } = splitOf(where, operator, mask);
  const checked = checkOptions(where, options, OPERATOR_OPTIONS);
  const { dim, dtype } = operator;
  const { damping = 0, tol = dtype === "float32" ? 1e-5 : 1e-8, rank = 50, seed } = checked;
  const definite = operator.native.sumsRows;
  const sketched = definite && damping > 0 && rest.length > 2 * rank;
  const backwards = inverse(operator.restrict({ indices: rest }), {
    ...{ damping, tol, seed, method: definite ? "cg" : "minres" },
    ...(sketched && { preconditioner: "nystrom", rank }),
  });
  const apply = async (V: Vectors, count: number) => {
    const whole = vectors(dtype, count * dim);
    put(whole, dim, kept, V);
    const pull = take(await operator.apply(whole), dim, rest);
    put(whole, dim, rest, await backwards.apply(pull), -1);
    return take(await operator.apply(whole), dim, kept);
  };
  return linearOperator(kept.length, apply, { dtype, name: `conditional ${operator.name}` });
}

/** The matrix of an operator, symmetric. */
async function matrixOf(operator: LinearOperator, call: CallOptions): Promise<Float64Array> {
  const { dim, dtype } = operator;
  const matrix = new Float64Array(dim * dim);
  const most = 64;
  for (let row = 0; row < dim; row += most) {
    const count = Math.min(most, dim - row);
    const block = vectors(dtype, count * dim);
    for (let i = 0; i < count; i++) block[i * dim + row + i] = 1;
    matrix.set(await operator.apply(block, { signal: call.signal }), row * dim);
  }
  for (let i = 0; i < dim; i++)
    for (let j = 0; j < i; j++) {
      const mean = (matrix[i * dim + j]! + matrix[j * dim + i]!) / 2;
      matrix[i * dim + j] = matrix[j * dim + i] = mean;
    }
  return matrix;
}

function block(A: Float64Array, dim: number, rows: Float64Array, columns: Float64Array) {
  const part = new Float64Array(rows.length * columns.length);
  for (let i = 0; i < rows.length; i++)
    for (let j = 0; j < columns.length; j++)
      part[i * columns.length + j] = A[rows[i]! * dim + columns[j]!]!;
  return part;
}

/** The Schur complement from blocks, with what is known of the rest. */
async function schur(
  A: Float64Array,
  dim: number,
  { kept, rest }: Split,
  given: { damping: number; precision: number; signal: AbortSignal | undefined },
) {
  const { damping: share, precision, signal } = given;
  const [m, n] = [kept.length, rest.length];
  const marginal = block(A, dim, kept, kept);
  const across = block(A, dim, kept, rest);
  const { values, vectors: U } = await symmetricEigen(block(A, dim, rest, rest), n, { signal });
  const own = await symmetricEigenvalues(marginal, m, { signal });
  const ends = [values, own].flatMap((of) => [of[0]!, of.at(-1)!].map(Math.abs));
  const size = Math.max(...ends);
  const damping = share * size;
  const cutoff = Math.max(precision, dim * 2 ** -52) * size;
  // A_MN in the eigenvectors of the rest, each over the root of its |eigenvalue|.
  const turned = await matrixProduct(across, U, m, n, n, { transposed: true, signal });
  const scaled = turned.slice();
  let restRank = 0;
  for (let j = 0; j < n; j++) {
    const value = values[j]! + damping;
    const counts = Math.abs(value) > cutoff;
    if (Math.abs(values[j]!) > cutoff) restRank++;
    for (let i = 0; i < m; i++) scaled[i * n + j]! *= counts ? 1 / value : 0;
  }
  const pulled = await matrixProduct(scaled, turned, m, n, m, { transposed: true, signal });
  const conditional = marginal.map((x, i) => x - pulled[i]!);
  return {
    ...{ marginal, conditional, own, damping, cutoff, restRank },
    restSemiDefinite: values.at(-1)! >= -cutoff,
  };
}

/**
 * The curvature of a sub-network's parameters when the others stay, A_MM (marginal), beside that when
 * they move along to wherever the quadratic model has no slope, A_MM - A_MN A_NN^+ A_NM
 * (conditional). Where A is positive semi-definite the conditional curvature is at most the
 * marginal; what is missing the rest can make up for. Its inverse is the block of A^-1.
 *
 * @throws OptionError; what products and solves throw; MemoryBudgetError; AbortError
 */
export async function conditionalCurvature(
  operator: LinearOperator,
  mask: Mask,
  options?: ConditionalOptions,
): Promise<ConditionalCurvature> {
  const where = "conditionalCurvature";
  const begin = performance.now();
  const checked = checkOptions(where, options, OPTIONS);
  const split = splitOf(where, operator, mask);
  const { method = "auto", direction, maxExact = 2000, signal } = checked;
  if (direction && direction.length !== operator.dim)
    throw new OptionError(
      `${where}: direction: expected ${operator.dim} numbers, one a parameter, got ` +
        `${direction.length}`,
    );
  const along = direction && take(Float64Array.from(direction), operator.dim, split.kept);
  const chosen = method === "auto" ? (operator.dim <= maxExact ? "dense" : "iterative") : method;
  const seconds = () => (performance.now() - begin) / 1000;
  if (chosen === "iterative")
    return { ...(await iterative(operator, mask, split, along, checked)), seconds: seconds() };
  const { dim, dtype } = operator;
  const A = await matrixOf(operator, { signal });
  const precision = dtype === "float32" ? 1e-5 : 1e-13;
  const { damping = 0 } = checked;
  const { marginal, conditional, own, ...rest } = await schur(A, dim, split, {
    ...{ damping, precision, signal },
  });
  const m = split.kept.length;
  const partOf = (matrix: Float64Array, values: Float64Array): PartCurvature => ({
    values,
    trace: { value: sum(values), standardError: 0 },
    quadratic: along && quadraticForm(matrix, along),
  });
  return {
    method: "dense",
    marginal: partOf(marginal, own),
    conditional: partOf(conditional, await symmetricEigenvalues(conditional, m, { signal })),
    ...rest,
    ...{ converged: true, reason: "", products: dim, seconds: seconds() },
  };
}

function quadraticForm(matrix: Float64Array, v: ArrayLike<number>): number {
  const n = v.length;
  let sum = 0;
  for (let i = 0; i < n; i++) sum += v[i]! * dot(matrix.subarray(i * n, (i + 1) * n), v);
  return sum;
}

async function iterative(
  operator: LinearOperator,
  mask: Mask,
  { kept }: Split,
  along: Vectors | undefined,
  options: ConditionalOptions,
): Promise<Omit<ConditionalCurvature, "seconds">> {
  const { damping: share = 1e-3, k = 5, probes = 20, seed = 0, signal, onProgress } = options;
  const call = { signal, onProgress };
  const whole = await eigsh(operator, { k: 1, which: "LM", seed, ...call });
  const damping = share * whole.scale;
  using part = operator.restrict(mask);
  using schurOf = conditionalOperator(operator, mask, { damping, seed });
  let products = whole.products;
  const reasons = whole.converged ? [] : [whole.reason];
  const curvatureOf = async (of: LinearOperator): Promise<PartCurvature> => {
    // Products of the complement are accurate to the solves only.
    const tol = of === part ? undefined : of.dtype === "float32" ? 1e-3 : 1e-6;
    const top = await eigsh(of, { k: Math.min(k, of.dim), which: "LA", tol, seed, ...call });
    if (!top.converged) reasons.push(top.reason);
    products += top.products;
    let estimate: Estimated | undefined;
    if (of === part && operator.native.sumsRows) {
      const { diagonal } = await exactDiagonal(operator, call);
      estimate = { value: sum(Float64Array.from(kept, (i) => diagonal[i]!)), standardError: 0 };
    } else if (probes > 0) {
      const found = await trace(of, { products: probes, seed, ...call });
      products += found.products;
      estimate = { value: found.value, standardError: found.standardError };
    }
    let quadratic: number | undefined;
    if (along) {
      const v = vectors(of.dtype, kept.length);
      v.set(along);
      quadratic = dot(v, await of.apply(v, { signal }));
      products++;
    }
    return { values: top.values, trace: estimate, quadratic };
  };
  return {
    method: "iterative",
    marginal: await curvatureOf(part),
    conditional: await curvatureOf(schurOf),
    damping,
    ...{ restRank: undefined, cutoff: undefined },
    restSemiDefinite: operator.native.sumsRows ? true : undefined,
    ...{ converged: reasons.length === 0, reason: reasons.join("; "), products },
  };
}
