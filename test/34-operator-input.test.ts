// What operators, losses and gradients refuse: targets that do not fit, numbers that are not finite,
// options of other losses, too little memory. Messages name what was wrong and where.
import {
  type DataSet,
  type FisherOptions,
  fisher,
  forward,
  gradient,
  hessian,
  type Loss,
  type LossName,
  loadModel,
  loss as lossOf,
  type Model,
  type OperatorOptions,
} from "../lib";
import { dataOf, netBytes, netModel, type Rows, randomTheta } from "./support/networks";
import { normals } from "./support/numbers";

const widths = [3, 4, 3];
const net = { widths, theta: randomTheta(1, widths), activation: "Tanh" };
const map = [{ op: "Reshape", integers: [-1, 3, 2] }];
const mapWidths = [3, 4, 6];
const mapNet = { ...net, widths: mapWidths, theta: randomTheta(2, mapWidths), tail: map };
const n = 5;
const x: Rows = { data: normals(3, 3 * n), shape: [3] };
const labels = (...values: number[]): Rows => ({ data: Int32Array.from(values), shape: [] });
const reals = (shape: number[]): Rows => ({
  data: normals(4, n * shape.reduce((a, b) => a * b, 1)),
  shape,
});

let flat: Model;
let sequence: Model;
beforeAll(async () => {
  [flat, sequence] = [await netModel(net), await netModel(mapNet)];
});

/** Every way to use model, data and loss must refuse with the same message. */
async function expectRefused(
  model: Model,
  data: DataSet,
  loss: LossName | Loss,
  name: string,
  message: RegExp,
): Promise<void> {
  const uses: (() => Promise<unknown>)[] = [
    () => lossOf(model, data, { loss }),
    () => gradient(model, data, { loss }),
    async () => hessian(model, data, { loss }).apply(new Float32Array(model.parameterCount)),
  ];
  for (const use of uses) {
    const call = use();
    await expect(call).rejects.toMatchObject({ name });
    await expect(call).rejects.toThrow(message);
  }
}

