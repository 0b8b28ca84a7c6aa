/** eigenscope masks: sub-networks by any criterion, their overlaps, and what they are worth. */
import { join } from "node:path";
import type { CallOptions } from "../call";
import { loadCheckpoint } from "../checkpoints";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { Evaluation } from "../evaluator";
import type { Checkpoint } from "../landscape/directions";
import type { LinearOperator } from "../linear-operator";
import { maskIoU } from "../masks/compare";
import { type Criterion, TABLE } from "../masks/criteria";
import { sparsityFigure } from "../masks/figures";
import { loadMask, saveMask } from "../masks/files";
import { type KeepOptions, scoredTensors } from "../masks/keep";
import { masks, requireCriterion, type ScoreOptions } from "../masks/make";
import type { Mask } from "../masks/mask";
import { type MaskedOptions, type SparsityCurves, sparsityCurves } from "../masks/worth";
import type { Model } from "../model/model";
import { type AnalysisArguments, prepareFolder, writeArtefacts } from "./analysis";
import type { Globals } from "./arguments";
import { csvText } from "./columns";
import { count, duration, ProgressLine, print, printJson, short, table, warn } from "./output";
import { hasData, makeOperator, openData, openModel, runOptions } from "./subject";

export interface MaskArguments extends AnalysisArguments {
  initial?: string;
}

interface MasksArguments
  extends MaskArguments,
    Pick<KeepOptions, "keep" | "count" | "threshold" | "scope" | "rounds" | "structure">,
    Pick<KeepOptions, "unitBiases" | "minRank">,
    Pick<ScoreOptions, "k" | "blockSize" | "damping">,
    Pick<MaskedOptions, "pruned" | "kept"> {
  criterion?: string[];
  counts?: string;
  within?: string;
  format?: "npz" | "safetensors";
  curve?: number[];
  random?: number;
}

export async function run(file: string, args: MasksArguments, globals: Globals): Promise<number> {
  const begin = performance.now();
  const { signal, json } = globals;
  const { criterion = ["magnitude"], curve, format = "npz", out, operator = "ggn" } = args;
  const { structure, minRank } = args;
  const names = criterion.map((name) => requireCriterion("--criterion", name));
  if (curve && !hasData(args))
    throw new OptionError("--curve: expected data as well (--data or --inputs and --targets)");
  await prepareFolder(out);
  using model = await openModel(file, args);
  const data = hasData(args) ? await openData(args, signal) : undefined;
  const line = new ProgressLine("masks");
  const call = { signal, onProgress: line.onProgress };
  try {
    const needs = new Set(names.flatMap((name) => TABLE[name].needs as readonly string[]));
    const curved = ["diagonal", "inverseDiagonal", "vectors"].some((need) => needs.has(need));
    using curvature = data && curved ? makeOperator(model, data, { ...args, operator }) : undefined;
    const initial = await initialOf(model, args, signal);
    const scores = scoreOptions(args, { initial, data, curvature }, call);
    const keep = await keepOptions(model, args, curve !== undefined, signal);
    const made = keep ? await masks(model, names, { ...keep, ...scores }) : [];
    const found = curve && (await curvesOf(model, names, args, { ...scores, data: data! }));
    const overlaps = made.flatMap((a, i) => made.slice(i + 1).map((b) => overlapOf(a, b)));
    const files: string[] = [];
    if (out !== undefined)
      for (const mask of made) {
        files.push(join(out, `${mask.name}.${format}`));
        await saveMask(files.at(-1)!, mask);
      }
    const scored = scoredTensors("masks", model.parameters, { structure, minRank });
    const document = {
      masks: made.map((mask, i) => maskJson(mask, model, scored, files[i])),
      overlaps,
      ...(found && { dense: found.dense, curve: found.points }),
      parameterCount: model.parameterCount,
      ...(data && { samples: data.samples }),
      seconds: (performance.now() - begin) / 1000,
      warnings: model.warnings,
    };
    if (out !== undefined) {
      const tables = {
        ...(made.length > 0 && { "layers.csv": csvText(layerRows(made, scored, true)) }),
        ...(overlaps.length > 0 && { "overlaps.csv": csvText(overlapRows(overlaps, true)) }),
        ...(found && { "curve.csv": csvText(curveRows(found, true)) }),
      };
      const figures = { ...(found && { curve: sparsityFigure(found) }) };
      const nothing = { json: {}, human: () => {} };
      await writeArtefacts(out, document, { ...nothing, files: tables, figures }, signal);
    }
    line.end();
    if (json) printJson(document);
    else printHuman(file, model, { made, scored, overlaps, found, data, out }, document.seconds);
    return 0;
  } finally {
    line.end();
  }
}

