// generalization and double-descent on the command line: documents, tables, files, errors.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  generalization,
  leaveOneOut,
  loadData,
  loadModel,
  pacBayes,
  parameterVector,
  saveCheckpoint,
  sharpness,
} from "../lib";
import { caseFile } from "./50-helpers";
import { cli, json, readNpy } from "./60-run";

const model = caseFile("cnn_small", "model.onnx");
const files = { x: caseFile("cnn_small", "x.npy"), y: caseFile("cnn_small", "y.npy") };
const data = ["--inputs", files.x, "--targets", files.y, "--samples", "12"];
const double = ["--precision", "float64"];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-gen-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("spectrum and sharpness, as the library says; shifted data beside", async () => {
  const shifted = ["--shifted", "noise:0.5", "--shifted", "rotate:30"];
  const document = json("generalization", model, ...data, ...double, ...shifted, "--out", folder);
  const opened = await loadModel(model, { loss: "cross-entropy" });
  const samples = await loadData(files, { samples: 12 });
  const found = await generalization(opened, samples, { precision: "float64" });
  const [train, noisy, turned] = document.spectrum.sets;
  expect([train.name, noisy.name, turned.name]).toEqual(["train", "noise:0.5", "rotate:30"]);
  expect(train.own.lambdaMinPlus).toBe(found.sets[0]!.own.lambdaMinPlus);
  expect(train.own.gradients[0].tic).toBe(found.sets[0]!.own.gradients[0]!.tic);
  expect(train.gap).toBe(0);
  expect(noisy.gap).toBe(noisy.loss - train.loss);
  const sharp = await sharpness(opened, samples, { precision: "float64", curvature: "ggn" });
  expect(document.sharpness.scaled.weights.trace).toEqual(sharp.scaled.weights.trace);
  expect(document.sharpness.fisherRao.value).toBe(sharp.fisherRao.value);
  const sets = readFileSync(join(folder, "sets.csv"), "utf8").split("\n");
  expect(sets[0]).toBe("quantity,train,noise:0.5,rotate:30");
  expect(sets[1]!.startsWith("loss,")).toBe(true);
  expect(existsSync(join(folder, "gap.svg"))).toBe(true);
  expect(JSON.parse(readFileSync(join(folder, "result.json"), "utf8"))).toEqual(document);
});

test("leave-one-out for people and as arrays", async () => {
  const parts = ["--parts", "leave-one-out", "--damping", "0.01", "--out", folder];
  const { status, out, err } = cli("generalization", model, ...data, ...parts);
  expect([status, err]).toEqual([0, ""]);
  expect(out).toMatch(/^Leave-one-out \(ggn, z = 0.01\): a Newton step/m);
  expect(out).toMatch(/^by Newton steps +\d/m);
  expect(out).toMatch(/^sample +leverage +loss +left out$/m);
  expect(out.split("\n").every((line) => line.length <= 120)).toBe(true);
  const found = await leaveOneOut(
    await loadModel(model, { loss: "cross-entropy" }),
    await loadData(files, { samples: 12 }),
    { damping: 0.01 },
  );
  expect(readNpy(join(folder, "leverage.npy")).values).toEqual(found.leverage);
  expect(readNpy(join(folder, "loo-losses.npy")).values).toEqual(found.newton.losses);
});

test("a PAC-Bayes bound from the place where training began", async () => {
  const opened = await loadModel(model, { loss: "cross-entropy" });
  const initial = parameterVector(opened).map((x, i) => 0.9 * x + 0.01 * Math.sin(i));
  const file = join(folder, "init.safetensors");
  await saveCheckpoint(file, opened, initial);
  const args = [
    "--parts",
    "pac-bayes",
    "--initial",
    file,
    "--networks",
    "20",
    "--shape",
    "isotropic",
  ];
  const document = json("generalization", model, ...data, ...args, "--out", folder);
  const samples = await loadData(files, { samples: 12 });
  const found = await pacBayes(opened, samples, {
    ...{ initial, draws: 20, shape: "isotropic" },
  });
  expect(document.pacBayes.bound).toBe(found.bound);
  expect(document.pacBayes.prior).toEqual(found.prior);
  expect(existsSync(join(folder, "pac-bayes.svg"))).toBe(true);
  const table = readFileSync(join(folder, "pac-bayes.csv"), "utf8").trim().split("\n");
  expect(table[0]).toBe("j,lambda,beta,kl,error,bound");
  expect(table).toHaveLength(1 + found.candidates.length);
  const { out } = cli("generalization", model, ...data, ...args);
  expect(out).toMatch(/^PAC-Bayes: the error of the randomised network is at most [\d.]+ %/m);
  expect(out).toContain("It supposes that the 12 samples are drawn independently");
});

test("double descent: a table with what is known, and a sweep that goes on", () => {
  const args = ["double-descent", "least-squares", "--parameters", "8", "--repeats", "20"];
  const { status, out } = cli(...args, "--sizes", "4,8,32", "--out", folder);
  expect(status).toBe(0);
  expect(out).toMatch(/^samples +parameters +p \/ n +train loss +test loss +lambda min\+/m);
  expect(out).toContain("threshold at 8.00 samples; tr H^+ / n peaks at 8, the test loss at 8");
  const again = json(...args, "--sizes", "4,8,32,64", "--out", folder);
  expect([again.evaluated, again.reused]).toEqual([20, 60]);
  expect(readFileSync(join(folder, "points.csv"), "utf8").trim().split("\n")).toHaveLength(5);
  for (const name of ["loss", "curvature"])
    expect(readFileSync(join(folder, `${name}.svg`), "utf8")).toContain("threshold");
  const other = cli(...args, "--sizes", "4", "--noise", "2", "--out", folder);
  expect(other.status).toBe(2);
  expect(other.err).toContain("holds points of another sweep");
});

test.each([
  [["--parts", "spectra"], /--parts: expected some of spectrum, sharpness.*got "spectra"/],
  [["--parts", "pac-bayes"], /--initial: expected the parameters that training began with/],
  [["--operator", "functional"], /--operator: expected one of hessian, ggn.*got functional/],
  [["--exact", "--estimate"], /--exact: expected it without --estimate/],
  [["--shifted", "nowhere.npz"], /nowhere\.npz/],
  [["--test-targets", "y.npy"], /--test-targets: expected --test-inputs as well/],
])("refused: %j", (args, message) => {
  const { status, out, err } = cli("generalization", model, ...data, ...args);
  expect([status, out]).toEqual([2, ""]);
  expect(err).toMatch(message);
});

test("double-descent refuses what it does not know", () => {
  const ridge = cli("double-descent", "ridge");
  expect([ridge.status, ridge.out]).toEqual([2, ""]);
  expect(ridge.err).toContain(
    'expected a problem, least-squares, random-features or networks, got "ridge"',
  );
  const none = cli("double-descent", "networks", ...data, "--sizes", "2");
  expect(none.err).toContain("expected test data: --test, or --test-inputs and --test-targets");
});
