/** eigenscope double-descent: models of growing size on both sides of the interpolation threshold. */
import { OptionError } from "../errors";
import type { Figure, Series } from "../figures/figure";
import {
  type DoubleDescent,
  type DoubleDescentOptions,
  doubleDescent,
  MEASURES,
  type SweepMeasure,
  type SweepPoint,
} from "../generalization/double-descent";
import { prepareFolder, writeArtefacts } from "./analysis";
import type { Globals, RunArguments } from "./arguments";
import { type Column, csvOf, printRows } from "./columns";
import { count, duration, ProgressLine, print, printJson } from "./output";
import { type HeldOutArguments, openTest } from "./recipe";
import { openData } from "./subject";

interface DoubleDescentArguments extends HeldOutArguments, RunArguments {
  sizes?: number[];
  repeats?: number;
  labelNoise?: number;
  pool?: number;
  parameters?: number;
  noise?: number;
  weightNorm?: number;
  epochs?: number;
  learningRate?: number;
  momentum?: number;
  batchSize?: number;
  out?: string;
}

export async function run(
  problem: string,
  args: DoubleDescentArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { out, seed, repeats } = args;
  await prepareFolder(out);
  const line = new ProgressLine(`double-descent, ${problem}`);
  const shared = { seed, repeats, resume: out, signal, onProgress: line.onProgress };
  try {
    const found = await doubleDescent(await optionsOf(problem, args, shared, signal));
    const { seconds: _, ...rest } = found;
    const document = { ...rest, seconds: (performance.now() - begin) / 1000 };
    if (out !== undefined)
      await writeArtefacts(
        out,
        document,
        {
          json: {},
          human: () => {},
          files: { "points.csv": csvOf(columnsOf(found, true), found.points) },
          figures: figuresOf(found),
        },
        signal,
      );
    line.end();
    if (json) printJson(document);
    else printHuman(found, document.seconds, out);
    return 0;
  } finally {
    line.end();
  }
}

type SharedOptions = Pick<
  DoubleDescentOptions,
  "seed" | "repeats" | "resume" | "signal" | "onProgress"
>;

async function optionsOf(
  problem: string,
  args: DoubleDescentArguments,
  shared: SharedOptions,
  signal: AbortSignal,
): Promise<DoubleDescentOptions> {
  if (problem === "least-squares") {
    const { parameters, noise, weightNorm, sizes } = args;
    return { problem, parameters, noise, weightNorm, sizes, ...shared };
  }
  if (problem !== "random-features" && problem !== "networks")
    throw new OptionError(
      `expected a problem, least-squares, random-features or networks, got "${problem}"`,
    );
  if (args.sizes === undefined)
    throw new OptionError("--sizes: expected numbers of hidden units, by commas, got none");
  const train = await openData(args, signal);
  const test = await openTest(args, signal);
  if (!test)
    throw new OptionError("expected test data: --test, or --test-inputs and --test-targets");
  const { sizes, labelNoise, pool } = args;
  const data = { ...{ train, test, sizes, labelNoise, pool, target: args.targetName }, ...shared };
  if (problem === "random-features") return { problem, ...data };
  const { epochs, learningRate, momentum, batchSize } = args;
  return { problem, ...data, epochs, learningRate, momentum, batchSize };
}

const NAMES: Record<SweepMeasure, string> = {
  trainLoss: "train loss",
  testLoss: "test loss",
  trainError: "train error",
  testError: "test error",
  lambdaMinPlus: "lambda min+",
  lambdaMax: "lambda max",
  traceInverseOverN: "tr H^+ / n",
  rank: "rank",
};

/** Shown to people; the rest is in the files. */
const SHOWN: readonly SweepMeasure[] = [
  "trainLoss",
  "testLoss",
  "trainError",
  "testError",
  "lambdaMinPlus",
  "traceInverseOverN",
];

