// Trajectories: models as points by what they predict.
import {
  bhattacharyyaDistance,
  forward,
  inPca,
  labelPredictions,
  type Predictions,
  predictionsAlong,
  predictionsOf,
  trajectory,
  uniformPredictions,
} from "../lib";
import { rejection } from "./50-helpers";
import { dataOf, netModel, randomTheta } from "./support/networks";
import { eigenvalues, errorOf, integers, normals, rowsOf, uniform } from "./support/numbers";

const RUN = { precision: "float64", threads: 1 } as const;

/** Random distributions over three classes for 8 samples. */
function random(seed: number, name = `model ${seed}`): Predictions {
  const next = uniform(seed);
  const p = Array.from({ length: 8 }, () => {
    const row = [next(), next(), next()];
    const sum = row.reduce((a, b) => a + b);
    return row.map((x) => x / sum);
  }).flat();
  return predictionsOf(name, p, 3);
}

test("O22: the distance of two models on two samples", () => {
  const u = predictionsOf("u", [0.5, 0.5, 0.9, 0.1], 2);
  const v = predictionsOf("v", [0.8, 0.2, 0.6, 0.4], 2);
  expect(bhattacharyyaDistance(u, v)).toBeCloseTo(0.0600263699, 10);
  expect(bhattacharyyaDistance(v, u)).toBe(bhattacharyyaDistance(u, v));
  expect(bhattacharyyaDistance(u, u)).toBeCloseTo(0, 15);
});

test("truth and ignorance: half the logarithm of the number of classes", () => {
  const truth = labelPredictions([0, 2, 1, 3], 4);
  const nothing = uniformPredictions(4, 4);
  expect(bhattacharyyaDistance(truth, nothing)).toBeCloseTo(Math.log(4) / 2, 14);
  // To the truth: half the mean cross-entropy.
  const model = predictionsOf("m", [0.7, 0.3, 0.2, 0.8], 2);
  const labels = labelPredictions([0, 0], 2);
  const entropy = -(Math.log(0.7) + Math.log(0.2)) / 2;
  expect(bhattacharyyaDistance(model, labels)).toBeCloseTo(entropy / 2, 14);
});

test("the embedding has the distances, with lengths that count by sign", async () => {
  const models = [1, 2, 3, 4, 5, 6].map((seed) => random(seed));
  const { distances, eigenvalues: values, coordinates } = await inPca(models, { components: 5 });
  expect(values).toHaveLength(5);
  for (let i = 0; i < 6; i++)
    for (let j = 0; j < 6; j++) {
      expect(distances[6 * i + j]).toBeCloseTo(bhattacharyyaDistance(models[i]!, models[j]!), 14);
      let square = 0;
      for (let k = 0; k < 5; k++)
        square += Math.sign(values[k]!) * (coordinates[5 * i + k]! - coordinates[5 * j + k]!) ** 2;
      expect(square).toBeCloseTo(distances[6 * i + j]!, 12);
    }
});

test("eigenvalues are those of the centred distances, the negative ones kept", async () => {
  // A square whose diagonals are too short for its sides: no distances of points.
  const far = (i: number) => {
    const p = Array.from({ length: 16 }, (_, n) => {
      const sharp = [i, (i + 1) % 4].includes(Math.floor(n / 4)) ? 0.999 : 0.5;
      return [sharp, 1 - sharp];
    }).flat();
    return predictionsOf(`corner ${i}`, p, 2);
  };
  const models = [far(0), far(1), far(2), far(3), random(1, "x")].slice(0, 4);
  const found = await inPca(models);
  const D = rowsOf(found.distances, 4);
  const L = (i: number, j: number) => (i === j ? 1 : 0) - 1 / 4;
  const W = D.map((_, i) =>
    Float64Array.from({ length: 4 }, (_, j) => {
      let sum = 0;
      for (let a = 0; a < 4; a++) for (let b = 0; b < 4; b++) sum += L(i, a) * D[a]![b]! * L(b, j);
      return -sum / 2;
    }),
  );
  const wanted = eigenvalues(W).sort((a, b) => Math.abs(b) - Math.abs(a));
  expect(errorOf(found.eigenvalues, wanted.slice(0, 3))).toBeLessThan(1e-12);
  const squares = wanted.map((x) => x * x);
  const whole = squares.reduce((a, b) => a + b);
  expect(found.explainedStress[0]).toBeCloseTo(1 - Math.sqrt(1 - squares[0]! / whole), 12);
  expect(found.explainedStress[2]).toBeCloseTo(1, 6);
});

