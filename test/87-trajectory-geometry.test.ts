// Trajectories: the shape of the path, its map and its principal components.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Model,
  pathDirections,
  pathGeometry,
  saveCheckpoint,
  type TrajectoryOptions,
  trajectory,
} from "../lib";
import { rejection } from "./50-helpers";
import { netModel, randomTheta, thetaSize } from "./support/networks";
import { dot, eigenvalues, errorOf, norm, normals, rowsOf } from "./support/numbers";

/** A network of d parameters in one tensor: places in R^d. */
const space = (d: number) => netModel({ widths: [d, 1], theta: new Float64Array(d), bias: false });

async function measured(places: ArrayLike<number>[], options?: TrajectoryOptions) {
  const model = await space(places[0]!.length);
  const path = await trajectory(
    model,
    places.map((place) => Float64Array.from(place)),
    options,
  );
  return pathGeometry(path);
}

const directions = (degrees: number[]) =>
  degrees.map((degree) => {
    const angle = (degree * Math.PI) / 180;
    return [Math.cos(angle), Math.sin(angle), 0];
  });

test("O22: omega of unit vectors at 0, 30, 60 and 90 degrees", async () => {
  const { whole } = await measured(directions([0, 30, 60, 90]));
  expect(whole.rawMap.omega).toBeCloseTo(0.6997595264, 10);
  // The same as places relative to the first.
  const moved = [[0, 0, 0], ...directions([0, 30, 60, 90])].map(([x, y, z]) => [
    x! + 5,
    y! - 3,
    z! + 1,
  ]);
  const relative = (await measured(moved)).whole;
  expect(relative.relativeMap.omega).toBeCloseTo(0.6997595264, 10);
  expect(relative.relativeMap.size).toBe(4);
});

test("O22: four compass directions have omega 0, a straight line through the centre 1", async () => {
  const { whole } = await measured(directions([0, 90, 180, 270]));
  expect(whole.rawMap.omega).toBeCloseTo(0, 12);
  const line = (await measured([1, 2, 4, 7].map((t) => [t, -2 * t, t / 2]))).whole;
  expect(line.rawMap.omega).toBeCloseTo(1, 14);
  expect(line.relativeMap.omega).toBeCloseTo(1, 14);
  expect(line.straightness).toBeCloseTo(1, 14);
  expect(Math.max(...line.turns)).toBeLessThan(1e-7);
});

test("omega is the squared length of the mean unit vector", async () => {
  const places = Array.from({ length: 7 }, (_, t) => normals(20 + t, 11));
  const { whole } = await measured(places);
  const units = (vectors: Float64Array[]) => vectors.map((v) => v.map((x) => x / norm(v)));
  const identity = (vectors: Float64Array[]) => {
    const mean = new Float64Array(11);
    for (const unit of units(vectors))
      unit.forEach((x, i) => {
        mean[i]! += x / vectors.length;
      });
    return dot(mean, mean);
  };
  expect(whole.rawMap.omega).toBeCloseTo(identity(places), 12);
  const away = places.slice(1).map((place) => place.map((x, i) => x - places[0]![i]!));
  expect(whole.relativeMap.omega).toBeCloseTo(identity(away), 12);
});

