// Masks by every criterion: worked examples, scores against their formulas, counts and schedules.
import fc from "fast-check";
import {
  CRITERIA,
  type Criterion,
  DataMismatchError,
  eigsh,
  exactDiagonal,
  fisher,
  ggn,
  gradient,
  hessian,
  keepLargest,
  linearOperator,
  loadData,
  loadModel,
  Mask,
  type Model,
  mask,
  maskIoU,
  masks,
  parameterVector,
  weightScores,
} from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { relative, tinyProblem, vector } from "./50-helpers";

// The same cases in every run.
fc.configureGlobal({ seed: 1 });

// The worked example of Zhou et al.'s criteria: keep 3 of 6.
const INITIAL = [0.5, -0.2, 0.4, -0.8, 0.05, -0.28];
const FINAL = [0.4, -0.6, -0.3, -0.9, 0.1, 0.35];

/** x W + b with given weights, 3 -> 2, in Gemm's default layout: inputs by outputs. */
function oneLayer(weights: number[], bias = [0.1, -0.2]): Promise<Model> {
  const bytes = modelBytes({
    nodes: [node("Gemm", ["x", "w", "b"], ["out"])],
    inputs: [value("x", ["N", 3])],
    outputs: [value("out", ["N", 2])],
    initializers: [floats("w", [3, 2], weights), floats("b", [2], bias)],
  });
  return loadModel(bytes, { loss: "mse" });
}

const weightBits = (m: Mask) => Array.from(m.indices()).filter((i) => i < 6);

async function pair() {
  return { model: await oneLayer(FINAL), initial: await oneLayer(INITIAL, [0, 0]) };
}

describe("worked examples (reference table 6.1)", () => {
  test.each<[Criterion, number[]]>([
    ["large_final", [0, 1, 3]],
    ["magnitude", [0, 1, 3]],
    ["small_final", [2, 4, 5]],
    ["large_init", [0, 2, 3]],
    ["small_init", [1, 4, 5]],
    ["magnitude_increase", [1, 3, 5]],
    ["movement", [1, 2, 5]],
    // Ranks of |w0|: 4 1 3 5 0 2, of |w|: 3 4 1 5 0 2; from above 1 4 2 0 5 3 and 2 1 4 0 5 3.
    ["large_init_large_final", [0, 3, 5]],
    ["small_init_small_final", [2, 4, 5]],
    // .2 2 1.75 .125 1 2.25.
    ["relative_change", [1, 2, 5]],
    // Signs changed at 2 and 5; then those of smaller index.
    ["large_final_diff_sign", [0, 2, 5]],
    ["large_final_same_sign", [0, 1, 3]],
    ["movement_same_sign", [0, 1, 3]],
    // -.1 .4 -.1 .1 .05 .07: what kept its sign counts 0, over what shrank.
    ["magnitude_increase_diff_sign", [0, 1, 5]],
  ])("%s", async (criterion, kept) => {
    const { model, initial } = await pair();
    const found = await mask(model, { criterion, initial, count: 3 });
    expect(weightBits(found)).toEqual(kept);
    // Biases stay.
    expect(found.count).toBe(5);
    expect(found.name).toBe(criterion);
  });

  test("those whose sign changed, by a threshold alone", async () => {
    const { model, initial } = await pair();
    const changed = { criterion: "movement_diff_sign", initial, threshold: 0 } as const;
    expect(weightBits(await mask(model, changed))).toEqual([2, 5]);
  });

  test("percentiles do not depend on the scale of either", async () => {
    const { model } = await tinyProblem();
    const initial = vector(26, 7);
    for (const criterion of ["large_init_large_final", "small_init_small_final"] as const) {
      const found = await weightScores(model, criterion, { initial });
      const scaled = await weightScores(model, criterion, {
        initial: initial.map((x) => 1e-9 * x),
      });
      expect(scaled).toEqual(found);
      expect(Math.max(...found)).toBeLessThan(1);
      // Zhou's mask at one percentile of both is that of the scores above it.
      const w = parameterVector(model);
      const sign = criterion.startsWith("large") ? 1 : -1;
      const at = (values: Float64Array) => values.slice(0, 12).map((x) => sign * Math.abs(x));
      const above = (values: Float64Array, share: number) => {
        const cut = at(values).sort()[Math.round(share * 12)]!;
        return Array.from(at(values), (x) => x >= cut);
      };
      const both = above(initial, 0.25).map((kept, i) => (kept && above(w, 0.25)[i] ? 1 : 0));
      const m = await mask(model, { criterion, initial, threshold: 0.25 - 1e-9 });
      expect(Array.from(m.bits.subarray(0, 12))).toEqual(both);
    }
  });

  test("their overlaps (O15)", async () => {
    const { model, initial } = await pair();
    const [large, increase, moved] = await masks(
      model,
      ["large_final", "magnitude_increase", "movement"],
      { initial, keep: 0.5 },
    );
    expect(maskIoU(large!, increase!).iou).toBe(0.5);
    expect(maskIoU(large!, moved!).iou).toBe(0.2);
    // X = |A and B| of 3 of 6: P = 1, 9, 9, 1 of 20 for 0 to 3, X / (6 - X).
    const chance = (9 / 5 + 9 * (2 / 4) + 1) / 20;
    const { layers, ...total } = maskIoU(large!, moved!);
    expect(total.chance).toBeCloseTo(chance, 14);
    expect(layers).toEqual([{ name: "w", ...total }]);
    // Mean 1.5, variance 3 * 3 * 3 * 3 / (36 * 5).
    expect(total.z).toBeCloseTo((1 - 1.5) / Math.sqrt(81 / 180), 12);
    expect(total).toMatchObject({ size: 6, kept: [3, 3], intersection: 1 });
  });
});

