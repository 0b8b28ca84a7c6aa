/** Linear networks and data of given rank, for ranks in closed form. */
import { type DataSet, forward, loadData, loadModel, type Model, mlp } from "../../lib";
import { mlpSize } from "../../lib/model/build";
import { DataType, modelBytes, node, value } from "../10-model-maker";
import { doubles } from "./networks";
import { integers, normals } from "./numbers";

/** rows x columns of normal numbers of a given rank. */
export function lowRank(seed: number, rows: number, columns: number, rank: number): Float64Array {
  if (rank >= Math.min(rows, columns)) return normals(seed, rows * columns);
  const left = normals(seed, rows * rank);
  const right = normals(seed + 1, rank * columns);
  return Float64Array.from({ length: rows * columns }, (_, at) => {
    const [i, j] = [Math.floor(at / columns), at % columns];
    let total = 0;
    for (let k = 0; k < rank; k++) total += left[i * rank + k]! * right[k * columns + j]!;
    return total;
  });
}

/** Parameters of Glorot's variance, for all layers to matter alike. */
export function glorot(seed: number, widths: readonly number[], bias: boolean): Float64Array {
  const theta = normals(seed, mlpSize(widths, bias));
  let at = 0;
  for (let l = 1; l < widths.length; l++) {
    const scale = Math.sqrt(2 / (widths[l]! + widths[l - 1]!));
    const end = at + widths[l]! * (widths[l - 1]! + (bias ? 1 : 0));
    for (; at < end; at++) theta[at]! *= scale;
  }
  return theta;
}

export interface LinearCase {
  widths: number[];
  loss?: "mse" | "cross-entropy";
  samples?: number;
  /** The rank of the inputs. */
  dataRank?: number;
  /** mse: residuals of this rank; 0: none. */
  residualRank?: number;
  bias?: boolean;
  activation?: "linear" | "relu" | "tanh" | "leaky-relu" | "sigmoid";
  seed?: number;
}

export async function linearProblem(given: LinearCase): Promise<{ model: Model; data: DataSet }> {
  const { widths, loss = "mse", samples = 40, bias = false, activation = "linear" } = given;
  const { dataRank = widths[0]!, residualRank, seed = 0 } = given;
  const model = await loadModel(
    mlp({ widths, bias, activation, parameters: glorot(seed + 17, widths, bias) }),
    { loss },
  );
  const outputs = widths.at(-1)!;
  const x = {
    data: lowRank(seed + 11, samples, widths[0]!, dataRank),
    shape: [samples, widths[0]!],
  };
  if (loss === "cross-entropy") {
    const labels = integers(seed + 19, samples, outputs);
    return { model, data: await loadData({ x, y: { data: labels, shape: [samples] } }) };
  }
  let y = normals(seed + 19, samples * outputs);
  if (residualRank !== undefined) {
    using plain = await loadData({ x });
    const { values } = await forward(model, plain, { precision: "float64" });
    const off = residualRank === 0 ? undefined : lowRank(seed + 23, samples, outputs, residualRank);
    y = values.map((f, i) => f - (off?.[i] ?? 0));
  }
  return { model, data: await loadData({ x, y: { data: y, shape: [samples, outputs] } }) };
}

export interface CnnCase {
  /** Length of the input, of the kernels, outputs. */
  d: number;
  k: number[];
  K: number;
  /** Channels of each convolution. */
  m: number;
}

/** 1-D convolutions without bias, stride 1, no padding, and a dense layer over all that is left. */
export async function linearCnn({ d, k, K, m }: CnnCase): Promise<{ model: Model; data: DataSet }> {
  const nodes = [];
  const initializers = [];
  let [last, length, channels] = ["x", d, 1];
  for (const [i, kernel] of k.entries()) {
    const size = m * channels * kernel;
    const scale = 1 / Math.sqrt(channels * kernel);
    initializers.push(
      doubles(`conv${i}.weight`, [m, channels, kernel], normals(31 + i, size, scale)),
    );
    nodes.push(node("Conv", [last, `conv${i}.weight`], [`c${i}`]));
    [last, length, channels] = [`c${i}`, length - kernel + 1, m];
  }
  const wide = length * channels;
  initializers.push(doubles("fc.weight", [K, wide], normals(41, K * wide, 1 / Math.sqrt(wide))));
  nodes.push(
    node("Flatten", [last], ["flat"]),
    node("Gemm", ["flat", "fc.weight"], ["out"], { transB: 1n }),
  );
  const model = await loadModel(
    modelBytes({
      nodes,
      initializers,
      inputs: [value("x", ["batch", 1, d], DataType.DOUBLE)],
      outputs: [value("out", ["batch", K], DataType.DOUBLE)],
    }),
    { loss: "mse" },
  );
  const samples = 3 * d + 20;
  const data = await loadData({
    x: { data: normals(51, samples * d), shape: [samples, 1, d] },
    y: { data: normals(52, samples * K), shape: [samples, K] },
  });
  return { model, data };
}

/** What the linear gauge moves: W_l -> M W_l, W_(l+1) -> W_(l+1) M^-1, for biases b_l -> M b_l. */
export function gaugeVectors(model: Model, layer: number): Float64Array {
  const find = (name: string) => model.parameters[model.parameterIndex(name)]!;
  const [first, second] = [find(`fc${layer}.weight`), find(`fc${layer + 1}.weight`)];
  const bias = model.parameterIndex(`fc${layer}.bias`);
  const [W, V] = [first.values(), second.values()];
  const [width, inputs] = first.shape as [number, number];
  const [outputs] = second.shape as [number, number];
  const P = model.parameterCount;
  const vectors = new Float64Array(width * width * P);
  for (let i = 0; i < width; i++)
    for (let j = 0; j < width; j++) {
      const row = vectors.subarray((i * width + j) * P, (i * width + j + 1) * P);
      for (let k = 0; k < inputs; k++) row[first.offset + i * inputs + k] = W[j * inputs + k]!;
      for (let o = 0; o < outputs; o++) row[second.offset + o * width + j] = -V[o * width + i]!;
      if (bias >= 0) row[model.parameters[bias]!.offset + i] = model.parameters[bias]!.values()[j]!;
    }
  return vectors;
}