test("lengths and angles of a path by hand", async () => {
  // Right, up, and back towards the start by half the diagonal.
  const { whole, steps } = await measured([
    [1, 0],
    [3, 0],
    [3, 2],
    [2, 1],
  ]);
  expect(Array.from(steps)).toEqual([0, 1, 2, 3]);
  expect(Array.from(whole.stepLengths)).toEqual([2, 2, Math.SQRT2]);
  expect(Array.from(whole.norms)).toEqual([1, 3, Math.sqrt(13), Math.sqrt(5)]);
  expect(errorOf(whole.displacements, [0, 2, Math.sqrt(8), Math.SQRT2])).toBeLessThan(1e-15);
  expect(whole.pathLength).toBeCloseTo(4 + Math.SQRT2, 14);
  expect(whole.displacement).toBeCloseTo(Math.SQRT2, 14);
  expect(whole.straightness).toBeCloseTo(Math.SQRT2 / (4 + Math.SQRT2), 14);
  expect(errorOf(whole.turns, [Math.PI / 2, (3 * Math.PI) / 4])).toBeLessThan(1e-15);
  expect(whole.apexAtStart[0]).toBeCloseTo(Math.PI / 4, 14);
  expect(whole.apexAtStart[1]).toBeCloseTo(0, 14);
  expect(whole.apexAtOrigin[1]).toBeCloseTo(Math.atan2(2, 3), 14);
  // Around the mean (2.25, 0.75).
  const squares = [1.5625 + 0.5625, 2 * 0.5625, 0.5625 + 1.5625, 0.0625 + 0.0625];
  const radius = Math.sqrt(squares.reduce((a, b) => a + b) / 4);
  expect(whole.radius).toBeCloseTo(radius, 14);
  expect(whole.pca.total).toBeCloseTo(radius ** 2, 14);
});

test("small angles are accurate", async () => {
  const tilt = 1e-9;
  const { whole } = await measured([
    [0, 0],
    [1, 0],
    [2, tilt],
  ]);
  expect(whole.turns[0]! / tilt).toBeCloseTo(1, 9);
});

test("the components of a planted plane, and the places in it", async () => {
  const d = 30;
  const e1 = normals(1, d);
  const first = e1.map((x) => x / norm(e1));
  const raw = normals(2, d);
  const part = dot(raw, first);
  const rest = raw.map((x, i) => x - part * first[i]!);
  const second = rest.map((x) => x / norm(rest));
  const shift = normals(3, d, 4);
  // Uncorrelated coordinates of variances 10 and 2 around (3, -1).
  const at = [
    [3 + Math.sqrt(20), -1],
    [3 - Math.sqrt(20), -1],
    [3, -1 + 2],
    [3, -1 - 2],
  ];
  const places = at.map(([a, b]) => shift.map((x, i) => x + a! * first[i]! + b! * second[i]!));
  const model = await space(d);
  const path = await trajectory(model, places);
  const { whole } = await pathGeometry(path);
  expect(errorOf(whole.pca.variances.slice(0, 2), [10, 2])).toBeLessThan(1e-12);
  expect(whole.pca.variances[2]).toBeLessThan(1e-12);
  expect(errorOf(whole.pca.explained.slice(0, 2), [10 / 12, 2 / 12])).toBeLessThan(1e-12);
  const { vectors, mean } = await pathDirections(path, { k: 2 });
  const plane = rowsOf(vectors, d);
  expect(Math.abs(dot(plane[0]!, first))).toBeCloseTo(1, 12);
  expect(Math.abs(dot(plane[1]!, second))).toBeCloseTo(1, 12);
  // Coordinates are projections on the directions.
  const k = whole.pca.variances.length;
  places.forEach((place, t) => {
    const around = place.map((x, i) => x - mean[i]!);
    plane.forEach((direction, c) => {
      expect(whole.pca.coordinates[t * k + c]).toBeCloseTo(dot(around, direction), 10);
    });
  });
  const message = (await rejection(pathDirections(path, { k: 3 }))).message;
  expect(message).toMatch(/^pathDirections: k: expected at most 2/);
});

test("variances are the eigenvalues of the covariance of places", async () => {
  const places = Array.from({ length: 9 }, (_, t) => normals(40 + t, 5));
  const { whole } = await measured(places);
  const mean = new Float64Array(5);
  for (const place of places)
    place.forEach((x, i) => {
      mean[i]! += x / 9;
    });
  const covariance = Array.from({ length: 5 }, (_, i) =>
    Float64Array.from({ length: 5 }, (_, j) =>
      places.reduce((sum, p) => sum + ((p[i]! - mean[i]!) * (p[j]! - mean[j]!)) / 9, 0),
    ),
  );
  expect(errorOf(whole.pca.variances.slice(0, 5), eigenvalues(covariance))).toBeLessThan(1e-12);
  expect(Math.max(...whole.pca.variances.slice(5))).toBeLessThan(1e-14);
  expect(whole.pca.explained.reduce((a, b) => a + b)).toBeCloseTo(1, 12);
});

