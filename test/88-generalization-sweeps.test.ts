// Double descent against what is known, sweeps that go on, shifted data, sets side by side.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  curvatureQuantities,
  type DataSet,
  doubleDescent,
  generalization,
  loadData,
  loss,
  shiftedData,
} from "../lib";
import { targetsOf as readArray } from "../lib/generalization/outputs";
import { openCase, rejection, relative, tinyProblem, vector } from "./50-helpers";
import { integers, normals } from "./support/numbers";

describe("least squares", () => {
  test("O19: medians over 50 draws for p = 50", async () => {
    const { points, threshold, peaks } = await doubleDescent({
      problem: "least-squares",
      weightNorm: Math.sqrt(0.75),
    });
    expect(threshold).toBe(50);
    expect(peaks).toEqual({ traceInverseOverN: 50, testLoss: 50 });
    // n, lambda_min+, tr(H^+)/n, test loss, and how far medians of 50 lie apart; at the threshold
    // tails are so heavy that medians tell no more than the size.
    const table = [
      [25, 0.212, 1.04, 0.881, 0.2],
      [40, 0.0213, 4.43, 1.34, 0.25],
      [50, 8.6e-5, 267, 27.7, 4],
      [60, 0.0123, 5.44, 1.67, 0.25],
      [100, 0.0996, 1.02, 0.493, 0.06],
      [200, 0.269, 0.335, 0.331, 0.03],
    ] as const;
    points.forEach(({ size, measures, theory }, i) => {
      const [n, least, trace, error, within] = table[i]!;
      expect(size).toBe(n);
      const found = [measures.lambdaMinPlus!, measures.traceInverseOverN!, measures.testLoss!];
      [least, trace, error].forEach((wanted, k) => {
        expect(Math.abs(Math.log(found[k]!.median / wanted))).toBeLessThan(Math.log(1 + within));
      });
      const edges = [0.172, 0.0139, 0, 0.0076, 0.0858, 0.25];
      expect(theory!.edge).toBeCloseTo(edges[i]!, 3);
      expect(measures.rank!.median).toBe(Math.min(n, 50));
      if (n <= 50) expect(measures.trainLoss!.median).toBeLessThan(1e-20);
    });
  });

  test("the exact mean excess: sigma^2 p / (n - p - 1), and of short data", async () => {
    const { points } = await doubleDescent({
      problem: "least-squares",
      ...{ sizes: [10, 100, 70], repeats: 300, parameters: 50, seed: 3 },
    });
    expect(points[1]!.theory!.testLoss).toBeCloseTo(0.505, 3);
    for (const { measures, theory } of points) {
      for (const name of ["testLoss", "traceInverseOverN"] as const) {
        const { mean, standardError } = measures[name]!;
        expect(Math.abs(mean - theory![name])).toBeLessThan(4 * standardError);
        expect(standardError).toBeLessThan(0.05 * mean);
      }
    }
  });
});

