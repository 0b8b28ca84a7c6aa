/** Whole spectra, and what else of an operator is known without sampling. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { OptionError } from "./errors";
import { type GroupBy, groupsOf } from "./groups";
import { LinearOperator } from "./linear-operator";
import type { ShapedTensor } from "./model/units";
import { type Check, check, checkOptions, describe } from "./options";
import { type StructuredOperator, structuredOperator } from "./structured";

export interface ExactSpectrumOptions extends CallOptions {
  /**
   * "dense": LAPACK on the matrix of the operator, from dim products. "dual": for Gauss-Newton and
   * Fisher matrices, on the Gram matrix of the samples' rows, whose order is samples times outputs
   * (times draws for mc; samples alone for empirical). Default "auto": the smaller of the two.
   */
  method?: "auto" | "dense" | "dual" | undefined;
  /** Eigenvectors of the first so many eigenvalues. Default 0. */
  vectors?: number | undefined;
  /** Bytes. Default: what is free. */
  maxMemory?: number | undefined;
}

/** All eigenvalues of an operator. */
export interface ExactSpectrum {
  /** All dim of them, largest first. Those beyond `order` are exact zeros. */
  readonly values: Float64Array;
  /** K x dim, row-major, unit vectors of the first K eigenvalues. */
  readonly vectors: Float64Array;
  readonly method: "dense" | "dual";
  /** The order of the matrix that LAPACK decomposed. */
  readonly order: number;
  /** Products with single vectors (dense), or rows of samples that were made (dual). */
  readonly products: number;
  readonly seconds: number;
  readonly warnings: readonly string[];
}

const EXACT_SPECTRUM_OPTIONS: { [K in keyof Required<ExactSpectrumOptions>]: Check } = {
  ...CALL_OPTIONS,
  method: check.oneOf("auto", "dense", "dual"),
  vectors: check.naturalNumber,
  maxMemory: check.positiveInteger,
};

/**
 * The spectrum of an operator, all of it, by LAPACK (dsyevd): errors are of the order of rounding
 * times the largest eigenvalue, of float32 where the operator computes in float32.
 *
 * Dense costs dim products and 16 dim^2 bytes (24 with vectors). Dual costs C backward passes a
 * sample, C the outputs of a sample, and 16 (N C)^2 bytes; it gives the same eigenvalues, since A A^T
 * and A^T A share those that are not zero (Karakida, Akaho and Amari 2019, section 3.2).
 * LAPACK itself cannot be interrupted.
 *
 * @throws OptionError when "dual" is asked for of another operator; MemoryBudgetError; AbortError;
 * DataMismatchError when the operator returns NaN or infinity
 */
export async function exactSpectrum(
  operator: LinearOperator,
  options: ExactSpectrumOptions = {},
): Promise<ExactSpectrum> {
  requireOperator("exactSpectrum", operator);
  const checked = checkOptions("exactSpectrum", options, EXACT_SPECTRUM_OPTIONS);
  const { method = "auto", vectors = 0, maxMemory = 0 } = checked;
  if (vectors > operator.dim)
    throw new OptionError(
      `exactSpectrum: vectors: expected at most ${operator.dim}, the dimension of ` +
        `${operator.name}, got ${vectors}`,
    );
  const begin = performance.now();
  const found = await run(
    (onProgress) =>
      operator.native.call("exactSpectrum", { method, vectors, memory: maxMemory }, onProgress),
    checked,
  );
  return { ...found, seconds: (performance.now() - begin) / 1000 };
}

/** @internal The order of the matrix that `exactSpectrum` decomposes. */
export async function exactOrder(operator: LinearOperator, options: CallOptions): Promise<number> {
  if (!operator.native.sumsRows) return operator.dim;
  const { samples, perSample } = await run(
    () => operator.native.call("rowsShape", { rows: "own" }, undefined),
    { signal: options.signal },
  );
  return Math.min(operator.dim, samples * perSample);
}

export interface ExactDiagonal {
  /** Of the operator, dim numbers. */
  readonly diagonal: Float64Array;
  /** Their sum: the trace. */
  readonly trace: number;
  /** Rows of samples that were made: backward passes of one sample. */
  readonly rows: number;
}

/**
 * The diagonal of a Gauss-Newton or Fisher matrix and its trace, without error but rounding: the
 * sum of the squares of the samples' rows (Dangel, Kunstner and Hennig 2020, "DiagGGN"). Costs C
 * backward passes a sample (draws for mc, 1 for empirical).
 *
 * @throws OptionError for an operator that is no sum over samples, such as a Hessian: see
 * `diagonal`; AbortError; MemoryBudgetError
 */
