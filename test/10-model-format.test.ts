// Reading ONNX files: what is taken, and what is said about what is not.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { DataMismatchError, EigenscopeError, ModelFormatError, OptionError } from "../lib/errors";
import { loadModel } from "../lib/model/model";
import {
  SparseTensorProtoSchema,
  TensorProto_DataLocation,
  TypeProtoSchema,
} from "../lib/model/onnx_pb";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";

const CASES = join(__dirname, "fixtures", "cases");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-model-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The message of the ModelFormatError that loading gives. */
async function refusal(file: string | Uint8Array, options = {}): Promise<string> {
  try {
    (await loadModel(file, options)).dispose();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelFormatError);
    expect((error as ModelFormatError).code).toBe("ERR_MODEL_FORMAT");
    return (error as Error).message;
  }
  throw new Error("the model was loaded");
}

const raw = (view: ArrayBufferView) =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

test("a trained network: parameters, offsets, inputs, outputs, operators", async () => {
  const model = await loadModel(join(CASES, "mlp_relu", "model.onnx"), { loss: "cross-entropy" });
  expect(
    model.parameters.map(({ name, shape, offset, size }) => [name, shape, offset, size]),
  ).toEqual([
    ["net.0.weight", [128, 64], 0, 8192],
    ["net.0.bias", [128], 8192, 128],
    ["net.2.weight", [64, 128], 8320, 8192],
    ["net.2.bias", [64], 16512, 64],
    ["net.4.weight", [10, 64], 16576, 640],
    ["net.4.bias", [10], 17216, 10],
  ]);
  expect(model.parameterCount).toBe(17226);
  expect(model.inputs).toEqual([{ name: "x", type: "float32", shape: ["batch", 64] }]);
  expect(model.outputs).toEqual([{ name: "out", type: "float32", shape: ["batch", 10] }]);
  expect(model.output).toBe("out");
  expect(model.opset).toBe(13);
  expect(model.operators).toEqual({ Flatten: 1, Gemm: 3, Relu: 2 });
  expect(model.unsupported).toEqual([]);
  expect(model.warnings).toEqual([]);
  expect(model.loss).toEqual({ name: "cross-entropy" });
  const values = model.parameters[5]!.values();
  expect(Object.prototype.toString.call(values)).toBe("[object Float64Array]");
  expect(values.length).toBe(10);
  expect(Math.max(...values.map(Math.abs))).toBeLessThan(10);
  model.dispose();
});

test("a disposed model says so", async () => {
  const model = await loadModel(modelBytes({}));
  model.dispose();
  model.dispose();
  expect(() => model.parameters[0]!.values()).toThrow(OptionError);
  expect(() => model.parameters[0]!.values()).toThrow("the model was disposed");
});

