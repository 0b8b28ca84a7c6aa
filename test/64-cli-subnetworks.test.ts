// eigenscope subnetworks on the command line: documents, files, what people read, errors.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  ggn,
  maskedCurvature,
  mask as maskOf,
  parameterVector,
  saveCheckpoint,
  saveMask,
  symmetryBreaking,
} from "../lib";
import { caseFile, openCase } from "./50-helpers";
import { cli, json, subject } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-subnetworks-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const small = [...subject("mlp_relu"), "--samples", "64", "--k", "3", "--random", "3"];
const initial = ["--initial", caseFile("mlp_tanh", "model.onnx")];
const lines = (file: string) => readFileSync(join(folder, file), "utf8").trim().split("\n");

test("all parts: one document, tables and figures", async () => {
  const document = json("subnetworks", ...small, ...initial, "--out", folder);
  expect(document.operator).toBe("ggn");
  expect(document.curvature).toMatchObject({ mask: "magnitude", interlacing: { holds: true } });
  expect(document.curvature.dense.values).toHaveLength(3);
  const [group] = document.breaking.groups;
  expect(group.measures.exchange.delta).toBeCloseTo(
    group.measures.exchange.value - group.measures.exchange.initial,
    14,
  );
  expect(group.measures.weightShift.reinitialised.draws).toBe(3);
  expect(group.measures.fisherImportance.value).toBeGreaterThan(0);
  expect(document.link.rows.length).toBeGreaterThan(1);
  expect(document.link.columns.map(({ name }: { name: string }) => name)).toContain(
    "kept movement",
  );
  expect(document.course).toBeUndefined();
  expect(readdirSync(folder).sort()).toEqual([
    "breaking.csv",
    ...["correlations.csv", "correlations.svg", "correlations.vl.json"],
    ...["layers.csv", "layers.svg", "layers.vl.json", "result.json"],
    ...["spectra.csv", "spectra.svg", "spectra.vl.json", "tensors.csv", "vectors.csv"],
  ]);
  expect(lines("breaking.csv")[0]).toBe(
    'layer,units,measure,value,"at init",change,"new init","new init sd","new init z",' +
      'permuted,"permuted sd","permuted z"',
  );
  expect(lines("spectra.csv")).toHaveLength(1 + 9);
  expect(lines("tensors.csv")[0]).toBe(
    'tensor,size,kept,"of parameters","of top vectors","of trace"',
  );
  expect(lines("layers.csv")).toHaveLength(1 + document.link.rows.length);
  expect(JSON.parse(readFileSync(join(folder, "result.json"), "utf8"))).toEqual(document);
});

test("curvature of a given mask: what the library says", async () => {
  const { model, data } = await openCase("mlp_relu");
  const mask = await maskOf(model, { criterion: "random", keep: 0.02, seed: 3 });
  await saveMask(join(folder, "ticket.npz"), mask);
  const document = json(
    ...["subnetworks", ...subject("mlp_relu"), "--parts", "curvature", "--precision", "float64"],
    ...["--mask", join(folder, "ticket.npz"), "--k", "2"],
  );
  const found = await maskedCurvature(model, data, mask, {
    operator: (at) => ggn(at, data, { precision: "float64" }),
    ...{ precision: "float64", k: 2 },
  });
  expect(document.curvature.mask).toBe("ticket");
  expect(document.curvature.dense.values).toEqual(Array.from(found.dense.values));
  expect(document.curvature.pruned.values).toEqual(Array.from(found.pruned.values));
  expect(document.curvature.overlap).toEqual(JSON.parse(JSON.stringify(found.overlap)));
  expect(document.link).toBeUndefined();
});

