/** The runs of a lottery: a chain of rounds a seed, tickets to compare with beside it. */
import type { DataSet } from "../data/data";
import type { Evaluator } from "../evaluator";
import { mask as makeMask } from "../masks/make";
import type { Mask } from "../masks/mask";
import type { Model } from "../model/model";
import { initialParameters } from "./initial";
import type { Control, LotteryOptions, LotteryPlan } from "./lottery";
import type { LotteryStore, TicketRun } from "./lottery-store";
import type { StepRule, TrainingSession } from "./session";
import type { Recipe } from "./train";

/** What one thread works with. */
export interface Worker {
  session: TrainingSession;
  worth: Evaluator;
}

/** Lends workers to whoever asks, in turn. */
export class Workers {
  readonly #free: Worker[];
  readonly #waiting: ((worker: Worker) => void)[] = [];

  constructor(readonly all: readonly Worker[]) {
    this.#free = [...all];
  }

  async use<T>(work: (worker: Worker) => Promise<T>): Promise<T> {
    const worker =
      this.#free.pop() ?? (await new Promise<Worker>((lend) => this.#waiting.push(lend)));
    try {
      return await work(worker);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(worker);
      else this.#free.push(worker);
    }
  }

  [Symbol.dispose](): void {
    for (const { session, worth } of this.all) {
      session.dispose();
      worth.dispose();
    }
  }
}

/** A run: what it begins with, and from which step. */
interface Start {
  theta: Float64Array;
  step: number;
  mask: Mask | undefined;
}

export class LotteryRun {
  readonly #model: Model;
  readonly #options: LotteryOptions;
  readonly #recipe: Recipe;
  readonly #workers: Workers;
  readonly #store: LotteryStore;
  readonly #began = performance.now();
  readonly results = new Map<string, TicketRun>();
  readonly masks = new Map<string, Mask>();
  reused = 0;
  /** The first error; the other runs are stopped then. */
  failure: unknown;
  readonly #stop: AbortController;
  /** Finished runs, steps of this call, and of those under way. */
  #done = 0;
  #stepsDone = 0;
  readonly #running = new Map<object, number>();
  plan: LotteryPlan = { runs: 0, reused: 0, steps: 0, seconds: 0 };

  constructor(
    readonly data: DataSet,
    given: { model: Model; options: LotteryOptions; recipe: Recipe },
    workers: Workers,
    store: LotteryStore,
    stop: AbortController,
  ) {
    this.#stop = stop;
    this.#model = given.model;
    this.#options = given.options;
    this.#recipe = given.recipe;
    this.#workers = workers;
    this.#store = store;
  }

  #rule(seed: number, mask: Mask | undefined): StepRule {
    return { ...this.#recipe.rule, seed, keep: mask?.bits };
  }

