// What sub-networks are worth: masked parameters, and curves beside matched random masks.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AbortError,
  evaluator,
  loadData,
  loadModel,
  loss,
  mask,
  maskedParameters,
  parameterVector,
  sparsityCurves,
  writeModel,
} from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { openCase, tinyProblem, vector } from "./50-helpers";

test("what pruned and kept weights become", async () => {
  const { model } = await tinyProblem();
  const final = parameterVector(model);
  const initial = vector(26, 9);
  const m = await mask(model, { criterion: "magnitude", keep: 0.5 });
  const expectEach = (
    found: Float64Array,
    kept: (i: number) => number,
    pruned: (i: number) => number,
  ) =>
    found.forEach((x, i) => {
      expect(x).toBe(m.bits[i] ? kept(i) : pruned(i));
    });
  const w = (i: number) => final[i]!;
  const w0 = (i: number) => initial[i]!;
  expectEach(maskedParameters(model, m), w, () => 0);
  expectEach(maskedParameters(model, m, { pruned: "initial", initial }), w, w0);
  expectEach(maskedParameters(model, m, { kept: "initial", initial }), w0, () => 0);
  const toZero = (i: number) => (Math.abs(w(i)) < Math.abs(w0(i)) ? 0 : w0(i));
  expectEach(maskedParameters(model, m, { pruned: "initial-or-zero", initial }), w, toZero);
  const first = final.subarray(0, 12).reduce((sum, x) => sum + x, 0) / 12;
  const mean = maskedParameters(model, m, { pruned: "mean" });
  expect(mean.filter((_, i) => i < 12 && !m.bits[i])).toEqual(new Float64Array(6).fill(first));
  expect(maskedParameters(model, m.or(m.not()))).toEqual(final);

  expect(() => maskedParameters(model, m, { pruned: "initial" })).toThrow(
    "initial: expected the parameters that training began with, got undefined",
  );
  expect(() => maskedParameters(model, m, { pruned: "one" as never })).toThrow(
    "pruned: expected one of",
  );
  expect(() => maskedParameters(model, [1] as never)).toThrow(
    /expected 26 entries|expected a Mask/,
  );
});

