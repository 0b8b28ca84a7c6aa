// Permutation groups of multilayer perceptrons and convolutional networks, written out by hand.
import type { PermutationGroup } from "../../lib/symmetry/types";

/** Hidden layers of a network w0, b0, w1, b1, ... with weights [out, in] and the given widths. */
export function denseGroups(
  widths: readonly number[],
  { bias = true, name = (kind: "w" | "b", layer: number) => `${kind}${layer}` } = {},
): PermutationGroup[] {
  return widths.slice(1, -1).map((size, l): PermutationGroup => {
    const place = { parameter: true, start: 0 };
    const all = { outer: 1, inner: 1 };
    return {
      name: name("w", l),
      size,
      places: [
        { ...place, tensor: name("w", l), axis: 0, ...all, side: "in" },
        ...(bias ? [{ ...place, tensor: name("b", l), axis: 0, ...all, side: "in" as const }] : []),
        {
          ...{ ...place, tensor: name("w", l + 1), axis: 1, ...all, side: "out" },
        },
      ],
    };
  });
}

/** Positions of unit u at a place, from the start of a tensor of this shape. */
export function placePositions(
  { axis, start, outer, inner }: PermutationGroup["places"][number],
  shape: readonly number[],
  size: number,
  unit: number,
): number[] {
  const stride = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const count = shape.reduce((a, b) => a * b, 1);
  return Array.from({ length: count }, (_, i) => i).filter((i) => {
    const at = (Math.floor(i / stride) % shape[axis]!) - start;
    return at >= 0 && at < outer * size * inner && Math.floor(at / inner) % size === unit;
  });
}
