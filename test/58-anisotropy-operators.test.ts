// The anisotropy of operators: exact, estimated with honest errors, and by group of parameters.
import {
  anisotropy,
  type EstimatedAnisotropy,
  type ExactAnisotropy,
  frobeniusNorm,
  ggn,
  hessian,
  type LinearOperator,
  linearOperator,
  loadData,
  loadModel,
  numericalRank,
  samplesByClass,
  selectSamples,
  spectrumMeasures,
  trace,
  type Uncertain,
} from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { openCase, rejection, relative } from "./50-helpers";
import { dense } from "./support/networks";
import { eigenvalues, integers, type Matrix, normals } from "./support/numbers";

const precision = "float64";

/** 3 -> 4 -> 3 with cross-entropy; the second layer's matrix is stored [in, out]. */
async function problem() {
  const bytes = modelBytes({
    nodes: [
      node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["a"], { transB: 1n }),
      node("Tanh", ["a"], ["h"]),
      node("Gemm", ["h", "fc2.weight", "fc2.bias"], ["out"]),
    ],
    inputs: [value("x", ["N", 3])],
    outputs: [value("out", ["N", 3])],
    initializers: [
      floats("fc1.weight", [4, 3], Array.from(normals(1, 12))),
      floats("fc1.bias", [4], Array.from(normals(2, 4))),
      floats("fc2.weight", [4, 3], Array.from(normals(3, 12))),
      floats("fc2.bias", [3], Array.from(normals(4, 3))),
    ],
  });
  const model = await loadModel(bytes, { loss: "cross-entropy" });
  const x = { data: normals(5, 60), shape: [20, 3] };
  const data = await loadData({ x, y: BigInt64Array.from(integers(6, 20, 3), BigInt) });
  return { model, data };
}

const exact = (found: unknown): ExactAnisotropy => {
  expect(found).toMatchObject({ source: "exact" });
  return found as ExactAnisotropy;
};

const block = (matrix: Matrix, indices: number[]): Matrix =>
  indices.map((i) => Float64Array.from(indices, (j) => matrix[i]![j]!));

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

test("of a whole operator: the measures of its spectrum", async () => {
  const { model, data } = await problem();
  for (const make of [hessian, ggn]) {
    using A = make(model, data, { precision });
    const spectrum = eigenvalues(await dense(A));
    const found = exact(await anisotropy(A));
    const wanted = spectrumMeasures(spectrum);
    expect(relative(found.values, spectrum)).toBeLessThan(1e-12);
    for (const name of ["participationRatio", "effectiveRank", "gini", "stableRank"] as const)
      expect(found[name] / wanted[name]).toBeCloseTo(1, 10);
    expect(found.absolute).toBe(make === hessian);
    expect(found.rank).toBe(wanted.rank);
  }
});

test("by tensor, layer and unit: the diagonal blocks", async () => {
  const { model, data } = await problem();
  using G = ggn(model, data, { precision });
  const matrix = await dense(G);
  const trace = matrix.reduce((sum, row, i) => sum + row[i]!, 0);
  const expectGroups = async (
    by: "tensor" | "layer" | "unit",
    wanted: Record<string, number[]>,
  ) => {
    const found = await anisotropy(G, { by, parameters: model.parameters });
    expect(found.map(({ name }) => name)).toEqual(Object.keys(wanted));
    for (const group of found) {
      const indices = wanted[group.name]!;
      const spectrum = eigenvalues(block(matrix, indices));
      expect(relative(exact(group).values, spectrum)).toBeLessThan(1e-12);
      const part = indices.reduce((sum, i) => sum + matrix[i]![i]!, 0);
      expect(group.share).toBeCloseTo(part / trace, 12);
    }
  };
  await expectGroups("tensor", {
    "fc1.weight": range(0, 12),
    "fc1.bias": range(12, 16),
    "fc2.weight": range(16, 28),
    "fc2.bias": range(28, 31),
  });
  await expectGroups("layer", { fc1: range(0, 16), fc2: range(16, 31) });
  await expectGroups("unit", {
    ...Object.fromEntries(
      range(0, 4).map((unit) => [`fc1[${unit}]`, [...range(3 * unit, 3 * unit + 3), 12 + unit]]),
    ),
    // Columns, as it is stored.
    ...Object.fromEntries(
      range(0, 3).map((unit) => [
        `fc2[${unit}]`,
        [...range(0, 4).map((row) => 16 + 3 * row + unit), 28 + unit],
      ]),
    ),
  });
});

