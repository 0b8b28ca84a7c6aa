// Losses along lines and planes: against closed forms, the quadratic of the Hessian, and themselves
// after an interruption.
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type DataSet,
  directionTo,
  eigsh,
  gradient,
  hessian,
  interpolate,
  loadModel,
  loss,
  lossLine,
  lossPlane,
  type Model,
  parameterVector,
  randomDirection,
} from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { openCase, rejection, relative, tinyProblem, vector } from "./50-helpers";
import { dataOf, netBytes, netModel, randomTheta } from "./support/networks";
import { dot, norm, normals } from "./support/numbers";

const precision = "float64";
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-landscape-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** f = a b x with x = y = 1 and mean squared error: L = (a b - 1)^2. */
async function product(a: number, b: number): Promise<{ model: Model; data: DataSet }> {
  const model = await netModel({ widths: [1, 1, 1], bias: false, theta: [a, b] });
  const one = { data: Float64Array.of(1), shape: [1] };
  return { model, data: await dataOf({ x: one, y: one }) };
}

/** A linear layer: the loss is quadratic in the weights. */
async function quadratic(seed = 1): Promise<{ model: Model; data: DataSet }> {
  const model = await netModel({ widths: [4, 3], theta: randomTheta(seed, [4, 3]) });
  const data = await dataOf({
    x: { data: normals(2, 40), shape: [4] },
    y: { data: normals(3, 30), shape: [3] },
  });
  return { model, data };
}

test("along an eigenvector the loss is L + t g v + lambda t^2 / 2 for small t", async () => {
  const { model, data } = await tinyProblem();
  using H = hessian(model, data, { precision });
  const top = await eigsh(H, { k: 2, tol: 1e-12 });
  for (const i of [0, 1]) {
    const v = Float64Array.from(top.vector(i));
    const errors = [];
    for (const reach of [1e-2, 1e-3]) {
      const options = { range: [-reach, reach], points: 9, precision } as const;
      const line = await lossLine(model, data, v, options);
      expect(line.quadratic!.curvature).toBeCloseTo(top.values[i]!, 10);
      expect(line.steps[4]).toBe(0);
      const { loss: at, gradient: g } = await gradient(model, data, { precision });
      expect(line.quadratic!.slope).toBeCloseTo(dot(g, v), 13);
      const wanted = line.steps.map((t) => at + t * dot(g, v) + (top.values[i]! * t * t) / 2);
      expect(relative(line.quadratic!.losses, wanted)).toBeLessThan(1e-13);
      errors.push(Math.max(...line.losses.map((value, j) => Math.abs(value - wanted[j]!))));
    }
    // What is left is of third order.
    expect(errors[0]).toBeLessThan(1e-5);
    expect(errors[1]).toBeLessThan(2e-3 * errors[0]!);
  }
});

test("of a quadratic loss, lines and planes are their own expansion", async () => {
  const { model, data } = await quadratic();
  const [a, b] = [vector(15), vector(15, 2).map((x) => 3 * x)];
  const options = { range: [-2, 1], points: 7, precision, loss: "mse" } as const;
  const line = await lossLine(model, data, a, options);
  expect(relative(line.losses, line.quadratic!.losses)).toBeLessThan(1e-12);
  const plane = await lossPlane(model, data, [a, b], options);
  expect(plane.losses).toHaveLength(49);
  expect(relative(plane.losses, plane.quadratic!.losses)).toBeLessThan(1e-12);
  // Row i has step i of the first direction.
  const zero = plane.steps.findIndex((t) => Math.abs(t) < 1e-15);
  line.losses.forEach((value, i) => {
    expect(plane.losses[7 * i + zero]! / value).toBeCloseTo(1, 12);
  });
});

test("every point is the loss of the model with moved parameters", async () => {
  const { model, data } = await tinyProblem();
  const direction = vector(model.parameterCount);
  const { steps, losses } = await lossLine(model, data, direction, { points: 3, precision });
  for (const [i, t] of steps.entries()) {
    const theta = parameterVector(model).map((value, j) => value + t * direction[j]!);
    const bytes = netBytes({ widths: [3, 4, 2], activation: "Tanh", theta });
    const moved = await loadModel(bytes, { params: { include: ["w*", "b*"] }, loss: "mse" });
    expect(losses[i]! / (await loss(moved, data, { precision }))).toBeCloseTo(1, 12);
  }
});

