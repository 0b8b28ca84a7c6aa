// trajectory on the command line: parts, documents, files, going on, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  curvatureAlong,
  type DataSet,
  fisher,
  loadData,
  loadModel,
  type Model,
  parameterVector,
  pathGeometry,
  saveCheckpoint,
  train,
  trajectory,
} from "../lib";
import { caseFile } from "./50-helpers";
import { cli, json, readNpy } from "./60-run";
import { normals } from "./support/numbers";

const file = caseFile("cnn_small", "model.onnx");
const data = [
  "--inputs",
  caseFile("cnn_small", "x.npy"),
  "--targets",
  caseFile("cnn_small", "y.npy"),
];
const run = ["--precision", "float64", "--samples", "32"];

let folder: string;
let out: string;
let model: Model;
let samples: DataSet;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-trajectory-"));
  model = await loadModel(file, { loss: "cross-entropy" });
  const files = { x: caseFile("cnn_small", "x.npy"), y: caseFile("cnn_small", "y.npy") };
  samples = await loadData(files, { samples: 32 });
  await train(model, samples, {
    ...{ learningRate: 0.02, batchSize: 8, steps: 12, precision: "float64", threads: 1 },
    checkpoints: { folder: join(folder, "run"), every: 3 },
  });
  const noise = normals(1, model.parameterCount, 0.02);
  const other = parameterVector(model).map((x, i) => x + noise[i]!);
  await saveCheckpoint(join(folder, "far-0.npz"), model, model);
  await saveCheckpoint(join(folder, "far-7.npz"), model, other);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  out = mkdtempSync(join(folder, "out-"));
});

test("geometry and masks need no data, and say what the library says", async () => {
  const document = json("trajectory", file, join(folder, "run"), "--out", out);
  expect(document.steps).toEqual([0, 3, 6, 9, 12]);
  expect(Object.keys(document)).not.toContain("curvature");
  const path = await trajectory(model, join(folder, "run"));
  const { whole, parts } = await pathGeometry(path);
  expect(document.geometry.pathLength).toBe(whole.pathLength);
  expect(document.geometry.omega).toBe(whole.relativeMap.omega);
  expect(document.geometry.layers.map(({ name }: { name: string }) => name)).toEqual(
    parts.map(({ name }) => name),
  );
  const { shape, values } = readNpy(join(out, "path-components.npy"));
  expect(shape).toEqual([5, 4]);
  expect(Array.from(values)).toEqual(Array.from(whole.pca.coordinates));
  expect(readdirSync(out)).toEqual(
    expect.arrayContaining([
      "map.svg",
      "masks.csv",
      "masks.svg",
      "path.csv",
      "path.svg",
      "result.json",
    ]),
  );
  const rows = readFileSync(join(out, "path.csv"), "utf8").trim().split("\n");
  expect(rows).toHaveLength(6);
  expect(rows[0]).toBe('step,norm,displacement,"way to the next",turn,"component 1","component 2"');
  expect(document.masks.criteria.map(({ criterion }: { criterion: string }) => criterion)).toEqual([
    "magnitude",
    "movement",
  ]);
  expect(document.masks.criteria[1].iou[0]).toBeNull();
  expect(document.masks.criteria[1].iou[4]).toBe(1);
});

test("curvature goes on from what --out holds, with the rate of the run", async () => {
  const command = [
    ...["trajectory", file, join(folder, "run"), ...data, ...run, "--parts", "curvature"],
    ...["--operator", "fisher-type2", "--k", "3", "--noise", "4", "--out", out],
  ];
  const first = json(...command, "--spectra", "2").curvature;
  expect([first.computed, first.reused]).toEqual([2, 0]);
  const document = json(...command);
  const found = document.curvature;
  expect([found.computed, found.reused]).toEqual([3, 2]);
  expect(document.products).toBe(found.products);
  const path = await trajectory(model, join(folder, "run"));
  const wanted = await curvatureAlong(path, samples, {
    ...{ precision: "float64", k: 3, loss: "cross-entropy", learningRate: 0.02 },
    operator: (at) => fisher(at, samples, { type: "type-2", precision: "float64" }),
  });
  wanted.points.forEach((point, t) => {
    const got = found.points[t];
    expect(got.threshold).toBeCloseTo(100, 12);
    expect(got.sharpness).toBeCloseTo(point.sharpness!, 8);
    point.values.forEach((value, i) => {
      expect(got.values[i]).toBeCloseTo(value, 8);
    });
    expect(got.gradientShares[2]).toBeCloseTo(point.gradientShares[2]!, 8);
  });
  expect(found.points[4].noise.cosine.value).toBeGreaterThan(0);
  expect(readNpy(join(out, "overlap-3.npy")).shape).toEqual([5, 5]);
  expect(readNpy(join(out, "confinement.npy")).shape).toEqual([5, 3]);
  for (const name of ["overlap", "shares", "confinement", "sharpness"])
    expect(readFileSync(join(out, `${name}.svg`), "utf8")).toContain("<svg");
  const { out: text, status } = cli(...command);
  expect(status).toBe(0);
  expect(text).toMatch(/5 were there, 0 are new/);
  expect(text).toMatch(/^ *step +loss +largest +sharpness +2 \/ rate +gradient +update/m);
  expect(
    text
      .split("\n")
      .slice(1, -2)
      .every((line) => line.length <= 110),
  ).toBe(true);
  const other = cli(...command, "--tol", "1e-3");
  expect(other.status).toBe(2);
  expect(other.err).toMatch(/holds results of other settings/);
});

