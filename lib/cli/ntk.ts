/** eigenscope ntk: the kernel of a network over samples, and its spectrum. */
import { type GramOptions, ntk } from "../jacobian";
import { jacobianHolder } from "../operators";
import { type AnalysisArguments, analyse } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { runOptions } from "./subject";

interface NtkArguments extends Omit<AnalysisArguments, "operator"> {
  rows?: NonNullable<GramOptions["rows"]>;
  k?: number;
}

/** What the kernel is of, by the kind of its rows. */
const KINDS: Record<NonNullable<GramOptions["rows"]>, string> = {
  jacobian: "neural tangent kernel",
  ggn: "dual of the Gauss-Newton matrix",
  empirical: "dual of the empirical Fisher matrix",
};

export function run(file: string, args: NtkArguments, globals: Globals): Promise<number> {
  const { rows = "jacobian", k = 10 } = args;
  return analyse(
    "kernel",
    file,
    args,
    globals,
    async ({ model, data }, call) => {
      const gram = await ntk(model, data, { ...runOptions(args), ...call, rows });
      const { matrix, values, order, samples, perSample } = gram;
      const trace = values.reduce((sum, x) => sum + x, 0);
      const squares = values.reduce((sum, x) => sum + x * x, 0);
      const numerical = args.precision === "float64" ? rankOf(values) : undefined;
      return {
        json: {
          rows,
          order,
          perSample,
          trace,
          frobenius: Math.sqrt(squares),
          ...numerical,
          participationRatio: trace ** 2 / squares,
          values,
        },
        human: () => {
          print(
            `${KINDS[rows]}, order ${count(order)}: ${count(samples)} samples of ` +
              `${count(perSample)} ${perSample === 1 ? "row" : "rows"}\n`,
          );
          const shown = Array.from(values.subarray(0, k), (value, i) => [
            i + 1,
            short(value),
            `${((100 * value) / trace).toFixed(1)} %`,
          ]);
          for (const line of table(["", "eigenvalue", "share of trace"], shown)) print(line);
          print(
            `\ntrace ${short(trace)}, participation ratio ${short(trace ** 2 / squares)}, ` +
              (numerical
                ? `numerical rank ${count(numerical.rank)}, condition ` +
                  `${numerical.condition.toExponential(1)} on it`
                : "rank and condition need float64"),
          );
        },
        arrays: { kernel: { values: matrix, shape: [order, order] }, eigenvalues: { values } },
      };
    },
    { kind: "ntk", make: (model, data) => jacobianHolder("ntk", model, data, runOptions(args)) },
  );
}

/** Eigenvalues above the rounding of the matrix, and how far apart they are. */
function rankOf(values: Float64Array): { rank: number; condition: number } {
  const least = values[0]! * values.length * Number.EPSILON;
  const rank = Math.max(1, values.filter((value) => value > least).length);
  return { rank, condition: values[0]! / values[rank - 1]! };
}
