// Tensors that exporters store once as their numbers are equal, or write themselves.
import { gradient, loadData, loadModel, type Model } from "../lib";
import type { NodeProto, TensorProto } from "../lib/model/onnx_pb";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";
import { vector } from "./50-helpers";

function open(
  nodes: NodeProto[],
  initializers: TensorProto[],
  params?: { include: string[] },
): Promise<Model> {
  const outputs = [value("y", null)];
  return loadModel(modelBytes({ nodes, initializers, outputs }), {
    loss: "mse",
    ...(params && { params }),
  });
}

async function gradientOf(model: Model): Promise<Record<string, number[]>> {
  using data = await loadData({
    x: { data: vector(20, 1), shape: [5, 4] },
    y: { data: vector(20, 2), shape: [5, 4] },
  });
  const { gradient: all } = await gradient(model, data, { precision: "float64" });
  return Object.fromEntries(
    model.parameters.map(({ name, offset, size }) => [
      name,
      Array.from(all.subarray(offset, offset + size)),
    ]),
  );
}

const W = Array.from(vector(16, 3));
const ONES = [1, 1, 1, 1];
const ZEROS = [0, 0, 0, 0];
const norm = node(
  "BatchNormalization",
  ["h", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"],
  ["y"],
);
const layers = [node("MatMul", ["x", "w"], ["h"]), norm];
const apart = [
  floats("w", [4, 4], W),
  floats("bn.weight", [4], ONES),
  floats("bn.bias", [4], ZEROS),
  floats("bn.running_mean", [4], ZEROS),
  floats("bn.running_var", [4], ONES),
];
const merged = [
  node("Identity", ["bn.bias"], ["bn.running_mean"]),
  node("Identity", ["bn.weight"], ["bn.running_var"]),
];

test("statistics merged with a scale and a shift are no function of them", async () => {
  using separate = await open(layers, apart);
  using once = await open([...merged, ...layers], apart.slice(0, 3));
  const wanted = await gradientOf(separate);
  expect(Object.keys(wanted)).toEqual(["w", "bn.weight", "bn.bias"]);
  expect(await gradientOf(once)).toEqual(wanted);
  expect(once.tensors.filter(({ role }) => role === "buffer").map(({ name }) => name)).toEqual([
    "bn.running_mean",
    "bn.running_var",
  ]);
});

test("a merged parameter that is left out does not add to the one that is stored", async () => {
  const nodes = [
    node("Identity", ["a.bias"], ["b.bias"]),
    node("MatMul", ["x", "w"], ["h"]),
    node("Add", ["h", "a.bias"], ["g"]),
    node("Add", ["g", "b.bias"], ["y"]),
  ];
  const stored = [floats("w", [4, 4], W), floats("a.bias", [4], ZEROS)];
  using all = await open(nodes, stored);
  const wanted = await gradientOf(all);
  expect(Object.keys(wanted)).toEqual(["w", "a.bias", "b.bias"]);
  using one = await open(nodes, stored, { include: ["a.bias"] });
  expect(await gradientOf(one)).toEqual({ "a.bias": wanted["a.bias"] });
});

test("fused biases that the exporter merged are a parameter each", async () => {
  using model = await open(
    [
      node("Identity", ["onnx::Gemm_5"], ["onnx::Gemm_8"]),
      node("Gemm", ["x", "w", "onnx::Gemm_5"], ["h"]),
      node("Gemm", ["h", "w2", "onnx::Gemm_8"], ["y"]),
    ],
    [floats("w", [4, 4], W), floats("w2", [4, 4], W), floats("onnx::Gemm_5", [4], ZEROS)],
  );
  expect(model.parameters.map(({ name }) => name)).toEqual([
    "w",
    "w2",
    "onnx::Gemm_5",
    "onnx::Gemm_8",
  ]);
  expect(model.warnings.join()).toMatch(/stored once.*onnx::Gemm_8 = onnx::Gemm_5/);
});

test("one bias for layers of several weights is taken for merged, one layer run twice is not", async () => {
  const gemm = (from: string, weight: string, to: string) =>
    node("Gemm", [from, weight, "bias"], [to]);
  const stored = [floats("w", [4, 4], W), floats("bias", [4], ZEROS)];
  using two = await open(
    [gemm("x", "w", "h"), gemm("h", "w2", "y")],
    [...stored, floats("w2", [4, 4], Array.from(vector(16, 4)))],
  );
  expect(two.warnings.join()).toMatch(/parameter bias is the scale, shift or bias of 2 layers/);
  using twice = await open([gemm("x", "w", "h"), gemm("h", "w", "y")], stored);
  expect(twice.warnings.join()).not.toMatch(/scale, shift or bias/);
});

test.each([
  ["val_3", ONES, "constant"],
  ["/norm/Constant_1_output_0", ONES, "constant"],
  ["val_3", [1, 2, 1, 1], "parameter"],
  ["norm.weight", ONES, "parameter"],
])("the scale %s of %j in InstanceNormalization is a %s", async (name, numbers, role) => {
  using model = await open(
    [
      node("MatMul", ["x", "w"], ["h"]),
      node("Unsqueeze", ["h", "axis"], ["maps"]),
      node("InstanceNormalization", ["maps", name, "norm.bias"], ["n"]),
      node("Flatten", ["n"], ["y"]),
    ],
    [
      floats("w", [4, 4], W),
      floats(name, [4], numbers),
      floats("norm.bias", [4], [1, 2, 3, 4]),
      tensor("axis", [1], { dataType: DataType.INT64, int64Data: [2n] }),
    ],
  );
  expect(model.tensors.find((tensor) => tensor.name === name)!.role).toBe(role);
});
