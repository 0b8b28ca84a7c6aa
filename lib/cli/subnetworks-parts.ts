/** The parts of eigenscope subnetworks, one row each. */
import { extname } from "node:path";
import type { CallOptions } from "../call";
import { listCheckpoints, loadCheckpoint } from "../checkpoints";
import { OptionError } from "../errors";
import { exactDiagonal } from "../exact";
import { loadMask } from "../masks/files";
import type { KeepOptions } from "../masks/keep";
import { mask as maskOf, requireCriterion } from "../masks/make";
import type { Mask } from "../masks/mask";
import type { Model } from "../model/model";
import type { ConditionalCurvature } from "../subnetworks/conditional";
import { type MaskedCurvature, maskedCurvature } from "../subnetworks/curvature";
import {
  breakingFigure,
  correlationFigure,
  linkFigure,
  maskedSpectraFigure,
} from "../subnetworks/figures";
import { type Link, type LinkOptions, type LinkSubject, subnetworkLink } from "../subnetworks/link";
import type { EndSpectrum } from "../subnetworks/spectrum";
import {
  BREAKING_MEASURES,
  type BreakingCourse,
  type BreakingMeasure,
  type MeasuredBreaking,
  symmetryBreaking,
  symmetryBreakingAlong,
} from "../symmetry/breaking";
import type { AnalysisArguments, Findings, Subject } from "./analysis";
import { type Columns, csvOf, printRows } from "./columns";
import { count, print, table } from "./output";
import { printPairs } from "./pairs";
import { makeOperator, openModel, runOptions } from "./subject";

export interface SubnetworksArguments
  extends AnalysisArguments,
    Pick<KeepOptions, "keep" | "scope">,
    Pick<LinkOptions, "exchange" | "correction" | "level" | "permutations"> {
  parts?: string[];
  mask?: string;
  criterion?: string[];
  initial?: string[];
  models?: string[];
  checkpoints?: string;
  k?: number;
  maxExact?: number;
  conditional?: boolean;
  damping?: number;
  random?: number;
  randomMasks?: number;
}

/** What a part works with. */
export interface PartContext extends Subject {
  file: string;
  args: SubnetworksArguments;
  call: CallOptions;
}

type Part = (context: PartContext) => Promise<Findings>;

const number = (x: number | undefined, digits = 4) =>
  x === undefined || !Number.isFinite(x) ? "-" : Number(x.toPrecision(digits)).toString();
const percent = (share: number | undefined) =>
  share === undefined || Number.isNaN(share) ? "-" : `${(100 * share).toFixed(1)} %`;
const score = (z: number | undefined) =>
  z === undefined || !Number.isFinite(z) ? "-" : z.toFixed(1);
const times = (lift: number) => `${number(lift, 3)} times`;

const initialOf = ({ model, args, call }: PartContext) =>
  args.initial === undefined
    ? undefined
    : loadCheckpoint(model, args.initial[0]!, { signal: call.signal });

/** The criteria of the table; the curvature is of the first one's sub-network. */
function criteriaOf({ criterion, initial }: SubnetworksArguments) {
  const names = criterion ?? ["magnitude", ...(initial ? ["movement"] : []), "fisher"];
  return names.map((name) => requireCriterion("--criterion", name));
}

// ---- curvature ------------------------------------------------------------------------------

async function chosenMask(context: PartContext): Promise<Mask> {
  const { model, data, args, call } = context;
  if (args.mask !== undefined)
    return loadMask(args.mask, model.parameters, { signal: call.signal });
  const { keep = 0.1, scope, seed, k } = args;
  const [criterion] = criteriaOf(args);
  const initial = await initialOf(context);
  const run = { ...runOptions(args), signal: call.signal };
  return maskOf(model, { criterion: criterion!, keep, scope, seed, k, initial, data, ...run });
}

const spectrumColumns: Columns<[string, EndSpectrum]> = [
  ["", ([name]) => name, String],
  ["parameters", ([, { dim }]) => dim, count],
  ["largest", ([, { values }]) => values[0], number],
  ["5th", ([, { values }]) => values[4], number],
  ["10th", ([, { values }]) => values[9], number],
  ["smallest", ([, { exact, values, smallest }]) => (exact ? values.at(-1) : smallest[0]), number],
  ["trace", ([, { trace }]) => trace.value, number],
  ["+-", ([, { trace }]) => trace.standardError || undefined, (x: number) => number(x, 2)],
];