test("charges of the graph's symmetries, with what steps make of them", () => {
  const command = ["trajectory", file, join(folder, "run"), ...run, "--parts", "charges"];
  const { charges } = json(...command, ...data, "--out", out).charges;
  const units = charges.find(({ name }: { name: string }) => name.startsWith("rescaling"));
  expect(units.drift).toHaveLength(5);
  expect(units.predictionError[4]).toBeLessThan(1);
  const sums = charges.find(({ name }: { name: string }) => name.startsWith("softmax-translation"));
  expect(Math.max(...sums.relativeDrift)).toBeLessThan(1e-12);
  expect(readdirSync(out)).toEqual(
    expect.arrayContaining(["charge-drift.csv", "charges.csv", "charges.svg"]),
  );
  const { out: text } = cli(...command);
  expect(text).toMatch(/^charge +number +norm +at the end +drift$/m);
});

test("predictions of several runs, with truth and ignorance", () => {
  const other = mkdtempSync(join(folder, "other-"));
  const files = ["far-0.npz", "far-7.npz"].map((name) => join(folder, name));
  const document = json(
    ...["trajectory", file, ...files, ...data, ...run, "--parts", "predictions"],
    ...["--run", `sgd=${join(folder, "run")}`, "--out", other],
  ).predictions;
  expect(document.runs.filter((run: string | null) => run === "sgd")).toHaveLength(5);
  expect(document.steps.slice(0, 2)).toEqual([0, 7]);
  expect(document.names.slice(-2)).toEqual(["ignorance", "truth"]);
  expect(readNpy(join(other, "prediction-distances.npy")).shape).toEqual([9, 9]);
});

test("for people", () => {
  const { out: text, status } = cli(
    ...["trajectory", file, join(folder, "run"), "--keep", "0.3", "--threshold", "0.2"],
  );
  expect(status).toBe(0);
  expect(text).toMatch(/^path of .*model.onnx: 5 checkpoints, steps 0 to 12, [\d,]+ parameters$/m);
  expect(text).toMatch(
    /^displacement [\d.e-]+ of a path of [\d.e-]+: straightness 0\.\d+ \(0\.\d+\)$/m,
  );
  expect(text).toMatch(/^movement stays at 0\.2 or above from step \d+ on$/m);
  expect(
    text
      .split("\n")
      .slice(1, -2)
      .every((line) => line.length <= 110),
  ).toBe(true);
});

test("not converged: exit code 4, with the results", () => {
  const {
    status,
    err,
    out: text,
  } = cli(
    ...["trajectory", file, join(folder, "run"), ...data, ...run, "--parts", "curvature"],
    ...["--k", "2", "--max-products", "5", "--spectra", "2"],
  );
  expect(status).toBe(4);
  expect(err).toMatch(/not converged: step 0: /);
  expect(text).toMatch(/^ *step +loss/m);
});

test("what is wrong is named", () => {
  const fails = (...args: string[]) => {
    const { status, err } = cli("trajectory", file, ...args);
    expect(status).toBe(2);
    return err;
  };
  const path = join(folder, "run");
  expect(fails(path, "--parts", "geometri")).toMatch(
    /--parts: expected some of geometry, .*"geometry" was probably meant/,
  );
  expect(fails(path, "--parts", "curvature")).toMatch(/--parts curvature: expected data as well/);
  expect(fails(join(folder, "far-0.npz"))).toMatch(/expected at least two checkpoints, got 1/);
  expect(fails(join(folder, "nowhere"), path)).toMatch(
    /expected a folder or a file .*nowhere: ENO/,
  );
  expect(fails(mkdtempSync(join(folder, "empty-")))).toMatch(/which has none/);
  expect(fails()).toMatch(/checkpoints/);
  expect(fails(path, "--steps", "1,2")).toMatch(/steps: expected 5 numbers/);
  expect(fails(path, "--criterion", "size")).toMatch(/--criterion: criterion: expected one of/);
  expect(fails(path, "--max-memory", "100")).toMatch(/maxMemory: expected at least/);
});
