/**
 * ONNX's backend tests as networks of eigenscope. A test is a model of any shapes with inputs and
 * outputs; a network has samples. So inputs become stored tensors, and the output, laid out flat, is
 * multiplied by the one feature of one sample, which is 1.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type DataSet, forward, loadData, loadModel, type Model } from "../../lib";
import { ExternalFiles } from "../../lib/model/external";
import {
  TensorProto_DataType as DataType,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TensorProto,
  TensorProtoSchema,
} from "../../lib/model/onnx_pb";
import { TensorDecoder } from "../../lib/model/tensor";
import { node, tensor, value } from "../10-model-maker";

/** Where Debian's package libonnx-testdata puts them, or a folder of the same layout. */
export const BACKEND_FOLDER =
  process.env.EIGENSCOPE_ONNX_TESTDATA ?? "/usr/share/libonnx-testdata/data";

export interface BackendTest {
  /** "node/test_abs" */
  readonly name: string;
  readonly folder: string;
}

export function backendTests(suites: readonly string[], root = BACKEND_FOLDER): BackendTest[] {
  return suites.flatMap((suite) => {
    const folder = join(root, suite);
    if (!existsSync(folder)) return [];
    return readdirSync(folder)
      .sort()
      .filter((name) => existsSync(join(folder, name, "model.onnx")))
      .map((name) => ({ name: `${suite}/${name}`, folder: join(folder, name) }));
  });
}

/** Tests that do not pass, by name, each with its reason. */
export function skippedTests(): Map<string, string> {
  const lines = readFileSync(join(__dirname, "../fixtures/backend/skipped.txt"), "utf8").split(
    "\n",
  );
  return new Map(
    lines.filter((line) => line !== "").map((line) => line.split(": ", 2) as [string, string]),
  );
}

const FLOATS: readonly DataType[] = [
  DataType.FLOAT,
  DataType.DOUBLE,
  DataType.FLOAT16,
  DataType.BFLOAT16,
];
export const isFloat = (type: number) => FLOATS.includes(type);

/** A test's model and the tensors that go with it. */
export interface BackendCase {
  readonly model: ModelProto;
  /** By the names of the graph's inputs. */
  readonly inputs: readonly TensorProto[];
  /** By the names of its outputs. */
  readonly outputs: readonly TensorProto[];
}

/** @throws where inputs or outputs are no tensors (sequences, optional values) */
export function readCase({ folder }: BackendTest): BackendCase {
  const model = fromBinary(ModelProtoSchema, readFileSync(join(folder, "model.onnx")));
  const graph = model.graph!;
  const stored = new Set(graph.initializer.map(({ name }) => name));
  const read = (kind: string, names: readonly string[]) =>
    names.flatMap((name, i) => {
      const file = join(folder, "test_data_set_0", `${kind}_${i}.pb`);
      if (name === "" || !existsSync(file)) return [];
      const value = fromBinary(TensorProtoSchema, readFileSync(file));
      return [create(TensorProtoSchema, { ...value, name })];
    });
  for (const { name, type } of [...graph.input, ...graph.output])
    if (type?.value.case !== undefined && type.value.case !== "tensorType")
      throw new Error(`${name} is no tensor but of ${type.value.case}`);
  return {
    model,
    inputs: read(
      "input",
      graph.input.map(({ name }) => name).filter((name) => !stored.has(name)),
    ),
    outputs: read(
      "output",
      graph.output.map(({ name }) => name),
    ),
  };
}

const DATA = "backend_one";
const RESULT = "backend_result";

/** The network of one output. `floats`: whether floating-point inputs are parameters. */
export function networkOf({ model, inputs }: BackendCase, output: TensorProto): Uint8Array {
  const graph = model.graph!;
  const nodes: NodeProto[] = [...graph.node];
  let last = output.name;
  const then = (op: string, more: string[], attributes: Record<string, unknown> = {}) => {
    const next = `backend_${op}`;
    nodes.push(node(op, [last, ...more], [next], attributes));
    last = next;
  };
  if (!isFloat(output.dataType)) then("Cast", [], { to: BigInt(DataType.FLOAT) });
  then("Reshape", ["backend_shape"]);
  nodes.push(node("Mul", [last, DATA], [RESULT]));
  const shape = tensor("backend_shape", [2], { dataType: DataType.INT64, int64Data: [1n, -1n] });
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      ...model,
      // The nodes around it have had their forms since opset 6; what is older and in use has too.
      opsetImport: model.opsetImport.map((each) => ({
        ...each,
        version: each.domain === "" && each.version < 6n ? 6n : each.version,
      })),
      graph: {
        ...graph,
        node: nodes,
        initializer: [...graph.initializer, ...inputs, shape],
        input: [value(DATA, ["samples", 1])],
        output: [value(RESULT, null)],
      },
    }),
  );
}

const decoder = new TensorDecoder("test", new ExternalFiles("test", undefined));

/** The numbers of a tensor, row-major. @throws for strings and other types that are not read */
export const numbersOf = (of: TensorProto): Float64Array => decoder.numbers(of);

/** One sample with the feature 1. */
export function oneSample(): Promise<DataSet> {
  return loadData({ [DATA]: { data: Float32Array.of(1), shape: [1, 1] } });
}

/**
 * The network of one output. As many floating-point inputs are parameters as it takes: some must be
 * constants (the scales of a Resize).
 *
 * @throws what the network is refused with
 */
export async function openNetwork(
  which: BackendCase,
  output: TensorProto,
  data: DataSet,
): Promise<{ model: Model; value: Float64Array; parameters: string[] }> {
  const bytes = networkOf(which, output);
  const floats = which.inputs.filter((input) => isFloat(input.dataType)).map(({ name }) => name);
  const sets = [floats, ...floats.map((_, i) => floats.slice(0, i).concat(floats.slice(i + 1)))];
  let reason: unknown;
  for (const parameters of [...sets, ...floats.slice(0, 1).map((name) => [name]), []]) {
    const choice = parameters.length > 0 && { params: { include: [...parameters] } };
    try {
      const model = await loadModel(bytes, { loss: "mse", ...choice });
      const { values } = await forward(model, data, { precision: "float64", threads: 1 });
      return { model, value: values, parameters };
    } catch (error) {
      reason ??= error;
    }
  }
  throw reason;
}

/** Whether a value is what a test wants, to ONNX's own tolerance; NaN is NaN. */
export function agrees(got: Float64Array, want: Float64Array): boolean {
  if (got.length !== want.length) return false;
  return want.every(
    (w, i) =>
      Object.is(got[i], w) ||
      got[i] === w ||
      (Number.isNaN(w) === Number.isNaN(got[i]) &&
        Math.abs(got[i]! - w) <= 1e-6 + 1e-3 * Math.abs(w)),
  );
}
