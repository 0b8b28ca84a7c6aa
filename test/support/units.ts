/** Networks whose groups of exchangeable units are written down by hand. */
import type { Model } from "../../lib";
import { loadModel } from "../../lib/model/model";
import type { PermutationGroup, UnitPlace } from "../../lib/symmetry/types";
import { DataType, modelBytes, node, value } from "../10-model-maker";
import { doubles } from "./networks";
import { normals } from "./numbers";

export const place = (
  tensor: string,
  axis: number,
  side: UnitPlace["side"],
  more: Partial<UnitPlace> = {},
): UnitPlace => ({ tensor, parameter: true, axis, start: 0, outer: 1, inner: 1, side, ...more });

/** Of a perceptron of netModel: one group a hidden layer. */
export function perceptronGroups(widths: readonly number[], bias = true): PermutationGroup[] {
  return widths.slice(1, -1).map((size, l) => ({
    name: `w${l}`,
    size,
    places: [
      place(`w${l}`, 0, "in"),
      ...(bias ? [place(`b${l}`, 0, "in")] : []),
      place(`w${l + 1}`, 1, "out"),
    ],
  }));
}

/**
 * Convolution, normalisation by stored statistics, relu, convolution, relu, flattening, linear: 5 and
 * 4 channels on images of 6 x 6, 3 classes.
 */
export function convolutional(seed: number): Uint8Array {
  const random = (name: string, dims: number[], scale: number, shift = 0) => {
    const count = dims.reduce((a, b) => a * b, 1);
    const numbers = normals(seed * 100 + name.length + name.charCodeAt(0), count, scale);
    return doubles(
      name,
      dims,
      numbers.map((x) => (shift ? shift + Math.abs(x) : x)),
    );
  };
  return modelBytes({
    nodes: [
      node("Conv", ["x", "c0.weight", "c0.bias"], ["a0"], { kernel_shape: [3n, 3n] }),
      node(
        "BatchNormalization",
        ["a0", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"],
        ["n0"],
      ),
      node("Relu", ["n0"], ["h0"]),
      node("Conv", ["h0", "d1.weight", "d1.bias"], ["a1"], { kernel_shape: [3n, 3n] }),
      node("Relu", ["a1"], ["h1"]),
      node("Flatten", ["h1"], ["flat"]),
      node("Gemm", ["flat", "e2.weight", "e2.bias"], ["out"], { transB: 1n }),
    ],
    initializers: [
      random("c0.weight", [5, 2, 3, 3], 0.4),
      random("c0.bias", [5], 0.3),
      random("bn.weight", [5], 0.5, 0.5),
      random("bn.bias", [5], 0.5),
      random("bn.running_mean", [5], 0.5),
      random("bn.running_var", [5], 0.5, 0.4),
      random("d1.weight", [4, 5, 3, 3], 0.3),
      random("d1.bias", [4], 0.3),
      random("e2.weight", [3, 16], 0.4),
      random("e2.bias", [3], 0.3),
    ],
    inputs: [value("x", ["batch", 2, 6, 6], DataType.DOUBLE)],
    outputs: [value("out", ["batch", 3], DataType.DOUBLE)],
  });
}

export const convolutionalModel = (seed: number): Promise<Model> =>
  loadModel(convolutional(seed), { loss: "cross-entropy" });

export const CONVOLUTIONAL_GROUPS: PermutationGroup[] = [
  {
    name: "c0.weight",
    size: 5,
    places: [
      place("c0.weight", 0, "in"),
      place("c0.bias", 0, "in"),
      place("bn.weight", 0, "in"),
      place("bn.bias", 0, "in"),
      place("bn.running_mean", 0, "in", { parameter: false }),
      place("bn.running_var", 0, "in", { parameter: false }),
      place("d1.weight", 1, "out"),
    ],
  },
  {
    name: "d1.weight",
    size: 4,
    places: [
      place("d1.weight", 0, "in"),
      place("d1.bias", 0, "in"),
      place("e2.weight", 1, "out", { inner: 4 }),
    ],
  },
];
