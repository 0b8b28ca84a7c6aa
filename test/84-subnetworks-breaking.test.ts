// Symmetry breaking of layers: the oracles of each measure, what it does not depend on, null models.
import fc from "fast-check";
import {
  BREAKING_MEASURES,
  type BreakingMeasure,
  type BreakingOptions,
  Mask,
  type PermutationGroup,
  parameterVector,
  symmetryBreaking,
  symmetryBreakingAlong,
} from "../lib";
import { openCase, rejection, tinyProblem } from "./50-helpers";
import { netModel, randomTheta } from "./support/networks";
import { normals, uniform } from "./support/numbers";
import { denseGroups, placePositions } from "./support/unit-groups";

/** All measures of the hidden layers of a network at given weights. */
async function measuresOf(widths: number[], theta: ArrayLike<number>, options?: BreakingOptions) {
  using model = await netModel({ widths, theta, activation: "Relu", bias: false });
  const groups = denseGroups(widths, { bias: false });
  const found = await symmetryBreaking(model, { groups, draws: 0, ...options });
  return found.groups.map(
    ({ measures }) =>
      Object.fromEntries(
        Object.entries(measures).map(([name, { value }]) => [name, value]),
      ) as Record<BreakingMeasure, number>,
  );
}

/** A group whose units are rows of the first weight alone, as the oracle has them. */
const rowsOnly = (size: number): PermutationGroup => ({
  name: "w0",
  size,
  places: [{ tensor: "w0", parameter: true, axis: 0, start: 0, outer: 1, inner: 1, side: "in" }],
});

async function ofRows(rows: number[][], options?: BreakingOptions) {
  const [size, inner] = [rows.length, rows[0]!.length];
  const theta = [...rows.flat(), ...new Array(size).fill(1)];
  const groups = [rowsOnly(size)];
  const [found] = await measuresOf([inner, size, 1], theta, { groups, ...options });
  return found!;
}

test("rows (1,0), (1,0), (0,1): S1 = 2/3, 1.8 distinct units, S2 = 0", async () => {
  const found = await ofRows([
    [1, 0],
    [1, 0],
    [0, 1],
  ]);
  expect(found.exchange).toBeCloseTo(2 / 3, 15);
  expect(found.distinct).toBeCloseTo(1.8, 14);
  expect(found.importance).toBeCloseTo(0, 15);
  expect(found.importanceGini).toBeCloseTo(0, 15);
  expect(found.transposition).toBe(0);
  // Nothing comes out of these units, so there is no charge and nothing to balance.
  expect(found.exchangeBalanced).toBeNaN();
  expect(found.chargeSpread).toBeNaN();
});

test("squared norms (4, 1, 1): S2 = 0.206299", async () => {
  const found = await ofRows([
    [2, 0],
    [0, 1],
    [1, 0],
  ]);
  expect(found.importance).toBeCloseTo(1 - 2.381102 / 3, 6);
  expect(found.importance).toBeCloseTo(0.206299, 6);
  // Norms 2, 1, 1: sum |n_i - n_j| / (2 M sum n) = 4 / (2 * 3 * 4).
  expect(found.importanceGini).toBeCloseTo(4 / 24, 14);
  // The nearest two are (2,0) and (1,0): 1 of 6.
  expect(found.transposition).toBeCloseTo(1 / 6, 15);
});

test("all alike: S1 = 0 and one distinct unit; orthogonal: S1 = 1 and all distinct", async () => {
  const same = await ofRows([
    [1, 2],
    [-1, -2],
    [2, 4],
  ]);
  expect(same.exchange).toBeCloseTo(0, 14);
  expect(same.distinct).toBeCloseTo(1, 14);
  const other = await ofRows([
    [1, 0, 0],
    [0, 2, 0],
    [0, 0, 3],
  ]);
  expect(other.exchange).toBeCloseTo(1, 15);
  expect(other.distinct).toBeCloseTo(3, 14);
});

test("random Gaussian units of D numbers: S1 is about 1 - sqrt(2 / (pi D))", async () => {
  const [units, length] = [60, 100];
  const weights = normals(3, units * length);
  const rows = Array.from({ length: units }, (_, i) =>
    Array.from(weights.subarray(i * length, (i + 1) * length)),
  );
  const found = await ofRows(rows);
  expect(found.exchange).toBeCloseTo(1 - Math.sqrt(2 / (Math.PI * length)), 2);
});

