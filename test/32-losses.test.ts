// Every loss with its options, reductions and places of the Gauss-Newton split, against PyTorch in
// float64; what is refused, and what warns. test/fixtures/losses/generate.py made the numbers.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type DataSet,
  fisher,
  functionalHessian,
  ggn,
  gradient,
  hessian,
  type LinearOperator,
  type Loss,
  type LossName,
  loss as lossOf,
  type Model,
} from "../lib";
import {
  dataOf,
  dense,
  type Net,
  netModel,
  type Rows,
  randomTheta,
  sampleGradients,
} from "./support/networks";
import { errorOf, integers, maxAbs, normals, outerSum, uniform } from "./support/numbers";

type Nested = number | Nested[];

interface LossCase {
  name: string;
  network: string;
  loss: Loss;
  y: Nested[] | null;
  value: number;
  gradient: number[];
  hessian: number[];
  ggn?: number[];
  type2?: number[];
  empirical?: number[];
}

const fixtures: {
  x: number[][];
  v: Record<string, number[]>;
  networks: Record<string, Net>;
  cases: LossCase[];
} = JSON.parse(readFileSync(join(__dirname, "fixtures", "losses", "losses.json"), "utf8"));

const precision = "float64";

function rowsOf(nested: Nested[], whole: boolean): Rows {
  const shape: number[] = [];
  for (let inner: Nested = nested; Array.isArray(inner); inner = inner[0]!)
    shape.push(inner.length);
  const flat = (nested as number[]).flat(9);
  return { data: whole ? Int32Array.from(flat) : Float64Array.from(flat), shape: shape.slice(1) };
}

const isLabels = ({ loss, y, network }: LossCase) =>
  ["cross-entropy", "nll", "nll-probabilities"].includes(loss.name) &&
  (y as number[]).flat(9).length * 3 ===
    fixtures.x.length * fixtures.networks[network]!.widths.at(-1)!;

async function problemOf(of: LossCase): Promise<{ model: Model; data: DataSet; v: Float64Array }> {
  const net = fixtures.networks[of.network]!;
  const model = await netModel({ ...net, activation: "Tanh" });
  const arrays: Record<string, Rows> = { x: rowsOf(fixtures.x, false) };
  if (of.y) arrays.y = rowsOf(of.y, isLabels(of));
  const v = Float64Array.from(fixtures.v[String(net.widths.at(-1))]!);
  return { model, data: await dataOf(arrays), v };
}

const titled = fixtures.cases.map((of): [string, LossCase] => [
  `${of.loss.name}${of.name && ": "}${of.name} (${of.network})`,
  of,
]);

describe("as PyTorch has it", () => {
  test.each(titled)("%s", async (_, of) => {
    const { model, data, v } = await problemOf(of);
    const options = { loss: of.loss, precision } as const;
    const risk = await gradient(model, data, options);
    expect(errorOf([risk.loss], [of.value])).toBeLessThan(1e-13);
    expect(errorOf(risk.gradient, of.gradient)).toBeLessThan(1e-12);
    const wanted: [string, () => LinearOperator, number[] | undefined][] = [
      ["hessian", () => hessian(model, data, options), of.hessian],
      ["ggn", () => ggn(model, data, options), of.ggn],
      ["type-2", () => fisher(model, data, { ...options, type: "type-2" }), of.type2],
      ["empirical", () => fisher(model, data, { ...options, type: "empirical" }), of.empirical],
    ];
    for (const [name, make, want] of wanted) {
      const product = async () => {
        using operator = make();
        return operator.apply(v);
      };
      if (want)
        expect({ name, error: errorOf(await product(), want) }).toEqual({
          name,
          error: expect.closeTo(0, 12),
        });
      else await expect(product()).rejects.toMatchObject({ name: "OptionError" });
    }
    using functional = functionalHessian(model, data, options);
    // Where the Gauss-Newton matrix is refused it is zero, or unknown and counted as zero.
    const rest = of.hessian.map((value, i) => value - (of.ggn?.[i] ?? 0));
    if (of.loss.name !== "output")
      expect(errorOf(await functional.apply(v), rest, maxAbs(of.hessian))).toBeLessThan(1e-12);
  });

  test("the fixtures have every loss, and each refusal is one of them", () => {
    const losses = new Set(fixtures.cases.map(({ loss }) => loss.name));
    expect([...losses].sort()).toEqual([
      "bce",
      "bce-with-logits",
      "cross-entropy",
      "huber",
      "l1",
      "mse",
      "nll",
      "nll-probabilities",
      "output",
      "smooth-l1",
    ]);
  });
});

