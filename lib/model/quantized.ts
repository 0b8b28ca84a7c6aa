/** Weights that are stored as integers with a scale (DequantizeLinear) become stored numbers. */
import { create } from "@bufbuild/protobuf";
import { ModelFormatError } from "../errors";
import {
  TensorProto_DataType as DataType,
  type NodeProto,
  type TensorProto,
  TensorProtoSchema,
} from "./onnx_pb";
import type { TensorDecoder } from "./tensor";

/** What exporters put behind the name of the weight. */
const SUFFIX = /(_quantized|_q|_int8|_scaled)$/;

/**
 * Replaces each DequantizeLinear of stored tensors by a stored tensor of what it computes: that is
 * the weight, and derivatives are by it. It is called like the integers, without the suffix that
 * says how they are stored, where that name is free, and else like the node's output.
 */
export function widenQuantized(
  nodes: readonly NodeProto[],
  stored: readonly TensorProto[],
  decoder: TensorDecoder,
): { nodes: NodeProto[]; tensors: TensorProto[]; warnings: string[] } {
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]));
  const taken = new Set([...byName.keys(), ...nodes.flatMap(({ output }) => output)]);
  const renamed = new Map<string, string>();
  const tensors: TensorProto[] = [];
  const kept = nodes.filter((node) => {
    if (node.opType !== "DequantizeLinear" || !["", "ai.onnx"].includes(node.domain)) return true;
    const parts = node.input.map((name) => byName.get(name));
    if (parts.some((part, i) => part === undefined && node.input[i] !== "")) return true;
    const values = widen(node, parts, decoder);
    if (!values) return true;
    const short = node.input[0]!.replace(SUFFIX, "");
    const name = taken.has(short) ? node.output[0]! : short;
    taken.add(name);
    renamed.set(node.output[0]!, name);
    tensors.push(
      create(TensorProtoSchema, {
        name,
        dims: parts[0]!.dims,
        dataType: DataType.FLOAT,
        rawData: new Uint8Array(values.buffer),
      }),
    );
    return false;
  });
  if (tensors.length === 0) return { nodes: [...nodes], tensors, warnings: [] };
  for (const node of kept) node.input = node.input.map((name) => renamed.get(name) ?? name);
  const names = tensors.map(({ name }) => name);
  return {
    nodes: kept,
    tensors,
    warnings: [
      `stored as integers and widened: ${names.slice(0, 5).join(", ")}` +
        `${names.length > 5 ? ` and ${names.length - 5} more` : ""}; derivatives are by the ` +
        "widened numbers, not by those that were rounded",
    ],
  };
}

/** (x - zero point) * scale; undefined where its form is left to the core. */
function widen(
  node: NodeProto,
  [x, scale, zero]: readonly (TensorProto | undefined)[],
  decoder: TensorDecoder,
): Float32Array<ArrayBuffer> | undefined {
  const attribute = (name: string, fallback: number) =>
    Number(node.attribute.find((each) => each.name === name)?.i ?? fallback);
  if (!x || !scale || attribute("block_size", 0) !== 0) return undefined;
  const dims = x.dims.map(Number);
  const integers = decoder.numbers(x);
  const scales = decoder.numbers(scale);
  const zeros = zero ? decoder.numbers(zero) : Float64Array.of(0);
  const axis = attribute("axis", 1);
  const at = axis < 0 ? axis + dims.length : axis;
  const inner = dims.slice(at + 1).reduce((product, length) => product * length, 1);
  for (const [part, values] of [
    ["scale", scales],
    ["zero point", zeros],
  ] as const)
    if (values.length !== 1 && values.length !== dims[at])
      throw new ModelFormatError(
        `node ${node.name || node.output[0]} (DequantizeLinear): expected a ${part} of one number ` +
          `or of ${dims[at]}, one along axis ${at} of [${dims.join(", ")}], got ${values.length}`,
      );
  const pick = (values: Float64Array, i: number) =>
    values[values.length === 1 ? 0 : Math.floor(i / inner) % values.length]!;
  return Float32Array.from(integers, (value, i) => (value - pick(zeros, i)) * pick(scales, i));
}
