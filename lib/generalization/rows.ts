/** Rows of single samples, some samples at a time: gradients, Jacobians. */
import { type CallOptions, run } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import { fisher, jacobianHolder, lossOf, type OperatorOptions } from "../operators";

/** Numbers of rows that are held at once. */
const HELD = 2 ** 25;

export interface RowChunk {
  /** The first sample. */
  readonly first: number;
  readonly samples: number;
  /** samples x perSample x dim, row-major. */
  readonly rows: Float64Array;
}

/**
 * Rows of the samples in float64: "gradients", one a sample, grad l~_n; "jacobian", one for each
 * output. Compiled once.
 */
export class SampleRows {
  readonly #holder: LinearOperator;
  readonly #kind: "jacobian" | "empirical";
  readonly samples: number;
  readonly dim: number;

  /** @throws OptionError for losses that are sums and not means */
  constructor(
    where: string,
    model: Model,
    data: DataSet,
    kind: "gradients" | "jacobian",
    options: OperatorOptions,
  ) {
    requireMean(where, model, options);
    const given: OperatorOptions = { ...options, precision: "float64" };
    this.#kind = kind === "jacobian" ? "jacobian" : "empirical";
    this.#holder =
      kind === "jacobian"
        ? jacobianHolder(where, model, data, given)
        : fisher(model, data, { ...given, type: "empirical" });
    this.samples = data.samples;
    this.dim = this.#holder.dim;
  }

  /** Chunks in the order of the samples. */
  async *chunks({ signal }: CallOptions): AsyncGenerator<RowChunk> {
    const { perSample } = await run(
      () => this.#holder.native.call("rowsShape", { rows: this.#kind }, undefined),
      { signal },
    );
    const step = Math.max(1, Math.floor(HELD / (perSample * this.dim)));
    for (let first = 0; first < this.samples; first += step) {
      const samples = Math.min(step, this.samples - first);
      yield { first, samples, rows: await this.some(first, samples, perSample, signal) };
    }
  }

  /** The rows of samples [first, first + samples). */
  async some(
    first: number,
    samples: number,
    perSample: number,
    signal: AbortSignal | undefined,
  ): Promise<Float64Array> {
    const rows = new Float64Array(samples * perSample * this.dim);
    const { scale } = await run(
      () =>
        this.#holder.native.call(
          "sampleRows",
          { rows: this.#kind, first, last: first + samples, out: rows },
          undefined,
        ),
      { signal },
    );
    // The empirical Fisher is scale times the sum of outer products, and (1/N) sum of g g^T.
    const factor = this.#kind === "empirical" ? Math.sqrt(scale * this.samples) : 1;
    if (factor !== 1) for (let i = 0; i < rows.length; i++) rows[i]! *= factor;
    return rows;
  }

  dispose(): void {
    this.#holder.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @throws OptionError for losses that are sums and not means */
export function requireMean(where: string, model: Model, options: OperatorOptions): void {
  const { reduction = "mean" } = lossOf(where, model, options.loss);
  if (reduction !== "mean")
    throw new OptionError(
      `${where}: expected a loss with mean reduction, of which a sample's share is 1/n, got ` +
        `reduction "${reduction}"`,
    );
}
