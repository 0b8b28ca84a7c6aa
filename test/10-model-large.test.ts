// Models beyond 2 GiB: their tensors are mapped where they lie, never read into JavaScript.
import { mkdtempSync, openSync, rmSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forward, hessian, loadData, loadModel } from "../lib";
import { DataType, modelBytes, node, tensor, value } from "./10-model-maker";

const GIB = 2 ** 30;
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-large-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const external = (name: string, dims: number[], offset: number) =>
  tensor(name, dims, {
    dataType: DataType.FLOAT,
    dataLocation: 1,
    externalData: Object.entries({ location: "weights.data", offset: String(offset) }).map(
      ([key, value]) => ({ $typeName: "onnx.StringStringEntryProto" as const, key, value }),
    ),
  });

test("5 GiB of weights in a sparse file: a tensor behind them is read at its place", async () => {
  // An embedding of 1,310,720 rows of 1,024 numbers, all zero, and a matrix behind it.
  const rows = (5 * GIB) / 4096;
  const weights = join(folder, "weights.data");
  writeFileSync(weights, "");
  truncateSync(weights, 5 * GIB);
  const file = openSync(weights, "r+");
  writeSync(file, Float32Array.of(1, 2, 3, 4), 0, 16, 5 * GIB);
  const path = join(folder, "large.onnx");
  writeFileSync(
    path,
    modelBytes({
      inputs: [value("x", ["n", 2])],
      outputs: [value("y", ["n", 2]), value("z", ["n", 1024])],
      initializers: [external("embedding", [rows, 1024], 0), external("w", [2, 2], 5 * GIB)],
      nodes: [
        node("MatMul", ["x", "w"], ["y"]),
        node("Cast", ["x"], ["tokens"], { to: 7n }),
        node("Gather", ["embedding", "tokens"], ["z"]),
      ],
    }),
  );

  const before = process.memoryUsage().rss;
  using model = await loadModel(path, { output: "y" });
  expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
  const embedding = model.tensors.find(({ name }) => name === "embedding");
  expect(embedding).toMatchObject({ shape: [rows, 1024], role: "unused" });
  using data = await loadData({
    x: { data: Float32Array.of(1, 10), shape: [1, 2] },
    y: { data: Float32Array.of(0, 0), shape: [1, 2] },
  });
  expect(Array.from((await forward(model, data)).values)).toEqual([31, 42]);
  using H = hessian(model, data, { loss: "mse" });
  expect(Array.from(await H.apply(Float32Array.of(1, 0, 0, 0)))).toEqual([1, 0, 10, 0]);
  expect(process.memoryUsage().rss - before).toBeLessThan(GIB);

  using whole = await loadModel(path, { output: "z" });
  expect(whole.parameters).toMatchObject([{ name: "embedding", size: rows * 1024 }]);
});

test("3 GiB that the graph makes itself (ConstantOfShape) are never written out", async () => {
  const bytes = modelBytes({
    inputs: [value("x", ["n", 2])],
    outputs: [value("y", ["n", 2])],
    initializers: [
      tensor("w", [2, 2], { dataType: DataType.FLOAT, floatData: [1, 2, 3, 4] }),
      tensor("shape", [2], { dataType: DataType.INT64, int64Data: [BigInt((3 * GIB) / 8), 2n] }),
      tensor("rows", [1], { dataType: DataType.INT64, int64Data: [1n] }),
      tensor("none", [1], { dataType: DataType.INT64, int64Data: [0n] }),
    ],
    nodes: [
      node("MatMul", ["x", "w"], ["xw"]),
      node("ConstantOfShape", ["shape"], ["large"], {
        value: tensor("v", [1], { dataType: DataType.FLOAT, floatData: [0.5] }),
      }),
      node("Slice", ["large", "none", "rows", "none"], ["row"]),
      node("Add", ["xw", "row"], ["y"]),
    ],
  });
  using model = await loadModel(bytes);
  using data = await loadData({ x: { data: Float32Array.of(1, 10), shape: [1, 2] } });
  expect(Array.from((await forward(model, data)).values)).toEqual([31.5, 42.5]);
});
