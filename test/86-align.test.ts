// Networks matched: planted permutations, the same permutations as the peer's algorithm, barriers,
// spectra, fusion of networks of equal and of different widths.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  align,
  alignedSpectra,
  alignmentBarriers,
  type DataSet,
  forward,
  hessian,
  loadCheckpoint,
  loadModel,
  loss,
  type Model,
  parameterVector,
  permute,
} from "../lib";
import { memberships, Network } from "../lib/align/network";
import { inverseOrder } from "../lib/align/places";
import { recomputedStatistics } from "../lib/align/statistics";
import { matchWeights } from "../lib/align/weights";
import { relative } from "./50-helpers";
import { dataOf, netModel, randomTheta } from "./support/networks";
import { integers, normals } from "./support/numbers";
import {
  CONVOLUTIONAL_GROUPS,
  convolutional,
  convolutionalModel,
  perceptronGroups,
} from "./support/units";

interface Matching {
  widths: number[];
  a: number[];
  b: number[];
  orders: number[][];
  rounds: number;
  permutations: number[][];
}
const { matching } = JSON.parse(
  readFileSync(join(__dirname, "fixtures", "align", "cases.json"), "utf8"),
) as { matching: Matching[] };

const precision = "float64";
const widths = [4, 6, 5, 3];
const groups = perceptronGroups(widths);
const perceptron = (seed: number) =>
  netModel({ widths, activation: "Tanh", theta: randomTheta(seed, widths) });
const rows = (seed: number, samples = 40): Promise<DataSet> =>
  dataOf({
    x: { data: normals(seed, samples * 4), shape: [4] },
    y: { data: integers(seed, samples, 3), shape: [] },
  });
const images = (samples = 12): Promise<DataSet> =>
  dataOf({
    x: { data: normals(3, samples * 72), shape: [2, 6, 6] },
    y: { data: integers(4, samples, 3), shape: [] },
  });

/** A model with all groups turned; gives the orders that turn it back as well. */
function turned(model: Model, all: typeof groups, orders: number[][]) {
  const other = all.reduce((last, group, g) => permute(model, last, group, orders[g]!), model);
  return { other, back: orders.map(inverseOrder) };
}

describe.each(["weights", "activations", "fusion"] as const)(
  "planted permutations by %s",
  (method) => {
    test("of a perceptron", async () => {
      using model = await perceptron(1);
      using data = await rows(2);
      const { other, back } = turned(model, groups, [
        [3, 0, 5, 1, 4, 2],
        [1, 4, 0, 3, 2],
      ]);
      using found = await align(model, other, { method, groups, data });
      expect(found.groups.map(({ order }) => order)).toEqual(back);
      expect(found.parameters).toEqual(parameterVector(model));
      expect(found.converged).toBe(true);
      expect(found.churn).toBeCloseTo(9 / 11, 14);
      expect(found.groups.map(({ moved }) => moved)).toEqual([5, 4]);
      expect(found.similarity.after).toBeCloseTo(1, 14);
      expect(found.similarity.before).toBeLessThan(0.9);
      for (const { similarity, score } of found.groups) {
        expect(similarity.after).toBeCloseTo(1, 14);
        expect(similarity.before).toBeLessThan(0.9);
        if (method === "activations") expect(score!.after).toBeCloseTo(1, 12);
        else expect(score).toBeUndefined();
      }
    });

    test("of a convolutional network with its running statistics", async () => {
      using model = await convolutionalModel(1);
      using data = await images();
      const { other, back } = turned(model, CONVOLUTIONAL_GROUPS, [
        [4, 2, 0, 1, 3],
        [3, 0, 2, 1],
      ]);
      using found = await align(model, other, {
        method,
        groups: CONVOLUTIONAL_GROUPS,
        data,
        precision,
      });
      expect(found.groups.map(({ order }) => order)).toEqual(back);
      using ours = new Network("test", found.aligned());
      using theirs = new Network("test", model);
      expect(ours.state).toEqual(theirs.state);
    });
  },
);

