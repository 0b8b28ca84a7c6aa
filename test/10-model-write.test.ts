// Models written again with other parameters: wherever a file keeps them, and nothing else changed.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { loadModel, type Model, parameterVector, writeModel } from "../lib";
import {
  TensorProto_DataLocation as DataLocation,
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  TensorProtoSchema,
} from "../lib/model/onnx_pb";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";
import { caseFile } from "./50-helpers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-write-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

/** Writes x + 1 for all parameters of a model, and gives it as it is read again. */
async function raised(bytes: Uint8Array, options?: Parameters<typeof loadModel>[1]) {
  writeFileSync(at("before.onnx"), bytes);
  const before = await loadModel(at("before.onnx"), options);
  const wanted = parameterVector(before).map((x) => x + 1);
  await writeModel(at("after.onnx"), before, { parameters: wanted });
  const after = await loadModel(at("after.onnx"), options);
  return { before, after, wanted };
}

const layout = (model: Model) =>
  model.parameters.map(({ name, shape, outputAxis }) => ({ name, shape, outputAxis }));

/** x times a, plus a parameter that is stored in some way. */
const plus = (parts: Parameters<typeof modelBytes>[0], name = "w") =>
  modelBytes({
    nodes: [
      ...(parts.nodes ?? []),
      node("MatMul", ["x", "a"], ["xa"]),
      node("Add", ["xa", name], ["y"]),
    ],
    initializers: [floats("a", [4, 4]), ...(parts.initializers ?? [])],
    sparse: parts.sparse ?? [],
  });

test.each<[string, Uint8Array]>([
  ["raw", plus({ initializers: [floats("w", [4])] })],
  [
    "typed",
    plus({
      initializers: [tensor("w", [4], { dataType: DataType.FLOAT, floatData: [1, 2, 3, 4] })],
    }),
  ],
  ["a Constant", plus({ nodes: [node("Constant", [], ["w"], { value: floats("", [4]) })] })],
  [
    "sparse",
    plus({
      sparse: [
        {
          values: floats("w", [2], [5, 6]),
          indices: create(TensorProtoSchema, {
            name: "i",
            dims: [2n],
            dataType: DataType.INT64,
            int64Data: [1n, 3n],
          }),
          dims: [4n],
        },
      ],
    }),
  ],
])("stored as %s", async (_, bytes) => {
  const { before, after, wanted } = await raised(bytes, { params: { include: ["a", "w"] } });
  expect(
    layout(before)
      .map(({ name }) => name)
      .sort(),
  ).toEqual(["a", "w"]);
  // A sparse one is stored as others are now, in another place.
  const vectors = (model: Model, raise: number) =>
    Object.fromEntries(
      model.parameters.map(({ name, values }) => [name, Array.from(values(), (x) => x + raise)]),
    );
  expect(vectors(after, 0)).toEqual(vectors(before, 1));
  expect(wanted).toHaveLength(20);
});

test("tensors that an exporter stored once", async () => {
  const bytes = plus(
    {
      nodes: [node("Identity", ["v"], ["w"]), node("Mul", ["v", "v"], ["vv"])],
      initializers: [floats("v", [4])],
    },
    "w",
  );
  writeFileSync(at("before.onnx"), bytes);
  const model = await loadModel(at("before.onnx"));
  const names = model.parameters.map(({ name }) => name);
  expect(names).toContain("w");
  const wanted = Float64Array.from({ length: model.parameterCount }, (_, i) => 10 * i);
  await writeModel(at("after.onnx"), model, { parameters: wanted });
  const after = await loadModel(at("after.onnx"));
  for (const { name, values, offset, size } of model.parameters) {
    const found = after.parameters.find((parameter) => parameter.name === name)!;
    expect(found.values()).toEqual(wanted.subarray(offset, offset + size));
    expect(values()).not.toEqual(found.values());
  }
});

test.each<[string, DataType, number[]]>([
  [
    "float16",
    DataType.FLOAT16,
    [0.333251953125, 65504, 2 ** -24, -(2 ** -14), 1, 1 + 2 ** -9, 2, 0],
  ],
  [
    "bfloat16",
    DataType.BFLOAT16,
    [0.333984375, 65536, 6.007030606269836e-8, -(2 ** -14), 1, 1, 2, 0],
  ],
])("%s is rounded to nearest, ties to even", async (_, dataType, wanted) => {
  const given = [1 / 3, 65519, 6e-8, -(2 ** -14), 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2 - 2 ** -13, 0];
  const ones = new Uint8Array(Uint16Array.from({ length: 8 }, () => 0x3c00).buffer);
  const bytes = modelBytes({
    nodes: [
      node("MatMul", ["x", "a"], ["xa"]),
      node("Cast", ["w"], ["f"], { to: 1n }),
      node("Add", ["xa", "f"], ["y"]),
    ],
    initializers: [floats("a", [8, 8]), tensor("w", [8], { dataType, rawData: ones })],
    inputs: [value("x", ["N", 8])],
    outputs: [value("y", ["N", 8])],
  });
  writeFileSync(at("before.onnx"), bytes);
  const only = { params: { include: "w" } };
  const model = await loadModel(at("before.onnx"), only);
  await writeModel(at("after.onnx"), model, { parameters: Float64Array.from(given) });
  const after = await loadModel(at("after.onnx"), only);
  expect(Array.from(parameterVector(after))).toEqual(wanted);
  // What was read is written as it was.
  await writeModel(at("again.onnx"), model, { parameters: parameterVector(after) });
  expect(parameterVector(await loadModel(at("again.onnx"), only))).toEqual(parameterVector(after));
});

