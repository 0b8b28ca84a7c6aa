// What holds for every operator, by routes that share no derivative with it: symmetry, the split of
// the Hessian, Fisher matrices from gradients of samples, sampling, and what must change nothing.
import {
  type DataSet,
  eigsh,
  type FisherOptions,
  fisher,
  forward,
  functionalHessian,
  ggn,
  gradient,
  hessian,
  type LinearOperator,
  type Loss,
  loadData,
  loadModel,
  Mask,
  type Model,
  type OperatorOptions,
} from "../lib";
import { Case } from "./support/cases";
import { dataOf, dense, type Net, netModel, type Rows, randomTheta } from "./support/networks";
import {
  dot,
  errorOf,
  integers,
  type Matrix,
  maxAbs,
  norm,
  normals,
  outerSum,
  times,
  uniform,
} from "./support/numbers";

const precision = "float64";

const KINDS = {
  hessian: (model: Model, data: DataSet, options: OperatorOptions) => hessian(model, data, options),
  ggn: (model: Model, data: DataSet, options: OperatorOptions) => ggn(model, data, options),
  functional: (model: Model, data: DataSet, options: OperatorOptions) =>
    functionalHessian(model, data, options),
  "type-2": (model: Model, data: DataSet, options: OperatorOptions) =>
    fisher(model, data, { ...options, type: "type-2" }),
  mc: (model: Model, data: DataSet, options: OperatorOptions) =>
    fisher(model, data, { ...options, type: "mc", draws: 3, seed: 5 }),
  empirical: (model: Model, data: DataSet, options: OperatorOptions) =>
    fisher(model, data, { ...options, type: "empirical" }),
} as const;
type Kind = keyof typeof KINDS;
const kinds = Object.keys(KINDS) as Kind[];

interface Problem {
  net: Net;
  arrays: { x: Rows; y: Rows };
  loss: Loss;
  samples: number;
}

function problem(seed: number, samples: number, loss: Loss, y: Rows, tail?: Net["tail"]): Problem {
  const widths = [3, 5, tail ? 6 : 3];
  return {
    net: { widths, theta: randomTheta(seed, widths), activation: "Tanh", tail },
    arrays: { x: { data: normals(seed + 1, 3 * samples), shape: [3] }, y },
    loss,
    samples,
  };
}

const map: Net["tail"] = [{ op: "Reshape", integers: [-1, 3, 2] }];
const bits = (seed: number, count: number) => Float64Array.from(integers(seed, count, 2));

const problemsOf = (n: number): Record<string, Problem> => ({
  "cross-entropy": problem(
    10,
    n,
    { name: "cross-entropy" },
    { data: integers(1, n, 3), shape: [] },
  ),
  "cross-entropy of a sequence, weighted": problem(
    20,
    n,
    { name: "cross-entropy", classWeights: [0.5, 2, 1.25], labelSmoothing: 0.1, ignoreIndex: 3 },
    { data: integers(2, 2 * n, 4), shape: [2] },
    map,
  ),
  mse: problem(30, n, { name: "mse" }, { data: normals(3, 3 * n), shape: [3] }),
  "bce-with-logits": problem(
    40,
    n,
    { name: "bce-with-logits" },
    { data: bits(4, 3 * n), shape: [3] },
  ),
});
const names = Object.keys(problemsOf(1));

async function load({ net, arrays }: Problem): Promise<{ model: Model; data: DataSet }> {
  return { model: await netModel(net), data: await dataOf(arrays) };
}

const matrixScale = (matrix: Matrix) => Math.max(...matrix.map(maxAbs));

function expectMatrices(got: Matrix, want: Matrix, bar: number): void {
  const scale = matrixScale(want);
  const worst = Math.max(...got.map((row, i) => errorOf(row, want[i]!, scale)));
  expect(worst).toBeLessThan(bar);
}

const distance = (a: Matrix, b: Matrix) =>
  norm(a.flatMap((row, i) => Array.from(row, (value, j) => value - b[i]![j]!)));

const combined = (a: number, u: Float64Array, b: number, v: Float64Array) =>
  u.map((value, i) => a * value + b * v[i]!);