describe("interpolation", () => {
  test("(1, 1) to (-1, -1) through f = a b x: L = (t^2 - 1)^2 has a barrier of 1", async () => {
    const { model, data } = await product(1, 1);
    const direction = directionTo(model, Float64Array.of(-1, -1));
    const found = await interpolate(model, data, direction, { points: 21, precision, loss: "mse" });
    expect(found.barrier).toBeCloseTo(1, 13);
    expect(found.at).toBe(0.5);
    found.losses.forEach((value, i) => {
      expect(value).toBeCloseTo(((1 - 2 * found.steps[i]!) ** 2 - 1) ** 2, 13);
    });
    expect([found.losses[0], found.losses.at(-1)]).toEqual([0, 0]);
  });

  test("of a quadratic loss: t (t - 1) / 2 d^T H d above the chord, and no barrier", async () => {
    const { model, data } = await quadratic();
    const other = await quadratic(9);
    const direction = directionTo(model, other.model);
    const found = await interpolate(model, data, direction, { precision, points: 11, loss: "mse" });
    using H = hessian(model, data, { precision, loss: "mse" });
    const curvature = dot(direction, await H.apply(direction));
    const wanted = found.steps.map((t) => (-t * (1 - t) * curvature) / 2);
    expect(relative(found.aboveChord, wanted)).toBeLessThan(1e-12);
    expect(found.barrier).toBe(0);
    expect(found.quadratic!.barrier).toBe(0);
    expect(
      found.losses.at(-1)! / (await loss(other.model, data, { precision, loss: "mse" })),
    ).toBeCloseTo(1, 12);
  });

  test("of a concave quadratic: the barrier is -d^T H d / 8", async () => {
    // The graph's own number, -(w x)^2 / n summed.
    const net = {
      widths: [3, 1],
      bias: false,
      tail: [
        { op: "Mul", twice: true },
        { op: "Neg" },
        { op: "ReduceSum", integers: [1], attributes: { keepdims: 0 } },
      ],
    };
    const model = await netModel({ ...net, theta: [0.3, -1, 2] });
    using data = await dataOf({ x: { data: normals(4, 24), shape: [3] } });
    const direction = directionTo(model, Float64Array.of(1, 1, -0.5));
    const options = { precision, loss: { name: "output", reduction: "mean" } } as const;
    const found = await interpolate(model, data, direction, { ...options, points: 5 });
    using H = hessian(model, data, options);
    const curvature = dot(direction, await H.apply(direction));
    expect(curvature).toBeLessThan(-1);
    expect(found.barrier / (-curvature / 8)).toBeCloseTo(1, 12);
    expect(found.quadratic!.barrier / found.barrier).toBeCloseTo(1, 12);
    expect(found.at).toBe(0.5);
  });

  test("0 and 1 are always among the steps; layers may move alone", async () => {
    const { model, data } = await product(2, 1);
    const direction = directionTo(model, Float64Array.of(0, 5), { params: "w1" });
    expect(Array.from(direction)).toEqual([0, 4]);
    const options = { range: [-0.5, 1.6], points: 4, precision, loss: "mse" } as const;
    const found = await interpolate(model, data, direction, options);
    expect(Array.from(found.steps)).toEqual([
      -0.5,
      0,
      expect.closeTo(0.2),
      expect.closeTo(0.9),
      1,
      1.6,
    ]);
    found.losses.forEach((value, i) => {
      expect(value).toBeCloseTo((2 * (1 + 4 * found.steps[i]!) - 1) ** 2, 11);
    });
  });

  test("between checkpoints in files, matched by names", async () => {
    const one = await quadratic(1);
    const two = await quadratic(2);
    const direction = directionTo(one.model, two.model);
    const sum = parameterVector(one.model).map((value, i) => value + direction[i]!);
    expect(relative(sum, parameterVector(two.model))).toBeLessThan(1e-15);
    const narrow = await netModel({ widths: [4, 2], theta: randomTheta(1, [4, 2]) });
    expect(() => directionTo(one.model, narrow)).toThrow(
      "directionTo: w0: expected the shape (3, 4), got w0 of (2, 4) in model",
    );
    const deep = await netModel({ widths: [4, 3, 3], theta: randomTheta(1, [4, 3, 3]) });
    expect(() => directionTo(deep, one.model)).toThrow(
      "expected a checkpoint of model with its 4 tensors, got model with 2, and without w1",
    );
  });
});