/** Two noisy classes in four dimensions. */
async function classes(seed: number, n: number): Promise<DataSet> {
  const x = normals(seed, 4 * n);
  const y = integers(seed + 1, n, 2);
  y.forEach((label, i) => {
    x[4 * i]! += 1.5 * label;
  });
  return loadData({ x: { data: x, shape: [n, 4] }, y });
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-sweep-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("of data", () => {
  test("random features: interpolation from p = n on, and the peak there", async () => {
    const [train, test] = [await classes(1, 30), await classes(3, 200)];
    const { points, threshold, peaks } = await doubleDescent({
      problem: "random-features",
      ...{ train, test, sizes: [4, 15, 30, 60, 600], repeats: 5, labelNoise: 0.2 },
    });
    expect(threshold).toBe(30);
    expect(peaks).toEqual({ traceInverseOverN: 30, testLoss: 30 });
    for (const { size, measures, ratio } of points) {
      expect(ratio).toBeCloseTo(size / 30, 12);
      if (size >= 30) expect(measures.trainLoss!.mean).toBeLessThan(1e-12);
      else expect(measures.trainLoss!.mean).toBeGreaterThan(1e-3);
    }
    const losses = points.map(({ measures }) => measures.testLoss!.median);
    expect(losses[2]! / losses[0]!).toBeGreaterThan(3);
    expect(losses[4]!).toBeLessThan(losses[3]!);
    const least = points.map(({ measures }) => measures.lambdaMinPlus!.median);
    expect(Math.min(...least)).toBe(least[2]);
  });

  test("networks, kept as they are computed, and gone on from", async () => {
    const [train, test] = [await classes(5, 12), await classes(7, 60)];
    const options = {
      problem: "networks",
      ...{ train, test, repeats: 2, labelNoise: 0.1, epochs: 300, resume: folder },
      momentum: undefined, // as the command line gives what it was not told
    } as const;
    const first = await doubleDescent({ ...options, sizes: [1, 12] });
    expect([first.evaluated, first.reused]).toEqual([4, 0]);
    expect(first.settings).toMatchObject({ momentum: 0.9, learningRate: 0.1, batchSize: 12 });
    const second = await doubleDescent({ ...options, sizes: [1, 12, 3] });
    expect([second.evaluated, second.reused]).toEqual([2, 4]);
    expect(second.points.slice(0, 2)).toEqual(first.points);
    const [narrow, wide] = first.points;
    expect(narrow!.parameters).toBe(5 + 4);
    expect(wide!.measures.trainLoss!.mean).toBeLessThan(0.5 * narrow!.measures.trainLoss!.mean);
    expect(wide!.measures.rank!.mean).toBeLessThanOrEqual(24);
    expect(narrow!.measures.rank!.mean).toBeLessThanOrEqual(9);
    // P = (d + 1 + K) w + K against n K.
    expect(first.threshold).toBeCloseTo((24 - 2) / 7, 12);
    const other = await rejection(doubleDescent({ ...options, sizes: [1], labelNoise: 0.2 }));
    expect(other.message).toContain("holds points of another sweep");
  });

  test("wrong uses", async () => {
    const train = await classes(1, 8);
    const data = { train, test: train, sizes: [2] };
    const tries = [
      [{ problem: "ridge" }, /problem: expected one of "least-squares".*got "ridge"/],
      [{ problem: "random-features", train, test: train }, /sizes: expected an array/],
      [{ problem: "random-features", sizes: [2], test: train }, /train: expected data of loadData/],
      [{ problem: "random-features", ...data, labelNoise: 1 }, /labelNoise: expected a share/],
      [{ problem: "random-features", ...data, epochs: 1 }, /there is no option "epochs"/],
      [{ problem: "random-features", ...data, pool: 2 }, /pool: expected images of one channel/],
      [{ problem: "least-squares", sizes: [0] }, /sizes: expected an array of whole numbers/],
    ] as const;
    for (const [options, message] of tries)
      expect((await rejection(doubleDescent(options as never))).message).toMatch(message);
  });
});

describe("shifted data", () => {
  test("a quarter turn of images, exactly, and targets as they were", async () => {
    const x = Float32Array.from({ length: 18 }, (_, i) => i);
    const y = BigInt64Array.of(3n, 7n);
    using data = await loadData({ x: { data: x, shape: [2, 1, 3, 3] }, y });
    using turned = await shiftedData(data, { rotate: 90 });
    const got = await readArray(turned, "x", "test", {});
    const wanted = [2, 5, 8, 1, 4, 7, 0, 3, 6];
    expect(relative(got, [...wanted, ...wanted.map((v) => v + 9)])).toBeLessThan(1e-6);
    expect(Array.from(await readArray(turned, "y", "test", {}))).toEqual([3, 7]);
    expect(turned.arrays.find(({ name }) => name === "y")!.type).toBe("int64");
    using full = await shiftedData(data, { rotate: 360 });
    expect(relative(await readArray(full, "x", "test", {}), x)).toBeLessThan(1e-6);
  });

  test("noise of the size that was asked for, on what the network gets", async () => {
    using data = await loadData(
      { x: { data: new Uint8Array(8000).fill(100), shape: [40, 200] }, y: new Float64Array(40) },
      { normalize: { x: { scale: 0.01 } } },
    );
    using noisy = await shiftedData(data, { noise: 0.3, seed: 2 });
    const values = await readArray(noisy, "x", "test", {});
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const spread = Math.sqrt(values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length);
    expect(mean).toBeCloseTo(1, 1);
    expect(spread).toBeCloseTo(0.3, 1);
    expect((await rejection(shiftedData(data, {}))).message).toContain("expected noise or rotate");
    expect((await rejection(shiftedData(data, { rotate: 10 }))).message).toContain(
      "images of shape",
    );
  });
});

test("data sets side by side: losses, own curvature, and that of training", async () => {
  const { model, data } = await tinyProblem();
  using held = await loadData({
    x: { data: vector(12, 3), shape: [4, 3] },
    y: { data: vector(8, 4), shape: [4, 2] },
  });
  using noisy = await shiftedData(held, { noise: 0.5 });
  const options = { precision: "float64" } as const;
  const found = await generalization(model, data, { ...options, sets: { held, noisy } });
  expect(found.sets.map(({ name }) => name)).toEqual(["train", "held", "noisy"]);
  for (const [i, set] of [data, held, noisy].entries()) {
    const { loss: value, gap, own, transfer } = found.sets[i]!;
    const wanted = await loss(model, set, options);
    expect(value / wanted).toBeCloseTo(1, 12);
    expect(gap).toBeCloseTo(wanted - found.sets[0]!.loss, 12);
    const alone = await curvatureQuantities(model, set, {
      ...options,
      damping: found.sets[0]!.own.damping,
    });
    expect(own.lambdaMinPlus).toBe(alone.lambdaMinPlus);
    expect(own.gradients[0]!.traceInverseC).toBe(alone.gradients[0]!.traceInverseC);
    expect(transfer.samples).toBe(set.samples);
  }
  // The curvature of training with gradients of other data.
  const { gradients } = await curvatureQuantities(model, data, { gradients: { held } });
  expect(found.sets[1]!.transfer.tic! / gradients[0]!.tic!).toBeCloseTo(1, 12);
  expect(
    (await rejection(generalization(model, data, { sets: { train: held } }))).message,
  ).toContain('"train" is the name of the training data');
});

test("of classifiers, accuracy as well", async () => {
  const { model, data } = await openCase("mlp_relu");
  const found = await generalization(model, data, {
    method: "estimated",
    probes: 2,
    steps: 8,
    draws: 2,
  });
  expect(found.sets[0]!.accuracy).toBeGreaterThan(0);
  expect(found.sets[0]!.own.source).toBe("estimated");
});
