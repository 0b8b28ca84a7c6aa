// The option stateDict: how stored tensors are mapped to PyTorch's names, rule by rule.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromStateDict, loadModel, type Model, parameterVector } from "../lib";
import { writeNpz, writeSafetensors } from "../lib/data/archive";
import type { NodeProto } from "../lib/model/onnx_pb";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { rejection, vector } from "./50-helpers";
import { cli } from "./60-run";

const folder = mkdtempSync(join(tmpdir(), "state-dict-"));
afterAll(() => rmSync(folder, { recursive: true }));

type State = Record<string, { shape: number[]; values: ArrayLike<number> }>;

/** Numbers that are the same in float32 and float64. */
const numbers = (count: number, phase: number) =>
  Array.from(Float32Array.from(vector(count, phase)));

function turned(values: ArrayLike<number>, rows: number, columns: number): number[] {
  return Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!);
}

let files = 0;
async function stateFile(state: State, metadata: Record<string, string> = {}): Promise<string> {
  const path = join(folder, `state-${files++}.safetensors`);
  const arrays = Object.entries(state).map(([name, { shape, values }]) => ({
    ...{ name, shape },
    values: Float32Array.from(values),
  }));
  await writeSafetensors(path, arrays, metadata);
  return path;
}

interface Stored {
  name: string;
  dims: number[];
  values: ArrayLike<number>;
}

/** x (N, 4) -> MatMul, Add for each pair of tensors, or what `nodes` says. */
async function load(
  stored: Stored[],
  state: State,
  {
    nodes = [
      node("MatMul", ["x", stored[0]!.name], ["h"]),
      node("Add", ["h", stored[1]!.name], ["y"]),
    ],
    metadata = {} as Record<string, string>,
    params = undefined as { include?: string[]; exclude?: string[] } | undefined,
  } = {},
): Promise<Model> {
  const bytes = modelBytes({
    nodes,
    initializers: stored.map(({ name, dims, values }) => floats(name, dims, Array.from(values))),
    outputs: [value("y", null)],
  });
  const stateDict = await stateFile(state, metadata);
  return loadModel(bytes, { loss: "mse", stateDict, ...(params && { params }) });
}

const rules = (model: Model) =>
  model.parameters.map(({ name, stateDict }) => [
    name,
    stateDict?.rule,
    ...(stateDict?.names ?? []),
  ]);
const mappingOf = (model: Model) => model.warnings.filter((text) => text.startsWith("state_dict"));

const W = numbers(12, 1);
const B = numbers(3, 2);
const LINEAR: State = {
  "fc.weight": { shape: [3, 4], values: W },
  "fc.bias": { shape: [3], values: B },
};

test("name, transposed and reshaped; parameters keep their names in the file", async () => {
  using model = await load(
    [
      { name: "onnx::MatMul_7", dims: [4, 3], values: turned(W, 3, 4) },
      { name: "fc.bias", dims: [3], values: B },
    ],
    LINEAR,
  );
  expect(rules(model)).toEqual([
    ["onnx::MatMul_7", "transposed", "fc.weight"],
    ["fc.bias", "name", "fc.bias"],
  ]);
  expect(model.parameters.map(({ stateDictName }) => stateDictName)).toEqual([
    "fc.weight",
    "fc.bias",
  ]);
  expect(mappingOf(model)).toEqual([]);
  // The general warning of renamed tensors says less.
  expect(model.warnings.join()).not.toMatch(/folded or fused/);
  const theta = fromStateDict(model, { "fc.weight": W, "fc.bias": B });
  expect([...theta]).toEqual([...parameterVector(model)]);

  using other = await load(
    [
      { name: "onnx::MatMul_7", dims: [4, 3], values: turned(W, 3, 4) },
      { name: "onnx::Add_8", dims: [1, 3], values: B },
    ],
    LINEAR,
  );
  expect(rules(other)[1]).toEqual(["onnx::Add_8", "reshaped", "fc.bias"]);
});

test("--params and --exclude match names of the state_dict too", async () => {
  const stored = [
    { name: "onnx::MatMul_7", dims: [4, 3], values: turned(W, 3, 4) },
    { name: "fc.bias", dims: [3], values: B },
  ];
  using model = await load(stored, LINEAR, { params: { include: ["fc.weight"] } });
  expect(model.parameters.map(({ name }) => name)).toEqual(["onnx::MatMul_7"]);
  using rest = await load(stored, LINEAR, { params: { exclude: ["*.weight"] } });
  expect(rest.parameters.map(({ name }) => name)).toEqual(["fc.bias"]);
});

