// Curvature of sub-networks: interlacing, Schur complements, eigenvectors on masks, whole runs.
import fc from "fast-check";
import {
  conditionalCurvature,
  conditionalOperator,
  eigsh,
  exactSpectrum,
  fisher,
  ggn,
  hessian,
  interlacing,
  inverseParticipation,
  linearOperator,
  loss,
  Mask,
  maskedCurvature,
  maskedParameters,
  mask as maskOf,
  maskOverlap,
  parameterVector,
  solve,
} from "../lib";
import {
  denseOperator,
  openCase,
  rejection,
  relative,
  symmetric,
  tinyProblem,
  vector,
} from "./50-helpers";
import { dense } from "./support/networks";
import { eigenvalues, type Matrix, normals, rowsOf, uniform } from "./support/numbers";

const one = (dim: number) => [{ name: "all", offset: 0, size: dim }];
const maskFrom = (bits: ArrayLike<number>) => new Mask(one(bits.length), bits);

/** Rows and columns of a matrix. */
const sub = (A: Matrix, rows: number[], columns: number[]): Matrix =>
  rows.map((i) => Float64Array.from(columns, (j) => A[i]![j]!));

/** The inverse of a symmetric matrix, by Gauss and Jordan with pivots. */
function inverted(A: Matrix): Matrix {
  const n = A.length;
  const rows = A.map((row, i) => [...row, ...Array.from({ length: n }, (_, j) => +(i === j))]);
  for (let c = 0; c < n; c++) {
    const pivot = rows.slice(c).reduce((best, row, i) => {
      return Math.abs(row[c]!) > Math.abs(rows[best]![c]!) ? c + i : best;
    }, c);
    [rows[c], rows[pivot]] = [rows[pivot]!, rows[c]!];
    const lead = rows[c]!.map((x) => x / rows[c]![c]!);
    rows.forEach((row, i) => {
      if (i !== c) rows[i] = row.map((x, j) => x - row[c]! * lead[j]!);
    });
    rows[c] = lead;
  }
  return rows.map((row) => Float64Array.from(row.slice(n)));
}

const split = (bits: ArrayLike<number>): [number[], number[]] => {
  const all = Array.from(bits, (_, i) => i);
  return [all.filter((i) => bits[i]), all.filter((i) => !bits[i])];
};

describe("interlacing", () => {
  const exact = (values: number[]) => ({
    dim: values.length,
    intervals: values.map((x) => ({ low: x, high: x })),
    smallestIntervals: [],
  });

  test("diag(5, 3, 1, .1) on the mask (1, 0, 1, 1): 5, 1, .1", async () => {
    const A = denseOperator(
      Float64Array.from([5, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0.1]),
      4,
    );
    const part = await exactSpectrum(A.restrict(maskFrom([1, 0, 1, 1])));
    expect(relative(part.values, [5, 1, 0.1])).toBeLessThan(1e-14);
    const found = interlacing(exact([5, 3, 1, 0.1]), exact([5, 1, 0.1]));
    expect(found).toEqual({ compared: 6, certain: 6, violations: [], holds: true });
  });

  test("holds for every principal submatrix, whatever the scale", () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 1e6 }),
        fc.constantFrom(1e-12, 1, 1e12),
        async (seed, scale) => {
          const dim = 9;
          const A = symmetric(dim, seed).map((x) => scale * x);
          const next = uniform(seed);
          const bits = Array.from({ length: dim }, () => +(next() < 0.5));
          bits[0] = 1;
          const operator = denseOperator(A, dim);
          const whole = await exactSpectrum(operator);
          const part = await exactSpectrum(operator.restrict(maskFrom(bits)));
          const within = (values: Float64Array) => ({
            dim: values.length,
            intervals: Array.from(values, (x) => ({
              low: x - 1e-13 * dim * scale,
              high: x + 1e-13 * dim * scale,
            })),
            smallestIntervals: [],
          });
          const found = interlacing(within(whole.values), within(part.values));
          expect(found.compared).toBe(2 * part.values.length);
          expect(found.holds).toBe(true);
        },
      ),
      { seed: 84, numRuns: 10 },
    ));

  test("an eigenvalue that was missed shows", () => {
    const found = interlacing(exact([5, 3, 1]), exact([4, 3.5]));
    expect(found.holds).toBe(false);
    expect(found.violations).toEqual([
      { index: 1, bound: "upper", part: { low: 3.5, high: 3.5 }, whole: { low: 3, high: 3 } },
    ]);
    const low = interlacing(exact([5, 3, 1]), exact([2.5, 2]));
    expect(low.violations).toEqual([
      { index: 0, bound: "lower", part: { low: 2.5, high: 2.5 }, whole: { low: 3, high: 3 } },
    ]);
  });

  test("of the ends only what is known is compared, and intervals may overlap", () => {
    const ends = (top: number[], bottom: number[], dim: number, width = 0) => ({
      dim,
      intervals: top.map((x) => ({ low: x - width, high: x + width })),
      smallestIntervals: bottom.map((x) => ({ low: x - width, high: x + width })),
    });
    const whole = ends([9, 8], [-3, -2], 100);
    expect(interlacing(whole, ends([7, 6], [-2.5, -1], 50))).toMatchObject({
      compared: 4,
      certain: 4,
      holds: true,
    });
    // Equal within the width: possible, not certain.
    expect(interlacing(whole, ends([9.05, 6], [], 50, 0.1))).toMatchObject({
      compared: 2,
      certain: 1,
      holds: true,
    });
    expect(interlacing(whole, ends([7, 6], [-3.5, -1], 50)).holds).toBe(false);
  });
});

