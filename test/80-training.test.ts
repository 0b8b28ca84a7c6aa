// Training: closed forms, torch.optim, masks, checkpoints that go on to the same bits, wrong uses.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AbortError,
  evaluator,
  gradient,
  listCheckpoints,
  loadCheckpoint,
  loadData,
  loadModel,
  Mask,
  NotConvergedError,
  parameterVector,
  type TrainOptions,
  train,
} from "../lib";
import { learningRates } from "../lib/training/schedules";
import { modelBytes, node, value } from "./10-model-maker";
import { caseFile, openCase, rejection, relative, vector } from "./50-helpers";
import { Case, caseNames } from "./support/cases";
import { dataOf, doubles, longs, netModel, sampleGradients } from "./support/networks";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-training-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fixture = JSON.parse(
  readFileSync(join(__dirname, "fixtures", "training", "training.json"), "utf8"),
);
const double = { precision: "float64" } as const;

/** The network of the fixture, 5-7-3 with tanh, and its 20 samples. */
async function torchProblem() {
  const theta = fixture.start.flatMap(({ data }: { data: number[] }) => data);
  const model = await netModel({ widths: [5, 7, 3], theta, activation: "Tanh" });
  const arrays = {
    x: { data: Float64Array.from(fixture.x.data), shape: [5] },
    y: { data: Int32Array.from(fixture.y), shape: [] },
  };
  return { model, arrays, data: await dataOf(arrays) };
}

describe("torch.optim in float64, 20 steps of 6 of 20 samples in order", () => {
  interface Case {
    name: string;
    options: TrainOptions & { classWeights?: number[]; mask?: boolean };
    losses: number[];
    parameters: number[];
  }
  test.each(fixture.cases as Case[])("$name", async ({ options, losses, parameters }) => {
    const { model, data } = await torchProblem();
    const { classWeights, mask, ...rest } = options;
    const found = await train(model, data, {
      ...rest,
      ...double,
      loss: { name: "cross-entropy", ...(classWeights && { classWeights }) },
      steps: fixture.steps,
      batchSize: fixture.batchSize,
      shuffle: false,
      ...(mask && { mask: new Mask(model.parameters, fixture.mask) }),
    });
    expect(relative(found.losses, losses)).toBeLessThan(1e-12);
    expect(relative(found.parameters, parameters)).toBeLessThan(1e-12);
    if (mask)
      found.parameters.forEach((x, i) => {
        if (fixture.mask[i] === 0) expect(x).toBe(0);
      });
  });
});

describe("a linear network with mse, by coordinates: L = sum (s_i w_i - y_i)^2 / n", () => {
  const [s, y] = [
    [1, 2, 0.5],
    [0.3, -1, 2],
  ];
  const w0 = [1, 0.5, -2];
  const problem = async () => {
    const model = await netModel({ widths: [3, 1], theta: w0, bias: false });
    const x = Float64Array.from({ length: 9 }, (_, i) => (i % 4 === 0 ? s[i / 4]! : 0));
    const data = await dataOf({
      x: { data: x, shape: [3] },
      y: { data: Float64Array.from(y), shape: [1] },
    });
    return { model, data };
  };
  const rate = 0.3;
  const curvature = s.map((si) => (2 * si * si) / 3);
  const best = s.map((si, i) => y[i]! / si);

  test("gradient descent shrinks each error by 1 - rate * curvature", async () => {
    const { model, data } = await problem();
    const options = { ...double, loss: "mse", batchSize: 3, steps: 25 } as const;
    const found = await train(model, data, { ...options, learningRate: rate });
    const wanted = best.map((b, i) => b + (w0[i]! - b) * (1 - rate * curvature[i]!) ** 25);
    expect(relative(found.parameters, wanted)).toBeLessThan(1e-13);
  });

  test("momentum: e(t) = A r^t + B q^t with r + q = 1 + momentum - rate c, r q = momentum", async () => {
    const { model, data } = await problem();
    const [momentum, steps] = [0.25, 17];
    const options = { ...double, loss: "mse", batchSize: 3, steps } as const;
    const found = await train(model, data, { ...options, learningRate: rate, momentum });
    const wanted = best.map((b, i) => {
      const half = (1 + momentum - rate * curvature[i]!) / 2;
      const e0 = w0[i]! - b;
      const e1 = e0 * (1 - rate * curvature[i]!);
      const square = half * half - momentum;
      if (square < 0) {
        // A pair of complex roots.
        const [size, angle] = [Math.sqrt(momentum), Math.acos(half / Math.sqrt(momentum))];
        const B = (e1 / size - e0 * Math.cos(angle)) / Math.sin(angle);
        const turned = e0 * Math.cos(steps * angle) + B * Math.sin(steps * angle);
        return b + size ** steps * turned;
      }
      const [r, q] = [half + Math.sqrt(square), half - Math.sqrt(square)];
      const A = (e1 - q * e0) / (r - q);
      return b + A * r ** steps + (e0 - A) * q ** steps;
    });
    expect(relative(found.parameters, wanted)).toBeLessThan(1e-12);
  });

  test("steps that diverge end in an error that says so", async () => {
    const { model, data } = await problem();
    const error = await rejection(
      train(model, data, { loss: "mse", learningRate: 1e30, epochs: 40, checkpoints: { folder } }),
    );
    expect(error).toBeInstanceOf(NotConvergedError);
    expect(error.message).toContain("the training diverged; take a smaller learning rate");
    expect((await listCheckpoints(folder)).length).toBeGreaterThan(0);
  });
});

