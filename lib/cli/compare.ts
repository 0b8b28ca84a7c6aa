/** eigenscope compare: several networks on one data set, a row each. */
import { join } from "node:path";
import {
  type ComparedCell,
  type ComparedColumn,
  type ComparedOperator,
  type ComparedRow,
  type Comparison,
  compare,
} from "../compare";
import type { Figure, Series } from "../figures/figure";
import type { Model } from "../model/model";
import { type Findings, prepareFolder, writeArtefacts } from "./analysis";
import type {
  DataArguments,
  Globals,
  LossArguments,
  ModelArguments,
  RunArguments,
} from "./arguments";
import { count, duration, ProgressLine, print, printJson, table, warn } from "./output";
import { openData, openModel, runOptions } from "./subject";

interface CompareArguments extends DataArguments, LossArguments, ModelArguments, RunArguments {
  files?: string[];
  operators?: ComparedOperator[];
  k?: number;
  maxExact?: number;
  tol?: number;
  probes?: number;
  out?: string;
}

export async function run(
  file: string,
  args: CompareArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { files = [], out, operators, k, maxExact, tol, probes, seed } = args;
  await prepareFolder(out);
  const line = new ProgressLine("compare");
  const models: Model[] = [];
  try {
    for (const each of [file, ...files]) models.push(await openModel(each, args));
    using data = await openData(args, signal);
    const { precision, threads, maxMemory } = runOptions(args);
    const names = namesOf([file, ...files]);
    const found = await compare(
      models.map((model, i) => ({ name: names[i]!, model })),
      data,
      {
        ...{ operators, k, maxExact, tol, probes, seed, precision, threads, maxMemory, signal },
        target: args.targetName,
        resume: out && join(out, "rows"),
        onProgress: line.onProgress,
      },
    );
    const seconds = (performance.now() - begin) / 1000;
    const warnings = models.flatMap((model, i) =>
      model.warnings.map((text) => `${names[i]}: ${text}`),
    );
    const document = { ...found, samples: data.samples, seconds, warnings };
    const findings = findingsOf(found);
    if (out !== undefined) await writeArtefacts(out, document, findings, signal);
    line.end();
    if (json) printJson(document);
    else {
      print(`${models.length} networks on ${count(data.samples)} samples\n`);
      findings.human();
      const reused = found.rows.filter((row) => row.reused).length;
      const there = reused > 0 ? `, ${reused} of ${models.length} networks were there` : "";
      print(`\n${duration(seconds)}${there}${out === undefined ? "" : `; written to ${out}`}`);
      warn(warnings);
    }
    return 0;
  } finally {
    line.end();
    for (const model of models) model.dispose();
  }
}

/** Short names that differ: what paths do not share at their ends. */
export function namesOf(paths: readonly string[]): string[] {
  const parts = paths.map((path) => path.replace(/\.onnx$/, "").split(/[\\/]/));
  const last = (length: number) => parts.map((part) => part.slice(-length).join("/"));
  const longest = Math.max(...parts.map(({ length }) => length));
  for (let length = 1; length < longest; length++)
    if (new Set(last(length)).size === paths.length) return last(length);
  // The same file twice is refused by name.
  return last(longest);
}

const numberText = (x: number) =>
  Number.isInteger(x) && Math.abs(x) < 1e9 ? count(x) : x.toPrecision(4);

/** Of columns that are shares. */
const SHARES = /accuracy|redundancy|topMass/;

function cellText(cell: ComparedCell | undefined, key: string): string {
  if (!cell) return "";
  if ("failed" in cell) return "-";
  const [factor, unit] = SHARES.test(key) ? [100, " %"] : [1, ""];
  const { value, error, how } = cell;
  if (how === "estimated" && error !== undefined && error > 0)
    return withError(factor * value, factor * error) + unit;
  const text = unit ? (factor * value).toFixed(1) : numberText(value);
  return `${how === "exact" ? "" : "~"}${text}${unit}`;
}

/** 34.8 +- 0.4: the error to one digit, and the value as far as that is known. */
export function withError(value: number, error: number): string {
  const digits = Math.min(12, Math.max(0, -Math.floor(Math.log10(error))));
  const round = (x: number) => {
    const step = 10 ** Math.max(0, Math.floor(Math.log10(error)));
    return digits > 0 ? x.toFixed(digits) : count(Math.round(x / step) * step);
  };
  return `${round(value)} +- ${round(error)}`;
}

function printRows(
  title: string,
  columns: readonly ComparedColumn[],
  rows: readonly ComparedRow[],
): void {
  // A column that no network has is left out; its reasons are below.
  const shown = columns.filter(({ key }) =>
    rows.some(({ cells }) => cells[key] && !("failed" in cells[key])),
  );
  if (title !== "") print(`\n${title}`);
  const head = ["network", ...shown.map(({ text }) => text)];
  const body = rows.map(({ name, cells }) => [
    name,
    ...shown.map(({ key }) => cellText(cells[key], key)),
  ]);
  for (const text of table(head, body)) print(text);
}

