// What the spectrum says of generalisation: inverse traces, leave-one-out, sharpness.
import {
  curvatureQuantities,
  type DataSet,
  fisher,
  ggn,
  gradient,
  hessian,
  influence,
  leaveOneOut,
  loadData,
  loss,
  type Model,
  parameterVector,
  perSampleGradients,
  selectSamples,
  sharpness,
} from "../lib";
import { targetsOf as readArray } from "../lib/generalization/outputs";
import { openCase, rejection, relative, tinyProblem } from "./50-helpers";
import { dataOf, dense, netModel, randomTheta } from "./support/networks";
import { dot, eigenvalues, type Matrix, normals, rowsOf, times } from "./support/numbers";

/** A straight line through four points, by least squares: oracle O19. */
async function line(): Promise<{ model: Model; data: DataSet }> {
  const model = await netModel({ widths: [2, 1], theta: [-0.1, 0.9], bias: false });
  const data = await dataOf({
    x: { data: Float64Array.of(1, 0, 1, 1, 1, 2, 1, 3), shape: [2] },
    y: { data: Float64Array.of(0, 1, 1, 3), shape: [1] },
  });
  return { model, data };
}

/** Inverse of a small matrix by Gauss and Jordan. */
function inverseOf(matrix: Matrix): Matrix {
  const n = matrix.length;
  const a = matrix.map((row, i) =>
    Float64Array.from({ length: 2 * n }, (_, j) => (j < n ? row[j]! : j - n === i ? 1 : 0)),
  );
  for (let k = 0; k < n; k++) {
    let best = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(a[i]![k]!) > Math.abs(a[best]![k]!)) best = i;
    [a[k], a[best]] = [a[best]!, a[k]!];
    const pivot = a[k]![k]!;
    for (let j = 0; j < 2 * n; j++) a[k]![j]! /= pivot;
    for (let i = 0; i < n; i++) {
      const factor = i === k ? 0 : a[i]![k]!;
      for (let j = 0; j < 2 * n; j++) a[i]![j]! -= factor * a[k]![j]!;
    }
  }
  return a.map((row) => row.slice(n));
}

/** Softmax regression on overlapping classes, trained to its minimum by Newton's method. */
async function regression(
  leftOut?: number,
  { classes = 3, seed = 5, count = 40 } = {},
): Promise<{ model: Model; data: DataSet; rows: number[] }> {
  const [d, K] = [3, classes];
  const x = normals(seed, count * d);
  const noise = normals(seed + 1, count * K, 1.5);
  const W = normals(seed + 2, d * K);
  const y = Int32Array.from({ length: count }, (_, n) => {
    const scores = Array.from(
      { length: K },
      (_, k) =>
        dot(x.subarray(n * d, (n + 1) * d), W.subarray(k * d, (k + 1) * d)) + noise[n * K + k]!,
    );
    return scores.indexOf(Math.max(...scores));
  });
  const rows = Array.from({ length: count }, (_, i) => i).filter((i) => i !== leftOut);
  const data = await dataOf({ x: { data: x, shape: [d] }, y: { data: y, shape: [] } }, rows);
  let theta = new Float64Array(d * K);
  for (let step = 0; ; step++) {
    const model = await netModel({ widths: [d, K], theta, bias: false });
    const options = { loss: "cross-entropy", precision: "float64" } as const;
    const { gradient: g, norm } = await gradient(model, data, options);
    if (norm < 1e-13 || step === 30) return { model, data, rows };
    using H = ggn(model, data, options);
    // The sum of all classes' weights is free: hold it.
    const matrix = await dense(H);
    for (let i = 0; i < d * K; i++)
      for (let j = 0; j < d * K; j++) matrix[i]![j]! += i % d === j % d ? 0.1 : 0;
    const moved = times(inverseOf(matrix), g);
    theta = theta.map((w, i) => w - moved[i]!);
  }
}