test("what is relative does not see a constant, nor step numbers; scale only scales", async () => {
  const places = Array.from({ length: 6 }, (_, t) => normals(60 + t, 8));
  const { whole } = await measured(places);
  const shift = normals(7, 8, 100);
  const moved = (await measured(places.map((p) => p.map((x, i) => x + shift[i]!)))).whole;
  for (const name of ["displacements", "stepLengths", "turns", "apexAtStart"] as const)
    expect(errorOf(moved[name], whole[name])).toBeLessThan(1e-12);
  expect(errorOf(moved.relativeMap.cosines, whole.relativeMap.cosines)).toBeLessThan(1e-11);
  expect(errorOf(moved.pca.variances, whole.pca.variances)).toBeLessThan(1e-11);
  expect(moved.radius).toBeCloseTo(whole.radius, 11);
  const late = (await measured(places, { steps: [0, 1, 10, 100, 1000, 1001] })).whole;
  expect(late).toEqual(whole);
  for (const c of [1e-12, 1e12]) {
    const scaled = (await measured(places.map((p) => p.map((x) => c * x)))).whole;
    expect(scaled.rawMap.omega).toBeCloseTo(whole.rawMap.omega, 12);
    expect(
      errorOf(
        scaled.stepLengths,
        whole.stepLengths.map((x) => c * x),
      ),
    ).toBeLessThan(1e-13);
    expect(errorOf(scaled.pca.explained, whole.pca.explained)).toBeLessThan(1e-12);
    expect(scaled.randomWalk.omega).toBeCloseTo(whole.randomWalk.omega, 12);
  }
});

test("layers and tensors: squares add up to the whole", async () => {
  const widths = [4, 5, 3];
  const places = Array.from({ length: 4 }, (_, t) => randomTheta(80 + t, widths));
  const model = await netModel({ widths, theta: places[0]! });
  const path = await trajectory(model, places);
  const { whole, parts } = await pathGeometry(path, { by: "tensor" });
  expect(parts.map(({ name }) => name)).toEqual(["w0", "b0", "w1", "b1"]);
  for (let t = 0; t < 4; t++)
    expect(parts.reduce((sum, part) => sum + part.displacements[t]! ** 2, 0)).toBeCloseTo(
      whole.displacements[t]! ** 2,
      12,
    );
  expect(parts.reduce((sum, { pca }) => sum + pca.total, 0)).toBeCloseTo(whole.pca.total, 12);
  const only = await netModel({ widths: [4, 5], theta: places[0]!.slice(0, 25) });
  const alone = await pathGeometry(
    await trajectory(
      only,
      places.map((place) => place.slice(0, 25)),
    ),
  );
  expect(parts[0]!.size + parts[1]!.size).toBe(25);
  expect(alone.whole.displacement ** 2).toBeCloseTo(
    parts[0]!.displacement ** 2 + parts[1]!.displacement ** 2,
    12,
  );
  expect((await pathGeometry(path, { by: "none" })).parts).toEqual([]);
});