function spectraOf({ whole, dense, pruned }: MaskedCurvature): [string, EndSpectrum][] {
  return [
    ["whole network", whole],
    ["sub-network, trained", dense],
    ["sub-network, pruned", pruned],
  ];
}

function printConditional({ marginal, conditional, ...found }: ConditionalCurvature): void {
  print("\nCurvature of the sub-network's weights when the others stay, and when they follow");
  const lines = [
    ["others stay", marginal],
    ["others follow", conditional],
  ] as const;
  const cells = lines.map(([name, { values, trace }]) => [
    ...[name, number(values[0]), number(trace?.value)],
    trace?.standardError ? number(trace.standardError, 2) : "",
  ]);
  for (const line of table(["", "largest", "trace", "+-"], cells)) print(line);
  if (found.damping > 0)
    print(
      `the others' curvature damped by ${number(found.damping)}: what is below says little but that`,
    );
  if (found.restSemiDefinite === false)
    print("the others' curvature has negative eigenvalues: following leads to a saddle");
}

function printCurvature(found: MaskedCurvature, mask: Mask): void {
  const { interlacing, overlap, traceOverlap, cost, conditional } = found;
  print(
    `Sub-network ${mask.name}: ${count(found.kept)} of ${count(found.dim)} parameters ` +
      `(${percent(found.kept / found.dim)})`,
  );
  const all = spectraOf(found);
  printRows(
    spectrumColumns.filter(
      ([name, value]) => name === "" || all.some((row) => value(row) !== undefined),
    ),
    all,
  );
  if (found.random) {
    const text = ({ mean, standardDeviation }: typeof found.random.dense) =>
      `${number(mean)} +- ${number(standardDeviation, 2)}`;
    const { dense, pruned } = found.random;
    print(
      `largest of ${dense.values.length} random masks, as many of each tensor: trained ` +
        `${text(dense)}, pruned ${text(pruned)}`,
    );
  }
  const { compared, certain, violations } = interlacing;
  print(
    violations.length === 0
      ? `Cauchy interlacing: ${count(compared)} inequalities hold, ${count(certain)} beyond all errors`
      : `Cauchy interlacing: ${violations.length} of ${compared} inequalities do NOT hold: eigenvalues were missed`,
  );
  const against = ({ energy, baseline, standardDeviation, lift, z }: typeof overlap) =>
    `${percent(energy)}, ${times(lift)} its share; random masks ${percent(baseline.expected)} +- ` +
    `${percent(standardDeviation)}, z ${score(z)}`;
  print();
  printPairs([
    ["leading eigenvectors on it", against(overlap)],
    ...(traceOverlap ? ([["trace on it", against(traceOverlap)]] as const) : []),
    ["loss without the others", `${number(cost.before)} to ${number(cost.after)}`],
    ["by the quadratic model", number(cost.before + cost.linear + cost.quadratic)],
  ]);
  if (conditional) printConditional(conditional);
  print("\nTensors: what the mask keeps, and their shares");
  printRows(tensorColumns, found.tensors, 40);
}

const tensorColumns: Columns<MaskedCurvature["tensors"][number]> = [
  ["tensor", ({ name }) => name, String],
  ["size", ({ size }) => size, count],
  ["kept", ({ kept, size }) => kept / size, percent],
  ["of parameters", ({ expected }) => expected, percent],
  ["of top vectors", ({ share }) => share, percent],
  ["of trace", ({ traceShare }) => traceShare, percent],
];

const vectorColumns: Columns<MaskedCurvature["vectors"][number]> = [
  ["value", ({ value }) => value, number],
  ["energy", ({ energy }) => energy, percent],
  ["lift", ({ lift }) => lift, number],
  ["z", ({ z }) => z, score],
  ["participation", ({ participation }) => participation, number],
  ["participation by chance", ({ participationByChance }) => participationByChance, number],
];

