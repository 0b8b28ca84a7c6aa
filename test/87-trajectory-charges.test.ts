// Trajectories: charges under discrete descent, masks in time, gradient noise against curvature.
import {
  type Charge,
  chargeDrift,
  type DataSet,
  frobeniusNorm,
  gradient,
  gradientCovariance,
  gradientNoise,
  hessian,
  type Model,
  mask,
  maskIoU,
  maskStability,
  operatorAlignment,
  parameterVector,
  perSampleGradients,
  trace,
  trajectory,
} from "../lib";
import { symmetries } from "../lib/symmetry/symmetries";
import { denseOperator, rejection, symmetric } from "./50-helpers";
import { dataOf, dense, netModel, randomTheta } from "./support/networks";
import { dot, errorOf, integers, norm, normals, outerSum, rowsOf } from "./support/numbers";

const RUN = { precision: "float64", threads: 1, loss: "cross-entropy" } as const;

/** 3 -> 4 -> 3 with relu; w0 (4, 3), b0 (4), w1 (3, 4), b1 (3). */
const WIDTHS = [3, 4, 3];
const SAMPLES = 20;

/** |w0 row, b0|^2 - |w1 column|^2 of each unit. */
const rescaling: Charge = {
  name: "rescaling",
  degree: 2,
  of: (theta) =>
    Array.from({ length: 4 }, (_, u) => {
      let charge = theta[12 + u]! ** 2;
      for (let i = 0; i < 3; i++) charge += theta[3 * u + i]! ** 2 - theta[16 + 4 * i + u]! ** 2;
      return charge;
    }),
};

/** The sum over classes of the last bias and of each column of the last weights. */
const translation: Charge = {
  name: "translation",
  degree: 1,
  of: (theta) => [
    theta[28]! + theta[29]! + theta[30]!,
    ...Array.from({ length: 4 }, (_, u) => theta[16 + u]! + theta[20 + u]! + theta[24 + u]!),
  ],
};

async function problem(): Promise<{ model: Model; data: DataSet; theta: Float64Array }> {
  const theta = randomTheta(5, WIDTHS);
  const model = await netModel({ widths: WIDTHS, theta, activation: "Relu" });
  const data = await dataOf({
    x: { data: normals(6, SAMPLES * 3), shape: [3] },
    y: { data: integers(7, SAMPLES, 3), shape: [] },
  });
  return { model, data, theta };
}

/** Places of gradient descent, the first included. */
async function descend(rate: number, steps: number, decay = 0) {
  const { model, data, theta } = await problem();
  const places = [theta];
  for (let t = 0; t < steps; t++) {
    const here = places[t]!;
    using there = model.withParameters(here);
    const { gradient: g } = await gradient(there, data, RUN);
    places.push(here.map((x, i) => x - rate * (g[i]! + decay * x)));
  }
  return { model, data, places };
}

test("full descent: charges drift by rate^2 (|g_in|^2 - |g_out|^2), exactly", async () => {
  const rate = 0.3;
  const { model, data, places } = await descend(rate, 6);
  const path = await trajectory(model, places);
  const options = { ...RUN, data, learningRate: rate };
  const [units, sums] = await chargeDrift(path, [rescaling, translation], options);
  expect(units!.size).toBe(4);
  expect(units!.drift[6]).toBeGreaterThan(1e-3);
  expect(errorOf(units!.predicted!, units!.values)).toBeLessThan(1e-14);
  expect(Math.max(...units!.predictionError!.slice(1))).toBeLessThan(1e-11);
  // One step by hand.
  const { gradient: g } = await gradient(model, data, RUN);
  const first = units!.values.slice(4, 8).map((q, i) => q - units!.values[i]!);
  expect(
    errorOf(
      first,
      Array.from(rescaling.of(g), (x) => rate ** 2 * x),
    ),
  ).toBeLessThan(1e-11);
  // What a softmax does not see stays.
  expect(Math.max(...sums!.relativeDrift)).toBeLessThan(1e-14);
  expect(errorOf(sums!.predicted!, sums!.values)).toBeLessThan(1e-14);
});