describe("tensor data", () => {
  // 0, 1, -2, 0.5 in each floating type; the bits of half precision by hand.
  const wanted = [0, 1, -2, 0.5];
  const forms: [string, Parameters<typeof tensor>[2]][] = [
    ["float32 raw", { dataType: DataType.FLOAT, rawData: raw(Float32Array.from(wanted)) }],
    ["float32 typed", { dataType: DataType.FLOAT, floatData: wanted }],
    ["float64 raw", { dataType: DataType.DOUBLE, rawData: raw(Float64Array.from(wanted)) }],
    ["float64 typed", { dataType: DataType.DOUBLE, doubleData: wanted }],
    [
      "float16 raw",
      { dataType: DataType.FLOAT16, rawData: raw(Uint16Array.of(0, 0x3c00, 0xc000, 0x3800)) },
    ],
    ["float16 typed", { dataType: DataType.FLOAT16, int32Data: [0, 0x3c00, 0xc000, 0x3800] }],
    [
      "bfloat16 raw",
      { dataType: DataType.BFLOAT16, rawData: raw(Uint16Array.of(0, 0x3f80, 0xc000, 0x3f00)) },
    ],
    ["bfloat16 typed", { dataType: DataType.BFLOAT16, int32Data: [0, 0x3f80, 0xc000, 0x3f00] }],
  ];
  test.each(forms)("%s", async (_, fields) => {
    const bytes = modelBytes({
      initializers: [tensor("w", [4, 1], fields)],
      outputs: [value("y", ["batch", 1])],
    });
    const model = await loadModel(bytes);
    expect(Array.from(model.parameters[0]!.values())).toEqual(wanted);
    model.dispose();
  });

  test("a file is read at any alignment", async () => {
    const bytes = modelBytes({ initializers: [floats("w", [4, 4])] });
    for (let shift = 0; shift < 4; shift++) {
      const moved = new Uint8Array(bytes.length + shift).subarray(shift);
      moved.set(bytes);
      const model = await loadModel(moved);
      moved.fill(0); // the model has its own copy
      expect(Array.from(model.parameters[0]!.values())).toEqual([...Array(16).keys()]);
      model.dispose();
    }
  });

  test.each([
    [
      "too few raw bytes",
      { dataType: DataType.FLOAT, rawData: new Uint8Array(12) },
      "expected 16 bytes for float32 [4,1], got 12",
    ],
    [
      "too many numbers",
      { dataType: DataType.FLOAT, floatData: [1, 2, 3, 4, 5] },
      "expected 4 numbers for its shape [4,1], got 5",
    ],
    ["no data", { dataType: DataType.FLOAT }, "expected 4 numbers"],
    [
      "strings",
      { dataType: DataType.STRING, stringData: [] },
      "expected a number or boolean type, got STRING",
    ],
    ["quantised", { dataType: DataType.INT4, rawData: new Uint8Array(2) }, "got INT4"],
    ["an unknown type", { dataType: 77, rawData: new Uint8Array(2) }, "got number 77"],
    [
      "segments",
      { dataType: DataType.FLOAT, segment: { begin: 0n, end: 1n } },
      "stored in segments",
    ],
  ] as [string, Parameters<typeof tensor>[2], string][])("%s", async (_, fields, message) => {
    const text = await refusal(modelBytes({ initializers: [tensor("w", [4, 1], fields)] }));
    expect(text).toContain(`tensor w: `);
    expect(text).toContain(message);
  });

  test("shapes that no memory holds", async () => {
    const huge = tensor("w", [2 ** 40, 2 ** 40], {
      dataType: DataType.FLOAT,
      rawData: new Uint8Array(4),
    });
    expect(await refusal(modelBytes({ initializers: [huge] }))).toContain("larger than any memory");
    const negative = tensor("w", [-4], { dataType: DataType.FLOAT, rawData: new Uint8Array(4) });
    expect(await refusal(modelBytes({ initializers: [negative] }))).toContain("got -4");
  });

  test("unsigned integers of 32 and 64 bits become int64, for shapes", async () => {
    for (const fields of [
      { dataType: DataType.UINT32, rawData: raw(Uint32Array.of(2, 2)) },
      { dataType: DataType.UINT32, uint64Data: [2n, 2n] },
      { dataType: DataType.UINT64, uint64Data: [2n, 2n] },
      { dataType: DataType.INT64, int64Data: [2n, 2n] },
    ]) {
      const model = await loadModel(
        modelBytes({
          initializers: [floats("w", [4]), tensor("shape", [2], fields)],
          nodes: [node("Reshape", ["w", "shape"], ["r"]), node("MatMul", ["x", "r"], ["y"])],
        }),
      );
      expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
      model.dispose();
    }
  });

  test("sparse initializers are written out, by flat index and by index of each axis", async () => {
    const values = floats("w", [2], [5, 7]);
    const flat = tensor("", [2], { dataType: DataType.INT64, int64Data: [1n, 6n] });
    const byAxis = tensor("", [2, 2], { dataType: DataType.INT64, int64Data: [0n, 1n, 1n, 2n] });
    for (const indices of [flat, byAxis]) {
      const model = await loadModel(
        modelBytes({
          initializers: [],
          sparse: [create(SparseTensorProtoSchema, { values, indices, dims: [4n, 4n] })],
        }),
      );
      const wanted = Array(16).fill(0);
      wanted[1] = 5;
      wanted[6] = 7;
      expect(Array.from(model.parameters[0]!.values())).toEqual(wanted);
      model.dispose();
    }
    const outside = tensor("", [2], { dataType: DataType.INT64, int64Data: [1n, 16n] });
    const sparse = [create(SparseTensorProtoSchema, { values, indices: outside, dims: [4n, 4n] })];
    expect(await refusal(modelBytes({ initializers: [], sparse }))).toContain(
      "expected indices from 0 to 15, got 16",
    );
  });
});

