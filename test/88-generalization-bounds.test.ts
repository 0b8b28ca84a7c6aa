// PAC-Bayes: divergences against high precision, the bound against simulation, the draws.
import {
  bernoulliKl,
  evaluator,
  gaussianKl,
  inverseBernoulliKl,
  loadData,
  monteCarloBound,
  pacBayes,
  pacBayesBound,
  parameterVector,
} from "../lib";
import { Normals } from "../lib/generalization/normals";
import { RandomisedNetwork } from "../lib/generalization/randomised";
import { openCase, rejection, tinyProblem } from "./50-helpers";
import { dataOf, netModel } from "./support/networks";
import { uniform } from "./support/numbers";

describe("divergences", () => {
  // By mpmath with 40 digits.
  test.each([
    [0.1, 0.05, 0.22007860110692462],
    [0.02, 0.1, 0.15081151211866953],
    [0, 0.3, 0.2591817793182821],
    [0.5, 1e-8, 0.5000707106777651],
    [0.001, 0.002, 0.004497352763393519],
    [0.3, 5, 0.9996696569283668],
  ])("the largest p with kl(%d || p) <= %d", (q, budget, p) => {
    expect(Math.abs(inverseBernoulliKl(q, budget) - p)).toBeLessThan(4e-13);
  });

  test.each([
    [0.1, 0.2, 0.03669001403475058],
    [0.5, 0.5000001, 2.00000000000004e-14],
    [0.999, 0.99, 0.006738200591403944],
    [1e-9, 2e-9, 3.068528199400547e-10],
  ])("kl(%d || %d)", (q, p, wanted) => {
    expect(Math.abs(bernoulliKl(q, p) / wanted - 1)).toBeLessThan(1e-7);
  });

  test("ends", () => {
    expect(bernoulliKl(0, 0)).toBe(0);
    expect(bernoulliKl(1, 1)).toBe(0);
    expect(bernoulliKl(0.5, 0)).toBe(Number.POSITIVE_INFINITY);
    expect(inverseBernoulliKl(1, 0)).toBe(1);
    expect(inverseBernoulliKl(0.2, 0)).toBeCloseTo(0.2, 15);
    expect(inverseBernoulliKl(0.2, Number.POSITIVE_INFINITY)).toBe(1);
    // 1 - e^-b where nothing was wrong.
    expect(inverseBernoulliKl(0, 0.01)).toBeCloseTo(-Math.expm1(-0.01), 14);
    expect(() => inverseBernoulliKl(1.1, 1)).toThrow("q: expected a number from 0 to 1, got 1.1");
    expect(() => inverseBernoulliKl(0.1, -1)).toThrow("budget: expected a number of at least 0");
  });

  test("of normal distributions", () => {
    const kl = gaussianKl([1, -2, 0.5], [0.01, 0.5, 2], [0, -1, 0.5], 0.25);
    expect(kl / 7.74314355131421).toBeCloseTo(1, 14);
    expect(gaussianKl([1, 2], [0.3, 0.3], [1, 2], 0.3)).toBe(0);
    // Variances that nearly agree: (1/2) (x - ln(1 + x)) at x = 2^-20.
    expect(gaussianKl([0], [1 + 2 ** -20], [0], 1) / 2.273735308830458e-13).toBeCloseTo(1, 6);
    expect(() => gaussianKl([0], [0], [0], 1)).toThrow("expected variances over 0, got 0 at 0");
    expect(() => gaussianKl([0], [1, 1], [0], 1)).toThrow("three arrays of one length, got 1, 2");
  });

  test("the bound, by hand", () => {
    const terms = { empiricalRisk: 0.1, kl: 30, samples: 1000, delta: 0.05 };
    const { bound, budget } = pacBayesBound(terms);
    expect(budget).toBeCloseTo((30 + Math.log((2 * Math.sqrt(1000)) / 0.05)) / 1000, 15);
    expect(bernoulliKl(0.1, bound)).toBeCloseTo(budget, 12);
    expect(() => pacBayesBound({ ...terms, samples: 7 })).toThrow("at least 8, got 7");
    expect(() => pacBayesBound({ ...terms, delta: 1 })).toThrow("between 0 and 1, got 1");
    expect(() => pacBayesBound({ ...terms, kl: Number.NaN })).toThrow("kl: expected a number");
  });

  test("over many samples it fails as seldom as it says, and with a small part of the budget it does not", () => {
    const [runs, n, risk, delta] = [4000, 30, 0.2, 0.2];
    const next = uniform(1);
    let [failures, thin, sampled] = [0, 0, 0];
    for (let run = 0; run < runs; run++) {
      let wrong = 0;
      for (let i = 0; i < n; i++) if (next() < risk) wrong++;
      const terms = { empiricalRisk: wrong / n, kl: 0, samples: n, delta };
      const { bound, budget } = pacBayesBound(terms);
      if (bound < risk) failures++;
      if (inverseBernoulliKl(wrong / n, budget / 20) < risk) thin++;
      if (monteCarloBound(wrong / n, n, delta) < risk) sampled++;
    }
    expect(failures / runs).toBeLessThanOrEqual(delta);
    expect(sampled / runs).toBeLessThanOrEqual(delta);
    expect(sampled / runs).toBeGreaterThan(delta / 10);
    expect(thin / runs).toBeGreaterThan(delta);
  });
});

