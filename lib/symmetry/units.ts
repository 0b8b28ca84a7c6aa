/** The units of permutation groups as vectors, and the network at its balanced place. */
import { OptionError } from "../errors";
import type { ShapedTensor } from "../model/units";
import { describe } from "../options";
import type { PermutationGroup, UnitPlace } from "./types";

/** A place of a group in the parameter vector. */
interface Place {
  /** Of unit 0. */
  readonly at: number;
  readonly outer: number;
  readonly inner: number;
  readonly side: UnitPlace["side"];
  /** Of a tensor of rank 2 or more: a weight, and no bias or scale. */
  readonly weight: boolean;
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
    this.#places = group.places.flatMap(({ tensor: of, start, outer, inner, side, parameter }) => {
      const tensor = tensors.get(of);
      // Buffers, and tensors that were left out, are constants.
      if (!parameter || !tensor) return [];
      if (start < 0 || start + outer * size * inner > tensor.size)
        throw new OptionError(
          `${where}: groups: ${name}: expected ${size} units within ${of} of ${tensor.size} ` +
            `numbers, got ${outer} x ${size} x ${inner} from ${start}`,
        );
      const weight = tensor.shape.length >= 2;
      if (weight && side !== "out") weights.add(of);
      return [{ at: tensor.offset + start, outer, inner, side, weight }];
    });
    this.tensors = [...weights];
    this.length = this.#places.reduce((sum, { outer, inner }) => sum + outer * inner, 0);
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
    for (const { at, outer, inner } of this.#places) {
      for (let unit = 0; unit < this.size; unit++)
        for (let o = 0; o < outer; o++) {
          const from = at + (o * this.size + unit) * inner;
          rows.set(theta.subarray(from, from + inner), unit * this.length + begin + o * inner);
        }
      begin += outer * inner;
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
      for (let o = 0; o < place.outer; o++) {
        const from = place.at + (o * this.size + unit) * place.inner;
        for (let j = 0; j < place.inner; j++) sum += f(theta[from + j]!);
      }
    }
    return sum;
  }

  #scale(theta: Float64Array, unit: number, factor: number, side?: Place["side"]): void {
    for (const place of this.#places) {
      if (side !== undefined && place.side !== side) continue;
      for (let o = 0; o < place.outer; o++) {
        const from = place.at + (o * this.size + unit) * place.inner;
        for (let j = 0; j < place.inner; j++) theta[from + j]! *= factor;
      }
    }
  }

  /** Positions of the weights into the units, ascending, of `count` parameters. */
  weightPositions(count: number): Float64Array {
    const marked = new Uint8Array(count);
    for (const { at, outer, inner, side, weight } of this.#places)
      if (weight && side !== "out") marked.fill(1, at, at + outer * this.size * inner);
    const positions = new Float64Array(marked.reduce((n, bit) => n + bit, 0));
    let next = 0;
    marked.forEach((bit, i) => {
      if (bit) positions[next++] = i;
    });
    return positions;
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
 * Gribonval and Jegou 2019). Networks that differ by the rescaling of units have the same one.
 */
export function balanced(
  theta: Float64Array,
  groups: readonly UnitGroup[],
): { theta: Float64Array; settled: boolean } {
  const at = theta.slice();
  const free = groups.filter((group) => group.hasBothSides);
  while (free.filter((group) => group.dropIdle(at)).length > 0);
  for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    const largest = free.reduce((most, group) => Math.max(most, group.balance(at)), 0);
    if (largest < SETTLED) return { theta: at, settled: true };
  }
  return { theta: at, settled: false };
}