test("data beside the model: copied beside the new one, into a folder of its own", async () => {
  const proto = fromBinary(ModelProtoSchema, plus({ initializers: [floats("w", [4])] }));
  const [a, w] = proto.graph!.initializer;
  writeFileSync(at("weights.bin"), Buffer.concat([Buffer.alloc(8), a!.rawData!, w!.rawData!]));
  for (const [stored, offset, length] of [
    [a!, 8, 64],
    [w!, 72, 16],
  ] as const) {
    stored.rawData = undefined;
    stored.dataLocation = DataLocation.EXTERNAL;
    stored.externalData = Object.entries({
      location: "weights.bin",
      offset: `${offset}`,
      length: `${length}`,
    }).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
  }
  writeFileSync(at("before.onnx"), toBinary(ModelProtoSchema, proto));
  const model = await loadModel(at("before.onnx"));
  const wanted = parameterVector(model);
  wanted.fill(7, 16);
  mkdirSync(at("out"));
  await writeModel(join(folder, "out", "after.onnx"), model, { parameters: wanted });
  expect(readdirSync(at("out")).sort()).toEqual(["after.onnx", "after.onnx.data"]);
  const after = await loadModel(join(folder, "out", "after.onnx"));
  expect(parameterVector(after)).toEqual(wanted);
  expect(layout(after)).toEqual(layout(model));
  // In place, too: what is open is still read from the old file.
  await writeModel(at("before.onnx"), model, { parameters: wanted });
  expect(parameterVector(await loadModel(at("before.onnx")))).toEqual(wanted);
});

test("a file is the same but for what changed, and fields that are not read stay", async () => {
  const original = readFileSync(caseFile("cnn_small", "model.onnx"));
  // doc_string of the model, field 6, which eigenscope has no use for.
  const bytes = Buffer.concat([original, Buffer.from([0x32, 4]), Buffer.from("docs")]);
  writeFileSync(at("before.onnx"), bytes);
  const model = await loadModel(at("before.onnx"));
  const same = parameterVector(model);
  await writeModel(at("after.onnx"), model, { parameters: same });
  const after = readFileSync(at("after.onnx"));
  expect(after.includes("docs")).toBe(true);
  const changed = same.slice();
  changed[3] = 0;
  await writeModel(at("after.onnx"), model, { parameters: changed });
  const other = readFileSync(at("after.onnx"));
  const differing = Array.from(other).filter((byte, i) => byte !== after[i]);
  expect(other.length).toBe(after.length);
  expect(differing.length).toBeGreaterThan(0);
  expect(differing.length).toBeLessThanOrEqual(4);
  expect(parameterVector(await loadModel(at("after.onnx")))).toEqual(changed);
});

test("tensors that are tied stay equal", async () => {
  const bytes = modelBytes({
    nodes: [node("MatMul", ["x", "a"], ["xa"]), node("MatMul", ["xa", "b"], ["y"])],
    initializers: [floats("a", [4, 4]), floats("b", [4, 4])],
  });
  const { before, after, wanted } = await raised(bytes, { ties: [["a", "b"]] });
  expect(before.ties).toEqual([["a", "b"]]);
  expect(parameterVector(after)).toEqual(wanted);
  const apart = await loadModel(at("after.onnx"));
  expect(apart.parameters.map(({ values }) => values())).toEqual([wanted, wanted]);
});

test("of a model that came as bytes, and of another model", async () => {
  const bytes = plus({ initializers: [floats("w", [4])] });
  const model = await loadModel(bytes);
  const parameters = parameterVector(model).map((x) => -x);
  await expect(writeModel(at("a.onnx"), model, { parameters })).rejects.toThrow(
    "from: expected the bytes that the model was loaded from, got undefined",
  );
  await writeModel(at("a.onnx"), model, { parameters, from: bytes });
  const written = await loadModel(at("a.onnx"));
  expect(parameterVector(written)).toEqual(parameters);
  await writeModel(at("b.onnx"), model, { parameters: written, from: bytes });
  expect(readFileSync(at("b.onnx")).equals(readFileSync(at("a.onnx")))).toBe(true);
});

test("wrong uses", async () => {
  const bytes = plus({ initializers: [floats("w", [4])] });
  const model = await loadModel(bytes);
  const parameters = parameterVector(model).map((x) => x + 1);
  const write = (options: object) => writeModel(at("a.onnx"), model, options as never);
  await expect(write({ parameters: Float64Array.of(1), from: bytes })).rejects.toThrow(
    "expected a model, or a Float64Array of its 20 parameters",
  );
  await expect(write({ from: bytes })).rejects.toThrow("expected a model, or a Float64Array");
  await expect(write({ parameters, from: modelBytes({}) })).rejects.toThrow(
    "expected the parameter a of the shape (4, 4) among its tensors, got none of that name",
  );
  await expect(write({ parameters, from: 3 })).rejects.toThrow(
    "from: expected a path or a Uint8Array",
  );
  await expect(writeModel(at("no/a.onnx"), model, { parameters, from: bytes })).rejects.toThrow(
    "cannot be written",
  );
  await expect(writeModel(at("a.onnx"), {} as never, { parameters })).rejects.toThrow(
    "expected a model of loadModel",
  );
  expect(readdirSync(folder)).toEqual([]);
});
