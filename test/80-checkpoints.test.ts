// Places of the parameters in files: what is written is read again, wrong files are named.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  listCheckpoints,
  loadCheckpoint,
  loadModel,
  parameterVector,
  saveCheckpoint,
  writeModel,
} from "../lib";
import { writeNpz, writeSafetensors } from "../lib/data/archive";
import { writeNpy } from "../lib/data/npy";
import { caseFile, openCase, rejection, tinyProblem, vector } from "./50-helpers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-checkpoints-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

test.each(["a.safetensors", "a.npz", "a.onnx"])("%s and back", async (name) => {
  const { model } = await openCase("cnn_small");
  const theta = Float64Array.from(Float32Array.from(vector(model.parameterCount)));
  await saveCheckpoint(at(name), model, theta, { step: 7 });
  expect(await loadCheckpoint(model, at(name))).toEqual(theta);
  // Also for a model of which some tensors are left out.
  const first = model.parameters[0]!;
  using some = await loadModel(caseFile("cnn_small", "model.onnx"), {
    params: { exclude: [first.name] },
  });
  expect(await loadCheckpoint(some, at(name))).toEqual(theta.slice(first.size));
});

test("tensors under their names, float32 where that is exact, else float64", async () => {
  const { model } = await tinyProblem();
  const single = Float64Array.from(Float32Array.from(vector(model.parameterCount)));
  const headerOf = () => {
    const bytes = readFileSync(at("a.safetensors"));
    return JSON.parse(bytes.toString("utf8", 8, 8 + Number(bytes.readBigUInt64LE(0))));
  };
  await saveCheckpoint(at("a.safetensors"), model, single, { step: 12 });
  expect(headerOf()).toEqual({
    __metadata__: { step: "12" },
    w1: { dtype: "F32", shape: [4, 3], data_offsets: [0, 48] },
    b1: { dtype: "F32", shape: [4], data_offsets: [48, 64] },
    w2: { dtype: "F32", shape: [2, 4], data_offsets: [64, 96] },
    b2: { dtype: "F32", shape: [2], data_offsets: [96, 104] },
  });
  const double = vector(model.parameterCount);
  await saveCheckpoint(at("a.safetensors"), model, double);
  expect(headerOf().w1).toEqual({ dtype: "F64", shape: [4, 3], data_offsets: [0, 96] });
  expect(await loadCheckpoint(model, at("a.safetensors"))).toEqual(double);
});

test("a state_dict with buffers, all parameters in one array, and a checkpoint at hand", async () => {
  const { model } = await tinyProblem();
  const theta = parameterVector(model);
  const tensors = model.parameters.map(({ name, shape, values }) => ({
    name,
    shape,
    values: values(),
  }));
  const count = { name: "bn.num_batches_tracked", shape: [], values: BigInt64Array.of(3n) };
  await writeSafetensors(at("a.safetensors"), [count, ...tensors.reverse()]);
  expect(await loadCheckpoint(model, at("a.safetensors"))).toEqual(theta);
  await writeNpy(at("a.npy"), theta);
  expect(await loadCheckpoint(model, at("a.npy"))).toEqual(theta);
  expect(await loadCheckpoint(model, theta)).toEqual(theta);
  expect(await loadCheckpoint(model, model)).toEqual(theta);
});

test("folders by step", async () => {
  const { model } = await openCase("mlp_relu");
  await saveCheckpoint(at("step-1000.safetensors"), model, model);
  await saveCheckpoint(at("step-90.npz"), model, model);
  await writeModel(at("run2-epoch0.onnx"), model, { parameters: model });
  writeFileSync(at("notes-3.txt"), "");
  writeFileSync(at("state.safetensors"), "");
  mkdirSync(at("none"));
  const found = await listCheckpoints(folder);
  expect(found).toEqual([
    { file: at("run2-epoch0.onnx"), step: 0 },
    { file: at("step-90.npz"), step: 90 },
    { file: at("step-1000.safetensors"), step: 1000 },
  ]);
  expect(await listCheckpoints(at("none"))).toEqual([]);
  await saveCheckpoint(at("again-90.safetensors"), model, model);
  const { message } = await rejection(listCheckpoints(folder));
  expect(message).toContain("expected one file a step");
  expect(message).toContain("again-90.safetensors and ");
});

test("wrong uses", async () => {
  const { model } = await tinyProblem();
  const w1 = { name: "w1", shape: [4, 3], values: new Float32Array(12) };
  for (const [name, write] of [
    ["a.npz", writeNpz],
    ["a.safetensors", writeSafetensors],
  ] as const) {
    await write(at(name), [w1]);
    expect((await rejection(loadCheckpoint(model, at(name)))).message).toBe(
      `${at(name)}: expected an array for each tensor of model, got none for b1, w2, b2; it has w1`,
    );
    const others = model.parameters.slice(1).map(({ name, shape, size }) => ({
      ...{ name, shape },
      values: new Float64Array(size).fill(name === "b2" ? Number.NaN : 1),
    }));
    await write(at(name), [{ ...w1, shape: [3, 4] }, ...others]);
    await expect(loadCheckpoint(model, at(name))).rejects.toThrow(
      "w1: expected the shape (4, 3), got (3, 4)",
    );
    await write(at(name), [w1, ...others]);
    await expect(loadCheckpoint(model, at(name))).rejects.toThrow(
      "b2: expected finite numbers, got NaN at flat index 0",
    );
  }
  await writeNpy(at("a.npy"), new Float64Array(5));
  await expect(loadCheckpoint(model, at("a.npy"))).rejects.toThrow(
    "expected all 26 parameters in one row, got the shape (5)",
  );
  await expect(loadCheckpoint(model, "a.pt")).rejects.toThrow(
    'expected a file that ends in .onnx, .safetensors or .npz, or .npy, got "a.pt"; a state_dict',
  );
  await expect(loadCheckpoint(model, new Float64Array(3))).rejects.toThrow("of its 26 parameters");
  await expect(loadCheckpoint("m" as never, at("a.npz"))).rejects.toThrow("expected a model");
  const { model: other } = await openCase("mlp_relu");
  await saveCheckpoint(at("b.onnx"), other, other);
  await expect(loadCheckpoint(model, at("b.onnx"))).rejects.toThrow("w1");
  await expect(saveCheckpoint(at("a.pt"), model, model)).rejects.toThrow("ends in .onnx");
  await expect(saveCheckpoint(at("no/a.npz"), model, model)).rejects.toThrow("cannot be written");
  await expect(saveCheckpoint(at("a.npz"), model, model, { step: -1 })).rejects.toThrow("step");
  await expect(saveCheckpoint(at("a.npz"), model, new Float64Array(2))).rejects.toThrow(
    "of its 26",
  );
  await expect(listCheckpoints(at("none"))).rejects.toThrow("expected a folder that can be read");
});