describe("weight matching", () => {
  test.each(matching)("the permutations of Git Re-Basin on $widths", async (wanted) => {
    const { a, b, orders, permutations, rounds } = wanted;
    using model = await netModel({ widths: wanted.widths, activation: "Relu", theta: a });
    using network = new Network("test", model);
    const all = perceptronGroups(wanted.widths);
    const task = {
      ...{ network, groups: all, members: memberships("test", network, all) },
      ...{ first: network.state, second: network.stateOf("test", Float64Array.from(b)) },
    };
    const found = await matchWeights(task, (round) => orders[round]!, 40);
    expect(found.orders.map((order) => [...order])).toEqual(permutations);
    expect(found).toMatchObject({ rounds, converged: true });
  });

  test("one hidden layer is matched in one round, which the second confirms", async () => {
    const one = [5, 16, 3];
    using model = await netModel({ widths: one, activation: "Relu", theta: randomTheta(1, one) });
    for (const seed of [2, 3, 4]) {
      const found = await align(model, randomTheta(seed, one), {
        groups: perceptronGroups(one),
        seed,
      });
      expect(found).toMatchObject({ rounds: 2, converged: true });
      expect(found.similarity.after).toBeGreaterThan(found.similarity.before!);
    }
  });

  test("scales of both networks change nothing", async () => {
    using model = await perceptron(1);
    const theta = randomTheta(2, widths);
    const wanted = await align(model, theta, { groups });
    for (const scale of [1e-12, 1e12]) {
      const small = parameterVector(model).map((x) => scale * x);
      using there = model.withParameters(small);
      const found = await align(
        there,
        theta.map((x) => scale * x),
        { groups },
      );
      expect(found.groups.map(({ order }) => order)).toEqual(
        wanted.groups.map(({ order }) => order),
      );
      expect(found.rounds).toBe(wanted.rounds);
      expect(found.similarity.after).toBeCloseTo(wanted.similarity.after, 12);
    }
  });

  test("the similarity never falls, and the same seed gives the same result", async () => {
    using model = await perceptron(1);
    for (let seed = 2; seed < 8; seed++) {
      const theta = randomTheta(seed, widths);
      const found = await align(model, theta, { groups, seed });
      expect(found.similarity.after).toBeGreaterThanOrEqual(found.similarity.before!);
      const again = await align(model, theta, { groups, seed });
      expect(again.parameters).toEqual(found.parameters);
    }
  });

  test("rounds that are not enough are said to be so", async () => {
    using model = await perceptron(1);
    const found = await align(model, randomTheta(2, widths), { groups, maxRounds: 1 });
    expect(found).toMatchObject({ rounds: 1, converged: false });
  });
});

describe("activation matching", () => {
  test("inner products and correlations tell units apart by what they do", async () => {
    // Two networks of equal weights but for the scale of one unit: the function of each unit is alike.
    using model = await perceptron(1);
    using data = await rows(5);
    const { other, back } = turned(model, groups, [
      [5, 4, 3, 2, 1, 0],
      [0, 1, 2, 3, 4],
    ]);
    for (const similarity of ["correlation", "product"] as const) {
      using found = await align(model, other, { method: "activations", similarity, groups, data });
      expect(found.groups[0]!.order).toEqual(back[0]);
      expect(found.groups[1]!.moved).toBe(0);
      expect(found.groups[0]!.score!.after).toBeGreaterThan(found.groups[0]!.score!.before!);
    }
  });

  test("needs data, and values that show the units", async () => {
    using model = await perceptron(1);
    await expect(align(model, model, { method: "activations", groups })).rejects.toThrow(
      "align: expected data for activations: align(first, second, { data })",
    );
    using data = await rows(5);
    const hidden = [{ ...groups[0]!, places: [groups[0]!.places[1]!] }];
    await expect(
      align(model, model, { method: "activations", groups: hidden, data }),
    ).rejects.toThrow("w0: expected a linear map or convolution whose outputs are the units");
  });
});

