/** Learning rates over the steps of a run. */
import { OptionError } from "../errors";
import { describe } from "../options";

/**
 * How the learning rate goes over a run of T steps, from `learningRate` at step 0:
 *
 * - "constant" (default);
 * - "cosine": to `end` (default 0), end + (rate - end) (1 + cos(pi t / T)) / 2
 *   (Loshchilov and Hutter 2017; torch's CosineAnnealingLR with T_max = T);
 * - "linear": to `end` in a straight line;
 * - "step": times `factor` (default 0.1) after each `every` steps (torch's StepLR);
 * - a list of [step, rate]: that rate from that step on, and `learningRate` before the first.
 */
export type Schedule =
  | "constant"
  | "cosine"
  | "linear"
  | { readonly kind: "constant" }
  | { readonly kind: "cosine" | "linear"; readonly end?: number | undefined }
  | { readonly kind: "step"; readonly every: number; readonly factor?: number | undefined }
  | readonly (readonly [step: number, rate: number])[];

export interface RateOptions {
  learningRate: number;
  schedule?: Schedule | undefined;
  /** So many steps of linear warm-up: the rate of step t < warmup is times (t + 1) / warmup. */
  warmup?: number | undefined;
}

type Rule = (t: number, steps: number, rate: number) => number;

const isRate = (value: unknown): value is number =>
  Number.isFinite(value) && (value as number) >= 0;
const isStep = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;

function ruleOf(where: string, schedule: Schedule): Rule {
  const fail = (expected: string, got: unknown): never => {
    throw new OptionError(`${where}: schedule: expected ${expected}, got ${describe(got)}`);
  };
  if (Array.isArray(schedule)) {
    const points = schedule as readonly (readonly [number, number])[];
    points.forEach((point, i) => {
      const fits = Array.isArray(point) && point.length === 2 && isStep(point[0]);
      if (!fits || !isRate(point[1]))
        fail("[step, rate], a whole number and a number of at least 0", point);
      if (i > 0 && point[0] <= points[i - 1]![0]) fail("steps in ascending order", point[0]);
    });
    return (t, _, rate) => points.findLast(([step]) => step <= t)?.[1] ?? rate;
  }
  const given = (typeof schedule === "string" ? { kind: schedule } : schedule) as {
    kind?: unknown;
    end?: unknown;
    every?: unknown;
    factor?: unknown;
  };
  if (typeof given !== "object" || given === null) fail("a name or an object", schedule);
  const { kind, end = 0, every, factor = 0.1 } = given;
  if (!isRate(end)) return fail("end to be a number of at least 0", end);
  switch (kind) {
    case "constant":
      return (_, __, rate) => rate;
    case "cosine":
      return (t, steps, rate) => end + ((rate - end) * (1 + Math.cos((Math.PI * t) / steps))) / 2;
    case "linear":
      return (t, steps, rate) => rate + ((end - rate) * t) / steps;
    case "step":
      if (!isStep(every) || every < 1) return fail("every, a number of steps", every);
      if (!isRate(factor)) return fail("factor to be a number of at least 0", factor);
      return (t, _, rate) => rate * factor ** Math.floor(t / every);
    default:
      return fail('one of "constant", "cosine", "linear", "step", or a list of [step, rate]', kind);
  }
}

/**
 * @internal The rate of each step of a run, from step 0.
 *
 * @throws OptionError
 */
export function learningRates(
  where: string,
  steps: number,
  { learningRate, schedule = "constant", warmup = 0 }: RateOptions,
): Float64Array {
  const rule = ruleOf(where, schedule);
  return Float64Array.from(
    { length: steps },
    (_, t) => rule(t, steps, learningRate) * (t < warmup ? (t + 1) / warmup : 1),
  );
}