describe("scores of gradients and curvature", () => {
  test("against their formulas", async () => {
    const { model, data } = await tinyProblem();
    const w = parameterVector(model);
    const initial = vector(w.length, 7);
    const options = { data, initial, precision: "float64" } as const;
    const { gradient: g } = await gradient(model, data, { precision: "float64" });
    using G = ggn(model, data, { precision: "float64" });
    const { diagonal: F } = await exactDiagonal(G);
    const wanted: [Criterion, (i: number) => number][] = [
      ["taylor", (i) => (g[i]! * w[i]!) ** 2],
      ["taylor_abs", (i) => Math.abs(g[i]! * w[i]!)],
      ["obd", (i) => (F[i]! * w[i]! ** 2) / 2],
      ["fisher", (i) => F[i]!],
    ];
    for (const [criterion, formula] of wanted)
      expect(
        relative(
          await weightScores(model, criterion, options),
          Array.from(w, (_, i) => formula(i)),
        ),
      ).toBeLessThan(1e-12);

    const top = await eigsh(G, { k: 3 });
    const mass = await weightScores(model, "eigenvectors", { vectors: top });
    const byG = await weightScores(model, "weighted_eigenvectors", { curvature: G, k: 3 });
    expect(mass.reduce((a, b) => a + b)).toBeCloseTo(3, 10);
    expect(byG.reduce((a, b) => a + b)).toBeCloseTo(
      top.values.reduce((a, b) => a + b),
      8,
    );
    expect(
      await weightScores(model, "eigenvectors", { vectors: { vectors: top.vectors, dim: G.dim } }),
    ).toEqual(mass);
  });

  test("snip has its gradient at the initial weights", async () => {
    const { model, initial } = await pair();
    const data = await loadData({
      x: { data: vector(15, 3), shape: [5, 3] },
      y: { data: vector(10, 4), shape: [5, 2] },
    });
    const options = { data, initial, precision: "float64" } as const;
    const { gradient: g } = await gradient(initial, data, { precision: "float64" });
    const w = parameterVector(initial);
    const snip = await weightScores(model, "snip", options);
    const wanted = w.map((x, i) => Math.abs(x * g[i]!));
    expect(relative(snip, wanted)).toBeLessThan(1e-12);
    expect(await weightScores(model, "snip", { initial, initialGradient: g })).toEqual(wanted);
    // At the model itself it is Taylor's.
    const here = await weightScores(model, "snip", { ...options, initial: model });
    expect(relative(here, await weightScores(model, "taylor_abs", options))).toBeLessThan(1e-12);
    expect(relative(snip, here)).toBeGreaterThan(0.1);
  });

  test("WoodFisher's worked example (O16)", async () => {
    // Gradients (1,0,1), (0,2,1) and lambda = 0.1, over the mean 3.5 / 3 of the diagonal.
    const F = [0.5, 0, 0.5, 0, 2, 1, 0.5, 1, 1];
    const curvature = linearOperator(3, (V, count) => {
      const out = new Float64Array(V.length);
      for (let k = 0; k < count; k++)
        for (let i = 0; i < 3; i++)
          for (let j = 0; j < 3; j++) out[3 * k + i]! += F[3 * i + j]! * V[3 * k + j]!;
      return out;
    });
    const bytes = modelBytes({
      nodes: [node("MatMul", ["x", "w"], ["y"])],
      inputs: [value("x", ["N", 3])],
      outputs: [value("y", ["N", 1])],
      initializers: [floats("w", [3, 1], [1, -0.5, 2])],
    });
    const model = await loadModel(bytes, { loss: "mse" });
    const scores = await weightScores(model, "obs", { curvature, damping: 0.1 / (3.5 / 3) });
    expect(relative(scores, [0.099618, 0.079573, 0.414286])).toBeLessThan(2e-6);
    const found = await mask(model, { criterion: "obs", curvature, damping: 0.0857, count: 2 });
    expect(Array.from(found.indices())).toEqual([0, 2]);
    // Blocks of 1: the diagonal alone.
    const single = await weightScores(model, "obs", { curvature, damping: 0, blockSize: 1 });
    expect(relative(single, [0.25, 0.25, 2])).toBeLessThan(1e-14);
    // No other scale of the curvature, no other order; without damping F is singular.
    for (const c of [1e-12, 1e12]) {
      const scaled = await weightScores(model, "obs", { curvature: curvature.scale(c) });
      const plain = await weightScores(model, "obs", { curvature });
      expect(
        relative(
          scaled.map((x) => x / c),
          plain,
        ),
      ).toBeLessThan(1e-9);
    }
    await expect(weightScores(model, "obs", { curvature, damping: 0 })).rejects.toThrow(
      /expected blocks that are positive definite .* one of w is not; raise damping/,
    );
  });

  test("blocks of a network, inverted by elimination", async () => {
    const { model, data } = await tinyProblem();
    const w = parameterVector(model);
    using G = ggn(model, data, { precision: "float64" });
    const all = await G.apply(Float64Array.from({ length: 676 }, (_, i) => (i % 27 === 0 ? 1 : 0)));
    const trace = w.reduce((sum, _, i) => sum + all[27 * i]!, 0);
    const found = await weightScores(model, "obs", { curvature: G, blockSize: 5, damping: 0.01 });
    for (const { offset, size } of model.parameters)
      for (let first = offset; first < offset + size; first += 5) {
        const n = Math.min(5, offset + size - first);
        // [A | I] to [I | A^-1], without pivots, as A is positive definite.
        const rows = Array.from({ length: n }, (_, i) =>
          Array.from({ length: 2 * n }, (_, j) => {
            if (j >= n) return j - n === i ? 1 : 0;
            return all[26 * (first + i) + first + j]! + (i === j ? (0.01 * trace) / 26 : 0);
          }),
        );
        for (let p = 0; p < n; p++) {
          const pivot = rows[p]![p]!;
          rows[p] = rows[p]!.map((x) => x / pivot);
          for (let i = 0; i < n; i++) {
            const factor = rows[i]![p]!;
            if (i !== p) rows[i] = rows[i]!.map((x, j) => x - factor * rows[p]![j]!);
          }
        }
        const wanted = rows.map((row, i) => w[first + i]! ** 2 / (2 * row[n + i]!));
        expect(relative(found.subarray(first, first + n), wanted)).toBeLessThan(1e-10);
      }
  });

  test("with a Fisher matrix of choice", async () => {
    const { model, data } = await tinyProblem();
    using curvature = fisher(model, data, { type: "empirical", precision: "float64" });
    const { diagonal } = await exactDiagonal(curvature);
    expect(await weightScores(model, "fisher", { curvature })).toEqual(diagonal);
    expect(await weightScores(model, "fisher", { diagonal })).toEqual(diagonal);
  });
});

