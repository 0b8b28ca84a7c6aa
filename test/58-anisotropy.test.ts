// Measures of known spectra, to their printed digits, and what leaves them unchanged.
import fc from "fast-check";
import {
  conditionNumber,
  countAboveShare,
  decay,
  effectiveDimension,
  effectiveRank,
  gini,
  intrinsicDimension,
  marchenkoPastur,
  marchenkoPasturVariance,
  normalizedEntropy,
  outliers,
  participationRatio,
  powerLawTail,
  spectrumMeasures,
  stableRank,
  stableRankOfRoot,
  topMass,
} from "../lib";
import { eigenvalues, normals, outerSum, uniform } from "./support/numbers";

// The same cases in every run.
fc.configureGlobal({ seed: 1 });

// Spectrum, participation ratio, effective rank, H / ln p, tr / l1, stable rank of the matrix,
// condition, Gini.
const TABLE: [number[], ...number[]][] = [
  [[4, 3, 2, 1], 3.333333, 3.596115, 0.92322, 2.5, 1.875, 4, 0.25],
  [[1, 1, 1, 1], 4, 4, 1, 4, 4, 1, 0],
  [[8, 4, 2, 1], 2.647059, 3.117142, 0.820112, 1.875, 1.328125, 8, 0.383333],
  [[10, ...new Array(9).fill(1)], 3.311927, 5.655068, 0.752438, 1.9, 1.09, 10, 0.426316],
  [[1, 0.1, 0.01, 0.001], 1.221978, 1.433591, 0.259817, 1.111, 1.010101, 1000, 0.694644],
];

test.each(TABLE)("the measures of %p (O14)", (spectrum, ...wanted) => {
  const [ratio, rank, entropy, intrinsic, stable, condition, inequality] = wanted;
  const digits = (got: number, want: number) => expect(Math.abs(got - want)).toBeLessThan(6e-7);
  digits(participationRatio(spectrum), ratio!);
  digits(effectiveRank(spectrum), rank!);
  digits(normalizedEntropy(spectrum), entropy!);
  digits(intrinsicDimension(spectrum), intrinsic!);
  digits(stableRank(spectrum), stable!);
  digits(stableRankOfRoot(spectrum), intrinsic!);
  digits(conditionNumber(spectrum), condition!);
  digits(gini(spectrum), inequality!);
});

test("mass, counts and effective dimension by their definitions", () => {
  const spectrum = [8, 4, 2, 1];
  expect(topMass(spectrum, 1)).toBeCloseTo(8 / 15, 15);
  expect(topMass(spectrum, 3)).toBeCloseTo(14 / 15, 15);
  expect(topMass(spectrum, 4)).toBe(1);
  expect(countAboveShare(spectrum, 0.2)).toBe(3);
  expect(countAboveShare(spectrum, 0.25)).toBe(2); // above, not at
  expect(countAboveShare(spectrum, 0)).toBe(4);
  const wanted = 8 / 10 + 4 / 6 + 2 / 4 + 1 / 3;
  expect(effectiveDimension(spectrum, 2)).toBeCloseTo(wanted, 14);
});

test("edges: one eigenvalue, zeros, a rank below the dimension", () => {
  expect(normalizedEntropy([3])).toBe(1);
  expect(participationRatio([3])).toBe(1);
  expect(gini([3])).toBe(0);
  for (const measure of [participationRatio, effectiveRank, intrinsicDimension, stableRank, gini])
    expect(measure([0, 0, 0])).toBe(0);
  expect(conditionNumber([5, 1, 1e-17, 0])).toBe(5);
  expect(effectiveRank([1, 1, 0, 0])).toBeCloseTo(2, 14); // 0 ln 0 = 0
  const zeros = spectrumMeasures([0, 0]);
  expect(zeros).toMatchObject({ rank: 0, largest: 0, participationRatio: 0, topMass: [{ k: 1 }] });
});

test("negative eigenvalues count by magnitude, and the result says so", () => {
  const signed = spectrumMeasures([-4, 3, -2, 1]);
  const plain = spectrumMeasures([4, 3, 2, 1]);
  expect(signed.absolute).toBe(true);
  expect(plain.absolute).toBe(false);
  expect(signed.source).toBe("exact");
  expect([signed.trace, signed.nuclear]).toEqual([-2, 10]);
  expect(plain.trace).toBe(10);
  expect(signed.participationRatio).toBe(plain.participationRatio);
  // Rounding of a zero eigenvalue is no negative one.
  expect(spectrumMeasures([4, 3, 2, -1e-16]).absolute).toBe(false);
  expect(spectrumMeasures([4, 3, 2, -1e-7]).absolute).toBe(true);
  expect(spectrumMeasures([4, 3, 2, -1e-7], {}, "float32").absolute).toBe(false);
});

const spectra = fc.array(fc.double({ min: 1e-6, max: 1, noNaN: true }), {
  minLength: 3,
  maxLength: 30,
});