describe("leave-one-out", () => {
  test("O19: leverages, residuals and leave-one-out residuals of a line", async () => {
    const { model, data } = await line();
    const found = await leaveOneOut(model, data, { loss: "mse" });
    expect(relative(found.leverage, [0.7, 0.3, 0.3, 0.7])).toBeLessThan(1e-13);
    expect(relative(found.residuals, [0.1, 0.2, -0.7, 0.4])).toBeLessThan(1e-13);
    const left = found.newton.outputs.map((f, i) => [0, 1, 1, 3][i]! - f);
    expect(relative(left, [1 / 3, 2 / 7, -1, 4 / 3])).toBeLessThan(1e-12);
    expect(found.newton.mean).toBeCloseTo(0.7426303855, 10);
    expect(found.leverageSum).toBeCloseTo(2, 12);
    expect(found.rank).toBe(2);
    expect(found.gradientNorm).toBeLessThan(1e-12);
    // To first order: e (1 + A).
    const first = found.infinitesimal.outputs.map((f, i) => [0, 1, 1, 3][i]! - f);
    expect(relative(first, [0.1 * 1.7, 0.2 * 1.3, -0.7 * 1.3, 0.4 * 1.7])).toBeLessThan(1e-12);
  });

  test("several outputs: the fit without each sample, made again", async () => {
    const [n, d, K] = [9, 3, 2];
    const x = normals(1, n * d);
    const y = normals(2, n * K);
    const leastSquares = (rows: number[]) => {
      const X = rows.map((i) => x.subarray(i * d, (i + 1) * d));
      const gram = X[0]!.length;
      const A = Array.from({ length: gram }, (_, i) =>
        Float64Array.from({ length: gram }, (_, j) =>
          X.reduce((s, row) => s + row[i]! * row[j]!, 0),
        ),
      );
      const inverse = inverseOf(A);
      return Array.from({ length: K }, (_, k) =>
        times(
          inverse,
          Float64Array.from({ length: d }, (_, j) =>
            rows.reduce((s, i) => s + x[i * d + j]! * y[i * K + k]!, 0),
          ),
        ),
      );
    };
    const all = Array.from({ length: n }, (_, i) => i);
    const theta = leastSquares(all).flatMap((row) => Array.from(row));
    const model = await netModel({ widths: [d, K], theta, bias: false });
    const data = await dataOf({ x: { data: x, shape: [d] }, y: { data: y, shape: [K] } });
    const found = await leaveOneOut(model, data, { loss: "mse" });
    const wanted = all.flatMap((i) =>
      leastSquares(all.filter((j) => j !== i)).map((w) => dot(w, x.subarray(i * d, (i + 1) * d))),
    );
    expect(relative(found.newton.outputs, wanted)).toBeLessThan(1e-11);
    // Blocks are a multiple of the identity, and add up to the rank.
    expect(found.leverageSum).toBeCloseTo(d * K, 11);
    for (let i = 0; i < n; i++) expect(Math.abs(found.blocks[4 * i + 1]!)).toBeLessThan(1e-13);
  });

  test("softmax regression: near the refits, and nearer than the first order", async () => {
    const { model, data } = await regression();
    const found = await leaveOneOut(model, data, { loss: "cross-entropy" });
    const refits: number[] = [];
    for (const n of [0, 7, 21]) {
      const { model: without } = await regression(n);
      const { data: whole } = await regression();
      using one = await loadData({
        x: { data: (await rowOf(whole, n)).x, shape: [1, 3] },
        y: (await rowOf(whole, n)).y,
      });
      refits.push(await loss(without, one, { loss: "cross-entropy", precision: "float64" }));
    }
    [0, 7, 21].forEach((n, i) => {
      const change = refits[i]! - found.losses[n]!;
      const newton = found.newton.losses[n]! - found.losses[n]!;
      const first = found.infinitesimal.losses[n]! - found.losses[n]!;
      expect(newton / change).toBeGreaterThan(0.75);
      expect(newton / change).toBeLessThan(1.15);
      expect(Math.abs(newton - change)).toBeLessThan(Math.abs(first - change));
    });
    expect(found.leverageSum).toBeCloseTo(6, 10);
  });

  test("interpolation: leverage 1, and nothing is said without damping", async () => {
    const model = await netModel({ widths: [6, 1], theta: normals(3, 6), bias: false });
    const data = await dataOf({
      x: { data: normals(4, 4 * 6), shape: [6] },
      y: { data: normals(5, 4), shape: [1] },
    });
    const found = await leaveOneOut(model, data, { loss: "mse" });
    expect(relative(found.leverage, [1, 1, 1, 1])).toBeLessThan(1e-12);
    expect(found.newton.mean).toBeNaN();
    expect(found.warnings[0]).toContain("4 samples have leverage 1");
    const damped = await leaveOneOut(model, data, { loss: "mse", damping: 0.1 });
    expect(damped.newton.mean).toBeGreaterThan(damped.loss);
  });

  test("influence of one sample on another is the change of its loss, to first order", async () => {
    const { model, data } = await regression();
    const options = { loss: "cross-entropy", damping: 0.01 } as const;
    const { values } = await influence(model, data, data, options);
    const own = await leaveOneOut(model, data, options);
    for (const n of [0, 3, 39])
      expect(values[n * 40 + n]! / own.selfInfluence[n]!).toBeCloseTo(1, 9);
    // Symmetric, and from the gradients themselves.
    expect(values[3 * 40 + 17]! / values[17 * 40 + 3]!).toBeCloseTo(1, 9);
    const { gradients } = await perSampleGradients(model, data, {
      loss: "cross-entropy",
      precision: "float64",
    });
    using H = ggn(model, data, { loss: "cross-entropy", precision: "float64" });
    const A = (await dense(H)).map((row, i) => row.map((x, j) => x + (i === j ? 0.01 : 0)));
    const g = rowsOf(gradients, 9);
    const wanted = dot(g[3]!, times(inverseOf(A), g[17]!)) / 40;
    expect(values[3 * 40 + 17]! / wanted).toBeCloseTo(1, 9);
  });

  test("what it is not for", async () => {
    const { model, data } = await line();
    const tries = [
      [{ loss: "huber" }, /expected the loss mse, cross-entropy, bce-with-logits.*got huber/],
      [{ loss: { name: "mse", reduction: "sum" } }, /mean reduction.*got reduction "sum"/],
      [{ loss: "mse", damping: -1 }, /damping: expected a number of at least 0, got -1/],
      [{ loss: "mse", curvature: "fisher" }, /curvature: expected one of "ggn", "hessian"/],
    ] as const;
    for (const [options, message] of tries)
      expect((await rejection(leaveOneOut(model, data, options as never))).message).toMatch(
        message,
      );
  });
});

