// Permutation groups of multilayer perceptrons and convolutional networks, written out by hand.
import type { PermutationGroup } from "../../lib/symmetry/types";

/** Hidden layers of a network w0, b0, w1, b1, ... with weights [out, in] and the given widths. */
export function denseGroups(
  widths: readonly number[],
  { bias = true, name = (kind: "w" | "b", layer: number) => `${kind}${layer}` } = {},
): PermutationGroup[] {
  return widths.slice(1, -1).map((size, l): PermutationGroup => {
    const place = { parameter: true, start: 0 };
    const rows = { outer: 1, inner: widths[l]! };
    return {
      name: name("w", l),
      size,
      places: [
        { ...place, tensor: name("w", l), axis: 0, ...rows, side: "in" },
        ...(bias
          ? [{ ...place, tensor: name("b", l), axis: 0, outer: 1, inner: 1, side: "in" as const }]
          : []),
        {
          ...{ ...place, tensor: name("w", l + 1), axis: 1, side: "out" },
          ...{ outer: widths[l + 2]!, inner: 1 },
        },
      ],
    };
  });
}

/** Positions of unit u at a place, from the start of the tensor. */
export function placePositions(
  { start, outer, inner }: PermutationGroup["places"][number],
  size: number,
  unit: number,
): number[] {
  return Array.from({ length: outer * inner }, (_, i) => {
    const [o, j] = [Math.floor(i / inner), i % inner];
    return start + (o * size + unit) * inner + j;
  });
}
