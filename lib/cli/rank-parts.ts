/** eigenscope rank --parts: measured and predicted ranks of H, H_o and H_f, of one or several. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import type { CallOptions } from "../call";
import { listCheckpoints, loadCheckpoint } from "../checkpoints";
import { OptionError } from "../errors";
import type { Figure } from "../figures/figure";
import type { Model } from "../model/model";
import {
  type RankCase,
  type RankParts,
  type RankPartsOptions,
  type RankSweepRow,
  rankParts,
  rankSweep,
} from "../rank/parts";
import type { HessianPart, RankPrediction } from "../rank/predict";
import type { Findings, Subject } from "./analysis";
import type { SubjectArguments } from "./arguments";
import { count, print, table } from "./output";
import { openModel } from "./subject";

export interface RankPartsArguments extends SubjectArguments {
  tol?: number;
  along?: string[];
  models?: string[];
  generic?: boolean;
}

const PARTS: readonly (readonly [HessianPart, string])[] = [
  ["hessian", "H"],
  ["ggn", "H_o (ggn)"],
  ["functional", "H_f"],
];

export async function partsOf(
  { model, data }: Subject,
  file: string,
  args: RankPartsArguments,
  call: CallOptions,
): Promise<Findings> {
  const { tol, seed, threads, batch, maxMemory, generic } = args;
  const options: RankPartsOptions = { tol, seed, threads, batch, maxMemory, generic, ...call };
  const others: Model[] = [];
  try {
    const cases: RankCase[] = [];
    for (const path of args.models ?? []) {
      const other = await openModel(path, args);
      others.push(other);
      cases.push({ name: basename(path), at: other });
    }
    cases.push(...(await checkpointsOf(model, args.along ?? [], call)));
    if (cases.length === 0) return one(await rankParts(model, data, options));
    const first = args.models ? [{ name: basename(file), at: model }] : [];
    return several(
      await rankSweep(model, data, [...first, ...cases], options),
      args.along ? "checkpoint" : "model",
    );
  } finally {
    for (const other of others) other.dispose();
  }
}

/** The checkpoints in files and folders, in order. */
async function checkpointsOf(
  model: Model,
  paths: readonly string[],
  call: CallOptions,
): Promise<RankCase[]> {
  const cases: RankCase[] = [];
  for (const path of paths) {
    const there = await stat(path).catch((cause: Error) => {
      throw new OptionError(
        `--along: expected a folder or a checkpoint, got ${path}: ${cause.message}`,
        {
          cause,
        },
      );
    });
    const files = there.isDirectory()
      ? (await listCheckpoints(path)).map(({ file, step }) => ({
          file,
          name: `${step}`,
        }))
      : [{ file: path, name: basename(path) }];
    for (const { file, name } of files)
      cases.push({ name, at: await loadCheckpoint(model, file, { signal: call.signal }) });
    if (files.length === 0)
      throw new OptionError(
        `--along: expected checkpoints with a number in their names in ${path}, and there are none`,
      );
  }
  return cases;
}

/** Without all eigenvalues, which are among the arrays. */
function plain({ prediction, seconds: _, products: __, ...parts }: RankParts): object {
  const ranks = PARTS.map(([part]) => {
    const { magnitudes: ___, ...rank } = parts[part];
    return [part, rank];
  });
  return { ...parts, ...Object.fromEntries(ranks), prediction: prediction ?? null };
}

function one(found: RankParts): Findings {
  const { prediction, products } = found;
  return {
    json: plain(found),
    products,
    arrays: Object.fromEntries(
      PARTS.map(([part]) => [`magnitudes-${part}`, { values: found[part].magnitudes }]),
    ),
    figures: { spectra: spectraFigure(found) },
    warnings: uncertain("", found),
    human: () => {
      const rows = PARTS.map(([part, name]) => {
        const { rank, redundancy, certain } = found[part];
        const { rank: wanted, method = "none", formula = "" } = prediction?.[part] ?? {};
        return [
          ...[name, count(rank), wanted === undefined ? "-" : count(wanted), method],
          ...[redundancy.toFixed(3), certain ? "yes" : "no", formula],
        ];
      });
      const head = ["", "rank", "predicted", "how", "redundancy", "certain", "formula"];
      for (const line of table(head, rows)) print(line);
      if (prediction) for (const line of words(prediction)) print(line);
    },
  };
}