test("every criterion gives scores, its sign variants where signs say so", async () => {
  const { model, data } = await tinyProblem();
  const initial = vector(model.parameterCount, 7);
  const w = parameterVector(model);
  const all = new Map<string, Float64Array>();
  for (const criterion of CRITERIA)
    all.set(criterion, await weightScores(model, criterion, { data, initial, k: 2 }));
  expect(new Set(CRITERIA).size).toBe(CRITERIA.length);
  let signed = 0;
  for (const [criterion, scores] of all) {
    expect(scores).toHaveLength(26);
    expect(new Set(scores).size).toBeGreaterThan(5);
    const [, base, which] = /^(.*)_(same|diff)_sign$/.exec(criterion) ?? [];
    if (!base) continue;
    signed++;
    const wanted = Array.from(all.get(base)!, (score, i) =>
      (Math.sign(w[i]!) === Math.sign(initial[i]!)) === (which === "same") ? score : 0,
    );
    expect(Array.from(scores)).toEqual(wanted);
  }
  expect(signed).toBe(14);
});

describe("how many are kept", () => {
  const tensors = [
    { name: "a", offset: 0, size: 12, shape: [3, 4] },
    { name: "b", offset: 12, size: 3, shape: [3] },
    { name: "c", offset: 15, size: 6, shape: [2, 3] },
  ];
  const scores = vector(21, 1);
  const kept = (m: Mask) => m.layers().map(({ kept }) => kept);

  test("a share, a number, a threshold, given numbers", () => {
    expect(kept(keepLargest(tensors, scores, { keep: 0.5 }))).toEqual([6, 3, 3]);
    expect(kept(keepLargest(tensors, scores, { count: 2 }))).toEqual([2, 3, 2]);
    const global = keepLargest(tensors, scores, { count: 5, scope: "global" });
    expect(global.count).toBe(8);
    const above = Array.from(scores, (s, i) => (s > 0.2 || (i >= 12 && i < 15) ? 1 : 0));
    expect(Array.from(keepLargest(tensors, scores, { threshold: 0.2 }).bits)).toEqual(above);
    const given = keepLargest(tensors, scores, { counts: { a: 7, c: 0 } });
    expect(kept(given)).toEqual([7, 3, 0]);
    expect(given.collapsed()).toEqual(["c"]);
    expect(given.sparsity).toBeCloseTo(11 / 21, 15);
    const like = keepLargest(
      tensors,
      scores.map((x) => -x),
      { counts: global },
    );
    expect(kept(like)).toEqual(kept(global));
  });

  test("iterative schedules: keep^rounds, each round rounded down", () => {
    // 12: 12 - 2 = 10, - 2 = 8, - 1 = 7; 6: 5, 4, 4 (0.8 of 4 are 3.2: floor(0.8) = 0 go).
    const three = keepLargest(tensors, scores, { keep: 0.8, rounds: 3 });
    expect(kept(three)).toEqual([7, 3, 4]);
    let step = keepLargest(tensors, scores, { keep: 0.8 });
    for (let round = 1; round < 3; round++) {
      const next = keepLargest(tensors, scores, { keep: 0.8, within: step });
      expect(next.isSubsetOf(step)).toBe(true);
      step = next;
    }
    expect(step.equals(three)).toBe(true);
  });

  test("within a mask, only what it keeps counts", () => {
    const first = keepLargest(tensors, scores, { keep: 0.5 });
    const other = keepLargest(
      tensors,
      scores.map((x) => -x),
      { keep: 0.5, within: first },
    );
    expect(other.isSubsetOf(first)).toBe(true);
    // 3 - floor(1.5) = 2 of 3 are left.
    expect(kept(other)).toEqual([3, 3, 2]);
  });

  test("whole outputs and inputs, by the sum of their scores", () => {
    const a = { name: "fc.weight", offset: 0, size: 6, shape: [3, 2], outputAxis: 0 };
    const bias = { name: "fc.bias", offset: 6, size: 3, shape: [3] };
    const values = [1, 5, 4, 1, 3, 4, 0, 0, 0];
    const rows = keepLargest([a, bias], values, { structure: "outputs", count: 2 });
    expect(Array.from(rows.bits)).toEqual([1, 1, 0, 0, 1, 1, 1, 1, 1]);
    const both = keepLargest([a, bias], values, {
      structure: "outputs",
      count: 2,
      unitBiases: true,
    });
    expect(Array.from(both.bits)).toEqual([1, 1, 0, 0, 1, 1, 1, 0, 1]);
    const columns = keepLargest([a, bias], values, { structure: "inputs", keep: 0.5 });
    expect(Array.from(columns.bits)).toEqual([0, 1, 0, 1, 0, 1, 1, 1, 1]);
    const stored = { ...a, shape: [2, 3], outputAxis: 1 };
    const turned = keepLargest([stored], values.slice(0, 6), { structure: "outputs", count: 1 });
    // Columns 1 + 1, 5 + 3, 4 + 4: the first of the largest.
    expect(Array.from(turned.bits)).toEqual([0, 1, 0, 0, 1, 0]);
    // Filters of a convolution: O I H W.
    const conv = { name: "k", offset: 0, size: 16, shape: [2, 2, 2, 2] };
    const filters = keepLargest([conv], vector(16).map(Math.abs), {
      structure: "inputs",
      count: 1,
    });
    expect(filters.count).toBe(8);
    expect(Array.from(filters.bits.subarray(0, 8))).toEqual(Array.from(filters.bits.subarray(8)));
    expect(Array.from(filters.bits.subarray(0, 4))).toEqual([0, 0, 0, 0].fill(filters.bits[0]!));
  });

  test("N:M along the inputs", () => {
    const matrix = { name: "m", offset: 0, size: 12, shape: [2, 6] };
    const values = [1, 2, 3, 4, 5, 6, 4, 4, 4, 4, 4, 4];
    const rows = keepLargest([matrix], values, { structure: "2:4" });
    expect(Array.from(rows.bits)).toEqual([0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1]);
    const stored = keepLargest([{ ...matrix, shape: [4, 3], outputAxis: 1 }], values, {
      structure: "1:2",
    });
    // Rows 0 and 1, then 2 and 3, of each column: 1|4 2|5 3|6, 4|4 4|4 4|4.
    expect(Array.from(stored.bits)).toEqual([0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
    const conv = { name: "k", offset: 0, size: 32, shape: [2, 4, 2, 2] };
    const channels = keepLargest([conv], vector(32), { structure: "2:4" });
    for (let o = 0; o < 2; o++)
      for (let at = 0; at < 4; at++)
        expect([0, 1, 2, 3].reduce((n, c) => n + channels.bits[16 * o + 4 * c + at]!, 0)).toBe(2);
  });

  test("only some tensors", () => {
    expect(kept(keepLargest(tensors, scores, { keep: 0.5, params: "a" }))).toEqual([6, 3, 6]);
    expect(kept(keepLargest(tensors, scores, { keep: 0.4, minRank: 0 }))).toEqual([5, 2, 3]);
  });
});

test("nested: of smaller shares what larger ones keep; the same again, whatever the scale", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: -3, max: 3, noNaN: true }).map(Math.round), {
        minLength: 2,
        maxLength: 60,
      }),
      fc.double({ min: 0.05, max: 1, noNaN: true }),
      fc.double({ min: 0.05, max: 1, noNaN: true }),
      fc.constantFrom("layer" as const, "global" as const),
      (values, p, q, scope) => {
        const n = values.length;
        const half = Math.floor(n / 2);
        const tensors = [
          { name: "a", offset: 0, size: half, shape: [1, half] },
          { name: "b", offset: half, size: n - half, shape: [n - half, 1] },
        ];
        const [less, more] = [Math.min(p, q), Math.max(p, q)].map((keep) =>
          keepLargest(tensors, values, { keep, scope }),
        );
        expect(less!.isSubsetOf(more!)).toBe(true);
        const scaled = values.map((x) => 1e-12 * x);
        expect(keepLargest(tensors, scaled, { keep: p, scope }).equals(p < q ? less! : more!)).toBe(
          true,
        );
        const lost = (size: number) => Math.floor((1 - p) * size + 1e-9);
        const wanted = scope === "layer" ? n - lost(half) - lost(n - half) : n - lost(n);
        expect((p < q ? less! : more!).count).toBe(wanted);
      },
    ),
  );
});