describe("the order of samples", () => {
  const withSeed = async (seed: number, shuffle = true) => {
    const { model, data } = await torchProblem();
    const options = { ...double, loss: "cross-entropy", learningRate: 0, batchSize: 1 } as const;
    const { losses } = await train(model, data, { ...options, epochs: 3, seed, shuffle });
    return [0, 1, 2].map((epoch) => Array.from(losses.subarray(20 * epoch, 20 * (epoch + 1))));
  };

  test("each epoch takes every sample once, in an order of its own that the seed fixes", async () => {
    const { model, arrays } = await torchProblem();
    const alone = (await sampleGradients(model, arrays, "cross-entropy")).map(({ loss }) => loss);
    const sorted = [...alone].sort((a, b) => a - b);
    const epochs = await withSeed(3);
    for (const losses of epochs)
      expect(
        relative(
          [...losses].sort((a, b) => a - b),
          sorted,
        ),
      ).toBeLessThan(1e-14);
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(epochs[1]).not.toEqual(epochs[2]);
    expect(await withSeed(3)).toEqual(epochs);
    expect((await withSeed(4))[0]).not.toEqual(epochs[0]);
    for (const losses of await withSeed(3, false))
      expect(relative(losses, alone)).toBeLessThan(1e-14);
  });

  test("over many epochs each sample is first about as often", async () => {
    const n = 5;
    const model = await netModel({ widths: [1, 1], theta: [0], bias: false });
    const targets = Float64Array.from({ length: n }, (_, i) => i + 1);
    const data = await dataOf({
      x: { data: new Float64Array(n).fill(1), shape: [1] },
      y: { data: targets, shape: [1] },
    });
    const options = { ...double, loss: "mse", learningRate: 0, batchSize: 1 } as const;
    const { losses } = await train(model, data, { ...options, epochs: 2000, seed: 1 });
    const counts = targets.map((y) => {
      let count = 0;
      for (let e = 0; e < 2000; e++) if (losses[e * n] === y * y) count++;
      return count;
    });
    // Binomial(2000, 1/5): 400 +- 18; the seed is fixed.
    for (const count of counts) expect(Math.abs(count - 400)).toBeLessThan(75);
  });

  test("dropLast leaves out what does not fill a minibatch", async () => {
    const { model, data } = await torchProblem();
    const options = { loss: "cross-entropy", epochs: 2, batchSize: 6 } as const;
    const all = await train(model, data, options);
    expect([all.stepsPerEpoch, all.losses.length]).toEqual([4, 8]);
    const whole = await train(model, data, { ...options, dropLast: true });
    expect([whole.stepsPerEpoch, whole.losses.length]).toEqual([3, 6]);
    expect(whole.losses.subarray(0, 3)).toEqual(all.losses.subarray(0, 3));
  });
});

