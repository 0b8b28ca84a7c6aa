// Spectral densities against operators whose every probe has a measure in closed form: nodes,
// weights, proven bounds, counts, bands, axes.
import { type LinearOperator, linearOperator, OptionError, spectralDensity } from "../lib";
import { GaussMeasure } from "../lib/density/measure";
import { tridiagonalEigen } from "../lib/density/tridiagonal";
import { rejection } from "./50-helpers";
import { eigenvalues, normals, outerSum, uniform } from "./support/numbers";
import { range, reflected, SPECTRA } from "./support/reflected";

const total = (values: ArrayLike<number>) => Array.from(values).reduce((sum, x) => sum + x, 0);

/** A diagonal operator. */
function diagonal(
  values: ArrayLike<number>,
  dtype: "float32" | "float64" = "float64",
): LinearOperator {
  const n = values.length;
  return linearOperator(n, (V) => V.map((x, i) => x * values[i % n]!), { dtype });
}

test("the example of three steps on diag(1, 2, 3, 4) (O21)", async () => {
  const found = await spectralDensity(diagonal([1, 2, 3, 4]), { steps: 3, probes: 3 });
  for (let k = 0; k < 3; k++) {
    const [a, b, c] = found.nodes[k]!;
    expect(a).toBeCloseTo(1.0682179, 6);
    expect(b).toBeCloseTo(2.5, 12);
    expect(c).toBeCloseTo(3.9317821, 6);
    const [x, y, z] = found.weights[k]!;
    expect(x).toBeCloseTo(0.304878, 6);
    expect(y).toBeCloseTo(0.3902439, 6);
    expect(z).toBeCloseTo(0.304878, 6);
    [1, 2.5, 7.5, 25, 88.5, 325].forEach((moment, power) => {
      const sum = total(found.nodes[k]!.map((t, j) => t ** power * found.weights[k]![j]!));
      expect(sum / moment).toBeCloseTo(1, 13);
    });
  }
  expect(found.products).toBe(9);
  expect(found.complete).toBe(false);
});

test("a tridiagonal eigenproblem: eigenvalues in closed form, orthonormal rows", () => {
  for (const n of [1, 2, 3, 10, 61]) {
    // The second difference: 2 - 2 cos(pi k / (n + 1)).
    const rows = Array.from({ length: n }, (_, i) => i);
    const found = tridiagonalEigen(
      range(n, () => 2),
      range(n, () => -1),
      rows,
    );
    found.values.forEach((x, k) => {
      expect(Math.abs(x - 2 + 2 * Math.cos((Math.PI * (k + 1)) / (n + 1)))).toBeLessThan(1e-14 * n);
    });
    for (const i of rows)
      for (const j of rows) {
        const inner = total(found.rows[i]!.map((x, k) => x * found.rows[j]![k]!));
        expect(Math.abs(inner - (i === j ? 1 : 0))).toBeLessThan(1e-13);
      }
  }
});

test("at full steps nodes are the eigenvalues and counts exact", async () => {
  const A = outerSum(
    [0, 1, 2].flatMap((s) => Array.from({ length: 12 }, (_, i) => normals(100 * s + i, 30))),
  );
  const want = eigenvalues(A).reverse();
  const operator = linearOperator(30, (V, count) => {
    const Y = new Float64Array(count * 30);
    for (let k = 0; k < count; k++)
      A.forEach((row, i) => {
        Y[k * 30 + i] = total(row.map((a, j) => a * V[k * 30 + j]!));
      });
    return Y;
  });
  const found = await spectralDensity(operator, { probes: 1, steps: 30 });
  expect(found.complete).toBe(true);
  expect(found.products).toBe(30);
  found.nodes[0]!.forEach((x, i) => {
    expect(Math.abs(x - want[i]!)).toBeLessThan(1e-12 * want.at(-1)!);
  });
  const between = (want[9]! + want[10]!) / 2;
  expect(found.count(0, between).value).toBeCloseTo(10, 10);
  expect(found.count(0, between).sampling).toBe(0);
  expect(found.count(0, between).interval[0]).toBeGreaterThan(9.999);
  expect(found.count(0, between).interval[1]).toBeLessThan(10.001);
  expect(found.count(want[3]!, want[5]!).value).toBeCloseTo(3, 10);
  expect(found.massBelow(between).fraction.value).toBeCloseTo(1 / 3, 10);
  expect(found.massBelow(between).trace.value).toBeCloseTo(
    total(want.slice(0, 10)) / total(want),
    10,
  );
  expect(found.warnings).toEqual([]);
});

