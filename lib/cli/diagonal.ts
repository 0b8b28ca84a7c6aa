/** eigenscope diagonal: the diagonal of an operator, entry by entry and by tensor. */
import type { LinearOperator } from "../linear-operator";
import { type Diagonal, type DiagonalOptions, diagonal } from "../trace";
import { analyse } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { EXACT, percent, type SamplingArguments, samplingOf } from "./trace";

interface DiagonalArguments extends SamplingArguments {
  method?: NonNullable<DiagonalOptions["method"]>;
}

export async function run(
  file: string,
  args: DiagonalArguments,
  globals: Globals,
): Promise<number> {
  return analyse("diagonal", file, args, globals, async ({ operator }, call) => {
    const { method } = args;
    const found = await diagonal(operator, { ...samplingOf(args), method, ...call });
    const { values, standardErrors, products, seconds, warnings, reason, ...rest } = found;
    const { samples: draws, ...json } = rest;
    const tensors = byTensor(operator, found);
    const trace = values.reduce((sum, x) => sum + x, 0);
    return {
      json: { ...json, draws, trace, tensors },
      products,
      warnings,
      notConverged: found.converged ? undefined : reason,
      arrays: {
        diagonal: { values },
        "standard-error": { values: standardErrors },
      },
      human: () => printTensors(found, tensors, trace),
    };
  });
}

interface TensorDiagonal {
  name: string;
  size: number;
  sum: number;
  largest: number;
  /** Root mean square of the standard errors of its entries. */
  standardError: number;
}

function byTensor(
  { parameters = [], dim }: LinearOperator,
  { values, standardErrors }: Diagonal,
): TensorDiagonal[] {
  const segments = parameters.length > 0 ? parameters : [{ name: "all", offset: 0, size: dim }];
  return segments.map(({ name, offset, size }) => {
    let [sum, largest, squares] = [0, Number.NEGATIVE_INFINITY, 0];
    for (let i = offset; i < offset + size; i++) {
      sum += values[i]!;
      largest = Math.max(largest, values[i]!);
      squares += standardErrors[i]! ** 2;
    }
    return { name, size, sum, largest, standardError: Math.sqrt(squares / size) };
  });
}

function printTensors(found: Diagonal, tensors: readonly TensorDiagonal[], trace: number): void {
  const rows = tensors.map(({ name, size, sum, largest, standardError }) => [
    name,
    count(size),
    short(sum),
    trace === 0 ? "" : `${((100 * sum) / trace).toFixed(1)} %`,
    short(largest),
    standardError === 0 ? "0" : standardError.toExponential(1),
  ]);
  const head = ["tensor", "entries", "sum", "share of trace", "largest entry", "error an entry"];
  for (const line of table(head, rows)) print(line);
  const share = found.norm === 0 ? "0 %" : percent(found.errorNorm / found.norm);
  const how =
    found.method === "exact" || found.method === "samples"
      ? EXACT[found.method]
      : `errors are ${share} of the diagonal in norm; ${found.method} with ` +
        `${count(found.samples)} samples`;
  print(`\nsum ${short(trace)}; ${how}`);
}
