/** What commands that analyse an operator share: subject, progress, artefacts and output. */
import { constants } from "node:fs";
import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { type NpyValues, writeNpy } from "../data/npy";
import { replaceFile } from "../data/replace-file";
import { OptionError } from "../errors";
import type { Figure } from "../figures/figure";
import { figureToSvg } from "../figures/svg";
import { figureToVega } from "../figures/vega";
import type { LinearOperator, OperatorReport } from "../linear-operator";
import type { Model } from "../model/model";
import { chosenModes } from "../model/modes";
import type { Globals, SubjectArguments } from "./arguments";
import { count, duration, ProgressLine, print, printJson, size, toJson, warn } from "./output";
import { makeOperator, openData, openModel } from "./subject";

/** Model, data and operator of a command line. */
export interface Subject {
  model: Model;
  data: DataSet;
  operator: LinearOperator;
}

/** An array among the artefacts: NAME.npy in the folder of --out. */
export interface Artefact {
  values: NpyValues;
  /** Default: its length. */
  shape?: readonly number[];
}

/** What an analysis found, in all forms in which it is shown. */
export interface Findings {
  /** Fields of the JSON document, beside those that every analysis has. */
  json: object;
  /** Prints the findings for people, below the line that names the operator. */
  human: () => void;
  arrays?: Record<string, Artefact>;
  /** Other files, by name, such as a table in CSV. */
  files?: Record<string, string>;
  /** Pictures, by name: NAME.svg, and NAME.vl.json in which Vega-Lite says how it is drawn. */
  figures?: Record<string, Figure>;
  /** Products with single vectors, where they were counted. */
  products?: number;
  warnings?: readonly string[];
  /** Why the result fell short of what was asked for: exit code 4. */
  notConverged?: string | undefined;
}

export interface AnalysisArguments extends SubjectArguments {
  out?: string;
}

/** Where the operator of an analysis comes from, and what it is called. */
export interface OperatorSource {
  kind: string;
  make: (
    model: Model,
    data: DataSet,
    call: CallOptions,
  ) => LinearOperator | Promise<LinearOperator>;
}

/** The operator that the options of the group "operator" name. */
function named(args: SubjectArguments): OperatorSource {
  const { operator: kind = "hessian" } = args;
  return { kind, make: (model, data) => makeOperator(model, data, args) };
}

/**
 * Opens the subject, runs `compute` under a progress line, writes the artefacts and prints. The
 * folder of --out gets result.json, the document of --json, and the arrays.
 *
 * @returns the exit code: 0, or 4 where the findings say so
 */
export async function analyse(
  command: string,
  file: string,
  args: AnalysisArguments,
  { signal, json }: Globals,
  compute: (subject: Subject, call: CallOptions) => Promise<Findings>,
  { kind, make }: OperatorSource = named(args),
): Promise<number> {
  const begin = performance.now();
  await prepareFolder(args.out);
  using model = await openModel(file, args);
  const data = await openData(args, signal);
  const { precision = "float32" } = args;
  const line = new ProgressLine(`${command} of ${kind}`);
  try {
    const call = { signal, onProgress: line.onProgress };
    using operator = await make(model, data, call);
    const found = await compute({ model, data, operator }, call);
    const reports: OperatorReport[] = await operator.report({ signal });
    const [report] = reports;
    const seconds = (performance.now() - begin) / 1000;
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    const warnings = [
      ...new Set([...model.warnings, ...(report?.warnings ?? []), ...(found.warnings ?? [])]),
    ];
    const modes = chosenModes(model);
    const document = {
      operator: kind,
      precision,
      ...found.json,
      ...(found.products !== undefined && { products: found.products }),
      ...(found.notConverged !== undefined && { reason: found.notConverged }),
      parameterCount: operator.dim,
      samples: data.samples,
      split: report?.split,
      batch: report?.batch,
      // Part of what was computed, where they were chosen.
      ...(modes.length > 0 && { modes: model.modes }),
      threads: report?.threads,
      peakBytes,
      seconds,
      warnings,
    };
    if (args.out !== undefined) await writeArtefacts(args.out, document, found, signal);
    line.end();
    if (json) printJson(document);
    else {
      print(
        `${kind} of ${file}: ${count(operator.dim)} parameters, ` +
          `${count(data.samples)} samples, ${precision}`,
      );
      for (const text of modes) print(text);
      if (report) print(`The Gauss-Newton split lies ${report.split}.\n`);
      found.human();
      const products = found.products === undefined ? "" : `${count(found.products)} products, `;
      print(
        `\n${products}${duration(seconds)}, ${size(peakBytes)} at most` +
          `${args.out === undefined ? "" : `; written to ${args.out}`}`,
      );
      warn(warnings);
      if (found.notConverged !== undefined)
        process.stderr.write(`not converged: ${found.notConverged}\n`);
    }
    return found.notConverged === undefined ? 0 : 4;
  } finally {
    line.end();
  }
}

/** Makes the folder of --out early, before hours of work. */
export async function prepareFolder(folder: string | undefined): Promise<void> {
  if (folder === undefined) return;
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (cause) {
    throw new OptionError(
      `--out: expected a folder that can be written to, got ${folder}: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Writes result.json, arrays, figures and files. */
export async function writeArtefacts(
  folder: string,
  document: object,
  { arrays = {}, files = {}, figures = {} }: Findings,
  signal: AbortSignal,
): Promise<void> {
  for (const [name, { values, shape }] of Object.entries(arrays))
    await writeNpy(join(folder, `${name}.npy`), values, shape, signal);
  const texts: Record<string, string> = { ...files, "result.json": `${toJson(document)}\n` };
  for (const [name, figure] of Object.entries(figures)) {
    texts[`${name}.svg`] = await figureToSvg(figure);
    texts[`${name}.vl.json`] = `${JSON.stringify(figureToVega(figure), null, 1)}\n`;
  }
  for (const [name, text] of Object.entries(texts))
    await replaceFile(join(folder, name), async (handle) => {
      await handle.writeFile(text);
    });
}