describe("barriers", () => {
  test("a network and its own permutation: a barrier before, none after", async () => {
    using model = await convolutionalModel(1);
    using data = await images();
    const { other } = turned(model, CONVOLUTIONAL_GROUPS, [
      [4, 2, 0, 1, 3],
      [3, 0, 2, 1],
    ]);
    using found = await align(model, other, { groups: CONVOLUTIONAL_GROUPS });
    const { barriers, first, second, aligned, fused, layers } = await alignmentBarriers(
      found,
      data,
      {
        precision,
        points: 5,
        layers: true,
      },
    );
    expect(second!.loss).toBeCloseTo(first.loss, 12);
    expect(aligned).toEqual(first);
    expect(barriers.naive!.barrier).toBeGreaterThan(1e-3);
    expect(barriers.aligned.barrier).toBe(0);
    for (const value of barriers.aligned.losses) expect(value).toBeCloseTo(first.loss, 13);
    expect(fused).toEqual(first);
    // Half way, with the statistics half way.
    const middle = await lossOf(await atPart(model, other, 0.5, () => true), data);
    expect(barriers.naive!.losses[2]).toBeCloseTo(middle, 12);
    expect(barriers.naive!.middle.loss).toBeCloseTo(middle, 12);
    expect(layers!.map(({ layer }) => layer)).toEqual(["c0", "bn", "d1", "e2"]);
    for (const layer of layers!) expect(layer.aligned.barrier).toBe(0);
    // The last of a layer's line has that layer of the second network.
    for (const { layer, naive } of layers!) {
      const moved = await atPart(model, other, 1, (name) => name.startsWith(`${layer}.`));
      expect(naive!.losses[4]).toBeCloseTo(await lossOf(moved, data), 12);
      expect(Math.abs(naive!.losses[4]! - first.loss)).toBeGreaterThan(1e-4);
    }
  });

  test("statistics that are recomputed are those of the activations there", async () => {
    using model = await convolutionalModel(1);
    using data = await images(30);
    const { other } = turned(model, CONVOLUTIONAL_GROUPS, [
      [4, 2, 0, 1, 3],
      [3, 0, 2, 1],
    ]);
    using middle = await atPart(model, other, 0.5, () => true);
    using network = new Network("test", middle);
    const state = await recomputedStatistics(network, network.state, data, { precision });
    using there = network.modelAt(state);
    // What comes out of the normalisation has its shift as mean and its scale as deviation.
    using normalised = there.withOutput("n0");
    const { values, shape } = await forward(normalised, data, { precision });
    const [count, channels, size] = [shape[0]!, shape[1]!, shape[2]! * shape[3]!];
    for (let c = 0; c < channels; c++) {
      const own = values.filter((_, i) => Math.floor(i / size) % channels === c);
      const mean = own.reduce((a, b) => a + b, 0) / own.length;
      const square = own.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (own.length - 1);
      expect(own).toHaveLength(count * size);
      expect(mean).toBeCloseTo(network.tensor("bn.bias")!.values()[c]!, 10);
      expect(Math.sqrt(square)).toBeCloseTo(network.tensor("bn.weight")!.values()[c]!, 3);
    }
    // Parameters stay.
    expect(parameterVector(there)).toEqual(parameterVector(middle));

    using found = await align(model, other, { groups: CONVOLUTIONAL_GROUPS });
    const options = { precision, points: 3, statistics: "recomputed" } as const;
    const { barriers, fused } = await alignmentBarriers(found, data, options);
    expect(barriers.naive!.losses[1]).toBeCloseTo(await lossOf(there, data), 12);
    expect(barriers.naive!.middle.loss).toBe(barriers.naive!.losses[1]);
    expect(barriers.aligned.barrier).toBeLessThan(1e-12);
    // At the ends as well: not those of the file.
    expect(barriers.naive!.losses[0]).toBeCloseTo(fused.loss, 12);
    expect(Math.abs(fused.loss - (await lossOf(model, data)))).toBeGreaterThan(1e-3);
  });

  /** The first network moved by a share to the second, statistics included, in some tensors. */
  async function atPart(
    first: Model,
    second: Model,
    share: number,
    chosen: (name: string) => boolean,
  ): Promise<Model> {
    const [a, b] = [new Network("test", first), new Network("test", second)];
    const state = a.state.slice();
    for (const { name, offset, size } of a.whole.parameters)
      if (chosen(name))
        for (let i = offset; i < offset + size; i++)
          state[i] = (1 - share) * a.state[i]! + share * b.state[i]!;
    return a.modelAt(state);
  }

  const lossOf = (model: Model, data: DataSet) => loss(model, data, { precision });
});