/** The parameters that training began with, of a file. */
export async function initialOf(
  model: Model,
  { initial }: MaskArguments,
  signal: AbortSignal,
): Promise<Checkpoint | undefined> {
  return initial === undefined ? undefined : loadCheckpoint(model, initial, { signal });
}

function scoreOptions(
  args: MasksArguments,
  given: {
    initial: Checkpoint | undefined;
    data: DataSet | undefined;
    curvature: LinearOperator | undefined;
  },
  call: CallOptions,
): ScoreOptions {
  const { k, blockSize, damping, seed } = args;
  return { ...given, k, blockSize, damping, seed, ...runOptions(args), ...call };
}

/** What is kept; undefined where only curves are asked for. */
async function keepOptions(
  model: Model,
  args: MasksArguments,
  curve: boolean,
  signal: AbortSignal,
): Promise<KeepOptions | undefined> {
  const { keep, count, threshold, scope, rounds, structure, unitBiases, minRank } = args;
  const { counts, within } = args;
  const amount = [keep, count, threshold, counts].some((given) => given !== undefined);
  const pattern = structure?.includes(":") ?? false;
  if (!amount && !pattern) {
    if (curve) return undefined;
    throw new OptionError(
      "--keep: expected a share over 0 and at most 1 (or --count, --threshold, --counts, or " +
        "--structure N:M), got none",
    );
  }
  const read = (path: string | undefined) =>
    path === undefined ? undefined : loadMask(path, model.parameters, { signal });
  return {
    ...{ keep, count, threshold, scope, rounds, structure, unitBiases, minRank },
    counts: await read(counts),
    within: await read(within),
  };
}

async function curvesOf(
  model: Model,
  criteria: Criterion[],
  args: MasksArguments,
  { data, ...scores }: ScoreOptions & { data: DataSet },
): Promise<SparsityCurves> {
  const { curve, random, scope, structure, unitBiases, minRank, pruned, kept } = args;
  const limits = { scope, structure, unitBiases, minRank, pruned, kept, random };
  return sparsityCurves(model, data, {
    ...{ criteria, keep: curve!, ...limits, ...scores },
    target: args.targetName,
  });
}

function overlapOf(a: Mask, b: Mask) {
  const { iou, chance, z, kept, intersection, layers } = maskIoU(a, b);
  return { masks: [a.name, b.name], iou, chance, z, kept, intersection, layers };
}

function maskJson(mask: Mask, model: Model, scored: boolean[], file: string | undefined) {
  const layers = mask.layers().map((layer, i) => ({
    ...layer,
    shape: model.parameters[i]!.shape,
    pruned: scored[i]!,
  }));
  const [kept, size] = totals(mask, scored);
  return {
    criterion: mask.name,
    ...(file !== undefined && { file }),
    kept,
    size,
    share: kept / size,
    collapsed: mask.collapsed(),
    layers,
  };
}

/** Entries kept, and all, of the tensors that are pruned. */
function totals(mask: Mask, scored: readonly boolean[]): [kept: number, size: number] {
  const layers = mask.layers().filter((_, i) => scored[i]);
  const sum = (key: "kept" | "size") => layers.reduce((total, layer) => total + layer[key], 0);
  return [sum("kept"), sum("size")];
}

type Rows = (string | number)[][];

/** What is shown of many masks. */
const MOST_COLUMNS = 6;
const MOST_ROWS = 20;

function layerRows(made: readonly Mask[], scored: readonly boolean[], plain: boolean): Rows {
  const share = (kept: number, size: number) =>
    plain ? kept : `${((100 * kept) / (size || 1)).toFixed(1)} %`;
  const layers = made.map((mask) => mask.layers());
  return [
    ["tensor", "size", ...made.map(({ name }) => (plain ? `${name} kept` : name))],
    ...layers[0]!.flatMap(({ name, size }, i) =>
      scored[i] ? [[name, size, ...layers.map((of) => share(of[i]!.kept, size))]] : [],
    ),
    ...(plain
      ? []
      : [
          [
            "all of them",
            totals(made[0]!, scored)[1],
            ...made.map((m) => share(...totals(m, scored))),
          ],
        ]),
  ];
}

/** Where the table by tensor and mask would be too wide: a row a mask. */
function maskRows(made: readonly Mask[], scored: readonly boolean[]): Rows {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  return [
    ["mask", "kept", "share", "least of a tensor", "most of a tensor"],
    ...made.map((mask) => {
      const shares = mask
        .layers()
        .flatMap(({ kept, size }, i) => (scored[i] ? [kept / (size || 1)] : []));
      const [kept, size] = totals(mask, scored);
      const ends = [Math.min(...shares), Math.max(...shares)];
      return [mask.name, kept, ...[kept / size, ...ends].map(percent)];
    }),
  ];
}