test("no measure of shape changes with scale or order, the others scale", () => {
  fc.assert(
    fc.property(spectra, fc.integer({ min: -40, max: 40 }), (spectrum, power) => {
      // By powers of 2, which round nothing across the tolerance of the rank: 1e-12 to 1e12.
      const c = 2 ** power;
      const mixed = spectrum.map((value) => c * value).reverse();
      const one = spectrumMeasures(spectrum);
      const other = spectrumMeasures(mixed);
      for (const name of [
        "participationRatio",
        "effectiveRank",
        "normalizedEntropy",
        "intrinsicDimension",
        "stableRank",
        "stableRankOfRoot",
        "condition",
        "gini",
      ] as const)
        expect(other[name] / (one[name] || 1)).toBeCloseTo(one[name] === 0 ? 0 : 1, 9);
      expect(other.rank).toBe(one.rank);
      expect(other.trace / (c * one.trace)).toBeCloseTo(1, 12);
      expect(other.frobenius / (c * one.frobenius)).toBeCloseTo(1, 12);
      // z by default is relative.
      other.effectiveDimension.forEach(({ value }, i) => {
        expect(value).toBeCloseTo(one.effectiveDimension[i]!.value, 9);
      });
      expect(other.decay!.power.rate).toBeCloseTo(one.decay!.power.rate, 8);
    }),
    { numRuns: 100 },
  );
});

test("the measures are ordered: 1 <= stable rank <= participation ratio <= effective rank <= p", () => {
  fc.assert(
    fc.property(spectra, (spectrum) => {
      const m = spectrumMeasures(spectrum);
      const slack = 1 + 1e-12;
      expect(1).toBeLessThanOrEqual(m.stableRank * slack);
      expect(m.stableRank).toBeLessThanOrEqual(m.intrinsicDimension * slack);
      expect(m.stableRank).toBeLessThanOrEqual(m.participationRatio * slack);
      expect(m.participationRatio).toBeLessThanOrEqual(m.effectiveRank * slack);
      expect(m.effectiveRank).toBeLessThanOrEqual(m.dim * slack);
    }),
  );
});

test("a power law is recovered exactly, and wins", () => {
  const spectrum = Array.from({ length: 40 }, (_, i) => 3e-5 * (i + 1) ** -1.7);
  const { power, exponential, better } = decay(spectrum)!;
  expect(power.rate).toBeCloseTo(1.7, 12);
  expect(power.intercept).toBeCloseTo(Math.log(3e-5), 11);
  expect(power.r2).toBeCloseTo(1, 14);
  expect(power.window).toEqual([1, 40]);
  expect(better).toBe("power");
  expect(exponential.r2).toBeLessThan(0.95);
  expect(decay(spectrum, [5, 20])!.power.rate).toBeCloseTo(1.7, 12);
  expect(decay(spectrum, [5, 20])!.power.window).toEqual([5, 20]);
});

test("a sloppy spectrum is exponential: (1, .1, .01, .001) with rate ln 10", () => {
  const { power, exponential, better } = decay([1, 0.1, 0.01, 0.001])!;
  expect(exponential.rate).toBeCloseTo(Math.LN10, 13);
  expect(exponential.intercept).toBeCloseTo(Math.LN10, 13);
  expect(exponential.r2).toBeCloseTo(1, 14);
  expect(exponential.rms).toBeLessThan(1e-14);
  expect(better).toBe("exponential");
  expect(power.r2).toBeLessThan(0.99);
});

test("fits leave out what is numerically zero; a flat spectrum is no evidence", () => {
  const spectrum = [1, 0.5, 0.25, 0.125, 1e-18, 0];
  expect(decay(spectrum)!.exponential.window).toEqual([1, 4]);
  expect(decay(spectrum)!.exponential.rate).toBeCloseTo(Math.LN2, 13);
  expect(decay([2, 2, 2, 2])!.better).toBe("equal");
  expect(decay([2, 1])).toBeUndefined();
});

test("the exponent of a tail: exact on quantiles, near the truth on draws", () => {
  // By hand: m = 3, ln(4/1) + ln(2/1) + 0.
  const fit = powerLawTail([4, 2, 1], { lmin: 1 })!;
  expect(fit.alpha).toBeCloseTo(1 + 3 / Math.log(8), 14);
  expect(fit.count).toBe(3);
  expect(fit.standardError).toBeCloseTo((fit.alpha - 1) / Math.sqrt(3), 14);
  const next = uniform(7);
  const draws = Array.from({ length: 4000 }, () => 0.02 * next() ** (-1 / 1.5)); // alpha = 2.5
  const found = powerLawTail(draws, { lmin: 0.02 })!;
  expect(Math.abs(found.alpha - 2.5)).toBeLessThan(4 * found.standardError);
  expect(found.ks).toBeLessThan(1.63 / Math.sqrt(4000));
  // Below the threshold there is something else: the search for it finds the tail.
  const bulk = Array.from({ length: 2000 }, () => 0.02 * next());
  const searched = powerLawTail([...draws, ...bulk])!;
  expect(searched.lmin).toBeGreaterThan(0.0195);
  expect(Math.abs(searched.alpha - 2.5)).toBeLessThan(5 * searched.standardError);
  // l_i = i^-s has alpha = 1 + 1/s.
  const ranks = Array.from({ length: 3000 }, (_, i) => (i + 1) ** -2);
  expect(powerLawTail(ranks, { lmin: 3000 ** -2 })!.alpha).toBeCloseTo(1.5, 2);
  expect(powerLawTail([1, 1, 1])).toBeUndefined();
});

