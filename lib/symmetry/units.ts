/** The units of permutation groups as vectors, and the network at its balanced place. */
import { OptionError } from "../errors";
import type { ShapedTensor } from "../model/units";
import { describe } from "../options";
import type { PermutationGroup, UnitPlace } from "./types";

/** A place of a group in the parameter vector: `each` positions a unit, unit after unit. */
interface Place {
  readonly positions: Int32Array;
  readonly each: number;
  readonly side: UnitPlace["side"];
  /** Of a tensor of rank 2 or more: a weight, and no bias or scale. */
  readonly weight: boolean;
}

/** Positions of a unit along the axis of a place. */
function alongAxis({ start, outer, inner, positions }: UnitPlace, size: number, unit: number) {
  return (
    positions?.[unit] ??
    Array.from(
      { length: outer * inner },
      (_, i) => start + (Math.floor(i / inner) * size + unit) * inner + (i % inner),
    )
  );
}

/** Flat positions of the entries of a tensor that have these along each axis. */
function flat(shape: readonly number[], along: readonly (readonly number[])[]): number[] {
  let found = [0];
  shape.forEach((length, axis) => {
    found = found.flatMap((before) => along[axis]!.map((at) => before * length + at));
  });
  return found;
}

/**
 * @throws OptionError where the place lies outside of its tensor, or units differ in size
 */
function placeOf(where: string, place: UnitPlace, size: number, tensor: ShapedTensor): Place {
  const { shape, offset } = tensor;
  const all = shape.map((length) => Array.from({ length }, (_, i) => i));
  for (const { axis, positions } of place.where ?? []) all[axis] = [...positions];
  const positions: number[] = [];
  for (let unit = 0; unit < size; unit++) {
    const along = alongAxis(place, size, unit);
    if (!along.every((at) => at >= 0 && at < (shape[place.axis] ?? 0)))
      throw new OptionError(
        `${where}: expected unit ${unit} of ${size} within axis ${place.axis} of ${tensor.name}, ` +
          `of shape (${shape.join(", ")}), got positions ${along.join(", ")}`,
      );
    all[place.axis] = [...along];
    for (const at of flat(shape, all)) positions.push(offset + at);
  }
  const each = positions.length / size;
  return {
    ...{ positions: Int32Array.from(positions), each },
    ...{ side: place.side, weight: shape.length >= 2 },
  };
}

/** A group of a model: where the numbers of its units are. */
export class UnitGroup {
  readonly name: string;
  /** How many units. */
  readonly size: number;
  /** Weights whose rows make the units. */
  readonly tensors: readonly string[];
  /** Numbers of one unit. */
  readonly length: number;
  readonly #places: readonly Place[];

