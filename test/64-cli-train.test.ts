// train on the command line: the same numbers as the API, files that are read again, resume, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  initialParameters,
  loadCheckpoint,
  loadModel,
  mask,
  parameterVector,
  saveMask,
  train,
} from "../lib";
import { caseFile, openCase } from "./50-helpers";
import { cli, json, readNpy, subject } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-train-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

const problem = subject("mlp_relu");
const heldOut = [
  ...["--test-inputs", caseFile("mlp_relu", "x.npy")],
  ...["--test-targets", caseFile("mlp_relu", "y.npy"), "--test-samples", "100"],
];
const recipe = ["--learning-rate", "0.05", "--momentum", "0.9", "--batch-size", "48"];

test("from new weights: document, trained files, checkpoints and figures are the run of the API", async () => {
  const document = json(
    ...["train", ...problem, ...heldOut, ...recipe, "--initial", "random", "--seed", "7"],
    ...["--schedule", "cosine", "--epochs", "2", "--every", "5"],
    ...["--checkpoints", at("run"), "--out", at("out")],
  );
  const { model, data } = await openCase("mlp_relu");
  const found = await train(model, data, {
    ...{ learningRate: 0.05, momentum: 0.9, batchSize: 48, epochs: 2, seed: 7 },
    ...{ schedule: "cosine", initial: initialParameters(model, { seed: 7 }) },
  });
  expect([document.steps, document.stepsPerEpoch]).toEqual([12, 6]);
  expect(document.history.map(({ step }: { step: number }) => step)).toEqual([0, 6, 12]);
  expect(document.history[2].loss).toBe(found.history[2]!.loss);
  expect(document.history[2].test.accuracy).toBeGreaterThan(0);
  expect(document.initial[0]).toMatchObject({ role: "weight of Gemm", distribution: "uniform" });
  expect(document.checkpoints).toEqual(
    [0, 5, 10, 12].map((n) => join(at("run"), `step-${`${n}`.padStart(8, "0")}.safetensors`)),
  );
  for (const file of [...document.files, document.checkpoints[3]])
    expect(await loadCheckpoint(model, file)).toEqual(found.parameters);
  using trained = await loadModel(join(at("out"), "trained.onnx"));
  expect(parameterVector(trained)).toEqual(found.parameters);
  expect(readNpy(join(at("out"), "losses.npy")).values).toEqual(found.losses);
  expect(readNpy(join(at("out"), "rates.npy")).values).toEqual(found.learningRates);
  const lines = readFileSync(join(at("out"), "history.csv"), "utf8").split("\n");
  expect(lines[0]).toBe('step,epoch,rate,loss,"test loss",accuracy');
  expect(readdirSync(at("out"))).toEqual(
    expect.arrayContaining(["accuracy.svg", "loss.svg", "result.json"]),
  );
});

test("a mask, and a run that goes on", async () => {
  const { model, data } = await openCase("mlp_relu");
  const ticket = await mask(model, { criterion: "magnitude", keep: 0.2 });
  await saveMask(at("mask.npz"), ticket);
  const line = [
    "train",
    ...problem,
    ...recipe,
    "--mask",
    at("mask.npz"),
    "--checkpoints",
    at("run"),
  ];
  const first = json(...line, "--steps", "6", "--resume");
  expect(first.resumedFrom).toBeUndefined();
  const rest = json(...line, "--steps", "9", "--resume", "--threads", "1");
  expect(rest.resumedFrom).toBe(6);
  const whole = await train(model, data, {
    ...{ learningRate: 0.05, momentum: 0.9, batchSize: 48, steps: 9, mask: ticket },
  });
  const last = await loadCheckpoint(model, rest.checkpoints.at(-1));
  expect(last).toEqual(whole.parameters);
  ticket.bits.forEach((bit, i) => {
    if (!bit) expect(last[i]).toBe(0);
  });
});

test("for people", () => {
  const { status, out } = cli("train", ...problem, ...heldOut, ...recipe, "--epochs", "2");
  expect(status).toBe(0);
  expect(out).toMatch(/^training of .*: [\d,]+ parameters, 256 samples, 12 steps of 48$/m);
  expect(out).toMatch(/^step +epoch +rate +loss +test loss +accuracy$/m);
  expect(out).toMatch(/^ *12 +2 +0\.05 +[\d.e-]+ +[\d.e-]+ +[\d.]+ %$/m);
  expect(out).toMatch(/^held out, 100 samples: loss [\d.e-]+, accuracy [\d.]+ %$/m);
});

test("errors name the option", () => {
  const fails = (message: string, status: number, ...args: string[]) => {
    const found = cli("train", ...problem, ...args);
    expect(found.err).toContain(message);
    expect(found.status).toBe(status);
  };
  fails(
    "--schedule: expected constant, cosine, linear, step:EVERY,FACTOR",
    2,
    "--schedule",
    "sine",
  );
  fails("--every: expected --checkpoints FOLDER as well", 2, "--every", "5");
  fails("--held: expected --mask FILE as well", 2, "--held", "initial");
  fails("--scheme belongs to --initial random", 2, "--scheme", "xavier");
  fails("--test-targets: expected --test-inputs as well", 2, "--test-targets", "y.npy");
  fails("the training diverged", 4, "--learning-rate", "1e30", "--epochs", "9");
});
