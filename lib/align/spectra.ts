/** Spectra and top eigenspaces of two networks, before and after alignment. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import type { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import { hessian, type RunOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { type Eigenpairs, eigsh } from "../spectra";
import { compareSubspaces, type SubspaceComparison } from "../subspaces/subspaces";
import { type Alignment, checkAlignment } from "./align";

export interface AlignedSpectraOptions extends CallOptions {
  /** Eigenpairs of the largest magnitude. Default 10. */
  k?: number | undefined;
  /** Of the operator, default the Hessian in float32 of the model's loss: (model, data) => ... */
  operator?: ((model: Model, data: DataSet) => LinearOperator) | undefined;
  precision?: RunOptions["precision"];
  /** See `eigsh`. */
  tol?: number | undefined;
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<AlignedSpectraOptions>]: Check } = {
  ...CALL_OPTIONS,
  k: check.positiveInteger,
  operator: check.function,
  precision: check.oneOf("float32", "float64"),
  tol: check.notNegative,
  seed: check.seed,
};

export interface AlignedSpectra {
  readonly k: number;
  /** Largest magnitude first. */
  readonly first: Float64Array;
  /** Of the second network; undefined where its widths differ. */
  readonly second: Float64Array | undefined;
  /**
   * Of the aligned second network. Permutations leave the spectrum unchanged: this is computed anew,
   * so that it shows.
   */
  readonly aligned: Float64Array;
  /** The overlap of the top eigenspaces with the first network's, with what chance gives. */
  readonly overlap: {
    readonly before: SubspaceComparison | undefined;
    readonly after: SubspaceComparison;
  };
  /** Largest difference of the second's and the aligned second's eigenvalues, over the largest. */
  readonly invariance: number | undefined;
  readonly converged: boolean;
  readonly reason: string | undefined;
  readonly products: number;
}

/**
 * Top eigenvalues of both networks, and how far their top eigenspaces lie in one another before and
 * after alignment, beside the overlap of random spaces. H(P theta) = P H(theta) P^T: a permutation
 * turns eigenvectors with the units and leaves eigenvalues as they are.
 *
 * Costs three calls of `eigsh`, two where widths differ.
 *
 * @throws as `hessian` and `eigsh`
 */
export async function alignedSpectra(
  found: Alignment,
  data: DataSet,
  options?: AlignedSpectraOptions,
): Promise<AlignedSpectra> {
  checkAlignment("alignedSpectra", found);
  const checked = checkOptions("alignedSpectra", options, OPTIONS);
  const { k = 10, operator, precision, tol, seed, signal, onProgress } = checked;
  const make = operator ?? ((model: Model, on: DataSet) => hessian(model, on, { precision }));
  const { network, first, second, alignedState } = found.parts;
  let products = 0;
  const top = async (state: Float64Array | undefined): Promise<Eigenpairs | undefined> => {
    if (!state) return undefined;
    using model = network.modelAt(state);
    using A = make(model, data);
    const before = products;
    const pairs = await eigsh(A, {
      ...{ k: Math.min(k, A.dim), tol, seed, signal },
      onProgress:
        onProgress && ((step) => onProgress({ ...step, products: before + step.products })),
    });
    products += pairs.products;
    return pairs;
  };
  const a = (await top(first))!;
  const b = await top(second);
  const c = (await top(alignedState))!;
  const missing = [a, b, c].find((pairs) => pairs && !pairs.converged);
  const largest = b && Math.max(...Array.from(b.values, Math.abs));
  return {
    k: a.values.length,
    first: a.values,
    second: b?.values,
    aligned: c.values,
    overlap: { before: b && compareSubspaces(a, b), after: compareSubspaces(a, c) },
    invariance:
      b &&
      b.values.reduce((worst, x, i) => Math.max(worst, Math.abs(x - c.values[i]!)), 0) / largest!,
    converged: !missing,
    reason: missing?.reason,
    products,
  };
}