describe("masks and spectra (reference table 6.2)", () => {
  const diagonal = (values: number[]) =>
    linearOperator(values.length, (V) => V.map((x, i) => x * values[i % values.length]!));

  test("the spectrum of a masked operator", async () => {
    const segments = [{ name: "w", offset: 0, size: 4 }];
    const m = new Mask(segments, [1, 0, 1, 1]);
    const H = diagonal([5, 3, 1, 0.1]);
    const inside = await eigsh(H.restrict(m), { k: 3, which: "LA" });
    expect(relative(inside.values, [5, 1, 0.1])).toBeLessThan(1e-12);
    const whole = await eigsh(H.project(m), { k: 4, which: "LA" });
    expect(relative(whole.values, [5, 1, 0.1, 0])).toBeLessThan(1e-12);
  });

  test("of all masks of its numbers, that of a diagonal holds most of the trace", async () => {
    const { model, data } = await tinyProblem();
    using G = ggn(model, data, { precision: "float64" });
    const { diagonal: F } = await exactDiagonal(G);
    const share = (m: Mask) => m.indices().reduce((sum, i) => sum + F[i]!, 0);
    const best = share(await mask(model, { criterion: "fisher", diagonal: F, keep: 0.3 }));
    for (let seed = 0; seed < 30; seed++)
      expect(share(await mask(model, { criterion: "random", seed, keep: 0.3 }))).toBeLessThan(best);
  });
});