test("of a restriction to one layer, its units", async () => {
  const { model, data } = await problem();
  using G = ggn(model, data, { precision });
  using layer = G.restrict("fc2.*");
  const units = await anisotropy(layer, { by: "unit", parameters: model.parameters });
  expect(units.map(({ name }) => name)).toEqual(["fc2[0]", "fc2[1]", "fc2[2]"]);
  using part = G.restrict({ indices: [0, 1, 2] });
  await expect(anisotropy(part, { by: "unit", parameters: model.parameters })).rejects.toThrow(
    "expected whole tensors",
  );
});

test("the Hessians of the classes, by their samples, sum to the whole", async () => {
  const { model, data } = await problem();
  using H = hessian(model, data, { precision });
  const whole = await dense(H);
  const classes = await samplesByClass(data);
  expect([...classes.keys()]).toEqual([0, 1, 2]);
  expect([...classes.values()].flat().sort((a, b) => a - b)).toEqual(range(0, 20));
  const sum = new Float64Array(31 * 31);
  for (const indices of classes.values()) {
    using part = await selectSamples(data, indices);
    expect(part.samples).toBe(indices.length);
    using A = hessian(model, part, { precision });
    (await dense(A)).forEach((row, i) => {
      row.forEach((x, j) => {
        sum[31 * i + j]! += (x * indices.length) / 20;
      });
    });
    expect(exact(await anisotropy(A)).dim).toBe(31);
  }
  expect(
    relative(
      sum,
      whole.flatMap((row) => Array.from(row)),
    ),
  ).toBeLessThan(1e-13);
});

test("chosen samples keep types, order and normalisation", async () => {
  const pixels = Uint8Array.from({ length: 12 }, (_, i) => 20 * i);
  const source = { x: { data: pixels, shape: [6, 2] }, y: Int32Array.of(5, 4, 3, 2, 1, 0) };
  using plain = await loadData(source);
  using some = await selectSamples(plain, [4, 1, 1]);
  expect(String(some)).toBe("x uint8 (3, 2), y int32 (3,)");
  const labels = new Float64Array(3);
  await some.native.read("y", labels).promise;
  expect(Array.from(labels)).toEqual([1, 4, 4]);
  using scaled = await loadData(source, { normalize: { scale: 1 / 255, mean: 0.1, std: 0.3 } });
  using part = await selectSamples(scaled, [2]);
  const values = new Float64Array(2);
  await part.native.read("x", values).promise;
  expect(values[0]).toBe((80 * (1 / 255) - 0.1) / 0.3);
  expect(values[1]).toBe((100 * (1 / 255) - 0.1) / 0.3);
});

/** Q diag(spectrum) Q^T with a product of reflections Q, so that no vector is special. */
function withSpectrum(spectrum: Float64Array, dtype: "float32" | "float64" = "float64") {
  const dim = spectrum.length;
  const axes = [1, 2, 3].map((seed) => {
    const v = normals(seed, dim);
    const size = Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
    return v.map((x) => x / size);
  });
  const reflect = (y: Float64Array, v: Float64Array) => {
    let inner = 0;
    for (let i = 0; i < dim; i++) inner += v[i]! * y[i]!;
    for (let i = 0; i < dim; i++) y[i]! -= 2 * inner * v[i]!;
  };
  return linearOperator(
    dim,
    (vectors, count) => {
      for (let k = 0; k < count; k++) {
        const y = Float64Array.from(vectors.subarray(k * dim, (k + 1) * dim));
        for (const v of axes) reflect(y, v);
        for (let i = 0; i < dim; i++) y[i]! *= spectrum[i]!;
        for (const v of [...axes].reverse()) reflect(y, v);
        vectors.set(y, k * dim);
      }
      return vectors;
    },
    { dtype },
  );
}