describe.each(names)("%s", (name) => {
  const given = problemsOf(11)[name]!;
  const { loss } = given;
  let model: Model;
  let data: DataSet;
  beforeAll(async () => {
    ({ model, data } = await load(given));
  });
  const options = { loss, precision } as const;

  test.each(kinds)("%s is symmetric and linear", async (kind) => {
    using A = KINDS[kind](model, data, options);
    const n = A.dim;
    for (let seed = 0; seed < 4; seed++) {
      const [u, v] = [normals(seed, n), normals(seed + 100, n)];
      const [Au, Av] = [await A.apply(u), await A.apply(v)];
      const scale = norm(u) * norm(Av);
      expect(Math.abs(dot(u, Av) - dot(v, Au))).toBeLessThan(1e-14 * scale);
      const [a, b] = [1.5 - seed, 0.75 * seed + 0.125];
      const got = await A.apply(combined(a, u, b, v));
      const want = combined(a, Au as Float64Array, b, Av as Float64Array);
      expect(errorOf(got, want)).toBeLessThan(1e-13);
    }
  });

  test("H = H_o + H_f", async () => {
    const [H, outer, rest] = await Promise.all(
      (["hessian", "ggn", "functional"] as const).map((kind) =>
        dense(KINDS[kind](model, data, options)),
      ),
    );
    const sum = outer!.map((row, i) => combined(1, row, 1, rest![i]!));
    expectMatrices(sum, H!, 1e-14);
    expect(matrixScale(rest!)).toBeGreaterThan(1e-3 * matrixScale(H!));
  });

  test("H is the difference quotient of the gradient", async () => {
    const theta = Float64Array.from(given.net.theta);
    const v = normals(6, theta.length);
    const at = async (h: number) => {
      const moved = await netModel({ ...given.net, theta: combined(1, theta, h, v) });
      return (await gradient(moved, data, options)).gradient;
    };
    const want = await quotient(at);
    expect(errorOf(await hessian(model, data, options).apply(v), want)).toBeLessThan(1e-9);
  });

  test("H_f is the difference quotient of J^T zbar with zbar frozen", async () => {
    // Of another graph, sum(zbar * z), whose output is the loss.
    const theta = Float64Array.from(given.net.theta);
    const v = normals(7, theta.length);
    const { values, shape } = await forward(model, data, { precision });
    const width = values.length / given.samples;
    const zbar = new Float64Array(values.length);
    for (let n = 0; n < given.samples; n++)
      zbar.set(await slopeOf(given, n, values.subarray(n * width, (n + 1) * width)), n * width);
    const surrogate: Net = {
      ...given.net,
      tail: [
        ...(given.net.tail ?? []),
        { op: "Mul", input: "zbar", shape: shape.slice(1) },
        { op: "Reshape", integers: [-1, width] },
        { op: "ReduceSum", integers: [1], attributes: { keepdims: 0 } },
      ],
    };
    using frozen = await dataOf({
      x: given.arrays.x,
      zbar: { data: zbar, shape: shape.slice(1) },
    });
    const scalar = { loss: { name: "output", reduction: "sum" }, precision } as const;
    const at = async (h: number) => {
      const moved = await netModel({ ...surrogate, theta: combined(1, theta, h, v) });
      return (await gradient(moved, frozen, scalar)).gradient;
    };
    const product = await functionalHessian(model, data, options).apply(v);
    expect(errorOf(product, await quotient(at))).toBeLessThan(1e-9);
    const whole = await hessian(await netModel(surrogate), frozen, scalar).apply(v);
    expect(errorOf(product, whole)).toBeLessThan(1e-12);
  });

  test("a block of K vectors gives what each gives alone", async () => {
    for (const kind of kinds) {
      using A = KINDS[kind](model, data, options);
      const n = A.dim;
      const all = normals(8, 19 * n);
      const alone: number[] = [];
      for (let k = 0; k < 19; k++) alone.push(...(await A.apply(all.subarray(k * n, (k + 1) * n))));
      for (const count of [1, 2, 3, 7, 16, 19]) {
        const block = await A.apply(all.subarray(0, count * n));
        expect(errorOf(block, alone.slice(0, count * n))).toBeLessThan(1e-14);
      }
    }
  });

  test("neither micro-batches nor the order of samples matter, but for rounding", async () => {
    const order = Array.from({ length: given.samples }, (_, i) => (i * 4 + 3) % given.samples);
    using shuffled = await dataOf(given.arrays, order);
    for (const kind of kinds) {
      using A = KINDS[kind](model, data, options);
      const v = normals(9, 2 * A.dim);
      const want = await A.apply(v);
      for (const batch of [1, 2, 3, 4, 10, 11, 64]) {
        using other = KINDS[kind](model, data, { ...options, batch });
        const error = errorOf(await other.apply(v), want);
        expect({ kind, batch, error, fits: error < 1e-14 }).toEqual({
          kind,
          batch,
          error,
          fits: true,
        });
        const [report] = await other.report();
        expect(report!.microBatches).toBe(Math.ceil(11 / Math.min(batch, 11)));
      }
      // Sampled targets belong to positions in the data.
      if (kind === "mc") continue;
      using other = KINDS[kind](model, shuffled, { ...options, batch: 4 });
      expect(errorOf(await other.apply(v), want)).toBeLessThan(1e-14);
    }
    const risk = await gradient(model, data, options);
    for (const batch of [1, 2, 3, 5, 8]) {
      const other = await gradient(model, data, { ...options, batch });
      expect(errorOf([other.loss], [risk.loss])).toBeLessThan(1e-14);
      expect(errorOf(other.gradient, risk.gradient)).toBeLessThan(1e-14);
    }
  });

  test("a restriction is a submatrix", async () => {
    using A = hessian(model, data, options);
    const n = A.dim;
    const whole = await dense(A);
    const next = uniform(11);
    const chosen = Array.from({ length: n }, () => next() < 0.4);
    const positions = [...chosen.keys()].filter((i) => chosen[i]);
    const submatrix = (kept: number[]) =>
      kept.map((i) => Float64Array.from(kept, (j) => whole[i]![j]!));
    const segment = (name: string) => {
      const { offset, size } = model.parameters.find((p) => p.name === name)!;
      return Array.from({ length: size }, (_, i) => offset + i);
    };
    const mask = new Mask(
      A.parameters!,
      Uint8Array.from(chosen, (bit) => (bit ? 1 : 0)),
    );
    const cases: [LinearOperator, number[]][] = [
      [A.restrict("w1"), segment("w1")],
      [A.restrict(["b*"]), [...segment("b0"), ...segment("b1")]],
      [A.restrict("w*").restrict("w1"), segment("w1")],
      [A.restrict({ indices: positions }), positions],
      [A.restrict(chosen), positions],
      [A.restrict(mask), positions],
      [hessian(model, data, { ...options, params: "b1" }), segment("b1")],
      [
        hessian(model, data, { ...options, exclude: "w0" }),
        [...segment("b0"), ...segment("w1"), ...segment("b1")],
      ],
    ];
    for (const [part, kept] of cases) {
      expect(part.dim).toBe(kept.length);
      expectMatrices(await dense(part), submatrix(kept), 1e-14);
    }
    for (const choice of [mask, chosen, { indices: positions }]) {
      const projected = await dense(A.project(choice));
      const want = whole.map((row, i) =>
        row.map((value, j) => (chosen[i] && chosen[j] ? value : 0)),
      );
      expectMatrices(projected, want, 1e-14);
    }
  });

  test("sums, multiples and shifts compose", async () => {
    const [A, B] = [hessian(model, data, options), KINDS.empirical(model, data, options)];
    const [a, b] = [await dense(A), await dense(B)];
    const made = await dense(A.scale(-2).add(B.shift(0.5)).scale(0.25).shift(-3));
    const want = a.map((row, i) =>
      row.map(
        (value, j) => 0.25 * (-2 * value + b[i]![j]! + (i === j ? 0.5 : 0)) - (i === j ? 3 : 0),
      ),
    );
    expectMatrices(made, want, 1e-14);
    const part = await dense(
      A.add(B)
        .restrict("b*")
        .shift(1)
        .project({ indices: [0, 2] }),
    );
    const kept = model.parameters
      .filter(({ name }) => name.startsWith("b"))
      .flatMap(({ offset, size }) => Array.from({ length: size }, (_, i) => offset + i));
    const small = kept.map((i, k) =>
      Float64Array.from(kept, (j, l) =>
        (k === 0 || k === 2) && (l === 0 || l === 2)
          ? a[i]![j]! + b[i]![j]! + (k === l ? 1 : 0)
          : 0,
      ),
    );
    expectMatrices(part, small, 1e-14);
  });
});