test("random masks: by seed, of the numbers asked for, near chance", async () => {
  const bytes = modelBytes({
    initializers: [floats("w", [40, 50])],
    inputs: [value("x", ["N", 40])],
    outputs: [value("y", ["N", 50])],
  });
  const model = await loadModel(bytes, { loss: "mse" });
  const random = (seed: number) => mask(model, { criterion: "random", seed, keep: 0.1 });
  const [a, again, b] = [await random(1), await random(1), await random(2)];
  expect(a.equals(again)).toBe(true);
  expect([a.count, b.count]).toEqual([200, 200]);
  const { iou, chance, z } = maskIoU(a, b);
  expect(chance).toBeCloseTo(20 / 380, 3);
  expect(Math.abs(z)).toBeLessThan(4);
  expect(iou).toBeLessThan(0.12);
  // Masks do not depend on what else was made before.
  const [, third] = await masks(model, ["magnitude", "random"], { seed: 1, keep: 0.1 });
  expect(third!.equals(a)).toBe(true);
});

test("the algebra of masks", () => {
  const segments = [{ name: "w", offset: 0, size: 4 }];
  const a = new Mask(segments, [1, 1, 0, 0], "a");
  const b = new Mask(segments, [1, 0, 1, 0], "b");
  expect(Array.from(a.and(b).bits)).toEqual([1, 0, 0, 0]);
  expect(Array.from(a.or(b).bits)).toEqual([1, 1, 1, 0]);
  expect(Array.from(a.minus(b).bits)).toEqual([0, 1, 0, 0]);
  expect(Array.from(a.xor(b).bits)).toEqual([0, 1, 1, 0]);
  expect(Array.from(a.not().bits)).toEqual([0, 0, 1, 1]);
  expect(a.and(b).name).toBe("a and b");
  expect(a.not().and(b.not()).equals(a.or(b).not())).toBe(true);
  expect(a.equals(b)).toBe(false);
  expect(a.minus(b).or(a.and(b)).equals(a)).toBe(true);
  expect(a.and(b).isSubsetOf(a)).toBe(true);
  expect(a.named("c").name).toBe("c");
  expect(maskIoU(a, a).iou).toBe(1);
  expect(() => a.and(new Mask([{ name: "v", offset: 0, size: 4 }], [1, 1, 1, 1]))).toThrow(
    "and: expected masks of the same tensors, got w of 4 entries and v of 4",
  );
  expect(() => a.equals([1] as never)).toThrow("equals: expected a Mask, got an array");
});