describe("random networks", () => {
  test("normal numbers: moments, streams apart, repeatable", () => {
    const draw = (seed: number, stream: number) =>
      new Normals(seed, stream).fill(new Float64Array(40_000));
    const a = draw(1, 7);
    const mean = (f: (x: number, i: number) => number) =>
      a.reduce((sum, x, i) => sum + f(x, i), 0) / a.length;
    expect(Math.abs(mean((x) => x))).toBeLessThan(0.02);
    expect(mean((x) => x * x)).toBeCloseTo(1, 1);
    expect(mean((x) => x ** 4)).toBeCloseTo(3, 0);
    const b = draw(1, 8);
    expect(Math.abs(mean((x, i) => x * b[i]!))).toBeLessThan(0.02);
    expect(draw(1, 7)).toEqual(a);
  });

  test("parts of the data together are the data", async () => {
    const { model, data } = await openCase("mlp_relu");
    const options = { precision: "float64" } as const;
    using parts = await RandomisedNetwork.of("test", model, data, 100, "y", options);
    using worth = evaluator(model, data, options);
    const error = 1 - (await worth.at()).accuracy!;
    expect(await parts.atMean(undefined)).toBeCloseTo(error, 12);
    // Draws that hardly move: the mean over random parts of different sizes.
    const still = new Float64Array(model.parameterCount).fill(1e-20);
    const mean = await parts.mean(still, 150, new Normals(3, 1), undefined);
    expect(Math.abs(mean - error)).toBeLessThan(0.03);
    expect(parts.drawSamples).toBe(100);
  });
});

/** y = sign of the first coordinate, a tenth of them flipped; a linear classifier of two outputs. */
async function toy(seed: number, n: number) {
  const random = new Normals(seed, 999);
  const x = random.fill(new Float64Array(2 * n));
  const y = Int32Array.from({ length: n }, (_, i) =>
    x[2 * i]! > 0 === random.uniform() > 0.1 ? 1 : 0,
  );
  // Towards the class means.
  const w = [0, 0];
  y.forEach((label, i) => {
    for (let j = 0; j < 2; j++) w[j]! += ((2 * label - 1) * x[2 * i + j]!) / n;
  });
  const theta = [-w[0]!, -w[1]!, w[0]!, w[1]!];
  const model = await netModel({ widths: [2, 2], theta, bias: false });
  const data = await dataOf({ x: { data: x, shape: [2] }, y: { data: y, shape: [] } });
  return { model, data, theta };
}

/** Its error on new data with normal weights, by the angle of each draw. */
function trueError(theta: number[], s: number): number {
  const random = new Normals(5, 5);
  const d = Math.sqrt(s);
  let sum = 0;
  const draws = 4000;
  for (let i = 0; i < draws; i++) {
    const [a, b, c, e] = theta.map((t) => t + d * random.next());
    sum += 0.1 + (0.8 * Math.abs(Math.atan2(e! - b!, c! - a!))) / Math.PI;
  }
  return sum / draws;
}

