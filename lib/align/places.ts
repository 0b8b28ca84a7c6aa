/** Units in tensors: taken out, put in another order, by the places that a group lists. */
import { OptionError } from "../errors";
import { type Placed, unitOffsets, unitPositions } from "../symmetry/places";
import type { PermutationGroup } from "../symmetry/types";

/** How a tensor is stored: row-major, of this shape. */
export type Shape = readonly number[];

/** Where units lie in a tensor. */
export type Layout = Placed;

/**
 * @throws OptionError where a place lies outside of its tensor
 */
export function checkPlace(
  where: string,
  name: string,
  shape: Shape,
  size: number,
  layout: Layout,
): void {
  const { axis, start, outer, inner } = layout;
  const within = (along: number, positions: readonly number[]) =>
    positions.every((at) => at >= 0 && at < (shape[along] ?? 0));
  const fits =
    [0, size - 1].every((unit) => within(axis, unitPositions(layout, size, unit))) &&
    (layout.where ?? []).every((part) => within(part.axis, part.positions));
  if (!fits)
    throw new OptionError(
      `${where}: ${name}: expected ${layout.positions ? "given positions" : `${outer} x ${size} x ${inner} positions from ${start}`} ` +
        `along axis ${axis}, got the shape (${shape.join(", ")})`,
    );
}

/** Where the numbers of each unit are in a tensor: as many a unit, in the same sequence. */
export interface UnitIndices {
  /** count x width. */
  readonly indices: Int32Array;
  readonly width: number;
}

export function unitIndices(shape: Shape, size: number, layout: Layout): UnitIndices {
  const offsets = unitOffsets(shape, layout, size);
  const width = offsets[0]!.length;
  const indices = new Int32Array(size * width);
  offsets.forEach((each, unit) => {
    indices.set(each, unit * width);
  });
  return { indices, width };
}

/** The tensor with another order along a place: new unit i is old unit order[i]. */
export function permutePlace(
  values: Float64Array,
  { indices, width }: UnitIndices,
  order: ArrayLike<number>,
): Float64Array {
  const out = values.slice();
  for (let i = 0; i < order.length; i++) {
    if (order[i] === i) continue;
    const [to, from] = [i * width, order[i]! * width];
    for (let j = 0; j < width; j++) out[indices[to + j]!] = values[indices[from + j]!]!;
  }
  return out;
}

/** What each unit has at a place, a row a unit. */
export function unitRows(values: Float64Array, { indices }: UnitIndices): Float64Array {
  const rows = new Float64Array(indices.length);
  for (let i = 0; i < indices.length; i++) rows[i] = values[indices[i]!]!;
  return rows;
}

/** Rows of numbers by what is not zero in them: output unit i is the sum of weight times unit. */
export type Mixing = readonly (readonly (readonly [unit: number, weight: number])[])[];

/**
 * The units of one tensor mixed into those of another: new unit i is the sum over `mixing[i]`, and
 * numbers outside of all places are copied in their order.
 *
 * @param size of the new tensor
 * @param places pairwise: where units go, and where they come from
 */
export function mixUnits(
  values: Float64Array,
  size: number,
  places: readonly { to: UnitIndices; from: UnitIndices; mixing: Mixing }[],
): Float64Array {
  const out = new Float64Array(size);
  const outside = (which: "to" | "from", length: number) => {
    const used = new Uint8Array(length);
    for (const place of places) for (const at of place[which].indices) used[at] = 1;
    return [...used.keys()].filter((at) => !used[at]);
  };
  const [free, kept] = [outside("to", size), outside("from", values.length)];
  if (free.length !== kept.length || places.some(({ to, from }) => to.width !== from.width))
    throw new OptionError(
      `fusion: expected tensors that differ by the widths of units only, got ${free.length} and ` +
        `${kept.length} numbers outside of units`,
    );
  free.forEach((at, i) => {
    out[at] = values[kept[i]!]!;
  });
  for (const { to, from, mixing } of places)
    mixing.forEach((terms, i) => {
      for (const [unit, weight] of terms)
        for (let j = 0; j < to.width; j++)
          out[to.indices[i * to.width + j]!]! +=
            weight * values[from.indices[unit * to.width + j]!]!;
    });
  return out;
}

/** @throws OptionError where it is no permutation of the group's units */
export function checkOrder(
  where: string,
  { name, size }: PermutationGroup,
  order: ArrayLike<number>,
): Int32Array {
  const seen = new Uint8Array(size);
  const length = order?.length;
  const fail = (got: string): never => {
    throw new OptionError(
      `${where}: ${name}: expected a permutation of 0 to ${size - 1}, got ${got}`,
    );
  };
  if (typeof length !== "number") fail(String(order));
  if (length !== size) fail(`${length} numbers`);
  for (let i = 0; i < size; i++) {
    const unit = order[i]!;
    if (!Number.isInteger(unit) || unit < 0 || unit >= size) fail(`${unit} at index ${i}`);
    if (seen[unit]) fail(`${unit} twice`);
    seen[unit] = 1;
  }
  return Int32Array.from(order);
}

/** The order that undoes an order. */
export function inverseOrder(order: ArrayLike<number>): Int32Array {
  const inverse = new Int32Array(order.length);
  for (let i = 0; i < order.length; i++) inverse[order[i]!] = i;
  return inverse;
}

export const identityOrder = (size: number): Int32Array =>
  Int32Array.from({ length: size }, (_, i) => i);
