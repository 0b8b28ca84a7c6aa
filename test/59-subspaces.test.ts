// Angles, overlaps and shares of known subspaces, and what chance gives.
import fc from "fast-check";
import {
  compareSubspaces,
  eigsh,
  gradientShare,
  inverseParticipation,
  Mask,
  maskOverlap,
  overlapBaseline,
  principalAngles,
  subspaceOverlap,
  tensorShares,
} from "../lib";
import { denseOperator, symmetric, vector } from "./50-helpers";
import { normals } from "./support/numbers";

// The same cases in every run.
fc.configureGlobal({ seed: 1 });

const set = (...rows: number[][]) => ({
  vectors: Float64Array.from(rows.flat()),
  dim: rows[0]!.length,
});
const random = (seed: number, k: number, dim: number) => ({ vectors: normals(seed, k * dim), dim });

const c30 = Math.cos(Math.PI / 6);
const V = set([1, 0, 0, 0, 0], [0, 1, 0, 0, 0]);
const W = set([c30, 0, 0, 0.5, 0], [0, 1, 0, 0, 0]);

test("two planes in R^5 at 30 degrees: overlap .875, by chance .4", () => {
  const found = compareSubspaces(V, W, { draws: 4000 });
  expect(found.overlap).toBeCloseTo(0.875, 15);
  expect(found.baseline.expected).toBe(0.4);
  expect([found.k, found.l, found.dim]).toEqual([2, 2, 5]);
  expect(found.angles[0]).toBeLessThan(1e-15);
  expect(found.angles[1]).toBeCloseTo(Math.PI / 6, 14);
  expect(found.spectralDistance).toBeCloseTo(0.5, 14);
  expect(found.frobeniusDistance).toBeCloseTo(Math.SQRT1_2, 14); // sqrt(2) sin 30
  const [low, high] = found.baseline.band;
  expect(low).toBeLessThan(0.4);
  expect(high).toBeGreaterThan(0.4);
  expect(high).toBeLessThan(1);
});

test("angles are accurate from 1e-15 to right ones", () => {
  for (const angle of [0, 1e-15, 1e-12, 1e-9, 1e-4, 0.3, 0.78, 0.79, 1.2, Math.PI / 2 - 1e-9]) {
    const turned = set([Math.cos(angle), 0, Math.sin(angle), 0], [0, 1, 0, 0]);
    const [, found] = principalAngles(set([1, 0, 0, 0], [0, 1, 0, 0]), turned);
    expect(Math.abs(found! - angle)).toBeLessThan(3e-16 + 1e-15 * angle);
  }
  const [right] = principalAngles(set([1, 0]), set([0, 1]));
  expect(right).toBeCloseTo(Math.PI / 2, 15);
});

test("a basis of the same space, however skew, is at angle 0", () => {
  const a = random(1, 3, 40);
  const rows = [0, 1, 2].map((i) => Array.from(a.vectors.subarray(40 * i, 40 * (i + 1))));
  const mixed = [
    [1, 2, -1],
    [0.5, 1.0001, 3],
    [4, 0, 1],
  ].map((f) =>
    rows[0]!.map((_, j) => f[0]! * rows[0]![j]! + f[1]! * rows[1]![j]! + f[2]! * rows[2]![j]!),
  );
  const found = compareSubspaces(a, set(...mixed), { draws: 10 });
  expect(found.angles[2]).toBeLessThan(1e-14);
  expect(found.overlap).toBeCloseTo(1, 14);
  expect(found.frobeniusDistance).toBeLessThan(1e-14);
});

