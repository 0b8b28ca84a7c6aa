/** eigenscope align: the units of one network matched with another's, and the loss between them. */
import { extname, join } from "node:path";
import { type Alignment, type AlignOptions, align } from "../align/align";
import { type AlignmentBarriers, alignmentBarriers, type BarrierOptions } from "../align/barriers";
import { Network } from "../align/network";
import { type AlignedSpectra, alignedSpectra } from "../align/spectra";
import type { CallOptions } from "../call";
import { loadCheckpoint } from "../checkpoints";
import type { DataSet } from "../data/data";
import { DataMismatchError, OptionError } from "../errors";
import type { Figure, Series } from "../figures/figure";
import type { Model } from "../model/model";
import { type AnalysisArguments, type Findings, prepareFolder, writeArtefacts } from "./analysis";
import type { Globals } from "./arguments";
import { count, duration, ProgressLine, print, printJson, short, table, warn } from "./output";
import { hasData, makeOperator, openData, openModel, runOptions } from "./subject";

interface AlignArguments extends AnalysisArguments {
  files?: string[];
  method?: AlignOptions["method"];
  similarity?: AlignOptions["similarity"];
  costs?: AlignOptions["costs"];
  regularisation?: number;
  scaling?: AlignOptions["scaling"];
  share?: number;
  points?: number;
  layers?: boolean;
  statistics?: BarrierOptions["statistics"];
  k?: number;
  testData?: string;
  testInputs?: string[];
  testTargets?: string;
}

/** Barriers on one data set, by what it is called. */
type OnData = [name: string, found: AlignmentBarriers];

export async function run(
  file: string,
  args: AlignArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { out, files = [], method = "weights", k = 10 } = args;
  const [other, ...more] = files;
  if (other === undefined || more.length > 0)
    throw new OptionError(`expected two networks, got ${1 + files.length}`);
  await prepareFolder(out);
  const warnings: string[] = [];
  const line = new ProgressLine(`align by ${method}`);
  const call: CallOptions = { signal, onProgress: line.onProgress };
  try {
    using first = await openModel(file, args);
    using second = await openSecond(first, other, args, signal, warnings);
    using data = hasData(args) ? await openData(args, signal) : undefined;
    using test = await openTest(args, signal);
    const { threads, maxMemory, precision } = runOptions(args);
    using found = await align(first, second, {
      ...{ threads, maxMemory, precision, method, data, seed: args.seed },
      ...{ similarity: args.similarity, costs: args.costs, scaling: args.scaling },
      ...{ regularisation: args.regularisation, share: args.share },
      ...call,
    });
    const barriers: OnData[] = [];
    for (const [name, on] of [
      ["data", data],
      ["test data", test],
    ] as const) {
      if (!on) continue;
      const { points, layers, statistics } = args;
      const options = {
        ...runOptions(args),
        ...call,
        target: args.targetName,
        points,
        layers,
        statistics,
        statisticsData: data,
      };
      barriers.push([name, await alignmentBarriers(found, on, options)]);
    }
    const spectra = data && k > 0 ? await spectraOf(found, data, args, k, call) : undefined;
    if (out !== undefined)
      for (const which of ["aligned", "fused"] as const)
        await found.save(join(out, `${which}.onnx`), which);

    const notConverged = found.converged
      ? spectra && !spectra.converged
        ? spectra.reason
        : undefined
      : `${method}: ${method === "fusion" ? "Sinkhorn did not meet its marginals" : `not settled after ${found.rounds} rounds`}`;
    const findings = findingsOf(found, barriers, spectra, args);
    const seconds = (performance.now() - begin) / 1000;
    const document = {
      ...{ first: file, second: other, method },
      ...findings.json,
      ...(notConverged !== undefined && { reason: notConverged }),
      parameterCount: first.parameterCount,
      samples: data?.samples,
      seconds,
      warnings: [...first.warnings, ...warnings],
    };
    if (out !== undefined) await writeArtefacts(out, document, findings, signal);
    line.end();
    if (json) printJson(document);
    else {
      print(`${other} in the units of ${file}, by ${method}\n`);
      findings.human();
      print(`\n${duration(seconds)}${out === undefined ? "" : `; written to ${out}`}`);
      warn(document.warnings);
      if (notConverged !== undefined) process.stderr.write(`not converged: ${notConverged}\n`);
    }
    return notConverged === undefined ? 0 : 4;
  } finally {
    line.end();
  }
}

