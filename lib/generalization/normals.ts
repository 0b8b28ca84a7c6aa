/** Many normal numbers: xoshiro128++ (Blackman and Vigna 2021), seeded by SplitMix64. */
import { Random } from "../random";

export class Normals {
  readonly #state = new Uint32Array(4);
  #spare: number | undefined;

  /** @param stream uses of one seed that must not share numbers have each their own */
  constructor(seed: number | bigint, stream: number) {
    const random = new Random(seed, stream);
    do {
      for (let i = 0; i < 4; i++) this.#state[i] = random.below(2 ** 32);
    } while (this.#state.every((word) => word === 0));
  }

  /** 32 random bits. */
  #bits(): number {
    const s = this.#state;
    const sum = (s[0]! + s[3]!) | 0;
    const result = (((sum << 7) | (sum >>> 25)) + s[0]!) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = (s[3]! << 11) | (s[3]! >>> 21);
    return result;
  }

  /** Uniform over 0 and below 1, of 52 bits. */
  uniform(): number {
    const high = this.#bits() >>> 6;
    return (high * 2 ** 26 + (this.#bits() >>> 6) + 0.5) * 2 ** -52;
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.uniform() * end);
  }

  /** Standard normal, by the polar method (Marsaglia and Bray 1964). */
  next(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    for (;;) {
      const x = 2 * this.uniform() - 1;
      const y = 2 * this.uniform() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      this.#spare = y * factor;
      return x * factor;
    }
  }

  fill(values: Float64Array): Float64Array {
    for (let i = 0; i < values.length; i++) values[i] = this.next();
    return values;
  }
}
