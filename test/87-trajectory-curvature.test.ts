// Trajectories: leading eigenspaces along the path, against descent on a quadratic known in full.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  curvatureAlong,
  type DataSet,
  type Eigenpairs,
  eigsh,
  exactSpectrum,
  fisher,
  ggn,
  gradient,
  gradientShare,
  hessian,
  type Model,
  parameterVector,
  stabilityThreshold,
  subspaceOverlap,
  type Trajectory,
  trajectory,
} from "../lib";
import { nestedOverlaps, nestedShares } from "../lib/trajectory/spaces";
import { rejection } from "./50-helpers";
import { dataOf, netModel, randomTheta } from "./support/networks";
import { dot, errorOf, integers, norm, normals } from "./support/numbers";

const RUN = { precision: "float64", threads: 1 } as const;

/** Loss theta^T H theta / 2 with the eigenvalues 8, 4, 2, ... along a reflected basis. */
async function quadratic(d: number) {
  const u = normals(9, d);
  const q = (i: number) =>
    Float64Array.from({ length: d }, (_, j) => (i === j ? 1 : 0) - (2 * u[i]! * u[j]!) / dot(u, u));
  const values = Array.from({ length: d }, (_, i) => 8 * 0.5 ** i);
  // The mean of (x . w)^2 over d samples has the Hessian 2 / d sum x x^T.
  const rows = values.flatMap((value, i) =>
    Array.from(q(i), (x) => x * Math.sqrt((value * d) / 2)),
  );
  const data = await dataOf({
    x: { data: Float64Array.from(rows), shape: [d] },
    y: { data: new Float64Array(d), shape: [1] },
  });
  const model = await netModel({ widths: [d, 1], theta: new Float64Array(d), bias: false });
  return { data, model, values, basis: values.map((_, i) => q(i)) };
}

/** Coefficients (1 - rate lambda_i)^t a_i of descent from sum a_i q_i. */
function descent(values: number[], start: number[], rate: number, t: number): number[] {
  return values.map((value, i) => (1 - rate * value) ** t * start[i]!);
}

const share = (x: number[], k: number) =>
  x.slice(0, k).reduce((sum, y) => sum + y * y, 0) / x.reduce((sum, y) => sum + y * y, 0);

test("descent on a quadratic: all shares, in the eigenbasis by hand", async () => {
  const d = 7;
  const rate = 0.2;
  const { data, model, values, basis } = await quadratic(d);
  const start = values.map((_, i) => 1 + 0.3 * Math.cos(2 * i));
  const times = [0, 1, 2, 5, 9, 20];
  const at = times.map((t) => descent(values, start, rate, t));
  const places = at.map((a) =>
    Float64Array.from({ length: d }, (_, j) => a.reduce((sum, x, i) => sum + x * basis[i]![j]!, 0)),
  );
  const path = await trajectory(model, places, { steps: times });
  const found = await curvatureAlong(path, data, {
    ...{ ...RUN, loss: "mse", k: 3, learningRate: rate, momentum: 0.5, weightDecay: 0.01 },
  });
  expect(found.converged).toBe(true);
  expect(found.dim).toBe(d);
  for (const [place, point] of found.points.entries()) {
    expect(errorOf(point.values, values.slice(0, 3))).toBeLessThan(1e-9);
    expect(point.sharpness).toBeCloseTo(8, 8);
    expect(point.threshold).toBeCloseTo((2 * 1.5) / rate - 0.01, 12);
    const here = at[place]!;
    const loss = here.reduce((sum, a, i) => sum + (values[i]! * a * a) / 2, 0);
    expect(point.loss).toBeCloseTo(loss, 12);
    const g = here.map((a, i) => a * values[i]!);
    expect(point.gradientNorm).toBeCloseTo(norm(g), 12);
    const away = here.map((a, i) => a - start[i]!);
    const update = at[place + 1]?.map((a, i) => a - here[i]!);
    for (const k of [1, 2, 3]) {
      expect(point.gradientShares[k - 1]).toBeCloseTo(share(g, k), 9);
      if (update) expect(point.updateShares![k - 1]).toBeCloseTo(share(update, k), 9);
      else expect(point.updateShares).toBeUndefined();
      if (place === 0) expect(point.confinement[k - 1]).toBeNaN();
      else {
        expect(point.displacementShares[k - 1]).toBeCloseTo(share(away, k), 9);
        expect(point.confinement[k - 1]).toBeCloseTo(share(away, k), 9);
      }
    }
  }
  // The Hessian is the same everywhere.
  for (const { matrix, k, chance } of found.overlaps) {
    expect(errorOf(matrix, new Float64Array(36).fill(1))).toBeLessThan(1e-12);
    expect(chance.expected).toBeCloseTo(k / d, 14);
  }
  expect(found.overlaps.map(({ k }) => k)).toEqual([1, 2, 3]);
  // Later solves begin with the answer.
  const alone = await curvatureAlong(path.choose([0, 1]), data, { ...RUN, loss: "mse", k: 3 });
  expect(alone.products).toBeLessThanOrEqual(found.products);
});

