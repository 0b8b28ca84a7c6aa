/** Curvature of sub-networks: at the trained network, at the pruned one, and when the rest follows. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { exactDiagonal } from "../exact";
import type { Checkpoint } from "../landscape/directions";
import { parameterVector } from "../landscape/directions";
import { LinearOperator } from "../linear-operator";
import { keepBy } from "../masks/keep";
import { Mask, requireAlike } from "../masks/mask";
import { type MaskedOptions, maskedParameters, type Spread, spreadOf } from "../masks/worth";
import type { Model } from "../model/model";
import { EVALUATE_OPTIONS, type EvaluateOptions, ggn, gradient, loss } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";
import { type Eigenpairs, eigsh } from "../spectra";
import {
  inverseParticipation,
  type MaskOverlap,
  maskOverlap,
  tensorShares,
} from "../subspaces/subspaces";
import { sum } from "../vectors";
import { type ConditionalCurvature, conditionalCurvature } from "./conditional";
import {
  type EndSpectrum,
  type Interlacing,
  interlacing,
  type SolvedSpectrum,
  spectrumOf,
} from "./spectrum";

export interface MaskedCurvatureOptions
  extends EvaluateOptions,
    Pick<MaskedOptions, "pruned" | "kept"> {
  /** Makes the operator of the network at a place, over all its parameters. Default: the ggn. */
  operator?: ((model: Model) => LinearOperator) | undefined;
  /** How many eigenvalues where not all are computed, and eigenvectors. Default 10. */
  k?: number | undefined;
  /** All eigenvalues are computed of matrices up to this order. Default 500. */
  maxExact?: number | undefined;
  /**
   * Whether the curvature when the rest follows is computed too (`conditionalCurvature`). Default:
   * up to maxExact parameters, where it is exact.
   */
  conditional?: boolean | undefined;
  /** Of the conditional curvature, as a share of the largest eigenvalue. Default as there. */
  damping?: number | undefined;
  /** The parameters that training began with, where pruned or kept weights are those. */
  initial?: Checkpoint | undefined;
  /** Random masks that overlaps are held against. Default 200. */
  draws?: number | undefined;
  /** Random masks whose largest eigenvalues are computed as well. Default 0. */
  random?: number | undefined;
  /** Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<MaskedCurvatureOptions>]: Check } = {
  ...EVALUATE_OPTIONS,
  ...CALL_OPTIONS,
  pruned: check.anything, // maskedParameters does these
  kept: check.anything,
  initial: check.anything,
  operator: check.function,
  k: check.positiveInteger,
  maxExact: check.positiveInteger,
  conditional: check.boolean,
  damping: check.notNegative,
  draws: check.positiveInteger,
  random: check.naturalNumber,
  seed: check.seed,
};

/** One of the leading eigenvectors of the whole operator. */
export interface MaskedVector {
  readonly value: number;
  /** Of its square on the mask. */
  readonly energy: number;
  readonly lift: number;
  /** Against random masks with as many entries of each tensor. */
  readonly z: number;
  /** Inverse participation ratio, and what it is of a random vector. */
  readonly participation: number;
  readonly participationByChance: number;
}

/** A tensor's part in the mask and in the leading eigenvectors. */
export interface MaskedTensor {
  readonly name: string;
  readonly size: number;
  readonly kept: number;
  /** Of the leading eigenvectors' squares, and by chance. */
  readonly share: number;
  readonly expected: number;
  /** Of the trace; undefined where the diagonal is not known exactly. */
  readonly traceShare: number | undefined;
}

/** What happens to the loss when the weights that the mask does not keep are taken away. */
export interface PruningCost {
  readonly before: number;
  readonly after: number;
  /** What g^T d and d^T A d / 2 say of it, for the step d to the pruned network. */
  readonly linear: number;
  readonly quadratic: number;
}

export interface MaskedCurvature {
  /** Its name. */
  readonly operator: string;
  readonly dim: number;
  /** How many parameters the mask keeps. */
  readonly kept: number;
  /** At the network as it is: the operator, and its rows and columns of the mask. */
  readonly whole: EndSpectrum;
  readonly dense: EndSpectrum;
  /** The same rows and columns of the operator at the pruned network. */
  readonly pruned: EndSpectrum;
  /** The largest eigenvalues of the same for random masks that keep as many of each tensor. */
  readonly random: { readonly dense: Spread; readonly pruned: Spread } | undefined;
  /** `dense` against `whole`. */
  readonly interlacing: Interlacing;
  /** Of the space of the leading eigenvectors. */
  readonly overlap: MaskOverlap;
  readonly vectors: readonly MaskedVector[];
  readonly tensors: readonly MaskedTensor[];
  /**
   * Of the trace on the mask, tr(M A M) / tr A, against random masks; undefined where the diagonal is
   * not known exactly (Hessians).
   */
  readonly traceOverlap: MaskOverlap | undefined;
  readonly conditional: ConditionalCurvature | undefined;
  readonly cost: PruningCost;
  readonly converged: boolean;
  readonly reason: string;
  readonly products: number;
  readonly seconds: number;
}

