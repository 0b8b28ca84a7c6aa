// Ranks of Hessians of deep linear networks, whose closed forms Singh, Bachmann and Hofmann (2021)
// give, and the gap that each is read off.
import {
  type DataSet,
  forward,
  functionalHessian,
  ggn,
  hessian,
  linearOperator,
  type Model,
  numericalRank,
} from "../lib";
import { relative } from "./50-helpers";
import { dataOf, netModel, thetaSize } from "./support/networks";
import { integers, normals } from "./support/numbers";

const precision = "float64";

interface Case {
  name: string;
  widths: number[];
  loss?: "mse" | "cross-entropy";
  samples: number;
  /** The rank of the inputs. */
  dataRank?: number;
  bias?: boolean;
  /** Of the outer-product part, the functional part and the whole. */
  ranks: [outer: number, functional: number, whole: number];
}

/** Gaussian rows of a given rank. */
function inputs(samples: number, width: number, rank = width): Float64Array {
  if (rank >= width) return normals(11, samples * width);
  const left = normals(12, samples * rank);
  const right = normals(13, rank * width);
  return Float64Array.from({ length: samples * width }, (_, at) => {
    const [i, j] = [Math.floor(at / width), at % width];
    let value = 0;
    for (let k = 0; k < rank; k++) value += left[i * rank + k]! * right[k * width + j]!;
    return value;
  });
}

async function problem({ widths, loss = "mse", samples, dataRank, bias = false }: Case) {
  // Glorot's variance, for all layers to matter alike.
  const theta = normals(17, thetaSize(widths, bias));
  let at = 0;
  for (let l = 1; l < widths.length; l++) {
    const scale = Math.sqrt(2 / (widths[l]! + widths[l - 1]!));
    const size = widths[l]! * (widths[l - 1]! + (bias ? 1 : 0));
    for (const end = at + size; at < end; at++) theta[at]! *= scale;
  }
  const model = await netModel({ widths, theta, bias });
  const outputs = widths.at(-1)!;
  const x = { data: inputs(samples, widths[0]!, dataRank), shape: [widths[0]!] };
  const y =
    loss === "mse"
      ? { data: normals(19, samples * outputs), shape: [outputs] }
      : { data: integers(19, samples, outputs), shape: [] };
  return { model, data: await dataOf({ x, y }), options: { loss, precision } as const, x };
}