test("weight decay takes charges away, twice as fast where they are squares", async () => {
  const [rate, decay] = [0.2, 0.3];
  const { model, data, places } = await descend(rate, 5, decay);
  const path = await trajectory(model, places);
  const options = { ...RUN, data, learningRate: rate, weightDecay: decay };
  const [units, sums] = await chargeDrift(path, [rescaling, translation], options);
  expect(errorOf(units!.predicted!, units!.values)).toBeLessThan(1e-14);
  expect(errorOf(sums!.predicted!, sums!.values)).toBeLessThan(1e-14);
  const start = norm(Array.from(translation.of(places[0]!)));
  expect(sums!.decayed![5]).toBeCloseTo(start * (1 - rate * decay) ** 5, 12);
  expect(sums!.norms[5]).toBeCloseTo(sums!.decayed![5]!, 12);
  const squares = norm(Array.from(rescaling.of(places[0]!)));
  expect(units!.decayed![5]).toBeCloseTo(squares * (1 - rate * decay) ** 10, 12);
  // Without data: linear charges are predicted all the same.
  const blind = await chargeDrift(path, [rescaling, translation], {
    learningRate: rate,
    weightDecay: decay,
  });
  expect(blind[0]!.predicted).toBeUndefined();
  expect(errorOf(blind[1]!.predicted!, sums!.values)).toBeLessThan(1e-14);
});

test("few checkpoints: the drift is interpolated; smaller rates drift less", async () => {
  const drift = async (rate: number, steps: number, pieces = 4) => {
    const { model, data, places } = await descend(rate, steps);
    const kept = places.filter((_, t) => t % (steps / pieces) === 0);
    const path = await trajectory(model, kept, {
      steps: kept.map((_, t) => (t * steps) / pieces),
    });
    return (await chargeDrift(path, [rescaling], { ...RUN, data, learningRate: rate }))[0]!;
  };
  const coarse = await drift(0.04, 8);
  const fine = await drift(0.02, 16);
  // The same time with half the rate: half the drift, to first order.
  expect(fine.drift[4]! / coarse.drift[4]!).toBeGreaterThan(0.45);
  expect(fine.drift[4]! / coarse.drift[4]!).toBeLessThan(0.55);
  // Between checkpoints q(g) is interpolated, which kinks of relu are not; else it is exact.
  const close = await drift(0.04, 8, 8);
  expect(close.predictionError![8]).toBeLessThan(1e-10);
  expect(coarse.predictionError![4]).toBeLessThan(0.05);
  expect(fine.predictionError![4]).toBeLessThan(0.05);
});

test("batches: the prediction is the mean over all of them", async () => {
  const { model, data, theta } = await problem();
  const rate = 0.1;
  const rows = await perSampleGradients(model, data, RUN);
  const N = SAMPLES;
  // All pairs of different samples.
  const mean = new Float64Array(4);
  let pairs = 0;
  for (let a = 0; a < N; a++)
    for (let b = 0; b < a; b++) {
      const [ga, gb] = [a, b].map((n) => rows.gradients.subarray(n * 31, (n + 1) * 31));
      const after = theta.map((x, i) => x - (rate * (ga![i]! + gb![i]!)) / 2);
      Array.from(rescaling.of(after)).forEach((q, u) => {
        mean[u]! += q;
      });
      pairs++;
    }
  const path = await trajectory(model, [theta, theta.map((x) => x + 1)]);
  const options = { ...RUN, data, learningRate: rate, batchSize: 2 };
  const [units] = await chargeDrift(path, [rescaling], options);
  expect(
    errorOf(
      units!.predicted!.slice(4),
      mean.map((x) => x / pairs),
    ),
  ).toBeLessThan(1e-12);
});

test("charges of the symmetries that the graph shows, under descent with decay", async () => {
  const [rate, decay] = [0.25, 0.1];
  const { model, data, places } = await descend(rate, 4, decay);
  const found = symmetries(model, { loss: "cross-entropy" }).charges();
  const units = found.find(({ name }) => /^rescaling: w0/.test(name))!;
  expect(units.degree).toBe(2);
  const [own, hand] = [units, rescaling].map(({ of }) => Float64Array.from(of(places[2]!)));
  expect(errorOf(own!, hand!)).toBeLessThan(1e-14);
  const sums = found.filter(({ degree }) => degree === 1);
  expect(sums.reduce((total, { of }) => total + of(places[0]!).length, 0)).toBe(5);
  const path = await trajectory(model, places);
  const options = { ...RUN, data, learningRate: rate, weightDecay: decay };
  for (const { predicted, values } of await chargeDrift(path, found, options))
    expect(errorOf(predicted!, values)).toBeLessThan(1e-13);
});

test("charges: what is wrong is named", async () => {
  const { model, data, theta } = await problem();
  const path = await trajectory(model, [theta, theta]);
  const message = async (charges: unknown, options?: object) =>
    (await rejection(chargeDrift(path, charges as Charge[], options))).message;
  expect(await message({})).toMatch(/^chargeDrift: charges: expected an array of them/);
  expect(await message([rescaling], { data })).toMatch(
    /expected a learningRate with data, got none/,
  );
  expect(await message([rescaling], { batchSize: 3 })).toMatch(/batchSize: expected data as well/);
  expect(await message([rescaling], { learningRate: [1] })).toMatch(
    /expected 2 numbers, one a check/,
  );
});