/** The limit of (f(h) - f(-h)) / 2h by Richardson's extrapolation. */
async function quotient(f: (h: number) => Promise<Float64Array>): Promise<Float64Array> {
  const central = async (h: number) => combined(1 / (2 * h), await f(h), -1 / (2 * h), await f(-h));
  const [wide, narrow] = [await central(4e-3), await central(2e-3)];
  const finest = await central(1e-3);
  const coarse = combined(4 / 3, narrow, -1 / 3, wide);
  const fine = combined(4 / 3, finest, -1 / 3, narrow);
  return combined(16 / 15, fine, -1 / 15, coarse);
}

/** What sample n adds to the denominator of the mean. */
function massOf({ arrays: { y }, loss, samples }: Problem, n: number): number {
  const size = y.data.length / samples;
  const own = Array.from(y.data.subarray(n * size, (n + 1) * size));
  if (loss.name !== "cross-entropy") return size;
  return own.reduce(
    (sum, label) =>
      sum + (label === loss.ignoreIndex ? 0 : loss.classWeights ? loss.classWeights[label]! : 1),
    0,
  );
}

const denominatorOf = (given: Problem) =>
  Array.from({ length: given.samples }, (_, n) => massOf(given, n)).reduce((a, b) => a + b, 0);

/** dL/dz at the outputs z of sample n: the gradient by the bias of a network that is only that. */
async function slopeOf(given: Problem, n: number, z: Float64Array): Promise<Float64Array> {
  const width = z.length;
  const model = await netModel({
    widths: [1, width],
    theta: [...new Array(width).fill(0), ...z],
    tail: given.net.tail,
  });
  const size = given.arrays.y.data.length / given.samples;
  const y = { ...given.arrays.y, data: given.arrays.y.data.slice(n * size, (n + 1) * size) };
  using data = await dataOf({ x: { data: Float64Array.of(1), shape: [1] }, y });
  const loss = { ...given.loss, reduction: "sum" } as const;
  const { gradient: slopes } = await gradient(model, data, { loss, precision });
  return slopes.subarray(width).map((value) => value / denominatorOf(given));
}

