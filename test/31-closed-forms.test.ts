// Matrices and spectra known in closed form: deep linear networks, the product of two numbers, and
// softmax on one sample. Their literature takes half the sum of squares as squared error; ours is
// PyTorch's, the mean over all outputs, and so 2 / outputs times theirs.
import {
  eigsh,
  fisher,
  functionalHessian,
  ggn,
  gradient,
  hessian,
  type LinearOperator,
  type Loss,
} from "../lib";
import { dataOf, dense, netModel, type Rows } from "./support/networks";
import { eigenvalues, errorOf, type Matrix, maxAbs, normals, outerSum } from "./support/numbers";

const precision = "float64";

/** Both routes to all eigenvalues: the solver, and the matrix column by column. */
async function expectSpectrum(operator: LinearOperator, want: number[]): Promise<void> {
  const scale = Math.max(maxAbs(want), 1e-300);
  const sorted = want.slice().sort((a, b) => b - a);
  const found = await eigsh(operator, { k: operator.dim, which: "LA", tol: 1e-12 });
  expect(found.converged).toBe(true);
  expect(errorOf(found.values, sorted, scale)).toBeLessThan(1e-12);
  expect(errorOf(eigenvalues(await dense(operator)), sorted, scale)).toBeLessThan(1e-12);
}

async function expectMatrix(operator: LinearOperator, want: number[][], factor = 1) {
  const got = await dense(operator);
  const scale = Math.max(factor * Math.max(...want.map(maxAbs)), 1e-300);
  got.forEach((row, i) => {
    const wanted = want[i]!.map((value) => factor * value);
    expect(errorOf(row, wanted, scale)).toBeLessThan(1e-14);
  });
}

describe("a linear network of two layers on whitened data", () => {
  // W1 = diag(2, 1) in 2 x 3, W2 = diag(3, .5), X = sqrt(3) I.
  const root = Math.sqrt(3);
  const net = { widths: [3, 2, 2], bias: false, theta: [2, 0, 0, 0, 1, 0, 3, 0, 0, 0.5] };
  const x: Rows = { data: Float64Array.of(root, 0, 0, 0, root, 0, 0, 0, root), shape: [3] };
  const outputs = [6 * root, 0, 0, 0.5 * root, 0, 0]; // W2 W1 X, a row a sample
  const outer = [13, 10, 9, 4.25, 1.25, 0.25, 0, 0, 0, 0]; // {9, .25} + {4, 1, 0}
  const losses: [string, Loss, number][] = [
    ["mean", { name: "mse" }, 2 / 2],
    ["sum", { name: "mse", reduction: "sum" }, 2 * 3],
  ];

  test.each(losses)("fitted exactly, %s: H = H_o", async (_, loss, factor) => {
    const model = await netModel(net);
    using data = await dataOf({ x, y: { data: Float64Array.from(outputs), shape: [2] } });
    const options = { loss, precision } as const;
    const wanted = outer.map((value) => factor * value);
    await expectSpectrum(hessian(model, data, options), wanted);
    await expectSpectrum(ggn(model, data, options), wanted);
    await expectSpectrum(fisher(model, data, { ...options, type: "type-2" }), wanted);
    await expectSpectrum(functionalHessian(model, data, options), new Array(10).fill(0));
  });

  test.each(losses)("with residual, %s: eig(H_f) = +- sigma(Omega), twice", async (_, loss, by) => {
    const model = await netModel(net);
    // Y = W2 W1 X - sqrt(3) [[1, 0, 0], [0, 2, 0]], so that Omega = diag(1, 2).
    const y = Float64Array.from(outputs);
    y[0]! -= root;
    y[3]! -= 2 * root;
    using data = await dataOf({ x, y: { data: y, shape: [2] } });
    const options = { loss, precision } as const;
    const scaled = (values: number[]) => values.map((value) => by * value);
    await expectSpectrum(ggn(model, data, options), scaled(outer));
    await expectSpectrum(
      functionalHessian(model, data, options),
      scaled([2, 2, 1, 1, 0, 0, -1, -1, -2, -2]),
    );
    const H = hessian(model, data, options);
    const found = await eigsh(H, { k: 10, which: "LA", tol: 1e-12 });
    const listed = [
      13.933034, 10.584289, 9, 3.706704, 3.152969, 1.05068, 0.25, -0.933034, -1.091673, -1.902969,
    ];
    expect(errorOf(found.values, scaled(listed), by)).toBeLessThan(1e-6);
    expect(errorOf(eigenvalues(await dense(H)), found.values)).toBeLessThan(1e-13);
  });
});

