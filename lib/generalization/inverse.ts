/** The pseudo-inverse of a curvature matrix, from its whole spectrum. */
import type { CallOptions } from "../call";
import { matrixProduct } from "../dense";
import { MemoryBudgetError, OptionError } from "../errors";
import { exactOrder, exactSpectrum } from "../exact";
import type { LinearOperator } from "../linear-operator";
import { type NumericalRank, numericalRank } from "../rank/numerical";

/** Numbers that eigenvectors may take: 1 GiB. */
const MOST_NUMBERS = 2 ** 27;
/** The largest order that is decomposed unless one asks for it. */
export const FEW = 3000;

/** Whether the whole spectrum with its vectors is the default. */
export async function isSmall(operator: LinearOperator, call: CallOptions): Promise<boolean> {
  const order = await exactOrder(operator, call);
  return order <= FEW && order * operator.dim <= MOST_NUMBERS;
}

/**
 * (A + z I)^-1 for z > 0, on the span of the eigenvectors that were found: of Gauss-Newton and Fisher
 * matrices with few samples their range, else everything. For z = 0 the pseudo-inverse: on
 * eigenvectors with |lambda| above the tolerance of `numericalRank`.
 */
export class Inverse {
  /** All eigenvalues, largest first. */
  readonly values: Float64Array;
  readonly rank: NumericalRank;
  readonly damping: number;
  /** "dual": of the matrix of the samples' rows. */
  readonly method: "dense" | "dual";
  readonly products: number;
  readonly dim: number;
  /** Of the directions that count: eigenvalue of the inverse. */
  readonly weights: Float64Array;
  /** Eigenvalues of the matrix there. */
  readonly kept: Float64Array;
  /** Their eigenvectors, row-major. */
  readonly #vectors: Float64Array;

  private constructor(fields: {
    values: Float64Array;
    rank: NumericalRank;
    damping: number;
    method: "dense" | "dual";
    products: number;
    dim: number;
    chosen: number[];
    vectors: Float64Array;
  }) {
    const { chosen, vectors, dim, values, damping } = fields;
    this.values = values;
    this.rank = fields.rank;
    this.damping = damping;
    this.method = fields.method;
    this.products = fields.products;
    this.dim = dim;
    this.kept = Float64Array.from(chosen, (i) => values[i]!);
    this.weights = this.kept.map((value) => 1 / (value + damping));
    this.#vectors = new Float64Array(chosen.length * dim);
    chosen.forEach((from, to) => {
      this.#vectors.set(vectors.subarray(from * dim, (from + 1) * dim), to * dim);
    });
  }

  /**
   * @throws OptionError for float32; MemoryBudgetError where matrix or eigenvectors do not fit;
   * AbortError
   */
  static async of(
    where: string,
    operator: LinearOperator,
    damping: number,
    call: CallOptions,
  ): Promise<Inverse> {
    const { dim } = operator;
    if (operator.dtype !== "float64")
      throw new OptionError(
        `${where}: expected ${operator.name} in float64, got float32, whose rounding hides small ` +
          "eigenvalues",
      );
    const order = await exactOrder(operator, call);
    if (order * dim > MOST_NUMBERS)
      throw new MemoryBudgetError(
        `${where}: ${order} eigenvectors of ${dim} numbers take more than 1 GiB; take fewer samples ` +
          '(for "ggn" and the Fisher matrices), some tensors by params, or method "estimated"',
      );
    const { values, vectors, method, products } = await exactSpectrum(operator, {
      ...call,
      vectors: order,
    });
    const rank = numericalRank(values);
    const chosen = Array.from({ length: order }, (_, i) => i).filter(
      (i) => (damping > 0 && method === "dense") || Math.abs(values[i]!) > rank.tolerance,
    );
    return new Inverse({ values, rank, damping, method, products, dim, chosen, vectors });
  }

  /** Coordinates of `count` vectors along the eigenvectors that count: count x weights.length. */
  coordinates(rows: Float64Array, count: number, { signal }: CallOptions): Promise<Float64Array> {
    const { length } = this.weights;
    return matrixProduct(rows, this.#vectors, count, this.dim, length, {
      transposed: true,
      signal,
    });
  }
}