describe("type-2 is the expectation over targets of outer products of gradients", () => {
  const samples = 4;
  const all = problemsOf(samples);

  /** The gradient of the sum over one sample with other targets. */
  async function slope(model: Model, given: Problem, n: number, y: Rows, loss = given.loss) {
    const x = { ...given.arrays.x, data: given.arrays.x.data.slice(3 * n, 3 * n + 3) };
    using data = await dataOf({ x, y });
    const sum = { ...loss, reduction: "sum" } as const;
    return (await gradient(model, data, { loss: sum, precision })).gradient;
  }

  const softmax = (z: number[]) => {
    const most = Math.max(...z);
    const terms = z.map((value) => Math.exp(value - most));
    const total = terms.reduce((a, b) => a + b, 0);
    return terms.map((term) => term / total);
  };

  test.each(names)("%s", async (name) => {
    const given = all[name]!;
    const { model, data } = await load(given);
    const { values } = await forward(model, data, { precision });
    const gradients: Float64Array[] = [];
    const weights: number[] = [];
    const width = values.length / samples;
    for (let n = 0; n < samples; n++) {
      const z = values.subarray(n * width, (n + 1) * width);
      if (given.loss.name === "cross-entropy") {
        const { classWeights = [1, 1, 1], labelSmoothing: eps = 0 } = given.loss;
        const positions = width / 3;
        for (let t = 0; t < positions; t++) {
          const label = given.arrays.y.data[n * positions + t]!;
          if (label === given.loss.ignoreIndex) continue;
          // Weights and smoothing give the position a mass, whatever label is drawn.
          const mass =
            (1 - eps) * classWeights[label]! + (eps / 3) * classWeights.reduce((a, b) => a + b);
          const p = softmax([0, 1, 2].map((c) => z[c * positions + t]!));
          for (let c = 0; c < 3; c++) {
            const drawn = new Int32Array(positions).fill(-100);
            drawn[t] = c;
            const y = { ...given.arrays.y, data: drawn };
            gradients.push(await slope(model, given, n, y, { name: "cross-entropy" }));
            weights.push(mass * p[c]!);
          }
        }
      } else if (given.loss.name === "bce-with-logits") {
        // Every pattern of outcomes with its probability.
        for (let pattern = 0; pattern < 2 ** width; pattern++) {
          const y = Float64Array.from(z, (_, i) => (pattern >> i) & 1);
          const p = Array.from(z, (zi, i) => 1 / (1 + Math.exp(y[i] ? -zi : zi)));
          gradients.push(await slope(model, given, n, { data: y, shape: [width] }));
          weights.push(p.reduce((a, b) => a * b));
        }
      } else {
        // A normal distribution of variance 1/2 about each output.
        for (let i = 0; i < width; i++) {
          const y = z.map((zi, j) => zi + (i === j ? Math.SQRT1_2 : 0));
          gradients.push(await slope(model, given, n, { data: y, shape: [width] }));
          weights.push(1);
        }
      }
    }
    const denominator = denominatorOf(given);
    const want = outerSum(
      gradients,
      weights.map((weight) => weight / denominator),
    );
    const options = { loss: given.loss, precision } as const;
    const got = await dense(fisher(model, data, { ...options, type: "type-2" }));
    expectMatrices(got, want, 1e-12);
    expectMatrices(await dense(ggn(model, data, options)), got, 1e-14);
  });
});