describe("a network of two numbers, f = a b x, with x = y = 1", () => {
  const one: Rows = { data: Float64Array.of(1), shape: [1] };
  const r5 = Math.sqrt(5);
  test.each([
    [2, 1, []],
    [1, 1, [2, 0]],
    [2, 0.5, [4.25, 0]],
    [0, 0, [1, -1]],
    [-1.5, 0.25, []],
  ])("at (%p, %p)", async (a, b, listed) => {
    const model = await netModel({ widths: [1, 1, 1], bias: false, theta: [a, b] });
    using data = await dataOf({ x: one, y: one });
    const options = { loss: "mse", precision } as const;
    const half = 2; // theirs is (a b - 1)^2 / 2
    const r = a * b - 1;
    const risk = await gradient(model, data, options);
    expect(risk.loss).toBeCloseTo((half * r * r) / 2, 14);
    expect(errorOf(risk.gradient, [half * r * b, half * r * a], 1)).toBeLessThan(1e-14);
    const H = hessian(model, data, options);
    await expectMatrix(
      H,
      [
        [b * b, 2 * a * b - 1],
        [2 * a * b - 1, a * a],
      ],
      half,
    );
    const outer = [
      [b * b, a * b],
      [a * b, a * a],
    ];
    await expectMatrix(ggn(model, data, options), outer, half);
    await expectMatrix(fisher(model, data, { ...options, type: "type-2" }), outer, half);
    await expectMatrix(
      functionalHessian(model, data, options),
      [
        [0, r],
        [r, 0],
      ],
      half,
    );
    // One sample: the gradient's outer product.
    const g = [half * r * b, half * r * a];
    await expectMatrix(
      fisher(model, data, { ...options, type: "empirical" }),
      g.map((gi) => g.map((gj) => gi * gj)),
    );
    await expectSpectrum(ggn(model, data, options), [half * (a * a + b * b), 0]);
    await expectSpectrum(functionalHessian(model, data, options), [half * r, -half * r]);
    const known = a === 2 && b === 1 ? [(5 + 3 * r5) / 2, (5 - 3 * r5) / 2] : listed;
    if (known.length)
      await expectSpectrum(
        H,
        known.map((value) => half * value),
      );
    // Rescaling a by c and b by 1/c changes nothing: <g, v> = 0 and H v + (g_a, -g_b) = 0.
    const v = Float64Array.of(a, -b);
    const Hv = await H.apply(v);
    expect(errorOf(Hv, [-g[0]!, g[1]!], 1)).toBeLessThan(1e-14);
  });
});