function columnsOf(found: DoubleDescent, whole: boolean): Column<SweepPoint>[] {
  const has = (name: SweepMeasure) => found.points.some(({ measures }) => measures[name]);
  const digits = (value: number | undefined) => value?.toPrecision(4) ?? "";
  const theory = found.points.some((point) => point.theory);
  const measured = (whole ? MEASURES : SHOWN).filter(has);
  return [
    [found.sizeName, ({ size }) => size, count],
    ["parameters", ({ parameters }) => parameters, count],
    [found.problem === "networks" ? "P / nK" : "p / n", ({ ratio }) => ratio, digits],
    ...measured.flatMap((name): Column<SweepPoint>[] => [
      [NAMES[name], ({ measures }) => measures[name]?.median, digits],
      ...(whole
        ? ([
            [`${NAMES[name]} mean`, ({ measures }) => measures[name]?.mean, digits],
            [`${NAMES[name]} se`, ({ measures }) => measures[name]?.standardError, digits],
          ] as Column<SweepPoint>[])
        : []),
    ]),
    ...(theory
      ? ([
          ["edge", (point) => point.theory?.edge, digits],
          ["exact mean loss", (point) => point.theory?.testLoss, digits],
          ["exact tr / n", (point) => point.theory?.traceInverseOverN, digits],
        ] as Column<SweepPoint>[])
      : []),
  ];
}

function figuresOf(found: DoubleDescent): Record<string, Figure> {
  const { points, threshold, sizeName, problem } = found;
  const x = { label: sizeName, scale: "log" } as const;
  const caption = `${problem}, median of ${points[0]!.repeats} runs; dashed: the threshold`;
  const curve = (name: SweepMeasure): Series[] => {
    const own = points.filter(({ measures }) => (measures[name]?.median ?? 0) > 0);
    return own.length === 0
      ? []
      : [
          {
            kind: "line",
            name: NAMES[name],
            x: own.map(({ size }) => size),
            y: own.map(({ measures }) => measures[name]!.median),
          },
        ];
  };
  const marked = (series: Series[]): Series[] => {
    const all = series.flatMap(({ y }) => Array.from(y as ArrayLike<number>));
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return [
      ...series,
      { kind: "line", name: "threshold", dashed: true, x: [threshold, threshold], y: [low, high] },
    ];
  };
  // Interpolation leaves a training loss of rounding, which would flatten the rest.
  const losses = points.some(({ measures }) => (measures.trainLoss?.median ?? 0) < 1e-9)
    ? curve("testLoss")
    : [...curve("trainLoss"), ...curve("testLoss")];
  const errors = [...curve("trainError"), ...curve("testError")];
  return {
    loss: { title: "Loss", caption, x, y: { label: "loss", scale: "log" }, marks: marked(losses) },
    ...(errors.length > 0 && {
      error: { title: "Error", caption, x, y: { label: "share wrong" }, marks: marked(errors) },
    }),
    curvature: {
      title: "Smallest eigenvalue and tr(H^+)/n",
      caption,
      x,
      y: { label: "", scale: "log" },
      marks: marked([...curve("lambdaMinPlus"), ...curve("traceInverseOverN")]),
    },
  };
}

function printHuman(found: DoubleDescent, seconds: number, out: string | undefined): void {
  const { settings, points, threshold, peaks, sizeName, evaluated, reused } = found;
  print(`double descent, ${found.problem}, median of ${points[0]!.repeats} runs`);
  const { problem: _, data: _digest, train, test, ...rest } = settings;
  for (const [name, value] of Object.entries({ train, test }))
    if (value !== undefined) print(`${name}: ${value}`);
  const others = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  print(`${others.join(", ")}\n`);
  printRows(columnsOf(found, false), points);
  print(
    `\nthreshold at ${threshold.toPrecision(3)} ${sizeName}; tr H^+ / n peaks at ` +
      `${peaks.traceInverseOverN}, the test loss at ${peaks.testLoss}`,
  );
  const there =
    reused === 0 ? "" : `; ${count(reused)} runs were there, ${count(evaluated)} are new`;
  print(`${duration(seconds)}${there}${out === undefined ? "" : `; written to ${out}`}`);
}
