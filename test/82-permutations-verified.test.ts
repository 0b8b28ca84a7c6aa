// Permutation groups checked by doing: outputs stay where units are permuted in all their places,
// and change where they are permuted in one, or exchanged with units of another group.
import {
  type DataSet,
  forward,
  loadData,
  loadModel,
  type Model,
  type PermutationGroup,
  permutationGroups,
  verifyPermutations,
} from "../lib";
import { unitOffsets } from "../lib/symmetry/places";
import { caseFile, relative } from "./50-helpers";
import { caseNames } from "./support/cases";
import { graphNames, openGraph } from "./support/graphs";
import { normals } from "./support/numbers";

const openCase = async (name: string) => ({
  model: await loadModel(caseFile(name, "model.onnx")),
  data: await loadData({ x: caseFile(name, "x.npy") }, { samples: 8 }),
});

/** Places that outputs do not depend on: biases of keys, biases before a normalisation. */
const WITHOUT_EFFECT = /qkv\.bias|in_proj_bias|^6\.bias$/;

test.each([
  ...caseNames.map((name) => [name, openCase] as const),
  ...graphNames.map((name) => [name, openGraph] as const),
])("%s", async (name, open) => {
  const { model, data } = await open(name);
  const groups = permutationGroups(model, data);
  expect(groups.length).toBeGreaterThan(0);
  const verified = await verifyPermutations(model, data, groups);
  expect(verified.map(({ group }) => group)).toEqual(groups);
  for (const { group, residual, alone } of verified) {
    expect(residual).toBeLessThan(1e-13);
    alone.forEach((change, i) => {
      if (Number.isNaN(change)) expect(group.places[i]!.tensor).toMatch(WITHOUT_EFFECT);
      else expect(change).toBeGreaterThan(1e-6);
    });
  }
  model.dispose();
});

/**
 * The parameters with unit i of one group exchanged with unit j of another in all tensors where both
 * have as many numbers; undefined where there are none.
 */
function exchanged(
  model: Model,
  theta: Float64Array,
  [a, i]: [PermutationGroup, number],
  [b, j]: [PermutationGroup, number],
): Float64Array | undefined {
  const out = theta.slice();
  let shared = false;
  for (const left of a.places)
    for (const right of b.places) {
      if (left.tensor !== right.tensor || left.axis !== right.axis || !left.parameter) continue;
      const { shape, offset } = model.parameters[model.parameterIndex(left.tensor)]!;
      const from = unitOffsets(shape, left, a.size)[i]!;
      const to = unitOffsets(shape, right, b.size)[j]!;
      if (from.length !== to.length || from.some((at) => to.includes(at))) continue;
      shared = true;
      from.forEach((at, k) => {
        out[offset + at] = theta[offset + to[k]!]!;
        out[offset + to[k]!] = theta[offset + at]!;
      });
    }
  return shared ? out : undefined;
}

async function outputsAt(model: Model, data: DataSet, theta: Float64Array) {
  using there = model.withParameters(theta);
  return (await forward(there, data, { precision: "float64" })).values;
}

test.each([
  "dense",
  "experts_stacked",
  "grouped_queries",
  "group_norms",
  "resnet_padded",
  "rotary",
  "shuffle",
  "vit",
])("%s: units of different groups cannot be exchanged", async (name) => {
  const { model, data } = await openGraph(name);
  const groups = permutationGroups(model);
  const theta = normals(3, model.parameterCount, 0.7);
  const here = await outputsAt(model, data, theta);
  let pairs = 0;
  for (const [k, a] of groups.entries())
    for (const b of groups.slice(k + 1)) {
      const there = exchanged(model, theta, [a, 0], [b, 1]);
      if (!there) continue;
      pairs++;
      expect(relative(await outputsAt(model, data, there), here)).toBeGreaterThan(1e-6);
    }
  expect(pairs).toBeGreaterThan(0);
});

test("gates are not permuted apart, nor directions exchanged", async () => {
  const { model, data } = await openGraph("lstm_stacked");
  const [forwards] = permutationGroups(model);
  const gates = forwards!.places.map((place) =>
    place.outer === 4 ? { ...place, start: 4, outer: 1 } : place,
  );
  const wrong = { ...forwards!, name: "one gate", places: gates };
  const [verified] = await verifyPermutations(model, data, [wrong], { places: false });
  expect(verified!.residual).toBeGreaterThan(1e-3);
});

test("a place that is left out shows, and what is permuted needlessly too", async () => {
  const { model, data } = await openGraph("unet");
  const [skip] = permutationGroups(model);
  const broken = {
    ...skip!,
    places: skip!.places.filter(({ tensor }) => tensor !== "join.weight"),
  };
  const [verified] = await verifyPermutations(model, data, [broken]);
  expect(verified!.residual).toBeGreaterThan(1e-3);
  const other = await loadData({ x: { data: normals(5, 32), shape: [2, 1, 4, 4] } });
  const [whole] = await verifyPermutations(model, other, [skip!], { places: false, seed: 4 });
  expect(whole!.residual).toBeLessThan(1e-13);
  expect(whole!.alone).toEqual([]);
});

test("wrong uses are refused", async () => {
  const { model, data } = await openGraph("rnn");
  await expect(verifyPermutations(model, data, undefined, { sample: 3 } as never)).rejects.toThrow(
    'there is no option "sample"; "samples" was probably meant',
  );
  await expect(verifyPermutations({} as never, data, [])).rejects.toThrow(
    "verifyPermutations: expected a model of loadModel",
  );
});
