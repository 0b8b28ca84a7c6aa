/** A model written again with other numbers for its parameters. */
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { replaceFile } from "../data/replace-file";
import { ModelFormatError, OptionError } from "../errors";
import { type Checkpoint, parametersOf } from "../landscape/directions";
import type { FileRange } from "../native";
import { type Check, checkOptions, describe, typeName } from "../options";
import { ExternalFiles } from "./external";
import type { Model } from "./model";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type GraphProto,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  StringStringEntryProtoSchema,
  type TensorProto,
  TensorProtoSchema,
} from "./onnx_pb";
import { parseModel, readFileBytes } from "./read";
import { storedBytes } from "./tensor";

export interface WriteModelOptions {
  /** The parameters to write: another model of the same architecture, or all in their order. */
  parameters: Checkpoint;
  /** The file that the model was loaded from, or its bytes. Default: the path it was loaded by. */
  from?: string | Uint8Array | undefined;
}

const OPTIONS: { [K in keyof Required<WriteModelOptions>]: Check } = {
  parameters: { expected: "the parameters of a model", fits: (value) => value !== undefined },
  from: {
    expected: "a path or a Uint8Array",
    fits: (value) => typeof value === "string" || typeName(value) === "Uint8Array",
  },
};

/** The bits of a float of few bits, rounded to nearest, ties to even. */
function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  // Multiples of 2^-24 below 2^-14, of 2^(e - 10) above.
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 1)));
  const unit = 2 ** (exponent - 10);
  const steps = roundEven(size / unit);
  return sign | (size < 2 ** -14 ? steps : ((exponent + 15) << 10) + steps - 1024);
}

function toBfloat(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  const low = bits & 0xffff;
  const up = low > 0x8000 || (low === 0x8000 && (bits & 0x10000) !== 0);
  return ((bits >>> 16) + (up ? 1 : 0)) & 0xffff;
}

function roundEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}

/** How numbers are stored in the element types that parameters have. */
const ENCODERS: Partial<Record<DataType, (values: Float64Array) => ArrayBufferView>> = {
  [DataType.FLOAT]: (values) => Float32Array.from(values),
  [DataType.DOUBLE]: (values) => Float64Array.from(values),
  [DataType.FLOAT16]: (values) => Uint16Array.from(values, toHalf),
  [DataType.BFLOAT16]: (values) => Uint16Array.from(values, toBfloat),
};

