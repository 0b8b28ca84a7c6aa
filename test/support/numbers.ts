/** What tests compute by themselves: random numbers, errors, small dense matrices. */

/** Uniform numbers from (0, 1), the same ones for the same seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
}

/** `count` normal numbers, rounded to float32 so that both precisions start from the same. */
export function normals(seed: number, count: number, scale = 1): Float64Array {
  const next = uniform(seed);
  return Float64Array.from({ length: count }, () =>
    Math.fround(scale * Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next())),
  );
}

/** `count` whole numbers from 0 to below `end`. */
export function integers(seed: number, count: number, end: number): Int32Array {
  const next = uniform(seed);
  return Int32Array.from({ length: count }, () => Math.floor(next() * end));
}

export function maxAbs(a: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]!));
  return most;
}

/** Largest error over `scale`, by default the largest magnitude wanted; NaN counts as infinity. */
export function errorOf(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  scale = maxAbs(want),
): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    const error = Math.abs(got[i]! - want[i]!);
    if (!Number.isFinite(error)) return Number.POSITIVE_INFINITY;
    worst = Math.max(worst, error);
  }
  return worst === 0 ? 0 : worst / scale;
}

export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

export const norm = (a: ArrayLike<number>) => Math.sqrt(dot(a, a));

/** A square matrix, row by row. */
export type Matrix = Float64Array[];

export const identity = (n: number): Float64Array =>
  Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));

export const rowsOf = (flat: ArrayLike<number>, width: number): Matrix =>
  Array.from({ length: flat.length / width }, (_, i) =>
    Float64Array.from({ length: width }, (_, j) => flat[i * width + j]!),
  );

export const times = (matrix: Matrix, v: ArrayLike<number>): Float64Array =>
  Float64Array.from(matrix, (row) => dot(row, v));

/** sum_i weights_i rows_i rows_i^T. */
export function outerSum(rows: ArrayLike<number>[], weights?: ArrayLike<number>): Matrix {
  const n = rows[0]!.length;
  const sum = Array.from({ length: n }, () => new Float64Array(n));
  rows.forEach((row, r) => {
    const weight = weights ? weights[r]! : 1;
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) sum[i]![j]! += weight * row[i]! * row[j]!;
  });
  return sum;
}

/** Eigenvalues of a symmetric matrix, largest first, by cyclic Jacobi rotations. */
export function eigenvalues(symmetric: Matrix): number[] {
  const a = symmetric.map((row) => Float64Array.from(row));
  const n = a.length;
  const size = Math.max(...a.map(norm), Number.MIN_VALUE);
  for (let sweep = 0; sweep < 60; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        const apq = a[p]![q]!;
        off = Math.max(off, Math.abs(apq));
        if (Math.abs(apq) < 1e-300) continue;
        const tau = (a[q]![q]! - a[p]![p]!) / (2 * apq);
        const t = (tau < 0 ? -1 : 1) / (Math.abs(tau) + Math.sqrt(1 + tau * tau));
        const c = 1 / Math.sqrt(1 + t * t);
        const s = c * t;
        for (const row of a) {
          const [x, y] = [row[p]!, row[q]!];
          row[p] = c * x - s * y;
          row[q] = s * x + c * y;
        }
        for (let i = 0; i < n; i++) {
          const [x, y] = [a[p]![i]!, a[q]![i]!];
          a[p]![i] = c * x - s * y;
          a[q]![i] = s * x + c * y;
        }
      }
    if (off < 1e-17 * size) break;
  }
  return a.map((row, i) => row[i]!).sort((x, y) => y - x);
}
