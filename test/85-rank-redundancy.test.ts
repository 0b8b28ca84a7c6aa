// What the kernel of the Gauss-Newton matrix and of the Hessian is made of.
import { type KernelSource, loadModel, type Model, mlp, redundancy } from "../lib";
import { mlpSize } from "../lib/model/build";
import { permutationGroups } from "../lib/symmetry/permutations";
import type { PermutationGroup } from "../lib/symmetry/types";
import { rejection } from "./50-helpers";
import {
  type CnnCase,
  gaugeVectors,
  type LinearCase,
  linearCnn,
  linearProblem,
  lowRank,
} from "./support/linear";
import { normals } from "./support/numbers";

/** The general linear groups of a deep linear network. */
const gauges = (model: Model, widths: readonly number[]): KernelSource[] =>
  widths.slice(1, -1).map((_, layer) => ({
    kind: "symmetry",
    name: `gauge of fc${layer + 1}`,
    why: "two linear maps with nothing between",
    vectors: gaugeVectors(model, layer + 1),
  }));

test.each<[LinearCase, kernel: number, first: [string, number][]]>([
  [{ widths: [5, 4, 3] }, 17, [["linear-gauge", 16]]],
  [{ widths: [6, 5, 4, 3] }, 44, [["linear-gauge", 41]]],
  [
    { widths: [5, 4, 3], bias: true, samples: 100 },
    21,
    [
      ["linear-gauge", 16],
      ["linear-path-bias", 4],
    ],
  ],
  [
    { widths: [6, 5, 4, 3], bias: true, samples: 100 },
    53,
    [
      ["linear-gauge", 41],
      ["linear-path-bias", 9],
    ],
  ],
  [
    { widths: [5, 4, 3], activation: "relu", bias: true, loss: "cross-entropy", samples: 200 },
    9,
    [
      ["rescaling", 4],
      ["softmax-translation", 5],
    ],
  ],
])(
  "%j: what the graph shows, and all of the kernel with the rest",
  async (given, kernel, first) => {
    const { found, adds } = await decomposed(given, { sources: [], symmetries: true });
    expect(adds.slice(0, first.length)).toEqual(first);
    expect(found).toMatchObject({ kernel, explained: kernel, unexplained: 0 });
    for (const { residual, contained, dimension } of found.sources) {
      expect(contained).toBe(dimension);
      expect(residual).toBeLessThan(1e-13);
    }
  },
);

test.each<[CnnCase, unnamed: number]>([
  [{ d: 8, k: [3], K: 2, m: 4 }, 0],
  [{ d: 6, k: [4], K: 3, m: 4 }, 0],
  // The head undoes any change of the second convolution, of which its gauge is a part.
  [{ d: 8, k: [3, 3], K: 2, m: 4 }, 4],
])(
  "%j: channels have a gauge, the rest is activations, and %i have no name",
  async (given, left) => {
    const { model, data } = await linearCnn(given);
    const found = await redundancy(model, data);
    expect(found.sources[0]).toMatchObject({ name: "linear-gauge" });
    expect(found.unexplained).toBe(left);
    expect(found.unexplainedTensors.length > 0).toBe(left > 0);
    data.dispose();
  },
);

/** The hidden units of a network with one hidden layer. */
function hidden(size: number, biased: boolean): PermutationGroup {
  const place = { parameter: true, start: 0, outer: 1, inner: 1 } as const;
  return {
    name: "fc1.weight",
    size,
    places: [
      { ...place, tensor: "fc1.weight", axis: 0, side: "in" },
      ...(biased ? [{ ...place, tensor: "fc1.bias", axis: 0, side: "in" } as const] : []),
      { ...place, tensor: "fc2.weight", axis: 1, side: "out" },
    ],
  };
}

async function decomposed(given: LinearCase, options: Parameters<typeof redundancy>[2] = {}) {
  const { model, data } = await linearProblem(given);
  const sources = gauges(model, given.widths);
  const found = await redundancy(model, data, { sources, symmetries: false, ...options });
  data.dispose();
  return { found, adds: found.sources.map(({ name, adds }) => [name, adds]) };
}