describe("external data", () => {
  const external = (location: string | undefined, offset?: string, length?: string) =>
    tensor("w", [4, 4], {
      dataType: DataType.FLOAT,
      dataLocation: TensorProto_DataLocation.EXTERNAL,
      externalData: [
        ...(location === undefined ? [] : [{ key: "location", value: location }]),
        ...(offset === undefined ? [] : [{ key: "offset", value: offset }]),
        ...(length === undefined ? [] : [{ key: "length", value: length }]),
      ],
    });
  const numbers = Float32Array.from({ length: 20 }, (_, i) => i * i);
  let home: string;
  let path: string;
  const write = (...arguments_: Parameters<typeof external>) =>
    writeFileSync(path, modelBytes({ initializers: [external(...arguments_)] }));

  beforeAll(() => {
    home = join(folder, "home");
    path = join(home, "m.onnx");
    mkdirSync(join(home, "deep"), { recursive: true });
    writeFileSync(join(home, "w.data"), raw(numbers.subarray(0, 16)));
    writeFileSync(join(home, "deep", "w.data"), raw(numbers));
    writeFileSync(join(folder, "secret"), raw(numbers));
    symlinkSync(join(folder, "secret"), join(home, "link"));
    symlinkSync(join(home, "w.data"), join(home, "inside"));
  });

  test.each([
    ["the whole file", "w.data", undefined, undefined, 0],
    ["a part of it", "deep/w.data", "16", "64", 4],
    ["a link within the folder", "inside", "0", "64", 0],
  ])("%s", async (_, location, offset, length, first) => {
    write(location, offset, length);
    const model = await loadModel(path);
    expect(Array.from(model.parameters[0]!.values())).toEqual(
      Array.from(numbers.subarray(first, first + 16)),
    );
    model.dispose();
  });

  test.each([
    ["no such file", "none.data", undefined, undefined, "there is no such file; copy it beside"],
    [
      "a folder above",
      "../secret",
      undefined,
      undefined,
      "expected its data in the model's folder",
    ],
    ["a folder above, within", "deep/../../secret", undefined, undefined, "in the model's folder"],
    ["backslashes", "..\\secret", undefined, undefined, "in the model's folder"],
    ["an absolute path", "/etc/passwd", undefined, undefined, "in the model's folder"],
    ["a drive", "C:\\secret", undefined, undefined, "in the model's folder"],
    ["a link that leaves", "link", undefined, undefined, "is a link to"],
    ["a folder", "deep", undefined, undefined, "found no regular file"],
    ["the folder itself", ".", undefined, undefined, "is a link to"],
    ["no name", undefined, undefined, undefined, "no file is named"],
    ["too short a file", "w.data", "4", undefined, "which has only 64; copy the whole file again"],
    ["another length", "w.data", "0", "32", "expected 64 bytes"],
    ["a strange offset", "w.data", "-4", undefined, 'as offset of its external data, got "-4"'],
    ["a strange length", "w.data", "0", "1e2", 'as length of its external data, got "1e2"'],
    ["a damaged name", "w\0.data", undefined, undefined, "damaged"],
  ])("%s", async (_, location, offset, length, message) => {
    write(location, offset, length);
    const text = await refusal(path);
    expect(text).toContain(`${path}: tensor w: `);
    expect(text).toContain(message);
  });

  test("bytes need the folder by name", async () => {
    const bytes = modelBytes({ initializers: [external("w.data")] });
    expect(await refusal(bytes)).toContain("option `folder`");
    const model = await loadModel(bytes, { folder: home });
    expect(model.parameters[0]!.values()[3]).toBe(9);
    model.dispose();
  });

  test("a file that is cut off while it is in use is noticed", async () => {
    const data = join(home, "cut.data");
    writeFileSync(data, raw(numbers.subarray(0, 16)));
    write("cut.data");
    const model = await loadModel(path);
    writeFileSync(data, "");
    expect(() => model.parameters[0]!.values()).toThrow(DataMismatchError);
    model.dispose();
  });
});