async function curvature(context: PartContext): Promise<Findings> {
  const { model, data, args, call } = context;
  const { k, maxExact, conditional, damping, seed } = args;
  const mask = await chosenMask(context);
  const found = await maskedCurvature(model, data, mask, {
    operator: (at) => makeOperator(at, data, args),
    ...{ k, maxExact, conditional, damping, seed, random: args.randomMasks ?? 3 },
    ...{ ...runOptions(args), ...call },
  });
  const rows = spectraOf(found).flatMap(([name, { values, intervals }]) =>
    Array.from(values, (value, i) => ({ name, i, value, ...intervals[i]! })),
  );
  const csv = csvOf<(typeof rows)[number]>(
    [
      ["of", ({ name }) => name, String],
      ["index", ({ i }) => i, String],
      ["value", ({ value }) => value, String],
      ["low", ({ low }) => low, String],
      ["high", ({ high }) => high, String],
    ],
    rows,
  );
  return {
    json: { mask: mask.name, ...found },
    human: () => printCurvature(found, mask),
    files: {
      "spectra.csv": csv,
      "tensors.csv": csvOf(tensorColumns, found.tensors),
      "vectors.csv": csvOf(vectorColumns, found.vectors),
    },
    figures: { spectra: maskedSpectraFigure(found) },
    products: found.products,
    ...(!found.converged && { notConverged: found.reason }),
  };
}

// ---- symmetry breaking ----------------------------------------------------------------------

/** What people see; files have all. */
const SHOWN: readonly BreakingMeasure[] = [
  "exchange",
  "exchangeBalanced",
  "distinct",
  "importance",
  "importanceBalanced",
  "fisherImportance",
  "weightShift",
  "kurtosis",
  "chargeSpread",
  "transposition",
];

interface BreakingRow extends MeasuredBreaking {
  layer: string;
  units: number;
  measure: BreakingMeasure;
}

const breakingColumns: Columns<BreakingRow> = [
  ["measure", ({ measure }) => measure, String],
  ["value", ({ value }) => value, number],
  ["at init", ({ initial }) => initial, number],
  ["change", ({ delta }) => delta, number],
  ["new init", ({ reinitialised }) => reinitialised?.mean, number],
  [
    "+-",
    ({ reinitialised }) => reinitialised?.standardDeviation,
    (x: number | undefined) => number(x, 2),
  ],
  ["z", ({ reinitialised }) => reinitialised?.z, score],
  ["permuted", ({ permuted }) => permuted?.mean, number],
  ["+-", ({ permuted }) => permuted?.standardDeviation, (x: number | undefined) => number(x, 2)],
  ["z", ({ permuted }) => permuted?.z, score],
];

/** As files have them: a name for each. */
const breakingFile: Columns<BreakingRow> = [
  ["layer", ({ layer }) => layer, String],
  ["units", ({ units }) => units, String],
  ...breakingColumns.map(([name, value, shown], i): Columns<BreakingRow>[number] => {
    const of = i >= 8 ? "permuted" : "new init";
    return [
      name === "+-" || name === "z" ? `${of} ${name === "z" ? "z" : "sd"}` : name,
      value,
      shown,
    ];
  }),
];

async function breaking(context: PartContext): Promise<Findings> {
  const { model, data, operator, args, call } = context;
  const initial = await initialOf(context);
  const sums = operator.native.sumsRows;
  const diagonal = sums ? (await exactDiagonal(operator, call)).diagonal : undefined;
  const { random: draws, seed } = args;
  const found = await symmetryBreaking(model, { data, initial, diagonal, draws, seed, ...call });
  const names = Object.keys(BREAKING_MEASURES) as BreakingMeasure[];
  const rowsOf = ({ name: layer, units, measures }: (typeof found.groups)[number]) =>
    names.flatMap((measure) =>
      Number.isNaN(measures[measure].value)
        ? []
        : [{ layer, units, measure, ...measures[measure] }],
    );
  const all = found.groups.map(rowsOf);
  return {
    json: { groups: found.groups },
    files: { "breaking.csv": csvOf(breakingFile, all.flat()) },
    warnings: found.warnings,
    human: () => {
      print("Symmetry breaking: how far the units of a layer are from being exchangeable");
      if (all.length === 0) print("no units that can be exchanged were found");
      for (const [g, rows] of all.entries()) {
        const { name, units, length } = found.groups[g]!;
        print(`\n${name}: ${count(units)} units of ${count(length)} numbers`);
        printRows(
          breakingColumns.filter(([, value]) =>
            rows.some((row) => value(row) !== undefined && !Number.isNaN(value(row))),
          ),
          rows.filter(({ measure }) => SHOWN.includes(measure)),
        );
      }
      if (all.length === 0) return;
      print(
        "\nz: against networks with new initial weights, and with each tensor's numbers permuted",
      );
      const shown = SHOWN.filter((name) => all.flat().some(({ measure }) => measure === name));
      printPairs(shown.map((name) => [name, BREAKING_MEASURES[name]] as const));
    },
  };
}