test("a matrix of distances with a negative eigenvalue says how much is negative", async () => {
  // Two far pairs, and a model between all of them: a star is longer than its middle allows.
  const p = (values: number[]) => Array.from(values, (x) => [x, 1 - x]).flat();
  const e = 1e-9;
  const star = [
    predictionsOf("middle", p([0.5, 0.5, 0.5]), 2),
    predictionsOf("a", p([e, 0.5, 0.5]), 2),
    predictionsOf("b", p([1 - e, 0.5, 0.5]), 2),
  ];
  const { eigenvalues: values, negativeShare, distances } = await inPca(star);
  // d(a, b) is above d(a, middle) + d(middle, b) times two, which no points in a plane allow.
  expect(Math.sqrt(distances[5]!)).toBeGreaterThan(
    Math.sqrt(distances[1]!) + Math.sqrt(distances[2]!),
  );
  expect(Math.min(...values)).toBeLessThan(0);
  const magnitude = values.reduce((sum, x) => sum + Math.abs(x), 0);
  expect(negativeShare).toBeCloseTo(-Math.min(...values) / magnitude, 12);
});

test("the order of models turns rows and nothing else", async () => {
  const models = [1, 2, 3, 4, 5].map((seed) => random(seed));
  const order = [3, 0, 4, 1, 2];
  const found = await inPca(models);
  const turned = await inPca(order.map((i) => models[i]!));
  expect(errorOf(turned.eigenvalues, found.eigenvalues)).toBeLessThan(1e-12);
  const k = found.eigenvalues.length;
  order.forEach((from, to) => {
    for (let c = 0; c < k - 1; c++)
      expect(Math.abs(turned.coordinates[k * to + c]!)).toBeCloseTo(
        Math.abs(found.coordinates[k * from + c]!),
        9,
      );
  });
  expect(turned.names).toEqual(order.map((i) => `model ${i + 1}`));
});

test("predictions along a path are the softmax of outputs; several runs go together", async () => {
  const widths = [3, 5, 4];
  const model = await netModel({ widths, theta: randomTheta(1, widths), activation: "Tanh" });
  const data = await dataOf({
    x: { data: normals(2, 6 * 3), shape: [3] },
    y: { data: integers(3, 6, 4), shape: [] },
  });
  const places = [5, 6, 7].map((seed) => randomTheta(seed, widths));
  const options = { ...RUN, loss: "cross-entropy" } as const;
  const path = await trajectory(model, places, { name: "first", steps: [0, 10, 20] });
  const seen = await predictionsAlong(path, data, options);
  for (const [t, place] of places.entries()) {
    using there = model.withParameters(place);
    const { values } = await forward(there, data, RUN);
    rowsOf(values, 4).forEach((z, n) => {
      const sum = z.reduce((total, x) => total + Math.exp(x), 0);
      z.forEach((x, c) => {
        expect(Math.exp(seen[t]!.logs[4 * n + c]!)).toBeCloseTo(Math.exp(x) / sum, 12);
      });
    });
    expect(seen[t]).toMatchObject({ run: "first", name: `first ${10 * t}`, step: 10 * t });
  }
  const other = await trajectory(
    model,
    [8, 9].map((seed) => randomTheta(seed, widths)),
    {
      name: "second",
    },
  );
  const both = [...seen, ...(await predictionsAlong(other, data, options))];
  const found = await inPca([...both, uniformPredictions(6, 4)]);
  expect(found.runs).toEqual(["first", "first", "first", "second", "second", undefined]);
  expect(found.steps.slice(0, 4)).toEqual([0, 10, 20, 0]);
});