function withoutVectors({ top: _, ...rest }: SolvedSpectrum): EndSpectrum {
  return rest;
}

function reasonsOf(
  spectra: Record<string, Pick<EndSpectrum, "converged" | "reason"> | undefined>,
): string[] {
  return Object.entries(spectra).flatMap(([name, solved]) =>
    !solved || solved.converged ? [] : [`${name}: ${solved.reason}`],
  );
}

/** Streams of one seed. */
const RANDOM_MASKS = 42;

/** Largest eigenvalues of random masks that keep as many of each tensor, at both places. */
async function largestOfRandom(
  count: number,
  mask: Mask,
  seed: number | bigint,
  solve: (mask: Mask) => Promise<Eigenpairs[]>,
) {
  if (count === 0) return undefined;
  const random = new Random(seed, RANDOM_MASKS);
  const parameters = mask.parameters.map((of) => ({ ...of, shape: of.shape ?? [of.size] }));
  const found: Eigenpairs[][] = [];
  for (let draw = 0; draw < count; draw++) {
    const scores = new Float64Array(mask.size).map(() => random.uniform());
    found.push(
      await solve(keepBy("maskedCurvature", parameters, scores, { counts: mask, minRank: 0 })),
    );
  }
  const all = found.flat();
  const spread = (at: number) => spreadOf(found.map((pairs) => pairs[at]!.values[0]!));
  return {
    ...{ dense: spread(0), pruned: spread(1) },
    products: all.reduce((sum, { products }) => sum + products, 0),
    unsolved: { "a random mask": all.find(({ converged }) => !converged) },
  };
}

/**
 * The curvature of a sub-network: the spectrum of A_MM, rows and columns of the operator at the
 * weights that the mask keeps, once at the trained network and once at the pruned one, where the
 * other weights are zero. The first says how the loss bends along the sub-network's weights where
 * training ended, the second what a training of the sub-network alone would meet. Beside them how the
 * leading eigenvectors of the whole operator lie to the mask, held against random masks that keep as
 * many entries of each tensor, and what pruning costs.
 *
 * ```ts
 * const found = await maskedCurvature(model, data, ticket);
 * found.overlap.z; found.dense.values; found.pruned.values;
 * ```
 *
 * Costs three spectra (`exactSpectrum` where the matrix is of order up to `maxExact`, else `eigsh`;
 * traces exactly for Gauss-Newton and Fisher matrices, else from products), two losses and a
 * gradient, and `conditionalCurvature`.
 *
 * @throws OptionError; what these throw; AbortError
 */
export async function maskedCurvature(
  model: Model,
  data: DataSet,
  mask: Mask,
  options?: MaskedCurvatureOptions,
): Promise<MaskedCurvature> {
  const where = "maskedCurvature";
  const begin = performance.now();
  const checked = checkOptions(where, options, OPTIONS);
  const { pruned: how, kept, initial, k = 10, maxExact = 500, draws, seed = 0 } = checked;
  const { loss: lossName, precision, threads, batch, maxMemory, keepLinearisation } = checked;
  const run = { loss: lossName, precision, threads, batch, maxMemory, keepLinearisation };
  const make = checked.operator ?? ((at: Model) => ggn(at, data, run));
  const theta = parameterVector(model);
  requireAlike(where, new Mask(model.parameters, mask?.bits ?? []), mask);
  if (mask.count === 0)
    throw new OptionError(`${where}: mask: expected one that keeps a parameter, got none`);
  const there = maskedParameters(model, mask, { pruned: how, kept, initial });
  const parts = spectraProgress(checked, 3);
  const call = { signal: checked.signal };

  using at = model.withParameters(there);
  using here = operatorAt(where, make, model);
  using elsewhere = operatorAt(where, make, at);
  using part = here.restrict(mask);
  using partThere = elsewhere.restrict(mask);
  const diagonal = await diagonalOf(here, call);
  const solve = { k, maxExact, seed, definite: diagonal !== undefined };
  const [traceHere, tracePart] = [diagonal && sum(diagonal), massOn(mask, diagonal)];
  const traceThere = massOn(mask, await diagonalOf(elsewhere, call));
  const whole = await spectrumOf(here, { ...solve, vectors: true, trace: traceHere, ...parts() });
  const dense = await spectrumOf(part, { ...solve, trace: tracePart, ...parts() });
  const pruned = await spectrumOf(partThere, { ...solve, trace: traceThere, ...parts() });

  const cost = await costOf(model, at, data, here, { theta, there }, { ...run, ...call });
  const { conditional: wanted = model.parameterCount <= maxExact, damping } = checked;
  const conditional =
    wanted && mask.count < mask.size
      ? await conditionalCurvature(here, mask, {
          ...{ maxExact, damping, k: Math.min(k, 5), seed, ...call },
          direction: theta,
        })
      : undefined;
  const random = await largestOfRandom(checked.random ?? 0, mask, seed, async (other) => {
    using moved = model.withParameters(
      maskedParameters(model, other, { pruned: how, kept, initial }),
    );
    using operator = operatorAt(where, make, moved);
    const found: Eigenpairs[] = [];
    for (const at of [here, operator]) {
      using restricted = at.restrict(other);
      found.push(await eigsh(restricted, { k: 1, which: "LA", seed, ...call }));
    }
    return found;
  });
  const reasons = reasonsOf({ whole, dense, pruned, ...random?.unsolved });
  if (conditional && !conditional.converged) reasons.push(`conditional: ${conditional.reason}`);
  const products = [whole, dense, pruned, conditional, random].reduce(
    (sum, of) => sum + (of?.products ?? 0),
    1,
  );
  return {
    ...{ operator: here.name, dim: here.dim, kept: mask.count },
    ...{ whole: withoutVectors(whole), dense: withoutVectors(dense) },
    pruned: withoutVectors(pruned),
    random: random && { dense: random.dense, pruned: random.pruned },
    interlacing: interlacing(whole, dense),
    overlap: maskOverlap(whole.top, mask, { draws, seed }),
    vectors: vectorsOf(whole.top, mask),
    tensors: tensorsOf(model, mask, whole.top, diagonal),
    traceOverlap: diagonal?.some((x) => x > 0)
      ? maskOverlap({ vectors: diagonal.map(Math.sqrt), dim: here.dim }, mask, { draws, seed })
      : undefined,
    ...{ conditional, cost },
    ...{ converged: reasons.length === 0, reason: reasons.join("; "), products },
    seconds: (performance.now() - begin) / 1000,
  };
}

