/** eigenscope train: a network trained from the command line, with its path kept for analysis. */
import { join } from "node:path";
import { loadCheckpoint, saveCheckpoint } from "../checkpoints";
import { OptionError } from "../errors";
import type { Figure } from "../figures/figure";
import type { Checkpoint } from "../landscape/directions";
import { loadMask } from "../masks/files";
import type { Model } from "../model/model";
import { type InitialOptions, initialParameters, initialRules } from "../training/initial";
import { type Training, type TrainingPoint, type TrainOptions, train } from "../training/train";
import { type Findings, prepareFolder, writeArtefacts } from "./analysis";
import type { Globals, SubjectArguments } from "./arguments";
import { type Columns, csvOf, printRows } from "./columns";
import { evaluationText } from "./masks";
import { count, duration, ProgressLine, print, printJson, short, warn } from "./output";
import { openTest, type RecipeArguments, recipeOptions } from "./recipe";
import { openData, openModel } from "./subject";

interface TrainArguments extends SubjectArguments, RecipeArguments, Pick<InitialOptions, "scheme"> {
  initial?: string;
  firstStep?: number;
  mask?: string;
  held?: string;
  checkpoints?: string;
  every?: number;
  evaluateEvery?: number;
  resume?: boolean;
  out?: string;
}

const percent = (x: number) => `${(100 * x).toFixed(2)} %`;

const COLUMNS: Columns<TrainingPoint> = [
  ["step", ({ step }) => step, count],
  ["epoch", ({ epoch }) => epoch, (x: number) => `${Number(x.toFixed(2))}`],
  [
    "rate",
    ({ learningRate }) => learningRate ?? undefined,
    optional((x) => `${Number(x.toPrecision(4))}`),
  ],
  ["loss", ({ loss }) => loss ?? undefined, optional(short)],
  ["test loss", ({ test }) => test?.loss, optional(short)],
  ["accuracy", ({ test }) => test?.accuracy, optional(percent)],
];

function optional(show: (x: number) => string) {
  return (x: number | undefined) => (x === undefined ? "" : show(x));
}

export async function run(
  file: string,
  args: TrainArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { precision, threads, maxMemory } = args;
  const { out, seed = 0n, checkpoints: folder, every, resume, firstStep } = args;
  if (every !== undefined && folder === undefined)
    throw new OptionError("--every: expected --checkpoints FOLDER as well");
  if (resume && folder === undefined)
    throw new OptionError("--resume: expected --checkpoints FOLDER as well");
  await prepareFolder(out);
  using model = await openModel(file, args);
  const data = await openData(args, signal);
  const test = await openTest(args, signal);
  const line = new ProgressLine("train");
  try {
    const initial = await initialOf(model, args, signal);
    const found = await train(model, data, {
      ...recipeOptions(args),
      ...{ precision, threads, maxMemory },
      ...{ seed, initial, firstStep, test, target: args.targetName, signal, resume },
      mask:
        args.mask === undefined
          ? undefined
          : await loadMask(args.mask, model.parameters, { signal }),
      held: await heldOf(model, args, signal),
      checkpoints: folder === undefined ? undefined : { folder, every },
      every: args.evaluateEvery,
      onProgress: ({ step, steps, loss, seconds, secondsLeft }) =>
        line.show([
          `train: step ${count(step)} of ${count(steps)}`,
          ...(loss === undefined ? [] : [`loss ${short(loss)}`]),
          duration(seconds),
          ...(secondsLeft === undefined ? [] : [`about ${duration(secondsLeft)} left`]),
        ]),
    });
    line.end();
    const { history, steps, stepsPerEpoch, checkpoints, resumedFrom } = found;
    const rules =
      args.initial === "random"
        ? initialRules(model, args.scheme ? { scheme: args.scheme } : {})
        : undefined;
    const written = out === undefined ? undefined : await writeTrained(out, model, found);
    const document = {
      ...{ steps, stepsPerEpoch, resumedFrom, history },
      ...(rules && { initial: rules }),
      ...(args.mask !== undefined && { mask: args.mask }),
      checkpoints: checkpoints.map(({ file }) => file),
      ...(written && { files: written }),
      parameterCount: model.parameterCount,
      samples: data.samples,
      ...(test && { testSamples: test.samples }),
      seconds: (performance.now() - begin) / 1000,
      warnings: [...model.warnings, ...found.warnings],
    };
    const findings: Findings = {
      json: document,
      human: () => {},
      arrays: { losses: { values: found.losses }, rates: { values: found.learningRates } },
      files: { "history.csv": csvOf(COLUMNS, history) },
      figures: figures(found, file),
    };
    if (out !== undefined) await writeArtefacts(out, document, findings, signal);
    if (json) printJson(document);
    else {
      const batch = args.batchSize ?? 64;
      print(
        `training of ${file}: ${count(model.parameterCount)} parameters, ${count(data.samples)} ` +
          `samples, ${count(steps)} steps of ${batch}` +
          `${resumedFrom === undefined ? "" : `, from step ${count(resumedFrom)}`}\n`,
      );
      const shown = COLUMNS.filter(([, value]) =>
        history.some((point) => value(point) !== undefined),
      );
      printRows(shown, history);
      const last = history.at(-1)?.test;
      if (last) print(`\nheld out, ${count(test!.samples)} samples: ${evaluationText(last)}`);
      if (checkpoints.length > 0) print(`\n${count(checkpoints.length)} checkpoints in ${folder}`);
      print(`\n${duration(document.seconds)}${out === undefined ? "" : `; written to ${out}`}`);
      warn(document.warnings);
    }
    return 0;
  } finally {
    line.end();
  }
}

