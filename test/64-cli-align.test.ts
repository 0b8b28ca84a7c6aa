// align on the command line: documents, files, what people read, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  align,
  forward,
  loadData,
  loadModel,
  type Model,
  parameterVector,
  permutationGroups,
  permute,
  saveCheckpoint,
  writeModel,
} from "../lib";
import { Network } from "../lib/align/network";
import { caseFile, relative } from "./50-helpers";
import { cli, json, readNpy, subject } from "./60-run";

let folder: string;
let turned: string;
let tensors: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-align-"));
  turned = join(folder, "turned.onnx");
  tensors = join(folder, "turned.safetensors");
  const other = await disordered(file("resnet_bn"));
  await writeModel(turned, other, { parameters: other });
  using network = new Network("test", other);
  await saveCheckpoint(tensors, network.whole, network.state);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string) => caseFile(name, "model.onnx");
const few = ["--samples", "16"];
const data = [...subject("resnet_bn").slice(1), ...few];

/** A network with the units of each group in reversed order. */
async function disordered(path: string): Promise<Model> {
  const model = await loadModel(path, { loss: "cross-entropy" });
  return permutationGroups(model).reduce((last, group) => {
    const order = Array.from({ length: group.size }, (_, i) => group.size - 1 - i);
    return permute(model, last, group, order);
  }, model);
}

test("a network and its own permutation, with everything in the folder", async () => {
  const out = join(folder, "out");
  const args = [turned, ...data, "--precision", "float64", "--points", "5", "--k", "2", "--layers"];
  const document = json("align", file("resnet_bn"), ...args, "--out", out);
  expect(document).toMatchObject({ method: "weights", converged: true, second: turned });
  expect(document.similarity.after).toBeCloseTo(1, 6);
  for (const { size, order, moved, similarity } of document.groups) {
    expect(order).toEqual(Array.from({ length: size }, (_, i) => size - 1 - i));
    expect(moved).toBe(size - (size % 2));
    expect(similarity.after).toBeCloseTo(1, 6);
  }
  const [{ barriers, first, second, layers }] = document.barriers;
  expect(second.loss).toBeCloseTo(first.loss, 5);
  expect(barriers.naive.barrier).toBeGreaterThan(0.1);
  expect(barriers.aligned.barrier).toBeLessThan(1e-6);
  expect(layers.length).toBeGreaterThan(5);
  expect(document.spectra.overlap.after.overlap).toBeCloseTo(1, 4);
  expect(document.spectra.overlap.before.overlap).toBeLessThan(0.9);
  expect(readdirSync(out).sort()).toEqual([
    "aligned.onnx",
    "fused.onnx",
    "interpolation.csv",
    "interpolation.svg",
    "interpolation.vl.json",
    "permutations.json",
    "result.json",
  ]);
  expect(JSON.parse(readFileSync(join(out, "result.json"), "utf8"))).toEqual(document);
  const permutations = JSON.parse(readFileSync(join(out, "permutations.json"), "utf8"));
  expect(Object.keys(permutations)).toEqual(
    document.groups.map(({ name }: { name: string }) => name),
  );
  const lines = readFileSync(join(out, "interpolation.csv"), "utf8").trim().split("\n");
  expect(lines).toHaveLength(1 + 2 * 5);
  // The files hold the first network again, with its running statistics.
  using model = await loadModel(file("resnet_bn"));
  using aligned = await loadModel(join(out, "aligned.onnx"));
  expect(parameterVector(aligned)).toEqual(parameterVector(model));
  using set = await loadData({ x: caseFile("resnet_bn", "x.npy") });
  const [got, wanted] = [await forward(aligned, set), await forward(model, set)];
  expect(relative(got.values, wanted.values)).toBeLessThan(1e-6);
});

test("a checkpoint brings its running statistics, where it has them", async () => {
  const whole = json("align", file("resnet_bn"), tensors, ...data, "--k", "0", "--points", "3");
  expect(whole.warnings.join()).not.toContain("parameters only");
  expect(whole.barriers[0].aligned.loss).toBeCloseTo(whole.barriers[0].first.loss, 5);
  // PyTorch's state_dict without buffers.
  using model = await loadModel(turned);
  const bare = join(folder, "bare.safetensors");
  await saveCheckpoint(bare, model, model);
  const part = json("align", file("resnet_bn"), bare, ...data, "--k", "0", "--points", "3");
  expect(part.warnings.join()).toContain(
    "has parameters only: buffers, such as running statistics",
  );
  expect(part.barriers[0].second.loss).not.toBeCloseTo(whole.barriers[0].second.loss, 3);
});