describe("softmax with cross-entropy on one sample, p = (.5, .3, .2)", () => {
  const p = [0.5, 0.3, 0.2];
  const spread = p.map((pi, i) => p.map((pj, j) => (i === j ? pi : 0) - pi * pj));
  const kron = (left: number[][], right: number[][]) =>
    left.flatMap((row) => right.map((line) => row.flatMap((l) => line.map((value) => l * value))));

  async function problem(x: number[]) {
    const length = x.reduce((sum, value) => sum + value * value, 0);
    // W x = log p.
    const theta = p.flatMap((pi) => x.map((value) => (Math.log(pi) * value) / length));
    const model = await netModel({ widths: [x.length, 3], bias: false, theta });
    const data = await dataOf({
      x: { data: Float64Array.from(x), shape: [x.length] },
      y: { data: Int32Array.of(0), shape: [] },
    });
    return { model, data, options: { loss: "cross-entropy", precision } as const };
  }

  test.each([
    [[1], [0.388102, 0.231898, 0], [0.38, 0, 0]],
    [
      [1, 2],
      [1.940512, 1.159488, 0, 0, 0, 0],
      [1.9, 0, 0, 0, 0, 0],
    ],
  ])("x = %p: (diag(p) - p p^T) kron x x^T (O13)", async (x, listed, empirical) => {
    const { model, data, options } = await problem(x);
    const matrix = kron(
      spread,
      x.map((xi) => x.map((xj) => xi * xj)),
    );
    const exact = eigenvalues(matrix.map((row) => Float64Array.from(row)));
    expect(errorOf(exact, listed)).toBeLessThan(2e-6);
    for (const operator of [
      hessian(model, data, options),
      ggn(model, data, options),
      fisher(model, data, { ...options, type: "type-2" }),
    ]) {
      await expectMatrix(operator, matrix);
      await expectSpectrum(operator, exact);
    }
    await expectSpectrum(fisher(model, data, { ...options, type: "empirical" }), empirical);
    const slope = [p[0]! - 1, p[1]!, p[2]!].flatMap((value) => x.map((xi) => value * xi));
    await expectMatrix(
      fisher(model, data, { ...options, type: "empirical" }),
      outerSum([slope]).map((row) => Array.from(row)),
    );
    // Sampled labels give another matrix, whose mean is this one: 40,000 draws, four deviations.
    const sampled = await dense(
      fisher(model, data, { ...options, type: "mc", draws: 40000, seed: 1 }),
    );
    const scale = maxAbs(matrix.flat());
    sampled.forEach((row, i) => {
      expect(errorOf(row, matrix[i]!, scale)).toBeLessThan(4 / Math.sqrt(40000));
      expect(errorOf(row, matrix[i]!, scale)).toBeGreaterThan(0);
    });
    data.dispose();
  });
});

test("one linear layer with squared error: H = (2 / outputs) I kron X^T X / n", async () => {
  const [n, inputs, outputs] = [7, 3, 4];
  const model = await netModel({ widths: [inputs, outputs], bias: false, theta: normals(1, 12) });
  const x = normals(2, n * inputs);
  using data = await dataOf({
    x: { data: x, shape: [inputs] },
    y: { data: normals(3, n * outputs), shape: [outputs] },
  });
  const rows = Array.from({ length: n }, (_, i) => x.subarray(i * inputs, (i + 1) * inputs));
  const moments: Matrix = outerSum(rows, new Array(n).fill(2 / outputs / n));
  const want = Array.from({ length: 12 }, (_, i) =>
    Array.from({ length: 12 }, (_, j) =>
      Math.floor(i / 3) === Math.floor(j / 3) ? moments[i % 3]![j % 3]! : 0,
    ),
  );
  const options = { loss: "mse", precision } as const;
  await expectMatrix(hessian(model, data, options), want);
  await expectMatrix(ggn(model, data, options), want);
  await expectSpectrum(
    hessian(model, data, options),
    eigenvalues(moments).flatMap((value) => [value, value, value, value]),
  );
});

test("one hidden layer of relu: H_f has no diagonal blocks, and so no trace", async () => {
  const model = await netModel({
    widths: [3, 5, 4],
    activation: "Relu",
    theta: normals(4, 20 + 24),
  });
  using data = await dataOf({
    x: { data: normals(5, 27), shape: [3] },
    y: { data: Int32Array.of(0, 1, 2, 3, 0, 1, 2, 3, 0), shape: [] },
  });
  const matrix = await dense(functionalHessian(model, data, { loss: "cross-entropy", precision }));
  const scale = Math.max(...matrix.map(maxAbs));
  expect(scale).toBeGreaterThan(0.01);
  // Of the first layer's 20 parameters, and of the last one's 24.
  for (const [from, to] of [
    [0, 20],
    [20, 44],
  ] as const)
    for (let i = from; i < to; i++)
      expect(maxAbs(matrix[i]!.subarray(from, to))).toBeLessThan(1e-15 * scale);
});
