// Trajectories: several runs, and what a factor does to the symmetry of their layers.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compareRuns, type StudyRun, train, trajectory } from "../lib";
import type { PermutationGroup } from "../lib/symmetry/types";
import { runSettings } from "../lib/trajectory/run-settings";
import { rejection } from "./50-helpers";
import { dataOf, netModel, randomTheta, thetaSize } from "./support/networks";
import { integers, normals } from "./support/numbers";

const WIDTHS = [3, 5, 2];

/** The hidden units: rows of w0 with b0, columns of w1. */
const GROUP: PermutationGroup = {
  name: "w0",
  size: 5,
  places: [
    { tensor: "w0", parameter: true, axis: 0, start: 0, outer: 1, inner: 1, side: "in" },
    { tensor: "b0", parameter: true, axis: 0, start: 0, outer: 1, inner: 1, side: "in" },
    { tensor: "w1", parameter: true, axis: 1, start: 0, outer: 1, inner: 1, side: "out" },
  ],
};

/** Units that are drawn together by `pull`, from the same start. */
async function pulled(pull: number, seed: number): Promise<StudyRun> {
  const theta = randomTheta(seed, WIDTHS);
  const model = await netModel({ widths: WIDTHS, theta, activation: "Relu" });
  const end = theta.slice();
  for (let unit = 1; unit < 5; unit++) {
    const mix = (i: number, first: number) => {
      end[i] = (1 - pull) * theta[i]! + pull * theta[first]!;
    };
    for (let j = 0; j < 3; j++) mix(3 * unit + j, j);
    mix(15 + unit, 15);
    for (let o = 0; o < 2; o++) mix(20 + 5 * o + unit, 20 + 5 * o);
  }
  const path = await trajectory(model, [theta, end], { name: `${pull} ${seed}` });
  return {
    ...{ path, factors: { pull, other: Math.sin(100 * pull + seed) }, block: seed },
    outcomes: { score: 3 - pull },
  };
}

test("a factor that makes units alike: correlation -1, with the p of its orders", async () => {
  const runs = [];
  for (const seed of [1, 2])
    for (const pull of [0, 0.3, 0.6, 0.9]) runs.push(await pulled(pull, seed));
  const { rows, associations } = await compareRuns(runs, {
    ...{ groups: [GROUP], measures: ["exchange", "distinct"] },
  });
  expect(rows).toHaveLength(8 * 3);
  const start = rows.filter(({ measure }) => measure === "exchange");
  expect(new Set(start.slice(0, 4).map(({ initial }) => initial)).size).toBe(1);
  expect(start[0]!.final).toBe(start[0]!.initial);
  const of = (factor: string, measure: string) =>
    associations.find((row) => row.factor === factor && row.measure === measure)!;
  for (const measure of ["exchange", "distinct", "score"]) {
    const { correlation, adjustedP, layers } = of("pull", measure);
    expect(correlation.spearman).toBeCloseTo(-1, 12);
    // Two blocks of 4! orders, of which two in all are as extreme.
    expect(correlation.p).toBeCloseTo(2 / 24 ** 2, 12);
    expect(adjustedP).toBeGreaterThanOrEqual(correlation.p);
    expect(layers).toEqual([
      { layer: measure === "score" ? "" : "w0", spearman: expect.closeTo(-1) },
    ]);
  }
  expect(Math.abs(of("other", "exchange").correlation.spearman)).toBeLessThan(0.9);
});

test("what is wrong is named", async () => {
  const [a, b] = [await pulled(0.1, 1), await pulled(0.2, 1)];
  const message = async (runs: unknown, options?: object) =>
    (await rejection(compareRuns(runs as StudyRun[], { groups: [GROUP], ...options }))).message;
  expect(await message([a])).toMatch(/at least two runs/);
  expect(await message([a, a])).toMatch(/a name of its own for each run, got 0.1 1 twice/);
  expect(await message([a, { ...b, factors: { pull: 1 } }])).toMatch(
    /0.2 1: factors: expected finite numbers for pull, other, got pull 1/,
  );
  expect(await message([a, { ...b, path: 3 }])).toMatch(/path: expected a trajectory, got 3/);
  expect(await message([a, b], { measures: ["size"] })).toMatch(
    /measures: expected some of exchange/,
  );
});

test("settings of a run are read from what train leaves", async () => {
  const folder = mkdtempSync(join(tmpdir(), "eigenscope-runs-"));
  try {
    const theta = randomTheta(3, WIDTHS);
    const model = await netModel({ widths: WIDTHS, theta, activation: "Relu" });
    const data = await dataOf({
      x: { data: normals(6, 16 * 3), shape: [3] },
      y: { data: integers(7, 16, 2), shape: [] },
    });
    await train(model, data, {
      ...{ loss: "cross-entropy", learningRate: 0.4, schedule: "linear", batchSize: 8, threads: 1 },
      ...{ momentum: 0.5, weightDecay: 0.01, steps: 8, checkpoints: { folder, every: 2 } },
    });
    const path = await trajectory(model, folder);
    expect(Array.from(path.steps)).toEqual([0, 2, 4, 6, 8]);
    const found = (await runSettings(path))!;
    expect(found).toMatchObject({
      ...{ optimizer: "sgd", momentum: 0.5, weightDecay: 0.01, batchSize: 8 },
    });
    expect(found.learningRates[0]).toBeCloseTo(0.4, 12);
    expect(found.learningRates[1]!).toBeLessThan(found.learningRates[0]!);
    expect(found.learningRates).toHaveLength(5);
    const bare = await trajectory(model, [theta, new Float64Array(thetaSize(WIDTHS))]);
    expect(await runSettings(bare)).toBeUndefined();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
