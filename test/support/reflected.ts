/** Operators whose eigenvectors are the columns of a reflection, so that everything about them is known. */
import { linearOperator } from "../../lib";
import { normals } from "./numbers";

/** f(0) .. f(n - 1). */
export const range = (n: number, f: (i: number) => number) =>
  Float64Array.from({ length: n }, (_, i) => f(i));

// Spectra that solvers find hard.
export const SPECTRA: Record<string, Float64Array> = {
  bulk: range(150, (i) => Math.cos((Math.PI * (i + 0.5)) / 150)),
  "bulk and outliers": range(150, (i) => (i < 4 ? 20 + 10 * i : 0.01 * Math.cos(i))),
  "pairs of both signs": range(120, (i) => (i % 2 ? 1 : -1) * (1 + Math.floor(i / 2)) ** 1.5),
  "16 orders": range(130, (i) => 10 ** (-16 * (i / 129))),
  clusters: range(140, (i) => (i % 4) + 1e-9 * Math.sin(i)),
  "exact low rank": range(160, (i) => (i < 7 ? i + 1 : 0)),
  "large and shifted": range(100, (i) => 1e6 + Math.sin(i)),
};

/**
 * H D H for a reflection H = I - 2 u u^T, so that the share of a vector v on eigenvalue i is
 * (H v)_i^2. `probes` collects the first block that is asked for.
 */
export function reflected(values: ArrayLike<number>, dtype: "float32" | "float64" = "float64") {
  const n = values.length;
  const u = normals(5, n);
  const length = Math.hypot(...u);
  const unit = u.map((x) => x / length);
  const reflect = (v: ArrayLike<number>) => {
    let inner = 0;
    for (let i = 0; i < n; i++) inner += unit[i]! * v[i]!;
    return Float64Array.from(v, (x, i) => x - 2 * inner * unit[i]!);
  };
  let seen: Float64Array[] = [];
  const operator = linearOperator(
    n,
    (V, count) => {
      const rows = Array.from({ length: count }, (_, k) => V.subarray(k * n, (k + 1) * n));
      if (seen.length === 0) seen = rows.map((row) => Float64Array.from(row));
      rows.forEach((row) => {
        row.set(reflect(reflect(row).map((x, i) => x * values[i]!)));
      });
      return V;
    },
    { dtype },
  );
  /** The share of probe k on eigenvalues up to x. */
  const share = (k: number, x: number) =>
    reflect(seen[k]!).reduce((sum, y, i) => sum + (values[i]! <= x ? y * y : 0), 0);
  return { operator, share };
}
