/** A choice of parameters: one bit for each entry of the parameter vector. */
import { OptionError } from "../errors";
import { describe } from "../options";

/** A run of the parameter vector that one tensor takes up. */
export interface Segment {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** What a mask keeps of a tensor. */
export interface MaskLayer {
  readonly name: string;
  readonly kept: number;
  readonly size: number;
}

/** Which entries of a parameter vector are kept, by `restrict` and `project` for example. */
export class Mask {
  /** 1 where the entry is kept, else 0. */
  readonly bits: Uint8Array;
  /** How many are kept. */
  readonly count: number;
  /** The tensors that the bits belong to, in order; with their shapes where those were given. */
  readonly parameters: readonly (Segment & { readonly shape?: readonly number[] })[];
  /** What it is called in tables and files, such as "movement". Default "mask". */
  readonly name: string;

  /**
   * @param parameters those of the model, or of an operator
   * @param bits one entry for each of their numbers; anything but 0 and false keeps it
   * @throws OptionError when there are more or fewer entries than parameters
   */
  constructor(
    parameters: readonly (Segment & { readonly shape?: readonly number[] })[],
    bits: ArrayLike<number | boolean>,
    name = "mask",
  ) {
    const size = parameters.reduce((sum, segment) => sum + segment.size, 0);
    if (bits.length !== size)
      throw new OptionError(
        `mask: expected ${size} entries, one a parameter, got ${describe(bits)}`,
      );
    this.parameters = parameters.map(({ name, offset, size, shape }) => ({
      name,
      offset,
      size,
      ...(shape && { shape: [...shape] }),
    }));
    this.bits = new Uint8Array(size);
    for (let i = 0; i < size; i++) this.bits[i] = bits[i] ? 1 : 0;
    this.count = ones(this.bits);
    this.name = name;
  }

  /** The number of entries, kept or not. */
  get size(): number {
    return this.bits.length;
  }

  /** The share of entries that are not kept. */
  get sparsity(): number {
    return this.size === 0 ? 0 : 1 - this.count / this.size;
  }

  /** Kept entries of each tensor. */
  layers(): MaskLayer[] {
    return this.parameters.map(({ name, offset, size }) => ({
      name,
      kept: ones(this.bits.subarray(offset, offset + size)),
      size,
    }));
  }

  /** Tensors of which nothing is kept: signals do not pass them any more. */
  collapsed(): string[] {
    return this.layers()
      .filter(({ kept, size }) => kept === 0 && size > 0)
      .map(({ name }) => name);
  }

  /** Positions of the kept entries, ascending. */
  indices(): Float64Array {
    const indices = new Float64Array(this.count);
    let next = 0;
    this.bits.forEach((bit, i) => {
      if (bit) indices[next++] = i;
    });
    return indices;
  }

  /** The same under another name. */
  named(name: string): Mask {
    return new Mask(this.parameters, this.bits, name);
  }

  /** What both keep. @throws OptionError for a mask of other tensors, as all below */
  and(other: Mask): Mask {
    return this.#join(other, "and", (a, b) => a & b);
  }

  /** What either keeps. */
  or(other: Mask): Mask {
    return this.#join(other, "or", (a, b) => a | b);
  }

  /** What this keeps and the other does not. */
  minus(other: Mask): Mask {
    return this.#join(other, "minus", (a, b) => a & ~b);
  }

  /** What one of them keeps and the other does not. */
  xor(other: Mask): Mask {
    return this.#join(other, "xor", (a, b) => a ^ b);
  }

  /** What this does not keep: of tensors that are kept whole, such as biases, nothing. */
  not(): Mask {
    const bits = this.bits.map((bit) => 1 - bit);
    return new Mask(this.parameters, bits, `not ${this.name}`);
  }

  /** Whether both keep the same. */
  equals(other: Mask): boolean {
    requireAlike("equals", this, other);
    return this.bits.every((bit, i) => bit === other.bits[i]);
  }

  /** Whether the other keeps all that this keeps. */
  isSubsetOf(other: Mask): boolean {
    requireAlike("isSubsetOf", this, other);
    return this.bits.every((bit, i) => bit <= other.bits[i]!);
  }

  #join(other: Mask, how: string, join: (a: number, b: number) => number): Mask {
    requireAlike(how, this, other);
    const bits = this.bits.map((bit, i) => join(bit, other.bits[i]!));
    return new Mask(this.parameters, bits, `${this.name} ${how} ${other.name}`);
  }
}

function ones(bits: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bits.length; i++) sum += bits[i]!;
  return sum;
}

/** @internal @throws OptionError where two masks are of other tensors */
export function requireAlike(where: string, a: Mask, b: Mask): void {
  for (const mask of [a, b])
    if (!(mask instanceof Mask))
      throw new OptionError(`${where}: expected a Mask, got ${describe(mask)}`);
  if (a.parameters.length !== b.parameters.length)
    throw new OptionError(
      `${where}: expected masks of the same tensors, got ${a.parameters.length} and ` +
        `${b.parameters.length} tensors`,
    );
  a.parameters.forEach(({ name, size }, i) => {
    const other = b.parameters[i]!;
    if (name !== other.name || size !== other.size)
      throw new OptionError(
        `${where}: expected masks of the same tensors, got ${name} of ${size} entries and ` +
          `${other.name} of ${other.size}`,
      );
  });
}