test("a unit that is zero has no direction, and is exchangeable with another one", async () => {
  const one = await ofRows([
    [1, 0],
    [0, 0],
    [0, 1],
  ]);
  expect(one.exchange).toBeCloseTo(1, 15);
  expect(one.distinct).toBeCloseTo(2, 14);
  const two = await ofRows([
    [1, 0],
    [0, 0],
    [0, 0],
  ]);
  expect(two.transposition).toBe(0);
  expect(two.importance).toBeCloseTo(2 / 3, 14);
  expect((await ofRows([[0], [0]])).importance).toBeNaN();
});

test("charges: in 2, 1 and out 1, 1 give Q = (3, 0), spread 1.5 over a mean of 3.5", async () => {
  const [found] = await measuresOf([1, 2, 1], [2, 1, 1, 1]);
  expect(found!.chargeSpread).toBeCloseTo(1.5 / 3.5, 14);
  // Balanced, the units are (sqrt 2, sqrt 2) and (1, 1): parallel, squared norms 4 and 2.
  expect(found!.exchangeBalanced).toBeCloseTo(0, 14);
  const entropy = Math.exp(-(2 / 3) * Math.log(2 / 3) - (1 / 3) * Math.log(1 / 3));
  expect(found!.importanceBalanced).toBeCloseTo(1 - entropy / 2, 13);
  expect(found!.transpositionBalanced).toBeCloseTo((2 * (Math.SQRT2 - 1) ** 2) / 6, 13);
});

test("balanced, a unit that nothing comes out of is nothing", async () => {
  const [found] = await measuresOf([2, 3, 1], [1, 0, 0, 1, 5, 5, 1, 1, 0]);
  expect(found!.distinctBalanced).toBeCloseTo(4 / (2 + 2 * 0.25), 12);
  expect(found!.distinct).not.toBeCloseTo(found!.distinctBalanced, 1);
});

describe("what does not change a network", () => {
  const widths = [3, 4, 5, 2];
  const groups = denseGroups(widths);
  const offsets: Record<string, number> = {};
  const shapes: Record<string, number[]> = {};
  {
    let at = 0;
    for (const [l, out] of widths.slice(1).entries()) {
      offsets[`w${l}`] = at;
      shapes[`w${l}`] = [out, widths[l]!];
      shapes[`b${l}`] = [out];
      offsets[`b${l}`] = at + out * widths[l]!;
      at += out * (widths[l]! + 1);
    }
  }

  function permuteUnits(theta: Float64Array, next: () => number): Float64Array {
    let now = theta;
    for (const { size, places } of groups) {
      const order = Array.from({ length: size }, (_, i) => [next(), i] as const)
        .sort(([a], [b]) => a - b)
        .map(([, i]) => i);
      const moved = now.slice();
      for (const place of places)
        order.forEach((from, to) => {
          const [a, b] = [from, to].map((unit) =>
            placePositions(place, shapes[place.tensor]!, size, unit),
          );
          const offset = offsets[place.tensor]!;
          a!.forEach((position, i) => {
            moved[offset + b![i]!] = now[offset + position]!;
          });
        });
      now = moved;
    }
    return now;
  }

  function rescaleUnits(theta: Float64Array, next: () => number): Float64Array {
    const moved = theta.slice();
    for (const { size, places } of groups)
      for (let unit = 0; unit < size; unit++) {
        const factor = Math.exp(4 * next() - 2);
        for (const place of places)
          for (const position of placePositions(place, shapes[place.tensor]!, size, unit))
            moved[offsets[place.tensor]! + position]! *= place.side === "in" ? factor : 1 / factor;
      }
    return moved;
  }

  const measure = async (theta: Float64Array) => {
    using model = await netModel({ widths, theta, activation: "Relu" });
    const { groups: found } = await symmetryBreaking(model, { groups, draws: 0 });
    return found.map(({ measures }) => measures);
  };
  const INVARIANT = (Object.keys(BREAKING_MEASURES) as BreakingMeasure[]).filter((name) =>
    name.endsWith("Balanced"),
  );
  const RAW: BreakingMeasure[] = [
    "exchange",
    "distinct",
    "importance",
    "importanceGini",
    "chargeSpread",
    "transposition",
  ];

  test("permuted units: no measure changes", () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 1e6 }), async (seed) => {
        const theta = randomTheta(seed, widths);
        const [here, there] = [
          await measure(theta),
          await measure(permuteUnits(theta, uniform(seed))),
        ];
        for (const [g, measures] of here.entries())
          for (const name of [...RAW, ...INVARIANT])
            expect(there[g]![name].value).toBeCloseTo(measures[name].value, 10);
      }),
      { seed: 84, numRuns: 6 },
    ));

  test("rescaled units of all layers: the balanced measures do not change, the others do", () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 1e6 }), async (seed) => {
        const theta = randomTheta(seed, widths);
        const [here, there] = [
          await measure(theta),
          await measure(rescaleUnits(theta, uniform(seed + 1))),
        ];
        for (const [g, measures] of here.entries()) {
          for (const name of INVARIANT)
            expect(there[g]![name].value).toBeCloseTo(measures[name].value, 9);
          for (const name of RAW)
            expect(Math.abs(there[g]![name].value - measures[name].value)).toBeGreaterThan(1e-6);
        }
      }),
      { seed: 85, numRuns: 6 },
    ));

  test("multiplied by any number: nothing changes", async () => {
    const theta = randomTheta(5, widths);
    const here = await measure(theta);
    for (const factor of [1e-12, 1e12]) {
      const there = await measure(theta.map((x) => factor * x));
      for (const [g, measures] of here.entries())
        for (const name of [...RAW, ...INVARIANT])
          expect(there[g]![name].value).toBeCloseTo(measures[name].value, 9);
    }
  });
});