describe("masks in time", () => {
  // The largest entries of the end overtake those of the start one after the other.
  const start = [8, 7, 6, 5, 4, 3, 2, 1];
  const end = [1, 2, 3, 4, 5, 6, 7, 8].map((x) => 2 * x);
  const at = (s: number) => Float64Array.from(start, (x, i) => (1 - s) * x + s * end[i]!);
  const shares = [0, 0.2, 0.3, 0.4, 0.7, 1];
  const made = async () => {
    const model = await netModel({ widths: [8, 1], theta: at(0), bias: false });
    return { model, path: await trajectory(model, shares.map(at), { steps: [0, 2, 3, 4, 7, 10] }) };
  };

  test("overlaps with the last, by hand", async () => {
    const { path, model } = await made();
    const [found] = await maskStability(path, { keep: 0.25, threshold: 0.9 });
    const kept = shares.map((s) => {
      const order = Array.from(at(s).keys()).sort((a, b) => at(s)[b]! - at(s)[a]! || a - b);
      return new Set(order.slice(0, 2));
    });
    const iou = kept.map((set) => {
      const both = [...set].filter((i) => kept.at(-1)!.has(i)).length;
      return both / (4 - both);
    });
    expect(Array.from(found!.iou)).toEqual(iou);
    expect(iou[0]).toBe(0);
    const first = iou.findIndex((_, t) => iou.slice(t).every((x) => x === 1));
    expect(found!.settled).toEqual({ checkpoint: first, step: path.steps[first] });
    expect(first).toBeGreaterThan(0);
    expect(first).toBeLessThan(5);
    const last = await mask(await path.at(5), { criterion: "magnitude", keep: 0.25 });
    expect(found!.final.equals(last)).toBe(true);
    const before = await mask(await path.at(0), { criterion: "magnitude", keep: 0.25 });
    expect(found!.chance[0]).toBe(maskIoU(before, last).chance);
    expect(found!.layers.map(({ name }) => name)).toEqual(["w0"]);
    expect(Array.from(found!.layers[0]!.iou)).toEqual(iou);
    expect(found!.next).toHaveLength(5);
    expect(found!.next[0]).toBe(1);
    expect(model.parameterCount).toBe(8);
  });

  test("criteria of change begin after the first checkpoint", async () => {
    const { path } = await made();
    const found = await maskStability(path, { criteria: ["movement", "magnitude"], keep: 0.25 });
    expect(found.map(({ criterion }) => criterion)).toEqual(["movement", "magnitude"]);
    expect(found[0]!.iou[0]).toBeNaN();
    // On a straight line what moved most is the same from the first step on.
    expect(Array.from(found[0]!.iou.slice(1))).toEqual([1, 1, 1, 1, 1]);
    expect(found[0]!.settled.checkpoint).toBe(1);
    expect(found[0]!.next[0]).toBeNaN();
    const message = async (options: object) =>
      (await rejection(maskStability(path, options as never))).message;
    expect(await message({ criteria: ["size"], keep: 0.5 })).toMatch(
      /expected one of .*, got "size"/,
    );
    expect(await message({ criteria: [], keep: 0.5 })).toMatch(/criteria: expected names/);
    expect(await message({ keep: 0.5, initial: path })).toMatch(/no option "initial"/);
    expect(await message({ keep: 0.5, threshold: 2 })).toMatch(
      /threshold: expected a number from 0/,
    );
  });
});

