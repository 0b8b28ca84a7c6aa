/** Small dense algebra on sets of vectors: orthonormal bases and singular values. */
import { DataMismatchError, OptionError } from "../errors";
import { LinearOperator } from "../linear-operator";
import type { Vectors } from "../native";
import { describe, typeName } from "../options";
import { dot } from "../vectors";

/** Vectors one after the other, as `eigsh` returns them: `vectors` holds k x dim numbers. */
export interface VectorSet {
  readonly vectors: Vectors;
  readonly dim: number;
}

export type Rows = Float64Array[];

function addTo(a: Float64Array, factor: number, b: Float64Array): void {
  for (let i = 0; i < a.length; i++) a[i]! += factor * b[i]!;
}

/**
 * The vectors as rows of float64.
 *
 * @throws OptionError; DataMismatchError where a number is not finite
 */
export function rowsOf(where: string, name: string, set: VectorSet): Rows {
  const fail = (got: string): never => {
    throw new OptionError(
      `${where}: ${name}: expected eigenpairs or { vectors, dim } with k times dim numbers, got ${got}`,
    );
  };
  if (typeof set !== "object" || set === null || set instanceof LinearOperator)
    return fail(describe(set));
  const { vectors, dim } = set;
  if (!/^Float(32|64)Array$/.test(typeName(vectors)))
    return fail(`${describe(vectors)} in vectors`);
  if (!Number.isSafeInteger(dim) || dim < 1) return fail(`the dim ${describe(dim)}`);
  const count = vectors.length / dim;
  if (!Number.isInteger(count) || count < 1)
    return fail(`${vectors.length} numbers for the dim ${dim}`);
  if (count > dim) return fail(`${count} vectors of dimension ${dim}, which cannot be independent`);
  const bad = vectors.findIndex((x: number) => !Number.isFinite(x));
  if (bad >= 0)
    throw new DataMismatchError(
      `${where}: ${name}: expected finite numbers, got ${vectors[bad]} at index ${bad % dim} of ` +
        `vector ${Math.floor(bad / dim)}`,
    );
  return Array.from({ length: count }, (_, i) =>
    Float64Array.from(vectors.subarray(i * dim, (i + 1) * dim)),
  );
}

/**
 * An orthonormal basis of what the vectors span, by Gram-Schmidt done twice (Giraud et al. 2005).
 * They need not be orthonormal; that of eigenvectors in float32 is only so to 1e-6.
 *
 * @throws OptionError where they depend on one another
 */
export function basisOf(where: string, name: string, set: VectorSet): Rows {
  const rows = rowsOf(where, name, set);
  const least = typeName(set.vectors) === "Float32Array" ? 1e-5 : 1e-11;
  rows.forEach((row, i) => {
    const before = Math.sqrt(dot(row, row));
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) addTo(row, -dot(row, rows[j]!), rows[j]!);
    const after = Math.sqrt(dot(row, row));
    if (!(after > least * before))
      throw new OptionError(
        `${where}: ${name}: expected independent vectors, and vector ${i} ` +
          (before === 0 ? "is zero" : "is a combination of those before it"),
      );
    for (let at = 0; at < row.length; at++) row[at]! /= after;
  });
  return rows;
}

/** All inner products of two sets of rows. */
export function gramOf(a: Rows, b: Rows): Rows {
  return a.map((row) => Float64Array.from(b, (other) => dot(row, other)));
}

/** What is left of each row outside of an orthonormal basis. */
export function outside(rows: Rows, basis: Rows): Rows {
  return rows.map((row) => {
    const rest = row.slice();
    for (let pass = 0; pass < 2; pass++)
      for (const unit of basis) addTo(rest, -dot(rest, unit), unit);
    return rest;
  });
}

/** A lower triangle L with the Gram matrix of the rows, rows = L Q: as many rows, short ones. */
export function triangleOf(rows: Rows): Rows {
  const units: (Float64Array | undefined)[] = [];
  return rows.map((row, i) => {
    const rest = row.slice();
    const out = new Float64Array(rows.length);
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) {
        const unit = units[j];
        if (!unit) continue;
        const part = dot(rest, unit);
        out[j]! += part;
        addTo(rest, -part, unit);
      }
    const size = Math.sqrt(dot(rest, rest));
    // What rounding left of nothing has no direction.
    const real = size > 1e-15 * Math.sqrt(dot(row, row));
    if (real) for (let at = 0; at < rest.length; at++) rest[at]! /= size;
    out[i] = real ? size : 0;
    units.push(real ? rest : undefined);
    return out;
  });
}

/**
 * Singular values of the matrix with these rows, largest first, by one-sided Jacobi rotations
 * (Hestenes 1958), which are accurate for small ones too (Demmel and Veselic 1992).
 */
export function singularValues(matrix: Rows): Float64Array {
  const rows = matrix.map((row) => row.slice());
  for (let sweep = 0; sweep < 60; sweep++) {
    let turned = false;
    for (let p = 0; p < rows.length; p++)
      for (let q = p + 1; q < rows.length; q++) {
        const [a, b] = [rows[p]!, rows[q]!];
        const [aa, ab, bb] = [dot(a, a), dot(a, b), dot(b, b)];
        if (ab === 0 || Math.abs(ab) <= 1e-16 * Math.sqrt(aa) * Math.sqrt(bb)) continue;
        turned = true;
        const tau = (bb - aa) / (2 * ab);
        const t = (tau < 0 ? -1 : 1) / (Math.abs(tau) + Math.hypot(1, tau));
        const c = 1 / Math.hypot(1, t);
        for (let i = 0; i < a.length; i++) {
          const [x, y] = [a[i]!, b[i]!];
          a[i] = c * (x - t * y);
          b[i] = c * (t * x + y);
        }
      }
    if (!turned) break;
  }
  return Float64Array.from(rows, (row) => Math.sqrt(dot(row, row)))
    .sort()
    .reverse();
}