const caseOf = (name: LossName, network: string) =>
  fixtures.cases.find((of) => of.loss.name === name && of.network === network)!;

describe("refused", () => {
  type Make = (model: Model, data: DataSet, loss: Loss) => LinearOperator;
  const asGgn: Make = (model, data, loss) => ggn(model, data, { loss });
  const asType2: Make = (model, data, loss) => fisher(model, data, { loss, type: "type-2" });
  const asMc: Make = (model, data, loss) => fisher(model, data, { loss, type: "mc" });
  const asEmpirical: Make = (model, data, loss) => fisher(model, data, { loss, type: "empirical" });
  test.each<[LossName, string, string, Make, RegExp]>([
    ["nll", "flat", "ggn", asGgn, /nll is linear .* is zero: end the network with LogSoftmax/],
    ["nll", "flat", "type-2", asType2, /nll is linear/],
    ["nll", "other_log_softmax", "ggn", asGgn, /nll is linear/],
    ["nll", "flat", "mc", asMc, /nll is linear/],
    ["nll-probabilities", "narrow_softmax", "type-2", asType2, /only where .* ends with Softmax/],
    ["nll-probabilities", "other_softmax", "mc", asMc, /only where .* ends with Softmax/],
    ["bce", "narrow_sigmoid", "type-2", asType2, /only where the network ends with Sigmoid/],
    ["bce", "narrow_sigmoid", "mc", asMc, /only where the network ends with Sigmoid/],
    ["huber", "flat", "type-2", asType2, /huber is no likelihood: type-2 and mc .* do not exist/],
    ["huber", "flat", "mc", asMc, /huber is no likelihood/],
    ["smooth-l1", "flat", "type-2", asType2, /smooth-l1 is no likelihood/],
    ["smooth-l1", "flat", "mc", asMc, /smooth-l1 is no likelihood/],
    ["l1", "flat", "ggn", asGgn, /l1 has no curvature .* is zero/],
    ["l1", "flat", "type-2", asType2, /l1 has no curvature/],
    ["output", "norm", "ggn", asGgn, /"output" is the graph's own scalar.*split.*not known/],
    ["output", "norm", "type-2", asType2, /"output" is the graph's own scalar/],
    ["output", "mean", "empirical", asEmpirical, /one number a micro-batch: the gradients of its/],
  ])("%s (%s): %s", async (name, network, _, make, message) => {
    const of = caseOf(name, network);
    const { model, data, v } = await problemOf(of);
    const product = async () => make(model, data, of.loss).apply(Float32Array.from(v));
    await expect(product()).rejects.toThrow(message);
    await expect(product()).rejects.toMatchObject({ name: "OptionError" });
  });
});

describe("the report", () => {
  test.each<[LossName, string, string]>([
    ["cross-entropy", "flat", "at the output"],
    ["cross-entropy", "log_softmax", "at the input of the last LogSoftmax"],
    ["cross-entropy", "softmax", "at the output"],
    ["cross-entropy", "other_log_softmax", "at the output"],
    ["nll", "log_softmax", "at the input of the last LogSoftmax"],
    ["nll", "map_log_softmax", "at the input of the last LogSoftmax"],
    ["nll-probabilities", "softmax", "at the input of the last Softmax"],
    ["nll-probabilities", "other_softmax", "at the output"],
    ["bce", "sigmoid", "at the input of the last Sigmoid"],
    ["bce", "narrow_sigmoid", "at the output"],
    ["bce-with-logits", "sigmoid", "at the output"],
    ["mse", "flat", "at the output"],
  ])("%s (%s): split %s", async (name, network, split) => {
    const of = caseOf(name, network);
    const { model, data } = await problemOf(of);
    const [report] = await ggn(model, data, { loss: of.loss }).report();
    expect(report!.split).toBe(split);
  });

  test.each<[LossName, string, RegExp | undefined]>([
    ["cross-entropy", "softmax", /ends with Softmax, and cross-entropy .* nll-probabilities\?/],
    ["bce-with-logits", "sigmoid", /ends with Sigmoid, and bce-with-logits .* bce\?/],
    ["cross-entropy", "flat", undefined],
    ["cross-entropy", "log_softmax", undefined],
    ["nll-probabilities", "softmax", undefined],
    ["bce", "sigmoid", undefined],
  ])("%s (%s): warns %s", async (name, network, warning) => {
    const of = caseOf(name, network);
    const { model, data } = await problemOf(of);
    const [report] = await hessian(model, data, { loss: of.loss }).report();
    const { report: ofRisk } = await gradient(model, data, { loss: of.loss });
    for (const warnings of [report!.warnings, ofRisk.warnings])
      if (warning) expect(warnings.join()).toMatch(warning);
      else expect(warnings).toEqual([]);
  });
});

describe("the empirical Fisher is made of the gradients of samples", () => {
  const widths = [3, 4, 6];
  const theta = randomTheta(7, widths);
  const n = 7;
  const x: Rows = { data: normals(8, 3 * n), shape: [3] };
  const map = [{ op: "Reshape", integers: [-1, 3, 2] }];
  const weights = [0.5, 2, 1.25];
  const grid = integers(9, 2 * n, 3);
  const withIgnored = grid.map((label, i) => (i % 5 === 1 ? -100 : label));
  const problems: [string, Net["tail"], Rows, Loss][] = [
    ["several outputs", [], { data: normals(10, 6 * n), shape: [6] }, { name: "mse" }],
    ["a sequence", map, { data: normals(10, 6 * n), shape: [3, 2] }, { name: "mse" }],
    ["labels of a sequence", map, { data: grid, shape: [2] }, { name: "cross-entropy" }],
    [
      "class weights",
      map,
      { data: grid, shape: [2] },
      { name: "cross-entropy", classWeights: weights },
    ],
    [
      "ignored positions and class weights",
      map,
      { data: withIgnored, shape: [2] },
      { name: "cross-entropy", classWeights: weights, labelSmoothing: 0.1 },
    ],
  ];

  /** The weights of a sample's labels, which the mean is taken over; 1 where there are none. */
  const massOf = (y: Rows, loss: Loss, sample: number) =>
    y.data instanceof Float64Array
      ? 1
      : [0, 1].reduce((sum, t) => {
          const label = y.data[2 * sample + t]!;
          return sum + (label < 0 ? 0 : (loss.classWeights?.[label] ?? 1));
        }, 0);

  test.each(problems)("%s", async (_, tail, y, loss) => {
    const model = await netModel({ widths, theta, activation: "Tanh", tail });
    using data = await dataOf({ x, y });
    const mass = Array.from({ length: n }, (_, i) => massOf(y, loss, i));
    const total = mass.reduce((a, b) => a + b, 0);
    const each = await sampleGradients(model, { x, y }, loss);
    // l_n is n times what the sample adds to the mean, (mass / total) times its own mean.
    const slopes = each.map(({ gradient }, i) =>
      gradient.map((value) => value * ((n * mass[i]!) / total)),
    );
    const risk = await gradient(model, data, { loss, precision });
    const mean = each.reduce((sum, one, i) => sum + (one.loss * mass[i]!) / total, 0);
    expect(errorOf([risk.loss], [mean])).toBeLessThan(1e-14);
    const want = outerSum(slopes, new Array(n).fill(1 / n));
    const got = await dense(fisher(model, data, { loss, type: "empirical", precision }));
    const scale = Math.max(...want.map(maxAbs));
    for (const [i, row] of got.entries()) expect(errorOf(row, want[i]!, scale)).toBeLessThan(1e-13);
    // For the sum: sum g_n g_n^T, g_n the gradient of the sample's sum.
    const sum = { ...loss, reduction: "sum" } as const;
    const sums = await sampleGradients(model, { x, y }, sum);
    const wantSum = outerSum(sums.map(({ gradient }) => gradient));
    const gotSum = await dense(fisher(model, data, { loss: sum, type: "empirical", precision }));
    const size = Math.max(...wantSum.map(maxAbs));
    for (const [i, row] of gotSum.entries())
      expect(errorOf(row, wantSum[i]!, size)).toBeLessThan(1e-13);
  });
});

describe("extreme outputs", () => {
  const labels: Rows = { data: Int32Array.of(0, 1, 2, 1), shape: [] };
  const x: Rows = { data: Float64Array.of(1, -1, 2, -3), shape: [1] };
  // Of cross-entropy by way of the largest: no exponential overflows, none cancels.
  test.each([1e2, 1e4])("logits of %p are finite and right", async (size) => {
    const w = [size, -size, 0.5 * size];
    const model = await netModel({ widths: [1, 3], bias: false, theta: w });
    using data = await dataOf({ x, y: labels });
    for (const which of ["float32", "float64"] as const) {
      const value = await lossOf(model, data, { loss: "cross-entropy", precision: which });
      const want =
        Array.from(x.data).reduce((sum, xi, n) => {
          const z = w.map((wi) => wi * xi);
          const most = Math.max(...z);
          const logSum = most + Math.log(z.reduce((s, zi) => s + Math.exp(zi - most), 0));
          return sum + logSum - z[labels.data[n]!]!;
        }, 0) / 4;
      expect(errorOf([value], [want])).toBeLessThan(which === "float32" ? 1e-6 : 1e-14);
      using H = hessian(model, data, { loss: "cross-entropy", precision: which });
      const product = await H.apply(
        which === "float32" ? Float32Array.of(1, 2, 3) : Float64Array.of(1, 2, 3),
      );
      expect(product.every(Number.isFinite)).toBe(true);
    }
  });

  test("binary cross-entropy of probabilities 0 and 1 is clamped at 100, as PyTorch's", async () => {
    // Clip gives exact 0 and 1.
    const model = await netModel({
      widths: [1, 1],
      bias: false,
      theta: [1],
      tail: [{ op: "Clip" }, { op: "Relu" }],
    });
    const y: Rows = { data: Float64Array.of(0, 0, 1, 1), shape: [1] };
    const at: Rows = { data: Float64Array.of(0, 1, 0, 1), shape: [1] };
    using data = await dataOf({ x: at, y });
    const risk = await gradient(model, data, { loss: "bce", precision });
    expect(risk.loss).toBe(50);
    expect(risk.gradient.every(Number.isFinite)).toBe(true);
  });

  test("probabilities that do not count may be 0", async () => {
    const next = uniform(3);
    const probabilities = Array.from({ length: 4 }, (_, n) =>
      [0, 1, 2].map((c) => (c === labels.data[n] ? 0.25 + next() / 2 : 0)),
    );
    // The features are the probabilities; the layer passes them on.
    const model = await netModel({
      widths: [3, 3],
      bias: false,
      theta: [1, 0, 0, 0, 1, 0, 0, 0, 1],
    });
    const features: Rows = { data: Float64Array.from(probabilities.flat()), shape: [3] };
    using data = await dataOf({ x: features, y: labels });
    const options = { loss: "nll-probabilities", precision } as const;
    const risk = await gradient(model, data, options);
    const want = probabilities.reduce(
      (sum, row, n) => sum - Math.log(row[labels.data[n]!]!) / 4,
      0,
    );
    expect(errorOf([risk.loss], [want])).toBeLessThan(1e-14);
    const products = await dense(hessian(model, data, options));
    expect(products.every((row) => row.every(Number.isFinite))).toBe(true);
  });
});
