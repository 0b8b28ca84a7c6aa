/** A small generator for probe vectors: SplitMix64 (Steele, Lea and Flood 2014). */
export class Random {
  #state: bigint;
  #bits = 0;
  #left = 0;

  constructor(seed: bigint) {
    this.#state = seed;
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
}