export async function exactDiagonal(
  operator: LinearOperator,
  options: CallOptions = {},
): Promise<ExactDiagonal> {
  requireOperator("exactDiagonal", operator);
  const checked = checkOptions("exactDiagonal", options, CALL_OPTIONS);
  const { diagonal, rows } = await run(
    (onProgress) => operator.native.call("exactDiagonal", {}, onProgress),
    checked,
  );
  return { diagonal, trace: diagonal.reduce((sum, x) => sum + x, 0), rows };
}

/** Coordinates that make a diagonal block. */
export interface BlockChoice {
  readonly name: string;
  readonly indices: ArrayLike<number>;
}

export interface DenseBlock {
  readonly name: string;
  /** Coordinates of the operator. */
  readonly indices: ArrayLike<number>;
  /** indices.length squared, row-major. */
  readonly matrix: Float64Array;
}

export interface BlockDiagonalOptions extends CallOptions {
  /**
   * A block for each tensor (default), layer (tensors whose names share what stands before the last
   * dot or slash) or unit (what belongs to one output of a layer).
   */
  by?: GroupBy | undefined;
  /** by "unit": the shapes, model.parameters. */
  parameters?: readonly ShapedTensor[] | undefined;
  /** Other blocks than these. */
  blocks?: readonly BlockChoice[] | undefined;
  /** Bytes. Default: what is free. */
  maxMemory?: number | undefined;
}

const BLOCK_DIAGONAL_OPTIONS: { [K in keyof Required<BlockDiagonalOptions>]: Check } = {
  ...CALL_OPTIONS,
  by: check.oneOf("tensor", "layer", "unit"),
  parameters: { expected: "model.parameters", fits: Array.isArray },
  blocks: { expected: "an array of { name, indices }", fits: Array.isArray },
  maxMemory: check.positiveInteger,
};

/**
 * Dense diagonal blocks of an operator. Of Gauss-Newton and Fisher matrices all blocks come from one
 * pass over the samples' rows, C backward passes a sample; of others from as many products as the
 * blocks have coordinates.
 *
 * @throws OptionError; MemoryBudgetError when the blocks do not fit; AbortError
 */
export async function blockDiagonal(
  operator: LinearOperator,
  options: BlockDiagonalOptions = {},
): Promise<DenseBlock[]> {
  requireOperator("blockDiagonal", operator);
  const checked = checkOptions("blockDiagonal", options, BLOCK_DIAGONAL_OPTIONS);
  const { by = "tensor", parameters } = checked;
  if (checked.blocks && checked.by)
    throw new OptionError("blockDiagonal: expected blocks or by, got both");
  const blocks: readonly BlockChoice[] =
    checked.blocks ??
    groupsOf("blockDiagonal", operator, by, parameters).map(({ name, indices }) => ({
      name,
      indices: Int32Array.from(indices()),
    }));
  for (const { name, indices } of blocks)
    for (const index of Array.from(indices))
      if (!Number.isInteger(index) || index < 0 || index >= operator.dim)
        throw new OptionError(
          `blockDiagonal: ${name}: expected indices from 0 to ${operator.dim - 1}, ` +
            `got ${describe(index)}`,
        );
  const indices = blocks.flatMap((block) => Array.from(block.indices));
  const sizes = blocks.map((block) => block.indices.length);
  const { matrices } = await run(
    (onProgress) =>
      operator.native.call(
        "blockDiagonal",
        { indices, sizes, memory: checked.maxMemory ?? 0 },
        onProgress,
      ),
    checked,
  );
  let at = 0;
  return blocks.map(({ name, indices }) => {
    const size = indices.length ** 2;
    at += size;
    return { name, indices, matrix: matrices.subarray(at - size, at) };
  });
}

/**
 * The diagonal blocks of an operator as an operator, with inverse, determinant and spectrum: what is
 * left of A when everything between the groups is dropped. Costs as `blockDiagonal`.
 *
 * @throws as `blockDiagonal`; OptionError when given blocks overlap or leave a coordinate out
 */
export async function blockDiagonalOperator(
  operator: LinearOperator,
  options: BlockDiagonalOptions = {},
): Promise<StructuredOperator> {
  const blocks = await blockDiagonal(operator, options);
  const semiDefinite = operator.native.sumsRows;
  return structuredOperator(
    operator,
    blocks.map((block) => ({ ...block, semiDefinite })),
  );
}

/** @internal @throws OptionError */
export function requireOperator(where: string, operator: unknown): void {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`${where}: expected an operator, got ${describe(operator)}`);
}