test.each(["float32", "float64"] as const)(
  "the same bits for any number of threads, %s",
  async (precision) => {
    const { model, data } = await openCase("cnn_small");
    const options = {
      precision,
      batchSize: 50,
      steps: 8,
      learningRate: 0.05,
      momentum: 0.9,
    } as const;
    const [one, two, three] = [
      await train(model, data, { ...options, threads: 1 }),
      await train(model, data, { ...options, threads: 2 }),
      await train(model, data, { ...options, threads: 3 }),
    ];
    expect(two.parameters).toEqual(one.parameters);
    expect(three.parameters).toEqual(one.parameters);
    expect(three.losses).toEqual(one.losses);
    expect(new Set(one.losses).size).toBe(8);
  },
);

test.each(caseNames)(
  "%s: a step on all samples goes along the gradient of the loss",
  async (name) => {
    const reference = new Case(name);
    using model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
    const files = { x: reference.path("x.npy"), y: reference.path("y.npy") };
    using data = await loadData(files, { samples: 12 });
    const options = { ...double, batchSize: data.samples, steps: 1, learningRate: 1 } as const;
    const found = await train(model, data, options);
    const { loss, gradient: g } = await gradient(model, data, double);
    const moved = parameterVector(model).map((x, i) => x - found.parameters[i]!);
    expect(Math.abs(found.losses[0]! - loss)).toBeLessThan(1e-13 * Math.abs(loss));
    expect(relative(moved, g)).toBeLessThan(1e-11);
  },
);

test("a graph that takes exactly so many samples", async () => {
  const initializers = () => [doubles("w", [2, 3], vector(6)), longs("fixed", [4, 3])];
  const bytes = (rows: number | string) =>
    modelBytes({
      nodes: [
        ...(rows === 4
          ? [node("Reshape", ["x", "fixed"], ["xr"])]
          : [node("Identity", ["x"], ["xr"])]),
        node("Gemm", ["xr", "w"], ["a"], { transB: 1n }),
        node("Tanh", ["a"], ["out"]),
      ],
      inputs: [value("x", [rows, 3], 11)],
      outputs: [value("out", [rows, 2], 11)],
      initializers: initializers(),
    });
  const data = await loadData({
    x: { data: vector(33), shape: [11, 3] },
    y: { data: vector(22, 1), shape: [11, 2] },
  });
  const options = { ...double, loss: "mse", batchSize: 6, epochs: 3 } as const;
  const fixed = await train(await loadModel(bytes(4)), data, options);
  const free = await train(await loadModel(bytes("N")), data, options);
  expect(relative(fixed.parameters, free.parameters)).toBeLessThan(1e-13);
  expect(relative(fixed.losses, free.losses)).toBeLessThan(1e-13);
});

describe("masks", () => {
  test("held entries keep their value to the bit; those kept move", async () => {
    const { model, data } = await torchProblem();
    const initial = vector(model.parameterCount).map(Math.fround);
    const mask = new Mask(model.parameters, fixture.mask);
    const elsewhere = vector(model.parameterCount, 2).map(Math.fround);
    for (const optimizer of ["sgd", "adamw"] as const)
      for (const [held, at] of [
        ["zero", new Float64Array(model.parameterCount)],
        ["initial", initial],
        [elsewhere, elsewhere],
      ] as const) {
        const { parameters } = await train(model, data, {
          ...{ loss: "cross-entropy", optimizer, initial, mask, held, epochs: 2 },
          ...{ weightDecay: 0.1, batchSize: 6, ...(optimizer === "sgd" && { momentum: 0.9 }) },
        });
        parameters.forEach((x, i) => {
          if (mask.bits[i]) expect(x).not.toBe(initial[i]);
          else expect(x).toBe(at[i]);
        });
      }
  });
});

