/** Eigenvalues of small symmetric tridiagonal matrices, and rows of their eigenvectors. */

export interface TridiagonalEigen {
  /** Ascending. */
  values: Float64Array;
  /** For each row asked for, its entry in every eigenvector. */
  rows: Float64Array[];
}

const MOST_SWEEPS = 200;

/** Several times faster than Math.hypot, which guards against overflow. */
const length = (x: number, y: number) => Math.sqrt(x * x + y * y);

/**
 * By implicit QL (Wilkinson and Reinsch 1971), which keeps small eigenvalues accurate where large
 * entries stand at the end. Costs O(n^2), and O(n^2) a row.
 *
 * @param offDiagonal entry i couples i and i + 1; those from n - 1 on do not count
 */
export function tridiagonalEigen(
  diagonal: ArrayLike<number>,
  offDiagonal: ArrayLike<number>,
  wanted: readonly number[],
): TridiagonalEigen {
  const n = diagonal.length;
  const d = Float64Array.from(diagonal);
  const e = new Float64Array(n);
  for (let i = 0; i + 1 < n; i++) e[i] = offDiagonal[i]!;
  const rows = wanted.map((at) => Float64Array.from({ length: n }, (_, i) => (i === at ? 1 : 0)));
  // Entries of about 1, so that squares neither overflow nor vanish; without rounding.
  const norm = d.reduce((most, x, i) => Math.max(most, Math.abs(x), Math.abs(e[i]!)), 0);
  const unit = norm > 0 ? 2 ** Math.min(1000, Math.max(-1000, Math.floor(Math.log2(norm)))) : 1;
  for (let i = 0; i < n; i++) {
    d[i]! /= unit;
    e[i]! /= unit;
  }
  const floor = Number.EPSILON ** 2;
  for (let low = 0; low < n; low++) {
    for (let sweep = 0; ; sweep++) {
      let high = low;
      while (
        high + 1 < n &&
        Math.abs(e[high]!) >
          Math.max(floor, Number.EPSILON * (Math.abs(d[high]!) + Math.abs(d[high + 1]!)))
      )
        high++;
      if (high === low) break;
      if (sweep === MOST_SWEEPS) throw new Error("a tridiagonal eigenproblem did not converge");
      const g = (d[low + 1]! - d[low]!) / (2 * e[low]!);
      const shift = d[low]! - e[low]! / (g + (g < 0 ? -1 : 1) * length(g, 1));
      chase(d, e, rows, low, high, shift);
    }
  }
  const order = Array.from(d.keys()).sort((i, j) => d[i]! - d[j]!);
  return {
    values: Float64Array.from(order, (i) => d[i]! * unit),
    rows: rows.map((row) => Float64Array.from(order, (i) => row[i]!)),
  };
}

/** One QL sweep from `high` up to `low`. */
function chase(
  d: Float64Array,
  e: Float64Array,
  rows: readonly Float64Array[],
  low: number,
  high: number,
  shift: number,
): void {
  let g = d[high]! - shift;
  let sine = 1;
  let cosine = 1;
  let p = 0;
  for (let i = high - 1; i >= low; i--) {
    const f = sine * e[i]!;
    const b = cosine * e[i]!;
    const r = length(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1]! -= p;
      e[high] = 0;
      return;
    }
    sine = f / r;
    cosine = g / r;
    g = d[i + 1]! - p;
    const turn = (d[i]! - g) * sine + 2 * cosine * b;
    p = sine * turn;
    d[i + 1] = g + p;
    g = cosine * turn - b;
    for (const row of rows) {
      const next = row[i + 1]!;
      row[i + 1] = sine * row[i]! + cosine * next;
      row[i] = cosine * row[i]! - sine * next;
    }
  }
  d[low]! -= p;
  e[low] = g;
  e[high] = 0;
}
