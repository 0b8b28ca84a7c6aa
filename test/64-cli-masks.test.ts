// masks and prune on the command line: documents, files, what people read, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadMask, loadModel, loss, type Mask, mask, maskIoU, parameterVector } from "../lib";
import { caseFile, openCase } from "./50-helpers";
import { cli, json, writeVectors } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-masks-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const model = caseFile("mlp_relu", "model.onnx");
const initial = ["--initial", caseFile("mlp_tanh", "model.onnx")];
const data = [
  "--inputs",
  caseFile("mlp_relu", "x.npy"),
  "--targets",
  caseFile("mlp_relu", "y.npy"),
];

test("masks by several criteria, with files that are read again", async () => {
  const document = json(
    "masks",
    model,
    ...["--criterion", "magnitude,movement", ...initial, "--keep", "0.1", "--out", folder],
  );
  expect(document.masks.map((m: { criterion: string }) => m.criterion)).toEqual([
    "magnitude",
    "movement",
  ]);
  const { model: opened } = await openCase("mlp_relu");
  const { model: before } = await openCase("mlp_tanh");
  const wanted: Mask[] = [];
  for (const criterion of ["magnitude", "movement"] as const) {
    const made = await mask(opened, { criterion, initial: before, keep: 0.1 });
    const found = await loadMask(join(folder, `${criterion}.npz`), opened.parameters);
    expect(found.equals(made)).toBe(true);
    wanted.push(made);
  }
  const { iou, chance } = maskIoU(wanted[0]!, wanted[1]!);
  expect(document.overlaps[0]).toMatchObject({ masks: ["magnitude", "movement"], iou, chance });
  const layers = readFileSync(join(folder, "layers.csv"), "utf8").trim().split("\n");
  expect(layers[0]).toBe('tensor,size,"magnitude kept","movement kept"');
  expect(layers).toHaveLength(4);
  expect(readdirSync(folder).sort()).toEqual([
    "layers.csv",
    "magnitude.npz",
    "movement.npz",
    "overlaps.csv",
    "result.json",
  ]);
  expect(JSON.parse(readFileSync(join(folder, "result.json"), "utf8"))).toEqual(document);
});

test("for people", () => {
  const { status, out } = cli("masks", model, "--criterion", "magnitude,random", "--keep", "0.25");
  expect(status).toBe(0);
  expect(out).toMatch(/^tensor +size +magnitude +random$/m);
  expect(out).toMatch(/^net\.0\.weight +\d+ +25\.0 % +25\.0 %$/m);
  expect(out).not.toContain("bias");
  expect(out).toMatch(/^magnitude +random +0\.\d{4} +0\.142\d +-?[\d.]+$/m);
});

test("many masks: a row each, and the overlaps that stand out", () => {
  const many =
    "magnitude,small_final,large_init,small_init,magnitude_increase,movement,random,movement_diff_sign";
  const { out } = cli("masks", model, ...initial, "--criterion", many, "--keep", "0.1");
  expect(out).toMatch(/^mask +kept +share +least of a tensor +most of a tensor$/m);
  expect(out).toMatch(/^random +1704 +10\.0 % +10\.0 % +10\.0 %$/m);
  expect(out).toContain("and 8 nearer to chance: --json and --out have all of them");
  const [, ...lines] = out.split("\n");
  expect(lines.every((line) => line.length <= 100)).toBe(true);
});

test("of gradients and curvature, within another mask, as many as another keeps", async () => {
  const two = ["--structure", "2:4", "--criterion", "obd,taylor,snip", ...data, ...initial];
  const document = json("masks", model, ...two, "--out", folder, "--format", "safetensors");
  expect(document.samples).toBe(256);
  for (const { share } of document.masks) expect(share).toBeCloseTo(0.5, 3);
  const within = ["--within", join(folder, "obd.safetensors"), "--keep", "0.5"];
  const next = json("masks", model, ...within, "--out", join(folder, "next"));
  const { model: opened } = await openCase("mlp_relu");
  const outer = await loadMask(join(folder, "obd.safetensors"), opened.parameters);
  const inner = await loadMask(join(folder, "next", "magnitude.npz"), opened.parameters);
  expect(inner.isSubsetOf(outer)).toBe(true);
  const same = ["--counts", join(folder, "next", "magnitude.npz"), "--criterion", "random"];
  const like = json("masks", model, ...same);
  expect(like.masks[0].layers).toEqual(next.masks[0].layers);
});