describe("against the initial weights and networks without a history", () => {
  const widths = [6, 8, 4];
  const initial = randomTheta(1, widths, false);
  const groups = denseGroups(widths, { bias: false });
  const bias = false;

  test("differences from the initial weights", async () => {
    const theta = initial.map((x, i) => (i < 6 ? 10 * x : x));
    using model = await netModel({ widths, theta, activation: "Relu", bias });
    const { groups: found } = await symmetryBreaking(model, { groups, initial, draws: 0 });
    const { importance, weightShift, kurtosis } = found[0]!.measures;
    const [before] = await measuresOf(widths, initial);
    const [after] = await measuresOf(widths, theta);
    expect(importance.initial).toBe(before!.importance);
    expect(importance.delta).toBe(after!.importance - before!.importance);
    expect(importance.delta).toBeGreaterThan(0.1);
    expect(kurtosis.delta).toBeGreaterThan(1);
    const weights = (of: Float64Array) => Array.from(of.subarray(0, 48));
    const sorted = (of: number[]) => of.map(Math.abs).sort((a, b) => a - b);
    const [f, i] = [sorted(weights(theta)), sorted(weights(initial))];
    const mean = weights(initial).reduce((a, b) => a + b, 0) / 48;
    const deviation = Math.sqrt(weights(initial).reduce((sum, x) => sum + (x - mean) ** 2, 0) / 48);
    const distance = f.reduce((sum, x, at) => sum + Math.abs(x - i[at]!), 0) / 48 / deviation;
    expect(weightShift.value).toBeCloseTo(distance, 12);
    expect(weightShift.initial).toBe(0);
    expect(found[0]!.measures.fisherImportance.value).toBeNaN();
  });

  test("a planted large unit stands out of permuted and of initialised networks", async () => {
    const theta = initial.map((x, i) => (i < 6 ? 10 * x : x));
    using model = await netModel({ widths, theta, activation: "Relu", bias });
    const reinitialise = (draw: number) => randomTheta(100 + draw, widths, bias);
    const options = { groups, initial, reinitialise, draws: 30, seed: 2 };
    const { groups: found } = await symmetryBreaking(model, options);
    const { importance, kurtosis, exchange } = found[0]!.measures;
    expect(importance.permuted).toMatchObject({ draws: 30 });
    expect(importance.permuted!.z).toBeGreaterThan(3);
    expect(importance.reinitialised!.z).toBeGreaterThan(3);
    // Order does not matter to the distribution of the weights.
    expect(kurtosis.permuted!.z).toBeNaN();
    expect(kurtosis.permuted!.mean).toBeCloseTo(kurtosis.value, 10);
    expect(kurtosis.reinitialised!.z).toBeGreaterThan(3);
    const again = await symmetryBreaking(model, options);
    expect(again.groups).toEqual(found);
    // By the draws themselves.
    const drawn = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const [values] = await measuresOf(widths, reinitialise(i));
        return values!.exchange;
      }),
    );
    const mean = drawn.reduce((a, b) => a + b, 0) / 30;
    const deviation = Math.sqrt(drawn.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 29);
    expect(exchange.reinitialised!.mean).toBeCloseTo(mean, 12);
    expect(exchange.reinitialised!.z).toBeCloseTo((exchange.value - mean) / deviation, 10);
  });

  test("an untrained network is one of its null models", async () => {
    using model = await netModel({ widths, theta: initial, activation: "Relu", bias });
    const reinitialise = (draw: number) => randomTheta(100 + draw, widths, bias);
    const { groups: found } = await symmetryBreaking(model, { groups, reinitialise, draws: 40 });
    for (const name of ["exchange", "importance", "chargeSpread", "transposition"] as const) {
      expect(Math.abs(found[0]!.measures[name].permuted!.z)).toBeLessThan(3.5);
      expect(Math.abs(found[0]!.measures[name].reinitialised!.z)).toBeLessThan(3.5);
    }
  });

  test("Fisher mass of units, and the shares that masks keep of the layer", async () => {
    using model = await netModel({ widths, theta: initial, activation: "Relu", bias });
    // Only the first unit's incoming weights, and the outgoing ones of all units.
    const diagonal = new Float64Array(80).fill(1, 0, 6).fill(0.5, 48);
    const bits = new Uint8Array(80).fill(1, 0, 12);
    const masks = [new Mask(model.parameters, bits, "first two")];
    const { groups: found } = await symmetryBreaking(model, { groups, diagonal, masks, draws: 5 });
    const masses = [8, 2, 2, 2, 2, 2, 2, 2].map((x) => x / 22);
    const entropy = masses.reduce((sum, x) => sum - x * Math.log(x), 0);
    const { fisherImportance } = found[0]!.measures;
    expect(fisherImportance.value).toBeCloseTo(1 - Math.exp(entropy) / 8, 13);
    expect(fisherImportance.permuted!.mean).toBeLessThan(fisherImportance.value);
    expect(found[0]!.kept).toEqual({ "first two": 0.25 });
  });

  test("over checkpoints", async () => {
    using model = await netModel({ widths, theta: initial, activation: "Relu", bias });
    const last = initial.map((x, i) => (i < 6 ? 10 * x : x));
    const middle = initial.map((x, i) => (x + last[i]!) / 2);
    const [course] = await symmetryBreakingAlong(model, [initial, middle, last], { groups });
    const wanted = await Promise.all(
      [initial, middle, last].map(async (theta) => (await measuresOf(widths, theta))[0]!),
    );
    for (const name of ["exchange", "importanceBalanced", "chargeSpread", "kurtosis"] as const)
      expect(Array.from(course!.measures[name])).toEqual(wanted.map((values) => values[name]));
    expect(course!.measures.weightShift[0]).toBe(0);
    expect(course!.measures.weightShift[1]).toBeLessThan(course!.measures.weightShift[2]!);
  });
});

