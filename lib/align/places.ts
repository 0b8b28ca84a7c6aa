/** Units in tensors: taken out, put in another order, by the places that a group lists. */
import { OptionError } from "../errors";
import type { PermutationGroup, UnitPlace } from "../symmetry/types";

/** How a tensor is stored: row-major, of this shape. */
export type Shape = readonly number[];

/** A tensor around an axis: `before` times `length` times `stride` numbers. */
interface Around {
  readonly before: number;
  readonly length: number;
  readonly stride: number;
}

function around(shape: Shape, axis: number): Around {
  const product = (part: Shape) => part.reduce((total, n) => total * n, 1);
  return {
    before: product(shape.slice(0, axis)),
    length: shape[axis]!,
    stride: product(shape.slice(axis + 1)),
  };
}

/** Where units lie along an axis. */
export type Layout = Pick<UnitPlace, "axis" | "start" | "outer" | "inner">;

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
  const length = shape[axis];
  if (length === undefined || start < 0 || start + outer * size * inner > length)
    throw new OptionError(
      `${where}: ${name}: expected ${outer} x ${size} x ${inner} positions from ${start} along ` +
        `axis ${axis}, got the shape (${shape.join(", ")})`,
    );
}

/** Blocks of numbers that belong to one unit, as `move(from, to)` offsets for each pair of units. */
function eachBlock(
  shape: Shape,
  size: number,
  { axis, start, outer, inner }: Layout,
  visit: (first: number, block: number, width: number) => void,
): void {
  const { before, length, stride } = around(shape, axis);
  const width = inner * stride;
  for (let p = 0; p < before; p++)
    for (let o = 0; o < outer; o++)
      visit((p * length + start) * stride + o * size * width, p * outer + o, width);
}

/** The tensor with another order along a place: new unit i is old unit order[i]. */
export function permutePlace(
  values: Float64Array,
  shape: Shape,
  layout: Layout,
  order: ArrayLike<number>,
): Float64Array {
  const out = values.slice();
  eachBlock(shape, order.length, layout, (first, _, width) => {
    for (let i = 0; i < order.length; i++) {
      const from = first + order[i]! * width;
      if (order[i] !== i) out.set(values.subarray(from, from + width), first + i * width);
    }
  });
  return out;
}

/** What each unit has at a place, a row a unit. */
export function unitRows(
  values: Float64Array,
  shape: Shape,
  layout: Layout,
  size: number,
): { rows: Float64Array; width: number } {
  const { before, stride } = around(shape, layout.axis);
  const whole = before * layout.outer * layout.inner * stride;
  const rows = new Float64Array(size * whole);
  eachBlock(shape, size, layout, (first, block, width) => {
    for (let i = 0; i < size; i++) {
      const from = first + i * width;
      rows.set(values.subarray(from, from + width), i * whole + block * width);
    }
  });
  return { rows, width: whole };
}

/** Rows of numbers by what is not zero in them: output unit i is the sum of weight times unit. */
export type Mixing = readonly (readonly (readonly [unit: number, weight: number])[])[];

/**
 * The units of one tensor mixed into those of another: along the axis, new unit i is the sum over
 * `mixing[i]`, and positions outside of all places are copied in their order.
 *
 * @param to the layouts along the axis of the new tensor, `from` those of the old, pairwise
 * @param length of the axis of the new tensor
 */
export function mixAxis(
  values: Float64Array,
  shape: Shape,
  axis: number,
  length: number,
  places: readonly { to: Layout; from: Layout; mixing: Mixing; units: number }[],
): Float64Array {
  const { before, length: old, stride } = around(shape, axis);
  const out = new Float64Array(before * length * stride);
  const taken = (which: "to" | "from", n: number) => {
    const used = new Uint8Array(n);
    for (const place of places) {
      const { start, outer, inner } = place[which];
      const size = which === "to" ? place.mixing.length : place.units;
      used.fill(1, start, start + outer * size * inner);
    }
    return [...used.keys()].filter((at) => !used[at]);
  };
  const [free, kept] = [taken("to", length), taken("from", old)];
  if (free.length !== kept.length)
    throw new OptionError(
      `fusion: expected as many fixed positions along axis ${axis} in both networks, got ` +
        `${free.length} and ${kept.length}`,
    );
  for (let p = 0; p < before; p++) {
    free.forEach((at, i) => {
      const from = (p * old + kept[i]!) * stride;
      out.set(values.subarray(from, from + stride), (p * length + at) * stride);
    });
    for (const { to, from, mixing, units } of places) {
      const width = to.inner * stride;
      for (let o = 0; o < to.outer; o++)
        mixing.forEach((terms, i) => {
          const at = (p * length + to.start) * stride + (o * mixing.length + i) * width;
          for (const [unit, weight] of terms) {
            const source = (p * old + from.start) * stride + (o * units + unit) * width;
            for (let j = 0; j < width; j++) out[at + j]! += weight * values[source + j]!;
          }
        });
    }
  }
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