const estimated = async (
  A: LinearOperator,
  options: Parameters<typeof anisotropy>[1] & { by?: undefined },
): Promise<EstimatedAnisotropy> => {
  const found = await anisotropy(A, { method: "estimate", ...options });
  expect(found.source).toBe("estimated");
  return found as EstimatedAnisotropy;
};

const POWER = Float64Array.from({ length: 120 }, (_, i) => (i + 1) ** -0.7);

/** Estimates against what is known, as pairs. */
function pairsOf(found: EstimatedAnisotropy, spectrum: Float64Array): [Uncertain, number][] {
  const wanted = spectrumMeasures(spectrum, { top: [1, 5] });
  return [
    [found.trace, wanted.trace],
    [found.nuclear, wanted.nuclear],
    [found.frobenius, wanted.frobenius],
    [found.participationRatio, wanted.participationRatio],
    [found.intrinsicDimension, wanted.intrinsicDimension],
    [found.stableRank, wanted.stableRank],
    [found.stableRankOfRoot, wanted.stableRankOfRoot],
    [found.topMass[1]!.share, wanted.topMass[1]!.share],
  ];
}

test("estimates hold the truth in 95 % of runs, and their errors are of the right size", async () => {
  using A = withSpectrum(POWER);
  const runs = 120;
  const inside = new Array(8).fill(0);
  const squared = new Array(8).fill(0);
  for (let seed = 1; seed <= runs; seed++) {
    const found = await estimated(A, { k: 6, probes: 16, definite: true, seed, top: [1, 5] });
    expect(found.absolute).toBe(false);
    pairsOf(found, POWER).forEach(([{ value, standardError, interval }, truth], i) => {
      if (interval[0] <= truth && truth <= interval[1]) inside[i]++;
      squared[i] += ((value - truth) / standardError) ** 2 / runs;
    });
  }
  for (const count of inside) {
    expect(count / runs).toBeGreaterThan(0.88);
    expect(count / runs).toBeLessThanOrEqual(1);
  }
  for (const ratio of squared) {
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(2);
  }
});

test("negative eigenvalues are found, and |lambda| is measured", async () => {
  // The leading ones are positive: those of negative sign are in the rest.
  const signed = POWER.map((x, i) => (i > 20 && i % 3 === 0 ? -x : x));
  using A = withSpectrum(signed);
  const found = await estimated(A, { k: 6, probes: 64, top: [1, 5] });
  expect(found.absolute).toBe(true);
  expect(Array.from(found.top).every((x) => x > 0)).toBe(true);
  for (const [{ value, standardError }, truth] of pairsOf(found, signed)) {
    expect(Math.abs(value - truth)).toBeLessThan(4 * standardError);
    expect(standardError).toBeLessThan(0.1 * Math.abs(truth));
  }
  using B = withSpectrum(POWER);
  expect((await estimated(B, { k: 6, probes: 8 })).absolute).toBe(false);
});

test("without error where the eigenpairs are all there is", async () => {
  const spectrum = new Float64Array(200);
  spectrum.set([4, -3, 2, 1], 10);
  using A = withSpectrum(spectrum);
  const found = await estimated(A, { k: 6, probes: 4, top: [1, 2] });
  expect(found.participationRatio.value).toBeCloseTo(10 / 3, 8);
  expect(found.stableRank.value).toBeCloseTo(1.875, 8);
  expect(found.participationRatio.standardError).toBeLessThan(1e-8);
  expect(found.absolute).toBe(true);
  expect(found.largest).toBeCloseTo(4, 10);
});

test("the same for c times the operator, c from 2^-40 to 2^40, in both precisions", async () => {
  for (const dtype of ["float64", "float32"] as const) {
    const base = await estimated(withSpectrum(POWER, dtype), { k: 4, probes: 8 });
    for (const c of [2 ** -40, 2 ** 40]) {
      using A = withSpectrum(
        POWER.map((x) => c * x),
        dtype,
      );
      const found = await estimated(A, { k: 4, probes: 8 });
      expect(found.participationRatio.value / base.participationRatio.value).toBeCloseTo(1, 5);
      expect(found.absolute).toBe(base.absolute);
    }
  }
});

