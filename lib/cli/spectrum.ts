/** eigenscope spectrum: eigenvalues at an end of an operator's spectrum. */

import { writeNpy } from "../data/npy";
import { DataMismatchError, OptionError } from "../errors";
import type { LinearOperator } from "../linear-operator";
import { chosenModes } from "../model/modes";
import type { Vectors } from "../native";
import { type EigenInterval, type Eigenpairs, type EigshOptions, eigsh } from "../spectra";
import { prepareFolder, writeArtefacts } from "./analysis";
import type { Globals, SubjectArguments } from "./arguments";
import {
  count,
  duration,
  ProgressLine,
  print,
  printJson,
  short,
  size,
  table,
  warn,
} from "./output";
import { checkWritable, makeOperator, openData, openModel } from "./subject";
import { type SpectrumTrace, traceBeside } from "./trace";
import { readVectors } from "./vectors";

interface SpectrumArguments extends SubjectArguments {
  k?: number;
  which?: NonNullable<EigshOptions["which"]>;
  tol?: number;
  method?: NonNullable<EigshOptions["method"]>;
  maxProducts?: number;
  blockSize?: number;
  trace?: number;
  vectors?: string;
  sigma?: number;
  interval?: [number, number];
  start?: string;
  deflate?: string;
  checkpoint?: string;
  resume?: string;
  out?: string;
}

export async function run(
  file: string,
  args: SpectrumArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  await checkWritable("--vectors", args.vectors);
  await checkWritable("--checkpoint", args.checkpoint);
  await prepareFolder(args.out);
  using model = await openModel(file, args);
  const data = await openData(args, signal);
  using operator = makeOperator(model, data, args);
  const { operator: kind = "hessian", precision = "float32", which } = args;
  const inside = args.sigma !== undefined || args.interval !== undefined;
  const P = operator.dim;
  if (args.k !== undefined && args.k > P)
    throw new OptionError(`--k: expected 1 to ${P}, the number of parameters, got ${args.k}`);
  const k = args.k ?? Math.min(args.interval ? 50 : 10, P);
  const start = await vectorsOf("--start", args.start, operator, signal);
  const deflate = await vectorsOf("--deflate", args.deflate, operator, signal);

  const line = new ProgressLine(kind, args.tol || (precision === "float32" ? 1e-5 : 1e-9));
  try {
    const top = await eigsh(operator, {
      k,
      which,
      tol: args.tol,
      method: args.method,
      maxProducts: args.maxProducts,
      blockSize: args.blockSize,
      seed: args.seed,
      sigma: args.sigma,
      interval: args.interval,
      start,
      deflate,
      checkpoint: args.checkpoint,
      resume: args.resume,
      signal,
      onProgress: line.onProgress,
    });
    const trace = await traceOf();
    if (args.vectors !== undefined)
      await writeNpy(args.vectors, top.vectors, [top.values.length, P], signal);
    const [report] = await operator.report();
    line.end();

    const seconds = (performance.now() - begin) / 1000;
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    const warnings = [...new Set([...model.warnings, ...report!.warnings, ...top.warnings])];
    const document = {
      operator: kind,
      precision,
      ...(inside ? {} : { which: which ?? "LM" }),
      ...(args.sigma !== undefined && { sigma: args.sigma }),
      ...(args.interval && { interval: args.interval }),
      method: top.method,
      k: top.values.length,
      tol: top.tol,
      values: top.values,
      residuals: top.residuals,
      intervals: top.intervals,
      missed: { probability: top.missed.probability ?? null, how: top.missed.how },
      ...(top.count && { count: top.count }),
      ...(deflate && { coupling: top.coupling }),
      converged: top.converged,
      ...(!top.converged && { reason: top.reason }),
      products: top.products,
      restarts: top.restarts,
      ...(trace && { trace }),
      parameterCount: P,
      split: report!.split,
      ...(chosenModes(model).length > 0 && { modes: model.modes }),
      batch: report!.batch,
      threads: report!.threads,
      peakBytes,
      seconds,
      warnings,
    };
    if (args.out !== undefined) {
      const vectors = { values: top.vectors, shape: [top.values.length, P] };
      const arrays = {
        values: { values: top.values },
        residuals: { values: top.residuals },
        vectors,
      };
      await writeArtefacts(args.out, document, { json: {}, human: () => {}, arrays }, signal);
    }
    if (json) printJson(document);
    else {
      print(
        `${kind} of ${file}: ${count(P)} parameters, ` +
          `${count(data.samples)} samples, ${precision}`,
      );
      for (const text of chosenModes(model)) print(text);
      print(`The Gauss-Newton split lies ${report!.split}.\n`);
      const head = ["", "eigenvalue", "+-", "residual", ...(trace ? ["share of trace"] : [])];
      const rows = Array.from(top.values, (value, i) => [
        i + 1,
        short(value),
        halfWidth(top.intervals[i]!),
        top.residuals[i]!.toExponential(1),
        ...(trace ? [`${((100 * value) / trace.value).toFixed(1)} %`] : []),
      ]);
      if (rows.length === 0) print("no eigenvalues");
      else for (const text of table(head, rows)) print(text);
      print();
      printFound(top);
      if (trace) printTrace(trace);
      print(
        `${count(top.products)} products by ${top.method}, ${duration(seconds)}, ` +
          `${size(peakBytes)} at most${args.vectors === undefined ? "" : `; vectors in ${args.vectors}`}` +
          `${args.out === undefined ? "" : `; written to ${args.out}`}`,
      );
      warn(warnings);
      if (!top.converged) process.stderr.write(`not converged: ${top.reason}\n`);
    }
    return top.converged ? 0 : 4;

    async function traceOf(): Promise<SpectrumTrace | undefined> {
      if (top.values.length === P) {
        const value = top.values.reduce((sum, x) => sum + x, 0);
        return { value, standardError: 0, interval: [value, value], products: 0 };
      }
      if (args.trace === undefined) return undefined;
      return traceBeside(operator, top, args.trace, args.seed ?? 0n, { signal });
    }
  } finally {
    line.end();
  }
}