describe("two operators", () => {
  const n = 60;
  const [A, B] = [symmetric(n, 0.3), symmetric(n, 1.1)];
  const inner = dot(A, B);
  const cosine = inner / (norm(A) * norm(B));

  test("exact where the vectors fill the space", async () => {
    const found = await operatorAlignment(denseOperator(A, n), denseOperator(B, n), { probes: n });
    expect(found.inner.value).toBeCloseTo(inner, 8);
    expect(found.cosine.value).toBeCloseTo(cosine, 12);
    expect(found.squares[0].value).toBeCloseTo(dot(A, A), 8);
    expect(found.squares[1].value).toBeCloseTo(dot(B, B), 8);
    expect([found.probes, found.products, found.cosine.standardError]).toEqual([0, 2 * n, 0]);
  });

  test("sampled: within the errors that it states, smaller with a basis", async () => {
    const errors: number[] = [];
    const stated: number[] = [];
    for (let seed = 0; seed < 12; seed++) {
      const found = await operatorAlignment(denseOperator(A, n), denseOperator(B, n), {
        probes: 20,
        seed,
      });
      expect(found.products).toBe(40);
      for (const [number, truth] of [
        [found.inner, inner],
        [found.cosine, cosine],
        [found.squares[0], dot(A, A)],
      ] as const) {
        errors.push((number.value - truth) / number.standardError);
        stated.push(number.standardError);
      }
    }
    // The mean square of 36 errors over what was stated, of order 1.
    const ratio = Math.sqrt(errors.reduce((sum, x) => sum + x * x, 0) / errors.length);
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(1.8);
    // One direction has nearly all of a matrix: with it in the basis little is left to chance.
    const u = normals(3, n);
    const big = outerSum([u]).map((row, i) => row.map((x, j) => 100 * x + A[i * n + j]!));
    const flat = Float64Array.from(big.flatMap((row) => Array.from(row)));
    const with_ = await operatorAlignment(denseOperator(flat, n), denseOperator(B, n), {
      ...{ probes: 10, basis: { vectors: u, dim: n } },
    });
    const without = await operatorAlignment(denseOperator(flat, n), denseOperator(B, n), {
      probes: 10,
    });
    expect(with_.inner.standardError).toBeLessThan(0.3 * without.inner.standardError);
    expect(with_.basisForms[0]).toBeCloseTo(
      dot(
        u,
        rowsOf(B, n).map((row) => dot(row, u)),
      ) / dot(u, u),
      8,
    );
  });

  test("an operator and its multiples: cosine 1 without error; scale drops out", async () => {
    const operator = denseOperator(A, n);
    for (const c of [1e-12, 1, 1e12]) {
      const found = await operatorAlignment(operator, operator.scale(c), { probes: 8 });
      expect(found.cosine.value).toBeCloseTo(1, 12);
      expect(found.cosine.standardError).toBeLessThan(1e-12);
    }
    const minus = await operatorAlignment(operator, operator.scale(-2), { probes: 8 });
    expect(minus.cosine.value).toBeCloseTo(-1, 12);
  });

  test("what is wrong is named", async () => {
    const operator = denseOperator(A, n);
    const message = async (b: unknown, options?: object) =>
      (await rejection(operatorAlignment(operator, b as never, options))).message;
    expect(await message(3)).toMatch(/B: expected an operator, got 3/);
    expect(await message(denseOperator(symmetric(5), 5))).toMatch(/of one dimension and precision/);
    expect(await message(operator, { probes: 1 })).toMatch(/probes: expected a whole number of at/);
    const basis = { vectors: new Float64Array(5).fill(1), dim: 5 };
    expect(await message(operator, { basis })).toMatch(
      /basis: expected vectors of 60 numbers, got 5/,
    );
  });
});

test("gradient noise against the Hessian: traces and cosine of the matrices", async () => {
  const { model, data } = await problem();
  const { gradients } = await perSampleGradients(model, data, RUN);
  const rows = rowsOf(gradients, 31);
  const mean = rows[0]!.map((_, i) => rows.reduce((sum, row) => sum + row[i]! / SAMPLES, 0));
  const C = outerSum(
    rows.map((row) => row.map((x, i) => x - mean[i]!)),
    new Float64Array(SAMPLES).fill(1 / SAMPLES),
  );
  const H = await dense(hessian(model, data, RUN));
  const flat = (matrix: Float64Array[]) => Float64Array.from(matrix.flatMap((row) => [...row]));
  const top = { vectors: Float64Array.from([...normals(1, 31), ...normals(2, 31)]), dim: 31 };
  const found = await gradientNoise(model, data, { ...RUN, probes: 40, top });
  expect(found.probes).toBe(0);
  expect(found.trace).toBeCloseTo(
    C.reduce((sum, row, i) => sum + row[i]!, 0),
    12,
  );
  expect(found.gradientSquare).toBeCloseTo(dot(mean, mean), 12);
  expect(found.noiseScale).toBeCloseTo(found.trace / dot(mean, mean), 10);
  expect(found.inner.value).toBeCloseTo(dot(flat(C), flat(H)), 12);
  expect(found.norms[0]).toBeCloseTo(norm(flat(H)), 12);
  expect(found.norms[1]).toBeCloseTo(norm(flat(C)), 12);
  expect(found.cosine.value).toBeCloseTo(
    dot(flat(C), flat(H)) / (norm(flat(C)) * norm(flat(H))),
    12,
  );
  const u = normals(1, 31);
  const form =
    dot(
      u,
      C.map((row) => dot(row, u)),
    ) / dot(u, u);
  expect(found.topShares[0]).toBeCloseTo(form / found.trace, 12);
  // The operators agree with themselves.
  const covariance = await gradientCovariance(model, data, RUN);
  expect((await trace(covariance, { method: "exact" })).value).toBeCloseTo(found.trace, 10);
  expect((await frobeniusNorm(covariance, { method: "exact" })).value).toBeCloseTo(
    found.norms[1],
    10,
  );
  expect(parameterVector(model).length).toBe(31);
});
