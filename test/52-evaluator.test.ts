// Loss and accuracy at many places, against the loss, the forward pass and counting by hand.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AbortError,
  evaluator,
  forward,
  loadData,
  loadModel,
  loss,
  parameterVector,
  writeModel,
} from "../lib";
import { accuracyOf } from "../lib/accuracy";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { openCase, tinyProblem, vector } from "./50-helpers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-evaluator-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bias = (values: number[]) =>
  modelBytes({
    nodes: [node("Add", ["x", "b"], ["y"])],
    inputs: [value("x", ["N", 2])],
    outputs: [value("y", ["N", 2])],
    initializers: [floats("b", [2], values)],
  });

async function twoClasses() {
  const model = await loadModel(bias([0, 0]), { loss: "cross-entropy" });
  const data = await loadData({
    x: { data: Float32Array.of(3, 1, 0, 1, 5, 4, 2, 9), shape: [4, 2] },
    y: BigInt64Array.of(0n, 1n, 1n, 1n),
  });
  return { model, data };
}

test("at the model and away from it", async () => {
  const { model, data } = await twoClasses();
  using worth = evaluator(model, data, { precision: "float64" });
  const here = await worth.at();
  expect(here.accuracy).toBe(0.75);
  expect(here.loss).toBeCloseTo(await loss(model, data, { precision: "float64" }), 14);
  // The second class is chosen for all but the first; then for none.
  expect((await worth.at(Float64Array.of(0, 1.5))).accuracy).toBe(1);
  expect((await worth.at(Float64Array.of(8, 0))).accuracy).toBe(0.25);
  const other = await loadModel(bias([0, 1.5]), { loss: "cross-entropy" });
  const there = await worth.at(other);
  expect(there).toEqual(await worth.at(Float64Array.of(0, 1.5)));
  expect(there.loss).toBeCloseTo(await loss(other, data, { precision: "float64" }), 13);
  expect(await worth.at()).toEqual(here);
});

test.each(["mlp_relu", "cnn_small", "resnet_bn"])(
  "%s against a model of those weights",
  async (name) => {
    const { model, data } = await openCase(name);
    const moved = parameterVector(model).map((x, i) => Math.fround(x * (1 + 0.3 * Math.sin(i))));
    using worth = evaluator(model, data, { precision: "float64" });
    const { loss: there, accuracy } = await worth.at(moved);
    const path = join(folder, "moved.onnx");
    await writeModel(path, model, { parameters: moved });
    const other = await loadModel(path, { loss: "cross-entropy" });
    const run = { precision: "float64" } as const;
    expect(there / (await loss(other, data, run))).toBeCloseTo(1, 10);
    const targets = new Float64Array(data.samples);
    await data.native.read("y", targets).promise;
    const output = await forward(other, data, run);
    expect(accuracy).toBe(accuracyOf({ name: "cross-entropy" }, output, targets));
  },
);

test("the same for any number of threads, and stopped by a signal", async () => {
  const { model, data } = await openCase("cnn_small");
  const moved = parameterVector(model).map((x, i) => x + 0.01 * Math.cos(i));
  using one = evaluator(model, data, { threads: 1 });
  using three = evaluator(model, data, { threads: 3 });
  expect(await three.at(moved)).toEqual(await one.at(moved));
  await expect(one.at(moved, { signal: AbortSignal.abort() })).rejects.toThrow(AbortError);
  expect(await one.at(moved)).toEqual(await three.at(moved));
});

test("what counts as right", () => {
  const values = Float64Array.of(1, 2, 3, 0, 5, 4);
  const entropy = { name: "cross-entropy" } as const;
  expect(accuracyOf(entropy, { values, shape: [2, 3] }, Float64Array.of(2, 0))).toBe(0.5);
  expect(accuracyOf(entropy, { values, shape: [2, 3] }, Float64Array.of(2, -100))).toBe(1);
  // Classes along axis 1 of three positions: 0 > 1, 5 > 2, 4 > 3.
  const maps = { values, shape: [1, 2, 3] };
  expect(accuracyOf(entropy, maps, Float64Array.of(0, 1, 1))).toBe(1);
  expect(accuracyOf({ ...entropy, classAxis: -1 }, maps, Float64Array.of(2, 1))).toBe(1);
  const soft = Float64Array.of(0, 0.4, 0.6, 0.5, 0.3, 0.2);
  expect(accuracyOf(entropy, { values, shape: [2, 3] }, soft)).toBe(0.5);
  const binary = { values: Float64Array.of(-1, 2, 0.2, -3), shape: [4, 1] };
  expect(accuracyOf({ name: "bce-with-logits" }, binary, Float64Array.of(0, 1, 0, 0))).toBe(0.75);
  expect(accuracyOf({ name: "bce" }, binary, Float64Array.of(0, 1, 0, 0))).toBe(1);
  expect(() => accuracyOf(entropy, { values, shape: [2, 3] }, values.subarray(0, 5))).toThrow(
    "accuracy: expected 2 labels for outputs of the shape (2, 3), got 5",
  );
});

test("regression has no accuracy", async () => {
  const { model, data } = await tinyProblem();
  using worth = evaluator(model, data);
  const found = await worth.at(vector(26));
  expect(found.accuracy).toBeUndefined();
  expect(found.loss).toBeGreaterThan(0);
});

test("wrong uses", async () => {
  const { model, data } = await twoClasses();
  using worth = evaluator(model, data);
  await expect(worth.at(vector(3))).rejects.toThrow("expected a model, or a Float64Array of its 2");
  expect(() => evaluator(model, data, { target: "labels" })).toThrow(
    'expected an array "labels" of targets, got x float32 (4, 2), y int64 (4,)',
  );
  expect(() => evaluator(model, data, { tagret: "y" } as never)).toThrow('"target" was probably');
  const bare = await loadModel(bias([0, 0]));
  expect(() => evaluator(bare, data)).toThrow("expected a loss, of the model or here");
  worth.dispose();
  await expect(worth.at()).rejects.toThrow(/disposed/);
});