/** Half the width of the interval that holds an eigenvalue, rounded up. */
function halfWidth({ low, high }: EigenInterval): string {
  const half = (high - low) / 2;
  if (half === 0) return "0";
  const unit = 10 ** (Math.floor(Math.log10(half)) - 1);
  return (Math.ceil(half / unit) * unit).toExponential(1);
}

/** How sure it is that nothing was missed. */
function printFound({ missed, count: found, values }: Eigenpairs): void {
  if (found?.exact) print(`all ${values.length} eigenvalues in the interval: ${missed.how}`);
  else if (found && found.probes > 0)
    print(
      `${values.length} found; a stochastic count says ${found.estimate.toFixed(1)}, ` +
        `standard error ${found.standardError.toFixed(1)}, from ${found.probes} probes`,
    );
  const { probability } = missed;
  if (probability !== undefined && probability > 0)
    print(`chance that one was missed: at most about ${probability.toExponential(0)}`);
}

/** The vectors of --start or --deflate. */
async function vectorsOf(
  option: string,
  path: string | undefined,
  { dim, dtype }: LinearOperator,
  signal: AbortSignal,
): Promise<Vectors | undefined> {
  if (path === undefined) return undefined;
  const { shape, data } = await readVectors(path, dtype, signal);
  if (shape.at(-1) !== dim || shape.length > 2)
    throw new DataMismatchError(
      `${option}: ${path}: expected vectors of shape (M, ${dim}), got (${shape.join(", ")})`,
    );
  return data;
}

function printTrace({ value, standardError, products }: SpectrumTrace): void {
  print(
    products === 0
      ? `trace ${short(value)}: all eigenvalues are known`
      : `trace ${short(value)}, standard error ${short(standardError)}, from ${products} random products`,
  );
}