const CASES: Case[] = [
  { name: "O1", widths: [25, 5, 10, 10], samples: 50, ranks: [150, 175, 250] },
  { name: "O2", widths: [5, 4, 3], samples: 40, ranks: [15, 24, 30] },
  { name: "O3", widths: [4, 3, 2], samples: 40, ranks: [8, 12, 16] },
  { name: "O4", widths: [6, 5, 4, 3], samples: 40, ranks: [18, 45, 54] },
  { name: "O5, a bottleneck", widths: [5, 2, 3], samples: 40, ranks: [12, 12, 16] },
  { name: "O6, a bottleneck", widths: [8, 2, 6, 4], samples: 60, ranks: [20, 36, 44] },
  { name: "O7, data of rank 4", widths: [10, 6, 3], samples: 50, dataRank: 4, ranks: [12, 36, 39] },
  { name: "O7b, two samples", widths: [10, 6, 3], samples: 2, ranks: [6, 24, 26] },
  { name: "O8, one output", widths: [6, 8, 1], samples: 40, ranks: [6, 16, 21] },
  { name: "O8b, four layers", widths: [4, 5, 5, 5, 2], samples: 40, ranks: [8, 52, 56] },
  { name: "O8c", widths: [5, 6, 4], samples: 40, loss: "cross-entropy", ranks: [15, 36, 42] },
  { name: "O8d", widths: [16, 4, 4, 10], samples: 80, loss: "cross-entropy", ranks: [84, 88, 116] },
  { name: "O9", widths: [5, 4, 3], samples: 60, bias: true, ranks: [18, 24, 36] },
  { name: "O9, 4-3-2", widths: [4, 3, 2], samples: 60, bias: true, ranks: [10, 12, 20] },
  { name: "O9, 6-5-4-3", widths: [6, 5, 4, 3], samples: 60, bias: true, ranks: [21, 48, 63] },
  { name: "O9, 8-6-7-4", widths: [8, 6, 7, 4], samples: 60, bias: true, ranks: [36, 92, 116] },
  { name: "O9, 9-3-3-3-2", widths: [9, 3, 3, 3, 2], samples: 60, bias: true, ranks: [20, 32, 50] },
  { name: "O9, 4-5-5-5-2", widths: [4, 5, 5, 5, 2], samples: 60, bias: true, ranks: [10, 56, 64] },
  { name: "O9, 8-2-6-4", widths: [8, 2, 6, 4], samples: 60, bias: true, ranks: [24, 46, 60] },
  { name: "O9, 2-6-4", widths: [2, 6, 4], samples: 60, bias: true, ranks: [12, 36, 42] },
  { name: "O9, 6-8-1", widths: [6, 8, 1], samples: 60, bias: true, ranks: [7, 16, 23] },
  { name: "O9, 8-3-6-4", widths: [8, 3, 6, 4], samples: 60, bias: true, ranks: [31, 60, 79] },
  { name: "O9, 8-6-2-4", widths: [8, 6, 2, 4], samples: 60, bias: true, ranks: [24, 38, 52] },
  { name: "O9, 8-2-2-4", widths: [8, 2, 2, 4], samples: 60, bias: true, ranks: [24, 22, 36] },
  { name: "O9, 8-2-6-6-4", widths: [8, 2, 6, 6, 4], samples: 60, bias: true, ranks: [24, 76, 90] },
  { name: "O9, 3-6-5-5", widths: [3, 6, 5, 5], samples: 60, bias: true, ranks: [20, 76, 84] },
  { name: "O9, 2-6-6-4", widths: [2, 6, 6, 4], samples: 60, bias: true, ranks: [12, 66, 72] },
  {
    name: "two hidden layers of 4 on data of rank 41",
    widths: [64, 4, 4, 10],
    samples: 100,
    dataRank: 41,
    loss: "cross-entropy",
    ranks: [184, 88, 216],
  },
  {
    name: "O9, 10-6-3 on data of rank 4",
    widths: [10, 6, 3],
    samples: 60,
    dataRank: 4,
    bias: true,
    ranks: [15, 36, 45],
  },
  {
    name: "O9, 5-2-3, of full rank",
    widths: [5, 2, 3],
    samples: 60,
    bias: true,
    ranks: [15, 12, 21],
  },
];

test.each(CASES)("$name: $widths has the ranks $ranks", async (given) => {
  const { model, data, options } = await problem(given);
  const P = model.parameterCount;
  const operators = [
    ggn(model, data, options),
    functionalHessian(model, data, options),
    hessian(model, data, options),
  ];
  for (const [i, operator] of operators.entries()) {
    const found = await numericalRank(operator);
    expect([operator.name, found.rank]).toEqual([operator.name, given.ranks[i]]);
    expect(found.dim).toBe(P);
    expect(found.certain).toBe(true);
    if (found.rank < P) {
      expect(found.gap).toBeGreaterThan(1e4);
      expect(found.largestDropped).toBeLessThanOrEqual(found.tolerance);
      expect(found.log10Gap).toBeCloseTo(Math.log10(found.gap), 12);
    } else expect(found.gap).toBeNaN();
    expect(found.tolerance).toBeCloseTo(found.magnitudes[0]! * P * 2 ** -52, 25);
    expect(found.formula).toBe("max |lambda| * dim * 2^-52");
  }
  data.dispose();
});