test("chance levels against all masks of small tensors", () => {
  const of = (n: number, bits: number) => Array.from({ length: n }, (_, i) => (bits >> i) & 1);
  const segments = [
    { name: "a", offset: 0, size: 5 },
    { name: "b", offset: 5, size: 4 },
  ];
  const mask9 = (bits: number) => new Mask(segments, of(9, bits));
  const first = mask9(0b0110_00111);
  let [sum, count] = [0, 0];
  for (let bits = 0; bits < 512; bits++) {
    const other = mask9(bits);
    if (other.layers()[0]!.kept !== 2 || other.layers()[1]!.kept !== 1) continue;
    sum += maskIoU(first, other).iou;
    count++;
  }
  expect(count).toBe(40);
  const found = maskIoU(first, mask9(0b0001_00011));
  // To second order.
  expect(Math.abs(found.chance - sum / count)).toBeLessThan(0.01);
  expect(found.layers.map(({ name }) => name)).toEqual(["a", "b"]);
});

describe("wrong uses", () => {
  const options = { criterion: "magnitude", keep: 0.5 } as const;
  test.each<[string, object, string | RegExp]>([
    ["criterion", { criterion: "magntude" }, '"magntude"; "magnitude" was probably meant'],
    ["criterion", { criterion: [1, 2] }, "expected 26 scores, one a parameter, got an array of 2"],
    ["keep", { keep: 0 }, "mask: keep: expected a share over 0 and at most 1, got 0"],
    [
      "keep",
      { keep: undefined },
      "mask: keep: expected a share over 0 and at most 1, got undefined",
    ],
    [
      "two amounts",
      { count: 3 },
      "expected one of keep, count, threshold, counts, got keep and count",
    ],
    ["count", { keep: undefined, count: 100 }, "mask: count: w1: expected at most 12, got 100"],
    ["counts", { keep: undefined, counts: { w1: 1 } }, "counts: w2: expected a number, got none"],
    ["counts", { keep: undefined, counts: { w1: 1.5 } }, "expected a Mask, or whole numbers by"],
    ["pattern", { structure: "4:2" }, 'expected "weights", "outputs", "inputs" or N:M'],
    ["pattern", { structure: "2:4" }, 'keep: expected none, as structure "2:4" says how many'],
    ["unitBiases", { unitBiases: true }, 'unitBiases: expected the structure "outputs"'],
    ["scope", { scope: "neuron" }, 'scope: expected one of "layer", "global", got "neuron"'],
    ["rounds", { keep: undefined, count: 2, rounds: 3 }, "rounds: expected it with keep"],
    ["params", { params: "conv*" }, 'params: "conv*" matches no parameter'],
    [
      "initial",
      { criterion: "movement" },
      "movement: needs the option initial, the parameters that",
    ],
    ["data", { criterion: "obd" }, "obd: needs the option data, or curvature"],
    [
      "data",
      { criterion: "snip", initial: vector(26) },
      "needs the option data, or initialGradient",
    ],
    [
      "initial",
      { criterion: "movement", initial: vector(3) },
      "expected a model, or a Float64Array of its 26",
    ],
    ["diagonal", { criterion: "fisher", diagonal: vector(3) }, "diagonal: expected 26 numbers"],
    [
      "values",
      { criterion: "weighted_eigenvectors", vectors: { vectors: vector(26), dim: 26 } },
      "needs the option vectors with their values",
    ],
    ["name", { initia: 1 }, 'there is no option "initia"; "initial" was probably meant'],
  ])("%s %#", async (_, wrong, text) => {
    const { model } = await tinyProblem();
    await expect(mask(model, { ...options, ...wrong } as never)).rejects.toThrow(text);
  });

  test("a restricted curvature", async () => {
    const { model, data } = await tinyProblem();
    using curvature = hessian(model, data, { params: "w1" });
    await expect(mask(model, { criterion: "fisher", curvature, keep: 0.5 })).rejects.toThrow(
      "expected an operator over all 26 parameters, got hessian of 12",
    );
  });

  test("infinite scores that cancel", () => {
    const tensor = { name: "w", offset: 0, size: 4, shape: [2, 2] };
    const scores = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1, 1];
    expect(() => keepLargest([tensor], scores, { structure: "outputs", keep: 0.5 })).toThrow(
      "got both infinities in a unit",
    );
    expect(keepLargest([tensor], scores, { keep: 0.25 }).indices()).toEqual(Float64Array.of(0));
  });

  test("scores that are NaN", async () => {
    const { model } = await tinyProblem();
    const criterion = new Float64Array(26).fill(1);
    criterion[13] = Number.NaN; // of a bias
    expect((await mask(model, { criterion, keep: 0.5 })).count).toBe(16);
    criterion[17] = Number.NaN;
    await expect(mask(model, { criterion, keep: 0.5 })).rejects.toThrow(DataMismatchError);
    await expect(mask(model, { criterion, keep: 0.5 })).rejects.toThrow(
      "the score of w2 is NaN at flat index 1",
    );
  });
});