test("the same name with other numbers is stale, by how much", async () => {
  using model = await load(
    [
      { name: "fc.weight", dims: [4, 3], values: numbers(12, 5) },
      { name: "fc.bias", dims: [3], values: B.map((x) => 2 * x) },
    ],
    LINEAR,
  );
  expect(rules(model).map(([, rule]) => rule)).toEqual(["stale", "stale"]);
  expect(model.parameters[0]!.stateDict!.note).toBe("shape (4, 3), not (3, 4)");
  expect(model.parameters[1]!.stateDict!.note).toBe("differs by 1.0 of the largest number");
  expect(mappingOf(model)).toEqual([
    expect.stringMatching(/other numbers: fc\.weight shape .*, fc\.bias differs by 1\.0/),
  ]);
  expect(() => fromStateDict(model, {})).toThrow(/got fc\.weight \(stale\), fc\.bias \(stale\)/);
});

/** Two layers of the same numbers, as deep copies have them. */
const twins = (first: string, second: string): { stored: Stored[]; nodes: NodeProto[] } => ({
  stored: ["onnx::MatMul_1", "onnx::MatMul_2"].map((name) => ({
    ...{ name, dims: [4, 4] },
    values: turned(numbers(16, 3), 4, 4),
  })),
  nodes: [
    node("MatMul", ["x", "onnx::MatMul_1"], ["h"], {}, { name: first }),
    node("MatMul", ["h", "onnx::MatMul_2"], ["y"], {}, { name: second }),
  ],
});
const TWINS: State = {
  "blocks.0.fc.weight": { shape: [4, 4], values: numbers(16, 3) },
  "blocks.1.fc.weight": { shape: [4, 4], values: numbers(16, 3) },
};

test("equal numbers are told apart by the modules of the graph, or not at all", async () => {
  const named = twins("/blocks/blocks.1/fc/MatMul", "/blocks/blocks.0/fc/MatMul");
  using model = await load(named.stored, TWINS, { nodes: named.nodes });
  expect(rules(model)).toEqual([
    ["onnx::MatMul_1", "transposed", "blocks.1.fc.weight"],
    ["onnx::MatMul_2", "transposed", "blocks.0.fc.weight"],
  ]);
  expect(mappingOf(model).join()).toMatch(/hold equal numbers and count as separate ones/);

  const plain = twins("one", "two");
  using unclear = await load(plain.stored, TWINS, { nodes: plain.nodes });
  for (const { stateDict, stateDictName } of unclear.parameters) {
    expect(stateDict!.rule).toBe("ambiguous");
    expect(stateDict!.names).toEqual(["blocks.0.fc.weight", "blocks.1.fc.weight"]);
    expect(stateDictName).toBeUndefined();
  }
  expect(mappingOf(unclear)).toEqual([expect.stringMatching(/not told apart/)]);
});

test("one tensor for several of the state_dict is merged", async () => {
  const one = { name: "blocks.0.fc.weight", dims: [4, 4], values: numbers(16, 3) };
  const nodes = [node("MatMul", ["x", one.name], ["h"]), node("MatMul", ["h", one.name], ["y"])];
  using model = await load([one], TWINS, { nodes });
  expect(model.stateDict!.merged).toEqual([
    { name: "blocks.1.fc.weight", like: "blocks.0.fc.weight" },
  ]);
  expect(mappingOf(model)).toEqual([
    expect.stringMatching(/no tensor for blocks\.1\.fc\.weight = blocks\.0\.fc\.weight/),
  ]);
  // The state_dict says that the two are one.
  const { "blocks.0.fc.weight": shared } = TWINS;
  using tied = await load(
    [one],
    { "blocks.0.fc.weight": shared! },
    {
      nodes,
      metadata: { "blocks.1.fc.weight": "blocks.0.fc.weight" },
    },
  );
  expect(tied.stateDict!.merged).toEqual([]);
  expect(mappingOf(tied)).toEqual([]);
});

test("a second copy of a shared tensor is a broken tie", async () => {
  const stored = [
    { name: "embed.weight", dims: [4, 4], values: numbers(16, 3) },
    { name: "onnx::MatMul_2", dims: [4, 4], values: turned(numbers(16, 3), 4, 4) },
  ];
  const nodes = [
    node("MatMul", ["x", stored[0]!.name], ["h"]),
    node("MatMul", ["h", stored[1]!.name], ["y"]),
  ];
  const state: State = { "embed.weight": { shape: [4, 4], values: numbers(16, 3) } };
  using model = await load(stored, state, { nodes });
  expect(rules(model)[1]).toEqual(["onnx::MatMul_2", "copy", "embed.weight"]);
  expect(mappingOf(model)).toEqual([
    expect.stringMatching(/shares tensors .* apart: embed\.weight and onnx::MatMul_2/),
  ]);
});

