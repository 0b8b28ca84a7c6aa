/** Units of layers: which axis of a weight runs over a layer's outputs, and what belongs to one. */
import type { Segment } from "../masks/mask";

/** A tensor with its shape, as in `model.parameters`. */
export interface ShapedTensor extends Segment {
  readonly shape: readonly number[];
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

/**
 * The axis of a weight that runs over outputs. 0, as in PyTorch's layers and ONNX's Conv, unless the
 * matrix is stored [in, out], which shows in a bias of the same layer that is as long as the last
 * axis and not as the first.
 */
export function outputAxis(weight: ShapedTensor, layer: readonly ShapedTensor[]): 0 | 1 {
  const { shape } = weight;
  if (shape.length !== 2 || shape[0] === shape[1]) return 0;
  const lengths = layer.filter((tensor) => tensor.shape.length === 1).map(({ size }) => size);
  return lengths.includes(shape[1]!) && !lengths.includes(shape[0]!) ? 1 : 0;
}

/** Positions, in the parameter vector, of output `unit` of a weight or of an entry of a bias. */
export function unitIndices(tensor: ShapedTensor, axis: 0 | 1, unit: number): number[] {
  const { shape, offset, size } = tensor;
  if (shape.length <= 1) return [offset + unit];
  if (axis === 0) {
    const length = size / shape[0]!;
    return Array.from({ length }, (_, i) => offset + unit * length + i);
  }
  const rows = shape[0]!;
  return Array.from({ length: rows }, (_, i) => offset + i * shape[1]! + unit);
}