test("symmetric, and the same after a turn of both spaces", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1e6 }), fc.constantFrom(1, 2, 4), (seed, l) => {
      const dim = 12;
      const [a, b] = [random(seed, 3, dim), random(seed + 1, l, dim)];
      const one = principalAngles(a, b);
      const other = principalAngles(b, a);
      expect(one).toHaveLength(Math.min(3, l));
      for (const [i, angle] of one.entries()) expect(angle).toBeCloseTo(other[i]!, 13);
      // Cyclic permutation with changed signs: an orthogonal map.
      const turn = ({ vectors }: { vectors: Float64Array }) => ({
        dim,
        vectors: vectors.map((_, at) => {
          const [row, j] = [Math.floor(at / dim), at % dim];
          return (j % 2 ? -1 : 1) * vectors[row * dim + ((j + 5) % dim)]!;
        }),
      });
      const turned = principalAngles(turn(a), turn(b));
      for (const [i, angle] of turned.entries()) expect(angle).toBeCloseTo(one[i]!, 13);
      const mean = one.reduce((sum, angle) => sum + Math.cos(angle) ** 2, 0) / one.length;
      expect(subspaceOverlap(a, b)).toBeCloseTo(mean, 13);
    }),
    { numRuns: 30 },
  );
});

test("spaces of different dimension: one that holds the other overlaps by 1", () => {
  const found = compareSubspaces(V, set([0, 1, 0, 0, 0]), { draws: 10 });
  expect(found.overlap).toBe(1);
  expect(found.spectralDistance).toBe(1);
  expect(found.frobeniusDistance).toBeCloseTo(1, 15);
  expect(found.baseline.expected).toBe(0.4); // of the smaller one in the larger
});

test.each([
  [1, 1, 3],
  [2, 2, 5],
  [3, 5, 40],
  [5, 3, 40],
  [4, 4, 6],
  [10, 10, 17226],
])("random spaces of dimension %p and %p in R^%p: the band holds 95 % of them", (k, l, p) => {
  const { expected, band } = overlapBaseline(k, l, p, { draws: 2000, seed: 3 });
  expect(expected).toBeCloseTo(Math.max(k, l) / p, 15);
  expect(band[0]).toBeLessThan(expected);
  expect(band[1]).toBeGreaterThan(expected);
  if (p > 100) return;
  const runs = 400;
  const overlaps = Array.from({ length: runs }, (_, i) =>
    subspaceOverlap(random(2 * i, k, p), random(2 * i + 1, l, p)),
  );
  const mean = overlaps.reduce((a, b) => a + b, 0) / runs;
  const variance = overlaps.reduce((a, b) => a + (b - mean) ** 2, 0) / runs;
  expect(Math.abs(mean - expected)).toBeLessThan(4 * Math.sqrt(variance / runs));
  const inside = overlaps.filter((x) => band[0] <= x && x <= band[1]).length / runs;
  expect(inside).toBeGreaterThan(0.91);
  expect(inside).toBeLessThan(0.985);
});

test("the share of a gradient in a space, and outside of it", () => {
  const found = gradientShare(V, [3, 4, 0, 12, 0], { draws: 2000 });
  expect(found.share).toBeCloseTo(25 / 169, 15);
  expect(found.rest).toBeCloseTo(144 / 169, 15);
  expect(found.baseline.expected).toBe(0.4);
  const tiny = gradientShare(
    V,
    Float64Array.of(1, 1, 1e-10, 0, 0).map((x) => x * 1e-200),
  );
  expect(tiny.rest).toBeCloseTo(5e-21, 30);
  const outside = gradientShare(V, [0, 0, 0, 1e-12, 0]);
  expect(outside.share).toBe(0);
});

test("eigenvectors of the same operator, in float32 too, span the same space", async () => {
  const dim = 30;
  const A = denseOperator(symmetric(dim), dim);
  const pairs = await eigsh(A, { k: 4 });
  const single = { vectors: Float32Array.from(pairs.vectors), dim };
  expect(subspaceOverlap(pairs, single)).toBeCloseTo(1, 6);
  expect(principalAngles(pairs, pairs)[3]).toBeLessThan(1e-14);
});

test("localisation: v = (1, 1, 0) / sqrt 2 has .5", () => {
  const found = inverseParticipation(set([1, 1, 0], [0, 0, 7], [1, 1, 1]));
  expect(Array.from(found)).toEqual([0.5, 1, expect.closeTo(1 / 3, 15)]);
  // 3 / (p + 2) for a random vector, on average.
  const p = 50;
  const many = inverseParticipation({ vectors: normals(5, 40 * p), dim: p });
  const mean = many.reduce((a, b) => a + b, 0) / many.length;
  expect(Math.abs(mean / (3 / (p + 2)) - 1)).toBeLessThan(0.1);
});