// ---- over checkpoints -----------------------------------------------------------------------

const COURSE: readonly BreakingMeasure[] = ["exchange", "importanceBalanced", "chargeSpread"];

async function course({ model, data, args, call }: PartContext): Promise<Findings> {
  const { checkpoints: folder } = args;
  if (folder === undefined)
    throw new OptionError("--parts course: expected --checkpoints, a folder of them");
  const listed = await listCheckpoints(folder);
  if (listed.length === 0)
    throw new OptionError(`--checkpoints: expected checkpoints in ${folder}, got none`);
  const places: Float64Array[] = [];
  for (const { file } of listed)
    places.push(await loadCheckpoint(model, file, { signal: call.signal }));
  const found = await symmetryBreakingAlong(model, places, { data, ...call });
  const steps = listed.map(({ step }) => step);
  const names = Object.keys(BREAKING_MEASURES) as BreakingMeasure[];
  const rows = found.flatMap((of) => steps.map((step, t) => ({ of, step, t })));
  type Row = (typeof rows)[number];
  const measured = (measure: BreakingMeasure): Columns<Row>[number] => [
    measure,
    ({ of, t }) => of.measures[measure][t],
    number,
  ];
  const columns: Columns<Row> = [
    ["layer", ({ of }) => of.name, String],
    ["step", ({ step }) => step, count],
    ...names.map(measured),
  ];
  return {
    json: { steps, groups: found },
    files: { "course.csv": csvOf(columns, rows) },
    figures: Object.fromEntries(
      COURSE.map((measure) => [`course-${measure}`, breakingFigure(found, steps, measure)]),
    ),
    human: () => {
      for (const measure of COURSE) {
        print(`${measure} over training: ${BREAKING_MEASURES[measure]}`);
        printRows(
          courseColumns(found, measure),
          steps.map((step, t) => ({ step, t })),
        );
        print();
      }
      print("other measures: --json and course.csv of --out");
    },
  };
}

function courseColumns(
  found: readonly BreakingCourse[],
  measure: BreakingMeasure,
): Columns<{ step: number; t: number }> {
  return [
    ["step", ({ step }) => step, count],
    ...found.map(({ name, measures }): Columns<{ step: number; t: number }>[number] => [
      name,
      ({ t }) => measures[measure][t],
      number,
    ]),
  ];
}

// ---- the link -------------------------------------------------------------------------------

/** What is shown of a table on a terminal. */
const MOST_LAYERS = 7;
const MOST_CORRELATIONS = 15;

type Correlation = Link["correlations"][number];

const correlationColumns: Columns<Correlation> = [
  ["column", ({ a }) => a, String],
  ["other", ({ b }) => b, String],
  ["layers", ({ n }) => n, String],
  ["rho", ({ spearman }) => spearman, (x: number) => number(x, 3)],
  ["tau", ({ kendall }) => kendall, (x: number) => number(x, 3)],
  ["given size", ({ givenSize }) => givenSize, (x: number) => number(x, 3)],
  ["p", ({ p }) => p, (x: number) => number(x, 2)],
  ["least p", ({ smallestP }) => smallestP, (x: number) => number(x, 2)],
  ["corrected", ({ adjusted }) => adjusted, (x: number) => number(x, 2)],
];

/** Lines of at most so many letters. */
function wrapped(text: string, width = 96): string[] {
  return text.split(" ").reduce<string[]>((lines, word) => {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
    return lines;
  }, []);
}