test("O22: the overlap of two planes that share a direction, .875; of their first vectors, .75", () => {
  const unit = (...entries: [number, number][]) => {
    const row = new Float64Array(5);
    for (const [i, x] of entries) row[i] = x;
    return row;
  };
  const turn = Math.PI / 6;
  const V = [unit([0, 1]), unit([1, 1])];
  const W = [unit([0, Math.cos(turn)], [3, Math.sin(turn)]), unit([1, 1])];
  const found = nestedOverlaps(V, W);
  expect(found[0]).toBeCloseTo(0.75, 14);
  expect(found[1]).toBeCloseTo(0.875, 14);
  // A vector with three quarters of its square in the plane.
  const shares = nestedShares(V, unit([0, 1], [1, Math.SQRT2], [4, 1]));
  expect(Array.from(shares, (x) => Number(x.toFixed(14)))).toEqual([0.25, 0.75]);
  expect(nestedShares(V, new Float64Array(5))[1]).toBeNaN();
});

test("the edge of stability", () => {
  expect(stabilityThreshold(0.1)).toBe(20);
  expect(stabilityThreshold(0.1, { momentum: 0.9 })).toBeCloseTo(38, 12);
  expect(stabilityThreshold(0.5, { weightDecay: 1 })).toBe(3);
});

/** A small classifier along a made-up path. */
async function classifier(count = 4) {
  const widths = [4, 6, 3];
  const first = randomTheta(1, widths);
  const step = randomTheta(2, widths);
  const noise = Array.from({ length: count }, (_, t) => randomTheta(10 + t, widths));
  const places = noise.map((other, t) =>
    first.map((x, i) => x + 0.2 * t * step[i]! + (t > 0 ? 0.05 * other[i]! : 0)),
  );
  const model = await netModel({ widths, theta: first, activation: "Tanh" });
  const data = await dataOf({
    x: { data: normals(3, 40 * 4), shape: [4] },
    y: { data: integers(4, 40, 3), shape: [] },
  });
  return { model, data, places, path: await trajectory(model, places) };
}