describe("checkpoints, history and resume", () => {
  const options = {
    loss: "cross-entropy",
    optimizer: "adam",
    learningRate: 0.02,
    weightDecay: 0.01,
    batchSize: 6,
    seed: 5,
    every: 4,
  } as const;

  test.each(["float32", "float64"] as const)(
    "a run that goes on is the run that was not stopped, %s",
    async (precision) => {
      const { model, data } = await torchProblem();
      const all = { ...options, precision, test: data, steps: 18 };
      const whole = await train(model, data, all);
      const checkpoints = { folder, every: 6 };
      const part = await train(model, data, { ...all, checkpoints, steps: 12 });
      expect(part.checkpoints.map(({ step }) => step)).toEqual([0, 6, 12]);
      const rest = await train(model, data, { ...all, checkpoints, resume: true });
      expect(rest.resumedFrom).toBe(12);
      for (const key of ["parameters", "losses", "learningRates", "history", "steps"] as const)
        expect(rest[key]).toEqual(whole[key]);
      expect(rest.history.map(({ step }) => step)).toEqual([0, 4, 8, 12, 16, 18]);
      const files = await listCheckpoints(folder);
      expect(files).toEqual(rest.checkpoints);
      expect(files.map(({ step }) => step)).toEqual([0, 6, 12, 18]);
      expect(await loadCheckpoint(model, files[3]!.file)).toEqual(whole.parameters);
      const start = parameterVector(model);
      expect(await loadCheckpoint(model, files[0]!.file)).toEqual(
        precision === "float32" ? start.map(Math.fround) : start,
      );
      // Nothing is left to do, and the same is given.
      const again = await train(model, data, { ...all, checkpoints, resume: true });
      expect(again.resumedFrom).toBe(18);
      expect(again.parameters).toEqual(whole.parameters);
      // Another run does not go on from it.
      for (const [change, message] of [
        [{ batchSize: 5 }, "with batchSize 6, got 5"],
        [{ seed: 6 }, 'with seed "5", got "6"'],
        [{ learningRate: 0.1 }, "the learning rates of the steps"],
        [{ initial: vector(model.parameterCount) }, "with initial"],
      ] as const)
        await expect(
          train(model, data, { ...all, ...change, checkpoints, resume: true }),
        ).rejects.toThrow(message);
      const { model: other } = await openCase("mlp_relu");
      const { data: digits } = await openCase("mlp_relu");
      await expect(
        train(other, digits, { ...all, test: undefined, checkpoints, resume: true }),
      ).rejects.toThrow("expected the state of a training run on");
    },
  );

  test("the history has means of losses, rates, and what the data held out say", async () => {
    const { model, data } = await torchProblem();
    const { history, losses, parameters } = await train(model, data, {
      ...options,
      ...double,
      steps: 9,
      test: data,
      schedule: "linear",
    });
    expect(history.map(({ step, epoch }) => [step, epoch])).toEqual([
      [0, 0],
      [4, 1],
      [8, 2],
      [9, 2.25],
    ]);
    expect(history[0]!.loss).toBeNull();
    const mean = losses.slice(4, 8).reduce((a, b) => a + b, 0) / 4;
    expect(history[2]!.loss).toBeCloseTo(mean, 14);
    expect(history[2]!.learningRate).toBeCloseTo(0.02 * (1 - 7 / 9), 15);
    using worth = evaluator(model, data, { loss: "cross-entropy", ...double });
    expect(history[3]!.test).toEqual(await worth.at(parameters));
  });

  test("from a step in the middle: the order of samples and the rates of that step", async () => {
    const { model, data } = await torchProblem();
    const plain = { ...double, loss: "cross-entropy", batchSize: 6, seed: 2, steps: 15 } as const;
    const whole = await train(model, data, {
      ...plain,
      schedule: "cosine",
      checkpoints: { folder, every: 7 },
    });
    const initial = await loadCheckpoint(model, whole.checkpoints[1]!.file);
    const rest = await train(model, data, { ...plain, schedule: "cosine", initial, firstStep: 7 });
    expect(rest.parameters).toEqual(whole.parameters);
    expect(rest.losses).toEqual(whole.losses.subarray(7));
  });

  test("abort", async () => {
    const { model, data } = await torchProblem();
    const abort = new AbortController();
    const promise = train(model, data, {
      ...options,
      steps: 1e6,
      signal: abort.signal,
      checkpoints: { folder, every: 2 },
      onProgress: () => abort.abort(),
    });
    expect(await rejection(promise)).toBeInstanceOf(AbortError);
    // What was written is whole, and a resumed run begins with it.
    const files = await listCheckpoints(folder);
    expect(files.length).toBeGreaterThan(0);
    const steps = files.at(-1)!.step + 4;
    const rest = await train(model, data, {
      ...{ ...options, steps, resume: true, checkpoints: { folder, every: 2 } },
    });
    expect(rest.resumedFrom).toBeLessThanOrEqual(files.at(-1)!.step);
    expect(rest.parameters).toEqual((await train(model, data, { ...options, steps })).parameters);
  });
});