test.each([
  [[5, 4, 3], 15],
  [[6, 5, 4, 3], 18],
])("O8e: %p fitted exactly has H = H_o, and H_f is rounding of it", async (widths, rank) => {
  const { model, data, options, x } = await problem({
    name: "",
    widths,
    samples: 40,
    ranks: [0, 0, 0],
  });
  data.dispose();
  using plain = await dataOf({ x });
  const { values } = await forward(model, plain, { precision });
  using fitted = await dataOf({ x, y: { data: values, shape: [widths.at(-1)!] } });
  const whole = await numericalRank(hessian(model, fitted, options));
  const outer = await numericalRank(ggn(model, fitted, options));
  const functional = await numericalRank(functionalHessian(model, fitted, options), {
    scale: whole.magnitudes[0]!,
  });
  expect([outer.rank, functional.rank, whole.rank]).toEqual([rank, 0, rank]);
  expect(functional.certain).toBe(true);
  expect(functional.smallestKept).toBeNaN();
});

async function diagonalNet(shift: number[][]): Promise<{ model: Model; data: DataSet }> {
  const root = Math.sqrt(3);
  const model = await netModel({
    widths: [3, 2, 2],
    bias: false,
    theta: [2, 0, 0, 0, 1, 0, 3, 0, 0, 0.5],
  });
  const x = { data: Float64Array.of(root, 0, 0, 0, root, 0, 0, 0, root), shape: [3] };
  const y = Float64Array.of(6 * root, 0, 0, 0.5 * root, 0, 0);
  shift.flat().forEach((value, i) => {
    y[i]! -= root * value;
  });
  return { model, data: await dataOf({ x, y: { data: y, shape: [2] } }) };
}

test("O10 and O11: spectra in closed form, and their ranks", async () => {
  const options = { loss: { name: "mse" }, precision } as const; // 2 / outputs = 1
  const fitted = await diagonalNet([]);
  const spectrum = [13, 10, 9, 4.25, 1.25, 0.25, 0, 0, 0, 0];
  for (const operator of [
    hessian(fitted.model, fitted.data, options),
    ggn(fitted.model, fitted.data, options),
  ]) {
    const found = await numericalRank(operator);
    expect(found.rank).toBe(6);
    expect(relative(found.magnitudes, spectrum)).toBeLessThan(1e-13);
    expect(found.smallestKept).toBeCloseTo(0.25, 13);
  }
  const shifted = await diagonalNet([
    [1, 0],
    [0, 2],
    [0, 0],
  ]);
  const ranks = [];
  for (const make of [ggn, functionalHessian, hessian])
    ranks.push((await numericalRank(make(shifted.model, shifted.data, options))).rank);
  expect(ranks).toEqual([6, 8, 10]);
});

test("O17: symmetries of relu and softmax are null vectors of a network with biases", async () => {
  // One rescaling a hidden unit, for the Gauss-Newton matrix, and a translation of the logits by a
  // function of the hidden layer, 4 weights and a bias.
  const widths = [5, 4, 3];
  const theta = normals(23, thetaSize(widths), 0.6);
  const model = await netModel({ widths, theta, activation: "Relu" });
  using data = await dataOf({
    x: { data: normals(24, 1500), shape: [5] },
    y: { data: integers(25, 300, 3), shape: [] },
  });
  const options = { loss: "cross-entropy", precision } as const;
  const outer = await numericalRank(ggn(model, data, options));
  const whole = await numericalRank(hessian(model, data, options));
  expect([outer.dim, outer.rank, whole.rank]).toEqual([39, 39 - 4 - 5, 39 - 5]);
  expect(outer.certain && whole.certain).toBe(true);
});