test("for people", () => {
  const { status, out, err } = cli("subnetworks", ...small, "--conditional");
  expect(err).toBe("");
  expect(status).toBe(0);
  expect(out).toMatch(/^Sub-network magnitude: [\d,]+ of 17,226 parameters \(1\d\.\d %\)$/m);
  expect(out).toMatch(/^sub-network, pruned +[\d,]+ +[\d.e-]+/m);
  expect(out).toMatch(/^Cauchy interlacing: 3 inequalities hold, 3 beyond all errors$/m);
  expect(out).toMatch(/^leading eigenvectors on it +[\d.]+ %, [\d.]+ times its share; random/m);
  expect(out).toMatch(/^others follow +[\d.e-]+ +[\d.e-]+ +[\d.e-]+$/m);
  expect(out).toMatch(/^net\.0\.weight: \d+ units of [\d,]+ numbers$/m);
  expect(out).toMatch(/^exchange +0\.\d+ +0\.\d+ +[\d.e-]+ +-?[\d.]+/m);
  expect(out).toContain("so none can be significant at 0.05; pool more networks");
  const [, ...rest] = out.split("\n");
  for (const line of rest) expect(line.length).toBeLessThanOrEqual(100);
});

test("several networks pooled, checkpoints among them", async () => {
  const { model } = await openCase("mlp_relu");
  const theta = parameterVector(model).map((x, i) => x * (1 + 0.3 * Math.sin(i)));
  await saveCheckpoint(join(folder, "other.safetensors"), model, theta);
  const others = [caseFile("mlp_tanh", "model.onnx"), join(folder, "other.safetensors")];
  const pooled = others.flatMap((file) => ["--models", file]);
  const document = json(
    ...["subnetworks", ...small, "--parts", "link", "--criterion", "magnitude,random", ...pooled],
    ...["--exchange", "networks", "--correction", "bh", "--permutations", "99"],
  );
  const { rows, correlations, correction } = document.link;
  const networks = [...new Set(rows.map((row: { network: string }) => row.network))];
  expect(document.link.networks.map(({ name }: { name: string }) => name)).toEqual(networks);
  expect(document.link.networks.map(({ file }: { file: string }) => file)).toEqual([
    caseFile("mlp_relu", "model.onnx"),
    ...others,
  ]);
  expect(networks[0]).toMatch(/mlp_relu\/model$/);
  expect(correction).toBe("bh");
  const sizes = correlations.find((row: { a: string }) => row.a === "weights");
  expect(sizes).toMatchObject({ n: rows.length, strata: 3 });
});

test("over checkpoints", async () => {
  const { model } = await openCase("mlp_relu");
  const run = join(folder, "run");
  mkdirSync(run);
  const theta = parameterVector(model);
  for (const step of [0, 10, 20])
    await saveCheckpoint(
      join(run, `step-${step}.safetensors`),
      model,
      theta.map((x, i) => (i % 7 === 0 ? x * (1 + step / 10) : x)),
    );
  const args = [...small, "--parts", "course", "--checkpoints", run, "--out", join(folder, "out")];
  const { course } = json("subnetworks", ...args);
  expect(course.steps).toEqual([0, 10, 20]);
  const { groups } = await symmetryBreaking(model, { draws: 0 });
  expect(course.groups.map(({ name }: { name: string }) => name)).toEqual(
    groups.map(({ name }) => name),
  );
  expect(course.groups[0].measures.exchange[0]).toBeCloseTo(groups[0]!.measures.exchange.value, 7);
  expect(readdirSync(join(folder, "out"))).toContain("course-exchange.svg");
  const { out } = cli("subnetworks", ...args);
  expect(out).toMatch(/^ *20 +0\.\d+/m);
});

test("errors", () => {
  const error = (...args: string[]) => {
    const { status, err } = cli("subnetworks", ...args);
    expect(status).toBe(2);
    return err;
  };
  expect(error(...small, "--parts", "curvatures")).toContain(
    '--parts: expected some of curvature, breaking, course, link, got "curvatures"; "curvature" was probably meant',
  );
  expect(error(...small, "--parts", "course")).toContain(
    "--parts course: expected --checkpoints, a folder of them",
  );
  expect(error(...small, "--criterion", "size")).toContain(
    "--criterion: criterion: expected one of",
  );
  expect(error(caseFile("mlp_relu", "model.onnx"))).toContain("expected data");
  const three = ["--models", "a.onnx", "--models", "b.onnx"];
  expect(error(...small, "--parts", "link", ...initial, ...three)).toContain(
    "--initial: expected a file for each of 3 networks, got 1",
  );
});