describe("spectra", () => {
  test("eigenvalues are those of the permuted network, and its top space is found again", async () => {
    using model = await netModel({
      widths,
      activation: "Tanh",
      theta: randomTheta(1, widths),
    });
    using data = await rows(2);
    const { other } = turned(model, groups, [
      [3, 0, 5, 1, 4, 2],
      [1, 4, 0, 3, 2],
    ]);
    using found = await align(model, other, { groups });
    const spectra = await alignedSpectra(found, data, {
      k: 4,
      tol: 1e-11,
      operator: (at, on) => hessian(at, on, { precision, loss: "cross-entropy" }),
    });
    expect(spectra.converged).toBe(true);
    expect(spectra.invariance).toBeLessThan(1e-11);
    expect(relative(spectra.second!, spectra.first)).toBeLessThan(1e-11);
    const { before, after } = spectra.overlap;
    expect(after.overlap).toBeCloseTo(1, 12);
    expect(before!.overlap).toBeLessThan(0.8);
    expect(before!.baseline.expected).toBeCloseTo(4 / model.parameterCount, 12);
  });
});

describe("fusion", () => {
  /** A perceptron 2 - m - 3 with the units of another twice, whose readers get half the weight each. */
  const small = { widths: [2, 3, 2], theta: randomTheta(3, [2, 3, 2]) };
  function doubled(copies: number[]): { widths: number[]; theta: number[] } {
    const t = small.theta;
    const units = copies.flatMap((count, unit) => new Array<number>(count).fill(unit));
    const incoming = units.flatMap((unit) => [t[2 * unit]!, t[2 * unit + 1]!]);
    const biases = units.map((unit) => t[6 + unit]!);
    const outgoing = [0, 1].flatMap((out) =>
      units.map((unit) => t[9 + 3 * out + unit]! / copies[unit]!),
    );
    return {
      widths: [2, units.length, 2],
      theta: [...incoming, ...biases, ...outgoing, t[15]!, t[16]!],
    };
  }
  const at = ({ widths, theta }: { widths: number[]; theta: ArrayLike<number> }) =>
    netModel({ widths, theta, activation: "Tanh" });

  test("merging and splitting equal units leaves the function as it is, with sums", async () => {
    using narrow = await at(small);
    using wide = await at(doubled([2, 2, 2]));
    using data = await dataOf({ x: { data: normals(1, 20), shape: [2] } });
    const wanted = (await forward(narrow, data, { precision })).values;
    const options = { method: "fusion", scaling: "sum" } as const;
    for (const [first, second] of [
      [narrow, wide],
      [wide, narrow],
    ] as const) {
      using found = await align(first, second, {
        ...options,
        groups: perceptronGroups([2, first === narrow ? 3 : 6, 2]),
        otherGroups: perceptronGroups([2, first === narrow ? 6 : 3, 2]),
      });
      expect(found.churn).toBeUndefined();
      expect(found.similarity.before).toBeUndefined();
      for (const model of [found.aligned(), found.fused()]) {
        const { values } = await forward(model, data, { precision });
        expect(relative(values, wanted)).toBeLessThan(1e-7);
      }
      const { plan, size, otherSize } = found.groups[0]!;
      expect(plan!.length).toBe(size * otherSize);
      expect(plan!.filter((mass) => mass > 0)).toEqual(new Float64Array(6).fill(1 / 6));
    }
  });

  test("as published, readers of merged units get the mean of their weights", async () => {
    using narrow = await at(small);
    using wide = await at(doubled([2, 2, 2]));
    using found = await align(narrow, wide, {
      method: "fusion",
      groups: perceptronGroups([2, 3, 2]),
      otherGroups: perceptronGroups([2, 6, 2]),
    });
    const [got, wanted] = [found.parameters, parameterVector(narrow)];
    expect(relative(got.subarray(0, 9), wanted.subarray(0, 9))).toBeLessThan(1e-7);
    const half = wanted.slice(9, 15).map((x) => x / 2);
    expect(relative(got.subarray(9, 15), half)).toBeLessThan(1e-7);
  });

  test("by activations, and by Sinkhorn with little entropy, to the same plan", async () => {
    using model = await perceptron(1);
    using data = await rows(2);
    const { other, back } = turned(model, groups, [
      [3, 0, 5, 1, 4, 2],
      [1, 4, 0, 3, 2],
    ]);
    using exact = await align(model, other, {
      method: "fusion",
      costs: "activations",
      groups,
      data,
    });
    expect(exact.groups.map(({ order }) => order)).toEqual(back);
    using soft = await align(model, other, { method: "fusion", regularisation: 0.005, groups });
    expect(soft.converged).toBe(true);
    for (const [g, { plan, order, size }] of soft.groups.entries()) {
      expect(order).toBeUndefined();
      back[g]!.forEach((j, i) => {
        expect(plan![i * size + j]! * size).toBeCloseTo(1, 3);
      });
    }
  });

  test("the share of the second network", async () => {
    using model = await perceptron(1);
    const theta = randomTheta(2, widths);
    using found = await align(model, theta, { method: "fusion", groups, share: 0.25 });
    const own = parameterVector(model);
    const wanted = own.map((x, i) => 0.75 * x + 0.25 * found.parameters[i]!);
    expect(relative(parameterVector(found.fused()), wanted)).toBeLessThan(1e-15);
  });

  test("networks that differ by more than widths are refused", async () => {
    using narrow = await at(small);
    using deep = await netModel({ widths: [2, 3, 3, 2], theta: randomTheta(1, [2, 3, 3, 2]) });
    await expect(
      align(narrow, deep, {
        method: "fusion",
        groups: perceptronGroups([2, 3, 2]),
        otherGroups: perceptronGroups([2, 3, 3, 2]),
      }),
    ).rejects.toThrow(
      "expected two networks that differ by the widths of units only, got 1 groups",
    );
  });
});