test("rows of a larger tensor", async () => {
  const positions = numbers(40, 4);
  using model = await load(
    [
      { name: "w", dims: [4, 3], values: turned(W, 3, 4) },
      { name: "onnx::Add_9", dims: [2, 3], values: positions.slice(3, 9) },
    ],
    { ...LINEAR, "positions.weight": { shape: [12, 3], values: positions.slice(0, 36) } },
  );
  expect(model.parameters[1]!.stateDict).toEqual({
    tensor: "onnx::Add_9",
    rule: "rows",
    names: ["positions.weight"],
    note: "rows 1 to 2 of 12",
  });
  expect(mappingOf(model).join("\n")).toMatch(/holds only some rows: onnx::Add_9/);
  expect(mappingOf(model).join("\n")).toMatch(/nothing in the file stands for fc\.bias/);
});

test.each([1e-5, 1e-3])("batch norm fused with epsilon %d", async (epsilon) => {
  const weight = numbers(12, 1);
  const [gamma, beta, mean] = [7, 8, 9].map((phase) => numbers(3, phase));
  const variance = numbers(3, 10).map((x) => Math.fround(0.5 + x * x));
  const bias = numbers(3, 11);
  const scale = gamma!.map((g, c) => g / Math.sqrt(variance[c]! + epsilon));
  const state: State = {
    "conv.weight": { shape: [3, 4], values: weight },
    "conv.bias": { shape: [3], values: bias },
    "bn.weight": { shape: [3], values: gamma! },
    "bn.bias": { shape: [3], values: beta! },
    "bn.running_mean": { shape: [3], values: mean! },
    "bn.running_var": { shape: [3], values: variance },
    "bn.num_batches_tracked": { shape: [1], values: [3] },
  };
  const fused = weight.map((x, i) => x * scale[Math.floor(i / 4)]!);
  const shifted = bias.map((x, c) => (x - mean![c]!) * scale[c]! + beta![c]!);
  const stored = [
    { name: "conv.weight", dims: [3, 4], values: fused },
    { name: "conv.weight_bias", dims: [3], values: shifted },
  ];
  const nodes = [node("Gemm", ["x", "conv.weight", "conv.weight_bias"], ["y"], { transB: 1n })];
  using model = await load(stored, state, { nodes });
  expect(model.parameters.map(({ stateDict }) => [stateDict!.rule, stateDict!.note])).toEqual([
    ["fused", "with the batch norm bn"],
    ["fused", "with the batch norm bn"],
  ]);
  expect(model.stateDict!.absent).toEqual([]);
  expect(mappingOf(model)).toEqual([
    expect.stringMatching(/fused into conv\.weight with the batch norm bn.*spectrum is another/),
  ]);
  // One number off, and it is no fusion.
  stored[0]!.values = fused.map((x, i) => (i === 5 ? x * 1.001 : x));
  using off = await load(stored, state, { nodes });
  expect(off.parameters[0]!.stateDict!.rule).toBe("stale");
});

test(".npz as well; what is no state_dict says so", async () => {
  const path = join(folder, "state.npz");
  await writeNpz(path, [
    { name: "w", shape: [4, 4], values: Float32Array.from({ length: 16 }, (_, i) => i) },
  ]);
  using model = await loadModel(modelBytes({}), { loss: "mse", stateDict: path });
  expect(model.parameters[0]!.stateDictName).toBe("w");
  const wrong = await rejection(loadModel(modelBytes({}), { stateDict: "model.pt" }));
  expect(wrong.code).toBe("ERR_OPTION");
  expect(wrong.message).toMatch(
    /expected a file that ends in \.safetensors or \.npz, got model\.pt/,
  );
  const none = await rejection(loadModel(modelBytes({}), { stateDict: join(folder, "no.npz") }));
  expect(none.message).toMatch(/no\.npz/);
  using plain = await loadModel(modelBytes({}), { loss: "mse" });
  expect(() => fromStateDict(plain, {})).toThrow(
    /expected a model of loadModel\(file, \{ stateDict/,
  );
  expect(() => fromStateDict(model, {})).toThrow(/w: expected its 16 numbers, got none/);
});

test("inspect prints rules and names", async () => {
  const file = join(folder, "model.onnx");
  writeFileSync(
    file,
    modelBytes({
      nodes: [node("MatMul", ["x", "onnx::MatMul_7"], ["h"]), node("Add", ["h", "fc.bias"], ["y"])],
      initializers: [floats("onnx::MatMul_7", [4, 3], turned(W, 3, 4)), floats("fc.bias", [3], B)],
      outputs: [value("y", null)],
    }),
  );
  const state = await stateFile(LINEAR);
  const { out, status } = cli("inspect", file, "--state-dict", state);
  expect(status).toBe(0);
  expect(out).toMatch(/onnx::MatMul_7 +\(4, 3\) +0 +12 +transposed +fc\.weight/);
  const document = cli("inspect", file, "--state-dict", state, "--json");
  const { parameters, stateDict } = JSON.parse(document.out);
  expect(parameters[1].stateDict).toEqual({
    ...{ tensor: "fc.bias", rule: "name", names: ["fc.bias"], note: "" },
  });
  expect(stateDict.absent).toEqual([]);
});
