// Small dense problems by LAPACK: decompositions put together again, closed forms, wrong uses.
import {
  matrixProduct,
  orthonormalBasis,
  singularValues,
  singularVectors,
  symmetricEigen,
  symmetricEigenvalues,
} from "../lib/dense";
import { rejection, relative, symmetric } from "./50-helpers";
import { normals } from "./support/numbers";

const transpose = (a: Float64Array, rows: number, columns: number) =>
  Float64Array.from(
    { length: a.length },
    (_, at) => a[(at % rows) * columns + Math.floor(at / rows)]!,
  );
const identity = (n: number) =>
  Float64Array.from({ length: n * n }, (_, at) => (at % (n + 1) === 0 ? 1 : 0));

test.each([1, 2, 7, 40])("a symmetric matrix of order %i is V^T diag(values) V", async (n) => {
  const A = symmetric(n);
  const { values, vectors } = await symmetricEigen(A, n);
  expect([...values]).toEqual([...values].sort((a, b) => b - a));
  const scaled = vectors.map((x, at) => x * values[Math.floor(at / n)]!);
  expect(relative(await matrixProduct(transpose(vectors, n, n), scaled, n, n, n), A)).toBeLessThan(
    1e-13,
  );
  expect(
    relative(await matrixProduct(vectors, vectors, n, n, n, { transposed: true }), identity(n)),
  ).toBeLessThan(1e-13);
  expect(relative(await symmetricEigenvalues(A, n), values)).toBeLessThan(1e-13);
});

test.each([
  [3, 5],
  [5, 3],
  [1, 4],
  [30, 20],
])("a %i x %i matrix is the sum of its singular parts", async (rows, columns) => {
  const A = normals(3, rows * columns);
  const { values, left, right } = await singularVectors(A, rows, columns);
  const thin = Math.min(rows, columns);
  expect([values.length, left.length, right.length]).toEqual([thin, thin * rows, thin * columns]);
  const scaled = right.map((x, at) => x * values[Math.floor(at / columns)]!);
  const again = await matrixProduct(transpose(left, thin, rows), scaled, rows, thin, columns);
  expect(relative(again, A)).toBeLessThan(1e-13);
  expect(relative(await singularValues(A, rows, columns), values)).toBeLessThan(1e-13);
});

test("values in closed form, and nothing of nothing", async () => {
  const { values, vectors } = await symmetricEigen(Float64Array.of(2, 1, 1, 2), 2);
  expect(relative(values, [3, 1])).toBeLessThan(1e-15);
  expect(Math.abs(vectors[0]!)).toBeCloseTo(Math.SQRT1_2, 14);
  expect(relative(await singularValues(Float64Array.of(3, 0, 0, 0, -4, 0), 2, 3), [4, 3])).toBe(0);
  expect((await symmetricEigen(new Float64Array(0), 0)).values).toHaveLength(0);
  expect(await singularValues(new Float64Array(0), 0, 3)).toHaveLength(0);
});

test("a basis of a span leaves out what depends on the rest, at any scale", async () => {
  for (const c of [1e-12, 1, 1e12]) {
    const a = normals(1, 6);
    const b = normals(2, 6);
    const rows = [a, b, a.map((x, i) => 3 * x - b[i]!), new Float64Array(6), a.map((x) => -x)];
    const flat = Float64Array.from(rows.flatMap((row) => [...row.map((x) => c * x)]));
    const { rank, vectors } = await orthonormalBasis(flat, 6);
    expect(rank).toBe(2);
    const gram = await matrixProduct(vectors, vectors, 2, 6, 2, { transposed: true });
    expect(relative(gram, identity(2))).toBeLessThan(1e-14);
    // Every given vector lies in it.
    const parts = await matrixProduct(flat, vectors, 5, 6, 2, { transposed: true });
    expect(relative(await matrixProduct(parts, vectors, 5, 2, 6), flat)).toBeLessThan(1e-13);
  }
  expect((await orthonormalBasis(new Float64Array(6), 3)).rank).toBe(0);
  // One vector far shorter than the other is no less a direction.
  const graded = Float64Array.of(1, 0, 0, 0, 1e-300, 0);
  expect((await orthonormalBasis(graded, 3)).rank).toBe(2);
});

test("wrong uses", async () => {
  expect((await rejection(symmetricEigen(new Float64Array(5), 2))).message).toBe(
    "symmetricEigen: expected 2 x 2 numbers in a Float64Array, got a Float64Array of 5 entries",
  );
  expect((await rejection(singularValues(Float64Array.of(1, Number.NaN), 1, 2))).message).toBe(
    "singularValues: expected finite numbers, got NaN at index 1",
  );
  await expect(singularVectors([1] as never, 1, 1)).rejects.toThrow("got an array of 1 entries");
  await expect(orthonormalBasis(new Float64Array(4), 3)).rejects.toThrow("that are whole");
  await expect(symmetricEigen(new Float64Array(1), 1, { k: 1 } as never)).rejects.toThrow(
    'there is no option "k"',
  );
  const signal = AbortSignal.abort();
  expect((await rejection(symmetricEigen(new Float64Array(1), 1, { signal }))).name).toBe(
    "AbortError",
  );
});
