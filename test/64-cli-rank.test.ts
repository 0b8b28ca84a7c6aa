// eigenscope rank --parts, --along, --models and --redundancy: documents, artefacts, what people read.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel, mlp } from "../lib";
import { saveCheckpoint } from "../lib/checkpoints";
import { cli, json, readNpy, writeVectors } from "./60-run";
import { glorot } from "./support/linear";
import { normals } from "./support/numbers";

let folder: string;
let linear: string[];
const widths = [5, 4, 3];
const parameters = glorot(3, widths, false);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-rank-"));
  writeFileSync(join(folder, "linear.onnx"), mlp({ widths, bias: false, parameters }));
  writeFileSync(join(folder, "wide.onnx"), mlp({ widths: [5, 8, 3], bias: false, seed: 1 }));
  writeFileSync(
    join(folder, "deep.onnx"),
    mlp({ widths: [5, 4, 4, 3], activation: "tanh", seed: 2 }),
  );
  const x = writeVectors(join(folder, "x.npy"), normals(1, 500), [100, 5], "<f8");
  const y = writeVectors(join(folder, "y.npy"), normals(2, 300), [100, 3], "<f8");
  linear = [join(folder, "linear.onnx"), "--inputs", x, "--targets", y, "--loss", "mse"];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("--parts: measured beside predicted ranks", () => {
  const out = join(folder, "parts");
  const document = json("rank", ...linear, "--parts", "--out", out);
  expect(document).toMatchObject({
    parameters: 32,
    hessian: { rank: 30, predicted: 30, certain: true },
    ggn: { rank: 15, predicted: 15 },
    functional: { rank: 24, predicted: 24 },
    prediction: { form: "linear", widths, data: { rank: 5 }, residual: { rank: 3, generic: 3 } },
  });
  expect(document.hessian.redundancy).toBeCloseTo(1 / 16, 14);
  expect(document.hessian).not.toHaveProperty("magnitudes");
  expect(readNpy(join(out, "magnitudes-ggn.npy")).shape).toEqual([32]);
  expect(JSON.parse(readFileSync(join(out, "result.json"), "utf8"))).toEqual(document);
  expect(readFileSync(join(out, "spectra.svg"), "utf8")).toContain("<svg");
  const { out: text } = cli("rank", ...linear, "--parts");
  expect(text).toMatch(/^H +30 +30 +closed form +0\.063 +yes/m);
  expect(text).toMatch(/^H_o \(ggn\) +15 +15 +closed form +0\.531 +yes +q \(r \+ K' - q\)$/m);
  expect(text).toContain("linear: 5-4-3, without biases");
  expect(text).toContain(
    "inputs of rank r = 5 of 5, 3 outputs with K' = 3, residuals of rank s = 3",
  );
});

test("--models: several networks on the same data, and why one has no prediction", () => {
  const others = ["wide", "deep"].flatMap((name) => ["--models", join(folder, `${name}.onnx`)]);
  const out = join(folder, "models");
  const { rows } = json("rank", ...linear, ...others, "--out", out);
  expect(rows.map((row: { hessian: object }) => row.hessian)).toMatchObject([
    { rank: 30, predicted: 30 },
    { rank: 54, predicted: 54 },
    { rank: 59 },
  ]);
  expect(rows[2].prediction.reason).toBe('Tanh at node "tanh1" makes it nonlinear');
  const csv = readFileSync(join(out, "ranks.csv"), "utf8").trim().split("\n");
  expect(csv[0]).toBe(
    "name,parameters,hessian,hessian-predicted,ggn,ggn-predicted,functional,functional-predicted",
  );
  expect(csv[2]).toMatch(/wide\.onnx",64,54,54,15,15,48,48$/);
  expect(csv[3]).toMatch(/deep\.onnx",59,59,,/);
  expect(readFileSync(join(out, "ranks.svg"), "utf8")).toContain("<svg");
  const { out: text } = cli("rank", ...linear, ...others);
  expect(text).toMatch(/deep\.onnx +59 +59 \(-\)/);
  expect(text).toContain('Not in closed form: Tanh at node "tanh1" makes it nonlinear.');
});

test("--along: checkpoints of a folder, in their order", async () => {
  const run = join(folder, "run");
  mkdirSync(run);
  const model = await loadModel(join(folder, "linear.onnx"), { loss: "mse" });
  await saveCheckpoint(join(run, "step-20.safetensors"), model, parameters);
  await saveCheckpoint(join(run, "step-3.safetensors"), model, new Float64Array(32));
  const { rows } = json("rank", ...linear, "--along", run);
  expect(
    rows.map((row: { name: string; ggn: { rank: number } }) => [row.name, row.ggn.rank]),
  ).toEqual([
    ["3", 0],
    ["20", 15],
  ]);
  expect(rows[0].prediction.conditions[0].holds).toBe(false);
});

test("--redundancy: what the kernel is made of", () => {
  const out = join(folder, "kernel");
  const document = json("rank", ...linear, "--redundancy", "--out", out);
  expect(document).toMatchObject({ operator: "ggn", kernel: 17, rank: { rank: 15 } });
  expect(document).toMatchObject({ explained: 17, unexplained: 0 });
  expect(document.sources[0]).toMatchObject({ name: "linear-gauge", dimension: 16, adds: 16 });
  const signals = document.sources.find(({ kind }: { kind: string }) => kind === "signals");
  expect(signals).toMatchObject({ name: "outputs of fc1.weight", dimension: 5, contained: 5 });
  expect(readFileSync(join(out, "redundancy.svg"), "utf8")).toContain("<svg");
  const { out: text } = cli("rank", ...linear, "--redundancy");
  expect(text).toMatch(/^kernel +17, a share of 0\.531$/m);
  expect(text).toMatch(/^outputs of fc1\.weight +5 +5 /m);
  const whole = json("rank", ...linear, "--redundancy", "--operator", "hessian");
  expect(whole).toMatchObject({ operator: "hessian", kernel: 2 });
});

test.each([
  [["--parts", "--redundancy"], "--parts: expected it without --redundancy, got both"],
  [["--parts", "--count"], "--parts: expected it without --count, got both"],
  [
    ["--parts", "--operator", "ggn"],
    "--parts: expected no --operator, as H, H_o and H_f are measured",
  ],
  [
    ["--redundancy", "--operator", "functional"],
    "--redundancy: expected --operator ggn (default) or hessian, got functional",
  ],
  [["--redundancy", "--relative-to", "2"], "--relative-to: expected it without --redundancy"],
  [["--no-generic"], "--no-generic: expected it with --parts, --along or --models only"],
  [["--along", "nowhere"], "--along: expected a folder or a checkpoint, got nowhere"],
])("rank %j is refused", (args, message) => {
  const { status, err } = cli("rank", ...linear, ...args);
  expect(err).toContain(message);
  expect(status).toBe(2);
});

test("the example over width, depth, bias, activation and loss: all as predicted", () => {
  const script = join(__dirname, "..", "examples", "node", "ranks.js");
  const { stdout, stderr } = spawnSync(process.execPath, [script], { encoding: "utf8" });
  expect(stderr).toBe("");
  const rows = [...stdout.matchAll(/ (\d+) \((\d+)\) +(\d+) \((\d+)\) +(\d+) \((\d+)\) /g)];
  expect(rows).toHaveLength(14);
  for (const [, whole, whole2, outer, outer2, rest, rest2] of rows)
    expect([whole2, outer2, rest2]).toEqual([whole, outer, rest]);
  // The published widths 4, 8 and 12, on data of the same rank.
  expect(stdout).toContain("inputs of rank 41 of 49");
  for (const ranks of ["216 (216)   184 (184)     88 (88)", "639 (639)   369 (369)   351 (351)"])
    expect(stdout).toContain(ranks);
});