describe("files that are no ONNX model", () => {
  const latin1 = (text: string) => Uint8Array.from(Buffer.from(text, "latin1"));
  test.each([
    ["empty", "", "got an empty file"],
    ["Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"],
    ["PyTorch checkpoint", "PK\x03\x04\0\0\b\b", "torch.onnx.export"],
    ["pickle", "\x80\x02}q\0", "torch.onnx.export"],
    ["NumPy array", "\x93NUMPY\x01\0", "NumPy array"],
    ["HDF5", "\x89HDF\r\n\x1a\n", "tf2onnx"],
    ["TensorFlow Lite", "\x1c\0\0\0TFL3", "tf2onnx"],
    ["web page", "<!DOCTYPE html>", "HTML"],
    ["gzip", "\x1f\x8b\x08\0", "unpack it first"],
    ["safetensors", '\x10\0\0\0\0\0\0\0{"w":{}}', "safetensors"],
    ["text", "hello world", "something else"],
  ])("%s", async (_, text, message) => {
    const said = await refusal(latin1(text));
    expect(said).toContain("expected an ONNX model");
    expect(said).toContain(message);
  });

  test("a file that is not there, and a folder", async () => {
    expect(await refusal(join(folder, "none.onnx"))).toContain("there is no such file");
    expect(await refusal(folder)).toContain("found no regular file");
  });

  test("a file that was cut off says by how much", async () => {
    const bytes = modelBytes({});
    const text = await refusal(bytes.subarray(0, bytes.length - 20));
    expect(text).toMatch(/the ONNX model is cut off: it has \d+ bytes of at least \d+/);
  });

  test("neither path nor bytes", async () => {
    await expect(loadModel(42 as never)).rejects.toThrow(OptionError);
    await expect(loadModel(null as never)).rejects.toThrow("expected a path or a Uint8Array");
    await expect(loadModel(new Float32Array(4) as never)).rejects.toThrow(OptionError);
  });
});

describe("versions", () => {
  test.each([6, 9, 17, 24, 28, 29, 99])(
    "opset %i is read, newer ones with a warning",
    async (opset) => {
      const model = await loadModel(modelBytes({ opset }));
      expect(model.opset).toBe(opset);
      expect(model.warnings.filter((text) => text.includes("newer ones"))).toHaveLength(
        opset > 28 ? 1 : 0,
      );
      model.dispose();
    },
  );
  test.each([1, 5])("opset %i: each node of a form that is not known", async (opset) => {
    const model = await loadModel(modelBytes({ opset }));
    expect(model.unsupported).toHaveLength(model.operators.MatMul ?? 0);
    for (const { reason } of model.unsupported)
      expect(reason).toContain(`its form in opset ${opset} is not supported; export the model`);
    model.dispose();
  });
  test("opset 0 is refused", async () => {
    expect(await refusal(modelBytes({ opset: 0 }))).toContain("from 1 on, got 0");
  });
  test("no opset at all", async () => {
    expect(await refusal(modelBytes({ opset: null }))).toContain("the model names none");
  });
  test("ai.onnx is the same as no domain, and others do not matter", async () => {
    const model = await loadModel(
      modelBytes({
        opset: null,
        domains: [
          { domain: "com.microsoft", version: 1n },
          { domain: "ai.onnx", version: 15n },
        ],
        nodes: [node("MatMul", ["x", "w"], ["y"], {}, { domain: "ai.onnx" })],
      }),
    );
    expect(model.opset).toBe(15);
    expect(model.operators).toEqual({ MatMul: 1 });
    expect(model.unsupported).toEqual([]);
    model.dispose();
  });
});