function printReasons({ columns, rows }: Comparison): void {
  const lines = rows.flatMap(({ name, cells }) => {
    const whys = new Map<string, string[]>();
    for (const { key } of columns) {
      const cell = cells[key];
      if (!cell || !("failed" in cell)) continue;
      whys.set(cell.failed, [...(whys.get(cell.failed) ?? []), key]);
    }
    return [...whys].map(([why, keys]) => {
      const text = keys.length > 2 ? `${keys[0]} to ${keys.at(-1)}` : keys.join(", ");
      return `  ${name}: ${text}: ${why}`;
    });
  });
  if (lines.length === 0) return;
  print("\nWithout a number (-):");
  for (const text of lines) print(text);
}

function operatorsOf({ columns }: Comparison): ComparedOperator[] {
  return [...new Set(columns.flatMap(({ operator }) => operator ?? []))];
}

function findingsOf(found: Comparison): Findings {
  const { columns, rows } = found;
  const operators = operatorsOf(found);
  return {
    json: found,
    files: { "comparison.csv": csv(found) },
    figures: Object.fromEntries(
      operators.flatMap((operator) => {
        const bars = redundancyFigure(found, operator);
        return [
          [`spectra-${operator}`, spectraFigure(found, operator)] as const,
          ...(bars ? [[`redundancy-${operator}`, bars] as const] : []),
        ];
      }),
    ),
    human: () => {
      printRows(
        "",
        columns.filter(({ operator }) => !operator),
        rows,
      );
      for (const operator of operators)
        printRows(
          operator,
          columns.filter((column) => column.operator === operator),
          rows,
        );
      if (
        rows.some(({ cells }) =>
          Object.values(cells).some((c) => "how" in c && c.how === "estimated"),
        )
      )
        print(
          "\n+-: estimated, with the half of a 95 % interval; estimated ranks count eigenvalues above\n" +
            "a tolerance, which those from whole spectra do not need.",
        );
      printReasons(found);
    },
  };
}

const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;

/** A column for each number, for its error and for how it came about. */
function csv({ columns, rows }: Comparison): string {
  const head = [
    "name",
    "source",
    ...columns.flatMap(({ key }) => [key, `${key}.error`, `${key}.how`]),
  ];
  const body = rows.map(({ name, source, cells }) => [
    ...[quoted(name), quoted(source)],
    ...columns.flatMap(({ key }) => {
      const cell = cells[key]!;
      return "failed" in cell
        ? ["", "", quoted(`failed: ${cell.failed}`)]
        : [cell.value, cell.error ?? "", cell.how];
    }),
  ]);
  return `${[head, ...body].map((row) => row.join(",")).join("\n")}\n`;
}

function spectraFigure({ rows }: Comparison, operator: ComparedOperator): Figure {
  const marks: Series[] = [];
  for (const { name, spectra } of rows) {
    const spectrum = spectra[operator];
    if (!spectrum) continue;
    const sizes = spectrum.values
      .map(Math.abs)
      .filter((x) => x > 1e-16 * Math.abs(spectrum.values[0]!));
    marks.push({
      kind: spectrum.complete ? "line" : "dots",
      name,
      x: sizes.map((_, i) => i + 1),
      y: sizes,
    });
  }
  const partial = marks.some(({ kind }) => kind === "dots");
  return {
    title: `Eigenvalues of the ${operator} by magnitude`,
    caption: partial ? "Lines: all eigenvalues; points: the leading ones" : undefined,
    x: { label: "index", scale: "log" },
    y: { label: "|eigenvalue|", scale: "log" },
    marks,
  };
}

function redundancyFigure({ rows }: Comparison, operator: ComparedOperator): Figure | undefined {
  const known = rows.flatMap(({ name, cells }) => {
    const cell = cells[`${operator}.redundancy`];
    return cell && !("failed" in cell) ? [{ name, ...cell }] : [];
  });
  if (known.length === 0) return undefined;
  const errors = known.some(({ error }) => error !== undefined);
  return {
    title: `Redundancy of the ${operator}`,
    caption: "1 - rank / parameters; estimated ranks count eigenvalues above a tolerance",
    x: { label: "network", categories: known.map(({ name }) => name) },
    y: { label: "redundancy", domain: [0, 1] },
    marks: [
      {
        kind: "bars",
        x: known.map(({ name }) => name),
        y: known.map(({ value }) => value),
        ...(errors && {
          low: known.map(({ value, error = 0 }) => Math.max(0, value - error)),
          high: known.map(({ value, error = 0 }) => Math.min(1, value + error)),
        }),
      },
    ],
  };
}
