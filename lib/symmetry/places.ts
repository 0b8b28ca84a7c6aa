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

/** Offsets of all combinations of positions along some axes. */
function combined(along: readonly (readonly number[])[], strides: readonly number[]): number[] {
  let offsets = [0];
  along.forEach((positions, i) => {
    const steps = positions.map((position) => position * strides[i]!);
    offsets = offsets.flatMap((offset) => steps.map((step) => offset + step));
  });
  return offsets;
}

/**
 * The indices, in a row-major tensor of this shape, of the numbers of each unit, in the same sequence
 * for all: what is at the same place in the lists of two units changes places when they do.
 */
export function unitOffsets(shape: readonly number[], place: Placed, size: number): Int32Array[] {
  const only = new Map(place.where?.map(({ axis, positions }) => [axis, positions]));
  const along = shape.map((length, axis) => only.get(axis) ?? Array.from({ length }, (_, i) => i));
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const { axis } = place;
  const before = combined(along.slice(0, axis), strides);
  const after = combined(along.slice(axis + 1), strides.slice(axis + 1));
  return Array.from({ length: size }, (_, unit) => {
    const own = unitPositions(place, size, unit);
    const offsets = new Int32Array(before.length * own.length * after.length);
    let next = 0;
    for (const first of before)
      for (const position of own)
        for (const last of after) offsets[next++] = first + position * strides[axis]! + last;
    return offsets;
  });
}
