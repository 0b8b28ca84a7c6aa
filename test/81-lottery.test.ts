// Lottery tickets on images: what is held, what is paired with what, determinism, resume.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AbortError,
  type DataSet,
  evaluator,
  initialParameters,
  type LotteryOptions,
  type LotteryPlan,
  loadCheckpoint,
  loadData,
  loadMask,
  loadModel,
  lottery,
  type Model,
  mask,
  NotConvergedError,
  parameterVector,
  train,
} from "../lib";
import { lotteryFigures, overSeeds } from "../lib/training/ticket-figures";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { rejection } from "./50-helpers";

const EXAMPLES = join(__dirname, "..", "examples");
let model: Model;
let data: DataSet;
let test_: DataSet;
let folder: string;

beforeAll(async () => {
  const bytes = modelBytes({
    nodes: [
      node("Flatten", ["x"], ["pixels"]),
      node("Gemm", ["pixels", "w1", "b1"], ["a"], { transB: 1n }),
      node("Relu", ["a"], ["h"]),
      node("Gemm", ["h", "w2", "b2"], ["out"], { transB: 1n }),
    ],
    inputs: [value("x", ["N", 28, 28])],
    outputs: [value("out", ["N", 10])],
    initializers: [
      floats("w1", [8, 784]),
      floats("b1", [8]),
      floats("w2", [10, 8]),
      floats("b2", [10]),
    ],
  });
  model = await loadModel(bytes, { loss: "cross-entropy" });
  const files = {
    x: join(EXAMPLES, "data", "t10k-2048-images.idx3-ubyte"),
    y: join(EXAMPLES, "data", "t10k-2048-labels.idx1-ubyte"),
  };
  const normalize = { scale: 1 / 255, mean: 0.1307, std: 0.3081 };
  data = await loadData(files, { samples: [0, 700], normalize });
  test_ = await loadData(files, { samples: [700, 1000], normalize });
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-lottery-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const recipe = {
  optimizer: "adam",
  learningRate: 0.003,
  batchSize: 50,
  steps: 15,
  seeds: 2,
  seed: 3,
  keep: [0.3, 0.05],
} as const;
const run = (options: LotteryOptions = {}) =>
  lottery(model, data, { ...recipe, test: test_, ...options });
/** Without what depends on the clock. */
const stable = ({ seconds, secondsExpected, reused, ...rest }: Awaited<ReturnType<typeof run>>) =>
  rest;

test("levels, kinds, masks and runs are what they are said to be", async () => {
  const plans: LotteryPlan[] = [];
  const found = await run({
    ...{ folder, rewind: 4, controls: ["random", "reinitialised", "one-shot"] },
    onPlan: (plan) => plans.push(plan),
  });
  // Two seeds of a dense network and, at two levels, four kinds.
  expect(found.runs).toBe(18);
  expect(plans).toHaveLength(1);
  const tickets = 2 * 2 * (3 * 11 + 15);
  expect(plans[0]).toMatchObject({ runs: 18, reused: 0, steps: 2 * 15 + tickets });
  expect(plans[0]!.seconds).toBeGreaterThan(0);
  expect(found.secondsExpected).toBe(plans[0]!.seconds);
  expect(found.seeds).toEqual([3, 4]);
  expect(found.kinds).toEqual(["rewound", "random", "reinitialised", "one-shot"]);
  expect(found.levels.map(({ level, keep }) => [level, keep])).toEqual([
    [0, 1],
    [1, 0.3],
    [2, 0.05],
  ]);
  const weights = 784 * 8 + 80;
  found.levels.forEach(({ share, kept, keep, tickets }, level) => {
    expect(share).toBeCloseTo(kept / weights, 12);
    expect(Math.abs(kept - keep * weights)).toBeLessThan(2);
    expect(Object.keys(tickets)).toEqual(level === 0 ? ["rewound"] : found.kinds);
    for (const [kind, { accuracy, loss, difference }] of Object.entries(tickets)) {
      expect(accuracy!.values).toHaveLength(2);
      expect(accuracy!.mean).toBeCloseTo((accuracy!.values[0]! + accuracy!.values[1]!) / 2, 14);
      expect(loss.values.every(Number.isFinite)).toBe(true);
      if (kind === "rewound") expect(difference).toBeUndefined();
      else
        difference!.values.forEach((value, i) => {
          expect(value).toBe(tickets.rewound!.accuracy!.values[i]! - accuracy!.values[i]!);
        });
    }
  });

  // What the folder holds is a run of train, by hand.
  const at = (name: string) => join(folder, "seed-3", name);
  const initial = initialParameters(model, { seed: 3 });
  const { seeds, seed, keep, ...rest } = recipe;
  const dense = await train(model, data, { ...rest, seed: 3, initial });
  expect(await loadCheckpoint(model, at("level-0/rewound.safetensors"))).toEqual(dense.parameters);
  const rewind = (await train(model, data, { ...rest, seed: 3, initial, steps: 4 })).parameters;
  expect(await loadCheckpoint(model, at("rewind.safetensors"))).toEqual(rewind);
  const options = { criterion: "magnitude", scope: "global" } as const;
  const first = await mask(model.withParameters(dense.parameters), { ...options, keep: 0.3 });
  const saved = await loadMask(at("level-1/mask.safetensors"), model.parameters);
  expect(saved.bits).toEqual(first.bits);
  const ticket = await train(model, data, {
    ...{ ...rest, seed: 3, initial: rewind, firstStep: 4, mask: first },
  });
  const written = await loadCheckpoint(model, at("level-1/rewound.safetensors"));
  expect(written).toEqual(ticket.parameters);
  first.bits.forEach((bit, i) => {
    if (!bit) expect(written[i]).toBe(0);
  });
  // The next round prunes what the last left; biases are kept.
  const second = await loadMask(at("level-2/mask.safetensors"), model.parameters);
  expect(second.isSubsetOf(saved)).toBe(true);
  second.layers().forEach(({ kept, size }, i) => {
    if (model.parameters[i]!.shape.length < 2) expect(kept).toBe(size);
  });
  using worth = evaluator(model, test_);
  const { accuracy } = await worth.at(written);
  expect(found.levels[1]!.tickets.rewound!.accuracy!.values[0]).toBe(accuracy);
});

test("the same for any number of threads, and with nothing but what is missing", async () => {
  const one = await run({ threads: 1 });
  const two = await run({ threads: 2, folder });
  expect(stable(two)).toEqual(stable(one));
  expect(one.reused).toBe(0);
  // Of a seed's chain the end is gone, of the other a control.
  rmSync(join(folder, "seed-3", "level-2"), { recursive: true });
  rmSync(join(folder, "seed-4", "level-1", "random.json"));
  const kept = join(folder, "seed-4", "level-2", "rewound.json");
  const before = statSync(kept).mtimeMs;
  const again = await run({ folder });
  expect(stable(again)).toEqual(stable(one));
  expect(again.reused).toBe(14 - 4);
  expect(statSync(kept).mtimeMs).toBe(before);
  // More seeds go on from it; another recipe does not.
  const more = await run({ folder, seeds: 3 });
  expect([more.runs, more.reused]).toEqual([21, 14]);
  expect(more.levels[1]!.tickets.random!.accuracy!.values.slice(0, 2)).toEqual(
    one.levels[1]!.tickets.random!.accuracy!.values,
  );
  await expect(run({ folder, batchSize: 40 })).rejects.toThrow(
    `expected the lottery that ${folder} holds, with batchSize 50, got 40; use another folder`,
  );
  await expect(run({ folder, learningRate: 0.1 })).rejects.toThrow("with rates");
  await expect(run({ folder, keep: [0.3, 0.1] })).rejects.toThrow("with levels");
});

test("shares and rounds; criteria of change and of gradients", async () => {
  const options = { keep: undefined, share: 0.5, rounds: 2, seeds: 1, controls: [] } as const;
  const magnitude = await run(options);
  expect(magnitude.runs).toBe(3);
  expect(magnitude.levels.map(({ keep }) => keep)).toEqual([1, 0.5, 0.25]);
  expect(magnitude.levels[2]!.share).toBeCloseTo(0.25, 4);
  expect(magnitude.levels[1]!.tickets.rewound!.accuracy!.standardError).toBeNaN();
  for (const criterion of ["movement", "taylor"] as const) {
    const other = await run({ ...options, criterion, scope: "layer" });
    expect(other.levels[2]!.share).toBeCloseTo(0.25, 2);
    expect(other.levels[1]!.tickets.rewound!.loss.values).not.toEqual(
      magnitude.levels[1]!.tickets.rewound!.loss.values,
    );
  }
});

test("abort, and runs that diverge", async () => {
  const abort = new AbortController();
  const promise = run({ steps: 1e6, signal: abort.signal, onPlan: () => abort.abort(), folder });
  expect(await rejection(promise)).toBeInstanceOf(AbortError);
  const files = readdirSync(folder, { recursive: true }).map(String);
  expect(files.filter((name) => name.endsWith(".json"))).toEqual(["lottery.json"]);
  const diverged = await rejection(run({ optimizer: "sgd", learningRate: 1e30 }));
  expect(diverged).toBeInstanceOf(NotConvergedError);
});

test("figures have the dense network in each line, and bands of a standard error", async () => {
  const { levels, kinds } = await run({ keep: [0.2] });
  const { tickets, differences } = lotteryFigures(levels, kinds, "a net");
  expect(tickets!.marks).toHaveLength(3);
  const [, random] = tickets!.marks as unknown as {
    x: number[];
    y: number[];
    low: number[];
    high: number[];
  }[];
  const { rewound } = levels[0]!.tickets;
  expect(random!.x[0]).toBe(100);
  expect(random!.y[0]).toBe(100 * rewound!.accuracy!.mean);
  const { mean, standardError } = levels[1]!.tickets.random!.accuracy!;
  expect(random!.high[1]! - random!.low[1]!).toBeCloseTo(200 * standardError, 10);
  expect(random!.y[1]).toBe(100 * mean);
  expect(differences!.marks.map((mark) => (mark as { name: string }).name)).toEqual([
    "random",
    "reinitialised",
  ]);
  expect(overSeeds([1, 2, 3, 6])).toEqual({
    mean: 3,
    standardError: Math.sqrt(14 / 3 / 4),
    values: [1, 2, 3, 6],
  });
});

test("wrong uses", async () => {
  const fails = async (options: object, message: string) =>
    expect((await rejection(run(options))).message).toContain(message);
  await fails({ share: 0.1 }, "expected keep, or share and rounds, got both");
  await fails(
    { keep: [0.1, 0.5] },
    "keep: expected shares over 0 and below 1, from large to small",
  );
  await fails({ rewind: 16 }, "rewind: expected at most 15 steps, got 16");
  await fails(
    { controls: ["randm"] },
    "controls: expected some of random, reinitialised, one-shot",
  );
  await fails({ criterion: "magnitud" }, '"magnitude" was probably meant');
  await fails({ folder: join(__filename, "x") }, "folder: expected one that can be written to");
  await fails({ momentum: 0.9 }, "momentum belongs to sgd");
  expect(parameterVector(model)).toHaveLength(model.parameterCount);
});

test("results in files that are no JSON are named", async () => {
  await run({ folder, keep: [0.2], seeds: 1 });
  const path = join(folder, "seed-3", "level-0", "rewound.json");
  expect(JSON.parse(readFileSync(path, "utf8"))).toMatchObject({ steps: 15 });
  writeFileSync(path, "{");
  await expect(run({ folder, keep: [0.2], seeds: 1 })).rejects.toThrow("expected JSON");
});
