// Choosing what is differentiated: patterns, outputs, ties, and options that do not fit.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { OptionError } from "../lib/errors";
import { globToRegExp, matchGlobs } from "../lib/model/glob";
import { type LoadModelOptions, loadModel } from "../lib/model/model";
import { DataType, floats, modelBytes, node, value } from "./10-model-maker";

const twoLayers = modelBytes({
  initializers: [
    floats("fc1.weight", [4, 4]),
    floats("fc1.bias", [4]),
    floats("fc2.weight", [4, 4]),
    floats("fc2.bias", [4]),
    floats("val_7", [1]),
  ],
  nodes: [
    node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["a"]),
    node("Mul", ["a", "val_7"], ["b"]),
    node("Gemm", ["b", "fc2.weight", "fc2.bias"], ["y"]),
  ],
});

async function namesOf(bytes: Uint8Array, options: LoadModelOptions = {}): Promise<string[]> {
  const model = await loadModel(bytes, options);
  const names = model.parameters.map(({ name }) => name);
  model.dispose();
  return names;
}

const all = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"];

test.each([
  [{}, all],
  [{ include: "fc1.*" }, ["fc1.weight", "fc1.bias"]],
  [{ include: ["*.bias", "fc2.weight"] }, ["fc1.bias", "fc2.weight", "fc2.bias"]],
  [{ exclude: "*.bias" }, ["fc1.weight", "fc2.weight"]],
  [{ include: "fc[2-9].*", exclude: ["*.bias"] }, ["fc2.weight"]],
  [{ include: "*.{weight,bias}", exclude: "fc?.weight" }, ["fc1.bias", "fc2.bias"]],
  // By its plain name anything is a parameter.
  [{ include: ["fc2.bias", "val_7"] }, ["fc2.bias", "val_7"]],
  [{ include: ["*"] }, all],
])("params %j", async (params, wanted) => {
  expect(await namesOf(twoLayers, { params })).toEqual(wanted);
});

test("offsets and values follow the choice, and the rest is listed with its reason", async () => {
  const model = await loadModel(twoLayers, { params: { include: ["fc1.bias", "fc2.weight"] } });
  expect(model.parameters.map(({ offset, size }) => [offset, size])).toEqual([
    [0, 4],
    [4, 16],
  ]);
  expect(model.parameterCount).toBe(20);
  expect(model.parameterIndex("fc2.weight")).toBe(1);
  expect(model.parameterIndex("fc1.weight")).toBe(-1);
  expect(Array.from(model.parameters[1]!.values())).toEqual([...Array(16).keys()]);
  expect(model.tensors.map(({ name, role }) => [name, role])).toEqual([
    ["fc1.weight", "excluded"],
    ["fc1.bias", "parameter"],
    ["fc2.weight", "parameter"],
    ["fc2.bias", "excluded"],
    ["val_7", "constant"],
  ]);
  model.dispose();
});

describe("outputs", () => {
  const bytes = modelBytes({
    initializers: [floats("shared", [4]), floats("a", [4]), floats("b", [4])],
    nodes: [
      node("Mul", ["x", "shared"], ["h"]),
      node("ArgMax", ["h"], ["label"]),
      node("Mul", ["h", "a"], ["y"]),
      node("NoSuchOperator", ["h", "b"], ["z"]),
    ],
    outputs: [value("label", ["n"], DataType.INT64), value("y", ["n", 4]), value("z", null)],
  });

  test("the first of floating-point numbers counts, and the choice is said", async () => {
    const model = await loadModel(bytes);
    expect(model.output).toBe("y");
    expect(model.outputs.map(({ name }) => name)).toEqual(["label", "y", "z"]);
    expect(model.parameters.map(({ name }) => name)).toEqual(["shared", "a"]);
    expect(model.tensors[2]).toMatchObject({ name: "b", role: "unused" });
    // What only the other output needs may be anything.
    expect(model.unsupported).toEqual([]);
    expect(model.operators).toEqual({ Mul: 2, ArgMax: 1, NoSuchOperator: 1 });
    expect(model.warnings).toEqual([expect.stringContaining("y is used")]);
    model.dispose();
  });

  test("another can be chosen", async () => {
    const model = await loadModel(bytes, { output: "z" });
    expect(model.parameters.map(({ name }) => name)).toEqual(["shared", "b"]);
    expect(model.unsupported.map(({ op }) => op)).toEqual(["NoSuchOperator"]);
    expect(model.warnings).toEqual([]);
    model.dispose();
    await expect(loadModel(bytes, { output: "w" })).rejects.toThrow(
      'expected one of the model\'s outputs (label, y, z), got "w"',
    );
  });
});

