/** A choice of parameters: one bit for each entry of the parameter vector. */
import { OptionError } from "../errors";
import { describe } from "../options";

/** A run of the parameter vector that one tensor takes up. */
export interface Segment {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

/** Which entries of a parameter vector are kept, by `restrict` and `project` for example. */
export class Mask {
  /** 1 where the entry is kept, else 0. */
  readonly bits: Uint8Array;
  /** How many are kept. */
  readonly count: number;
  /** The tensors that the bits belong to, in order. */
  readonly parameters: readonly Segment[];

  /**
   * @param parameters those of the model, or of an operator
   * @param bits one entry for each of their numbers; anything but 0 and false keeps it
   * @throws OptionError when there are more or fewer entries than parameters
   */
  constructor(parameters: readonly Segment[], bits: ArrayLike<number | boolean>) {
    const size = parameters.reduce((sum, segment) => sum + segment.size, 0);
    if (bits.length !== size)
      throw new OptionError(
        `mask: expected ${size} entries, one a parameter, got ${describe(bits)}`,
      );
    this.parameters = parameters.map(({ name, offset, size }) => ({ name, offset, size }));
    this.bits = Uint8Array.from(bits, (bit) => (bit ? 1 : 0));
    this.count = this.bits.reduce((sum, bit) => sum + bit, 0);
  }

  /** The number of entries, kept or not. */
  get size(): number {
    return this.bits.length;
  }

  /** Kept entries of each tensor. */
  layers(): { name: string; kept: number; size: number }[] {
    return this.parameters.map(({ name, offset, size }) => ({
      name,
      kept: this.bits.subarray(offset, offset + size).reduce((sum, bit) => sum + bit, 0),
      size,
    }));
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
}