  /** @throws OptionError where the group is none of the model's */
  constructor(where: string, group: PermutationGroup, parameters: readonly ShapedTensor[]) {
    const { name, size } = group ?? {};
    if (typeof name !== "string" || !Number.isSafeInteger(size) || !Array.isArray(group.places))
      throw new OptionError(
        `${where}: groups: expected permutation groups { name, size, places }, got ${describe(group)}`,
      );
    this.name = name;
    this.size = size;
    const tensors = new Map(parameters.map((tensor) => [tensor.name, tensor]));
    const weights = new Set<string>();
    this.#places = group.places.flatMap((given) => {
      const tensor = tensors.get(given.tensor);
      // Buffers, and tensors that were left out, are constants.
      if (!given.parameter || !tensor) return [];
      const place = placeOf(`${where}: groups: ${name}`, given, size, tensor);
      if (place.weight && place.side !== "out") weights.add(tensor.name);
      return [place];
    });
    this.tensors = [...weights];
    this.length = this.#places.reduce((sum, { each }) => sum + each, 0);
  }

  /** Whether units have numbers on both sides, which a rescaling moves between. */
  get hasBothSides(): boolean {
    const sides = this.#places.map(({ side }) => side);
    return sides.includes("in") && sides.includes("out");
  }

  /** The units as rows, size x length. */
  vectors(theta: Float64Array): Float64Array {
    const rows = new Float64Array(this.size * this.length);
    let begin = 0;
    for (const { positions, each } of this.#places) {
      for (let unit = 0; unit < this.size; unit++)
        for (let i = 0; i < each; i++)
          rows[unit * this.length + begin + i] = theta[positions[unit * each + i]!]!;
      begin += each;
    }
    return rows;
  }

  /** The sum of f over the numbers of each unit on one side, or on all. */
  sums(theta: Float64Array, f: (x: number) => number, side?: Place["side"]): Float64Array {
    const sums = new Float64Array(this.size);
    for (let unit = 0; unit < this.size; unit++) sums[unit] = this.#sum(theta, unit, f, side);
    return sums;
  }

  #sum(theta: Float64Array, unit: number, f: (x: number) => number, side?: Place["side"]): number {
    let sum = 0;
    for (const place of this.#places) {
      if (side !== undefined && place.side !== side) continue;
      const { positions, each } = place;
      for (let i = unit * each; i < (unit + 1) * each; i++) sum += f(theta[positions[i]!]!);
    }
    return sum;
  }

  #scale(theta: Float64Array, unit: number, factor: number, side?: Place["side"]): void {
    for (const place of this.#places) {
      if (side !== undefined && place.side !== side) continue;
      const { positions, each } = place;
      for (let i = unit * each; i < (unit + 1) * each; i++) theta[positions[i]!]! *= factor;
    }
  }

  /** Positions of the weights into the units, ascending, of `count` parameters. */
  weightPositions(count: number): Float64Array {
    const marked = new Uint8Array(count);
    for (const { positions, side, weight } of this.#places)
      if (weight && side !== "out") for (const at of positions) marked[at] = 1;
    const found = new Float64Array(marked.reduce((n, bit) => n + bit, 0));
    let next = 0;
    marked.forEach((bit, i) => {
      if (bit) found[next++] = i;
    });
    return found;
  }

  /**
   * Sets units to zero that nothing goes into or comes out of, in place: rescaling takes them there.
   *
   * @returns whether one was not zero before
   */
  dropIdle(theta: Float64Array): boolean {
    let dropped = false;
    for (let unit = 0; unit < this.size; unit++) {
      const [into, out] = this.#squares(theta, unit);
      if (into > 0 === out > 0) continue;
      for (const side of ["in", "out"] as const) this.#scale(theta, unit, 0, side);
      dropped = true;
    }
    return dropped;
  }

  /**
   * Rescales each unit, in place, so that what goes in is as long as what comes out.
   *
   * @returns the largest |ln| of a factor
   */
  balance(theta: Float64Array): number {
    let largest = 0;
    for (let unit = 0; unit < this.size; unit++) {
      const [into, out] = this.#squares(theta, unit);
      if (!(into > 0) || !(out > 0)) continue;
      const factor = Math.sqrt(Math.sqrt(out / into));
      this.#scale(theta, unit, factor, "in");
      this.#scale(theta, unit, 1 / factor, "out");
      largest = Math.max(largest, Math.abs(Math.log(factor)));
    }
    return largest;
  }

  /**
   * Marks the group's numbers in `taken`, 1 for those that go in and 2 for those that come out,
   * unless another group has one of them on the same side.
   */
  claim(taken: Uint8Array): boolean {
    const bitOf = { in: 1, out: 2, both: 0 } as const;
    const free = this.#places.every(({ positions, side }) =>
      positions.every((at) => (taken[at]! & bitOf[side]) === 0),
    );
    if (free)
      for (const { positions, side } of this.#places)
        for (const at of positions) taken[at]! |= bitOf[side];
    return free;
  }

  #squares(theta: Float64Array, unit: number): [into: number, out: number] {
    const square = (x: number) => x * x;
    return [this.#sum(theta, unit, square, "in"), this.#sum(theta, unit, square, "out")];
  }
}

const MOST_SWEEPS = 1000;

/** Where rescaling has ended: the largest |ln| of a factor. */
const SETTLED = 1e-12;

/**
 * The place of smallest norm that positive rescaling of units reaches: of each unit, what goes in is
 * as long as what comes out. It is unique, and found by rescaling unit after unit (Stock, Graham,
 * Gribonval and Jegou 2019). Networks that differ by the rescaling of units have the same one. Of
 * groups within one another, such as heads of attention and the width of a head, the inner ones are
 * rescaled.
 */
export function balanced(
  theta: Float64Array,
  groups: readonly UnitGroup[],
): { theta: Float64Array; settled: boolean } {
  const at = theta.slice();
  const taken = new Uint8Array(theta.length);
  const free = groups
    .filter((group) => group.hasBothSides)
    .sort((a, b) => a.length - b.length)
    .filter((group) => group.claim(taken));
  while (free.filter((group) => group.dropIdle(at)).length > 0);
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    const largest = free.reduce((most, group) => Math.max(most, group.balance(at)), 0);
    if (largest < SETTLED) return { theta: at, settled: true };
  }
  return { theta: at, settled: false };
}