describe("random directions", () => {
  test("have the length of each filter, and leave biases alone", async () => {
    const { model } = await openCase("cnn_small");
    const theta = parameterVector(model);
    const direction = randomDirection(model, { seed: 5 });
    for (const { shape, offset, size } of model.parameters) {
      if (shape.length < 2) {
        expect(norm(direction.subarray(offset, offset + size))).toBe(0);
        continue;
      }
      const length = size / shape[0]!;
      for (let unit = 0; unit < shape[0]!; unit++) {
        const at = offset + unit * length;
        const wanted = norm(theta.subarray(at, at + length));
        expect(norm(direction.subarray(at, at + length)) / wanted).toBeCloseTo(1, 12);
      }
    }
    expect(randomDirection(model, { seed: 5 })).toEqual(direction);
    const other = randomDirection(model, { seed: 6 });
    expect(Math.abs(dot(direction, other)) / norm(direction) ** 2).toBeLessThan(0.05);
  });

  test("by layer, unscaled, with biases, of some tensors", async () => {
    const { model } = await openCase("mlp_relu");
    const theta = parameterVector(model);
    const layer = randomDirection(model, { scaling: "layer", biases: true });
    for (const { offset, size } of model.parameters) {
      const [got, wanted] = [layer, theta].map((v) => norm(v.subarray(offset, offset + size)));
      expect(got! / wanted!).toBeCloseTo(1, 12);
    }
    const plain = randomDirection(model, { scaling: "none", biases: true });
    expect(norm(plain) / Math.sqrt(plain.length)).toBeCloseTo(1, 1);
    const name = model.parameters[2]!.name;
    const part = randomDirection(model, { params: name });
    const { offset, size } = model.parameters[2]!;
    expect(norm(part.subarray(offset, offset + size))).toBeGreaterThan(0);
    expect(norm(part) / norm(part.subarray(offset, offset + size))).toBeCloseTo(1, 14);
  });

  test.each([
    ["Gemm", {}, [4, 3], 1],
    ["Gemm", { transB: 1n }, [3, 4], 0],
    ["MatMul", {}, [4, 3], 1],
  ] as const)(
    "%s %p with a weight of %p is scaled along axis %p",
    async (op, attributes, shape, axis) => {
      const weights = Array.from(normals(7, 12));
      const bytes = modelBytes({
        nodes: [node(op, ["x", "w"], ["out"], attributes)],
        inputs: [value("x", ["N", 4])],
        outputs: [value("out", ["N", 3])],
        initializers: [floats("w", [...shape], weights)],
      });
      const model = await loadModel(bytes);
      expect(model.parameters[0]!.outputAxis).toBe(axis);
      const direction = randomDirection(model);
      for (let unit = 0; unit < 3; unit++) {
        const filter = (v: ArrayLike<number>) =>
          [0, 1, 2, 3].map((i) => v[axis ? 3 * i + unit : 4 * unit + i]!);
        expect(norm(filter(direction)) / norm(filter(weights))).toBeCloseTo(1, 6);
      }
    },
  );
});