test("curves beside random masks", () => {
  const curve = ["--curve", "0.5,0.1", "--random", "3", "--criterion", "magnitude"];
  const document = json("masks", model, ...data, ...curve, "--out", folder);
  expect(document.masks).toEqual([]);
  expect(document.curve).toHaveLength(2);
  const [half] = document.curve;
  expect(half.random.accuracy.values).toHaveLength(3);
  expect(half.loss).toBeGreaterThan(document.dense.loss * 0.5);
  expect(readFileSync(join(folder, "curve.svg"), "utf8")).toContain("share of weights kept");
  const rows = readFileSync(join(folder, "curve.csv"), "utf8").trim().split("\n");
  expect(rows[0]).toBe(
    'criterion,keep,kept,loss,"random loss","random loss sd",accuracy,"random accuracy","random accuracy sd",collapsed',
  );
  expect(Number(rows[1]!.split(",")[3])).toBe(half.loss);
  const { out } = cli("masks", model, ...data, ...curve);
  expect(out).toMatch(/^Dense: loss [\d.]+, accuracy [\d.]+ %$/m);
  expect(out).toMatch(/^criterion +keep +kept +loss +random +\+- +accuracy +random +\+-$/m);
});

test("prune: the masked network as a model, and its worth", async () => {
  json("masks", model, "--keep", "0.2", "--out", folder);
  const file = join(folder, "pruned.onnx");
  const given = ["--mask", join(folder, "magnitude.npz")];
  const document = json("prune", model, ...given, "--out", file, ...data, "--precision", "float64");
  const { model: opened, data: samples } = await openCase("mlp_relu");
  const kept = await mask(opened, { criterion: "magnitude", keep: 0.2 });
  expect(document).toMatchObject({ kept: kept.count, size: kept.size, file });
  const pruned = await loadModel(file, { loss: "cross-entropy" });
  expect(parameterVector(pruned)).toEqual(
    parameterVector(opened).map((x, i) => (kept.bits[i] ? x : 0)),
  );
  const wanted = await loss(pruned, samples, { precision: "float64" });
  expect(document.pruned.loss / wanted).toBeCloseTo(1, 12);
  expect(document.dense.accuracy).toBeGreaterThanOrEqual(0);

  const zeros = writeVectors(
    join(folder, "init.npy"),
    new Float64Array(opened.parameterCount),
    [opened.parameterCount],
    "<f8",
  );
  const frozen = ["--pruned", "initial", "--initial", zeros];
  const { out, status } = cli("prune", model, ...given, ...data, ...frozen);
  expect(status).toBe(0);
  expect(out).toMatch(/^dense: {2}loss [\d.]+, accuracy [\d.]+ %$/m);
  expect(out).toMatch(/^pruned: loss [\d.]+, accuracy [\d.]+ % \(256 samples\)$/m);
  expect(out).toMatch(/^net\.0\.bias +\d+ +\d+ +100\.0 %$/m);
});

test.each<[string[], string]>([
  [["masks", model], "--keep: expected a share over 0 and at most 1"],
  [["masks", model, "--keep", "2"], "keep: expected a share over 0 and at most 1, got 2"],
  [["masks", model, "--keep", "0.1", "--count", "3"], "expected one of keep, count"],
  [["masks", model, "--keep", "0.1", "--criterion", "movment"], '"movement" was probably meant'],
  [["masks", model, "--keep", "0.1", "--criterion", "movement"], "needs the option initial"],
  [["masks", model, "--keep", "0.1", "--criterion", "obd"], "needs the option data"],
  [["masks", model, "--curve", "0.5"], "--curve: expected data as well"],
  [["masks", model, "--keep", "0.1", "--structure", "rows"], 'expected "weights", "outputs"'],
  [["masks", model, "--keep", "0.1", "--within", "no.npz"], "no.npz"],
  [["prune", model, "--out", "x.onnx"], "--mask: expected a file of eigenscope masks"],
  [["prune", model, "--mask", "m.npz"], "expected --out FILE for the pruned model, or data"],
  [["prune", model, "--mask", "m.npz", "--out", "/nowhere/x.onnx"], "--out: expected a file in"],
])("%p is refused", (args, text) => {
  const { status, err } = cli(...args);
  expect(err).toContain(text);
  expect(status).toBe(2);
});
