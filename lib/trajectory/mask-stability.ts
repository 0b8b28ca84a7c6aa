/** When in training a sub-network appears: masks along a path against the last one. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { OptionError } from "../errors";
import { maskIoU } from "../masks/compare";
import { type Criterion, TABLE } from "../masks/criteria";
import { KEEP_OPTIONS } from "../masks/keep";
import { type MaskOptions, masks, requireCriterion, SCORE_OPTIONS } from "../masks/make";
import type { Mask } from "../masks/mask";
import { type Check, checkOptions } from "../options";
import { requireTrajectory, type Trajectory } from "./trajectory";

export interface MaskStabilityOptions
  extends Omit<
    MaskOptions,
    | "name"
    | "initial"
    | "criterion"
    | "gradient"
    | "initialGradient"
    | "diagonal"
    | "vectors"
    | "curvature"
  > {
  /** Default magnitude. Those that compare with initial weights take the first checkpoint's. */
  criteria?: readonly Criterion[] | undefined;
  /** A mask has settled when its IoU with the last is at least this, and stays so. Default 0.9. */
  threshold?: number | undefined;
}

/** Made of a model elsewhere on the path, and so no options here. */
const {
  name: _name,
  initial: _initial,
  gradient: _gradient,
  initialGradient: _initialGradient,
  diagonal: _diagonal,
  vectors: _vectors,
  curvature: _curvature,
  ...MASK_OPTIONS
} = { ...KEEP_OPTIONS, ...SCORE_OPTIONS };

const OPTIONS: { [K in keyof Required<MaskStabilityOptions>]: Check } = {
  ...MASK_OPTIONS,
  ...CALL_OPTIONS,
  criteria: {
    expected: "names of criteria",
    fits: (value) => Array.isArray(value) && value.length > 0,
  },
  threshold: {
    expected: "a number from 0 to 1",
    fits: (value) => typeof value === "number" && value >= 0 && value <= 1,
  },
};

/** Overlaps of T masks with the last; NaN where a criterion has no mask yet. */
export interface OverlapCurve {
  readonly name: string;
  readonly iou: Float64Array;
  /** Of random masks with the same numbers kept. */
  readonly chance: Float64Array;
}

export interface MaskStability extends OverlapCurve {
  readonly criterion: Criterion;
  readonly steps: Float64Array;
  /** The intersection less its expectation over its standard deviation. */
  readonly z: Float64Array;
  /** With the mask of the next checkpoint, T - 1. */
  readonly next: Float64Array;
  /** By tensor that is pruned. */
  readonly layers: readonly OverlapCurve[];
  /** The first checkpoint from which iou stays at or above the threshold; the last at the latest. */
  readonly settled: { readonly checkpoint: number; readonly step: number };
  readonly threshold: number;
  /** The last mask. */
  readonly final: Mask;
}

/**
 * The masks of criteria at every checkpoint, against those at the last: intersection over union, with
 * its chance level, whole and by tensor, and from when on it is nearly the final mask.
 *
 * Criteria of change take the first checkpoint as initial weights, and have no mask there. Costs as
 * `mask` at each checkpoint: nothing for criteria of weights alone.
 *
 * @throws as `mask` and `loadCheckpoint`
 */
export async function maskStability(
  path: Trajectory,
  options: MaskStabilityOptions,
): Promise<MaskStability[]> {
  requireTrajectory("maskStability", path);
  const {
    criteria = ["magnitude"],
    threshold = 0.9,
    ...rest
  } = checkOptions("maskStability", options, OPTIONS);
  const names = criteria.map((name) => requireCriterion("maskStability", name));
  if (new Set(names).size < names.length)
    throw new OptionError(`maskStability: criteria: expected each once, got ${names.join(", ")}`);
  const { signal, onProgress } = rest as CallOptions;
  const begin = performance.now();
  const initial = await path.parameters(0, { signal });
  const at = async (t: number): Promise<(Mask | undefined)[]> => {
    using model = await path.at(t, { signal });
    const ready = names.filter((name) => t > 0 || !needsChange(name));
    const made =
      ready.length === 0
        ? []
        : await masks(model, ready, { ...rest, onProgress: undefined, initial });
    return names.map((name) => made[ready.indexOf(name)]);
  };
  const T = path.length;
  const final = (await at(T - 1)) as Mask[];
  const blank = () => new Float64Array(T).fill(Number.NaN);
  const curves = names.map((criterion, c) => ({
    ...{ criterion, name: criterion, steps: path.steps.slice(), threshold, final: final[c]! },
    ...{ iou: blank(), chance: blank(), z: blank(), next: blank().subarray(1) },
    layers: maskIoU(final[c]!, final[c]!).layers.map(({ name }) => ({
      ...{ name, iou: blank(), chance: blank() },
    })),
  }));
  let before: (Mask | undefined)[] = [];
  for (let t = 0; t < T; t++) {
    const made = t === T - 1 ? final : await at(t);
    made.forEach((mask, c) => {
      if (!mask) return;
      const curve = curves[c]!;
      const found = maskIoU(mask, curve.final);
      curve.iou[t] = found.iou;
      curve.chance[t] = found.chance;
      curve.z[t] = found.z;
      for (const layer of curve.layers) {
        const same = found.layers.find(({ name }) => name === layer.name);
        // Tensors that both keep whole are left out.
        layer.iou[t] = same?.iou ?? 1;
        layer.chance[t] = same?.chance ?? 1;
      }
      if (before[c]) curve.next[t - 1] = maskIoU(before[c]!, mask).iou;
    });
    before = made;
    onProgress?.({
      products: 0,
      fraction: (t + 1) / T,
      seconds: (performance.now() - begin) / 1000,
    });
  }
  return curves.map((curve) => ({ ...curve, settled: settledAt(curve.iou, threshold, path) }));
}

/** Whether a criterion compares with the initial weights, so that these have no mask themselves. */
function needsChange(name: Criterion): boolean {
  const needs = TABLE[name].needs as readonly string[];
  return needs.includes("initial") && needs.includes("final");
}

function settledAt(iou: Float64Array, threshold: number, path: Trajectory) {
  let checkpoint = iou.length - 1;
  while (checkpoint > 0 && iou[checkpoint - 1]! >= threshold) checkpoint--;
  return { checkpoint, step: path.steps[checkpoint]! };
}