describe("mc", () => {
  const given = problemsOf(4);

  test.each(names)("%s: its error falls as 1 / sqrt(draws)", async (name) => {
    const { loss } = given[name]!;
    const { model, data } = await load(given[name]!);
    const exact = await dense(fisher(model, data, { loss, precision, type: "type-2" }));
    const size = norm(exact.flatMap((row) => Array.from(row)));
    const points: [number, number][] = [];
    for (const draws of [4, 40, 400, 4000, 40000]) {
      let squares = 0;
      const seeds = 6;
      for (let seed = 0; seed < seeds; seed++) {
        const options: FisherOptions = { loss, precision, type: "mc", draws, seed };
        using operator = fisher(model, data, options);
        squares += (distance(await dense(operator), exact) / size) ** 2 / seeds;
      }
      points.push([Math.log(draws), Math.log(squares) / 2]);
    }
    const mean = (i: 0 | 1) => points.reduce((sum, point) => sum + point[i], 0) / points.length;
    const [mx, my] = [mean(0), mean(1)];
    const slope =
      points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0) /
      points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0);
    expect(slope).toBeGreaterThan(-0.57);
    expect(slope).toBeLessThan(-0.43);
    // 40,000 draws of matrices whose entries spread about as far as they are large.
    expect(Math.exp(points.at(-1)![1])).toBeLessThan(0.02);
  });

  test("its mean over seeds is type-2, for few draws too", async () => {
    const { loss } = given["cross-entropy"]!;
    const { model, data } = await load(given["cross-entropy"]!);
    const exact = await dense(fisher(model, data, { loss, precision, type: "type-2" }));
    const seeds = 200;
    const mean = exact.map((row) => new Float64Array(row.length));
    for (let seed = 0; seed < seeds; seed++) {
      using operator = fisher(model, data, { loss, precision, type: "mc", draws: 2, seed });
      for (const [i, row] of (await dense(operator)).entries())
        for (let j = 0; j < row.length; j++) mean[i]![j]! += row[j]! / seeds;
    }
    const size = norm(exact.flatMap((row) => Array.from(row)));
    expect(distance(mean, exact) / size).toBeLessThan(0.2);
  });

  test.each(names)("%s: draws belong to seed and sample alone", async (name) => {
    const big = problemsOf(13)[name]!;
    const { model, data } = await load(big);
    const options = { loss: big.loss, precision, type: "mc", draws: 3 } as const;
    const matrix = (extra: object) => dense(fisher(model, data, { ...options, ...extra }));
    const want = await matrix({ seed: 1, threads: 1 });
    for (const extra of [{ batch: 1 }, { batch: 4, threads: 3 }, { batch: 13, threads: 2 }])
      expectMatrices(await matrix({ seed: 1, ...extra }), want, 1e-14);
    for (const seed of [0, 2, 2 ** 40 + 1, 2n ** 64n - 1n])
      expect(distance(await matrix({ seed }), want)).toBeGreaterThan(0.01 * matrixScale(want));
  });
});