test("BatchNormalization keeps its statistics, with a warning", async () => {
  const model = await loadModel(caseFile("resnet_bn", "model.onnx"), { loss: "cross-entropy" });
  const data = await loadData({
    x: caseFile("resnet_bn", "x.npy"),
    y: caseFile("resnet_bn", "y.npy"),
  });
  const found = await train(model, data, { batchSize: 16, steps: 3, learningRate: 0.01 });
  expect(found.warnings.join()).toContain("BatchNormalization uses the running statistics");
});

test("schedules", () => {
  const rates = (steps: number, options: object) =>
    Array.from(learningRates("train", steps, { learningRate: 2, ...options }));
  expect(rates(4, { schedule: "linear" })).toEqual([2, 1.5, 1, 0.5]);
  expect(rates(4, { schedule: { kind: "linear", end: 1 }, warmup: 2 })).toEqual([
    1, 1.75, 1.5, 1.25,
  ]);
  expect(
    rates(4, {
      schedule: [
        [1, 5],
        [3, 0],
      ],
    }),
  ).toEqual([2, 5, 5, 0]);
  expect(rates(5, { schedule: { kind: "step", every: 2, factor: 0.5 } })).toEqual([
    2, 2, 1, 1, 0.5,
  ]);
  expect(rates(2, { schedule: "cosine" })[1]).toBeCloseTo(1, 15);
});

test("wrong uses", async () => {
  const { model, data } = await torchProblem();
  const fails = async (options: object, message: string) =>
    expect(
      (await rejection(train(model, data, { loss: "cross-entropy", ...options }))).message,
    ).toContain(message);
  await fails({ lr: 1 }, 'there is no option "lr"');
  await fails({ loss: undefined }, "expected a loss");
  await fails({ batchSize: 0 }, "batchSize: expected a whole number of at least 1, got 0");
  await fails({ batchSize: 30, dropLast: true }, "expected at most the 20 samples");
  await fails({ steps: 3, epochs: 1 }, "expected steps or epochs, got both");
  await fails({ optimizer: "adam", momentum: 0.9 }, "momentum belongs to sgd");
  await fails({ betas: [0.9, 0.9] }, "betas belongs to adam and adamw");
  await fails({ nesterov: true }, "nesterov: expected momentum above 0");
  await fails({ schedule: "sine" }, 'expected one of "constant", "cosine"');
  await fails(
    {
      schedule: [
        [3, 1],
        [2, 1],
      ],
    },
    "steps in ascending order",
  );
  await fails({ schedule: { kind: "step" } }, "expected every, a number of steps");
  await fails({ resume: true }, "expected the folder of checkpoints as well");
  await fails({ mask: [1, 0] }, "mask: expected a Mask");
  await fails({ mask: new Mask([{ name: "w", offset: 0, size: 1 }], [1]) }, "mask");
  await fails({ initial: new Float64Array(3) }, "initial: expected a model, or a Float64Array");
  await fails({ held: "one" }, 'held: expected "zero", "initial" or a checkpoint, got "one"');
  await fails({ firstStep: 9, steps: 5 }, "firstStep: expected at most 5, got 9");
  await fails(
    { checkpoints: { folder: join(__filename, "x") } },
    "expected a folder that can be written to",
  );
  const ignored = await dataOf({
    x: { data: vector(10), shape: [5] },
    y: { data: Int32Array.of(-100, 1), shape: [] },
  });
  await expect(train(model, ignored, { loss: "cross-entropy", batchSize: 1 })).rejects.toThrow(
    "every target of a minibatch is ignored",
  );
});