describe("points are kept", () => {
  const options = { range: [-1, 1], points: 9, precision } as const;

  test("a run that is stopped goes on where it was, to the same numbers", async () => {
    const { model, data } = await tinyProblem();
    const direction = vector(model.parameterCount);
    const whole = await lossLine(model, data, direction, options);
    expect([whole.evaluated, whole.reused]).toEqual([9, 0]);

    const stop = new AbortController();
    let done = 0;
    const cut = await rejection(
      lossLine(model, data, direction, {
        ...options,
        resume: folder,
        signal: stop.signal,
        onProgress: () => ++done === 4 && stop.abort(),
      }),
    );
    expect(cut.name).toBe("AbortError");
    const lines = readFileSync(join(folder, "points.jsonl"), "utf8").trim().split("\n");
    expect(lines).toHaveLength(5);

    // What a crash in the middle of a line leaves.
    appendFileSync(join(folder, "points.jsonl"), '{"point":4,"lo');
    const rest = await lossLine(model, data, direction, { ...options, resume: folder });
    expect([rest.evaluated, rest.reused]).toEqual([5, 4]);
    expect(rest.losses).toEqual(whole.losses);
    const again = await lossLine(model, data, direction, { ...options, resume: folder });
    expect([again.evaluated, again.reused]).toEqual([0, 9]);
    expect(again.losses).toEqual(whole.losses);
  });

  test("planes and interpolations as well", async () => {
    const { model, data } = await tinyProblem();
    const [a, b] = [vector(model.parameterCount), vector(model.parameterCount, 3)];
    const small = { ...options, points: 3, resume: folder };
    const plane = await lossPlane(model, data, [a, b], small);
    expect((await lossPlane(model, data, [a, b], small)).reused).toBe(9);
    expect((await lossPlane(model, data, [a, b], small)).losses).toEqual(plane.losses);
    await expect(interpolate(model, data, a, { points: 3, resume: folder })).rejects.toThrow(
      "holds points of another landscape",
    );
  });

  test("other options, data or files are refused", async () => {
    const { model, data } = await quadratic();
    const direction = vector(15);
    const kept = { ...options, points: 3, resume: folder, loss: "mse" } as const;
    await lossLine(model, data, direction, kept);
    const refusal = /points.jsonl: holds points of another landscape: model, data, loss/;
    await expect(lossLine(model, data, direction, { ...kept, points: 4 })).rejects.toThrow(refusal);
    await expect(lossLine(model, data, vector(15, 1), kept)).rejects.toThrow(refusal);
    await expect(
      lossLine(model, data, direction, { ...kept, loss: { name: "mse", reduction: "sum" } }),
    ).rejects.toThrow(refusal);
    // Of the same shape, but with other numbers.
    using other = await dataOf({
      x: { data: normals(2, 40), shape: [4] },
      y: { data: normals(8, 30), shape: [3] },
    });
    await expect(lossLine(model, other, direction, kept)).rejects.toThrow("the data have changed");
    writeFileSync(join(folder, "points.jsonl"), "mine\n");
    await expect(lossLine(model, data, direction, kept)).rejects.toThrow("got another file");
    expect(readFileSync(join(folder, "points.jsonl"), "utf8")).toBe("mine\n");
  });
});

test("a loss that overflows far away is NaN there, and no error", async () => {
  const { model, data } = await product(1, 1);
  const far = Float64Array.of(1e200, 1e200);
  const line = await lossLine(model, data, far, {
    points: 3,
    precision,
    loss: "mse",
    resume: folder,
  });
  expect(Array.from(line.losses)).toEqual([NaN, 0, NaN]);
  const again = await lossLine(model, data, far, {
    points: 3,
    precision,
    loss: "mse",
    resume: folder,
  });
  expect(again.reused).toBe(3);
  expect(again.losses).toEqual(line.losses);
});

test("wrong uses name what was expected", async () => {
  const { model, data } = await product(1, 1);
  const d = Float64Array.of(1, 1);
  const calls: [() => Promise<unknown>, string][] = [
    [
      () => lossLine(model, data, Float64Array.of(1), { loss: "mse" }),
      "expected a Float64Array of 2 numbers",
    ],
    [() => lossLine(model, data, Float64Array.of(1, NaN)), "got NaN at index 1"],
    [() => lossLine(model, data, d), "lossLine: expected a loss"],
    [
      () => lossLine(model, data, d, { loss: "mse", range: [1, 1] }),
      "range: expected [first, last]",
    ],
    [
      () => lossLine(model, data, d, { loss: "mse", points: 1 }),
      "points: expected a whole number of at least 2",
    ],
    [() => lossLine(model, {} as never, d, { loss: "mse" }), "expected data of loadData"],
    [() => lossPlane(model, data, [d] as never, { loss: "mse" }), "directions: expected two"],
    [
      () => interpolate(model, data, d, { loss: "mse", range: [0, 0.5] }),
      "a range that holds 0 and 1",
    ],
  ];
  for (const [call, text] of calls) await expect(call()).rejects.toThrow(text);
  expect(() => directionTo(model, Float64Array.of(1))).toThrow("Float64Array of its 2 parameters");
  expect(() => randomDirection(model, { scaling: "unit" as never })).toThrow(
    'scaling: expected one of "filter", "layer", "none"',
  );
  expect(() => randomDirection(model, { params: "v*" })).toThrow('"v*" matches no parameter');
});