/** A model, or the first network with a checkpoint's numbers: with its buffers where it has them. */
async function openSecond(
  first: Model,
  file: string,
  args: AlignArguments,
  signal: AbortSignal,
  warnings: string[],
): Promise<Model> {
  if (extname(file) === ".onnx") return openModel(file, args);
  using network = new Network("align", first);
  const { whole } = network;
  if (whole.parameterCount > first.parameterCount)
    try {
      return network.modelAt(await loadCheckpoint(whole, file, { signal }));
    } catch (error) {
      if (!(error instanceof DataMismatchError)) throw error;
    }
  const parameters = await loadCheckpoint(first, file, { signal });
  if (whole.parameterCount > first.parameterCount)
    warnings.push(
      `${file} has parameters only: buffers, such as running statistics, are the first's`,
    );
  return first.withParameters(parameters);
}

function openTest(args: AlignArguments, signal: AbortSignal): Promise<DataSet> | undefined {
  const { testData, testInputs, testTargets, samples: _, ...rest } = args;
  if (testData === undefined && testInputs === undefined) return undefined;
  const files = { data: testData, inputs: testInputs, targets: testTargets };
  return openData({ ...rest, ...(files as Pick<AlignArguments, "data">) }, signal);
}

function spectraOf(
  found: Alignment,
  data: DataSet,
  args: AlignArguments,
  k: number,
  call: CallOptions,
): Promise<AlignedSpectra> {
  const operator = (model: Model, on: DataSet) => makeOperator(model, on, args);
  return alignedSpectra(found, data, { k, operator, seed: args.seed, ...call });
}

function findingsOf(
  found: Alignment,
  barriers: readonly OnData[],
  spectra: AlignedSpectra | undefined,
  { operator = "hessian" }: AlignArguments,
): Findings {
  const { groups, rounds, converged, churn, similarity } = found;
  const plans = groups.flatMap(({ plan, order, size, otherSize }, g) =>
    plan && !order ? [[`plan-${g + 1}`, { values: plan, shape: [size, otherSize] }] as const] : [],
  );
  const orders = groups.filter(({ order }) => order);
  return {
    json: {
      ...{ rounds, converged, churn, similarity },
      groups: groups.map(({ plan: _, ...group }) => group),
      barriers: barriers.map(([name, on]) => ({ data: name, ...on })),
      ...(spectra && { operator, spectra }),
    },
    arrays: Object.fromEntries(plans),
    files: {
      ...(orders.length > 0 && {
        "permutations.json": `${JSON.stringify(
          Object.fromEntries(orders.map(({ name, order }) => [name, Array.from(order!)])),
        )}\n`,
      }),
      ...(barriers.length > 0 && { "interpolation.csv": csv(barriers) }),
    },
    figures: barriers.length > 0 ? { interpolation: figure(barriers, found) } : {},
    human: () => {
      printGroups(found);
      if (barriers.length > 0) printBarriers(barriers);
      if (spectra) printSpectra(spectra, operator);
    },
  };
}

const share = (value: number | undefined) =>
  value === undefined ? "" : `${(100 * value).toFixed(1)} %`;
const cosine = (value: number | undefined) => (value === undefined ? "" : value.toFixed(4));

