/** Small networks made from a few words, as bytes of an ONNX file. */
import { create, toBinary } from "@bufbuild/protobuf";
import { OptionError } from "../errors";
import type { Dtype } from "../native";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProtoSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from "./onnx_pb";

/** The stream of random numbers. */
const WEIGHTS = 0x6d6c70;

/** What stands between layers, and the ONNX operator of each. */
const ACTIVATIONS = {
  linear: undefined,
  relu: "Relu",
  "leaky-relu": "LeakyRelu",
  elu: "Elu",
  tanh: "Tanh",
  sigmoid: "Sigmoid",
  softplus: "Softplus",
  gelu: "Gelu",
} as const;

export type ActivationName = keyof typeof ACTIVATIONS;

export interface MlpOptions {
  /** Of the layers: inputs, hidden ones, outputs. At least two. */
  widths: readonly number[];
  /** Default "linear": none, so that the network is a deep linear one. */
  activation?: ActivationName | undefined;
  /** Default true. */
  bias?: boolean | undefined;
  /**
   * All numbers, in the order fc1.weight [out, in], fc1.bias, fc2.weight, ... Default: drawn
   * uniformly between -1/sqrt(in) and 1/sqrt(in), as `torch.nn.Linear` does.
   */
  parameters?: ArrayLike<number> | undefined;
  /** Of the draw. Default 0. */
  seed?: number | bigint | undefined;
  /** What the file stores and declares. Default "float64". */
  precision?: Dtype | undefined;
}

const MLP_OPTIONS: { [K in keyof Required<MlpOptions>]: Check } = {
  widths: {
    expected: "an array of at least two whole numbers of at least 1",
    fits: (value) =>
      Array.isArray(value) && value.length >= 2 && value.every(check.positiveInteger.fits),
  },
  activation: check.oneOf(...Object.keys(ACTIVATIONS)),
  bias: check.boolean,
  parameters: {
    expected: "numbers",
    fits: (value) => Array.isArray(value) || ArrayBuffer.isView(value),
  },
  seed: check.seed,
  precision: check.oneOf("float32", "float64"),
};

/** How many parameters an MLP has. */
export function mlpSize(widths: readonly number[], bias = true): number {
  return widths
    .slice(1)
    .reduce((sum, out, layer) => sum + out * (widths[layer]! + (bias ? 1 : 0)), 0);
}

/**
 * A multi-layer perceptron as the bytes of an ONNX file: dense layers fc1, fc2, ... with an
 * activation between them, from the input "x" [batch, widths[0]] to the output "output". Give them
 * to `loadModel`, or write them to a file; sweeps over width and depth are made of it.
 *
 * @throws OptionError
 */
export function mlp(options: MlpOptions): Uint8Array {
  const checked = checkOptions("mlp", options, MLP_OPTIONS);
  const { widths, activation = "linear", bias = true, seed = 0, precision = "float64" } = checked;
  if (widths === undefined)
    throw new OptionError(`mlp: widths: expected ${MLP_OPTIONS.widths.expected}, got undefined`);
  const size = mlpSize(widths, bias);
  const given = checked.parameters ?? drawn(widths, bias, seed);
  if (given.length !== size)
    throw new OptionError(
      `mlp: parameters: expected ${size} numbers for the widths ${widths.join("-")}` +
        `${bias ? " with" : " without"} biases, got ${describe(given)}`,
    );
  const elemType = precision === "float32" ? DataType.FLOAT : DataType.DOUBLE;
  const numbers = Float64Array.from(given);
  let at = 0;
  const tensor = (name: string, dims: number[]) => {
    const from = numbers.subarray(at, at + dims.reduce((a, b) => a * b, 1));
    at += from.length;
    const data = precision === "float32" ? Float32Array.from(from) : from.slice();
    return create(TensorProtoSchema, {
      name,
      dims: dims.map(BigInt),
      dataType: elemType,
      rawData: new Uint8Array(data.buffer),
    });
  };
  const value = (name: string, width: number) =>
    create(ValueInfoProtoSchema, {
      name,
      type: create(TypeProtoSchema, {
        value: {
          case: "tensorType",
          value: {
            elemType,
            shape: {
              dim: [
                { value: { case: "dimParam", value: "batch" } },
                { value: { case: "dimValue", value: BigInt(width) } },
              ],
            },
          },
        },
      }),
    });
  const node = [];
  const initializer = [];
  const operator = ACTIVATIONS[activation];
  let last = "x";
  for (let layer = 1; layer < widths.length; layer++) {
    const [wide, out] = [widths[layer - 1]!, widths[layer]!];
    const tensors = [tensor(`fc${layer}.weight`, [out, wide])];
    if (bias) tensors.push(tensor(`fc${layer}.bias`, [out]));
    initializer.push(...tensors);
    const end = layer === widths.length - 1;
    const transB = create(AttributeProtoSchema, {
      name: "transB",
      type: AttributeType.INT,
      i: 1n,
    });
    const outputs = end ? "output" : `fc${layer}.output`;
    node.push(
      create(NodeProtoSchema, {
        opType: "Gemm",
        name: `fc${layer}`,
        input: [last, ...tensors.map(({ name }) => name)],
        output: [outputs],
        attribute: [transB],
      }),
    );
    last = outputs;
    if (end || !operator) continue;
    last = `hidden${layer}`;
    node.push(
      create(NodeProtoSchema, {
        opType: operator,
        name: `${activation}${layer}`,
        input: [outputs],
        output: [last],
      }),
    );
  }
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 9n,
      producerName: "eigenscope",
      opsetImport: [{ domain: "", version: 20n }],
      graph: create(GraphProtoSchema, {
        name: `mlp ${widths.join("-")}`,
        node,
        initializer,
        input: [value("x", widths[0]!)],
        output: [value("output", widths.at(-1)!)],
      }),
    }),
  );
}

function drawn(widths: readonly number[], bias: boolean, seed: number | bigint): Float64Array {
  const random = new Random(seed, WEIGHTS);
  const numbers = new Float64Array(mlpSize(widths, bias));
  let at = 0;
  widths.slice(1).forEach((out, layer) => {
    const wide = widths[layer]!;
    const end = at + out * (wide + (bias ? 1 : 0));
    for (; at < end; at++) numbers[at] = random.uniform() / Math.sqrt(wide);
  });
  return numbers;
}