test("ties make one parameter of two", async () => {
  const bytes = modelBytes({
    initializers: [
      floats("in", [4, 4]),
      floats("out", [4, 4]),
      floats("other", [4, 4], Array(16).fill(1)),
    ],
    nodes: [
      node("MatMul", ["x", "in"], ["a"]),
      node("MatMul", ["a", "out"], ["b"]),
      node("MatMul", ["b", "other"], ["y"]),
    ],
  });
  const loose = await loadModel(bytes);
  expect(loose.parameterCount).toBe(48);
  expect(loose.warnings).toEqual([expect.stringContaining("out = in")]);
  loose.dispose();
  const tied = await loadModel(bytes, { ties: [["in", "out"]] });
  expect(tied.parameters.map(({ name }) => name)).toEqual(["in", "other"]);
  expect(tied.warnings).toEqual([]);
  tied.dispose();
  await expect(loadModel(bytes, { ties: [["in", "other"]] })).rejects.toThrow("with other values");
});

test("a network without parameters is loaded, with a warning", async () => {
  const model = await loadModel(
    modelBytes({ initializers: [], nodes: [node("Relu", ["x"], ["y"])] }),
  );
  expect(model.parameterCount).toBe(0);
  expect(model.warnings).toEqual([expect.stringContaining("no parameter was found")]);
  model.dispose();
});

test.each([
  [
    "a pattern without a match",
    { params: { include: "fc3.*" } },
    '"fc3.*" matches no parameter; names are fc1.weight, fc1.bias',
  ],
  ["a second one", { params: { exclude: ["fc1.*", "nope"] } }, "params.exclude"],
  ["nothing left", { params: { exclude: "*" } }, "none is left"],
  ["a bracket that is not closed", { params: { include: "fc[1" } }, "bracket is not closed"],
  ["a brace that is not closed", { params: { include: "{fc1,fc2" } }, "brace is not closed"],
  ["a range backwards", { params: { include: "fc[9-1].*" } }, "expected a pattern"],
  ["an unknown option", { los: "mse" }, 'got "los"'],
  ["an unknown option of params", { params: { includes: "*" } }, 'got "includes"'],
  [
    "an unknown loss",
    { loss: "hinge" },
    'expected one of cross-entropy, nll, nll-probabilities, mse, bce-with-logits, bce, huber, smooth-l1, l1, output, got "hinge"',
  ],
  ["an unknown option of the loss", { loss: { name: "mse", weight: 1 } }, 'got "weight"'],
  ["a number that is none", { loss: { name: "huber", delta: "1" } }, "delta: expected a number"],
  ["a reduction that is none", { loss: { name: "mse", reduction: "none" } }, '"mean" or "sum"'],
  ["a tie of three", { ties: [["a", "b", "c"]] }, "ties"],
] as [string, object, string][])("%s", async (_, options, message) => {
  await expect(loadModel(twoLayers, options as LoadModelOptions)).rejects.toThrow(OptionError);
  await expect(loadModel(twoLayers, options as LoadModelOptions)).rejects.toThrow(message);
});

test("patterns", () => {
  const matches = (pattern: string, name: string) => globToRegExp(pattern).test(name);
  expect(matches("onnx::Conv_[0-9]*", "onnx::Conv_193")).toBe(true);
  expect(matches("/fc/*_output_0", "/fc/a/b_output_0")).toBe(true);
  expect(matches("a.b", "a+b")).toBe(false);
  expect(matches("a.b", "aXb")).toBe(false);
  expect(matches("[!a]*", "bcd")).toBe(true);
  expect(matches("[!a]*", "abc")).toBe(false);
  expect(matches("[^a]", "^")).toBe(true);
  expect(matches("[]]", "]")).toBe(true);
  expect(matches("(a|b)", "a")).toBe(false);
  expect(matches("a,b", "a,b")).toBe(true);
  expect(matches("{a,b{c,d}}x", "bdx")).toBe(true);
  expect(matches("a\\d", "a1")).toBe(false);
  // A name with special characters matches itself.
  expect(matchGlobs(["w[0]", "w0"], "w[0]", "x")).toEqual([true, true]);
});

test("the two exporters give the same parameters in the same order", async () => {
  const models = join(__dirname, "..", "examples", "models");
  const [script, dynamo] = await Promise.all(
    ["lenet.onnx", "lenet-dynamo.onnx"].map((name) => loadModel(readFileSync(join(models, name)))),
  );
  expect(dynamo!.parameters.map(({ name }) => name)).toEqual(
    script!.parameters.map(({ name }) => name),
  );
  expect(dynamo!.parameterCount).toBe(44426);
  for (const [i, parameter] of script!.parameters.entries())
    expect(dynamo!.parameters[i]!.values()).toEqual(parameter.values());
  expect([script!.warnings, dynamo!.warnings]).toEqual([[], []]);
  script!.dispose();
  dynamo!.dispose();
});
