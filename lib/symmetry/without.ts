/** Operators with the directions of symmetries projected out, and how much of a kernel those are. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { matrixProduct } from "../dense";
import { OptionError } from "../errors";
import { exactSpectrum } from "../exact";
import { LinearOperator, vectors } from "../linear-operator";
import { native } from "../native";
import { checkOptions, describe } from "../options";
import { basisOf, type VectorSet } from "../subspaces/orthonormal";

function orthonormal(where: string, operator: LinearOperator, directions: VectorSet): Float64Array {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`${where}: expected an operator, got ${describe(operator)}`);
  if (directions.dim !== operator.dim)
    throw new OptionError(
      `${where}: directions: expected vectors of ${operator.dim} numbers, as ${operator.name} has, ` +
        `got the dim ${describe(directions.dim)}`,
    );
  const rows = basisOf(where, "directions", directions);
  const out = new Float64Array(rows.length * operator.dim);
  rows.forEach((row, i) => {
    out.set(row, i * operator.dim);
  });
  return out;
}

/** A Q for orthonormal rows Q, in float64. */
async function images(
  operator: LinearOperator,
  Q: Float64Array,
  call: CallOptions,
): Promise<Float64Array> {
  const block = vectors(operator.dtype, Q.length);
  block.set(Q);
  return Float64Array.from(await operator.apply(block, call));
}

/**
 * (I - Q Q^T) A (I - Q Q^T) for an operator A and directions that span the rows of Q, such as
 * `Symmetries.basis`: its spectrum is that of A on what is orthogonal to them, and one zero for each
 * of them. Composed in the core as A plus a matrix of rank 2 r; costs r products once, and as many
 * operations a product as 2 r inner products.
 *
 * @param directions independent vectors, as `eigsh` and `basis` return them
 * @throws OptionError where they depend on one another or do not fit; as `apply`
 */
export async function withoutDirections(
  operator: LinearOperator,
  directions: VectorSet,
  options?: CallOptions,
): Promise<LinearOperator> {
  const call = checkOptions("withoutDirections", options, CALL_OPTIONS);
  const Q = orthonormal("withoutDirections", operator, directions);
  const n = operator.dim;
  const r = Q.length / n;
  const AQ = await images(operator, Q, call);
  const B = await matrixProduct(Q, AQ, r, n, r, { transposed: true, signal: call.signal });
  // With Z = A Q - Q B / 2: A - Z Q^T - Q Z^T, and Z Q^T + Q Z^T = (Z+Q)(Z+Q)^T / 2 - (Z-Q)(Z-Q)^T / 2.
  const QB = await matrixProduct(B, Q, r, r, n, { signal: call.signal });
  const size = Math.max(Math.sqrt(AQ.reduce((sum, x) => sum + x * x, 0) / r), Number.MIN_VALUE);
  const both = new Float64Array(2 * r * n);
  const weights = new Float64Array(2 * r);
  for (let i = 0; i < r * n; i++) {
    // Q and Z / size are of one size, whatever the scale of A.
    const z = (AQ[i]! - QB[i]! / 2) / size;
    both[i] = z + Q[i]!;
    both[r * n + i] = z - Q[i]!;
  }
  weights.fill(-size / 2, 0, r).fill(size / 2, r);
  const core = native().lowRankOperator(both, weights, n, operator.dtype);
  return operator.add(new LinearOperator(core, "symmetry directions", operator.parameters));
}

/** How directions lie to the kernel of an operator. */
export interface KernelShare {
  readonly dim: number;
  /** |lambda| up to here, relative to the largest, counts as zero. */
  readonly tolerance: number;
  /** Zero eigenvalues. */
  readonly kernel: number;
  readonly directions: number;
  /** Zero eigenvalues that are left with the directions projected out. */
  readonly surplus: number;
  /** Largest |A q| of the orthonormal directions over the largest |lambda|. */
  readonly residual: number;
  /** All eigenvalues, largest first. */
  readonly values: Float64Array;
  /** Those with the directions projected out: dim - directions of them. */
  readonly without: Float64Array;
}

/**
 * How many zero eigenvalues of an operator directions account for, by its whole spectrum with and
 * without them. Costs 2 dim products and 16 dim^2 bytes (`exactSpectrum`, dense).
 *
 * @param tolerance default dim * 2^-52 times 16
 * @throws as `withoutDirections` and `exactSpectrum`
 */
export async function kernelShare(
  operator: LinearOperator,
  directions: VectorSet,
  options?: CallOptions & { tolerance?: number | undefined },
): Promise<KernelShare> {
  const { tolerance: given, ...call } = options ?? {};
  const Q = orthonormal("kernelShare", operator, directions);
  const n = operator.dim;
  const r = Q.length / n;
  const { values } = await exactSpectrum(operator, { method: "dense", ...call });
  const largest = Math.max(Math.abs(values[0]!), Math.abs(values[n - 1]!));
  const AQ = await images(operator, Q, call);
  let residual = 0;
  for (let i = 0; i < r; i++) {
    const image = AQ.subarray(i * n, (i + 1) * n);
    residual = Math.max(residual, Math.sqrt(image.reduce((sum, x) => sum + x * x, 0)) / largest);
  }
  using rest = await withoutDirections(operator, { vectors: Q, dim: n }, call);
  const projected = (await exactSpectrum(rest, { method: "dense", ...call })).values;
  // Each direction has given a zero.
  const order = [...projected.keys()].sort(
    (a, b) => Math.abs(projected[a]!) - Math.abs(projected[b]!),
  );
  const dropped = new Set(order.slice(0, r));
  const without = projected.filter((_, i) => !dropped.has(i));
  const tolerance = given ?? 16 * n * 2 ** -52;
  const zeros = (of: Float64Array) => of.filter((x) => Math.abs(x) <= tolerance * largest).length;
  return {
    dim: n,
    tolerance,
    kernel: zeros(values),
    directions: r,
    surplus: zeros(without),
    residual,
    values,
    without,
  };
}