/** Exactly, of sums of squares over samples, which have no negative eigenvalue either. */
async function diagonalOf(
  operator: LinearOperator,
  call: CallOptions,
): Promise<Float64Array | undefined> {
  if (!operator.native.sumsRows) return undefined;
  const { diagonal } = await exactDiagonal(operator, call);
  return diagonal.map((x) => Math.max(0, x));
}

function massOn({ bits }: Mask, diagonal: Float64Array | undefined): number | undefined {
  return diagonal?.reduce((sum, x, i) => (bits[i] ? sum + x : sum), 0);
}

function operatorAt(
  where: string,
  make: (model: Model) => LinearOperator,
  model: Model,
): LinearOperator {
  const operator = make(model);
  const dim = operator instanceof LinearOperator ? operator.dim : undefined;
  if (dim !== model.parameterCount)
    throw new OptionError(
      `${where}: operator: expected a function that gives an operator over all ` +
        `${model.parameterCount} parameters, got ${dim === undefined ? describe(operator) : `one of dimension ${dim}`}`,
    );
  return operator;
}

/** Products and shares of several calls as those of one. */
function spectraProgress({ signal, onProgress }: CallOptions, count: number): () => CallOptions {
  let done = -1;
  let before = 0;
  let last = 0;
  const begin = performance.now();
  return () => {
    done++;
    before += last;
    last = 0;
    return {
      signal,
      onProgress:
        onProgress &&
        (({ products }) => {
          last = products;
          const seconds = (performance.now() - begin) / 1000;
          onProgress({ products: before + products, fraction: done / count, seconds });
        }),
    };
  };
}

async function costOf(
  model: Model,
  at: Model,
  data: DataSet,
  operator: LinearOperator,
  { theta, there }: { theta: Float64Array; there: Float64Array },
  options: EvaluateOptions,
): Promise<PruningCost> {
  const step = there.map((x, i) => x - theta[i]!);
  const { loss: before, gradient: g } = await gradient(model, data, options);
  const after = await loss(at, data, options);
  const d = operator.dtype === "float32" ? Float32Array.from(step) : step;
  const bent = await operator.apply(d, { signal: options.signal });
  const product = (v: ArrayLike<number>) => step.reduce((sum, x, i) => sum + x * v[i]!, 0);
  return { before, after, linear: product(g), quadratic: product(bent) / 2 };
}

function vectorsOf(top: SolvedSpectrum["top"], mask: Mask): MaskedVector[] {
  const { values, vectors, dim } = top;
  const participation = inverseParticipation(top);
  return Array.from(values, (value, i) => {
    const one = { vectors: vectors.subarray(i * dim, (i + 1) * dim), dim };
    const { energy, lift, z } = maskOverlap(one, mask, { draws: 1 });
    const participationByChance = 3 / (dim + 2);
    return { value, energy, lift, z, participation: participation[i]!, participationByChance };
  });
}

function tensorsOf(
  model: Model,
  mask: Mask,
  top: SolvedSpectrum["top"],
  diagonal: Float64Array | undefined,
): MaskedTensor[] {
  const shares = tensorShares(top, model.parameters);
  const whole = (diagonal && sum(diagonal)) || Number.NaN;
  return mask.layers().map(({ name, size, kept }, i) => {
    const { mean: share, expected } = shares[i]!;
    const { offset } = model.parameters[i]!;
    const traceShare = diagonal && sum(diagonal.subarray(offset, offset + size)) / whole;
    return { name, size, kept, share, expected, traceShare };
  });
}
