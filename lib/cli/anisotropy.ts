/** eigenscope anisotropy: how uneven an operator's spectrum is. */
import {
  type Anisotropy,
  type AnisotropyOptions,
  anisotropy,
  type ExactAnisotropy,
  type GroupAnisotropy,
} from "../anisotropy/anisotropy";
import type { EstimatedMeasures, Uncertain } from "../anisotropy/estimated";
import type { CallOptions } from "../call";
import { samplesByClass, selectSamples } from "../data/select";
import { OptionError } from "../errors";
import { type AnalysisArguments, analyse, type Findings, type Subject } from "./analysis";
import type { Globals } from "./arguments";
import { type Cell, count, print, short, table } from "./output";
import { printPairs } from "./pairs";
import { makeOperator } from "./subject";

interface AnisotropyArguments extends AnalysisArguments {
  exact?: boolean;
  estimate?: boolean;
  by?: "tensor" | "layer" | "unit" | "class";
  k?: number;
  probes?: number;
}

/** One row of the table of groups; the whole operator is a single one without a name. */
type Row = Anisotropy & { name?: string; share?: number; samples?: number };

export function run(file: string, args: AnisotropyArguments, globals: Globals): Promise<number> {
  if (args.exact && args.estimate)
    throw new OptionError("--exact, --estimate: expected one of them, got both");
  return analyse("anisotropy", file, args, globals, async (subject, call) => {
    const options = optionsOf(args);
    const { by } = args;
    if (by === undefined) {
      const found = await anisotropy(subject.operator, { ...options, ...call });
      return findings([found], found, () => printOne(found));
    }
    const rows: Row[] =
      by === "class"
        ? await byClass(subject, args, options, call)
        : await anisotropy(subject.operator, {
            ...options,
            ...call,
            by,
            parameters: subject.model.parameters,
          });
    return findings(rows, { by, groups: rows.map(withoutValues) }, () => printGroups(by, rows));
  });
}

function optionsOf(args: AnisotropyArguments): AnisotropyOptions {
  const { operator = "hessian", k, probes, seed, exact, estimate } = args;
  const negative = [args.classWeights, args.posWeight].flat().some((w) => (w ?? 0) < 0);
  return {
    method: exact ? "exact" : estimate ? "estimate" : "auto",
    k,
    probes,
    seed,
    // Sums of squares; Gauss-Newton matrices too, as all losses that have one are convex.
    definite: operator.startsWith("fisher") || (operator === "ggn" && !negative) || undefined,
  };
}

/** The operator of each class's samples alone. */
async function byClass(
  { model, data }: Subject,
  args: AnisotropyArguments,
  options: AnisotropyOptions,
  { signal, onProgress }: CallOptions,
): Promise<Row[]> {
  const classes = await samplesByClass(data, { target: args.targetName, signal });
  const rows: Row[] = [];
  let products = 0;
  const begin = performance.now();
  for (const [label, indices] of classes) {
    using part = await selectSamples(data, indices, { target: args.targetName, signal });
    using operator = makeOperator(model, part, args);
    const found = await anisotropy(operator, { ...options, signal });
    rows.push({ ...found, name: String(label), samples: indices.length });
    products += found.products;
    const seconds = (performance.now() - begin) / 1000;
    onProgress?.({ products, fraction: rows.length / classes.size, seconds });
  }
  return rows;
}

function withoutValues(row: Row): object {
  if (row.source === "estimated") return row;
  const { values: _, ...rest } = row;
  return rest;
}

function findings(rows: Row[], json: object, human: () => void): Findings {
  const cut = rows.find((row) => row.source === "estimated" && !row.converged);
  const only = rows.length === 1 && rows[0]!.name === undefined ? rows[0] : undefined;
  return {
    json: only ? withoutValues(only) : json,
    human,
    // None where blocks came from rows of samples.
    products: rows.reduce((sum, row) => sum + row.products, 0) || undefined,
    files: only ? {} : { "groups.csv": csvOf(rows) },
    arrays: only?.source === "exact" ? { values: { values: only.values } } : {},
    warnings: rows.flatMap((row) => (row.source === "estimated" ? row.warnings : [])),
    notConverged: (cut as EstimatedMeasures | undefined)?.reason,
  };
}

const numberOf = (x: number | Uncertain) => (typeof x === "number" ? x : x.value);
const errorOf = (x: number | Uncertain) => (typeof x === "number" ? 0 : x.standardError);