async function rowOf(data: DataSet, n: number) {
  using one = await selectSamples(data, [n]);
  return {
    x: await readArray(one, "x", "test", {}),
    y: Int32Array.from(await readArray(one, "y", "test", {})),
  };
}

describe("quantities of the spectrum", () => {
  test("against the inverse of the matrix, for a matrix of full rank", async () => {
    const [n, d] = [30, 4];
    const model = await netModel({ widths: [d, 1], theta: normals(1, d), bias: false });
    const arrays = {
      x: { data: normals(2, n * d), shape: [d] },
      y: { data: normals(3, n), shape: [1] },
    };
    const data = await dataOf(arrays);
    const held = await dataOf({
      x: { data: normals(4, 12 * d), shape: [d] },
      y: { data: normals(5, 12), shape: [1] },
    });
    const options = { loss: "mse", precision: "float64" } as const;
    const found = await curvatureQuantities(model, data, {
      ...options,
      curvature: "hessian",
      gradients: { train: data, held },
      damping: 0.3,
    });
    using H = hessian(model, data, options);
    const matrix = await dense(H);
    const values = eigenvalues(matrix);
    expect(found.source).toBe("exact");
    expect(found.lambdaMax.value / values[0]!).toBeCloseTo(1, 12);
    expect(found.lambdaMinPlus! / values[3]!).toBeCloseTo(1, 11);
    expect(found.rank.value).toBe(4);
    expect(found.certain).toBe(true);
    const traceInverse = values.reduce((sum, x) => sum + 1 / x, 0);
    expect(found.traceInverse! / traceInverse).toBeCloseTo(1, 11);
    expect(found.traceInverseOverN! / (traceInverse / n)).toBeCloseTo(1, 11);
    const effective = values.reduce((sum, x) => sum + x / (x + 0.3), 0);
    expect(found.effectiveDimension.value / effective).toBeCloseTo(1, 12);
    const damped = values.reduce((sum, x) => sum + x / (x + 0.3) ** 2, 0);
    expect(found.dampedTraceInverse.value / damped).toBeCloseTo(1, 12);
    for (const [i, set] of [data, held].entries()) {
      const { gradients } = await perSampleGradients(model, set, options);
      const g = rowsOf(gradients, d);
      const form = (A: Matrix) =>
        g.reduce((sum, row) => sum + dot(row, times(inverseOf(A), row)), 0) / set.samples;
      const row = found.gradients[i]!;
      expect(row.traceInverseC! / form(matrix)).toBeCloseTo(1, 11);
      expect(row.tic! / (form(matrix) / n)).toBeCloseTo(1, 11);
      const shifted = matrix.map((line, a) => line.map((x, b) => x + (a === b ? 0.3 : 0)));
      expect(row.dampedTraceC.value / form(shifted)).toBeCloseTo(1, 11);
      expect(row.outside).toBeLessThan(1e-12);
    }
  });

  test("tr(F^+ C) of the empirical Fisher and its own gradients is its rank", async () => {
    for (const problem of [await tinyProblem(), await openCase("cnn_small")]) {
      using set = await loadFew(problem.data, 6);
      const found = await curvatureQuantities(problem.model, set, {
        curvature: "fisher-empirical",
      });
      expect(found.gradients[0]!.traceInverseC).toBeCloseTo(found.rank.value, 6);
      expect(found.gradients[0]!.outside).toBeLessThan(1e-9);
      expect(found.rank.value).toBeLessThanOrEqual(6);
    }
  });

  test("scale: c times the loss has c times the curvature, for c from 1e-12 to 1e12", async () => {
    const [n, d] = [12, 3];
    const data = await dataOf({
      x: { data: normals(2, n * d), shape: [d] },
      y: { data: normals(3, n), shape: [1] },
    });
    const theta = normals(1, d);
    const model = await netModel({ widths: [d, 1], theta, bias: false });
    const plain = await curvatureQuantities(model, data, { loss: "mse" });
    for (const c of [1e-12, 1e12]) {
      // sqrt(c) f and sqrt(c) y.
      const tail = [{ op: "Mul", value: Math.sqrt(c) }];
      const scaled = await netModel({ widths: [d, 1], theta, bias: false, tail });
      const targets = normals(3, n).map((t) => t * Math.sqrt(c));
      const set = await dataOf({
        x: { data: normals(2, n * d), shape: [d] },
        y: { data: targets, shape: [1] },
      });
      const found = await curvatureQuantities(scaled, set, { loss: "mse" });
      expect(found.lambdaMinPlus! / (c * plain.lambdaMinPlus!)).toBeCloseTo(1, 9);
      expect((found.traceInverse! * c) / plain.traceInverse!).toBeCloseTo(1, 9);
      expect(found.gradients[0]!.tic! / (c * plain.gradients[0]!.tic!)).toBeCloseTo(1, 9);
      expect(found.effectiveDimension.value / plain.effectiveDimension.value).toBeCloseTo(1, 9);
      expect(found.rank.value).toBe(3);
    }
  });

  test("estimated ones hold the exact ones within their intervals", async () => {
    const { model, data: whole } = await openCase("cnn_small");
    using data = await loadFew(whole, 16);
    const exact = await curvatureQuantities(model, data, { method: "exact", damping: 0.02 });
    const found = await curvatureQuantities(model, data, {
      method: "estimated",
      damping: 0.02,
      draws: 16,
      precision: "float64",
      seed: 1,
    });
    expect(found.source).toBe("estimated");
    expect([found.lambdaMinPlus, found.traceInverse, found.gap]).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect(found.reason).toContain("too large for its whole spectrum");
    const pairs = [
      [found.lambdaMax, exact.lambdaMax],
      [found.trace, exact.trace],
      [found.effectiveDimension, exact.effectiveDimension],
      [found.dampedTraceInverse, exact.dampedTraceInverse],
    ] as const;
    // All gradients were drawn: nothing is left to chance.
    const [all, wanted] = [found.gradients[0]!.dampedTraceC, exact.gradients[0]!.dampedTraceC];
    expect(all.standardError).toBe(0);
    expect(all.value / wanted.value).toBeCloseTo(1, 6);
    for (const [estimate, { value }] of pairs) {
      expect(estimate.interval[0]).toBeLessThanOrEqual(value * (1 + 1e-9));
      expect(estimate.interval[1]).toBeGreaterThanOrEqual(value * (1 - 1e-9));
      expect(estimate.standardError).toBeLessThan(0.7 * value);
    }
  });

  test("a Hessian away from a minimum says so", async () => {
    const { model, data } = await tinyProblem();
    const found = await curvatureQuantities(model, data, { curvature: "hessian" });
    expect(found.negative).toBeGreaterThan(0);
    expect(found.lambdaMin).toBeLessThan(0);
    expect(found.warnings.join()).toContain("eigenvalues are negative");
    expect((await rejection(curvatureQuantities(model, data, { damping: 0 }))).message).toBe(
      "curvatureQuantities: damping: expected a number over 0, got 0",
    );
  });
});