test("the masked network in the core is the one in a file", async () => {
  const folder = mkdtempSync(join(tmpdir(), "eigenscope-worth-"));
  try {
    const { model, data } = await openCase("cnn_small");
    const m = await mask(model, { criterion: "magnitude", keep: 0.2 });
    const there = maskedParameters(model, m);
    const path = join(folder, "pruned.onnx");
    await writeModel(path, model, { parameters: there });
    const pruned = await loadModel(path, { loss: "cross-entropy" });
    expect(parameterVector(pruned)).toEqual(there);
    using worth = evaluator(model, data, { precision: "float64" });
    const found = (await worth.at(there)).loss;
    expect(found / (await loss(pruned, data, { precision: "float64" }))).toBeCloseTo(1, 12);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

/** Logistic regression whose classes hang on two of eight inputs, as its weights say. */
async function sparseProblem() {
  const weights = [0.1, -0.05, 4, 0.05, -0.1, -4, 0.02, 0.03];
  const bytes = modelBytes({
    nodes: [node("Gemm", ["x", "w", "b"], ["y"])],
    inputs: [value("x", ["N", 8])],
    outputs: [value("y", ["N", 2])],
    initializers: [
      floats(
        "w",
        [8, 2],
        weights.flatMap((x) => [x, -x]),
      ),
      floats("b", [2], [0, 0]),
    ],
  });
  const x = Float32Array.from(vector(8 * 64, 2));
  const y = BigInt64Array.from({ length: 64 }, (_, n) => (x[8 * n + 2]! > x[8 * n + 5]! ? 0n : 1n));
  const model = await loadModel(bytes, { loss: "cross-entropy" });
  return { model, data: await loadData({ x: { data: x, shape: [64, 8] }, y }) };
}

describe("curves", () => {
  test("magnitude keeps what counts, chance does not", async () => {
    const { model, data } = await sparseProblem();
    const options = {
      criteria: ["magnitude", "small_final"],
      keep: [1, 0.25, 0.01],
      random: 8,
      precision: "float64",
    } as const;
    const found = await sparsityCurves(model, data, options);
    expect(found.points.map(({ criterion, keep }) => [criterion, keep])).toEqual(
      options.criteria.flatMap((criterion) => options.keep.map((keep) => [criterion, keep])),
    );
    const [whole, quarter, hundredth, small, smallQuarter] = found.points;
    for (const point of [whole!, small!])
      expect([point.loss, point.accuracy]).toEqual([found.dense.loss, found.dense.accuracy]);
    expect(whole!.random!.loss.standardDeviation).toBe(0);
    expect(quarter).toMatchObject({ kept: 4, share: 0.25, collapsed: [], accuracy: 1 });
    expect(quarter!.random!.accuracy!.mean).toBeLessThan(0.95);
    expect(quarter!.random!.loss.mean).toBeGreaterThan(quarter!.loss);
    expect(smallQuarter!.accuracy).toBeLessThan(quarter!.accuracy!);
    // Of 16 a hundredth is one: 16 - floor(15.84).
    expect(hundredth).toMatchObject({ kept: 1, collapsed: [] });
    const { values, mean, band } = quarter!.random!.accuracy!;
    expect(values).toHaveLength(8);
    expect(mean).toBeCloseTo(values.reduce((a, b) => a + b) / 8, 12);
    expect(band[0]).toBeGreaterThanOrEqual(Math.min(...values));
    expect(band[1]).toBeLessThanOrEqual(Math.max(...values));
    // The same numbers of each tensor: the same random masks.
    expect(smallQuarter!.random).toBe(quarter!.random);
    const { seconds: _, ...rest } = found;
    const { seconds: __, ...again } = await sparsityCurves(model, data, options);
    expect(again).toEqual(rest);
    const other = await sparsityCurves(model, data, { ...options, seed: 100 });
    expect(other.points[1]!.random).not.toEqual(quarter!.random);
  });

  test("a point by hand, with progress", async () => {
    const { model, data } = await openCase("mlp_relu");
    const fractions: number[] = [];
    const initial = vector(model.parameterCount, 3).map((x) => 0.1 * x);
    const { points } = await sparsityCurves(model, data, {
      criteria: ["movement"],
      keep: [0.3],
      scope: "global",
      initial,
      pruned: "initial",
      random: 0,
      onProgress: ({ fraction }) => fractions.push(fraction!),
    });
    const m = await mask(model, { criterion: "movement", initial, keep: 0.3, scope: "global" });
    using worth = evaluator(model, data);
    const wanted = await worth.at(maskedParameters(model, m, { pruned: "initial", initial }));
    expect(points[0]).toMatchObject({ ...wanted, random: undefined });
    expect(points[0]!.share).toBeCloseTo(0.3, 3);
    expect(fractions).toEqual([0.5, 1]);
  });

  test("layers that collapse are named; random masks collapse with them", async () => {
    const { model, data } = await tinyProblem();
    const scores = { fisher: Float64Array.from({ length: 26 }, (_, i) => (i < 12 ? 2 : 1)) };
    const found = await sparsityCurves(model, data, {
      criteria: ["fisher"],
      keep: [0.5],
      scope: "global",
      diagonal: scores.fisher,
      random: 2,
    });
    expect(found.points[0]).toMatchObject({ collapsed: ["w2"], kept: 10, accuracy: undefined });
    expect(found.points[0]!.random!.accuracy).toBeUndefined();
    // Without w2 the output is its bias, whichever entries of w1 are kept.
    const { values } = found.points[0]!.random!.loss;
    for (const value of values) expect(value).toBeCloseTo(found.points[0]!.loss, 6);
  });

  test("whole neurons, and N:M", async () => {
    const { model, data } = await tinyProblem();
    const run = { criteria: ["magnitude"], random: 2, keep: [0.5] } as const;
    const units = await sparsityCurves(model, data, { ...run, structure: "outputs" });
    expect(units.points[0]).toMatchObject({ kept: 6 + 4 });
    const pattern = await sparsityCurves(model, data, { ...run, structure: "2:4" });
    expect(pattern.points[0]).toMatchObject({ kept: 8 + 4, share: 0.6 });
    expect(pattern.points[0]!.random!.loss.values[0]).not.toBe(pattern.points[0]!.loss);
  });

  test("stopped by a signal", async () => {
    const { model, data } = await openCase("mlp_relu");
    const controller = new AbortController();
    const options = {
      criteria: ["magnitude"],
      keep: [0.5, 0.4, 0.3],
      signal: controller.signal,
      onProgress: () => controller.abort(),
    } as const;
    await expect(sparsityCurves(model, data, options)).rejects.toThrow(AbortError);
  });

  test.each<[object, string]>([
    [{ keep: [0.5] }, "criteria: expected an array of criteria, got undefined"],
    [{ criteria: ["magnitude"] }, "keep: expected an array of shares over 0 and at most 1"],
    [{ criteria: ["magnitude"], keep: [2] }, "keep: expected an array of shares"],
    [{ criteria: ["size"], keep: [0.5] }, "criterion: expected one of magnitude, "],
    [{ criteria: ["movement"], keep: [0.5] }, "movement: needs the option initial"],
    [{ criteria: ["magnitude"], keep: [0.5], random: -1 }, "random: expected a whole number"],
    [
      { criteria: ["magnitude"], keep: [0.5], pruned: "initial" },
      "initial: expected the parameters",
    ],
  ])("wrong uses %#", async (options, text) => {
    const { model, data } = await tinyProblem();
    await expect(sparsityCurves(model, data, options as never)).rejects.toThrow(text);
  });
});
