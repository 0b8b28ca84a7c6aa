/**
 * Dense linear algebra by LAPACK, for matrices of up to a few thousand rows, in float64, on a thread
 * of the core. Matrices are row-major; sets of vectors are rows, as `eigsh` returns them. LAPACK
 * itself cannot be interrupted: an abort rejects at once, and its thread ends later.
 */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { DataMismatchError, OptionError } from "./errors";
import { native } from "./native";
import { type Check, check, checkOptions, describe, typeName } from "./options";

type Cancel = Pick<CallOptions, "signal">;
const CANCEL: { [K in keyof Required<Cancel>]: Check } = { signal: CALL_OPTIONS.signal };

/** Eigenvalues of a symmetric matrix, largest first, with unit eigenvectors. */
export interface SymmetricEigen {
  readonly values: Float64Array;
  /** n x n, row i the eigenvector of values[i]. */
  readonly vectors: Float64Array;
}

/** matrix = sum over i of values[i] left_i right_i^T, min(rows, columns) terms, largest first. */
export interface SingularVectors {
  readonly values: Float64Array;
  /** Row i, of `rows` numbers, is left_i. */
  readonly left: Float64Array;
  /** Row i, of `columns` numbers, is right_i. */
  readonly right: Float64Array;
}

/** An orthonormal basis of what vectors span. */
export interface SpanBasis {
  /** rank x dim, row-major. */
  readonly vectors: Float64Array;
  readonly dim: number;
  readonly rank: number;
  /** Singular values of the given vectors, each scaled to length 1 first, largest first. */
  readonly values: Float64Array;
}

/**
 * The eigenvalues and eigenvectors of a symmetric n x n matrix (dsyevd, about 9 n^3 operations and
 * 3 n^2 numbers); one triangle is read.
 *
 * @throws OptionError for another length; DataMismatchError where a number is not finite; AbortError
 */
export async function symmetricEigen(
  matrix: Float64Array,
  n: number,
  options?: Cancel,
): Promise<SymmetricEigen> {
  const { signal } = checked("symmetricEigen", matrix, n, n, options);
  return run(
    () =>
      native().denseAlgebra("symmetric", { matrix, rows: n, columns: n, vectors: true }, undefined),
    { signal },
  );
}

/**
 * The eigenvalues of a symmetric n x n matrix, largest first. Throws as `symmetricEigen`.
 */
export async function symmetricEigenvalues(
  matrix: Float64Array,
  n: number,
  options?: Cancel,
): Promise<Float64Array> {
  const { signal } = checked("symmetricEigenvalues", matrix, n, n, options);
  const { values } = await run(
    () =>
      native().denseAlgebra(
        "symmetric",
        { matrix, rows: n, columns: n, vectors: false },
        undefined,
      ),
    { signal },
  );
  return values;
}

/**
 * The min(rows, columns) singular values of a matrix, largest first (dgesdd). Throws as
 * `symmetricEigen`.
 */
export async function singularValues(
  matrix: Float64Array,
  rows: number,
  columns: number,
  options?: Cancel,
): Promise<Float64Array> {
  const { signal } = checked("singularValues", matrix, rows, columns, options);
  const { values } = await run(
    () => native().denseAlgebra("singular", { matrix, rows, columns, vectors: false }, undefined),
    { signal },
  );
  return values;
}

/** The thin singular value decomposition of a matrix (dgesdd). Throws as `symmetricEigen`. */
export async function singularVectors(
  matrix: Float64Array,
  rows: number,
  columns: number,
  options?: Cancel,
): Promise<SingularVectors> {
  const { signal } = checked("singularVectors", matrix, rows, columns, options);
  return run(
    () => native().denseAlgebra("singular", { matrix, rows, columns, vectors: true }, undefined),
    { signal },
  );
}

/**
 * An orthonormal basis of the span of vectors, dependent ones among them: right singular vectors of
 * the vectors scaled to length 1, those whose singular value is above tol times the largest. Zero
 * vectors are left out.
 *
 * @param vectors count x dim, row-major
 * @param options.tol default max(count, dim) * 2^-52
 * @throws as `symmetricEigen`
 */
export async function orthonormalBasis(
  vectors: Float64Array,
  dim: number,
  options: Cancel & { tol?: number | undefined } = {},
): Promise<SpanBasis> {
  const count = vectors?.length / dim;
  const { signal, tol } = checked("orthonormalBasis", vectors, count, dim, options, {
    tol: check.notNegative,
  });
  const rows: Float64Array[] = [];
  for (let i = 0; i < count; i++) {
    const row = vectors.subarray(i * dim, (i + 1) * dim);
    const largest = row.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    if (largest === 0) continue;
    const length = largest * Math.sqrt(row.reduce((sum, x) => sum + (x / largest) ** 2, 0));
    rows.push(row.map((x) => x / length));
  }
  const unit = new Float64Array(rows.length * dim);
  rows.forEach((row, i) => {
    unit.set(row, i * dim);
  });
  const { values, right } = await singularVectors(unit, rows.length, dim, { signal });
  const least = (tol ?? Math.max(rows.length, dim) * 2 ** -52) * (values[0] ?? 0);
  const rank = values.filter((value) => value > least).length;
  return { vectors: right.slice(0, rank * dim), dim, rank, values };
}

/**
 * a b for an m x k matrix a and a k x n matrix b, or a b^T for an n x k matrix b with `transposed`
 * (dgemm). Throws as `symmetricEigen`.
 */
export async function matrixProduct(
  a: Float64Array,
  b: Float64Array,
  m: number,
  k: number,
  n: number,
  options: Cancel & { transposed?: boolean | undefined } = {},
): Promise<Float64Array> {
  const { signal, transposed = false } = checked("matrixProduct", a, m, k, options, {
    transposed: check.boolean,
  });
  checked("matrixProduct", b, k, n, undefined);
  const { values } = await run(
    () =>
      native().denseAlgebra(
        "product",
        { matrix: a, rows: m, columns: k, other: b, otherColumns: n, transposed },
        undefined,
      ),
    { signal },
  );
  return values;
}

function checked<T extends Cancel>(
  where: string,
  matrix: Float64Array,
  rows: number,
  columns: number,
  options: T | undefined,
  table: Partial<Record<keyof T, Check>> = {},
): T {
  for (const size of [rows, columns])
    if (!check.naturalNumber.fits(size))
      throw new OptionError(
        `${where}: expected a number of rows and columns that are whole, got ${describe(size)}`,
      );
  if (typeName(matrix) !== "Float64Array" || matrix.length !== rows * columns)
    throw new OptionError(
      `${where}: expected ${rows} x ${columns} numbers in a Float64Array, got ${describe(matrix)}`,
    );
  const bad = matrix.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0)
    throw new DataMismatchError(
      `${where}: expected finite numbers, got ${matrix[bad]} at index ${bad}`,
    );
  return checkOptions(where, options, { ...CANCEL, ...table } as {
    [K in keyof Required<T>]: Check;
  });
}