describe("deep linear networks", () => {
  test("5-4-3: kernel 17, orbit 16, and one direction that a factor of low rank leaves", async () => {
    const { found, adds } = await decomposed({ widths: [5, 4, 3] });
    expect(found).toMatchObject({
      parameters: 32,
      kernel: 17,
      explained: 17,
      unexplained: 0,
      unexplainedTensors: [],
    });
    expect(found.redundancy).toBeCloseTo(17 / 32, 14);
    expect(adds).toEqual([
      ["gauge of fc1", 16],
      ["outputs of fc1.weight", 1],
    ]);
    const [orbit, signals] = found.sources;
    expect(orbit).toMatchObject({ kind: "symmetry", dimension: 16, contained: 16 });
    expect(orbit!.share).toBeCloseTo(16 / 17, 14);
    expect(signals).toMatchObject({
      kind: "signals",
      dimension: 5,
      contained: 5,
      why: "only 3 of 4 directions reach the loss",
    });
    for (const { residual, largestSine } of found.sources) {
      expect(residual).toBeLessThan(1e-13);
      expect(largestSine).toBeLessThan(1e-12);
    }
    expect(found.largestSine).toBeLessThan(1e-12);
  });

  test.each<[LinearCase, kernel: number]>([
    [{ widths: [6, 5, 4, 3] }, 62 - 18],
    [{ widths: [10, 6, 3], dataRank: 4 }, 78 - 12],
    [{ widths: [8, 2, 6, 4] }, 52 - 20],
    [{ widths: [4, 5, 5, 5, 2] }, 80 - 8],
    [{ widths: [10, 6, 3], samples: 2 }, 78 - 6],
    [{ widths: [5, 6, 4], loss: "cross-entropy" }, 54 - 15],
  ])("%j: gauges, data and ranks of layers explain all of the kernel", async (given, kernel) => {
    const { found } = await decomposed(given);
    expect({ kernel: found.kernel, explained: found.explained }).toEqual({
      kernel,
      explained: kernel,
    });
    // The orbit alone is not all of it.
    const without = await decomposed(given, { sources: [] });
    expect(without.found.explained).toBeLessThan(kernel);
    expect(without.found.unexplained).toBe(kernel - without.found.explained);
    const shares = without.found.unexplainedTensors.map(({ share }) => share);
    expect(shares.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 10);
  });

  test("data of low rank: what the first weight multiplies and never gets", async () => {
    const { found } = await decomposed({ widths: [10, 6, 3], dataRank: 4 });
    const source = found.sources.find(({ kind }) => kind === "data");
    expect(source).toMatchObject({
      name: "inputs of fc1.weight",
      why: "the data span 4 of 10 directions",
      dimension: 6 * 6,
      contained: 36,
    });
  });

  test("the kernel of the Hessian holds a part of each, and residuals of low rank enlarge it", async () => {
    const options = { operator: "hessian" } as const;
    const full = await decomposed({ widths: [5, 4, 3] }, options);
    expect(full.found).toMatchObject({
      kernel: 2,
      explained: 2,
      residual: { rank: 3, generic: 3, adds: 0 },
    });
    expect(full.found.sources[0]).toMatchObject({ dimension: 16, contained: 1 });
    const low = await decomposed({ widths: [5, 4, 3], residualRank: 1 }, options);
    expect(low.found).toMatchObject({
      kernel: 10,
      explained: 10,
      residual: { rank: 1, generic: 3, adds: 8 },
    });
    const none = await decomposed({ widths: [5, 4, 3], residualRank: 0 }, options);
    expect(none.found).toMatchObject({ kernel: 17, explained: 17 });
    expect(none.found.residual).toEqual({ rank: 0, generic: 3, adds: 15 });
  });
});