test("shares by tensor sum to 1", () => {
  const tensors = [
    { name: "w", offset: 0, size: 3 },
    { name: "b", offset: 3, size: 2 },
  ];
  const [w, b] = tensorShares(W, tensors);
  expect(w!.shares[0]).toBeCloseTo(0.75, 15);
  expect(b!.shares[0]).toBeCloseTo(0.25, 15);
  expect([w!.mean, b!.mean]).toEqual([expect.closeTo(0.875, 15), expect.closeTo(0.125, 15)]);
  expect([w!.expected, b!.expected]).toEqual([0.6, 0.4]);
});

test("a mask on a known space: E = .5, lift 1.5, and its exact null", () => {
  const top = set([Math.SQRT1_2, Math.SQRT1_2, 0]);
  const mask = new Mask([{ name: "w", offset: 0, size: 3 }], [1, 0, 0]);
  const found = maskOverlap(top, mask);
  expect(found.energy).toBeCloseTo(0.5, 15);
  expect(found.lift).toBeCloseTo(1.5, 15);
  // One of (.5, .5, 0): mean 1/3, variance 1/18.
  expect(found.baseline.expected).toBeCloseTo(1 / 3, 15);
  expect(found.standardDeviation).toBeCloseTo(Math.sqrt(1 / 18), 14);
  expect(found.z).toBeCloseTo(Math.SQRT1_2, 13);
});

test("the null of masks keeps the counts of each tensor", () => {
  // All of the space is in the first tensor, which the mask keeps more of: lift, but no relation.
  const row = [...Array.from(vector(20)), ...new Array(180).fill(0)];
  const tensors = [
    { name: "a", offset: 0, size: 20 },
    { name: "b", offset: 20, size: 180 },
  ];
  const bits = row.map((_, i) => (i < 20 ? i % 2 : i % 20 === 0 ? 1 : 0));
  const found = maskOverlap(set(row), new Mask(tensors, bits), { draws: 2000 });
  expect(found.lift).toBeGreaterThan(2);
  expect(found.baseline.expected).toBeCloseTo(0.5, 12);
  expect(Math.abs(found.z)).toBeLessThan(2.5);
  const [low, high] = found.baseline.band;
  expect(low).toBeGreaterThan(0.5 - 2.6 * found.standardDeviation);
  expect(high).toBeLessThan(0.5 + 2.6 * found.standardDeviation);
  expect(high - low).toBeGreaterThan(3 * found.standardDeviation);
});

test("wrong uses name what was expected", () => {
  const calls: [() => unknown, string][] = [
    [() => principalAngles(V, set([1, 0])), "expected vectors of one dimension, got 5 and 2"],
    [
      () => principalAngles({ vectors: Float64Array.of(1, 2, 3), dim: 2 }, V),
      "3 numbers for the dim 2",
    ],
    [
      () => principalAngles(set([1, 2, 3], [2, 4, 6]), V),
      "vector 1 is a combination of those before",
    ],
    [() => principalAngles(set([0, 0]), V), "vector 0 is zero"],
    [() => principalAngles(set([1, Number.NaN]), V), "got NaN at index 1 of vector 0"],
    [() => principalAngles([] as never, V), "expected eigenpairs or { vectors, dim }"],
    [() => gradientShare(V, [1, 2]), "g: expected 5 numbers, the dimension of V"],
    [() => gradientShare(V, [0, 0, 0, 0, 0]), "not all zero"],
    [() => compareSubspaces(V, W, { draw: 1 } as never), '"draws" was probably meant'],
    [() => overlapBaseline(6, 1, 5), "k: expected a whole number from 1 to p = 5, got 6"],
    [() => tensorShares(V, []), "expected tensors of 5 numbers together"],
    [() => maskOverlap(V, new Mask([], [])), "expected a Mask of 5 entries"],
  ];
  for (const [call, text] of calls) expect(call).toThrow(text);
});