async function loadFew(data: DataSet, samples: number): Promise<DataSet> {
  return selectSamples(
    data,
    Array.from({ length: Math.min(samples, data.samples) }, (_, i) => i),
  );
}

describe("sharpness", () => {
  const widths = [3, 5, 2];

  async function problem(factor = 1) {
    const theta = randomTheta(1, widths, false);
    // Rescaling a relu layer leaves the network as it is.
    const scaled = theta.map((w, i) => (i < 15 ? w * factor : w / factor));
    const model = await netModel({ widths, theta: scaled, activation: "Relu", bias: false });
    const data = await dataOf({
      x: { data: normals(7, 36), shape: [3] },
      y: { data: normals(8, 24), shape: [2] },
    });
    return { model, data };
  }

  test("Fisher-Rao norm: a product, and the identity of homogeneous networks", async () => {
    const { model, data } = await problem();
    const found = await sharpness(model, data, { loss: "mse", precision: "float64" });
    using F = fisher(model, data, { type: "type-2", loss: "mse", precision: "float64" });
    const theta = parameterVector(model);
    const form = dot(theta, times(await dense(F), theta));
    expect(found.fisherRao.value / form).toBeCloseTo(1, 12);
    expect(found.fisherRao.degree).toBeCloseTo(2, 10);
    expect(found.fisherRao.residual).toBeLessThan(1e-10);
    expect(found.fisherRao.identity! / form).toBeCloseTo(1, 10);
  });

  test("rescaled layers: scaled measures stay, plain ones do not", async () => {
    const options = { loss: "mse", precision: "float64", curvature: "ggn" } as const;
    const [a, b] = [await problem(), await problem(4)];
    const before = await sharpness(a.model, a.data, options);
    const after = await sharpness(b.model, b.data, options);
    expect(after.loss / before.loss).toBeCloseTo(1, 12);
    for (const scaling of ["weights", "filters"] as const) {
      const [x, y] = [before.scaled[scaling], after.scaled[scaling]];
      expect(y.lambdaMax.value / x.lambdaMax.value).toBeCloseTo(1, 9);
      expect(y.trace.value / x.trace.value).toBeCloseTo(1, 11);
      expect(y.ball.firstOrder / x.ball.firstOrder).toBeCloseTo(1, 11);
      expect(y.ball.largest / x.ball.largest).toBeCloseTo(1, 6);
    }
    expect(after.scaled.none.trace.value / before.scaled.none.trace.value).toBeGreaterThan(2);
    expect(after.fisherRao.value / before.fisherRao.value).toBeCloseTo(1, 10);
  });

  test("in a ball: of a quadratic the maximum is known", async () => {
    // L = mean (x w - y)^2 at its minimum: the maximum over the ball is rho^2 lambda_max / 2.
    const { model, data } = await line();
    const found = await sharpness(model, data, { loss: "mse", precision: "float64", rho: 0.3 });
    const { ball, lambdaMax, trace } = found.scaled.none;
    using H = hessian(model, data, { loss: "mse", precision: "float64" });
    const matrix = await dense(H);
    const [largest] = eigenvalues(matrix);
    expect(lambdaMax.value / largest!).toBeCloseTo(1, 10);
    expect(ball.secondOrder / (0.045 * largest!)).toBeCloseTo(1, 10);
    expect(ball.largest / ball.secondOrder).toBeCloseTo(1, 8);
    expect(ball.firstOrder).toBeLessThan(1e-12);
    expect(trace.value / (matrix[0]![0]! + matrix[1]![1]!)).toBeCloseTo(1, 9);
    // |w|-scaled: T H T by hand.
    const t = [0.1, 0.9];
    const scaled = matrix.map((row, i) => row.map((x, j) => x * t[i]! * t[j]!));
    expect(found.scaled.weights.lambdaMax.value / eigenvalues(scaled)[0]!).toBeCloseTo(1, 6);
  });

  test("off the minimum the gradient rules small balls", async () => {
    const { model, data } = await problem();
    const rho = 1e-5;
    const found = await sharpness(model, data, { loss: "mse", precision: "float64", rho });
    const { norm } = await gradient(model, data, { loss: "mse", precision: "float64" });
    expect(found.scaled.none.ball.firstOrder / (rho * norm)).toBeCloseTo(1, 12);
    expect(found.scaled.none.ball.measured / (rho * norm)).toBeCloseTo(1, 3);
    expect(found.scaled.none.ball.largest).toBeGreaterThanOrEqual(found.scaled.none.ball.measured);
  });
});