describe("bits", () => {
  const samples = 61;
  const all = problemsOf(samples);
  const equal = (a: ArrayLike<number>, b: ArrayLike<number>) => errorOf(a, b, 1) === 0;

  test.each(names)("%s: any number of threads", async (name) => {
    const { loss } = all[name]!;
    const { model, data } = await load(all[name]!);
    for (const dtype of ["float32", "float64"] as const) {
      const options = { loss, precision: dtype, batch: 2 } as const;
      for (const kind of kinds) {
        const v = normals(12, 3 * model.parameterCount);
        const block = dtype === "float32" ? Float32Array.from(v) : v;
        using one = KINDS[kind](model, data, { ...options, threads: 1 });
        const want = await one.apply(block);
        for (const threads of [2, 3, 5]) {
          using operator = KINDS[kind](model, data, { ...options, threads });
          expect({ kind, threads, same: equal(await operator.apply(block), want) }).toEqual({
            kind,
            threads,
            same: true,
          });
        }
      }
      const risk = await gradient(model, data, { ...options, threads: 1 });
      for (const threads of [2, 5]) {
        const other = await gradient(model, data, { ...options, threads });
        expect(other.loss).toBe(risk.loss);
        expect(equal(other.gradient, risk.gradient)).toBe(true);
      }
    }
  });

  // The first product makes what later ones reuse, and blocks of another width share it.
  test.each([
    "mlp_mse",
    "resnet_bn",
    "mobilenet",
    "average_pools",
    "transformer",
    "torch_encoder_static",
  ])("%s: every repetition, whatever came between", async (name) => {
    const reference = new Case(name);
    const model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
    using data = await loadData({ x: reference.path("x.npy"), y: reference.path("y.npy") });
    for (const kind of ["hessian", "ggn", "functional", "empirical"] as const) {
      using A = KINDS[kind](model, data, {
        precision,
        batch: name.endsWith("static") ? undefined : 8,
      });
      const v = normals(13, 4 * A.dim);
      const first = await A.apply(v.subarray(0, A.dim));
      const block = await A.apply(v);
      expect(errorOf(block.subarray(0, A.dim), first)).toBeLessThan(1e-13);
      for (let i = 0; i < 2; i++) {
        expect({ kind, same: equal(await A.apply(v.subarray(0, A.dim)), first) }).toEqual({
          kind,
          same: true,
        });
        expect({ kind, same: equal(await A.apply(v), block) }).toEqual({ kind, same: true });
      }
      using fresh = KINDS[kind](model, data, {
        precision,
        batch: name.endsWith("static") ? undefined : 8,
      });
      expect(equal(await fresh.apply(v), block)).toBe(true);
      expect(equal(await fresh.apply(v.subarray(0, A.dim)), first)).toBe(true);
    }
  });

  test.each(["mlp_mse", "resnet_bn"])("%s: with memory to keep nothing", async (name) => {
    const reference = new Case(name);
    const model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
    using data = await loadData({ x: reference.path("x.npy"), y: reference.path("y.npy") });
    for (const kind of ["hessian", "ggn", "empirical"] as const) {
      const options = { precision, batch: 4, threads: 2 } as const;
      using A = KINDS[kind](model, data, options);
      const v = normals(14, A.dim);
      const want = await A.apply(v);
      const [rich] = await A.report();
      expect(rich!.cachedMicroBatches).toBe(rich!.microBatches);
      const need = await neededBytes(() =>
        KINDS[kind](model, data, { ...options, maxMemory: 1000 }).report(),
      );
      using poor = KINDS[kind](model, data, { ...options, maxMemory: need });
      const [report] = await poor.report();
      expect(report!.cachedMicroBatches).toBeLessThan(report!.microBatches / 2);
      expect(report!.threads).toBe(1);
      for (let i = 0; i < 3; i++) expect(equal(await poor.apply(v), want)).toBe(true);
    }
  });
});