describe("of eigenvalues", () => {
  test("tolerance, gap and certainty by hand", () => {
    const found = numericalRank([-4, 1e-9, 3e-18, 0]);
    expect(found).toMatchObject({
      source: "exact",
      rank: 2,
      dim: 4,
      tolerance: 4 * 4 * 2 ** -52,
      smallestKept: 1e-9,
      largestDropped: 3e-18,
      certain: true,
    });
    expect(found.gap).toBeCloseTo(1e-9 / 3e-18, -1);
    expect(numericalRank([1, 0]).gap).toBe(Number.POSITIVE_INFINITY);
    expect(numericalRank([0, 0])).toMatchObject({ rank: 0, certain: true, tolerance: 0 });
    // Graded through the tolerance of 9e-16: what is kept last may be rounding.
    const graded = numericalRank([1, 1e-8, 1e-14, 1e-16]);
    expect(graded).toMatchObject({ rank: 3, certain: false });
    expect(numericalRank([1, 1e-8, 1e-14, 1e-16], { tol: 1e-12 })).toMatchObject({
      rank: 2,
      certain: true,
    });
  });

  test("the same for c from 1e-12 to 1e12 and any order", () => {
    const spectrum = [5, -2, 1e-7, 1e-17, 0];
    for (let power = -12; power <= 12; power += 4) {
      const scaled = numericalRank(spectrum.map((value) => value * 10 ** power).reverse());
      expect(scaled.rank).toBe(3);
      expect(scaled.gap / 1e10).toBeCloseTo(1, 12);
    }
  });
});

describe("by counting", () => {
  const count = { method: "count", seed: 2 } as const;

  test("the interval holds the rank, of indefinite operators too, at any scale", async () => {
    for (const c of [2 ** -40, 2 ** 40]) {
      const spectrum = Float64Array.from({ length: 200 }, (_, i) =>
        i < 90 ? c * (i % 3 ? 1 : -1) * (0.3 + i / 100) : 0,
      );
      using A = linearOperator(200, (block) => block.map((x, i) => x * spectrum[i % 200]!));
      const found = await numericalRank(A, count);
      expect(found).toMatchObject({
        source: "estimated",
        dim: 200,
        formula: "max |lambda| * 0.0001",
      });
      // Sign vectors see a diagonal matrix without sampling error.
      expect(found.rank).toBeCloseTo(90, 4);
      expect(found.interval[0]).toBeLessThanOrEqual(90 + 1e-6);
      expect(found.interval[1]).toBeGreaterThanOrEqual(90 - 1e-6);
    }
  });

  test("of a network: the exact rank lies within the stated interval", async () => {
    const { model, data, options } = await problem(CASES[0]!);
    using G = ggn(model, data, options);
    const found = await numericalRank(G, count);
    const exact = await numericalRank(G, { tol: 1e-4 });
    expect(found.tolerance / exact.tolerance).toBeCloseTo(1, 6);
    expect(found.interval[0]).toBeLessThanOrEqual(exact.rank);
    expect(found.interval[1]).toBeGreaterThanOrEqual(exact.rank);
    expect(found.interval[1] - found.interval[0]).toBeLessThan(60);
    expect(found.lower).toBeLessThanOrEqual(found.rank);
    expect(found.upper).toBeGreaterThanOrEqual(found.rank);
  });

  test("tolerances below rounding are refused", async () => {
    const single = linearOperator(2, (block) => block, { dtype: "float32", name: "mine" });
    await expect(numericalRank(single, { ...count, tol: 1e-6 })).rejects.toThrow(
      "tol: expected at least 0.000010 for mine in float32, got 0.000001",
    );
    await expect(numericalRank(single, { ...count, k: 1 } as never)).rejects.toThrow(
      'there is no option "k"',
    );
  });
});

test("wrong uses name what was expected", async () => {
  const single = linearOperator(2, (block) => block, { dtype: "float32", name: "mine" });
  await expect(numericalRank(single)).rejects.toThrow(
    "expected mine in float64, got float32, whose rounding",
  );
  expect(() => numericalRank(Float32Array.of(1, 2))).toThrow("got a Float32Array");
  expect(() => numericalRank([])).toThrow("at least one number");
  expect(() => numericalRank([1, Number.NaN])).toThrow("got NaN at index 1");
  expect(() => numericalRank([1], { tol: -1 })).toThrow("tol: expected a number of at least 0");
  expect(() => numericalRank([1], { tolerance: 1 } as never)).toThrow(
    'there is no option "tolerance"',
  );
});