describe("a network", () => {
  let model: Model;
  let data: DataSet;
  let places: Float64Array[];
  let path: Trajectory;
  let folder: string;
  const options = { ...RUN, loss: "cross-entropy", k: 4 } as const;
  beforeAll(async () => {
    ({ model, data, places, path } = await classifier());
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "eigenscope-curvature-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test("pairs, shares and overlaps are those of single calls", async () => {
    const found = await curvatureAlong(path, data, {
      ...options,
      operator: (at) => fisher(at, data, { ...RUN, type: "type-2", loss: "cross-entropy" }),
      sharpness: true,
    });
    expect(found.operator).toBe("fisher (type-2)");
    const alone: Eigenpairs[] = [];
    for (const [t, place] of places.entries()) {
      using there = model.withParameters(place);
      const run = { ...RUN, loss: "cross-entropy" } as const;
      const top = await eigsh(ggn(there, data, run), { k: 4, which: "LA" });
      alone.push(top);
      const point = found.points[t]!;
      expect(errorOf(point.values, top.values)).toBeLessThan(1e-8);
      const { values } = await exactSpectrum(hessian(there, data, run));
      expect(point.sharpness).toBeCloseTo(values[0]!, 8);
      const { gradient: g } = await gradient(there, data, run);
      const { share: inside } = gradientShare(top, g);
      expect(point.gradientShares[3]).toBeCloseTo(inside, 6);
    }
    for (let s = 0; s < 4; s++)
      for (let t = 0; t < 4; t++) {
        const { matrix } = found.overlaps.find(({ k }) => k === 4)!;
        expect(matrix[4 * s + t]).toBeCloseTo(subspaceOverlap(alone[s]!, alone[t]!), 6);
        const first = (n: number) => (top: Eigenpairs) => ({
          vectors: top.vectors.slice(0, n * top.dim),
          dim: top.dim,
        });
        const two = found.overlaps.find(({ k }) => k === 2)!.matrix[4 * s + t]!;
        const [V, W] = [alone[s]!, alone[t]!].map(first(2));
        expect(two).toBeCloseTo(subspaceOverlap(V!, W!), 6);
      }
    const space = await found.spaceAt(1);
    expect(subspaceOverlap(space, alone[1]!)).toBeCloseTo(1, 8);
  });

  test("a run that goes on gives what a fresh one gives", async () => {
    const fresh = await curvatureAlong(path, data, { ...options, noiseProbes: 4 });
    const part = { ...options, noiseProbes: 4, resume: folder };
    const first = await curvatureAlong(path, data, { ...part, checkpoints: [0, 1] });
    expect([first.computed, first.reused]).toEqual([2, 0]);
    const whole = await curvatureAlong(path, data, part);
    expect([whole.computed, whole.reused]).toEqual([2, 2]);
    expect(whole.points).toEqual(fresh.points);
    expect(whole.overlaps).toEqual(fresh.overlaps);
    const again = await curvatureAlong(path, data, part);
    expect([again.computed, again.reused, again.products]).toEqual([0, 4, 0]);
    expect(again.points).toEqual(fresh.points);
    // One result is lost: only that is computed.
    const lost = readdirSync(folder).find((name) => name.endsWith("2.json"))!;
    rmSync(join(folder, lost));
    const mended = await curvatureAlong(path, data, part);
    expect([mended.computed, mended.reused]).toEqual([1, 3]);
    expect(mended.points).toEqual(fresh.points);
  });

  test("results of other settings, data or files are not taken", async () => {
    await curvatureAlong(path, data, { ...options, resume: folder });
    const message = async (run: Promise<unknown>) => (await rejection(run)).message;
    const other = { ...options, resume: folder };
    expect(await message(curvatureAlong(path, data, { ...other, k: 3 }))).toMatch(
      /step-00000000\.json: holds results of other settings/,
    );
    const moved = await trajectory(model, [places[1]!, ...places.slice(1)]);
    expect(await message(curvatureAlong(moved, data, other))).toMatch(/other settings/);
    const noise = await dataOf({
      x: { data: normals(33, 40 * 4), shape: [4] },
      y: { data: integers(4, 40, 3), shape: [] },
    });
    expect(await message(curvatureAlong(path, noise, other))).toMatch(/the data have changed/);
    const file = join(folder, "step-00000000.json");
    writeFileSync(file, readFileSync(file, "utf8").slice(0, 40));
    expect(await message(curvatureAlong(path, data, other))).toMatch(/got another file/);
  });

  test("memory for two spaces at a time changes nothing", async () => {
    const all = await curvatureAlong(path, data, options);
    const bytes = 8 * model.parameterCount;
    for (const vectors of [9, 14, 20]) {
      const tight = await trajectory(model, places, { maxMemory: vectors * bytes });
      expect((await curvatureAlong(tight, data, options)).overlaps).toEqual(all.overlaps);
    }
  });

  test("operators over some tensors", async () => {
    const found = await curvatureAlong(path, data, {
      ...options,
      operator: (at) => hessian(at, data, { ...RUN, loss: "cross-entropy", params: "w*" }),
    });
    expect(found.dim).toBe(4 * 6 + 6 * 3);
    const weights = (theta: Float64Array) => [...theta.slice(0, 24), ...theta.slice(30, 48)];
    const away = weights(places[2]!).map((x, i) => x - weights(places[0]!)[i]!);
    const { share: inside } = gradientShare(await found.spaceAt(2), away);
    expect(found.points[2]!.displacementShares[3]).toBeCloseTo(inside, 10);
  });

  test("float32 agrees with float64", async () => {
    const run = { loss: "cross-entropy", k: 3, threads: 1 } as const;
    const exact = await curvatureAlong(path, data, { ...run, precision: "float64" });
    const rough = await curvatureAlong(path, data, { ...run, resume: folder });
    rough.points.forEach((point, t) => {
      expect(errorOf(point.values, exact.points[t]!.values)).toBeLessThan(1e-4);
      expect(errorOf(point.gradientShares, exact.points[t]!.gradientShares)).toBeLessThan(1e-3);
    });
  });

  test("few products: not converged, with the step", async () => {
    const found = await curvatureAlong(path, data, { ...options, k: 2, maxProducts: 5 });
    expect(found.converged).toBe(false);
    expect(found.reason).toMatch(/^step 0: /);
    expect(found.points).toHaveLength(4);
  });

  test("what is wrong is named", async () => {
    const message = async (more: object) =>
      (await rejection(curvatureAlong(path, data, { ...options, ...more }))).message;
    expect(await message({ k: 99 })).toMatch(/at most 51, the dimension of hessian, got/);
    expect(await message({ checkpoints: [0, 4] })).toMatch(/positions from 0 to 3, got 4/);
    expect(await message({ dimensions: [2, 9] })).toMatch(/dimensions: expected at most k = 4/);
    expect(await message({ learningRate: [1, 2] })).toMatch(/expected 4 numbers, one a checkpoint/);
    expect(await message({ operator: () => 3 })).toMatch(/expected it to make an operator, got 3/);
    expect(await message({ momentum: 1 })).toMatch(/momentum: expected a number from 0 to below 1/);
    const half = {
      operator: (at: Model) =>
        hessian(at, data, { ...RUN, loss: "cross-entropy" }).restrict({ indices: [1, 2, 5] }),
    };
    expect(await message({ ...half, k: 2 })).toMatch(
      /over all 51 parameters or over whole tensors/,
    );
    const stop = AbortSignal.abort();
    expect((await rejection(curvatureAlong(path, data, { ...options, signal: stop }))).name).toBe(
      "AbortError",
    );
    expect(parameterVector(model).length).toBe(51);
  });
});