  #report(): void {
    const { onProgress } = this.#options;
    if (!onProgress) return;
    const { runs, steps, seconds: expected } = this.plan;
    const seconds = (performance.now() - this.#began) / 1000;
    const made = [...this.#running.values()].reduce((a, b) => a + b, this.#stepsDone);
    const fraction = steps > 0 ? Math.min(1, made / steps) : 1;
    // The measured pace counts for more as it is known for longer.
    const left = fraction > 0 ? (seconds * (1 - fraction)) / fraction : expected;
    const known = Math.min(1, fraction * 10);
    onProgress({
      ...{ done: this.#done, runs, fraction, seconds },
      secondsLeft: known * left + (1 - known) * Math.max(0, expected - seconds),
    });
  }

  /** Trains and evaluates, unless the folder has it. Gives the weights at the end, where asked for. */
  async ticket(
    key: string,
    seed: number,
    start: () => Promise<Start> | Start,
    after: { passing?: number; keepTheta?: boolean } = {},
  ): Promise<{ theta?: Float64Array; passed?: Float64Array }> {
    const found = await this.#store.found(key);
    if (found) {
      this.results.set(key, found);
      this.reused++;
      this.#done++;
      this.#report();
      return {};
    }
    return this.#workers.use(async ({ session, worth }) => {
      const begin = performance.now();
      const { signal } = this.#stop;
      const { theta, step, mask } = await start();
      const { rates, steps } = this.#recipe;
      const rule = this.#rule(seed, mask);
      const state = session.start(theta, step, rule);
      const run = async (to: number) => {
        const from = state.step;
        const progress = {};
        const losses = await session.steps(state, rates.slice(from, to), rule, {
          signal,
          onProgress: ({ products }) => {
            this.#running.set(progress, products - from);
            this.#report();
          },
        });
        this.#running.delete(progress);
        this.#stepsDone += losses.length;
        return losses;
      };
      const { passing } = after;
      let passed: Float64Array | undefined;
      if (passing !== undefined) {
        await run(passing);
        passed = state.theta.slice();
      }
      const losses = await run(steps);
      const { loss, accuracy } = await worth.at(state.theta, { signal });
      const last = losses.slice(-this.#recipe.stepsPerEpoch);
      const result: TicketRun = {
        loss: Number.isFinite(loss) ? loss : null,
        accuracy: accuracy ?? null,
        trainingLoss: last.length > 0 ? last.reduce((a, b) => a + b, 0) / last.length : null,
        steps: steps - step,
        seconds: (performance.now() - begin) / 1000,
      };
      if (after.keepTheta) await this.#store.saveParameters(key, state.theta);
      if (passed) await this.#store.saveParameters(`${key.split("/")[0]}/rewind`, passed);
      await this.#store.finish(key, result);
      this.results.set(key, result);
      this.#done++;
      this.#report();
      return { theta: state.theta, ...(passed && { passed }) };
    });
  }

  /** All seeds; throws the first error once every run has ended. */
  async run(
    seeds: readonly number[],
    levels: readonly number[],
    controls: readonly Control[],
  ): Promise<void> {
    const chains = seeds.map((seed) =>
      this.#seed(seed, levels, controls).catch((error) => {
        this.#fail(error);
      }),
    );
    await Promise.all(chains);
    if (this.failure !== undefined) throw this.failure;
  }

  #fail(error: unknown): void {
    this.failure ??= error;
    this.#stop.abort();
  }

  /** The chain of one seed: each round prunes what the last left. Controls run beside it. */
  async #seed(
    seed: number,
    levels: readonly number[],
    controls: readonly Control[],
  ): Promise<void> {
    const { rewind = 0, scheme } = this.#options;
    const { signal } = this.#stop;
    const at = (level: number, kind: string) => `seed-${seed}/level-${level}/${kind}`;
    const initial = initialParameters(this.#model, { seed, scheme });
    const dense = await this.ticket(
      at(0, "rewound"),
      seed,
      () => ({ theta: initial, step: 0, mask: undefined }),
      { passing: rewind, keepTheta: true },
    );
    const rewound = dense.passed ?? (await this.#store.parameters(`seed-${seed}/rewind`, signal));
    const trained = dense.theta ?? (await this.#store.parameters(at(0, "rewound"), signal));
    const beside: Promise<unknown>[] = [];
    const start = (control: Control, level: number, mask: Mask) => async (): Promise<Start> => {
      if (control === "reinitialised") {
        const other = initialParameters(this.#model, { seed: seed + OTHER_SEEDS, scheme });
        return { theta: other, step: 0, mask };
      }
      const chosen =
        control === "random"
          ? await makeMask(this.#model, {
              ...{ criterion: "random", counts: mask, name: "random" },
              seed: seed * 1000 + level,
            })
          : await this.#pruned(at(level, "one-shot-mask"), trained, initial, seed, {
              keep: levels[level]!,
            });
      return { theta: rewound, step: rewind, mask: chosen };
    };
    let final = trained;
    let last: Mask | undefined;
    for (let level = 1; level < levels.length && !signal.aborted; level++) {
      const mask = await this.#pruned(at(level, "mask"), final, initial, seed, {
        keep: levels[level]! / levels[level - 1]!,
        within: last,
      });
      this.masks.set(at(level, "mask"), mask);
      last = mask;
      for (const control of controls)
        beside.push(
          this.ticket(at(level, control), seed, start(control, level, mask)).catch((error) => {
            this.#fail(error);
          }),
        );
      const made = await this.ticket(
        at(level, "rewound"),
        seed,
        () => ({ theta: rewound, step: rewind, mask }),
        { keepTheta: true },
      );
      final = made.theta ?? (await this.#store.parameters(at(level, "rewound"), signal));
    }
    await Promise.all(beside);
  }

  /** What a round keeps of a trained network. */
  async #pruned(
    key: string,
    theta: Float64Array,
    initial: Float64Array,
    seed: number,
    { keep, within }: { keep: number; within?: Mask | undefined },
  ): Promise<Mask> {
    const { criterion = "magnitude", scope = "global", loss, precision } = this.#options;
    const { signal } = this.#stop;
    using trained = this.#model.withParameters(theta);
    const mask = await makeMask(trained, {
      ...{ criterion, keep, within, scope, initial, data: this.data, loss, precision },
      ...{ seed, signal, threads: 1 },
    });
    await this.#store.saveMask(key, mask);
    return mask;
  }
}

/** New initial weights of a seed are those of a seed that no run has. */
const OTHER_SEEDS = 1_000_000;

/**
 * Seconds of a step and of an evaluation, compiled, where all workers are at it at once.
 */
export async function pace(
  workers: readonly Worker[],
  model: Model,
  recipe: Recipe,
  signal: AbortSignal,
): Promise<{ step: number; evaluation: number }> {
  const rule: StepRule = { ...recipe.rule, seed: 0 };
  const theta = initialParameters(model, { seed: 0 });
  const timed = async (work: (worker: Worker) => Promise<unknown>) => {
    const begin = performance.now();
    await Promise.all(workers.map(work));
    return (performance.now() - begin) / 1000;
  };
  // Rates of 0: the steps cost the same and cannot diverge.
  const steps = (n: number) =>
    timed(({ session }) =>
      session.steps(session.start(theta, 0, rule), new Float64Array(n), rule, { signal }),
    );
  const evaluate = () => timed(({ worth }) => worth.at(theta, { signal }));
  await steps(2);
  const few = await steps(5);
  const many = Math.min(200, Math.max(5, Math.ceil(2.5 / few)));
  const step = (await steps(many)) / many;
  await evaluate();
  return { step, evaluation: await evaluate() };
}
