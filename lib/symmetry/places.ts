/** Which numbers of a tensor belong to which unit. */
import type { UnitPlace } from "./types";

/** What of a place says where it is. */
export type Placed = Pick<UnitPlace, "axis" | "start" | "outer" | "inner" | "where" | "positions">;

/** The positions of a unit along the place's axis, ascending. */
export function unitPositions(place: Placed, size: number, unit: number): readonly number[] {
  const { start, outer, inner, positions } = place;
  if (positions) return positions[unit]!;
  return Array.from(
    { length: outer * inner },
    (_, i) => start + (Math.floor(i / inner) * size + unit) * inner + (i % inner),
  );
}

/**
 * The indices, in a row-major tensor of this shape, of the numbers of each unit: size x width,
 * row-major, so that column j of two units are what changes places when they do.
 */
export function unitOffsets(shape: readonly number[], place: Placed, size: number): Int32Array[] {
  const only = new Map(place.where?.map(({ axis, positions }) => [axis, positions]));
  const along = (axis: number) =>
    only.get(axis) ?? Array.from({ length: shape[axis]! }, (_, i) => i);
  return Array.from({ length: size }, (_, unit) => {
    let offsets = [0];
    for (let axis = 0; axis < shape.length; axis++) {
      const at = axis === place.axis ? unitPositions(place, size, unit) : along(axis);
      const length = shape[axis]!;
      offsets = offsets.flatMap((offset) => at.map((position) => offset * length + position));
    }
    return Int32Array.from(offsets);
  });
}

/** The tensor with its units in another order: new unit i is old unit order[i]. */
export function permutedPlace(
  values: Float64Array,
  shape: readonly number[],
  place: Placed,
  order: ArrayLike<number>,
): Float64Array {
  const out = values.slice();
  const offsets = unitOffsets(shape, place, order.length);
  for (let i = 0; i < order.length; i++) {
    const from = offsets[order[i]!]!;
    offsets[i]!.forEach((to, j) => {
      out[to] = values[from[j]!]!;
    });
  }
  return out;
}
