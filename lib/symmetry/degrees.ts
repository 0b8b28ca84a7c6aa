/**
 * Powers to which values scale when parameters are scaled: an unknown degree for each parameter, and
 * for every value a linear form of those. What primitives demand of degrees is a linear system whose
 * solutions are the scalings that the output does not see.
 */

/** Coefficients by unknown; undefined is 0. */
export type Form = Float64Array | undefined;

export function plus(a: Form, b: Form, factor = 1): Form {
  if (!b || factor === 0) return a;
  if (!a) return factor === 1 ? b : b.map((x) => factor * x);
  const out = a.map((x, i) => x + factor * b[i]!);
  return out.every((x) => x === 0) ? undefined : out;
}

export const at = (form: Form, solution: ArrayLike<number>): number =>
  form ? form.reduce((sum, x, i) => sum + x * solution[i]!, 0) : 0;

/** Forms that have to be 0, in reduced rows; over the rationals, or of whole numbers modulo 2. */
export class Demands {
  readonly #rows = new Map<number, Float64Array>();

  constructor(
    readonly unknowns: number,
    readonly parity: boolean,
  ) {}

  #less(row: Float64Array, factor: number, by: Float64Array): void {
    for (let i = 0; i < row.length; i++) {
      row[i]! -= factor * by[i]!;
      if (this.parity) row[i] = Math.abs(row[i]! % 2);
      else if (Math.abs(row[i]!) < 1e-9) row[i] = 0;
    }
  }

  add(form: Form): void {
    if (!form) return;
    const row = form.slice();
    if (this.parity) for (let i = 0; i < row.length; i++) row[i] = Math.abs(row[i]! % 2);
    for (const [pivot, known] of this.#rows)
      if (row[pivot] !== 0) this.#less(row, row[pivot]!, known);
    const pivot = row.findLastIndex((x) => x !== 0);
    if (pivot < 0) return;
    const lead = row[pivot]!;
    for (let i = 0; i < row.length; i++) row[i]! /= lead;
    for (const known of this.#rows.values())
      if (known[pivot] !== 0) this.#less(known, known[pivot]!, row);
    this.#rows.set(pivot, row);
  }

  /** A basis of what fulfils all demands: one vector for each unknown that is free. */
  solutions(): Float64Array[] {
    const out: Float64Array[] = [];
    for (let free = 0; free < this.unknowns; free++) {
      if (this.#rows.has(free)) continue;
      const vector = new Float64Array(this.unknowns);
      vector[free] = 1;
      for (const [pivot, row] of this.#rows) {
        const value = -row[free]!;
        vector[pivot] = this.parity ? Math.abs(value % 2) : value === 0 ? 0 : value;
      }
      out.push(vector);
    }
    return out;
  }
}