test("without data the units are matched, and nothing more", () => {
  const document = json("align", file("mlp_relu"), file("mlp_tanh"), "--seed", "3");
  expect(document.barriers).toEqual([]);
  expect(document.spectra).toBeUndefined();
  expect(document.groups).toHaveLength(2);
  expect(document.similarity.after).toBeGreaterThan(document.similarity.before);
});

test("for people, on two data sets", () => {
  const own = [...subject("mlp_relu").slice(1), ...few];
  const { status, out } = cli(
    ...[
      "align",
      file("mlp_relu"),
      file("mlp_tanh"),
      ...own,
      "--points",
      "3",
      "--layers",
      "--k",
      "2",
    ],
    ...[
      "--test-inputs",
      caseFile("mlp_relu", "x.npy"),
      "--test-targets",
      caseFile("mlp_relu", "y.npy"),
    ],
  );
  expect(status).toBe(0);
  expect(out).toMatch(/^group +units +moved +similarity before +after$/m);
  expect(out).toMatch(/^net\.0\.weight +\d+ +\d+ +-?0\.\d{4} +0\.\d{4}$/m);
  expect(out).toMatch(/units; [\d.]+ % moved; \d+ rounds; cosine of all parameters/);
  expect(out).toMatch(/^on +network +loss +accuracy +barrier +half way: loss +accuracy$/m);
  expect(out).toMatch(/^test data +second, aligned +0\.\d+ +[\d.]+ % +[\d.]+ +[\d.]+ +[\d.]+ %$/m);
  expect(out).toContain("One layer moved alone, on data:");
  expect(out).toMatch(/^Overlap of the top 2 eigenvectors' spaces: 0\.\d+ before, 0\.\d+ after/m);
  // But for the first, which has the paths of files.
  for (const line of out.split("\n").slice(1)) expect(line.length).toBeLessThanOrEqual(100);
});

test("fusion: plans that are no permutations, and activations as costs", async () => {
  const own = [...subject("mlp_relu").slice(1), ...few];
  const out = join(folder, "fused");
  const args = [file("mlp_relu"), file("mlp_tanh"), ...own, "--method", "fusion", "--k", "0"];
  const soft = json("align", ...args, "--regularisation", "0.05", "--share", "0.25", "--out", out);
  expect(soft.churn).toBeUndefined();
  const { shape, values } = readNpy(join(out, "plan-1.npy"));
  expect(shape).toEqual([soft.groups[0].size, soft.groups[0].size]);
  expect(values.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 8);
  expect(readdirSync(out)).not.toContain("permutations.json");
  const exact = json("align", ...args, "--costs", "activations", "--points", "3");
  using first = await loadModel(file("mlp_relu"), { loss: "cross-entropy" });
  using second = await loadModel(file("mlp_tanh"));
  using set = await loadData({
    x: caseFile("mlp_relu", "x.npy"),
    y: caseFile("mlp_relu", "y.npy"),
  });
  using found = await align(first, second, {
    method: "fusion",
    costs: "activations",
    data: set,
    samples: 16,
  });
  expect(exact.groups[0].order).toEqual(Array.from(found.groups[0]!.order!));
});

describe("what does not fit", () => {
  const failing = (...args: string[]) => {
    const { status, err } = cli("align", ...args);
    expect(status).toBe(2);
    return err;
  };
  test("is refused by name", () => {
    expect(failing(file("mlp_relu"))).toContain("missing required argument 'other'");
    expect(failing(file("mlp_relu"), turned, turned)).toContain("expected two networks, got 3");
    expect(failing(file("mlp_relu"), file("cnn_small"))).toContain(
      "align: net.0.weight: expected the shape (128, 64), got conv1.weight of (16, 1, 3, 3)",
    );
    expect(failing(file("mlp_relu"), file("mlp_tanh"), "--method", "activations")).toContain(
      "expected data for activations",
    );
    expect(failing(file("mlp_relu"), file("mlp_tanh"), "--share", "2")).toContain(
      "align: share: expected a number from 0 to 1, got 2",
    );
  });
});