describe("conditional curvature", () => {
  test("[[2, 1], [1, 2]]: marginal 2, conditional 1.5", async () => {
    const A = denseOperator(Float64Array.from([2, 1, 1, 2]), 2);
    const direction = Float64Array.from([3, 7]);
    const found = await conditionalCurvature(A, maskFrom([1, 0]), { direction });
    expect(found).toMatchObject({ method: "dense", restRank: 1, restSemiDefinite: true });
    expect(found.marginal.values[0]).toBeCloseTo(2, 15);
    expect(found.conditional.values[0]).toBeCloseTo(1.5, 15);
    expect([found.marginal.quadratic, found.conditional.quadratic]).toEqual([18, 13.5]);
    expect(found.conditional.trace).toEqual({ value: 1.5, standardError: 0 });
  });

  test("its inverse is the block of the inverse, at every scale", () =>
    fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 1e6 }),
        fc.constantFrom(1e-12, 1, 1e12),
        async (seed, scale) => {
          const dim = 8;
          const factor = rowsOf(normals(seed, dim * dim), dim);
          const A: Matrix = factor.map((a) =>
            Float64Array.from(factor, (b) => a.reduce((sum, x, k) => sum + x * b[k]!, 0)),
          );
          A.forEach((row, i) => {
            row[i]! += 0.5;
          });
          const bits = [1, 0, 0, 1, 1, 0, 1, 0];
          const [kept] = split(bits);
          const flat = Float64Array.from(A.flatMap((row) => Array.from(row, (x) => scale * x)));
          const found = await conditionalCurvature(denseOperator(flat, dim), maskFrom(bits));
          const wanted = eigenvalues(inverted(sub(inverted(A), kept, kept)));
          expect(
            relative(
              found.conditional.values,
              wanted.map((x) => scale * x),
            ),
          ).toBeLessThan(1e-9);
          const marginal = eigenvalues(sub(A, kept, kept)).map((x) => scale * x);
          expect(relative(found.marginal.values, marginal)).toBeLessThan(1e-12);
          // The rest can only help: no conditional eigenvalue is above the marginal one.
          found.conditional.values.forEach((x, i) => {
            expect(x).toBeLessThanOrEqual(found.marginal.values[i]! * (1 + 1e-12));
          });
        },
      ),
      { seed: 86, numRuns: 6 },
    ));

  test("a singular rest: by the pseudo-inverse", async () => {
    // Rank one: v v^T. The rest can undo all that the kept ones do.
    const v = [1, 2, 3, 4];
    const A = Float64Array.from(v.flatMap((a) => v.map((b) => a * b)));
    const found = await conditionalCurvature(denseOperator(A, 4), maskFrom([1, 1, 0, 0]));
    expect(found.restRank).toBe(1);
    expect(found.marginal.values[0]).toBeCloseTo(5, 12);
    expect(Math.abs(found.conditional.values[0]!)).toBeLessThan(1e-13);
  });

  test("an indefinite rest is named", async () => {
    const A = Float64Array.from([1, 1, 1, -2]);
    const found = await conditionalCurvature(denseOperator(A, 2), maskFrom([1, 0]));
    expect(found.restSemiDefinite).toBe(false);
    expect(found.conditional.values[0]).toBeCloseTo(1.5, 14);
  });

  test("without the matrix: the same operator, by solving", async () => {
    const { model, data } = await tinyProblem();
    const precision = "float64";
    using F = ggn(model, data, { precision });
    const bits = Array.from({ length: 26 }, (_, i) => +(i % 3 === 0));
    const mask = new Mask(model.parameters, bits);
    const A = await dense(F);
    const [kept, rest] = split(bits);
    const damping = 1e-3 * eigenvalues(A)[0]!;
    const damped = sub(A, rest, rest);
    damped.forEach((row, i) => {
      row[i]! += damping;
    });
    const across = sub(A, kept, rest);
    const back = inverted(damped);
    const S = sub(A, kept, kept).map((row, i) =>
      row.map((x, j) => {
        let pull = 0;
        back.forEach((line, a) => {
          line.forEach((y, b) => {
            pull += across[i]![a]! * y * across[j]![b]!;
          });
        });
        return x - pull;
      }),
    );
    using C = conditionalOperator(F, mask, { damping, tol: 1e-12 });
    expect(
      relative(
        (await dense(C)).flatMap((row) => [...row]),
        S.flatMap((row) => [...row]),
      ),
    ).toBeLessThan(1e-8);
    const direction = vector(26);
    const options = { direction, damping: 1e-3, k: 3, probes: 9 };
    const found = await conditionalCurvature(F, mask, { ...options, method: "iterative" });
    const exact = await conditionalCurvature(F, mask, { ...options, method: "dense" });
    expect(found.converged).toBe(true);
    expect(found.damping).toBeCloseTo(damping, 9);
    expect(relative(found.conditional.values, eigenvalues(S).slice(0, 3))).toBeLessThan(1e-5);
    expect(relative(found.marginal.values, exact.marginal.values.slice(0, 3))).toBeLessThan(1e-9);
    expect(found.marginal.quadratic).toBeCloseTo(exact.marginal.quadratic!, 10);
    const form = kept.reduce(
      (sum, i, a) =>
        sum + kept.reduce((row, j, b) => row + direction[i]! * direction[j]! * S[a]![b]!, 0),
      0,
    );
    expect(found.conditional.quadratic).toBeCloseTo(form, 7);
    // Nine products are all of them: the trace is exact.
    expect(found.conditional.trace!.value).toBeCloseTo(
      S.reduce((sum, row, i) => sum + row[i]!, 0),
      6,
    );
  });

  test("of a Hessian, by MINRES", async () => {
    const { model, data } = await tinyProblem();
    using H = hessian(model, data, { precision: "float64" });
    const bits = Array.from({ length: 26 }, (_, i) => +(i % 5 < 2));
    const mask = new Mask(model.parameters, bits);
    using C = conditionalOperator(H, mask, { damping: 0.05, tol: 1e-11 });
    const v = vector(C.dim);
    const [kept, rest] = split(bits);
    const whole = new Float64Array(26);
    kept.forEach((i, at) => {
      whole[i] = v[at]!;
    });
    const first = await H.apply(whole);
    const pull = Float64Array.from(rest, (i) => first[i]!);
    const back = await solve(H.restrict({ indices: rest }), pull, {
      method: "minres",
      damping: 0.05,
      tol: 1e-12,
    });
    rest.forEach((i, at) => {
      whole[i] = -back.solution[at]!;
    });
    const second = await H.apply(whole);
    expect(
      relative(
        await C.apply(v),
        kept.map((i) => second[i]!),
      ),
    ).toBeLessThan(1e-8);
  });

  test("wrong uses", async () => {
    const A = denseOperator(symmetric(4), 4);
    const message = async (promise: Promise<unknown>) => (await rejection(promise)).message;
    expect(await message(conditionalCurvature(A, maskFrom([1, 1, 1, 1])))).toBe(
      "conditionalCurvature: mask: expected one that keeps some of the 4 parameters and not all, got 4",
    );
    expect(await message(conditionalCurvature(A, maskFrom([1, 0])))).toContain(
      "expected a Mask of 4 entries, the dimension of linearOperator, got 2",
    );
    const direction = new Float64Array(2);
    expect(await message(conditionalCurvature(A, maskFrom([1, 1, 0, 0]), { direction }))).toContain(
      "direction: expected 4 numbers, one a parameter, got 2",
    );
  });
});

