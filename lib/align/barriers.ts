/** Loss barriers between two networks before and after alignment. */
import { CALL_OPTIONS } from "../call";
import type { DataSet } from "../data/data";
import { type Evaluation, type EvaluatorOptions, evaluator } from "../evaluator";
import { type Interpolation, interpolate } from "../landscape/landscape";
import { layersOf } from "../model/units";
import { EVALUATE_OPTIONS, type EvaluateOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { type Alignment, checkAlignment } from "./align";
import { recomputedStatistics } from "./statistics";

export interface BarrierOptions extends EvaluateOptions, Pick<EvaluatorOptions, "target"> {
  /** Steps between the networks, both included. Default 11. */
  points?: number | undefined;
  /** Whether to interpolate each layer alone as well. Default false. */
  layers?: boolean | undefined;
  /**
   * Running statistics of BatchNormalization on the lines: "interpolated" along with the parameters
   * (default), or "recomputed" at each step, the ends and the fused network included, from the
   * activations there (Jordan et al. 2023): those half way are not the mean of the ends'.
   */
  statistics?: "interpolated" | "recomputed" | undefined;
  /** What they are recomputed on. Default: the data of the barriers. */
  statisticsData?: DataSet | undefined;
}

const OPTIONS: { [K in keyof Required<BarrierOptions>]: Check } = {
  ...EVALUATE_OPTIONS,
  ...CALL_OPTIONS,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
  points: {
    expected: "a whole number of at least 3",
    fits: (value) => Number.isSafeInteger(value) && (value as number) >= 3,
  },
  layers: check.boolean,
  statistics: check.oneOf("interpolated", "recomputed"),
  statisticsData: {
    expected: "data of loadData",
    fits: (value) => (value as DataSet)?.native !== undefined,
  },
};

/** The loss between the first network, at step 0, and another, at step 1. */
export type BarrierLine = Pick<Interpolation, "steps" | "losses" | "barrier" | "at">;

export interface Barrier extends BarrierLine {
  /** Half way, which is where the fused network of equal shares lies. */
  readonly middle: Evaluation;
}

/** The lines when only the tensors of one layer move (Adilova et al. 2024). */
export interface LayerBarrier {
  readonly layer: string;
  readonly naive: BarrierLine | undefined;
  readonly aligned: BarrierLine;
}

export interface AlignmentBarriers {
  readonly first: Evaluation;
  /** The second network; undefined where its widths differ. */
  readonly second: Evaluation | undefined;
  /** The aligned second network: for permutations as the second, to rounding. */
  readonly aligned: Evaluation;
  /** The fused network: see `share` of `align`. */
  readonly fused: Evaluation;
  readonly barriers: {
    /** To the second network as it is; undefined where its widths differ. */
    readonly naive: Barrier | undefined;
    readonly aligned: Barrier;
  };
  readonly layers: readonly LayerBarrier[] | undefined;
}

/** Losses at evenly spread steps from 0 to 1, and their barrier, as `interpolate` has them. */
async function recomputedLine(
  points: number,
  lossAt: (t: number) => Promise<number>,
): Promise<BarrierLine> {
  const steps = Float64Array.from({ length: points }, (_, i) => i / (points - 1));
  const losses = new Float64Array(points);
  for (const [i, t] of steps.entries()) losses[i] = await lossAt(t);
  const [start, end] = [losses[0]!, losses[points - 1]!];
  let [barrier, at] = [0, 0];
  losses.forEach((loss, i) => {
    const height = loss - (1 - steps[i]!) * start - steps[i]! * end;
    const inside = i > 0 && i < points - 1;
    if (inside && (height > barrier || Number.isNaN(height))) [barrier, at] = [height, steps[i]!];
  });
  return { steps, losses, barrier, at };
}

/**
 * The loss along the straight lines from the first network to the second one as it is and as it was
 * aligned, with their barriers: the largest height above the chord between the ends (Frankle et al.
 * 2020; Entezari et al. 2022). Buffers such as running statistics are interpolated along, unless
 * `statistics` says otherwise.
 *
 * Costs a forward pass a step and line, and two for each of the ends and middles; recomputed
 * statistics one more for each normalisation and step.
 *
 * @param data to be told apart: barriers on training data and on test data are two calls
 * @throws as `interpolate`
 */
export async function alignmentBarriers(
  found: Alignment,
  data: DataSet,
  options?: BarrierOptions,
): Promise<AlignmentBarriers> {
  checkAlignment("alignmentBarriers", found);
  const checked = checkOptions("alignmentBarriers", options, OPTIONS);
  const { points = 11, layers = false, statistics, statisticsData = data, ...others } = checked;
  const { target, signal, onProgress, ...run } = others;
  const { network, first, second, alignedState } = found.parts;
  const { whole } = network;
  using worth = evaluator(whole, data, { ...run, target });
  const worthAt = (state: Float64Array) => worth.at(state, { signal });
  const recompute = statistics === "recomputed";
  const { precision, threads, maxMemory } = run;
  const settled = async (state: Float64Array) =>
    recompute
      ? recomputedStatistics(network, state, statisticsData, {
          ...{ precision, threads, maxMemory, signal },
        })
      : state;
  const between = (to: Float64Array, share: number) =>
    first.map((x, i) => x + share * (to[i]! - x));

  const names = layers ? [...layersOf(whole.parameters)] : [];
  const lines = (second ? 2 : 1) * (1 + names.length);
  let done = 0;
  const begin = performance.now();
  const line = async (to: Float64Array): Promise<BarrierLine> => {
    const progress =
      onProgress &&
      ((fraction: number) =>
        onProgress({
          products: 0,
          fraction: (done + fraction) / lines,
          seconds: (performance.now() - begin) / 1000,
        }));
    const along = recompute
      ? await recomputedLine(points, async (t) => {
          progress?.(t);
          return (await worthAt(await settled(between(to, t)))).loss;
        })
      : await interpolate(
          whole,
          data,
          to.map((x, i) => x - first[i]!),
          {
            ...run,
            ...{ points, signal, quadratic: false },
            onProgress: progress && (({ fraction = 0 }) => progress(fraction)),
          },
        );
    done++;
    const { steps, losses, barrier, at } = along;
    return { steps, losses, barrier, at };
  };
  const barrierTo = async (to: Float64Array): Promise<Barrier> => {
    return { ...(await line(to)), middle: await worthAt(await settled(between(to, 0.5))) };
  };
  const naive = second && (await barrierTo(second));
  const aligned = await barrierTo(alignedState);
  const byLayer: LayerBarrier[] = [];
  for (const [layer, tensors] of names) {
    const only = (to: Float64Array) => {
      const state = first.slice();
      for (const { offset, size } of tensors) state.set(to.subarray(offset, offset + size), offset);
      return state;
    };
    byLayer.push({
      layer,
      naive: second && (await line(only(second))),
      aligned: await line(only(alignedState)),
    });
  }
  return {
    first: await worthAt(first),
    second: second && (await worthAt(second)),
    aligned: await worthAt(alignedState),
    fused: await worthAt(await settled(found.fusedState())),
    barriers: { naive, aligned },
    layers: layers ? byLayer : undefined,
  };
}