function printGroups({ groups, rounds, churn, similarity, method }: Alignment): void {
  const scored = groups.some(({ score }) => score);
  const head = ["group", "units", "moved", "similarity before", "after"];
  const rows = groups.map(({ name, size, otherSize, moved, similarity, score }) => [
    name,
    size === otherSize ? size : `${size} of ${otherSize}`,
    moved ?? "mixed",
    cosine(similarity.before),
    cosine(similarity.after),
    ...(score ? [cosine(score.before), cosine(score.after)] : []),
  ]);
  const heads = scored ? [...head, "activations before", "after"] : head;
  for (const text of table(heads, rows)) print(text);
  const units = groups.reduce((sum, { size }) => sum + size, 0);
  const parts = [
    `${count(units)} units`,
    ...(churn === undefined ? [] : [`${share(churn)} moved`]),
    ...(method === "weights" ? [`${rounds} rounds`] : []),
    `cosine of all parameters ${similarity.before === undefined ? "" : `${cosine(similarity.before)} before, `}` +
      `${cosine(similarity.after)} after`,
  ];
  print(`\n${parts.join("; ")}`);
}

function printBarriers(barriers: readonly OnData[]): void {
  const rows = barriers.flatMap(([name, { first, second, aligned, fused, barriers: found }]) =>
    [
      { what: "first", worth: first },
      { what: "second", worth: second, line: found.naive },
      { what: "second, aligned", worth: aligned, line: found.aligned },
      { what: "fused", worth: fused },
    ]
      .filter(({ worth }) => worth)
      .map(({ what, worth, line }) => [
        ...[name, what, short(worth!.loss), share(worth!.accuracy)],
        ...[line ? short(line.barrier) : "", line ? short(line.middle.loss) : ""],
        line ? share(line.middle.accuracy) : "",
      ]),
  );
  const accurate = rows.some((row) => row[3] !== "");
  const head = ["on", "network", "loss", "accuracy", "barrier", "half way: loss", "accuracy"];
  const kept = (row: (string | number)[]) => row.filter((_, i) => accurate || (i !== 3 && i !== 6));
  print("\nOn the line from the first network:");
  for (const text of table(kept(head) as string[], rows.map(kept))) print(text);
  for (const [name, { layers }] of barriers) {
    if (!layers) continue;
    print(`\nOne layer moved alone, on ${name}:`);
    const cells = layers.map(({ layer, naive, aligned }) => [
      layer,
      ...[naive ? short(naive.barrier) : "", short(aligned.barrier)],
      ...[naive ? short(naive.losses.at(-1)!) : "", short(aligned.losses.at(-1)!)],
    ]);
    const names = ["layer", "barrier before", "after", "loss with the other's layer", "after"];
    for (const text of table(names, cells)) print(text);
  }
}

function printSpectra({ k, first, second, aligned, overlap }: AlignedSpectra, operator: string) {
  const values = (of: Float64Array) => Array.from(of.slice(0, 3), short).join(", ");
  print(
    `\nLargest eigenvalues of ${operator}: ${values(first)}; of the second${second ? "" : ", aligned"} ${values(second ?? aligned)}`,
  );
  const { before, after } = overlap;
  print(
    `Overlap of the top ${k} eigenvectors' spaces: ` +
      `${before ? `${cosine(before.overlap)} before, ` : ""}${cosine(after.overlap)} after; ` +
      `${short(after.baseline.expected)} by chance`,
  );
}

function* linesOf(barriers: readonly OnData[]) {
  for (const [name, { barriers: found }] of barriers)
    for (const [path, line] of Object.entries(found)) if (line) yield { name, path, line };
}

function csv(barriers: readonly OnData[]): string {
  const rows = ["data,path,step,loss"];
  for (const { name, path, line } of linesOf(barriers))
    for (const [i, step] of line.steps.entries())
      rows.push(`${name},${path},${step},${line.losses[i]}`);
  return `${rows.join("\n")}\n`;
}

function figure(barriers: readonly OnData[], { method }: Alignment): Figure {
  const marks: Series[] = [];
  for (const { name, path, line } of linesOf(barriers))
    marks.push({
      kind: "line",
      name: path === "naive" ? "as it is" : `aligned by ${method}`,
      x: line.steps,
      y: line.losses,
      dashed: name !== "data",
    });
  const dashed = barriers.some(([name]) => name !== "data");
  return {
    title: "Loss between the networks",
    caption: dashed ? "Solid: the data; dashed: test data" : undefined,
    x: { label: "from the first network (0) to the second (1)" },
    y: { label: "loss" },
    marks,
  };
}
