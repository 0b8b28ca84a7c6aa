/** Lottery tickets: iterative pruning with rewinding, beside tickets that should lose. */
import { availableParallelism } from "node:os";
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { evaluator } from "../evaluator";
import type { Criterion } from "../masks/criteria";
import { scoredTensors } from "../masks/keep";
import { requireCriterion } from "../masks/make";
import type { Loss, LossName } from "../model/loss";
import type { Model } from "../model/model";
import { checkSubject, EVALUATE_OPTIONS, type RunOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import type { InitialOptions } from "./initial";
import { LotteryRun, pace, Workers } from "./lottery-run";
import { LotteryStore } from "./lottery-store";
import { TrainingSession } from "./session";
import type { Settings } from "./state-file";
import { type LotteryLevel, overSeeds, type TicketSummary } from "./ticket-figures";
import { hashOf, RECIPE_OPTIONS, type RecipeOptions, recipeOf, trainingWarnings } from "./train";

/**
 * What a ticket is compared with, at the same level and seed. "random": a random mask that keeps as
 * many of each tensor, at the same initial weights. "reinitialised": the ticket's mask at other
 * initial weights, trained from step 0. "one-shot": the mask pruned at once from the dense network.
 */
export const CONTROLS = ["random", "reinitialised", "one-shot"] as const;
export type Control = (typeof CONTROLS)[number];

/** How far a lottery is. */
export interface LotteryProgress {
  /** Runs that are finished, of all; those found in the folder count. */
  done: number;
  runs: number;
  /** Done share of the steps of this call. */
  fraction: number;
  seconds: number;
  /** About; at first from a few measured steps. */
  secondsLeft: number;
}

/** What a lottery is about to do. */
export interface LotteryPlan {
  readonly runs: number;
  /** That the folder holds already. */
  readonly reused: number;
  /** Of all runs that are to be made. */
  readonly steps: number;
  /** That this should take, from a few steps and an evaluation that were measured. */
  readonly seconds: number;
}

export interface LotteryOptions
  extends RecipeOptions,
    Pick<RunOptions, "precision" | "threads" | "maxMemory">,
    Pick<CallOptions, "signal">,
    Pick<InitialOptions, "scheme"> {
  /** The loss. Default: the model's. */
  loss?: LossName | Loss | undefined;
  /** Where tickets are compared. Default: the data they are trained on. */
  test?: DataSet | undefined;
  /** What the target array is called; default "y". */
  target?: string | undefined;
  /** How many networks of different initial weights and sample orders; default 5. */
  seeds?: number | undefined;
  /** Of the first of them; default 0. */
  seed?: number | undefined;
  /** The share of what is left that each round prunes; default 0.2. */
  share?: number | undefined;
  /** How many rounds; default 10. */
  rounds?: number | undefined;
  /** Shares to keep instead, from large to small. */
  keep?: readonly number[] | undefined;
  /** The step whose weights tickets are rewound to; default 0. */
  rewind?: number | undefined;
  /** Default "magnitude". */
  criterion?: Criterion | undefined;
  /** A round prunes its share of all weights together ("global", default) or of each tensor. */
  scope?: "global" | "layer" | undefined;
  /** Default "random" and "reinitialised". */
  controls?: readonly Control[] | undefined;
  /** Keeps masks, weights and results, so that another call goes on with what is missing. */
  folder?: string | undefined;
  /** Called once, before the first run. */
  onPlan?: ((plan: LotteryPlan) => void) | undefined;
  onProgress?: ((progress: LotteryProgress) => void) | undefined;
}

export interface Lottery {
  readonly levels: readonly LotteryLevel[];
  /** "rewound", then the controls. */
  readonly kinds: readonly string[];
  readonly seeds: readonly number[];
  readonly stepsPerRun: number;
  readonly runs: number;
  readonly reused: number;
  /** What was expected before the first run, and what it took. */
  readonly secondsExpected: number;
  readonly seconds: number;
  readonly warnings: readonly string[];
}

const inside: Check = {
  expected: "a share over 0 and below 1",
  fits: (value) => Number.isFinite(value) && (value as number) > 0 && (value as number) < 1,
};

const OPTIONS: { [K in keyof Required<LotteryOptions>]: Check } = {
  ...RECIPE_OPTIONS,
  precision: EVALUATE_OPTIONS.precision,
  threads: check.positiveInteger,
  maxMemory: check.positiveInteger,
  signal: CALL_OPTIONS.signal,
  scheme: check.oneOf("pytorch", "kaiming-normal", "xavier"),
  loss: check.anything, // checkLoss does it
  test: check.anything,
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
  seeds: check.positiveInteger,
  seed: check.naturalNumber,
  share: inside,
  rounds: check.positiveInteger,
  keep: {
    expected: "shares over 0 and below 1, from large to small",
    fits: (value) =>
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((x, i) => inside.fits(x) && (i === 0 || x < value[i - 1])),
  },
  rewind: check.naturalNumber,
  criterion: check.anything, // requireCriterion does it
  scope: check.oneOf("global", "layer"),
  controls: {
    expected: `some of ${CONTROLS.join(", ")}`,
    fits: (value) =>
      Array.isArray(value) &&
      value.every((name) => CONTROLS.includes(name)) &&
      new Set(value).size === value.length,
  },
  folder: { expected: "a folder", fits: (value) => typeof value === "string" && value !== "" },
  onPlan: check.function,
  onProgress: check.function,
};

/** The kept share after each round, from the dense network on. */
function levelsOf({ share = 0.2, rounds = 10, keep }: LotteryOptions): number[] {
  return keep
    ? [1, ...keep]
    : Array.from({ length: rounds + 1 }, (_, level) => (1 - share) ** level);
}

/**
 * Searches lottery tickets (Frankle and Carbin 2019; with `rewind`, Frankle et al. 2020): trains a
 * network from new initial weights, prunes a share of its weights, rewinds the others to what they
 * were at step `rewind`, and trains again, round by round; and trains tickets that should do worse,
 * for comparison. For each seed there is a run for the dense network, and one for each level and
 * kind of ticket. Runs are independent and take a thread each; results do not depend on how many
 * there are. Biases and normalisations are not pruned.
 *
 * ```ts
 * const { levels } = await lottery(model, data, {
 *   test, optimizer: "adam", learningRate: 0.0012, epochs: 5, rounds: 12, folder: "tickets",
 * });
 * levels.at(-1)!.tickets.random.difference; // mean, standard error and value by seed
 * ```
 *
 * @throws OptionError; DataMismatchError; NotConvergedError where a run diverges; AbortError
 */
export async function lottery(
  model: Model,
  data: DataSet,
  options?: LotteryOptions,
): Promise<Lottery> {
  const begin = performance.now();
  const given = checkOptions("lottery", options, OPTIONS);
  checkSubject("lottery", model, data);
  const { seeds: count = 5, seed: first = 0, rewind = 0, signal, test = data, target } = given;
  const { controls = ["random", "reinitialised"], precision, maxMemory, folder } = given;
  const { criterion = "magnitude", scope = "global", scheme = "pytorch", onPlan } = given;
  if (given.keep && (given.share !== undefined || given.rounds !== undefined))
    throw new OptionError("lottery: expected keep, or share and rounds, got both");
  requireCriterion("lottery: criterion", criterion);
  const recipe = recipeOf("lottery", given, data.samples);
  if (rewind > recipe.steps)
    throw new OptionError(`lottery: rewind: expected at most ${recipe.steps} steps, got ${rewind}`);
  const levels = levelsOf(given);
  const loss = given.loss ?? model.loss;
  const run = { precision, maxMemory, threads: 1, loss };
  const settings: Settings = {
    ...Object.fromEntries(
      Object.entries(recipe.rule).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, Array.isArray(value) ? value.join() : value]],
      ),
    ),
    ...{ rewind, criterion, scope, scheme, precision: precision ?? "float32" },
    ...{ model: model.parameters.map(({ name, shape }) => `${name} (${shape})`).join(", ") },
    ...{ data: `${data}`, test: `${test}`, steps: recipe.steps },
    loss: typeof loss === "object" ? JSON.stringify(loss) : `${loss}`,
    rates: hashOf(recipe.rates),
    levels: given.keep ? `keep ${given.keep.join()}` : `share ${given.share ?? 0.2}`,
  };
  const store = await LotteryStore.open(folder, model, settings);
  const seeds = Array.from({ length: count }, (_, i) => first + i);
  const kinds = ["rewound", ...controls];
  const keys = seeds.flatMap((seed) =>
    levels.flatMap((_, level) =>
      (level === 0 ? ["rewound"] : kinds).map((kind) => ({
        key: `seed-${seed}/level-${level}/${kind}`,
        level,
        kind,
      })),
    ),
  );
  const threads = Math.min(given.threads ?? availableParallelism(), seeds.length * kinds.length);
  using workers = new Workers(
    Array.from({ length: threads }, () => ({
      session: new TrainingSession("lottery", model, data, run),
      worth: evaluator(model, test, { ...run, target }),
    })),
  );
  let [steps, evaluations, reused] = [0, 0, 0];
  for (const { key, level, kind } of keys) {
    if (await store.found(key)) reused++;
    else {
      evaluations++;
      steps += recipe.steps - (level === 0 || kind === "reinitialised" ? 0 : rewind);
    }
  }
  const runs = keys.length;
  const stop = new AbortController();
  const onAbort = () => stop.abort(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  const work = new LotteryRun(data, { model, options: given, recipe }, workers, store, stop);
  try {
    let seconds = 0;
    if (evaluations > 0) {
      const { step, evaluation } = await pace(workers.all, model, recipe, stop.signal);
      seconds = (step * steps + evaluation * evaluations) / threads;
    }
    work.plan = { runs, reused, steps, seconds };
    onPlan?.(work.plan);
    await work.run(seeds, levels, controls);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }

  const scored = scoredTensors("lottery", model.parameters, {});
  const prunable = model.parameters.reduce((sum, { size }, i) => sum + (scored[i] ? size : 0), 0);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const summary = (level: number, kind: string): TicketSummary => {
    const all = (of: string) =>
      seeds.map((seed) => work.results.get(`seed-${seed}/level-${level}/${of}`)!);
    const accurate = all(kind).every(({ accuracy }) => accuracy !== null);
    const measured = (of: string) =>
      all(of).map(({ accuracy, loss }) => (accurate ? accuracy! : (loss ?? Number.NaN)));
    const here = measured(kind);
    return {
      loss: overSeeds(all(kind).map(({ loss }) => loss ?? Number.NaN)),
      accuracy: accurate ? overSeeds(here) : undefined,
      difference:
        kind === "rewound"
          ? undefined
          : overSeeds(measured("rewound").map((value, i) => value - here[i]!)),
    };
  };
  return {
    levels: levels.map((keep, level) => {
      const masks = seeds.flatMap((seed) => {
        const mask = work.masks.get(`seed-${seed}/level-${level}/mask`);
        return mask ? [mask] : [];
      });
      const kept = masks.map((mask) =>
        mask.layers().reduce((sum, layer, i) => sum + (scored[i] ? layer.kept : 0), 0),
      );
      const left = level === 0 ? prunable : mean(kept);
      return {
        ...{ level, keep, kept: left, share: left / prunable },
        collapsed: [...new Set(masks.flatMap((mask) => mask.collapsed()))],
        tickets: Object.fromEntries(
          (level === 0 ? ["rewound"] : kinds).map((kind) => [kind, summary(level, kind)]),
        ),
      };
    }),
    ...{ kinds, seeds, runs, reused: work.reused },
    stepsPerRun: recipe.steps,
    secondsExpected: work.plan.seconds,
    seconds: (performance.now() - begin) / 1000,
    warnings: trainingWarnings(model),
  };
}