describe("a network's sub-network", () => {
  const precision = "float64";

  async function subject() {
    const { model, data } = await tinyProblem();
    const bits = Array.from({ length: 26 }, (_, i) => +(i % 4 !== 1));
    return { model, data, mask: new Mask(model.parameters, bits), bits };
  }

  test("spectra at the network and at the pruned one are those of the matrices there", async () => {
    const { model, data, mask, bits } = await subject();
    const [kept] = split(bits);
    for (const make of [ggn, hessian]) {
      const found = await maskedCurvature(model, data, mask, {
        operator: (at) => make(at, data, { precision }),
        precision,
        k: 4,
      });
      using here = make(model, data, { precision });
      using at = model.withParameters(maskedParameters(model, mask));
      using there = make(at, data, { precision });
      const A = await dense(here);
      expect(relative(found.whole.values, eigenvalues(A))).toBeLessThan(1e-11);
      expect(relative(found.dense.values, eigenvalues(sub(A, kept, kept)))).toBeLessThan(1e-11);
      const pruned = sub(await dense(there), kept, kept);
      expect(relative(found.pruned.values, eigenvalues(pruned))).toBeLessThan(1e-11);
      expect(found.interlacing).toMatchObject({ holds: true, compared: 2 * kept.length });
      expect(found.dense.trace.value).toBeCloseTo(
        sub(A, kept, kept).reduce((sum, row, i) => sum + row[i]!, 0),
        10,
      );
      const T = found.traceOverlap;
      if (make === hessian) expect(T).toBeUndefined();
      else expect(T!.energy).toBeCloseTo(found.dense.trace.value / found.whole.trace.value, 10);
    }
  });

  test("random masks that keep as many of each tensor, beside it", async () => {
    const { model, data, mask } = await subject();
    const options = { precision, conditional: false, seed: 5 } as const;
    const operator = (at: typeof model) => ggn(at, data, { precision });
    const found = await maskedCurvature(model, data, mask, { ...options, operator, random: 4 });
    expect(found.random!.dense.values).toHaveLength(4);
    using whole = operator(model);
    const { values } = await exactSpectrum(whole);
    for (const value of found.random!.dense.values) {
      expect(value).toBeLessThanOrEqual(values[0]! * (1 + 1e-9));
      expect(value).toBeGreaterThan(0);
    }
    expect(new Set(found.random!.pruned.values).size).toBe(4);
    const again = await maskedCurvature(model, data, mask, { ...options, operator, random: 4 });
    expect(again.random).toEqual(found.random);
    // Where all is kept there is one mask.
    const all = new Mask(model.parameters, new Uint8Array(26).fill(1));
    const same = await maskedCurvature(model, data, all, { ...options, operator, random: 2 });
    for (const value of same.random!.dense.values) expect(value).toBeCloseTo(values[0]!, 8);
    expect(same.random!.pruned.standardDeviation).toBeCloseTo(0, 10);
  });

  test("what pruning costs, and what the quadratic model says of it", async () => {
    const { model, data, mask } = await subject();
    const { cost } = await maskedCurvature(model, data, mask, {
      operator: (at) => hessian(at, data, { precision }),
      precision,
    });
    using at = model.withParameters(maskedParameters(model, mask));
    expect(cost.before).toBe(await loss(model, data, { precision }));
    expect(cost.after).toBe(await loss(at, data, { precision }));
    // Towards a small step, the two terms are all there is.
    const theta = parameterVector(model);
    const initial = maskedParameters(model, mask).map((x, i) => theta[i]! + 1e-4 * (x - theta[i]!));
    const small = await maskedCurvature(model, data, mask, {
      operator: (at) => hessian(at, data, { precision }),
      pruned: "initial",
      initial,
      precision,
    });
    const { before, after, linear, quadratic } = small.cost;
    expect(linear / cost.linear).toBeCloseTo(1e-4, 10);
    expect(quadratic / cost.quadratic).toBeCloseTo(1e-8, 12);
    expect(after - before - linear).toBeCloseTo(quadratic, 11);
  });

  test("a planted mask holds the leading eigenvectors: lift and z are high, elsewhere low", async () => {
    const { model, data } = await subject();
    // The first eigenvectors are coordinates 0 .. 2.
    const diagonal = Float64Array.from({ length: 26 }, (_, i) => (i < 3 ? 30 - i : 1 / (i + 1)));
    const operator = () =>
      linearOperator(26, (V, count) =>
        Float64Array.from({ length: 26 * count }, (_, i) => diagonal[i % 26]! * V[i]!),
      );
    const on = (bits: (i: number) => boolean) =>
      maskedCurvature(
        model,
        data,
        new Mask(
          model.parameters,
          Array.from({ length: 26 }, (_, i) => +bits(i)),
        ),
        { operator, k: 3, precision, conditional: false },
      );
    const planted = await on((i) => i < 3);
    expect(planted.overlap.energy).toBeCloseTo(1, 12);
    expect(planted.overlap.lift).toBeCloseTo(26 / 3, 10);
    expect(planted.overlap.z).toBeGreaterThan(3);
    expect(planted.vectors.map(({ value }) => value)).toEqual([30, 29, 28]);
    for (const { energy, participation } of planted.vectors) {
      expect(energy).toBeCloseTo(1, 12);
      expect(participation).toBeCloseTo(1, 12);
    }
    expect(planted.tensors[0]).toMatchObject({ name: "w1", size: 12, kept: 3 });
    expect(planted.tensors[0]!.share).toBeCloseTo(1, 12);
    expect(planted.conditional).toBeUndefined();
    const beside = await on((i) => i >= 3 && i < 6);
    expect(beside.overlap.energy).toBeCloseTo(0, 12);
    expect(beside.overlap.z).toBeLessThan(-0.5);
  });

  test("the oracle [[2,1,0],[1,2,0],[0,0,1]]: E_1 of (1,0,0) is .5, lift 1.5, IPR .5", async () => {
    const A = denseOperator(Float64Array.from([2, 1, 0, 1, 2, 0, 0, 0, 1]), 3);
    const top = await eigsh(A, { k: 1 });
    const { energy, lift } = maskOverlap(top, maskFrom([1, 0, 0]));
    expect([energy, lift]).toEqual([expect.closeTo(0.5, 12), expect.closeTo(1.5, 12)]);
    expect(inverseParticipation(top)[0]).toBeCloseTo(0.5, 12);
  });

  test("larger than what is exact: the ends, with intervals", async () => {
    const { model, data } = await openCase("mlp_relu");
    const mask = await maskOf(model, { criterion: "magnitude", keep: 0.1 });
    const found = await maskedCurvature(model, data, mask, {
      operator: (at) => fisher(at, data, { type: "type-2", precision }),
      ...{ k: 3, precision, maxExact: 100, draws: 20 },
    });
    expect(found).toMatchObject({ converged: true, kept: mask.count, conditional: undefined });
    expect(found.interlacing).toMatchObject({ holds: true, compared: 3, certain: 3 });
    for (const ends of [found.whole, found.dense, found.pruned]) {
      expect(ends.exact).toBe(false);
      expect(ends.values).toHaveLength(3);
      expect(ends.smallest).toHaveLength(0);
      expect(ends.trace.standardError).toBe(0);
      expect(ends.values[0]! + ends.values[1]! + ends.values[2]!).toBeLessThan(ends.trace.value);
    }
    const H = await maskedCurvature(model, data, mask, {
      operator: (at) => hessian(at, data, { precision }),
      ...{ k: 2, precision, maxExact: 100, draws: 20 },
    });
    expect(H.whole.smallest[0]).toBeLessThan(H.whole.smallest[1]!);
    expect(H.interlacing).toMatchObject({ holds: true, compared: 4 });
    expect(H.whole.trace.standardError).toBeGreaterThan(0);
  });

  test("wrong uses", async () => {
    const { model, data, mask } = await subject();
    const message = async (promise: Promise<unknown>) => (await rejection(promise)).message;
    const none = new Mask(model.parameters, new Uint8Array(26));
    expect(await message(maskedCurvature(model, data, none))).toBe(
      "maskedCurvature: mask: expected one that keeps a parameter, got none",
    );
    const operator = (at: typeof model) => ggn(at, data, { params: "w*" });
    expect(await message(maskedCurvature(model, data, mask, { operator }))).toBe(
      "maskedCurvature: operator: expected a function that gives an operator over all 26 " +
        "parameters, got one of dimension 20",
    );
    expect(await message(maskedCurvature(model, data, undefined as never))).toContain("mask");
    const signal = AbortSignal.abort();
    await expect(maskedCurvature(model, data, mask, { signal })).rejects.toThrow("aborted");
  });
});
