/** Units of layers: which axis of a weight runs over a layer's outputs, and what belongs to one. */
import type { Segment } from "../masks/mask";
import type { ModelDescription, NodeDescription } from "../native";

/** A tensor with its shape, as in `model.parameters`. */
export interface ShapedTensor extends Segment {
  readonly shape: readonly number[];
  /** The axis that runs over the outputs of the layer. Default 0. */
  readonly outputAxis?: number | undefined;
}

/** By operator, and by position of the weight among its inputs; 0 for what is not here. */
const OUTPUT_AXES: Record<string, (node: NodeDescription, at: number, rank: number) => number> = {
  Gemm: (node, at) => (at === 1 && !Number(node.attributes.transB?.ints?.[0] ?? 0) ? 1 : 0),
  MatMul: (_, at, rank) => (at === 1 ? rank - 1 : rank - 2),
  ConvTranspose: (_, at) => (at === 1 ? 1 : 0),
};

/** The axis over outputs of each stored tensor that a node of one of these operators takes. */
export function outputAxes({ nodes }: ModelDescription): (name: string, rank: number) => number {
  const uses = new Map<string, { node: NodeDescription; at: number }>();
  for (const node of nodes)
    if (node.domain === "" && Object.hasOwn(OUTPUT_AXES, node.op))
      node.inputs.forEach((name, at) => {
        if (!uses.has(name)) uses.set(name, { node, at });
      });
  return (name, rank) => {
    const use = uses.get(name);
    return rank < 2 || !use ? 0 : OUTPUT_AXES[use.node.op]!(use.node, use.at, rank);
  };
}

/** The name up to its last dot or slash, and all of it where there is none. */
export function layerOf(name: string): string {
  return /^(.*)[./][^./]*$/s.exec(name)?.[1] ?? name;
}

/** Tensors by layer, in their order. */
export function layersOf<T extends { readonly name: string }>(
  tensors: readonly T[],
): Map<string, T[]> {
  const layers = new Map<string, T[]>();
  for (const tensor of tensors) {
    const name = layerOf(tensor.name);
    layers.set(name, [...(layers.get(name) ?? []), tensor]);
  }
  return layers;
}

/** How many outputs a weight has. */
export function unitsOf({ shape, outputAxis = 0 }: ShapedTensor): number {
  return shape[outputAxis] ?? 1;
}

/** Positions in the parameter vector of what a tensor has for output `unit`. */
export function unitIndices(tensor: ShapedTensor, unit: number): number[] {
  const { shape, offset, outputAxis = 0 } = tensor;
  const product = (lengths: readonly number[]) => lengths.reduce((a, b) => a * b, 1);
  const inner = product(shape.slice(outputAxis + 1));
  const outer = product(shape.slice(0, outputAxis));
  const units = unitsOf(tensor);
  return Array.from(
    { length: outer * inner },
    (_, i) => offset + (Math.floor(i / inner) * units + unit) * inner + (i % inner),
  );
}

/**
 * The axis of a weight that runs over the inputs of its layer: the channels of a convolution, the
 * other axis of a matrix.
 */
export function inputAxisOf({ shape, outputAxis = 0 }: ShapedTensor): number {
  if (outputAxis === 0) return Math.min(1, shape.length - 1);
  return shape.length === outputAxis + 1 ? outputAxis - 1 : 0;
}