test("estimate and exact agree on a layer of a trained network", async () => {
  const { model, data } = await openCase("mlp_relu");
  using G = ggn(model, data);
  using layer = G.restrict("net.4.*");
  const whole = exact(await anisotropy(layer, { top: [1, 5] }));
  const found = await estimated(layer, { k: 10, definite: true, top: [1, 5] });
  for (const name of ["participationRatio", "intrinsicDimension", "stableRank"] as const)
    expect(Math.abs(found[name].value - whole[name])).toBeLessThan(
      4 * found[name].standardError + 1e-4 * whole[name],
    );
  expect(found.products).toBeLessThan(whole.dim);
  // The estimators of trace and norm by other means say the same.
  const { trace: sum, frobenius } = found;
  const other = await trace(layer, { seed: 7 });
  const size = await frobeniusNorm(layer, { seed: 7 });
  expect(Math.abs(other.value - sum.value)).toBeLessThan(
    4 * Math.hypot(other.standardError, sum.standardError) + 1e-4 * sum.value,
  );
  expect(Math.abs(size.value - frobenius.value)).toBeLessThan(
    4 * Math.hypot(size.standardError, frobenius.standardError) + 1e-4 * frobenius.value,
  );
  // Larger operators are estimated unless told otherwise.
  const auto = await anisotropy(layer, { maxExact: 100, k: 5, probes: 4, definite: true });
  expect(auto.source).toBe("estimated");
});

test("a spectrum that does not fit into memory says what to do instead", async () => {
  using A = linearOperator(1e6, (v) => v, { name: "mine" });
  for (const call of [() => anisotropy(A, { method: "exact" }), () => numericalRank(A)]) {
    const error = await rejection(call());
    expect(error.name).toBe("MemoryBudgetError");
    expect(error.message).toMatch(
      /Restrict the operator to a layer or a mask, or take an estimate$/,
    );
  }
});

test("a call stops at its signal, between groups and within", async () => {
  const { model, data } = await problem();
  using H = hessian(model, data, { precision });
  for (const options of [{}, { by: "unit", parameters: model.parameters } as const]) {
    const signal = AbortSignal.abort();
    const error = await rejection(anisotropy(H, { ...options, signal } as never));
    expect(error.name).toBe("AbortError");
  }
  const stop = new AbortController();
  const done: number[] = [];
  const cut = await rejection(
    anisotropy(H, {
      by: "tensor",
      signal: stop.signal,
      onProgress: ({ fraction }) => {
        done.push(fraction!);
        if (done.length === 2) stop.abort();
      },
    }),
  );
  expect(cut.name).toBe("AbortError");
  expect(done).toEqual([12 / 31, 16 / 31]);
});

test("wrong uses name what was expected", async () => {
  const { model, data } = await problem();
  using G = ggn(model, data, { precision });
  using plain = linearOperator(2, (v) => v);
  const calls: [() => Promise<unknown>, string][] = [
    [() => anisotropy([1] as never), "expected an operator, got an array"],
    [() => anisotropy(plain, { by: "tensor" }), "linearOperator has no named parameters"],
    [() => anisotropy(G, { by: "unit" }), "expected parameters: model.parameters"],
    [() => anisotropy(G, { by: "row" as never }), 'by: expected one of "tensor", "layer", "unit"'],
    [() => anisotropy(G, { probes: 1 }), "probes: expected a whole number of at least 2"],
    [() => anisotropy(G, { exact: true } as never), 'there is no option "exact"'],
    [() => selectSamples(data, []), "expected at least one sample"],
    [() => selectSamples(data, [20]), "expected whole numbers from 0 to 19, got 20"],
    [() => samplesByClass(data, { target: "z" }), 'expected an array "z" of labels'],
    [
      () => samplesByClass(data, { target: "x" }),
      "expected one label a sample, got the shape (20, 3)",
    ],
  ];
  for (const [call, text] of calls) await expect(call()).rejects.toThrow(text);
});
