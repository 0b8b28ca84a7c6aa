/** What losses make of outputs that do not have one row a sample: an error, never a number. */
import { type ArraySource, loadData } from "../lib/data/data";
import type { LossName } from "../lib/model/loss";
import { loadModel } from "../lib/model/model";
import { forward, gradient, hessian } from "../lib/operators";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";

const lengths = (name: string, values: bigint[]) =>
  tensor(name, [values.length], { dataType: DataType.INT64, int64Data: values });

const weight = floats("w", [3, 3], [2, -1, 0.5, 1, 3, -2, 0.25, 1, 1]);
const linear = node("MatMul", ["x", "w"], ["h"]);

/** x [batch, 3] to y, which declares what it is not. */
const NETWORKS = {
  "a mean over the batch": modelBytes({
    nodes: [linear, node("ReduceMean", ["h"], ["y"], { keepdims: 0n })],
    initializers: [weight],
    inputs: [value("x", ["batch", 3])],
  }),
  "the same with axes kept": modelBytes({
    nodes: [linear, node("ReduceMean", ["h"], ["y"])],
    initializers: [weight],
    inputs: [value("x", ["batch", 3])],
  }),
  "classes before the batch": modelBytes({
    nodes: [linear, node("Transpose", ["h"], ["y"])],
    initializers: [weight],
    inputs: [value("x", ["batch", 3])],
  }),
};

const dataOf = (samples: number, columns: number) => {
  const spread = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i + 1));
  const x: ArraySource = { data: spread(3 * samples), shape: [samples, 3] };
  const y: ArraySource = { data: spread(columns * samples), shape: [samples, columns] };
  return loadData({ x, y });
};

const LOSSES: LossName[] = ["mse", "huber", "cross-entropy", "bce-with-logits"];

describe.each(Object.entries(NETWORKS))("%s", (_, bytes) => {
  test.each(LOSSES)("%s", async (loss) => {
    using model = await loadModel(bytes, { loss });
    for (const samples of [2, 5]) {
      using data = await dataOf(samples, samples);
      for (const batch of [1, 2, undefined]) {
        const attempt = gradient(model, data, { batch });
        await expect(attempt).rejects.toMatchObject({ name: "DataMismatchError" });
        await expect(attempt).rejects.toThrow("one row a sample");
      }
    }
  });
});

test("a batch that is fixed inside of the graph", async () => {
  const bytes = modelBytes({
    nodes: [node("Expand", ["token", "two"], ["e"]), node("Mul", ["e", "x"], ["y"])],
    initializers: [floats("token", [1, 3], [1, 2, 3]), lengths("two", [2n, 3n])],
    inputs: [value("x", ["batch", 3])],
    outputs: [value("y", ["batch", 3])],
  });
  using model = await loadModel(bytes, { loss: "mse" });
  using fitting = await dataOf(4, 3);
  const { loss } = await gradient(model, fitting, { batch: 2 });
  expect(loss).toBeGreaterThan(0);
  // One sample would be taken for two.
  for (const samples of [1, 3, 4]) {
    using data = await dataOf(samples, 3);
    const error = { name: "DataMismatchError" };
    await expect(gradient(model, data, { batch: 1 })).rejects.toMatchObject(error);
    using operator = hessian(model, data, { batch: 1 });
    await expect(operator.apply(new Float32Array(3))).rejects.toMatchObject(error);
  }
  using odd = await dataOf(3, 3);
  await expect(gradient(model, odd, { batch: 2 })).rejects.toThrow("dynamic batch axis");
});

test("forward: the whole output of one micro-batch, or an error", async () => {
  using model = await loadModel(NETWORKS["a mean over the batch"]);
  using data = await dataOf(4, 3);
  const { values, shape } = await forward(model, data, { batch: 4 });
  expect(shape).toEqual([]);
  expect(values).toHaveLength(1);
  await expect(forward(model, data, { batch: 2 })).rejects.toThrow("several micro-batches");
});