/** The groups with the measures that both kinds have, each with its error. */
function csvOf(rows: readonly Row[]): string {
  const measures = ["participationRatio", "intrinsicDimension", "stableRank", "trace"] as const;
  const head = ["name", "size", "source", "absolute", "largest", "share"];
  const lines = rows.map((row) => [
    `"${row.name!.replaceAll('"', '""')}"`,
    row.dim,
    row.source,
    row.absolute,
    row.largest,
    row.share ?? "",
    ...measures.flatMap((name) => [numberOf(row[name]), errorOf(row[name])]),
  ]);
  const names = [...head, ...measures.flatMap((name) => [name, `${name}Error`])];
  return `${[names, ...lines].map((line) => line.join(",")).join("\n")}\n`;
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const oneOf = ({ value, standardError }: Uncertain) => `${short(value)} +- ${error(standardError)}`;
const error = (value: number) => value.toPrecision(2);

function printOne(found: Anisotropy): void {
  print(
    found.source === "exact"
      ? `exact, from all ${count(found.dim)} eigenvalues${found.absolute ? "; of |lambda|, as some are negative" : ""}\n`
      : `estimated, +- one standard error${found.absolute ? "; of |lambda|, as some are negative" : ""}\n`,
  );
  if (found.source === "exact") printExact(found);
  else
    printPairs([
      ["largest |lambda|", short(found.largest)],
      ["trace", oneOf(found.trace)],
      ...(found.absolute ? ([["sum |lambda|", oneOf(found.nuclear)]] as const) : []),
      ["Frobenius norm", oneOf(found.frobenius)],
      ["participation ratio", oneOf(found.participationRatio)],
      ["intrinsic dimension", oneOf(found.intrinsicDimension)],
      ["stable rank", oneOf(found.stableRank)],
      ["stable rank of its root", oneOf(found.stableRankOfRoot)],
      ...found.topMass.map(
        ({ k, share }) =>
          [
            `share of the top ${k}`,
            `${percent(share.value)} +- ${error(100 * share.standardError)}`,
          ] as const,
      ),
    ]);
}

function printExact(found: ExactAnisotropy): void {
  printPairs([
    ["largest |lambda|", short(found.largest)],
    ["trace", short(found.trace)],
    ...(found.absolute ? ([["sum |lambda|", short(found.nuclear)]] as const) : []),
    ["Frobenius norm", short(found.frobenius)],
    ["participation ratio", short(found.participationRatio)],
    ["effective rank (entropy)", short(found.effectiveRank)],
    ["normalised entropy", short(found.normalizedEntropy)],
    ["intrinsic dimension", short(found.intrinsicDimension)],
    ["stable rank", short(found.stableRank)],
    ["stable rank of its root", short(found.stableRankOfRoot)],
    [
      "condition",
      `${short(found.condition)} over ${count(found.rank)} eigenvalues above ${short(found.tolerance)}`,
    ],
    ["Gini", short(found.gini)],
    ...found.topMass.map(
      ({ k, share }) => [`share of the top ${k}`, percent(share)] as [string, string],
    ),
    ...found.countAbove.map(
      ({ tau, count: n }) => [`above ${tau} of the largest`, count(n)] as [string, string],
    ),
    ...found.effectiveDimension.map(
      ({ z, value }) => [`effective dimension, z ${short(z)}`, short(value)] as [string, string],
    ),
    ...found.outliers.map(
      ({ rule, count: n, gap }) =>
        [`outliers by ${rule}`, n === 0 ? "none" : `${n}, ${short(gap)} times the next`] as [
          string,
          string,
        ],
    ),
  ]);
  const { decay, tail } = found;
  if (!decay) return;
  const { power, exponential, better } = decay;
  const [from, to] = power.window;
  const wins = { power: "a power law", exponential: "an exponential", equal: "either" }[better];
  print(`\neigenvalues ${from} to ${to} decay rather as ${wins}`);
  const rows = [
    ["power law i^-s", `s ${short(power.rate)}`, power.r2.toFixed(4)],
    ["exponential exp(-b i)", `b ${short(exponential.rate)}`, exponential.r2.toFixed(4)],
  ];
  for (const line of table(["", "rate", "R^2"], rows)) print(line);
  if (tail)
    print(
      `tail l^-alpha: alpha ${short(tail.alpha)} +- ${error(tail.standardError)} over the ` +
        `${count(tail.count)} above ${short(tail.lmin)}, KS distance ${tail.ks.toFixed(3)}`,
    );
}

/** Rows of a table for people. */
const MOST_ROWS = 60;

function printGroups(by: string, rows: readonly Row[]): void {
  const shares = rows.every(({ share }) => share !== undefined);
  const head = [
    by,
    by === "class" ? "samples" : "size",
    "",
    "largest",
    ...(shares ? ["share"] : []),
  ];
  const measures = ["PR", "PR / size", "tr / l1", "stable rank"];
  const numbers = (row: Row): Cell[] => {
    const of = (name: "participationRatio" | "intrinsicDimension" | "stableRank") => {
      const text = numberOf(row[name]).toPrecision(4);
      return row.source === "exact" ? text : `${text} +- ${error(errorOf(row[name]))}`;
    };
    const relative = numberOf(row.participationRatio) / row.dim;
    return [
      of("participationRatio"),
      relative.toPrecision(3),
      of("intrinsicDimension"),
      of("stableRank"),
    ];
  };
  // Those that matter most, in their order, of a list that nobody would read.
  const least = shares ? [...rows].sort((a, b) => b.share! - a.share!)[MOST_ROWS - 1]?.share : 0;
  const shown = rows.filter(({ share }) => (share ?? 0) >= (least ?? 0)).slice(0, MOST_ROWS);
  const lines = table(
    [...head, ...measures],
    shown.map((row) => [
      row.name!,
      count(by === "class" ? row.samples! : row.dim),
      `${row.source}${row.absolute ? ", |lambda|" : ""}`,
      short(row.largest),
      ...(shares ? [percent((row as GroupAnisotropy).share)] : []),
      ...numbers(row),
    ]),
  );
  for (const line of lines) print(line);
  if (shown.length < rows.length)
    print(
      `and ${count(rows.length - shown.length)} of smaller share: --json and --out have all of them`,
    );
}
