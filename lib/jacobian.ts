/** Per-sample gradients, the Jacobian of the network's output, and its Gram matrix (NTK). */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import type { DataSet } from "./data/data";
import { MemoryBudgetError, OptionError } from "./errors";
import { type LinearOperator, vectors } from "./linear-operator";
import type { Model } from "./model/model";
import type { RowKind, Vectors } from "./native";
import { fisher, jacobianHolder, type OperatorOptions } from "./operators";
import { type Check, check, checkOptions } from "./options";

/**
 * The Jacobian of the network at the Gauss-Newton split (the output, or the input of the last
 * softmax or sigmoid; see docs/conventions.md) in its parameters: rows x columns, never formed.
 * Row n * width + i is element i of sample n.
 */
export class Jacobian {
  readonly rows: number;
  readonly columns: number;
  readonly samples: number;
  /** Of one sample. */
  readonly splitShape: readonly number[];
  readonly #holder: LinearOperator;

  /** @internal */
  constructor(holder: LinearOperator, samples: number, splitShape: number[]) {
    this.#holder = holder;
    this.samples = samples;
    this.splitShape = splitShape;
    this.rows = samples * splitShape.reduce((product, n) => product * n, 1);
    this.columns = holder.dim;
  }

  /**
   * J V for K vectors, K x columns, row-major: K x rows. Costs 2 forward passes each.
   *
   * @throws OptionError when V is of another type or length; AbortError
   */
  product(V: Vectors, options: CallOptions = {}): Promise<Vectors> {
    return this.#apply("product", V, this.columns, this.rows, false, options);
  }

  /**
   * J^T U for K vectors, K x rows, row-major: K x columns. Costs 2 forward passes each, and one for
   * the linearisation. Throws as `product`.
   */
  transposedProduct(U: Vectors, options: CallOptions = {}): Promise<Vectors> {
    return this.#apply("transposedProduct", U, this.rows, this.columns, true, options);
  }

  async #apply(
    name: string,
    given: Vectors,
    from: number,
    to: number,
    transposed: boolean,
    options: CallOptions,
  ): Promise<Vectors> {
    checkOptions(name, options, CALL_OPTIONS);
    const { dtype, native } = this.#holder;
    const count = given?.length / from;
    if (!Number.isInteger(count) || count < 1)
      throw new OptionError(
        `${name}: expected K times ${from} numbers of the type of ${dtype}, got ${given?.length}`,
      );
    const out = vectors(dtype, count * to);
    await run(
      (onProgress) => native.call("jacobian", { in: given, out, count, transposed }, onProgress),
      options,
    );
    return out;
  }

  dispose(): void {
    this.#holder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * The Jacobian of a network over a data set.
 *
 * @throws as `ggn`
 */
export async function jacobian(
  model: Model,
  data: DataSet,
  options: OperatorOptions & CallOptions = {},
): Promise<Jacobian> {
  const { signal, onProgress: _, ...rest } = options;
  const holder = jacobianHolder("jacobian", model, data, rest);
  const { samples, split } = await run(
    () => holder.native.call("rowsShape", { rows: "jacobian" }, undefined),
    { signal },
  );
  return new Jacobian(holder, samples, split);
}

export interface PerSampleOptions extends OperatorOptions, CallOptions {
  /** The first sample. Default 0. */
  first?: number | undefined;
  /** The sample after the last. Default: all. */
  last?: number | undefined;
}

const PER_SAMPLE_OPTIONS: { [K in "first" | "last"]: Check } = {
  first: check.naturalNumber,
  last: check.positiveInteger,
};

export interface PerSampleGradients {
  /** samples x dim, row-major, in the precision: row n is the gradient of sample n's share l~_n. */
  readonly gradients: Vectors;
  readonly samples: number;
  readonly dim: number;
}

/**
 * Gradients of single samples: row n is grad l~_n, N times what sample n contributes to the loss
 * (with `sum`, what it contributes), so that with mean reduction their mean is the gradient, and
 * the mean of their outer products the empirical Fisher. Costs one backward pass a sample.
 *
 * @throws as `fisher` of type "empirical"; OptionError for a range out of bounds; MemoryBudgetError
 * when the rows do not fit into one array; AbortError
 */
export async function perSampleGradients(
  model: Model,
  data: DataSet,
  options: PerSampleOptions = {},
): Promise<PerSampleGradients> {
  const { first = 0, last = data.samples, signal, onProgress, ...rest } = options;
  checkOptions("perSampleGradients", { first, last }, PER_SAMPLE_OPTIONS);
  if (first >= last || last > data.samples)
    throw new OptionError(
      `perSampleGradients: expected first < last <= ${data.samples}, the number of samples, ` +
        `got ${first} and ${last}`,
    );
  using holder = fisher(model, data, { ...rest, type: "empirical" });
  const { dim, dtype } = holder;
  const samples = last - first;
  let gradients: Vectors;
  try {
    gradients = vectors(dtype, samples * dim);
  } catch (cause) {
    throw new MemoryBudgetError(
      `perSampleGradients: ${samples} gradients of ${dim} numbers do not fit into one array; ask ` +
        "for fewer by first and last",
      { cause },
    );
  }
  const { scale } = await run(
    (report) =>
      holder.native.call("sampleRows", { rows: "empirical", first, last, out: gradients }, report),
    { signal, onProgress },
  );
  // The Fisher is scale times the sum of outer products: (1/N) sum g g^T, or sum g g^T for `sum`.
  const reduction = (rest.loss ?? model.loss) as { reduction?: string } | undefined;
  const factor = Math.sqrt(scale * (reduction?.reduction === "sum" ? 1 : data.samples));
  for (let i = 0; i < gradients.length; i++) gradients[i]! *= factor;
  return { gradients, samples, dim };
}

export interface GramOptions extends OperatorOptions, CallOptions {
  /**
   * What the rows are. "jacobian" (default): of J, the empirical neural tangent kernel. "ggn": of
   * S^T J with S S^T the second derivative of the loss, scaled so that the nonzero eigenvalues are
   * those of the Gauss-Newton matrix. "empirical": the samples' gradients, with those of the
   * empirical Fisher.
   */
  rows?: Exclude<RowKind, "mc"> | undefined;
  /** Bytes of working memory. Default: what is free. */
  maxMemory?: number | undefined;
}

export interface Gram {
  /** order x order, row-major, symmetric. Row n * perSample + i is row i of sample n. */
  readonly matrix: Float64Array;
  /** Its eigenvalues, largest first. */
  readonly values: Float64Array;
  readonly order: number;
  readonly samples: number;
  /** Rows of a sample: its outputs, or 1. */
  readonly perSample: number;
}

/**
 * The neural tangent kernel J J^T of a network over a data set (Jacot, Gabriel and Hongler 2018), or
 * the Gram matrix of other rows of the samples. Costs a backward pass for each row, and order^2 dim
 * multiplications. The Jacobian is held for some parameters at a time.
 *
 * @throws as `ggn`; MemoryBudgetError when 16 order^2 bytes do not fit; AbortError
 */
export async function ntk(model: Model, data: DataSet, options: GramOptions = {}): Promise<Gram> {
  const { rows = "jacobian", signal, onProgress, ...rest } = options;
  checkOptions("ntk", { rows }, { rows: check.oneOf("jacobian", "ggn", "empirical") });
  using holder = jacobianHolder("ntk", model, data, rest);
  const { matrix, values, samples, perSample } = await run(
    (report) => holder.native.call("gram", { rows, memory: rest.maxMemory ?? 0 }, report),
    { signal, onProgress },
  );
  return { matrix, values, order: samples * perSample, samples, perSample };
}