/** The least memory, from the error that names it. */
async function neededBytes(product: () => Promise<unknown>): Promise<number> {
  const error = await product().then(
    () => undefined,
    (thrown: Error) => thrown,
  );
  expect(error?.name).toBe("MemoryBudgetError");
  return Number(/needs about (\d+) bytes/.exec(error!.message)![1]);
}

describe("scale", () => {
  test.each([1e-12, 1e-6, 1e6, 1e12])("class weights times %p give that multiple", async (c) => {
    const base = problemsOf(9)["cross-entropy"]!;
    const { model, data } = await load(base);
    const weights = [0.5, 2, 1.25];
    const lossBy = (factor: number): Loss => ({
      name: "cross-entropy",
      reduction: "sum",
      classWeights: weights.map((weight) => weight * factor),
    });
    for (const dtype of ["float32", "float64"] as const) {
      const bar = dtype === "float32" ? 2e-6 : 1e-13;
      for (const kind of kinds) {
        const factor = kind === "empirical" ? c * c : c;
        using A = KINDS[kind](model, data, { loss: lossBy(1), precision: dtype });
        using B = KINDS[kind](model, data, { loss: lossBy(c), precision: dtype });
        const v = dtype === "float32" ? Float32Array.from(normals(15, A.dim)) : normals(15, A.dim);
        const want = Float64Array.from(await A.apply(v), (value) => value * factor);
        expect({ kind, error: errorOf(await B.apply(v), want) < bar }).toEqual({
          kind,
          error: true,
        });
      }
    }
    const options = { k: 5, which: "LM", tol: 1e-11 } as const;
    const want = await eigsh(hessian(model, data, { loss: lossBy(1), precision }), options);
    const got = await eigsh(hessian(model, data, { loss: lossBy(c), precision }), options);
    expect(got.converged && want.converged).toBe(true);
    expect(
      errorOf(
        got.values,
        want.values.map((value) => value * c),
      ),
    ).toBeLessThan(1e-12);
    // The mean is over the weights as well, and does not know c.
    const means = [1, c].map((factor): Loss => ({ ...lossBy(factor), reduction: "mean" }));
    const [one, other] = await Promise.all(
      means.map((loss) => hessian(model, data, { loss, precision }).apply(normals(16, want.dim))),
    );
    expect(errorOf(other!, one!)).toBeLessThan(1e-13);
  });
});

test("a diagonal block needs no product of the rest", async () => {
  // Tensors alone are a smaller program; its products are those of the submatrix.
  const reference = new Case("resnet_bn");
  const model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
  using data = await loadData({ x: reference.path("x.npy"), y: reference.path("y.npy") });
  using whole = hessian(model, data, { precision });
  for (const { name, offset, size } of model.parameters) {
    using part = whole.restrict(name);
    const v = normals(17, size);
    const embedded = new Float64Array(whole.dim);
    embedded.set(v, offset);
    const want = (await whole.apply(embedded)).subarray(offset, offset + size);
    expect(errorOf(await part.apply(v), want, maxAbs(want) || 1)).toBeLessThan(1e-12);
  }
});

test("matrices by columns and by products agree", async () => {
  const { model, data } = await load(problemsOf(5).mse!);
  for (const kind of kinds) {
    using A = KINDS[kind](model, data, { loss: "mse", precision });
    const matrix = await dense(A);
    const v = normals(18, A.dim);
    expect(errorOf(await A.apply(v), times(matrix, v))).toBeLessThan(1e-13);
  }
});