test("the Marchenko-Pastur edge, with n, p and variance", () => {
  // The table of (1 - sqrt(p/n))^2 for p = 50.
  for (const [n, edge] of [
    [60, 0.0076],
    [100, 0.0858],
    [200, 0.25],
  ] as const)
    expect(marchenkoPastur(n, 50).lower).toBeCloseTo(edge, 4);
  expect(marchenkoPastur(25, 50)).toMatchObject({ zeros: 0.5 });
  expect(marchenkoPastur(25, 50).lower).toBeCloseTo(0.172, 3);
  expect(marchenkoPastur(100, 25, 4)).toEqual({ lower: 1, upper: 9, zeros: 0 });
});

test.each([
  [400, 100],
  [60, 120],
])("spikes of a Wishart matrix of %p samples stand out, its bulk does not", (n, p) => {
  const entries = normals(3, n * p, 1.5);
  const spike = normals(4, n);
  const rows = Array.from({ length: n }, (_, i) => {
    const row = entries.slice(i * p, (i + 1) * p);
    row[0]! += 9 * spike[i]!;
    return row;
  });
  const spectrum = eigenvalues(outerSum(rows, new Array(n).fill(1 / n)));
  expect(marchenkoPasturVariance(spectrum, n, p) / 2.25).toBeCloseTo(1, 1);
  const found = outliers(spectrum, { rule: "marchenko-pastur", samples: n });
  expect(found.count).toBe(1);
  expect(found.edge / marchenkoPastur(n, p, 2.25).upper).toBeCloseTo(1, 1);
  expect(outliers(spectrum)).toMatchObject({ count: 1, rule: "gap" });
  expect(spectrumMeasures(spectrum, { samples: n }).outliers).toHaveLength(2);
});

test("outliers by gap and against a semicircle", () => {
  expect(outliers([100, 90, 80, 3, 2.5, 2, 1.5, 1])).toMatchObject({ count: 3, edge: 3 });
  expect(outliers([100, 90, 80, 3, 2.5, 2, 1.5, 1]).gap).toBeCloseTo(80 / 3, 12);
  expect(outliers([5, 4, 3, 2, 1])).toMatchObject({ count: 0 });
  expect(outliers([5, 4, 3, 2, 1], { minGap: 1.3 })).toMatchObject({ count: 2 });
  // A semicircle of radius 2 by its quantiles, and two eigenvalues beyond it.
  const p = 400;
  const quantile = (share: number) => {
    let [low, high] = [-2, 2];
    for (let i = 0; i < 60; i++) {
      const x = (low + high) / 2;
      const below = 0.5 + (x * Math.sqrt(4 - x * x)) / (4 * Math.PI) + Math.asin(x / 2) / Math.PI;
      if (below < share) low = x;
      else high = x;
    }
    return low;
  };
  const bulk = Array.from({ length: p }, (_, i) => quantile((i + 0.5) / p));
  const found = outliers([...bulk, 5, -2.5], { rule: "semicircle" });
  expect(found.count).toBe(2);
  expect(found.edge).toBeCloseTo(2, 1);
});

test("wrong uses name what was expected", () => {
  const calls: [() => unknown, string][] = [
    [() => participationRatio([]), "expected eigenvalues, at least one number, got an array of 0"],
    [() => gini([1, Number.NaN]), "expected finite eigenvalues, got NaN at index 1"],
    [() => topMass([1, 2], 3), "k: expected a whole number from 1 to 2"],
    [() => effectiveDimension([1], 0), "z: expected a number over 0, got 0"],
    [() => decay([1, 2, 3], [2, 4]), "window: expected [from, to] with 1 <= from < to <= 3"],
    [() => decay([3, 2, 1, 0], [1, 4]), "eigenvalue 4 is 0; use [1, 3]"],
    [() => outliers([1], { rule: "marchenko-pastur" }), "samples: expected their number"],
    [() => marchenkoPastur(0, 5), "n: expected a number over 0, got 0"],
    [() => spectrumMeasures([1], { to: [1] } as never), 'there is no option "to"'],
    [() => spectrumMeasures([1], { top: [0] }), "top: expected an array of whole numbers"],
  ];
  for (const [call, text] of calls) expect(call).toThrow(text);
});
