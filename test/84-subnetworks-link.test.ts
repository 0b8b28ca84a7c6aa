// Rank correlations with permutation p-values, and the table of layers that they are taken over.
import {
  adjustedP,
  anisotropy,
  correlationFigure,
  exactDiagonal,
  fisher,
  linkFigure,
  mask as maskOf,
  parameterVector,
  rankCorrelation,
  subnetworkLink,
  symmetryBreaking,
} from "../lib";
import { openCase, rejection } from "./50-helpers";
import { dataOf, netModel, randomTheta } from "./support/networks";
import { integers, normals } from "./support/numbers";

/** All orders of some things. */
function permutations<T>(of: T[]): T[][] {
  if (of.length < 2) return [of];
  return of.flatMap((first, i) =>
    permutations([...of.slice(0, i), ...of.slice(i + 1)]).map((rest) => [first, ...rest]),
  );
}

const mean = (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length;

function pearson(x: number[], y: number[]): number {
  const [mx, my] = [mean(x), mean(y)];
  const dot = (a: number[], ma: number, b: number[], mb: number) =>
    a.reduce((sum, v, i) => sum + (v - ma) * (b[i]! - mb), 0);
  return dot(x, mx, y, my) / Math.sqrt(dot(x, mx, x, mx) * dot(y, my, y, my));
}

/** Mean ranks, by counting. */
const ranks = (v: number[]) =>
  v.map((x) => v.filter((y) => y < x).length + (v.filter((y) => y === x).length + 1) / 2);

const spearman = (x: number[], y: number[]) => pearson(ranks(x), ranks(y));

function tauB(x: number[], y: number[]): number {
  let [s, tx, ty] = [0, 0, 0];
  x.forEach((_, i) => {
    for (let j = 0; j < i; j++) {
      const [a, b] = [Math.sign(x[i]! - x[j]!), Math.sign(y[i]! - y[j]!)];
      s += a * b;
      tx += a * a;
      ty += b * b;
    }
  });
  return s / Math.sqrt(tx * ty);
}

describe("rank correlations", () => {
  test("no ties: rho and tau by their formulas, p by all orders", () => {
    const [x, y] = [
      [1, 2, 3, 4, 5],
      [2, 1, 4, 3, 5],
    ];
    const found = rankCorrelation([{ x, y }]);
    // rho = 1 - 6 sum d^2 / (n (n^2 - 1)), tau = (8 - 2) / 10.
    expect(found.spearman).toBeCloseTo(1 - (6 * 4) / (5 * 24), 14);
    expect(found.kendall).toBeCloseTo(0.6, 14);
    const all = permutations(y);
    const share = (of: (a: number[], b: number[]) => number) =>
      all.filter((order) => Math.abs(of(x, order)) >= Math.abs(of(x, y)) - 1e-12).length / 120;
    expect(found.p).toBeCloseTo(share(spearman), 14);
    expect(found.kendallP).toBeCloseTo(share(tauB), 14);
    expect(found).toMatchObject({ n: 5, strata: 1, method: "exact", orders: 120 });
    expect(found.smallestP).toBeCloseTo(2 / 120, 14);
  });

  test("ties: mean ranks, tau-b, and p by all orders", () => {
    const [x, y] = [
      [1, 1, 2, 3, 3, 7],
      [5, 2, 2, 2, 9, 9],
    ];
    const found = rankCorrelation([{ x, y }]);
    expect(found.spearman).toBeCloseTo(spearman(x, y), 14);
    expect(found.kendall).toBeCloseTo(tauB(x, y), 14);
    const all = permutations(y);
    const at = all.map((order) => Math.abs(spearman(x, order)));
    const share = (least: number) => at.filter((r) => r >= least - 1e-12).length / all.length;
    expect(found.p).toBeCloseTo(share(Math.abs(spearman(x, y))), 14);
    expect(found.smallestP).toBeCloseTo(share(Math.max(...at)), 14);
    expect(found.smallestP).toBeGreaterThan(2 / 720);
    const byTau = all.filter((o) => Math.abs(tauB(x, o)) >= Math.abs(tauB(x, y)) - 1e-12);
    expect(found.kendallP).toBeCloseTo(byTau.length / all.length, 14);
  });

  test("several networks: ranks within each, orders within each", () => {
    // Levels differ by far more than layers; within each, x and y run against one another.
    const strata = [
      { x: [1, 2, 3], y: [30, 20, 10] },
      { x: [101, 102, 103, 104], y: [4300, 4200, 4100, 4050] },
    ];
    const found = rankCorrelation(strata);
    expect(found.spearman).toBeCloseTo(-1, 14);
    expect(found.kendall).toBeCloseTo(-1, 14);
    expect(found).toMatchObject({ n: 7, strata: 2, orders: 6 * 24 });
    expect(found.p).toBeCloseTo(2 / (6 * 24), 14);
    const mixed = rankCorrelation([strata[0]!, { x: [1, 2, 3, 4], y: [2, 1, 4, 3] }]);
    // By all pairs of orders, with ranks over n + 1 as weights.
    const parts = [
      [
        [1, 2, 3],
        [3, 2, 1],
      ],
      [
        [1, 2, 3, 4],
        [2, 1, 4, 3],
      ],
    ] as const;
    const numerator = (x: readonly number[], y: readonly number[]) =>
      x.reduce((sum, a, i) => {
        const middle = (x.length + 1) / 2;
        return sum + ((a - middle) * (y[i]! - middle)) / (x.length + 1) ** 2;
      }, 0);
    const observed = numerator(...parts[0]) + numerator(...parts[1]);
    const all = permutations([...parts[0][1]]).flatMap((a) =>
      permutations([...parts[1][1]]).map((b) =>
        Math.abs(numerator(parts[0][0], a) + numerator(parts[1][0], b)),
      ),
    );
    const hits = all.filter((s) => s >= Math.abs(observed) - 1e-12).length;
    expect(mixed.p).toBeCloseTo(hits / all.length, 14);
    const whole = numerator(parts[0][0], parts[0][0]) + numerator(parts[1][0], parts[1][0]);
    expect(mixed.spearman).toBeCloseTo(observed / whole, 14);
  });

  test("one block: layers are exchanged alike, so that copies of a network are no evidence", () => {
    const once = { x: [1, 2, 3, 4, 5], y: [1, 2, 3, 4, 5] };
    const apart = rankCorrelation([once, once, once], { permutations: 2000 });
    expect(apart.p).toBeLessThan(0.002);
    const alike = rankCorrelation([once, once, once].map((s) => ({ ...s, block: "net" })));
    expect(alike).toMatchObject({ n: 15, strata: 3, method: "exact", orders: 120 });
    expect(alike.p).toBeCloseTo(2 / 120, 14);
  });

  test("many layers: random orders agree with all of them", () => {
    const x = [1, 2, 3, 4, 5, 6, 7];
    const y = [2, 1, 5, 3, 4, 7, 6];
    const exact = rankCorrelation([{ x, y }]);
    const random = rankCorrelation([{ x, y }], { maxEnumerated: 0, permutations: 5000 });
    expect(exact).toMatchObject({ method: "exact", orders: 5040 });
    expect(random).toMatchObject({ method: "monte-carlo", orders: 5001 });
    expect(random.spearman).toBe(exact.spearman);
    const error = Math.sqrt((exact.p * (1 - exact.p)) / 5000);
    expect(Math.abs(random.p - exact.p)).toBeLessThan(4 * error + 1e-4);
    expect(random.smallestP).toBeCloseTo(1 / 5001, 14);
    expect(rankCorrelation([{ x, y }], { maxEnumerated: 0 })).toEqual(
      rankCorrelation([{ x, y }], { maxEnumerated: 0, seed: 0 }),
    );
  });

  test("what is missing is left out, and what is constant has no correlation", () => {
    const x = [1, Number.NaN, 3, 4];
    const found = rankCorrelation([
      { x, y: [1, 9, 2, 3] },
      { x: [1, 2], y: [Number.NaN, 1] },
    ]);
    expect(found).toMatchObject({ n: 3, strata: 1, orders: 6 });
    expect(found.spearman).toBeCloseTo(1, 14);
    const constant = rankCorrelation([{ x: [2, 2, 2], y: [1, 2, 3] }]);
    expect(constant.spearman).toBeNaN();
    expect(constant.p).toBeNaN();
    expect(rankCorrelation([]).p).toBeNaN();
  });

  test("corrected p-values: Holm, and Benjamini and Hochberg", () => {
    const p = [0.01, 0.04, 0.03, 0.005, Number.NaN];
    const close = (values: number[]) => values.map((x) => expect.closeTo(x, 14));
    expect(Array.from(adjustedP(p, "holm")).slice(0, 4)).toEqual(close([0.03, 0.06, 0.06, 0.02]));
    expect(Array.from(adjustedP(p, "bh")).slice(0, 4)).toEqual(close([0.02, 0.04, 0.04, 0.02]));
    expect(adjustedP(p, "holm")[4]).toBeNaN();
    expect(Array.from(adjustedP([0.9, 0.8], "holm"))).toEqual([1, 1]);
  });

  test("wrong uses", () => {
    expect(() => rankCorrelation([{ x: [1, 2], y: [1] }])).toThrow(
      "expected as many x as y, and as many in each of a block, got 2 and 1 beside 2",
    );
    expect(() => rankCorrelation(3 as never)).toThrow("expected an array of { x, y }, got 3");
  });
});

describe("the table of layers", () => {
  const widths = [5, 7, 6, 4, 3];
  const precision = "float64";

  async function networks(count: number) {
    const data = await dataOf({
      x: { data: normals(7, 200), shape: [5] },
      y: { data: integers(8, 40, 3), shape: [] },
    });
    const models = await Promise.all(
      Array.from({ length: count }, (_, seed) =>
        netModel({ widths, theta: randomTheta(seed, widths), activation: "Relu" }),
      ),
    );
    const subjects = models.map((model, seed) => ({
      name: `net ${seed}`,
      model,
      initial: randomTheta(100 + seed, widths),
    }));
    return { data, subjects };
  }

  test("each column is what its measure says of the layer", async () => {
    const { data, subjects } = await networks(1);
    const [{ model, initial }] = subjects as [(typeof subjects)[0]];
    const options = { loss: "cross-entropy", precision, keep: 0.3, k: 4 } as const;
    const link = await subnetworkLink(data, subjects, options);
    expect(link.columns.map(({ name }) => name)).toEqual([
      "weights",
      ...["kept magnitude", "kept movement", "kept fisher"],
      ...["exchange", "exchange change", "importance", "importance change", "fisherImportance"],
      ...["chargeSpread", "chargeSpread change", "kurtosis", "kurtosis change"],
      ...["anisotropy", "trace share", "top share"],
    ]);
    expect(link.rows.map(({ layer }) => layer)).toEqual(["w0", "w1", "w2", "w3"]);
    const column = (name: string) => {
      const c = link.columns.findIndex((of) => of.name === name);
      return link.rows.map(({ values }) => values[c]!);
    };
    expect(column("weights")).toEqual([35, 42, 24, 12]);
    const magnitude = await maskOf(model, { criterion: "magnitude", keep: 0.3, scope: "global" });
    const layers = magnitude.layers().filter(({ name }) => name.startsWith("w"));
    expect(column("kept magnitude")).toEqual(layers.map(({ kept, size }) => kept / size));
    using F = fisher(model, data, { type: "type-2", loss: "cross-entropy", precision });
    const { diagonal, trace } = await exactDiagonal(F);
    const breaking = await symmetryBreaking(model, { initial, diagonal, draws: 0 });
    for (const name of ["exchange", "fisherImportance", "chargeSpread"] as const) {
      const wanted = breaking.groups.map(({ measures }) => measures[name].value);
      expect(column(name)).toEqual([...wanted, Number.NaN]);
    }
    const deltas = breaking.groups.map(({ measures }) => measures.importance.delta);
    expect(column("importance change")).toEqual([...deltas, Number.NaN]);
    const shares = ["w0", "w1", "w2", "w3"].map((name) => {
      const { offset, size } = model.parameters.find((of) => of.name === name)!;
      return diagonal.subarray(offset, offset + size).reduce((a, b) => a + b, 0) / trace;
    });
    column("trace share").forEach((x, i) => {
      expect(x).toBeCloseTo(shares[i]!, 12);
    });
    const blocks = await anisotropy(F, { by: "layer" });
    const block = blocks.find(({ name }) => name === "w1")!;
    if (block.source !== "exact") throw new Error("expected exact measures of so small a block");
    expect(column("anisotropy")[1]).toBeCloseTo(1 - block.participationRatio / 42, 10);
    for (const share of column("top share")) expect(share).toBeGreaterThan(0);
  });

  test("correlations between families only, and the verdict of four layers", async () => {
    const { data, subjects } = await networks(1);
    const link = await subnetworkLink(data, subjects, { loss: "cross-entropy", precision });
    const family = new Map(link.columns.map(({ name, family }) => [name, family]));
    for (const { a, b } of link.correlations) expect(family.get(a)).not.toBe(family.get(b));
    const { a, b, spearman: rho, p } = link.correlations[0]!;
    const [x, y] = [a, b].map((name) => {
      const c = link.columns.findIndex((of) => of.name === name);
      return link.rows.map(({ values }) => values[c]!);
    });
    expect(rho).toBeCloseTo(spearman(x!, y!), 12);
    const tried = permutations(y!).map((order) => Math.abs(spearman(x!, order)));
    expect(p).toBeCloseTo(tried.filter((r) => r >= Math.abs(rho) - 1e-12).length / 24, 12);
    expect(link.verdict).toMatch(
      /^4 layers of one network, \d+ correlations: the smallest p that any can have is 0\.08.*none can be significant at 0\.05; pool more networks$/,
    );
    expect(link.correlations.some(({ significant }) => significant)).toBe(false);
  });

  test("pooled over networks, p can be small; over architectures it cannot", async () => {
    const { data, subjects } = await networks(4);
    const options = {
      loss: "cross-entropy",
      precision,
      permutations: 999,
      measures: ["exchange"],
    } as const;
    const criteria = ["magnitude"] as const;
    const pooled = await subnetworkLink(data, subjects, { ...options, criteria });
    expect(pooled.rows).toHaveLength(16);
    expect(pooled.verdict).toMatch(/^16 layers of 4 networks/);
    const size = pooled.correlations.find(({ a, b }) => a === "weights" && b === "anisotropy")!;
    expect(size).toMatchObject({ n: 16, strata: 4, method: "monte-carlo", smallestP: 1 / 1000 });
    expect(pooled.verdict).toMatch(/Some networks have the same layers/);
    const strict = await subnetworkLink(data, subjects, {
      ...{ ...options, criteria },
      exchange: "architectures",
    });
    const same = strict.correlations.find(({ a, b }) => a === "weights" && b === "anisotropy")!;
    expect(same).toMatchObject({ n: 16, method: "exact", orders: 24 });
    expect(same.spearman).toBeCloseTo(size.spearman, 14);
    expect(same.p).toBeGreaterThanOrEqual(1 / 24);
    expect(strict.verdict).toContain("so none alone can be significant at 0.05");
  });

  test("given the layers' sizes: the partial correlation of ranks", async () => {
    const { data, subjects } = await networks(1);
    const link = await subnetworkLink(data, subjects, { loss: "cross-entropy", precision });
    const column = (name: string) => {
      const c = link.columns.findIndex((of) => of.name === name);
      return link.rows.map(({ values }) => values[c]!).slice(0, 3);
    };
    // Over the three layers that have a symmetry; sizes 35, 42, 24.
    const size = column("weights");
    const partial = (a: number[], b: number[]) => {
      const [ab, ac, bc] = [spearman(a, b), spearman(a, size), spearman(b, size)];
      return (ab - ac * bc) / Math.sqrt((1 - ac ** 2) * (1 - bc ** 2));
    };
    const rows = link.correlations.filter(
      ({ a, b, givenSize }) =>
        a !== "weights" && /exchange|importance/.test(a + b) && !Number.isNaN(givenSize),
    );
    for (const { a, b, givenSize } of rows)
      expect(givenSize).toBeCloseTo(partial(column(a), column(b)), 10);
    expect(rows.length).toBeGreaterThan(2);
    for (const { a, givenSize } of link.correlations)
      if (a === "weights") expect(givenSize).toBeNaN();
  });

  test("figures: standardised within each network, correlations mirrored", async () => {
    const { data, subjects } = await networks(2);
    const link = await subnetworkLink(data, subjects, { loss: "cross-entropy", precision });
    const figure = linkFigure(link);
    const [heat] = figure.marks;
    if (heat?.kind !== "heat") throw new Error("expected a heat map");
    expect(heat.rows).toHaveLength(8);
    expect(heat.rows[4]).toBe("net 1: w0");
    const width = heat.columns.length;
    const values = Float64Array.from(heat.values as Float64Array);
    const firstColumn = [0, 1, 2, 3].map((r) => values[r * width]!);
    expect(mean(firstColumn)).toBeCloseTo(0, 12);
    expect(mean(firstColumn.map((x) => x * x))).toBeCloseTo(1, 12);
    const [matrix] = correlationFigure(link).marks;
    if (matrix?.kind !== "heat") throw new Error("expected a heat map");
    const all = matrix.values as Float64Array;
    const names = matrix.columns.map(String);
    const { a, b, spearman: rho } = link.correlations.at(-1)!;
    const at = (i: number, j: number) => all[i * names.length + j]!;
    expect(at(names.indexOf(a), names.indexOf(b))).toBe(rho);
    expect(at(names.indexOf(b), names.indexOf(a))).toBe(rho);
  });

  test("a convolutional network: units and layers found in its graph", async () => {
    const { model, data } = await openCase("cnn_small");
    const link = await subnetworkLink(data, [{ name: "cnn", model }], { k: 3, maxExact: 50 });
    expect(link.rows.length).toBeGreaterThan(2);
    const exchange = link.columns.findIndex(({ name }) => name === "exchange");
    const values = link.rows.map((row) => row.values[exchange]!);
    expect(values.at(-1)).toBeNaN();
    for (const value of values.slice(0, -1)) expect(value).toBeGreaterThan(0);
    const { groups } = await symmetryBreaking(model, { draws: 0 });
    const [first] = groups;
    const next = model.parameters.find(
      (of) => of.shape.length >= 2 && of.name !== first!.tensors[0],
    );
    const weight = model.parameters.find(({ name }) => name === first!.tensors[0])!;
    expect(first!.length).toBe(weight.size / first!.units + 1 + next!.size / first!.units);
    expect(parameterVector(model)).toHaveLength(model.parameterCount);
  });

  test("wrong uses", async () => {
    const { data, subjects } = await networks(2);
    const message = async (promise: Promise<unknown>) => (await rejection(promise)).message;
    expect(await message(subnetworkLink(data, []))).toContain(
      "expected an array of { name, model }",
    );
    const [a, b] = subjects as [(typeof subjects)[0], (typeof subjects)[0]];
    expect(await message(subnetworkLink(data, [a, { ...b, name: a.name }]))).toBe(
      'subnetworkLink: networks: expected names of their own, got "net 0" twice',
    );
    expect(await message(subnetworkLink(data, [a, { name: b.name, model: b.model }]))).toBe(
      "subnetworkLink: networks: expected initial weights of all networks or of none, got none of net 1",
    );
    expect(await message(subnetworkLink(data, [a], { measures: ["s1"] as never }))).toContain(
      "subnetworkLink: measures: expected an array of exchange, exchangeBalanced",
    );
  });
});