describe("the bound of a network", () => {
  test("holds on a problem whose error is known, in as many runs as it says", async () => {
    const [runs, n] = [20, 300];
    let [failures, useful] = [0, 0];
    for (let run = 0; run < runs; run++) {
      const { model, data, theta } = await toy(run, n);
      const found = await pacBayes(model, data, {
        initial: new Float64Array(4),
        ...{ loss: "cross-entropy", precision: "float64", shape: "isotropic" },
        ...{ delta: 0.1, deltaMonteCarlo: 0.05, c: 1, b: 2, j: [1, 8], draws: 300, seed: run },
      });
      const risk = trueError(theta, found.posterior.meanVariance);
      if (found.bound < risk) failures++;
      if (found.belowChance) useful++;
      expect(found.confidence).toBeCloseTo(0.85, 12);
    }
    expect(failures).toBeLessThanOrEqual(0.15 * runs);
    expect(useful).toBeGreaterThan(runs / 2);
  });

  test("every constant is in the result, and makes the bound again", async () => {
    const { model, data } = await openCase("mlp_relu");
    const initial = parameterVector(model).map((x, i) => x * 0.9 + 0.001 * Math.sin(i));
    const options = { initial, draws: 40, j: [10, 12], beta: [0, 1], b: 5 } as const;
    const found = await pacBayes(model, data, { ...options, test: { same: data } });
    const { prior, posterior, kl } = found;
    expect(prior.lambda).toBeCloseTo(prior.c * Math.exp(-prior.j / prior.b), 15);
    expect(prior.deltaJ).toBeCloseTo((6 * 0.025) / (Math.PI * prior.j) ** 2, 15);
    const again = pacBayesBound({
      empiricalRisk: found.empiricalRiskUpper,
      ...{ kl, samples: data.samples, delta: prior.deltaJ },
    });
    expect(again).toEqual({ bound: found.bound, budget: found.budget });
    expect(found.empiricalRiskUpper).toBe(monteCarloBound(found.empiricalRisk, 40, 0.01));
    expect(found.klMeans).toBeCloseTo(posterior.distance ** 2 / (2 * prior.lambda), 9);
    expect(kl).toBeGreaterThanOrEqual(found.klMeans);
    expect(posterior.largestVariance).toBeLessThanOrEqual(prior.lambda * (1 + 1e-12));
    expect(found.candidates).toHaveLength(6);
    using worth = evaluator(model, data);
    expect(found.meanError).toBeCloseTo(1 - (await worth.at()).accuracy!, 6);
    expect(found.test.same!.meanError).toBeCloseTo(found.meanError, 12);
    // The same again, to the bit.
    const same = await pacBayes(model, data, { ...options, threads: 1 });
    expect([same.bound, same.kl]).toEqual([found.bound, found.kl]);
  });

  test("curvature narrows the posterior where it is high", async () => {
    const { model, data } = await openCase("mlp_relu");
    const initial = parameterVector(model);
    const given = { initial, draws: 5, j: [5, 5], choiceDraws: 1 } as const;
    const shaped = await pacBayes(model, data, { ...given, beta: [1] });
    const plain = await pacBayes(model, data, { ...given, shape: "isotropic" });
    expect(plain.kl).toBe(0);
    expect(plain.posterior.smallestVariance).toBeCloseTo(plain.prior.lambda, 12);
    expect(shaped.posterior.smallestVariance).toBeLessThan(0.5 * shaped.prior.lambda);
    expect(shaped.kl).toBeGreaterThan(0);
  });

  test("wrong uses", async () => {
    const { model, data } = await openCase("mlp_relu");
    const initial = parameterVector(model);
    const tries = [
      [{}, /initial: expected the parameters that training began with/],
      [{ initial, delta: 2 }, /delta: expected a number between 0 and 1, got 2/],
      [{ initial, j: [3, 2] }, /j: expected two whole numbers/],
      [{ initial, beta: [] }, /beta: expected an array of numbers of at least 0/],
      [{ initial: new Float64Array(3) }, /initial: expected a model, or a Float64Array of its/],
      [{ initial, target: "z" }, /expected an array "z" of targets/],
    ] as const;
    for (const [options, message] of tries)
      expect((await rejection(pacBayes(model, data, options as never))).message).toMatch(message);
    const tiny = await tinyProblem();
    const theta = parameterVector(tiny.model);
    expect((await rejection(pacBayes(tiny.model, tiny.data, { initial: theta }))).message).toMatch(
      /loss of classification, whose predictions are right or wrong, got mse/,
    );
    using few = await loadData({ x: [1, 2, 3], y: Int32Array.of(0, 1, 0) });
    const line = await netModel({ widths: [1, 2], theta: [1, 2, 0, 0] });
    const small = pacBayes(line, few, { initial: new Float64Array(4), loss: "cross-entropy" });
    expect((await rejection(small)).message).toMatch(
      /expected a whole number of at least 8, got 3|shape/,
    );
  });
});