function encode(source: string, name: string, type: number, values: Float64Array): Uint8Array {
  const view = ENCODERS[type as DataType]?.(values);
  if (!view)
    throw new ModelFormatError(
      `${source}: ${name}: expected a tensor of floating-point numbers, got ${DataType[type]}`,
    );
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** Where a model stores a parameter; the tensor there is made one of its own. */
function tensorOf(graph: GraphProto, name: string): TensorProto | undefined {
  const stored = graph.initializer.find((tensor) => tensor.name === name);
  if (stored) return stored;
  const own = (name: string, dataType: number, dims: bigint[]) =>
    create(TensorProtoSchema, { name, dataType, dims });
  const sparse = graph.sparseInitializer.findIndex(({ values }) => values?.name === name);
  if (sparse >= 0) {
    const { values, dims } = graph.sparseInitializer.splice(sparse, 1)[0]!;
    const tensor = own(name, values!.dataType, dims);
    graph.initializer.push(tensor);
    return tensor;
  }
  const at = graph.node.findIndex(({ output }) => output[0] === name);
  const node: NodeProto | undefined = graph.node[at];
  if (node?.opType === "Constant") {
    const value = node.attribute.find(({ t }) => t);
    if (value) return value.t;
    // Lists of numbers, float32 by definition.
    const [list] = node.attribute;
    const dims = list?.floats.length ? [BigInt(list.floats.length)] : [];
    const tensor = own("", DataType.FLOAT, dims);
    node.attribute = [
      create(AttributeProtoSchema, { name: "value", type: AttributeType.TENSOR, t: tensor }),
    ];
    return tensor;
  }
  if (node?.opType === "Identity") {
    // An exporter stored equal tensors once: this one gets its own again.
    const shared = graph.initializer.find((tensor) => tensor.name === node.input[0]);
    if (!shared) return undefined;
    graph.node.splice(at, 1);
    const tensor = own(name, shared.dataType, shared.dims);
    graph.initializer.push(tensor);
    return tensor;
  }
  return undefined;
}

/** Takes the numbers out of a tensor, wherever they are. */
function emptied(tensor: TensorProto): void {
  tensor.floatData = [];
  tensor.doubleData = [];
  tensor.int32Data = [];
  tensor.int64Data = [];
  tensor.uint64Data = [];
  tensor.rawData = undefined;
}

/** All tensors that may lie in files beside the model. */
function* tensorsOf({ graph, functions }: ModelProto): Generator<TensorProto> {
  function* ofNodes(nodes: readonly NodeProto[]): Generator<TensorProto> {
    for (const { attribute } of nodes)
      for (const { t, tensors, g, graphs } of attribute) {
        if (t) yield t;
        yield* tensors;
        for (const inner of [...(g ? [g] : []), ...graphs]) yield* ofGraph(inner);
      }
  }
  function* ofGraph({ initializer, sparseInitializer, node }: GraphProto): Generator<TensorProto> {
    yield* initializer;
    for (const { values, indices } of sparseInitializer) {
      if (values) yield values;
      if (indices) yield indices;
    }
    yield* ofNodes(node);
  }
  if (graph) yield* ofGraph(graph);
  for (const { node } of functions) yield* ofNodes(node);
}

interface Changed {
  proto: ModelProto;
  /** New numbers of tensors that were stored beside the model. */
  external: Map<TensorProto, Uint8Array>;
}

/** The parameter's name, and those of the tensors that are tied to it. */
function storedNames({ ties }: Model, name: string): Set<string> {
  const names = new Set([name]);
  for (let known = 0; known !== names.size; ) {
    known = names.size;
    for (const [first, second] of ties) if (names.has(first)) names.add(second);
  }
  return names;
}

function withParameters(
  bytes: Uint8Array,
  source: string,
  model: Model,
  theta: Float64Array,
): Changed {
  const proto = parseModel(bytes, source, true);
  const external = new Map<TensorProto, Uint8Array>();
  const moved = new Set(model.moved);
  const own = new Set(model.parameters.map(({ name }) => name));
  // Buffers that were given other numbers, such as running statistics, as well.
  using buffers = model.withTensors([...moved].filter((name) => !own.has(name)));
  const tensors = [
    ...model.parameters.map((tensor) => ({
      ...tensor,
      wanted: theta.subarray(tensor.offset, tensor.offset + tensor.size),
    })),
    ...buffers.parameters.map((tensor) => ({ ...tensor, wanted: tensor.values() })),
  ];
  for (const { name, shape, wanted, values } of tensors) {
    if (!moved.has(name) && values().every((x, i) => Object.is(x, wanted[i]))) continue;
    for (const stored of storedNames(model, name)) {
      const tensor = tensorOf(proto.graph!, stored);
      if (!tensor || tensor.dims.join() !== shape.join())
        throw new ModelFormatError(
          `${source}: expected the parameter ${stored} of the shape (${shape.join(", ")}) among ` +
            `its tensors, got ${tensor ? `one of (${tensor.dims.join(", ")})` : "none of that name"}; ` +
            "it cannot be written where a function of the model holds it",
        );
      const data = encode(source, stored, tensor.dataType, wanted);
      emptied(tensor);
      if (tensor.dataLocation === DataLocation.EXTERNAL) external.set(tensor, data);
      else tensor.rawData = data;
    }
  }
  return { proto, external };
}

/** Tensors begin at multiples of this in a file beside the model. */
const ALIGNMENT = 64;
const PIECE = 2 ** 24;

/** Copies what lies beside the model into one file, and says so in its tensors. */
async function writeExternal(
  path: string,
  tensors: readonly TensorProto[],
  dataOf: (tensor: TensorProto) => Uint8Array | FileRange,
): Promise<void> {
  await replaceFile(path, async (file) => {
    let at = 0;
    for (const tensor of tensors) {
      const padding = (ALIGNMENT - (at % ALIGNMENT)) % ALIGNMENT;
      await file.writeFile(new Uint8Array(padding));
      at += padding;
      const data = dataOf(tensor);
      const length = data.length;
      if (data instanceof Uint8Array) await file.writeFile(data);
      else await copyRange(data, file);
      tensor.externalData = Object.entries({
        location: basename(path),
        offset: `${at}`,
        length: `${length}`,
      }).map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
      at += length;
    }
  });
}

async function copyRange({ path, offset, length }: FileRange, to: FileHandle): Promise<void> {
  const from = await open(path, "r");
  try {
    const piece = Buffer.allocUnsafe(Math.min(PIECE, length));
    for (let done = 0; done < length; ) {
      const most = Math.min(piece.length, length - done);
      const { bytesRead } = await from.read(piece, 0, most, offset + done);
      if (bytesRead === 0)
        throw new ModelFormatError(`${path}: the file was cut off while it was read`);
      await to.writeFile(piece.subarray(0, bytesRead));
      done += bytesRead;
    }
  } finally {
    await from.close();
  }
}

async function sourceOf(where: string, model: Model, from: string | Uint8Array | undefined) {
  const file = from ?? (model.source === "model" ? undefined : model.source);
  if (file === undefined)
    throw new OptionError(
      `${where}: from: expected the bytes that the model was loaded from, got undefined`,
    );
  if (typeof file !== "string") return { bytes: file, source: "model", folder: undefined };
  return { bytes: await readFileBytes(file), source: file, folder: dirname(file) };
}

/**
 * Writes the ONNX file of a model with other numbers for its parameters, each under its name, in its
 * shape and element type; tensors that are tied to one by the option `ties` get its numbers. Buffers
 * are those of `model`: of one that `permute` or an alignment made, its own. All else stays as it is. Where the model has data in files beside it, they are copied to one file beside the
 * new one, NAME.data.
 *
 * @throws OptionError; ModelFormatError where the file is no longer that of the model
 */
export async function writeModel(
  path: string,
  model: Model,
  options: WriteModelOptions,
): Promise<void> {
  const { parameters, from } = checkOptions("writeModel", options, OPTIONS);
  if (typeof path !== "string")
    throw new OptionError(`writeModel: expected a path, got ${describe(path)}`);
  if (typeof model?.requireSupported !== "function")
    throw new OptionError(`writeModel: expected a model of loadModel, got ${describe(model)}`);
  const theta = parametersOf("writeModel: parameters", model, parameters);
  const { bytes, source, folder } = await sourceOf("writeModel", model, from);
  const { proto, external } = withParameters(bytes, source, model, theta);
  const beside = [...tensorsOf(proto)].filter(
    ({ dataLocation }) => dataLocation === DataLocation.EXTERNAL,
  );
  if (beside.length > 0) {
    const files = new ExternalFiles(source, folder);
    await writeExternal(
      join(dirname(path), `${basename(path)}.data`),
      beside,
      (tensor) => external.get(tensor) ?? files.locate(tensor, storedBytes(source, tensor)),
    );
  }
  await replaceFile(path, async (file) => {
    await file.writeFile(toBinary(ModelProtoSchema, proto));
  });
}