function printLink(link: Link): void {
  const { columns, rows, correlations, correction } = link;
  print("Layers: sub-networks, symmetry breaking and curvature");
  if (rows.length <= MOST_LAYERS) {
    const lines = columns.map(({ name }, c) => [
      name,
      ...rows.map(({ values }) => number(values[c], 3)),
    ]);
    for (const line of table(["", ...rows.map(({ layer }) => layer)], lines)) print(line);
  } else print(`${rows.length} layers: layers.csv and layers.svg of --out have the table`);
  print();
  for (const line of wrapped(`Rank correlations over ${link.verdict}`)) print(line);
  if (correlations.length === 0) return;
  const others = correlations.filter(({ a }) => a !== "weights");
  const strongest = [...others]
    .sort((a, b) => a.p - b.p || Math.abs(b.spearman) - Math.abs(a.spearman))
    .slice(0, MOST_CORRELATIONS);
  printRows(correlationColumns, strongest);
  const left = others.length - strongest.length;
  print(
    `${left > 0 ? `and ${left} of larger p; ` : ""}--json and --out have these and those with the ` +
      "layers' sizes",
  );
  const by = correction === "holm" ? "Holm" : "Benjamini and Hochberg";
  print(
    `p by permuting the layers of each network; corrected by ${by} for ${correlations.length} correlations`,
  );
}

/** Short names of files: what of their paths differs. */
function namesOf(files: readonly string[]): string[] {
  const paths = files.map((file) => file.slice(0, file.length - extname(file).length).split("/"));
  if (new Set(files).size < files.length)
    throw new OptionError("--models: expected files of their own, got one of them twice");
  const shared = (parts: readonly string[][]) => {
    const [first] = parts;
    const most = Math.min(...parts.map(({ length }) => length)) - 1;
    let n = 0;
    while (n < most && parts.every((part) => part[n] === first![n])) n++;
    return n;
  };
  const begin = shared(paths);
  const left = paths.map((parts) => parts.slice(begin));
  const end = shared(left.map((parts) => [...parts].reverse()));
  const names = left.map((parts) => parts.slice(0, parts.length - end).join("/"));
  return new Set(names).size < names.length ? [...files] : names;
}

async function subjectsOf(
  names: readonly string[],
  { model, args, call }: PartContext,
): Promise<LinkSubject[]> {
  const { models = [], initial } = args;
  if (initial && models.length > 0 && initial.length !== models.length + 1)
    throw new OptionError(
      `--initial: expected a file for each of ${models.length + 1} networks, got ${initial.length}`,
    );
  const at = async (opened: Model, i: number) =>
    initial && loadCheckpoint(opened, initial[i]!, { signal: call.signal });
  const subjects: LinkSubject[] = [{ name: names[0]!, model, initial: await at(model, 0) }];
  for (const [i, path] of models.entries()) {
    const opened =
      extname(path) === ".onnx"
        ? await openModel(path, args)
        : model.withParameters(await loadCheckpoint(model, path, { signal: call.signal }));
    subjects.push({ name: names[i + 1]!, model: opened, initial: await at(opened, i + 1) });
  }
  return subjects;
}

async function link(context: PartContext): Promise<Findings> {
  const { data, args, call } = context;
  const { keep, k, exchange, correction, level, permutations, seed, operator = "ggn" } = args;
  const files = [context.file, ...(args.models ?? [])];
  const names = namesOf(files);
  const subjects = await subjectsOf(names, context);
  try {
    const fisherLike = operator === "ggn" || operator.startsWith("fisher");
    const found = await subnetworkLink(data, subjects, {
      ...{ criteria: criteriaOf(args), keep, k, exchange, correction, level, permutations, seed },
      ...(fisherLike && { operator: (at: Model) => makeOperator(at, data, args) }),
      ...{ ...runOptions(args), ...call },
    });
    const { columns, rows, correlations } = found;
    const cells: Columns<Link["rows"][number]> = [
      ["network", ({ network }) => network, String],
      ["layer", ({ layer }) => layer, String],
      ...columns.map(({ name }, c): Columns<Link["rows"][number]>[number] => [
        name,
        ({ values }) => values[c],
        number,
      ]),
    ];
    const { warnings, seconds: _, ...json } = found;
    return {
      json: { networks: names.map((name, i) => ({ name, file: files[i]! })), ...json },
      human: () => printLink(found),
      files: {
        "layers.csv": csvOf(cells, rows),
        "correlations.csv": csvOf(correlationColumns, correlations),
      },
      figures: { layers: linkFigure(found), correlations: correlationFigure(found) },
      warnings,
    };
  } finally {
    for (const { model } of subjects.slice(1)) model.dispose();
  }
}

export const PARTS = { curvature, breaking, course, link } satisfies Record<string, Part>;
export type PartName = keyof typeof PARTS;