describe("graphs", () => {
  test("initializers that are listed as inputs are no inputs", async () => {
    const model = await loadModel(modelBytes({ inputs: [value("w", [4, 4]), value("x", [0, 4])] }));
    expect(model.inputs).toEqual([{ name: "x", type: "float32", shape: ["?", 4] }]);
    expect(model.parameterCount).toBe(16);
    model.dispose();
  });

  test("nodes may stand in any order", async () => {
    const model = await loadModel(
      modelBytes({
        nodes: [
          node("Relu", ["c"], ["y"]),
          node("MatMul", ["b", "w"], ["c"]),
          node("Relu", ["x"], ["b"]),
        ],
      }),
    );
    expect(model.parameterCount).toBe(16);
    expect(model.unsupported).toEqual([]);
    model.dispose();
  });

  test("a graph twenty thousand nodes deep", async () => {
    const nodes = Array.from({ length: 20_000 }, (_, i) =>
      node("Relu", [i ? `r${i}` : "x"], [`r${i + 1}`]),
    );
    nodes.push(node("MatMul", ["r20000", "w"], ["y"]));
    const model = await loadModel(modelBytes({ nodes: nodes.reverse() }));
    expect(model.operators).toEqual({ Relu: 20_000, MatMul: 1 });
    expect(model.parameterCount).toBe(16);
    model.dispose();
  });

  test.each([
    [
      "a value from nowhere",
      [node("Add", ["x", "z"], ["y"])],
      "node Add_y (Add) needs z, which nothing produces",
    ],
    [
      "a circle",
      [node("Relu", ["b"], ["a"]), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"])],
      "needs its own result",
    ],
    [
      "a value produced twice",
      [node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"])],
      "value y is produced twice, the second time by Tanh_y",
    ],
    [
      "an input produced again",
      [node("Relu", ["x"], ["x"]), node("Relu", ["x"], ["y"])],
      "value x is produced twice",
    ],
    ["no output", [node("Relu", ["x"], ["z"])], "output y is produced by no node"],
    ["no operator", [node("", ["x"], ["y"])], "names no operator"],
  ])("%s", async (_, nodes, message) => {
    expect(await refusal(modelBytes({ nodes }))).toContain(message);
  });

  test("initializers of one name, and without one", async () => {
    expect(
      await refusal(modelBytes({ initializers: [floats("w", [4, 4]), floats("w", [4, 4])] })),
    ).toContain("two initializers named w");
    expect(await refusal(modelBytes({ initializers: [floats("", [4, 4])] }))).toContain("no name");
  });

  test("inputs that are no tensors of numbers", async () => {
    expect(await refusal(modelBytes({ inputs: [value("x", ["n"], DataType.STRING)] }))).toContain(
      "expected input x to hold numbers or booleans, got STRING",
    );
    const sequence = value("x", null);
    sequence.type = create(TypeProtoSchema, {
      value: { case: "sequenceType", value: { elemType: sequence.type! } },
    });
    expect(await refusal(modelBytes({ inputs: [sequence] }))).toContain("got a sequence");
  });

  test("inputs of impossible lengths", async () => {
    expect(await refusal(modelBytes({ inputs: [value("x", [4, 2 ** 62])] }))).toContain(
      "the shape of input x has a length of 4611686018427387904",
    );
  });

  test("inputs of an unknown rank", async () => {
    const model = await loadModel(modelBytes({ inputs: [value("x", null)] }));
    expect(model.inputs[0]!.shape).toBeNull();
    model.dispose();
  });

  test("nodes of other domains are listed as not supported, all of them", async () => {
    const model = await loadModel(
      modelBytes({
        domains: [{ domain: "org.example", version: 1n }],
        nodes: [
          node("Gelu", ["x"], ["a"], {}, { domain: "org.example", name: "" }),
          node("NoSuchOperator", ["a"], ["b"]),
          node("NoSuchOperator", ["x"], ["dead"]),
          node("MatMul", ["b", "w"], ["y"]),
        ],
      }),
    );
    expect(model.operators).toEqual({ NoSuchOperator: 2, MatMul: 1, "org.example.Gelu": 1 });
    expect(model.unsupported.map(({ node }) => node)).toEqual(["a", "NoSuchOperator_b"]);
    expect(() => model.requireSupported()).toThrow(
      expect.objectContaining({
        name: "UnsupportedOperatorError",
        exitCode: 3,
        operators: model.unsupported,
      }),
    );
    expect(() => model.requireSupported()).toThrow(EigenscopeError);
    model.dispose();
  });
});
