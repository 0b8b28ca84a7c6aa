// Operators with directions projected out, and sums that are behind the symmetry of a graph.
import { kernelShare, type LinearOperator, linearOperator, withoutDirections } from "../lib";
import {
  backward,
  contract,
  expand,
  leaf,
  multiply,
  permute,
  select,
  sum,
} from "../lib/symmetry/tape";
import { dense, denseOperator, rejection, symmetric } from "./50-helpers";
import { dot, norm, normals } from "./support/numbers";

const DIM = 12;
const matrix = symmetric(DIM);

/** (I - Q Q^T) A (I - Q Q^T) V with Q by Gram-Schmidt. */
function projected(A: Float64Array, directions: Float64Array, V: Float64Array): Float64Array {
  const units: Float64Array[] = [];
  for (let i = 0; i < directions.length / DIM; i++) {
    const row = directions.slice(i * DIM, (i + 1) * DIM);
    for (const unit of units) {
      const part = dot(row, unit);
      row.forEach((_, k) => {
        row[k]! -= part * unit[k]!;
      });
    }
    const size = norm(row);
    units.push(row.map((x) => x / size));
  }
  const rest = (v: Float64Array) => {
    const out = v.slice();
    for (const unit of units) {
      const part = dot(out, unit);
      out.forEach((_, k) => {
        out[k]! -= part * unit[k]!;
      });
    }
    return out;
  };
  return rest(dense(A, DIM, rest(V)));
}

test.each([1e-12, 1, 1e12])("the product is that of P A P, for A times %d", async (c) => {
  const directions = normals(1, 3 * DIM);
  const A = matrix.map((x) => c * x);
  using operator = denseOperator(A, DIM);
  using rest = await withoutDirections(operator, { vectors: directions, dim: DIM });
  const v = normals(2, DIM);
  const wanted = projected(A, directions, v);
  const got = await rest.apply(v);
  expect(norm(got.map((x, i) => x - wanted[i]!))).toBeLessThan(1e-13 * c * norm(matrix));
});

test("zero eigenvalues that directions account for, and those that they do not", async () => {
  // Eigenvalues 0, 0, 0, 1, 2, ...
  const values = Float64Array.from({ length: DIM }, (_, i) => Math.max(0, i - 2));
  const diagonal = (scale: number) =>
    linearOperator(
      DIM,
      (block) => block.map((x, i) => scale * values[i % DIM]! * x) as Float64Array,
    );
  const axes = new Float64Array(2 * DIM);
  axes[0] = 3;
  axes[DIM] = 1;
  axes[DIM + 1] = 1;
  for (const scale of [1e-12, 1, 1e12]) {
    using operator: LinearOperator = diagonal(scale);
    const share = await kernelShare(operator, { vectors: axes, dim: DIM });
    expect(share).toMatchObject({ dim: DIM, kernel: 3, directions: 2, surplus: 1, residual: 0 });
    expect(share.without).toHaveLength(DIM - 2);
  }
  using operator = diagonal(1);
  axes[DIM + 5] = 1;
  const share = await kernelShare(operator, { vectors: axes, dim: DIM });
  // The second is no zero direction any more, and takes the one that it was in along.
  expect(share.surplus).toBe(1);
  expect(share.residual).toBeGreaterThan(0.1);
});

test("wrong uses", async () => {
  using operator = denseOperator(matrix, DIM);
  const other = await rejection(withoutDirections(operator, { vectors: normals(1, 20), dim: 10 }));
  expect(other.message).toContain("expected vectors of 12 numbers");
  const twice = Float64Array.of(...normals(1, DIM), ...normals(1, DIM));
  const dependent = await rejection(withoutDirections(operator, { vectors: twice, dim: DIM }));
  expect(dependent.message).toContain("vector 1 is a combination of those before it");
  const none = await rejection(withoutDirections({} as never, { vectors: twice, dim: DIM }));
  expect(none.message).toContain("expected an operator");
});

test("derivatives of what generators are computed from agree with differences", () => {
  const sizes = [12, 8, 6];
  const at = sizes.map((size, i) => normals(20 + i, size));
  const compute = (numbers: readonly Float64Array[]) => {
    const [w, v, b] = [
      leaf([3, 4], numbers[0]!),
      leaf([4, 2], numbers[1]!),
      leaf([3, 1, 2], numbers[2]!),
    ];
    const product = contract(w, v, "oi,ic->oc");
    const wide = expand({ ...product, shape: [3, 1, 2] }, [3, 2, 2]);
    const all = multiply(permute(wide, [2, 0, 1]), expand(permute(b, [2, 0, 1]), [2, 3, 2]));
    const part = select(all, [Int32Array.of(1, -1), undefined, Int32Array.of(0)]);
    return { leaves: [w, v, b], out: sum(multiply(part, part), [1]), product };
  };
  const { leaves, out } = compute(at);
  const seed = normals(30, out.data.length);
  // The view of the product shares its gradient through its own operands.
  backward([out], [seed]);
  const value = (numbers: readonly Float64Array[]) => dot(compute(numbers).out.data, seed);
  const b = 2;
  at[b]!.forEach((_, i) => {
    const moved = (by: number) => {
      const numbers = at.map((each) => each.slice());
      numbers[b]![i]! += by;
      return value(numbers);
    };
    const slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
    expect(leaves[b]!.gradient![i]).toBeCloseTo(slope, 6);
  });
});