test("an aligned network is written with its buffers, and read again", async () => {
  const folder = mkdtempSync(join(tmpdir(), "eigenscope-align-"));
  try {
    const file = join(folder, "first.onnx");
    writeFileSync(file, convolutional(1));
    using model = await loadModel(file, { loss: "cross-entropy" });
    const { other } = turned(model, CONVOLUTIONAL_GROUPS, [
      [4, 2, 0, 1, 3],
      [3, 0, 2, 1],
    ]);
    using found = await align(model, other, { groups: CONVOLUTIONAL_GROUPS });
    for (const name of ["aligned.onnx", "aligned.safetensors"])
      await found.save(join(folder, name));
    expect(readFileSync(join(folder, "aligned.onnx"))).toEqual(readFileSync(file));
    const read = await loadCheckpoint(model, join(folder, "aligned.safetensors"));
    expect(read).toEqual(found.parameters);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("what does not fit is refused", async () => {
  using model = await perceptron(1);
  using other = await convolutionalModel(1);
  await expect(align(model, other, { groups })).rejects.toThrow(
    "align: expected a checkpoint of model",
  );
  await expect(align(model, new Float64Array(3), { groups })).rejects.toThrow("its 83 parameters");
  await expect(align(model, model, { groups: [] })).rejects.toThrow("units that can be exchanged");
  await expect(align(model, model, { groups, method: "weight" as never })).rejects.toThrow(
    'align: method: expected one of "weights", "activations", "fusion", got "weight"',
  );
  await expect(alignmentBarriers({} as never, {} as never)).rejects.toThrow("what align found");
});