/** Where training begins: the model's parameters, a file's, or new ones. */
async function initialOf(
  model: Model,
  { initial, seed = 0n, scheme }: TrainArguments,
  signal: AbortSignal,
): Promise<Checkpoint | undefined> {
  if (scheme !== undefined && initial !== "random")
    throw new OptionError("--scheme belongs to --initial random");
  if (initial === "random") return initialParameters(model, { seed, scheme });
  return initial === undefined ? undefined : loadCheckpoint(model, initial, { signal });
}

async function heldOf(
  model: Model,
  { held, mask }: TrainArguments,
  signal: AbortSignal,
): Promise<TrainOptions["held"]> {
  if (held !== undefined && mask === undefined)
    throw new OptionError("--held: expected --mask FILE as well");
  if (held === undefined || held === "zero" || held === "initial") return held;
  return loadCheckpoint(model, held, { signal });
}

async function writeTrained(out: string, model: Model, { parameters, steps }: Training) {
  const files = [join(out, "trained.safetensors"), join(out, "trained.onnx")];
  for (const file of files) await saveCheckpoint(file, model, parameters, { step: steps });
  return files;
}

function figures({ history }: Training, file: string): Record<string, Figure> {
  const line = (name: string, of: (point: TrainingPoint) => number | null | undefined) => {
    const points = history.filter((point) => Number.isFinite(of(point)));
    const [x, y] = [points.map(({ step }) => step), points.map((point) => of(point)!)];
    return points.length > 0 ? [{ kind: "line" as const, name, x, y }] : [];
  };
  const accuracy = line("held out", ({ test }) =>
    test?.accuracy === undefined ? null : 100 * test.accuracy,
  );
  return {
    loss: {
      title: "Loss over training",
      caption: file,
      x: { label: "step" },
      y: {
        label: "loss",
        scale: history.every(({ loss, test }) => (loss ?? 1) > 0 && (test?.loss ?? 1) > 0)
          ? "log"
          : "linear",
      },
      marks: [
        ...line("training", ({ loss }) => loss),
        ...line("held out", ({ test }) => test?.loss),
      ],
    },
    ...(accuracy.length > 0 && {
      accuracy: {
        title: "Accuracy over training",
        caption: file,
        x: { label: "step" },
        y: { label: "accuracy (%)" },
        marks: accuracy,
      },
    }),
  };
}
