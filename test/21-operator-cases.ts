/** The operator cases of test/fixtures/operators as models with data. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ArraySource, type DataSet, loadData } from "../lib/data/data";
import { loadModel, type Model } from "../lib/model/model";
import { type GraphProto, ModelProtoSchema } from "../lib/model/onnx_pb";
import { DataType, node, tensor, value } from "./10-model-maker";

const FOLDER = join(__dirname, "fixtures", "operators");

/** See README.md of the fixtures. */
export interface OperatorCase {
  op: string;
  opset: number;
  tier: string;
  batched: boolean;
  parameters: string[];
  inputs: Record<string, { type: string; shape: number[]; data: number[] }>;
  output: { shape: number[]; data: number[] };
}

export const CASES: Record<string, OperatorCase> = JSON.parse(
  readFileSync(join(FOLDER, "cases.json"), "utf8"),
);

/** The models that lie there. */
export const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".onnx"));

const productOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** The elements with the order of all axes but the first `kept` reversed. */
function turned(data: readonly number[], shape: readonly number[], kept: number): number[] {
  const rows = productOf(shape.slice(0, kept));
  const lengths = shape.slice(kept);
  const size = productOf(lengths);
  const out = new Array<number>(data.length);
  for (let i = 0; i < size; i++) {
    let rest = i;
    let at = 0;
    // Row-major place of the same element among the reversed axes, the last of which comes first.
    for (let axis = lengths.length; axis-- > 0; ) {
      at = at * lengths[axis]! + (rest % lengths[axis]!);
      rest = Math.floor(rest / lengths[axis]!);
    }
    for (let row = 0; row < rows; row++) out[row * size + at] = data[row * size + i]!;
  }
  return out;
}

const turnedShape = (shape: readonly number[], kept: number) => [
  ...shape.slice(0, kept),
  ...shape.slice(kept).reverse(),
];

/** How a case is put to the library. */
export interface Form {
  /** Added to the parameters, which are then stored in float64. */
  move?: Float64Array;
  /** Inputs come with their axes reversed, and a Transpose brings them into order. */
  turned?: boolean;
  /** So many rows, of those that there are again and again. */
  samples?: number;
}

/** Numbers in [-1, 1) that depend on `seed` alone. */
export function scattered(length: number, seed: number): Float64Array {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/**
 * Puts nodes between the inputs and the graph. What is no batch becomes one sample: every input gets
 * a leading axis of length 1, the output becomes a row, and a graph without inputs gets one that the
 * output is multiplied with.
 */
function wrap(graph: GraphProto, { inputs, output, batched }: OperatorCase, turn: boolean): void {
  const shapeOf = (name: string, dims: number[]) => {
    graph.initializer.push(
      tensor(name, [dims.length], { dataType: DataType.INT64, int64Data: dims.map(BigInt) }),
    );
    return name;
  };
  const kept = batched ? 1 : 0;
  const before = [];
  for (const [name, { shape }] of Object.entries(inputs)) {
    for (const each of graph.node)
      each.input = each.input.map((used) => (used === name ? `${name}_whole` : used));
    const type = graph.input.find((info) => info.name === name)!.type!;
    const elemType = type.value.case === "tensorType" ? type.value.value.elemType : 0;
    graph.input = graph.input.filter((info) => info.name !== name);
    const given = turn ? turnedShape(shape, kept) : shape;
    graph.input.push(value(name, ["batch", ...given.slice(kept)], elemType));
    before.push(
      batched
        ? node("Identity", [name], [`${name}_given`])
        : node("Reshape", [name, shapeOf(`${name}_shape`, given)], [`${name}_given`]),
    );
    const axes = turnedShape([...shape.keys()], kept);
    before.push(
      turn
        ? node("Transpose", [`${name}_given`], [`${name}_whole`], { perm: axes.map(BigInt) })
        : node("Identity", [`${name}_given`], [`${name}_whole`]),
    );
  }
  graph.node = [...before, ...graph.node];
  if (batched) return;
  const size = productOf(output.shape);
  graph.node.push(node("Reshape", ["y", shapeOf("row_shape", [1, size])], ["flat"]));
  graph.output = [value("row", ["batch", size])];
  if (before.length > 0) graph.node.push(node("Identity", ["flat"], ["row"]));
  else {
    graph.input = [value("one", ["batch", 1])];
    graph.node.push(node("Mul", ["flat", "one"], ["row"]));
  }
}

export async function openModel(name: string, { move, turned }: Form = {}): Promise<Model> {
  const test = CASES[name]!;
  const proto = fromBinary(ModelProtoSchema, readFileSync(join(FOLDER, `${name}.onnx`)));
  const graph = proto.graph!;
  if (!test.batched || turned) wrap(graph, test, turned ?? false);
  let offset = 0;
  if (move)
    for (const stored of graph.initializer) {
      if (!test.parameters.includes(stored.name)) continue;
      const values = new Float64Array(new Float32Array(Uint8Array.from(stored.rawData!).buffer));
      for (let i = 0; i < values.length; i++) values[i]! += move[offset++]!;
      stored.dataType = DataType.DOUBLE;
      stored.rawData = new Uint8Array(values.buffer);
    }
  const params = { include: test.parameters };
  return loadModel(toBinary(ModelProtoSchema, proto), { loss: "mse", params });
}

const ARRAYS: Record<string, (data: number[]) => Omit<ArraySource, "shape">> = {
  float32: (data) => ({ data: Float32Array.from(data) }),
  int64: (data) => ({ data: BigInt64Array.from(data.map(BigInt)) }),
  int32: (data) => ({ data: Int32Array.from(data) }),
  int8: (data) => ({ data: Int8Array.from(data) }),
  uint8: (data) => ({ data: Uint8Array.from(data) }),
  bool: (data) => ({ data: Uint8Array.from(data), type: "bool" }),
};

/** The numbers of a case, and pseudo-random targets for its output. */
export async function openData(name: string, form: Form = {}): Promise<DataSet> {
  const { inputs, output, batched } = CASES[name]!;
  const kept = batched ? 1 : 0;
  const withRows = (shape: number[]) =>
    batched ? [form.samples ?? shape[0]!, ...shape.slice(1)] : [1, ...shape];
  const repeated = (data: number[], shape: number[]) =>
    Array.from({ length: productOf(withRows(shape)) }, (_, i) => data[i % data.length]!);
  const arrays: Record<string, ArraySource> = {};
  for (const [input, { type, shape, data }] of Object.entries(inputs)) {
    const ordered = form.turned ? turned(data, shape, kept) : data;
    const given = form.turned ? turnedShape(shape, kept) : shape;
    arrays[input] = { ...ARRAYS[type]!(repeated(ordered, shape)), shape: withRows(given) };
  }
  const size = productOf(output.shape);
  if (Object.keys(inputs).length === 0) arrays.one = { data: Float32Array.of(1), shape: [1, 1] };
  const targets = repeated(Array.from(scattered(size, size)), output.shape);
  arrays.y = { data: targets, shape: batched ? withRows(output.shape) : [1, size] };
  return loadData(arrays);
}