test("a random walk in many dimensions looks as the closed form says", async () => {
  const d = 20_000;
  const places = [new Float64Array(d)];
  for (let t = 1; t < 12; t++) {
    const step = normals(100 + t, d);
    places.push(places[t - 1]!.map((x, i) => x + step[i]!));
  }
  const { whole } = await measured(places);
  expect(whole.relativeMap.omega).toBeCloseTo(whole.randomWalk.omega, 1);
  expect(errorOf(whole.pca.explained, whole.randomWalk.explained)).toBeLessThan(0.02);
  expect(whole.straightness).toBeCloseTo(whole.randomWalk.straightness, 1);
  // Steps of one length: eigenvalues 1 / (2 - 2 cos(pi k / T)) of a path graph's inverse.
  const even = (await measured(Array.from({ length: 12 }, (_, t) => [t, 0]))).whole.randomWalk;
  const closed = Array.from(
    { length: 11 },
    (_, k) => 1 / (2 - 2 * Math.cos((Math.PI * (k + 1)) / 12)),
  );
  const total = closed.reduce((a, b) => a + b);
  expect(
    errorOf(
      even.explained,
      closed.slice(0, even.explained.length).map((x) => x / total),
    ),
  ).toBeLessThan(1e-12);
});

describe("checkpoints in files", () => {
  let folder: string;
  let model: Model;
  const widths = [6, 4, 2];
  const places = Array.from({ length: 9 }, (_, t) => randomTheta(120 + t, widths));
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "eigenscope-trajectory-"));
    model = await netModel({ widths, theta: places[0]! });
    for (const [t, place] of places.entries())
      await saveCheckpoint(join(folder, `step-${t * 50}.safetensors`), model, place);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("a folder is listed by step", async () => {
    const path = await trajectory(model, folder);
    expect(Array.from(path.steps)).toEqual([0, 50, 100, 150, 200, 250, 300, 350, 400]);
    expect(Array.from(await path.parameters(3))).toEqual(Array.from(places[3]!));
    const some = path.choose([1, 4]);
    expect(Array.from(some.steps)).toEqual([50, 200]);
    expect(Array.from(await some.parameters(1))).toEqual(Array.from(places[4]!));
  });

  test("what does not fit into memory gives the same bits", async () => {
    const all = await pathGeometry(await trajectory(model, folder));
    const bytes = 8 * thetaSize(widths);
    for (const vectors of [9, 10, 12, 15]) {
      const path = await trajectory(model, folder, { maxMemory: vectors * bytes });
      expect(path.fits).toBe(false);
      expect(await pathGeometry(path)).toEqual(all);
    }
    const message = (await rejection(trajectory(model, folder, { maxMemory: 8 * bytes }))).message;
    expect(message).toMatch(/^trajectory: maxMemory: expected at least \d+ bytes, 9 vectors/);
  });

  test("progress comes to 1, and an abort ends it", async () => {
    const path = await trajectory(model, folder, { maxMemory: 10 * 8 * thetaSize(widths) });
    const fractions: number[] = [];
    await pathGeometry(path, { onProgress: ({ fraction }) => fractions.push(fraction!) });
    expect(fractions.at(-1)).toBe(1);
    expect(fractions.every((x, i) => i === 0 || x > fractions[i - 1]!)).toBe(true);
    const stop = new AbortController();
    const stopped = pathGeometry(path, { signal: stop.signal, onProgress: () => stop.abort() });
    expect((await rejection(stopped)).name).toBe("AbortError");
  });

  test("what is wrong is named", async () => {
    const fails = async (promise: Promise<unknown>) => (await rejection(promise)).message;
    expect(await fails(trajectory(model, [places[0]!]))).toBe(
      "trajectory: expected at least two checkpoints, got 1",
    );
    expect(await fails(trajectory(model, folder, { steps: [1, 2] }))).toBe(
      "trajectory: steps: expected 9 numbers, one a checkpoint, got 2",
    );
    expect(await fails(trajectory(model, folder, { steps: [2, 1] }))).toMatch(
      /^trajectory: steps: expected ascending numbers/,
    );
    expect(await fails(pathGeometry({} as never))).toMatch(/^pathGeometry: expected a trajectory/);
    const path = await trajectory(model, [places[0]!, places[1]!.slice(1)]);
    expect(await fails(pathGeometry(path))).toMatch(/^loadCheckpoint: expected .* 38 parameters/);
  });
});
