/** eigenscope trace: the trace of an operator, with an interval that holds it. */
import type { CallOptions } from "../call";
import type { LinearOperator } from "../linear-operator";
import type { Eigenpairs } from "../spectra";
import { type SampledNumber, type TraceOptions, trace } from "../trace";
import { type AnalysisArguments, analyse } from "./analysis";
import type { Globals } from "./arguments";
import { count, short } from "./output";
import { printPairs } from "./pairs";

/** Options of commands that sample. */
export interface SamplingArguments extends AnalysisArguments {
  tol?: number;
  standardError?: number;
  products?: number;
  maxProducts?: number;
  blockSize?: number;
}

interface TraceArguments extends SamplingArguments {
  method?: NonNullable<TraceOptions["method"]>;
}

export function samplingOf(args: SamplingArguments) {
  const { tol, standardError, products, maxProducts, blockSize, seed } = args;
  // The rest is for the operator's own products.
  const maxMemory = args.maxMemory && Math.floor(args.maxMemory / 4);
  return { tol, standardError, products, maxProducts, blockSize, seed, maxMemory };
}

export async function run(file: string, args: TraceArguments, globals: Globals): Promise<number> {
  return analyse("trace", file, args, globals, async ({ operator }, call) => {
    const { method } = args;
    const found = await trace(operator, { ...samplingOf(args), method, ...call });
    // `samples` are those of the data in every document.
    const { products, seconds, warnings, reason, samples: draws, ...json } = found;
    return {
      json: { ...json, draws },
      products,
      warnings,
      notConverged: found.converged ? undefined : reason,
      human: () => printPairs([["trace", short(found.value)], ...errorRows(found)]),
    };
  });
}

/** What is known of the error of a number. */
export function errorRows(found: SampledNumber): [string, string][] {
  const { value, standardError, interval, method, samples, scale } = found;
  if (method === "samples") return [["method", EXACT.samples]];
  const unit = scale > Math.abs(value) * (1 + 1e-9) ? "the Frobenius norm" : "it";
  const relative = scale === 0 ? "" : `, ${percent(standardError / scale)} of ${unit}`;
  return [
    ["standard error", `${standardError.toPrecision(2)}${relative}`],
    ["95 % interval", `${short(interval[0])} to ${short(interval[1])}`],
    ["method", method === "exact" ? EXACT.exact : `${method} with ${count(samples)} samples`],
  ];
}

export const EXACT = {
  exact: "exact, from unit vectors",
  samples: "exact, from rows of single samples",
} as const;

export function percent(share: number): string {
  const value = 100 * share;
  return `${Math.abs(value) >= 1e-3 || value === 0 ? Number(value.toPrecision(2)) : value.toExponential(0)} %`;
}

/** As `spectrum` prints and writes it. */
export interface SpectrumTrace {
  value: number;
  /** One standard deviation of the value. */
  standardError: number;
  interval: readonly [number, number];
  products: number;
}

/** The known eigenvalues plus Hutchinson's estimate of what is left; costs `probes` products. */
export async function traceBeside(
  operator: LinearOperator,
  top: Eigenpairs,
  probes: number,
  seed: bigint,
  options: CallOptions,
): Promise<SpectrumTrace> {
  const known = top.values.length > 0 ? top : undefined;
  const given = { method: "hutchinson", products: probes, known, seed, ...options } as const;
  const { value, standardError, interval, products } = await trace(operator, given);
  return { value, standardError, interval, products };
}
