// symmetry on the command line: what is found, identities, kernels, charges, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel, parameterVector, saveCheckpoint } from "../lib";
import { caseFile } from "./50-helpers";
import { cli, json, readNpy, subject } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-symmetry-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const model = caseFile("cnn_small", "model.onnx");

test("what the graph shows, without data", () => {
  const found = json("symmetry", model);
  expect(found).toMatchObject({ orbitDimension: 177, orbitDecomposed: true, parameterCount: 6090 });
  expect(found.groups.map(({ name, size }: never) => [name, size])).toEqual([
    ["conv1.weight", 16],
    ["conv2.weight", 32],
  ]);
  // log10(16! 32!)
  expect(found.log10Permutations).toBeCloseTo(48.7408, 3);
  const [rescaling, translation] = found.families;
  expect(rescaling).toMatchObject({ name: "rescaling", dimension: 48 });
  expect(rescaling.instances[0].tensors).toEqual([
    { name: "conv1.weight", degree: 1 },
    { name: "conv1.bias", degree: 1 },
    { name: "conv2.weight", degree: -1 },
  ]);
  expect(translation).toMatchObject({ name: "softmax-translation", dimension: 129 });
  expect(found.fixed).toContainEqual({ tensor: "fc.bias", axis: 0, why: "an axis of the output" });
  expect(found.passed).toBeUndefined();
});

test("mse sees a shift of the outputs", () => {
  const found = json("symmetry", model, "--loss", "mse");
  expect(found.families.map(({ name }: { name: string }) => name)).toEqual(["rescaling"]);
});

test("identities and the kernel, for people and for machines", () => {
  const args = [...subject("sequence_mse"), "--loss", "mse", "--verify", "--kernel"];
  const found = json("symmetry", ...args, "--out", folder);
  expect(found).toMatchObject({ passed: true, failures: [] });
  expect(found.kernel).toMatchObject({ operator: "ggn", directions: 9, dim: 184 });
  expect(found.kernel.residual).toBeLessThan(1e-13);
  const residuals = found.families.flatMap(({ instances }: never) => instances);
  for (const { approximate, residual } of residuals as { approximate?: string; residual: number }[])
    expect(residual).toBeLessThan(approximate ? 1e-3 : 1e-12);
  expect(readdirSync(folder).sort()).toEqual([
    "charges-normalisation-translation.npy",
    "charges-scale-invariance.npy",
    "eigenvalues-without.npy",
    "eigenvalues.npy",
    "result.json",
    "spectrum.svg",
    "spectrum.vl.json",
  ]);
  expect(JSON.parse(readFileSync(join(folder, "result.json"), "utf8"))).toEqual(found);
  expect(readNpy(join(folder, "eigenvalues-without.npy")).shape).toEqual([175]);

  const { status, out } = cli("symmetry", ...args);
  expect(status).toBe(0);
  expect(out).toMatch(/^scale-invariance +1 +1 +approximate +- +\d\.\de-\d$/m);
  expect(out).toMatch(/^All identities hold to 1e-9 \(\d+ products\)\.$/m);
  expect(out).toMatch(/^directions of exact symmetries +9$/m);
});

test("an identity that does not hold: exit code 1, and which", () => {
  const args = ["symmetry", ...subject("mlp_relu"), "--samples", "8", "--verify"];
  const { status, err } = cli(...args, "--tol", "1e-40");
  expect(status).toBe(1);
  expect(err).toMatch(/^failed: softmax-translation of net\.4\.weight\[: alike, :\]: /m);
});

test("drift of charges along checkpoints", async () => {
  const opened = await loadModel(model);
  const theta = parameterVector(opened);
  const { offset, size } = opened.parameters[0]!;
  for (const [step, factor] of [1, 2].entries()) {
    const moved = theta.map((x, i) => (i >= offset && i < offset + size ? factor * x : x));
    await saveCheckpoint(join(folder, `step-${step}.safetensors`), opened, moved);
  }
  const out = join(folder, "out");
  const found = json("symmetry", model, "--checkpoints", folder, "--out", out);
  expect(found.steps).toEqual([0, 1]);
  const [rescaling, translation] = found.drift;
  expect(rescaling).toMatchObject({ name: "rescaling", degree: 2, size: 48 });
  expect(translation).toMatchObject({ name: "softmax-translation", degree: 1, drift: [0, 0] });
  const { values, shape } = readNpy(join(out, "charges-rescaling.npy"));
  expect(shape).toEqual([2, 48]);
  // Only the incoming weights of the first channels have moved: |w|^2 has grown to four times.
  const w = theta.subarray(offset, offset + size / 16);
  const grown = 3 * w.reduce((sum, x) => sum + x * x, 0);
  expect(values[48]! - values[0]!).toBeCloseTo(grown, 10);
  expect(readdirSync(out)).toContain("drift.svg");
  const people = cli("symmetry", model, "--checkpoints", folder);
  expect(people.out).toMatch(/^softmax-translation +129 +0\.0e\+0 +0\.0e\+0 +0\.0e\+0$/m);
});

test("details: every instance, and what keeps its places", () => {
  const { status, out } = cli("symmetry", model, "--details");
  expect(status).toBe(0);
  expect(out).toMatch(
    /^rescaling +conv1\.weight +16 +conv1\.weight \^1, conv1\.bias \^1, conv2\.weight \^-1$/m,
  );
  expect(out).toMatch(/^fc\.bias +0 +an axis of the output$/m);
});

test.each([
  [["--verify"], "--verify: expected data as well"],
  [["--kernel"], "--kernel: expected data as well"],
  [["--tol", "1"], "--tol: expected --verify as well"],
  [["--precision", "float32"], "--precision: expected float64 for symmetries, got float32"],
])("%s alone: %s", (args, text) => {
  const { status, err } = cli("symmetry", model, ...args);
  expect(status).toBe(2);
  expect(err).toContain(text);
});