describe("units", () => {
  test("O18: a permutation point of a 4-3-2 tanh network", async () => {
    const widths = [4, 3, 2];
    const { data } = await linearProblem({ widths, activation: "tanh", samples: 80 });
    const groups = [hidden(3, false)];
    const theta = normals(5, mlpSize(widths, false), 0.7);
    const at = async (parameters: Float64Array) =>
      loadModel(mlp({ widths, activation: "tanh", bias: false, parameters }), { loss: "mse" });
    const generic = await redundancy(await at(theta), data, { groups });
    expect([generic.parameters, generic.kernel, generic.sources.length]).toEqual([18, 0, 0]);
    // The second unit as the first: what reads them may be moved from one to the other.
    theta.copyWithin(4, 0, 4);
    const same = await redundancy(await at(theta), data, { groups });
    expect(same).toMatchObject({ kernel: 2, explained: 2 });
    expect(same.sources[0]).toMatchObject({
      kind: "duplicate",
      why: "units 0 and 1 compute the same",
      adds: 2,
    });
    theta[13] = theta[12]!;
    theta[16] = theta[15]!;
    const twice = await redundancy(await at(theta), data, { groups });
    expect(twice).toMatchObject({ kernel: 6, explained: 6 });
    expect(twice.sources[0]).toMatchObject({ kind: "duplicate", adds: 6, dimension: 6 });
    const whole = await redundancy(await at(theta), data, { groups, operator: "hessian" });
    expect(whole).toMatchObject({ kernel: 0, explained: 0 });
    expect(whole.sources[0]).toMatchObject({ dimension: 6, contained: 0 });
    data.dispose();
  });

  test("units of relu that are never active, with what reads them", async () => {
    const widths = [5, 4, 3];
    const given = { widths, activation: "relu", bias: true, samples: 200 } as const;
    const { model, data } = await linearProblem({ ...given, widths });
    const theta = normals(6, 39, 0.7);
    theta[21] = -50;
    const dead = model.withParameters(theta);
    expect(permutationGroups(dead)).toMatchObject([hidden(4, true)]);
    const off = { symmetries: false } as const;
    const found = await redundancy(dead, data, off);
    // Three rescalings are left out.
    expect(found).toMatchObject({ kernel: 9 + 3, explained: 9, unexplained: 3 });
    expect(found.sources[0]).toMatchObject({
      kind: "dead",
      name: "dead units of fc1.weight",
      why: "1 of 4 units change no output on these data (1)",
      dimension: 9,
      adds: 9,
    });
    const whole = await redundancy(dead, data, { ...off, operator: "hessian" });
    expect(whole).toMatchObject({ kernel: 9, explained: 9 });
    // Without groups a unit is a row of a weight; the rest is found as activations of low rank.
    const alone = await redundancy(dead, data, { ...off, groups: [] });
    expect(alone.explained).toBe(9);
    expect(alone.sources[0]).toMatchObject({ kind: "dead", dimension: 5 });
    data.dispose();
  });

  test("units that few samples move", async () => {
    const widths = [6, 4, 3];
    const given = { widths, activation: "relu", bias: true, samples: 60 } as const;
    const { model, data } = await linearProblem({ ...given, widths });
    const theta = normals(8, 43, 0.7);
    // The first unit is active on three samples.
    const x = lowRank(11, 60, 6, 6);
    const z = Array.from({ length: 60 }, (_, i) => {
      const row = x.subarray(6 * i, 6 * i + 6);
      return row.reduce((sum, value, j) => sum + value * theta[j]!, 0);
    }).sort((p, q) => q - p);
    theta[24] = -(z[2]! + z[3]!) / 2;
    const found = await redundancy(model.withParameters(theta), data, {
      symmetries: false,
    });
    const units = found.sources.find(({ kind }) => kind === "units")!;
    expect(units.name).toBe("single units of fc1.weight");
    expect(units.why).toMatch(/^3 to 7 of 7 parameters of a unit matter on these data$/);
    expect(units).toMatchObject({ dimension: 4, contained: 4, adds: 4 });
    // The rest is a rescaling each.
    expect(found.unexplained).toBe(4);
    const all = await redundancy(model.withParameters(theta), data);
    expect(all.unexplained).toBe(0);
    data.dispose();
  });

  test("the softmax does not see what is added to all classes", async () => {
    const { found } = await decomposed(
      { widths: [5, 4, 3], activation: "tanh", loss: "cross-entropy", bias: true, samples: 200 },
      { sources: [] },
    );
    expect(found).toMatchObject({ kernel: 5, explained: 5 });
    expect(found.sources[0]).toMatchObject({
      kind: "signals",
      name: "outputs of fc2.weight + fc2.bias",
      why: "only 2 of 3 directions reach the loss",
    });
  });
});

test("losses and layers that have no factors are a note", async () => {
  const { model, data } = await linearProblem({ widths: [5, 4, 3] });
  const found = await redundancy(model, data, { loss: "huber" });
  expect(found.notes).toHaveLength(1);
  expect(found.notes[0]).toMatch(/^inputs and outputs of layers were not looked at: /);
  data.dispose();
});

test("wrong uses", async () => {
  const { model, data } = await linearProblem({ widths: [3, 2] });
  const source = { kind: "symmetry", name: "mine", why: "", vectors: new Float64Array(7) } as const;
  expect((await rejection(redundancy(model, data, { sources: [source] }))).message).toBe(
    "redundancy: sources: mine: expected vectors of 6 numbers, got 7 numbers",
  );
  await expect(redundancy(model, data, { operator: "fisher" as never })).rejects.toThrow(
    'operator: expected one of "ggn", "hessian"',
  );
  const large = await loadModel(mlp({ widths: [100, 100] }), { loss: "mse" });
  await expect(redundancy(large, data)).rejects.toThrow("expected at most 6000 parameters");
  data.dispose();
});
