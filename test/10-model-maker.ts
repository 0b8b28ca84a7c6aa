/** Small ONNX files, written down node by node. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  FunctionProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  TypeProtoSchema,
  ValueInfoProtoSchema,
} from "../lib/model/onnx_pb";

export { AttributeType, DataType };

/** A float32 tensor with raw data, or with 0, 1, 2, ... */
export function floats(name: string, dims: number[], values?: number[]): TensorProto {
  const count = dims.reduce((a, b) => a * b, 1);
  const data = Float32Array.from(values ?? Array.from({ length: count }, (_, i) => i));
  return create(TensorProtoSchema, {
    name,
    dims: dims.map(BigInt),
    dataType: DataType.FLOAT,
    rawData: new Uint8Array(data.buffer),
  });
}

export function tensor(
  name: string,
  dims: number[],
  fields: Omit<Parameters<typeof create<typeof TensorProtoSchema>>[1] & object, "$typeName">,
): TensorProto {
  return create(TensorProtoSchema, { name, dims: dims.map(BigInt), ...fields });
}

const isGraph = (value: unknown): value is GraphProto =>
  (value as GraphProto).$typeName === "onnx.GraphProto";

/** A body: a branch of an If, or what a loop repeats. */
export function body(
  nodes: NodeProto[],
  outputs: string[],
  inputs: string[] = [],
  initializers: TensorProto[] = [],
): GraphProto {
  return create(GraphProtoSchema, {
    name: "body",
    node: nodes,
    initializer: initializers,
    input: inputs.map((name) => value(name, null)),
    output: outputs.map((name) => value(name, null)),
  });
}

export function attribute(name: string, value: unknown, refAttrName = "") {
  const fields =
    typeof value === "bigint"
      ? { type: AttributeType.INT, i: value }
      : typeof value === "number"
        ? { type: AttributeType.FLOAT, f: value }
        : typeof value === "string"
          ? { type: AttributeType.STRING, s: new TextEncoder().encode(value) }
          : Array.isArray(value)
            ? { type: AttributeType.INTS, ints: value as bigint[] }
            : value === undefined
              ? {}
              : isGraph(value)
                ? { type: AttributeType.GRAPH, g: value }
                : { type: AttributeType.TENSOR, t: value as TensorProto };
  return create(AttributeProtoSchema, { name, refAttrName, ...fields });
}

export function node(
  opType: string,
  input: string[],
  output: string[],
  attributes: Record<string, unknown> = {},
  fields: { name?: string; domain?: string; overload?: string } = {},
): NodeProto {
  return create(NodeProtoSchema, {
    opType,
    input,
    output,
    name: `${opType}_${output[0]}`,
    attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    ...fields,
  });
}

/** A node of a function's body, with attributes that refer to those of the call. */
export function referring(n: NodeProto, references: Record<string, string>): NodeProto {
  for (const [name, to] of Object.entries(references))
    n.attribute.push(attribute(name, undefined, to));
  return n;
}

export function value(name: string, dims: (number | string)[] | null, elemType = DataType.FLOAT) {
  return create(ValueInfoProtoSchema, {
    name,
    type: create(TypeProtoSchema, {
      value: {
        case: "tensorType",
        value: {
          elemType,
          shape: dims
            ? {
                dim: dims.map((length) => ({
                  value:
                    typeof length === "number"
                      ? { case: "dimValue" as const, value: BigInt(length) }
                      : { case: "dimParam" as const, value: length },
                })),
              }
            : undefined,
        },
      },
    }),
  });
}

export function fn(
  name: string,
  input: string[],
  output: string[],
  nodes: NodeProto[],
  fields: {
    domain?: string;
    opset?: number;
    overload?: string;
    defaults?: Record<string, unknown>;
  } = {},
) {
  return create(FunctionProtoSchema, {
    name,
    domain: fields.domain ?? "local",
    overload: fields.overload ?? "",
    input,
    output,
    node: nodes,
    opsetImport: [{ domain: "", version: BigInt(fields.opset ?? 17) }],
    attributeProto: Object.entries(fields.defaults ?? {}).map(([k, v]) => attribute(k, v)),
  });
}

export interface Parts {
  nodes?: NodeProto[];
  initializers?: TensorProto[];
  sparse?: Parameters<typeof create<typeof GraphProtoSchema>>[1] extends infer T
    ? T extends { sparseInitializer?: infer S }
      ? S
      : never
    : never;
  inputs?: ReturnType<typeof value>[];
  outputs?: ReturnType<typeof value>[];
  functions?: ReturnType<typeof fn>[];
  opset?: number | null;
  domains?: { domain: string; version: bigint }[];
}

/** x [batch, 4] -> y by default. */
export function modelBytes(parts: Parts): Uint8Array {
  const opset = parts.opset === undefined ? 17 : parts.opset;
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      producerName: "test",
      opsetImport: [
        ...(opset === null ? [] : [{ domain: "", version: BigInt(opset) }]),
        ...(parts.domains ?? []),
      ],
      functions: parts.functions ?? [],
      graph: create(GraphProtoSchema, {
        name: "g",
        node: parts.nodes ?? [node("MatMul", ["x", "w"], ["y"])],
        initializer: parts.initializers ?? [floats("w", [4, 4])],
        sparseInitializer: parts.sparse ?? [],
        input: parts.inputs ?? [value("x", ["batch", 4])],
        output: parts.outputs ?? [value("y", ["batch", 4])],
      }),
    }),
  );
}