function overlapRows(overlaps: readonly ReturnType<typeof overlapOf>[], plain: boolean): Rows {
  const number = (x: number, digits: number) =>
    plain ? x : Number.isFinite(x) ? x.toFixed(digits) : "-";
  return [
    plain ? ["mask", "other", "iou", "chance", "z"] : ["masks", "", "IoU", "by chance", "z"],
    ...overlaps.map(({ masks: [a, b], iou, chance, z }) => [
      ...[a!, b!],
      ...[number(iou, 4), number(chance, 4), number(z, 1)],
    ]),
  ];
}

function curveRows({ points }: SparsityCurves, plain: boolean): Rows {
  const accurate = points.some(({ accuracy }) => accuracy !== undefined);
  const number = (x: number | undefined) => (x === undefined ? "" : plain ? x : short(x));
  const percent = (x: number | undefined) =>
    x === undefined ? "" : plain ? x : `${(100 * x).toFixed(2)} %`;
  const columns: [string, (point: SparsityCurves["points"][number]) => string | number][] = [
    ["criterion", ({ criterion }) => criterion],
    ["keep", ({ keep }) => keep],
    ["kept", ({ kept }) => kept],
    ["loss", ({ loss }) => number(loss)],
    ["random", ({ random }) => number(random?.loss.mean)],
    ["+-", ({ random }) => number(random?.loss.standardDeviation)],
  ];
  if (accurate)
    columns.push(
      ["accuracy", ({ accuracy }) => percent(accuracy)],
      ["random", ({ random }) => percent(random?.accuracy?.mean)],
      ["+-", ({ random }) => percent(random?.accuracy?.standardDeviation)],
    );
  if (plain || points.some(({ collapsed }) => collapsed.length > 0))
    columns.push([
      "collapsed",
      ({ collapsed }) => (plain ? collapsed.join(" ") : fewOf(collapsed)),
    ]);
  const head = columns.map(([name]) => name);
  if (plain)
    head.forEach((name, i) => {
      if (name === "random") head[i] = `random ${head[i - 1]}`;
      if (name === "+-") head[i] = `random ${head[i - 2]} sd`;
    });
  return [head, ...points.map((point) => columns.map(([, cell]) => cell(point)))];
}

/** One name, or how many there are. */
function fewOf(names: readonly string[]): string {
  return names.length > 1 ? `${names.length} tensors` : names.join();
}

function printTable([head, ...rows]: Rows): void {
  for (const line of table(head as string[], rows)) print(line);
}

/** "loss 0.1234, accuracy 97.10 %". */
export function evaluationText({ loss, accuracy }: Evaluation): string {
  return (
    `loss ${short(loss)}` +
    (accuracy === undefined ? "" : `, accuracy ${(100 * accuracy).toFixed(2)} %`)
  );
}

interface Found {
  made: readonly Mask[];
  scored: readonly boolean[];
  overlaps: readonly ReturnType<typeof overlapOf>[];
  found: SparsityCurves | undefined;
  data: DataSet | undefined;
  out: string | undefined;
}

function printHuman(
  file: string,
  model: Model,
  { made, scored, overlaps, found, data, out }: Found,
  seconds: number,
): void {
  const samples = data ? `, ${count(data.samples)} samples` : "";
  print(`masks of ${file}: ${count(model.parameterCount)} parameters${samples}`);
  if (made.length > 0) {
    print("\nKept of each tensor that is pruned; others are kept whole");
    printTable(
      made.length > MOST_COLUMNS ? maskRows(made, scored) : layerRows(made, scored, false),
    );
    for (const mask of made)
      for (const name of mask.collapsed()) print(`${mask.name} keeps nothing of ${name}`);
  }
  if (overlaps.length > 0) {
    print("\nIntersection over union, and what random masks of as many entries have");
    const strongest = [...overlaps].sort((a, b) => Math.abs(b.z || 0) - Math.abs(a.z || 0));
    const shown = overlaps.filter((row) => strongest.indexOf(row) < MOST_ROWS);
    printTable(overlapRows(shown, false));
    if (shown.length < overlaps.length)
      print(
        `and ${overlaps.length - shown.length} nearer to chance: --json and --out have all of them`,
      );
  }
  if (found) {
    print(`\nDense: ${evaluationText(found.dense)}`);
    print("random: masks that keep as many of each tensor, mean +- standard deviation");
    printTable(curveRows(found, false));
  }
  print(`\n${duration(seconds)}${out === undefined ? "" : `; written to ${out}`}`);
  warn(model.warnings);
}
