/** Random numbers of the TypeScript side: SplitMix64 (Steele, Lea and Flood 2014). */
export class Random {
  #state: bigint;
  #bits = 0;
  #left = 0;
  #spare: number | undefined;

  /** @param stream uses of one seed that must not share numbers have each their own */
  constructor(seed: number | bigint, stream = 0) {
    this.#state = BigInt(seed);
    if (stream === 0) return;
    this.#state = BigInt.asUintN(64, this.#next() ^ BigInt(stream));
    this.#state = this.#next();
  }

  #next(): bigint {
    this.#state = BigInt.asUintN(64, this.#state + 0x9e3779b97f4a7c15n);
    let z = this.#state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  }

  /** -1 or 1. */
  sign(): number {
    if (this.#left === 0) {
      this.#bits = Number(this.#next() >> 32n);
      this.#left = 32;
    }
    const sign = this.#bits & 1 ? 1 : -1;
    this.#bits >>>= 1;
    this.#left--;
    return sign;
  }

  /** Uniform between -1 and 1. */
  uniform(): number {
    return Number(this.#next() >> 11n) * 2 ** -52 - 1;
  }

  /** Uniform over 0 and below 1. */
  #open(): number {
    return (Number(this.#next() >> 12n) + 0.5) * 2 ** -52;
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    return Math.floor(this.#open() * end);
  }

  /** Standard normal (Box and Muller 1958). */
  normal(): number {
    if (this.#spare !== undefined) {
      const value = this.#spare;
      this.#spare = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(this.#open()));
    const angle = 2 * Math.PI * this.#open();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Chi-square of `freedom` degrees, from the gamma sampler of Marsaglia and Tsang (2000). */
  chiSquare(freedom: number): number {
    if (freedom === 1) return this.normal() ** 2;
    const d = freedom / 2 - 1 / 3;
    const c = 1 / Math.sqrt(9 * d);
    for (;;) {
      const x = this.normal();
      const v = (1 + c * x) ** 3;
      if (v <= 0) continue;
      if (Math.log(this.#open()) < (x * x) / 2 + d - d * v + d * Math.log(v)) return 2 * d * v;
    }
  }
}