test("binary losses have two classes an output; probabilities stay; maps count positions", async () => {
  const widths = [3, 2];
  const theta = randomTheta(4, widths);
  const data = await dataOf({ x: { data: normals(2, 5 * 3), shape: [3] } });
  const model = await netModel({ widths, theta });
  const path = await trajectory(model, [theta, randomTheta(5, widths)]);
  const [pairs] = await predictionsAlong(path, data, { ...RUN, loss: "bce-with-logits" });
  expect([pairs!.samples, pairs!.classes]).toEqual([10, 2]);
  const { values } = await forward(model, data, RUN);
  values.forEach((z, i) => {
    expect(pairs!.logs[2 * i]).toBeCloseTo(-Math.log(1 + Math.exp(-z)), 12);
    expect(pairs!.logs[2 * i + 1]).toBeCloseTo(-Math.log(1 + Math.exp(z)), 12);
  });
  const soft = await netModel({
    widths,
    theta,
    tail: [{ op: "Softmax", attributes: { axis: 1 } }],
  });
  const same = await trajectory(soft, [theta, theta]);
  const [p] = await predictionsAlong(same, data, { ...RUN, loss: "nll-probabilities" });
  const [logits] = await predictionsAlong(path, data, { ...RUN, loss: "cross-entropy" });
  expect(errorOf(p!.logs, logits!.logs)).toBeLessThan(1e-12);
  // One channel each for two classes on a row of three positions.
  const map = await netModel({
    widths: [3, 6],
    theta: randomTheta(6, [3, 6]),
    tail: [{ op: "Reshape", integers: [-1, 2, 3] }],
  });
  const along = await trajectory(map, [randomTheta(6, [3, 6]), randomTheta(7, [3, 6])]);
  const [positions] = await predictionsAlong(along, data, { ...RUN, loss: "cross-entropy" });
  expect([positions!.samples, positions!.classes]).toEqual([15, 2]);
  const raw = (await forward(map, data, RUN)).values;
  // Sample 1, position 2: channels at 6 + 2 and 6 + 3 + 2.
  const want = raw[8]! - Math.log(Math.exp(raw[8]!) + Math.exp(raw[11]!));
  expect(positions!.logs[2 * 5]).toBeCloseTo(want, 12);
});

test("confident models: no rounding to infinity, until they rule one another out", async () => {
  const hot = (z: number): Predictions => ({
    ...{ name: `hot ${z}`, samples: 1, classes: 2 },
    logs: Float64Array.of(-Math.log1p(Math.exp(-z)), -Math.log1p(Math.exp(z)) || -z),
  });
  const [a, b] = [hot(2000), { ...hot(2000), logs: hot(2000).logs.slice().reverse() }];
  a.logs[1] = -2000;
  b.logs[0] = -2000;
  expect(bhattacharyyaDistance(a, b)).toBeCloseTo(1000 - Math.log(2), 8);
  const yes = labelPredictions([0], 2);
  const no = { ...labelPredictions([1], 2), name: "no" };
  expect(() => bhattacharyyaDistance(yes, no)).toThrow(
    /truth and no rule one another out on sample 0/,
  );
});

test("what is wrong is named", async () => {
  expect(() => predictionsOf("p", [0.5, 1.5], 2)).toThrow(/got 1.5 at index 1/);
  expect(() => labelPredictions([0, 5], 3)).toThrow(/labels from 0 to 2, got 5 of sample 1/);
  expect(() => bhattacharyyaDistance(random(1), uniformPredictions(4, 3))).toThrow(
    /8 x 3 of model 1 and 4 x 3 of ignorance/,
  );
  expect((await rejection(inPca([random(1), random(2)]))).message).toMatch(/at least three models/);
  const model = await netModel({ widths: [2, 1], theta: [1, 2, 3], bias: true });
  const path = await trajectory(
    model,
    [
      [1, 2, 3],
      [3, 2, 1],
    ].map((x) => Float64Array.from(x)),
  );
  const data = await dataOf({ x: { data: normals(1, 4), shape: [2] } });
  expect((await rejection(predictionsAlong(path, data, { loss: "mse" }))).message).toMatch(
    /loss: expected one whose outputs are distributions over classes .*, got mse/,
  );
});