test("wrong uses", async () => {
  const { model } = await tinyProblem();
  const name = (error: Error) => error.message;
  const groups = denseGroups([3, 4, 2], { name: (kind, layer) => `${kind}${layer + 1}` });
  const [group] = groups;
  const far = { ...group!, places: [{ ...group!.places[0]!, start: 3 }] };
  expect(name(await rejection(symmetryBreaking(model, { groups: [far] })))).toBe(
    "symmetryBreaking: groups: w1: expected unit 1 of 4 within axis 0 of w1, of shape (4, 3), got " +
      "positions 4",
  );
  expect(name(await rejection(symmetryBreaking(model, { groups: [{}] as never })))).toContain(
    "expected permutation groups { name, size, places }, got an object",
  );
  expect(
    name(await rejection(symmetryBreaking(model, { groups, diagonal: new Float64Array(3) }))),
  ).toBe("symmetryBreaking: diagonal: expected 26 numbers, one a parameter, got 3");
  const other = new Mask([{ name: "a", offset: 0, size: 2 }], [1, 0]);
  expect(name(await rejection(symmetryBreaking(model, { groups, masks: [other] })))).toContain(
    "masks: mask: expected 26 entries",
  );
  expect(name(await rejection(symmetryBreaking(parameterVector(model) as never)))).toContain(
    "expected a model of loadModel",
  );
  expect(name(await rejection(symmetryBreakingAlong(model, [], { groups })))).toContain(
    "expected an array of checkpoints",
  );
  const signal = AbortSignal.abort();
  await expect(symmetryBreaking(model, { groups, signal })).rejects.toThrow("aborted");
});

test("groups within one another: heads and their widths, channels in groups", async () => {
  for (const name of ["transformer", "grouped_conv"]) {
    const { model } = await openCase(name);
    const { groups, warnings } = await symmetryBreaking(model, { draws: 0 });
    expect(warnings).toEqual([]);
    expect(groups.some((group) => group.name.includes("["))).toBe(true);
    for (const { measures } of groups) {
      expect(measures.exchange.value).toBeGreaterThan(0);
      expect(measures.exchange.value).toBeLessThanOrEqual(1);
    }
  }
});