test("counts of outliers, of a bulk and of zeros within their intervals", async () => {
  const values = range(400, (i) => (i < 5 ? 50 + i : i < 200 ? Math.sin(i) / 10 : 0));
  const { operator } = reflected(values);
  const found = await spectralDensity(operator, { probes: 16, steps: 60 });
  const cases: [number, number][] = [
    [10, 100],
    [-1, 10],
    [-1e-6, 1e-6],
    [0.05, Number.POSITIVE_INFINITY],
    [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
  ];
  for (const [low, high] of cases) {
    const want = values.filter((x) => x >= low && x <= high).length;
    const { value, lower, upper, interval, sampling } = found.count(low, high);
    expect(interval[0]).toBeLessThanOrEqual(want + 1e-6);
    expect(interval[1]).toBeGreaterThanOrEqual(want - 1e-6);
    expect(lower).toBeLessThanOrEqual(value);
    expect(upper).toBeGreaterThanOrEqual(value);
    expect(sampling).toBeLessThan(400 * 0.06);
  }
  expect(found.count(-1e300, 1e300).value).toBeCloseTo(400, 9);
  // Far from eigenvalues nothing but the sampling is uncertain.
  const outliers = found.count(10, 100);
  expect(outliers.upper - outliers.lower).toBeLessThan(1e-6);
});

test("the sampling band holds the truth in 90 to 99 of 100 seeds", async () => {
  const values = range(60, (i) => i);
  const operator = diagonal(values);
  let held = 0;
  for (let seed = 0; seed < 200; seed++) {
    const found = await spectralDensity(operator, {
      seed,
      probes: 8,
      steps: 30,
      probeType: "gaussian",
      points: 4,
    });
    const { value, sampling } = found.cdf(19.5);
    if (Math.abs(value - 1 / 3) <= sampling) held++;
  }
  expect(held).toBeGreaterThanOrEqual(180);
  expect(held).toBeLessThanOrEqual(198);
});

test("on scale: nodes, kernel and density follow the operator from 1e-12 to 1e12", async () => {
  const values = SPECTRA["bulk and outliers"]!;
  const options = { probes: 3, steps: 20, points: 128, axis: "symlog" } as const;
  const one = await spectralDensity(reflected(values).operator, options);
  for (const factor of [1e-12, 1e-5, 1e5, 1e12, 2 ** -40, 2 ** 40]) {
    const { operator } = reflected(values.map((x) => x * factor));
    const other = await spectralDensity(operator, options);
    const binary = Number.isInteger(Math.log2(factor));
    const same = (got: ArrayLike<number>, want: ArrayLike<number>, size: number) => {
      if (binary) expect(Array.from(got)).toEqual(Array.from(want));
      else
        Array.from(got).forEach((x, i) => {
          expect(Math.abs(x - want[i]!)).toBeLessThanOrEqual(size);
        });
    };
    other.nodes.forEach((list, k) => {
      same(
        list.map((x) => x / factor),
        one.nodes[k]!,
        1e-12 * one.scale,
      );
      same(other.weights[k]!, one.weights[k]!, 1e-9);
    });
    expect(other.kernelWidth).toBeCloseTo(one.kernelWidth, 9);
    expect(Math.max(...other.density.map((x, i) => Math.abs(x - one.density[i]!)))).toBeLessThan(
      1e-6 * Math.max(...one.density),
    );
    expect(other.count(factor, 1e3 * factor).value).toBeCloseTo(one.count(1, 1e3).value, 8);
  }
});

test("densities integrate to one, or to dim, on every axis and for every kernel", async () => {
  // Few distinct values, so that the zeros are found.
  const values = range(200, (i) => (i < 3 ? 30 * (i + 1) : i < 150 ? 10 ** -(i % 7) : 0));
  const { operator } = reflected(values);
  for (const axis of ["linear", "log", "symlog"] as const)
    for (const kernelWidth of [undefined, 1e-6, 0.3])
      for (const normalisation of ["one", "dim"] as const) {
        const want = normalisation === "one" ? 1 : 200;
        const options = { axis, kernelWidth, normalisation, points: 300, steps: 30, probes: 3 };
        const found = await spectralDensity(operator, options);
        expect(found.outside / want).toBeCloseTo(axis === "log" ? 0.25 : 0, 1);
        expect((total(found.mass) + found.outside) / want).toBeCloseTo(1, 10);
        const place = (x: number) =>
          axis === "linear"
            ? x
            : axis === "log"
              ? Math.log10(x)
              : Math.asinh(x / (2 * found.threshold!)) / Math.LN10;
        const integral = total(
          found.density.map((d, i) => d * (place(found.edges[i + 1]!) - place(found.edges[i]!))),
        );
        expect((integral + found.outside) / want).toBeCloseTo(1, 6);
        expect(Math.min(...found.density)).toBeGreaterThanOrEqual(0);
        const inside = found.density.every(
          (d, i) => found.band.lower[i]! <= d && d <= found.band.upper[i]!,
        );
        expect(inside).toBe(true);
        if (kernelWidth) expect(found.kernelWidth).toBe(kernelWidth);
        else expect(found.kernelWidth).toBeGreaterThanOrEqual(0.002);
      }
});

test("the kernel polynomial method: exact moments, the same shares as quadrature", async () => {
  const values = range(300, (i) => Math.cos((Math.PI * (i + 0.5)) / 300) + (i < 2 ? 4 : 0));
  const { operator } = reflected(values);
  const options = { probes: 8, steps: 60, points: 256 } as const;
  const slq = await spectralDensity(operator, options);
  const kpm = await spectralDensity(operator, { ...options, method: "kpm" });
  expect(kpm.rigorous).toBe(false);
  expect(kpm.products).toBe(8 * 60 + 20);
  expect(total(kpm.mass)).toBeCloseTo(1, 10);
  for (const x of [-0.9, -0.3, 0.2, 0.7, 2.5, 4.5]) {
    const [a, b] = [slq.cdf(x), kpm.cdf(x)];
    expect(Math.abs(a.value - b.value)).toBeLessThan(0.03);
    expect(b.interval[0]).toBeLessThanOrEqual(a.interval[1]);
    expect(b.interval[1]).toBeGreaterThanOrEqual(a.interval[0]);
  }
  // Moments of the damped series are those of the measure times Jackson's factors: the first is the
  // mean of the spectrum to within the damping.
  kpm.nodes.forEach((nodes, k) => {
    const kpmMean = total(nodes.map((x, i) => x * kpm.weights[k]![i]!));
    const slqMean = total(slq.nodes[k]!.map((x, i) => x * slq.weights[k]![i]!));
    expect(Math.abs(kpmMean - slqMean)).toBeLessThan(0.005);
    expect(total(kpm.weights[k]!)).toBeCloseTo(1, 10);
  });
  const log = await rejection(
    spectralDensity(operator, { ...options, method: "kpm", axis: "log" }),
  );
  expect(log.message).toContain('axis: expected "linear" or "symlog"');
});

test("results depend neither on the block nor on memory, as long as products do not", async () => {
  const values = SPECTRA["pairs of both signs"]!;
  for (const method of ["slq", "kpm"] as const) {
    const options = { method, probes: 7, steps: 12, points: 32 } as const;
    const all = await spectralDensity(diagonal(values), options);
    for (const more of [
      { blockSize: 1 },
      { blockSize: 3 },
      { blockSize: 16 },
      { maxMemory: 30000 },
    ]) {
      const other = await spectralDensity(diagonal(values), { ...options, ...more });
      expect(other.nodes).toEqual(all.nodes);
      expect(other.weights).toEqual(all.weights);
      expect(other.density).toEqual(all.density);
    }
  }
});

test("degenerate operators: zero, the identity, one dimension, low rank", async () => {
  for (const method of ["slq", "kpm"] as const)
    for (const axis of ["linear", "symlog"] as const) {
      const zero = await spectralDensity(diagonal(new Float64Array(20)), { method, axis });
      expect(zero.count(-1, 1).value).toBeCloseTo(20, 8);
      expect(zero.count(0, 0).interval[1]).toBeGreaterThan(method === "slq" ? 20 - 1e-9 : 14);
      expect(total(zero.mass)).toBeCloseTo(1, 10);
      expect(zero.scale).toBe(0);
      const one = await spectralDensity(diagonal([-3]), { method, axis });
      expect(total(one.mass)).toBeCloseTo(1, 10);
      expect(one.count(-4, -2).value).toBeCloseTo(1, 8);
      const same = await spectralDensity(diagonal(new Float64Array(9).fill(2)), { method, axis });
      expect(same.count(1.9, 2.1).value).toBeCloseTo(9, 6);
    }
  const zero = await spectralDensity(diagonal(new Float64Array(20)), { axis: "log" });
  expect(zero.nodes.map((list) => Array.from(list))).toEqual(Array(8).fill([0]));
  expect(zero.weights.map((list) => Array.from(list))).toEqual(Array(8).fill([1]));
  expect(zero.outside).toBe(1);
  expect(zero.products).toBe(8);
  // Rank r: the Krylov space ends after r + 1 steps.
  const low = await spectralDensity(reflected(range(50, (i) => (i < 4 ? i + 1 : 0))).operator);
  low.nodes.forEach((nodes) => {
    expect(nodes.length).toBe(5);
    nodes.forEach((x, i) => {
      expect(Math.abs(x - i)).toBeLessThan(1e-13);
    });
  });
  expect(low.products).toBe(8 * 5);
});

test("float32: the same shares to its rounding", async () => {
  const values = SPECTRA.bulk!;
  const wide = await spectralDensity(reflected(values).operator, { steps: 20 });
  const narrow = await spectralDensity(reflected(values, "float32").operator, { steps: 20 });
  expect(narrow.resolution).toBeGreaterThan(1e-7);
  for (const x of [-0.5, 0.1, 0.8])
    expect(Math.abs(wide.cdf(x).value - narrow.cdf(x).value)).toBeLessThan(1e-3);
});

test("float32: outliers are counted with tight bounds", async () => {
  const values = range(400, (i) => (i < 5 ? 5 + i : Math.sin(i) / 10));
  const found = await spectralDensity(reflected(values, "float32").operator, { steps: 30 });
  const { value, lower, upper, interval } = found.count(1, 100);
  expect(upper - lower).toBeLessThan(0.01);
  expect(value).toBeGreaterThanOrEqual(lower);
  expect(interval[0]).toBeLessThanOrEqual(5);
  expect(interval[1]).toBeGreaterThanOrEqual(5);
});

test("one probe has a warning, and no upper end of its band", async () => {
  const found = await spectralDensity(reflected(SPECTRA.bulk!).operator, { probes: 1, steps: 9 });
  expect(found.warnings).toEqual([expect.stringContaining("a single probe")]);
  expect(found.cdf(0).sampling).toBe(Number.POSITIVE_INFINITY);
  expect(found.cdf(0).interval).toEqual([0, 1]);
  expect(found.band.upper[0]).toBe(Number.POSITIVE_INFINITY);
});

test("wrong uses", async () => {
  const A = diagonal(range(12, (i) => i - 5));
  const log = await rejection(spectralDensity(A, { axis: "log", steps: 8 }));
  expect(log).toBeInstanceOf(OptionError);
  expect(log.message).toMatch(
    /axis: expected "linear" or "symlog", as .* has negative eigenvalues/,
  );
  const nan = linearOperator(12, (V) => V.fill(0, 3));
  expect((await spectralDensity(nan, { probes: 2 })).products).toBeGreaterThan(0);
  const broken = diagonal(range(12, (i) => (i === 3 ? Number.NaN : 1)));
  expect((await rejection(spectralDensity(broken))).message).toContain("coordinate 3");
  for (const [options, text] of [
    [{ probes: 0 }, "probes: expected a whole number of at least 1, got 0"],
    [{ steps: 1.5 }, "steps: expected a whole number of at least 1, got 1.5"],
    [{ axis: "ln" }, 'axis: expected one of "linear", "log", "symlog", got "ln"'],
    [{ points: 1 }, "points: expected a whole number of at least 2, got 1"],
    [{ kernelWidth: 0 }, "kernelWidth: expected a number above 0, got 0"],
    [{ method: "kpm", kernelWidth: 0.1 }, "kernelWidth: the kernel of kpm follows from steps"],
    [{ threshold: 1 }, 'threshold: is for axis "symlog", the axis is "linear"'],
    [{ probe: 1 }, '"probes" was probably meant'],
    [{ maxMemory: 100 }, "needs at least"],
  ] as const)
    expect((await rejection(spectralDensity(A, options as object))).message).toContain(text);
  const found = await spectralDensity(A, { steps: 4 });
  expect(() => found.count(2, 1)).toThrow("count: expected low <= high, got 2 and 1");
  expect(() => found.cdf(Number.NaN)).toThrow("cdf: x: expected a number, got NaN");
  expect(() => found.massBelow(-1)).toThrow(
    "massBelow: t: expected a number of at least 0, got -1",
  );
  expect(() => found.probeCdf(8, 0)).toThrow(
    "probeCdf: probe: expected an index from 0 to 7, got 8",
  );
});

test("an operator that is not symmetric has a warning", async () => {
  const random = uniform(3);
  const M = range(30 * 30, () => random() - 0.5);
  const A = linearOperator(30, (V, count) => {
    const Y = new Float64Array(V.length);
    for (let k = 0; k < count; k++)
      for (let i = 0; i < 30; i++)
        for (let j = 0; j < 30; j++) Y[k * 30 + i]! += M[i * 30 + j]! * V[k * 30 + j]!;
    return Y;
  });
  const { warnings } = await spectralDensity(A, { steps: 10 });
  expect(warnings).toEqual([expect.stringContaining("does not look symmetric")]);
});

test("bounds are as sharp as moments allow: two measures with the same moments meet them", () => {
  // Gauss's and the rule through x have the same 2 m moments; shares below x differ by the weight
  // at x.
  const rule = {
    diagonal: Float64Array.of(2.5, 2.5, 2.5),
    offDiagonal: Float64Array.of(Math.sqrt(1.25), Math.sqrt(0.8), Math.sqrt(0.45)),
    exact: false,
    nodes: Float64Array.of(1.0682179, 2.5, 3.9317821),
    weights: Float64Array.of(0.304878, 0.3902439, 0.304878),
  };
  const { lower, upper } = new GaussMeasure(rule, 4, 1e-15).share(1);
  // The measure with 1/4 at 1, 2, 3 and 4 is the rule through 1.
  expect(lower).toBeCloseTo(0, 10);
  expect(upper).toBeCloseTo(0.25, 7);
});
