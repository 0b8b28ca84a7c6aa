/** Small networks as ONNX files in float64, data for them, and operators written out. */
import { type DataSet, gradient, type LinearOperator, type Loss, type LossName } from "../../lib";
import { type ArrayValues, loadData } from "../../lib/data/data";
import { loadModel, type Model } from "../../lib/model/model";
import { DataType, modelBytes, node, tensor, value } from "../10-model-maker";
import { identity, type Matrix, normals, rowsOf } from "./numbers";

export type Values = ArrayLike<number>;

/** A float64 initializer. */
export function doubles(name: string, dims: number[], values: Values) {
  const data = Float64Array.from(values);
  return tensor(name, dims, {
    dataType: DataType.DOUBLE,
    rawData: new Uint8Array(data.buffer),
  });
}

export function longs(name: string, values: number[]) {
  const data = BigInt64Array.from(values.map(BigInt));
  return tensor(name, [values.length], {
    dataType: DataType.INT64,
    rawData: new Uint8Array(data.buffer),
  });
}

/** An operator after the last layer: its name, with attributes, and constants as further inputs. */
export interface Step {
  op: string;
  attributes?: Record<string, number | string | number[]>;
  /** A float64 constant, as the second input. */
  value?: number;
  /** What went in, as the second input too. */
  twice?: boolean;
  /** Whole numbers, as the second input: shapes and axes. */
  integers?: number[];
  /** A further input of the graph, of this shape a sample, as the second input. */
  input?: string;
  shape?: number[];
}

/** Dense layers with an activation between them; parameters are w0, b0, w1, b1, ... */
export interface Net {
  /** Of the layers, input first. */
  widths: number[];
  /** All weights and biases in that order, each row-major, weights [out, in]. */
  theta: Values;
  activation?: string | undefined;
  /** Default true. */
  bias?: boolean | undefined;
  tail?: Step[] | undefined;
}

export function thetaSize(widths: number[], bias = true): number {
  return widths.slice(1).reduce((sum, out, i) => sum + out * (widths[i]! + (bias ? 1 : 0)), 0);
}

/** Random weights of about 1/sqrt(width). */
export function randomTheta(seed: number, widths: number[], bias = true): Float64Array {
  return normals(seed, thetaSize(widths, bias), 0.7);
}

export function netBytes({ widths, theta, activation, bias = true, tail = [] }: Net): Uint8Array {
  const nodes = [];
  const initializers: ReturnType<typeof doubles>[] = [];
  const inputs = [value("x", ["batch", widths[0]!], DataType.DOUBLE)];
  const all = Float64Array.from(theta);
  let at = 0;
  const take = (name: string, dims: number[]) => {
    const size = dims.reduce((a, b) => a * b, 1);
    initializers.push(doubles(name, dims, all.subarray(at, at + size)));
    at += size;
    return name;
  };
  let last = "x";
  const layers = widths.length - 1;
  for (let l = 0; l < layers; l++) {
    const names = [last, take(`w${l}`, [widths[l + 1]!, widths[l]!])];
    if (bias) names.push(take(`b${l}`, [widths[l + 1]!]));
    nodes.push(node("Gemm", names, [`a${l}`], { transB: 1n }));
    last = `a${l}`;
    if (activation && l + 1 < layers) {
      nodes.push(node(activation, [last], [`h${l}`]));
      last = `h${l}`;
    }
  }
  if (at !== all.length) throw new Error(`${all.length} weights, and the layers take ${at}`);
  tail.forEach((step, i) => {
    const names = [last];
    if (step.value !== undefined) {
      initializers.push(doubles(`c${i}`, [], [step.value]));
      names.push(`c${i}`);
    }
    if (step.twice) names.push(last);
    if (step.integers) {
      initializers.push(longs(`c${i}`, step.integers));
      names.push(`c${i}`);
    }
    if (step.input) {
      inputs.push(value(step.input, ["batch", ...step.shape!], DataType.DOUBLE));
      names.push(step.input);
    }
    const attributes = Object.entries(step.attributes ?? {}).map(([name, given]) => [
      name,
      // The maker takes whole numbers as bigint.
      typeof given === "number" && Number.isInteger(given)
        ? BigInt(given)
        : Array.isArray(given)
          ? given.map(BigInt)
          : given,
    ]);
    nodes.push(node(step.op, names, [`t${i}`], Object.fromEntries(attributes)));
    last = `t${i}`;
  });
  return modelBytes({
    nodes,
    initializers,
    inputs,
    outputs: [value(last, null, DataType.DOUBLE)],
  });
}

/** With the layers' tensors as parameters, and no constant of the tail. */
export const netModel = (net: Net): Promise<Model> =>
  loadModel(netBytes(net), { params: { include: net.bias === false ? "w*" : ["w*", "b*"] } });

/** One array of data: its numbers, and the shape of a sample. */
export interface Rows {
  data: Float64Array | Int32Array;
  shape: number[];
}

const rowSize = ({ shape }: Rows) => shape.reduce((a, b) => a * b, 1);

/** Data of arrays, perhaps only some samples, in the order given. */
export function dataOf(arrays: Record<string, Rows>, samples?: number[]): Promise<DataSet> {
  const sources = Object.entries(arrays).map(([name, rows]) => {
    const size = rowSize(rows);
    const chosen = samples
      ? samples.flatMap((n) => Array.from(rows.data.subarray(n * size, (n + 1) * size)))
      : rows.data;
    const data: ArrayValues =
      rows.data instanceof Int32Array ? Int32Array.from(chosen) : Float64Array.from(chosen);
    return [name, { data, shape: [data.length / size, ...rows.shape] }];
  });
  return loadData(Object.fromEntries(sources));
}

/** The matrix of an operator, by products with the identity, and so exactly what it computes. */
export async function dense(operator: LinearOperator): Promise<Matrix> {
  const n = operator.dim;
  const block = operator.dtype === "float32" ? Float32Array.from(identity(n)) : identity(n);
  return rowsOf(await operator.apply(block), n);
}

/** For each sample the loss and gradient of a data set that has no other. */
export async function sampleGradients(
  model: Model,
  arrays: Record<string, Rows>,
  loss: LossName | Loss,
): Promise<{ loss: number; gradient: Float64Array }[]> {
  const first = Object.values(arrays)[0]!;
  const count = first.data.length / rowSize(first);
  const all = [];
  for (let n = 0; n < count; n++) {
    using data = await dataOf(arrays, [n]);
    all.push(await gradient(model, data, { loss, precision: "float64", threads: 1 }));
  }
  return all;
}
