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

/** Numbers in [-1, 1) that depend on `seed` alone. */
export function scattered(length: number, seed: number): Float64Array {
  let state = Math.imul(seed + 1, 0x9e3779b1) >>> 0;
  return Float64Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/**
 * A case whose axis 0 is no batch, as one sample: every input gets a leading axis of length 1, the
 * output becomes a row, and a case without inputs gets one that the output is multiplied with.
 */
function asOneSample(graph: GraphProto, { inputs, output }: OperatorCase): void {
  const shapeOf = (name: string, dims: number[]) => {
    graph.initializer.push(
      tensor(name, [dims.length], { dataType: DataType.INT64, int64Data: dims.map(BigInt) }),
    );
    return name;
  };
  const before = [];
  for (const [name, { shape }] of Object.entries(inputs)) {
    for (const each of graph.node)
      each.input = each.input.map((used) => (used === name ? `${name}_whole` : used));
    const type = graph.input.find((info) => info.name === name)!.type!;
    const elemType = type.value.case === "tensorType" ? type.value.value.elemType : 0;
    graph.input = graph.input.filter((info) => info.name !== name);
    graph.input.push(value(name, ["batch", ...shape], elemType));
    before.push(node("Reshape", [name, shapeOf(`${name}_shape`, shape)], [`${name}_whole`]));
  }
  const row = shapeOf("row_shape", [1, productOf(output.shape)]);
  graph.node = [...before, ...graph.node, node("Reshape", ["y", row], ["flat"])];
  graph.output = [value("row", ["batch", productOf(output.shape)])];
  if (before.length > 0) graph.node.push(node("Identity", ["flat"], ["row"]));
  else {
    graph.input = [value("one", ["batch", 1])];
    graph.node.push(node("Mul", ["flat", "one"], ["row"]));
  }
}

/** The model of a case; with `move`, its parameters are moved by it and stored in float64. */
export async function openModel(name: string, move?: Float64Array): Promise<Model> {
  const test = CASES[name]!;
  const proto = fromBinary(ModelProtoSchema, readFileSync(join(FOLDER, `${name}.onnx`)));
  const graph = proto.graph!;
  if (!test.batched) asOneSample(graph, test);
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

/** The numbers of a case, and pseudo-random targets for its output. */
export async function openData(name: string): Promise<DataSet> {
  const { inputs, output, batched } = CASES[name]!;
  const arrays: Record<string, ArraySource> = {};
  for (const [input, { type, shape, data }] of Object.entries(inputs)) {
    const rows = batched ? shape : [1, ...shape];
    if (type === "bool") arrays[input] = { data: Uint8Array.from(data), shape: rows, type };
    else if (type === "int64")
      arrays[input] = { data: BigInt64Array.from(data.map(BigInt)), shape: rows };
    else if (type === "int32") arrays[input] = { data: Int32Array.from(data), shape: rows };
    else if (type === "uint8") arrays[input] = { data: Uint8Array.from(data), shape: rows };
    else arrays[input] = { data: Float32Array.from(data), shape: rows };
  }
  const size = productOf(output.shape);
  if (Object.keys(inputs).length === 0) arrays.one = { data: Float32Array.of(1), shape: [1, 1] };
  arrays.y = { data: scattered(size, size), shape: batched ? output.shape : [1, size] };
  return loadData(arrays);
}
