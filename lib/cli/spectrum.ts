/** eigenscope spectrum: eigenvalues at an end of an operator's spectrum. */

import { writeNpy } from "../data/npy";
import { OptionError } from "../errors";
import { type EigshOptions, eigsh } from "../spectra";
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
import { estimateTrace, type TraceEstimate } from "./trace";

interface SpectrumArguments extends SubjectArguments {
  k?: number;
  which?: NonNullable<EigshOptions["which"]>;
  tol?: number;
  method?: NonNullable<EigshOptions["method"]>;
  maxProducts?: number;
  blockSize?: number;
  trace?: number;
  vectors?: string;
}

export async function run(
  file: string,
  args: SpectrumArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  await checkWritable("--vectors", args.vectors);
  using model = await openModel(file, args);
  const data = await openData(args, signal);
  using operator = makeOperator(model, data, args);
  const { operator: kind = "hessian", precision = "float32", which = "LM" } = args;
  const P = operator.dim;
  if (args.k !== undefined && args.k > P)
    throw new OptionError(`--k: expected 1 to ${P}, the number of parameters, got ${args.k}`);
  const k = args.k ?? Math.min(10, P);

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
    if (json)
      printJson({
        operator: kind,
        precision,
        which,
        method: top.method,
        k,
        tol: top.tol,
        values: top.values,
        residuals: top.residuals,
        converged: top.converged,
        ...(!top.converged && { reason: top.reason }),
        products: top.products,
        restarts: top.restarts,
        ...(trace && { trace }),
        parameterCount: P,
        split: report!.split,
        batch: report!.batch,
        threads: report!.threads,
        peakBytes,
        seconds,
        warnings,
      });
    else {
      print(
        `${kind} of ${file}: ${count(P)} parameters, ` +
          `${count(data.samples)} samples, ${precision}`,
      );
      print(`The Gauss-Newton split lies ${report!.split}.\n`);
      const head = ["", "eigenvalue", "residual", ...(trace ? ["share of trace"] : [])];
      const rows = Array.from(top.values, (value, i) => [
        i + 1,
        short(value),
        top.residuals[i]!.toExponential(1),
        ...(trace ? [`${((100 * value) / trace.value).toFixed(1)} %`] : []),
      ]);
      for (const text of table(head, rows)) print(text);
      print();
      if (trace) printTrace(trace);
      print(
        `${count(top.products)} products by ${top.method}, ${duration(seconds)}, ` +
          `${size(peakBytes)} at most${args.vectors === undefined ? "" : `; vectors in ${args.vectors}`}`,
      );
      warn(warnings);
      if (!top.converged) process.stderr.write(`not converged: ${top.reason}\n`);
    }
    return top.converged ? 0 : 4;

    async function traceOf(): Promise<TraceEstimate | undefined> {
      if (top.values.length === P)
        return { value: top.values.reduce((sum, x) => sum + x, 0), standardError: 0, products: 0 };
      if (args.trace === undefined) return undefined;
      return estimateTrace(operator, top, args.trace, args.seed ?? 0n, { signal });
    }
  } finally {
    line.end();
  }
}

function printTrace({ value, standardError, products }: TraceEstimate): void {
  print(
    products === 0
      ? `trace ${short(value)}: all eigenvalues are known`
      : `trace ${short(value)}, standard error ${short(standardError)}, from ${products} random products`,
  );
}