/** What a prediction rests on, for people. */
function words(prediction: RankPrediction): string[] {
  const { form, reason, widths, biased, activation, data, outputs, residual, gramBound } =
    prediction;
  if (form === "other") return [`\nNo prediction: ${reason}.`];
  const of = [widths?.join("-"), activation, biased ? "with biases" : "without biases"];
  const lines = [
    `\n${form}: ${of.filter(Boolean).join(", ")}`,
    `inputs of rank r = ${data.rank} of ${data.dimension}, ${outputs.count} outputs with K' = ` +
      `${outputs.curvatureRank}, residuals of rank s = ${residual.rank} of ${residual.generic}, ` +
      `n K' = ${count(gramBound)}`,
  ];
  if (reason) lines.push(`${reason}.`);
  for (const { what, holds } of prediction.conditions)
    lines.push(holds ? `holds: ${what}` : `does not hold: ${what}`);
  return lines;
}

function several(rows: readonly RankSweepRow[], what: string): Findings {
  const cell = (row: RankSweepRow, part: HessianPart) => {
    const { rank, predicted } = row[part];
    return `${count(rank)} (${predicted === undefined ? "-" : count(predicted)})`;
  };
  return {
    json: { rows: rows.map((row) => ({ name: row.name, ...plain(row) })) },
    products: rows.reduce((sum, { products }) => sum + products, 0),
    figures: { ranks: ranksFigure(rows, what), redundancy: redundancyFigure(rows, what) },
    files: { "ranks.csv": csvOf(rows) },
    warnings: rows.flatMap((row) => uncertain(`${row.name}: `, row)),
    human: () => {
      const head = [what, "parameters", ...PARTS.map(([, name]) => name), "redundancy of H"];
      const lines = rows.map((row) => [
        ...[row.name, count(row.parameters)],
        ...PARTS.map(([part]) => cell(row, part)),
        row.hessian.redundancy.toFixed(3),
      ]);
      for (const line of table(head, lines)) print(line);
      print("\nMeasured ranks, in brackets what is predicted.");
      const reasons = new Set(rows.flatMap(({ prediction }) => prediction?.reason || []));
      for (const reason of reasons) print(`Not in closed form: ${reason}.`);
    },
  };
}

function uncertain(where: string, found: RankParts): string[] {
  return PARTS.filter(([part]) => !found[part].certain).map(
    ([, name]) =>
      `${where}the rank of ${name} is not certain: eigenvalues that count are within 100 times the ` +
      "tolerance, where rounding and small eigenvalues look the same",
  );
}

function csvOf(rows: readonly RankSweepRow[]): string {
  const head = ["name", "parameters", ...PARTS.flatMap(([part]) => [part, `${part}-predicted`])];
  const lines = rows.map((row) => [
    JSON.stringify(row.name),
    row.parameters,
    ...PARTS.flatMap(([part]) => [row[part].rank, row[part].predicted ?? ""]),
  ]);
  return `${[head, ...lines].map((line) => line.join(",")).join("\n")}\n`;
}

function spectraFigure(found: RankParts): Figure {
  const largest = found.hessian.magnitudes[0] || 1;
  return {
    title: "Eigenvalues by magnitude",
    caption: "relative to the largest of H; those below 1e-20 of it are left out",
    x: { label: "position" },
    y: { label: "|lambda| / largest of H", scale: "log" },
    marks: PARTS.map(([part, name]) => {
      const seen = Array.from(found[part].magnitudes, (value) => value / largest).filter(
        (value) => value > 1e-20,
      );
      return { kind: "line", name, x: seen.map((_, i) => i + 1), y: seen };
    }),
  };
}

function ranksFigure(rows: readonly RankSweepRow[], what: string): Figure {
  const names = rows.map(({ name }) => name);
  const most = Math.max(...rows.map(({ parameters }) => parameters));
  return {
    title: "Ranks of the Hessian and its parts",
    caption: "dots: measured in float64; lines: predicted",
    x: { label: what, categories: names },
    y: { label: "rank", domain: [0, most] },
    marks: PARTS.flatMap(([part, name]) => {
      const predicted = rows.filter((row) => row[part].predicted !== undefined);
      const dots = { name, x: names, y: rows.map((row) => row[part].rank) };
      const line = {
        name,
        x: predicted.map((row) => row.name),
        y: predicted.map((row) => row[part].predicted!),
      };
      return [
        { kind: "dots" as const, ...dots },
        ...(predicted.length > 0 ? [{ kind: "line" as const, dashed: true, ...line }] : []),
      ];
    }),
  };
}

function redundancyFigure(rows: readonly RankSweepRow[], what: string): Figure {
  const names = rows.map(({ name }) => name);
  return {
    title: "Redundancy: 1 - rank / parameters",
    x: { label: what, categories: names },
    y: { label: "redundancy", domain: [0, 1] },
    marks: PARTS.map(([part, name]) => ({
      kind: "line",
      name,
      x: names,
      y: rows.map((row) => row[part].redundancy),
    })),
  };
}