describe("targets", () => {
  const good = labels(0, 1, 2, 1, 0);
  const far = labels(0, 1, 2, 3, 0);
  test.each<[string, boolean, Rows | undefined, LossName | Loss, RegExp]>([
    ["a label too large", false, far, "cross-entropy", /0 to 2 .*3 classes.* received 3 at .*3/],
    ["a negative label", false, labels(0, -1, 2, 1, 0), "cross-entropy", /received -1 at .*1/],
    [
      "the usual ignored label, when another is",
      false,
      labels(0, 1, 2, -100, 0),
      { name: "cross-entropy", ignoreIndex: 255 },
      /or 255 to ignore; received -100/,
    ],
    ["labels all ignored", false, labels(-100, -100, -100, -100, -100), "cross-entropy", /ignored/],
    [
      "labels all of weight 0",
      false,
      labels(0, 0, 0, 0, 0),
      { name: "cross-entropy", classWeights: [0, 1, 1] },
      /ignored or has weight 0/,
    ],
    ["none", false, undefined, "cross-entropy", /no array for the target y/],
    ["none for mse", false, undefined, "mse", /no array for the target y .*the data have x/],
    [
      "labels that are not whole",
      false,
      { data: new Float64Array(n).fill(0.5), shape: [] },
      "nll",
      /0\.5/,
    ],
    ["one number for mse", false, reals([]), "mse", /output's shape .*3.*received/],
    ["too many for mse", false, reals([4]), "mse", /output's shape .*3.*received/],
    ["probabilities of another shape", false, reals([2]), "cross-entropy", /or probabilities of/],
    ["probabilities for nll", false, reals([3]), "nll", /expected integer labels/],
    [
      "labels of samples for a sequence",
      true,
      good,
      "cross-entropy",
      /integer labels of shape .*2/,
    ],
    [
      "labels of classes for a sequence",
      true,
      { data: new Int32Array(3 * n), shape: [3] },
      "cross-entropy",
      /integer labels of shape .*2.*class axis 1/,
    ],
  ])("%s", async (_, ofSequence, y, loss, message) => {
    using data = await dataOf(y ? { x, y } : { x });
    const model = ofSequence ? sequence : flat;
    await expectRefused(model, data, loss, "DataMismatchError", message);
  });

  test("may be labels held as floats, as a CSV column holds them", async () => {
    using whole = await dataOf({ x, y: good });
    using floats = await dataOf({ x, y: { data: Float64Array.of(0, 1, 2, 1, 0), shape: [] } });
    const options = { loss: "cross-entropy" } as const;
    expect(await lossOf(flat, floats, options)).toBe(await lossOf(flat, whole, options));
  });

  test("are not looked at beyond what the loss needs", async () => {
    using data = await dataOf({ x, y: far });
    const { shape } = await forward(flat, data);
    expect(shape).toEqual([n, 3]);
  });

  test("of one column count as none, and labels may be of any integer type", async () => {
    using wanted = await dataOf({ x, y: good });
    const want = await lossOf(flat, wanted, { loss: "cross-entropy" });
    using column = await dataOf({ x, y: { ...good, shape: [1] } });
    expect(await lossOf(flat, column, { loss: "cross-entropy" })).toBe(want);
  });
});

describe("options of losses", () => {
  const good = labels(0, 1, 2, 1, 0);
  test.each<[Loss, Rows, RegExp]>([
    [
      { name: "cross-entropy", classWeights: [1, 2] },
      good,
      /classWeights: expected 3 .*received 2/,
    ],
    [
      { name: "cross-entropy", labelSmoothing: 1.5 },
      good,
      /labelSmoothing: .* 0 to 1; received 1.5/,
    ],
    [{ name: "nll", labelSmoothing: 0.1 }, good, /labelSmoothing belongs to .*cross-entropy/],
    [
      { name: "mse", classWeights: [1, 1, 1] },
      reals([3]),
      /class weights .* belong to cross-entropy/,
    ],
    [{ name: "mse", posWeight: [2] }, reals([3]), /posWeight belongs to .* bce-with-logits/],
    [
      { name: "bce-with-logits", posWeight: [1, 2] },
      reals([3]),
      /posWeight: expected 3 .* received 2/,
    ],
    [{ name: "huber", delta: 0 }, reals([3]), /delta: expected a positive number; received 0/],
    [{ name: "cross-entropy", classAxis: 2 }, good, /classAxis: expected an axis from 1 to 1/],
    [{ name: "cross-entropy", classAxis: 0 }, good, /classAxis: expected an axis from 1 to 1/],
    [{ name: "cross-entropy", ignoreIndex: 2 ** 32 }, good, /ignoreIndex: .* of 32 bits/],
    [
      { name: "cross_entropy" as LossName },
      good,
      /loss: expected one of cross-entropy, .*"cross_e/,
    ],
    [
      { name: "mse", reduction: "none" as "mean" },
      reals([3]),
      /reduction: expected "mean" or "sum"/,
    ],
    [{ name: "mse", weight: 1 } as Loss, reals([3]), /expected the options .*got "weight"/],
    [{ name: "huber", delta: "1" as unknown as number }, reals([3]), /delta: expected a number/],
  ])("%j", async (loss, y, message) => {
    using data = await dataOf({ x, y });
    await expectRefused(flat, data, loss, "OptionError", message);
  });

  test("no loss at all", async () => {
    using data = await dataOf({ x, y: good });
    await expect(lossOf(flat, data)).rejects.toThrow(/loss: expected a loss, of the model or/);
    expect(() => hessian(flat, data)).toThrow(/hessian: expected a loss/);
  });

  test("the output as loss must be a number, or one a sample", async () => {
    using data = await dataOf({ x });
    const message = /loss output: expected a scalar, or one number a sample.* has shape/;
    await expectRefused(flat, data, "output", "DataMismatchError", message);
  });
});

describe("numbers that are not finite", () => {
  const y = labels(0, 1, 2, 1, 0);
  const spoilt = (rows: Rows, at: number, value: number): Rows => {
    const data = Float64Array.from(rows.data);
    data[at] = value;
    return { ...rows, data };
  };

  test.each([
    ["NaN", Number.NaN],
    ["infinity", Number.POSITIVE_INFINITY],
  ])("%s in inputs, targets and parameters, by name and index", async (_, value) => {
    using inputs = await dataOf({ x: spoilt(x, 7, value), y });
    await expectRefused(flat, inputs, "cross-entropy", "DataMismatchError", /x.*\[2, 1\]/);
    using targets = await dataOf({ x, y: spoilt(reals([3]), 5, value) });
    await expectRefused(flat, targets, "mse", "DataMismatchError", /y.*\[1, 2\]/);
    const theta = Float64Array.from(net.theta);
    theta[12 + 4 + 5] = value; // w1 [1, 1]
    const model = await netModel({ ...net, theta });
    using data = await dataOf({ x, y });
    const message = /parameter w1: expected finite numbers; .*\[1, 1\]/;
    await expectRefused(model, data, "cross-entropy", "DataMismatchError", message);
  });

  test("an output that overflows, by sample and element", async () => {
    const model = await netModel({ ...net, tail: [{ op: "Mul", value: 1e6 }, { op: "Exp" }] });
    using data = await dataOf({ x, y: reals([3]) });
    const call = lossOf(model, data, { loss: "mse" });
    await expect(call).rejects.toMatchObject({ name: "DataMismatchError" });
    await expect(call).rejects.toThrow(/output is inf for sample \d, element \d/);
    using H = hessian(model, data, { loss: "mse" });
    const product = H.apply(new Float32Array(H.dim).fill(1));
    await expect(product).rejects.toMatchObject({ name: "DataMismatchError" });
    await expect(product).rejects.toThrow(/output is inf for sample/);
  });

  test("a product that is not, though the loss is", async () => {
    // The slope of a root at 0.
    const root = [{ op: "Sqrt" }];
    const model = await netModel({ widths: [1, 1], theta: [1, 0], tail: root });
    const one: Rows = { data: Float64Array.of(0), shape: [1] };
    using data = await dataOf({ x: one, y: { ...one, data: Float64Array.of(1) } });
    expect(await lossOf(model, data, { loss: "mse" })).toBe(1);
    const product = hessian(model, data, { loss: "mse" }).apply(Float32Array.of(1, 1));
    await expect(product).rejects.toMatchObject({ name: "DataMismatchError" });
    await expect(product).rejects.toThrow(/not finite although the loss is/);
  });

  test("a probability of 0 where it counts", async () => {
    const model = await netModel({
      widths: [1, 2],
      bias: false,
      theta: [0, 1],
    });
    using data = await dataOf({ x: { data: Float64Array.of(1), shape: [1] }, y: labels(0) });
    const call = lossOf(model, data, { loss: "nll-probabilities", precision: "float64" });
    await expect(call).rejects.toThrow(/not finite.*a target meets a probability of 0/);
  });

  test("a vector that is not", async () => {
    using data = await dataOf({ x, y });
    for (const precision of ["float32", "float64"] as const) {
      using H = hessian(flat, data, { loss: "cross-entropy", precision });
      const v = precision === "float32" ? new Float32Array(H.dim) : new Float64Array(H.dim);
      v[3] = Number.NaN;
      await expect(H.apply(v)).rejects.toMatchObject({ name: "DataMismatchError" });
      v[3] = 1; // The operator survives.
      expect((await H.apply(v)).every(Number.isFinite)).toBe(true);
    }
  });
});

describe("vectors, options and memory", () => {
  const y = labels(0, 1, 2, 1, 0);
  let data: DataSet;
  beforeAll(async () => {
    data = await dataOf({ x, y });
  });

  test.each<[string, unknown, RegExp]>([
    ["another type", new Float64Array(31), /expected a Float32Array.*got a Float64Array; convert/],
    ["a plain array", [1, 2, 3], /expected a Float32Array/],
    ["another length", new Float32Array(30), /K times 31 numbers.*got 30/],
    ["none", new Float32Array(0), /K times 31 numbers.*got 0/],
    ["a shared buffer", new Float32Array(new SharedArrayBuffer(4 * 31)), /[Ss]hared/],
  ])("a vector of %s", async (_, v, message) => {
    using H = hessian(flat, data, { loss: "cross-entropy" });
    const call = H.apply(v as Float32Array);
    await expect(call).rejects.toMatchObject({ name: "OptionError" });
    await expect(call).rejects.toThrow(message);
  });

  test.each<[object, RegExp]>([
    [{ precision: "float16" }, /precision: expected one of "float32", "float64"/],
    [{ threads: 0 }, /threads: expected a whole number of at least 1, got 0/],
    [{ batch: 1.5 }, /batch: expected a whole number of at least 1, got 1.5/],
    [{ treads: 2 }, /"threads" was probably meant/],
    [{ params: "conv*" }, /conv\*/],
    [{ exclude: "*" }, /leave none/],
    [{ params: 3 }, /params: expected a pattern of names/],
  ])("options %j", (options, message) => {
    expect(() =>
      hessian(flat, data, { loss: "cross-entropy", ...options } as OperatorOptions),
    ).toThrow(message);
  });

  test.each<[object, RegExp]>([
    [{}, /type: expected one of "type-2", "mc", "empirical", got undefined/],
    [{ type: "exact" }, /type: expected one of/],
    [{ type: "mc", draws: 0 }, /draws: expected a whole number of at least 1/],
    [{ type: "mc", seed: -1 }, /seed: expected a whole number from 0/],
    [{ type: "type-2", seed: 1 }, /draws and seed belong to type "mc"/],
  ])("options %j of fisher", (options, message) => {
    expect(() =>
      fisher(flat, data, { loss: "cross-entropy", ...options } as FisherOptions),
    ).toThrow(message);
  });

  test.each<[unknown, RegExp]>([
    ["v*", /v\*/],
    [new Uint8Array(5), /mask of 31 entries.*got 5/],
    [{ indices: [31] }, /indices from 0 to 30, got 31/],
    [{ indices: [0.5] }, /indices from 0 to 30, got 0.5/],
    [3, /restrict: expected patterns of names.*got 3/],
  ])("a restriction to %p", (choice, message) => {
    using H = hessian(flat, data, { loss: "cross-entropy" });
    expect(() => H.restrict(choice as string)).toThrow(message);
    expect(() => H.project(choice as string)).toThrow(message);
  });

  test("an empty restriction", () => {
    using H = hessian(flat, data, { loss: "cross-entropy" });
    expect(() => H.restrict(new Uint8Array(31))).toThrow(/OptionError|at least one|none|nothing/i);
    expect(() => H.restrict({ indices: [] })).toThrow();
  });

  test("operators that do not go together", async () => {
    using a = hessian(flat, data, { loss: "cross-entropy" });
    using b = hessian(flat, data, { loss: "cross-entropy", precision: "float64" });
    using c = a.restrict("w0");
    expect(() => a.add(b)).toThrow(/float/);
    expect(() => a.add(c)).toThrow(/31|12/);
    expect(() => a.add({} as typeof a)).toThrow(/expected an operator/);
    expect(() => a.scale(Number.NaN)).toThrow(/factor: expected a finite number/);
    expect(() => a.shift(Number.POSITIVE_INFINITY)).toThrow(/amount: expected a finite number/);
  });

  test("memory below what one sample needs", async () => {
    const use = async (options: object) => {
      using H = hessian(flat, data, { loss: "cross-entropy", ...options });
      return H.apply(new Float32Array(H.dim));
    };
    for (const options of [{ maxMemory: 100 }, { maxMemory: 2000, batch: 5 }]) {
      await expect(use(options)).rejects.toMatchObject({ name: "MemoryBudgetError" });
      await expect(use(options)).rejects.toThrow(
        /needs about \d+ bytes .* budget is \d+: raise --max-memory/,
      );
    }
  });

  test("a batch that the graph does not take", async () => {
    const bytes = netBytes({ ...mapNet, tail: [{ op: "Reshape", integers: [5, 3, 2] }] });
    const model = await loadModel(bytes, { params: { include: ["w*", "b*"] } });
    using y5 = await dataOf({ x, y: { data: new Int32Array(2 * n), shape: [2] } });
    const call = lossOf(model, y5, { loss: "cross-entropy", batch: 2 });
    await expect(call).rejects.toMatchObject({ name: "DataMismatchError" });
  });

  test("an operator that was disposed of", async () => {
    const H = hessian(flat, data, { loss: "cross-entropy" });
    H.dispose();
    H.dispose();
    await expect(H.apply(new Float32Array(31))).rejects.toMatchObject({ name: "OptionError" });
  });

  test("inputs that do not fit the model", async () => {
    using wide = await dataOf({ x: { data: normals(1, 4 * n), shape: [4] }, y });
    await expect(lossOf(flat, wide, { loss: "cross-entropy" })).rejects.toMatchObject({
      name: "DataMismatchError",
    });
    using other = await dataOf({ a: x, b: x, y });
    await expect(lossOf(flat, other, { loss: "cross-entropy" })).rejects.toMatchObject({
      name: "DataMismatchError",
    });
  });
});
