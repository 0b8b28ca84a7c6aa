/** eigenscope rank: the numerical rank of an operator, with its gap. */
import { OptionError } from "../errors";
import { type CountedRank, numericalRank } from "../rank/numerical";
import { type AnalysisArguments, analyse, type Findings } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { printPairs } from "./pairs";
import { partsOf, type RankPartsArguments } from "./rank-parts";
import { redundancyOf } from "./rank-redundancy";

interface RankArguments extends AnalysisArguments, RankPartsArguments {
  relativeTo?: number;
  count?: boolean;
  parts?: boolean;
  redundancy?: boolean;
  probes?: number;
  steps?: number;
}

export async function run(file: string, args: RankArguments, globals: Globals): Promise<number> {
  // Ranks are of float64 unless one is asked for that cannot be had.
  const precision = args.precision ?? "float64";
  if (precision !== "float64")
    throw new OptionError(
      "--precision: expected float64 for a rank, got float32, whose rounding of about 1e-6 of the " +
        "largest eigenvalue hides it",
    );
  const belongs = args.count ? ["relativeTo"] : ["probes", "steps"];
  for (const name of belongs)
    if (args[name as "probes"] !== undefined)
      throw new OptionError(
        args.count
          ? "--relative-to: expected it without --count, which takes the largest |lambda|"
          : `--${name}: expected it with --count only`,
      );
  const several = args.parts || args.along !== undefined || args.models !== undefined;
  checkModes(args, several);
  const given = { ...args, precision } as const;
  if (several)
    return analyse("rank", file, given, globals, (subject, call) =>
      partsOf(subject, file, args, call),
    );
  if (args.redundancy) {
    const { operator = "ggn" } = args;
    return analyse("rank", file, { ...given, operator }, globals, (subject, call) =>
      redundancyOf(subject, args, call),
    );
  }
  return analyse("rank", file, { ...args, precision }, globals, async ({ operator }, call) => {
    const { tol, relativeTo: scale, probes, steps, seed } = args;
    if (args.count)
      return counted(
        await numericalRank(operator, { method: "count", tol, probes, steps, seed, ...call }),
      );
    const found = await numericalRank(operator, { tol, scale, ...call });
    const { magnitudes, products, seconds, ...json } = found;
    const { rank, dim, smallestKept, largestDropped, gap, tolerance, formula, certain } = found;
    return {
      json,
      products,
      arrays: { magnitudes: { values: magnitudes } },
      warnings: certain
        ? []
        : [
            `the rank is not certain: the smallest |lambda| that counts, ${short(smallestKept)}, is ` +
              "within 100 times the tolerance, where rounding and small eigenvalues look the same",
          ],
      human: () => {
        printPairs([
          ["rank", `${count(rank)} of ${count(dim)}`],
          ["tolerance", `${short(tolerance)} = ${formula}`],
          ["smallest |lambda| kept", rank > 0 ? short(smallestKept) : "none"],
          ["largest |lambda| dropped", rank < dim ? short(largestDropped) : "none"],
          ["gap between them", gapText(gap)],
          ["certain", certain ? "yes" : "no"],
        ]);
        print();
        const decades = countByDecade(magnitudes, magnitudes[0]!);
        for (const line of table(["|lambda| / largest", "eigenvalues"], decades)) print(line);
      },
    };
  });
}

/** Refuses options that do not go together. */
function checkModes(args: RankArguments, several: boolean): void {
  const modes = [
    several && (args.along ? "--along" : args.models ? "--models" : "--parts"),
    args.redundancy && "--redundancy",
    args.count && "--count",
  ].filter((mode) => typeof mode === "string");
  if (modes.length > 1)
    throw new OptionError(`${modes[0]}: expected it without ${modes[1]}, got both`);
  if (args.along && args.models)
    throw new OptionError("--along: expected it without --models, got both");
  if (several && args.operator !== undefined)
    throw new OptionError(
      `${modes[0]}: expected no --operator, as H, H_o and H_f are measured, got ${args.operator}`,
    );
  if (args.redundancy && args.operator && !["ggn", "hessian"].includes(args.operator))
    throw new OptionError(
      `--redundancy: expected --operator ggn (default) or hessian, got ${args.operator}`,
    );
  if (modes.length > 0 && args.relativeTo !== undefined && !args.count)
    throw new OptionError(`--relative-to: expected it without ${modes[0]}`);
  if (args.generic === false && !several)
    throw new OptionError("--no-generic: expected it with --parts, --along or --models only");
}

function counted(found: CountedRank): Findings {
  const { products, warnings, seconds: _, ...json } = found;
  const { rank, lower, upper, sampling, interval, dim, tolerance, formula } = found;
  const ends = ([low, high]: [number, number]) => `${low.toFixed(1)} to ${high.toFixed(1)}`;
  return {
    json,
    products,
    warnings,
    human: () =>
      printPairs([
        ["eigenvalues above", `${short(tolerance)} = ${formula}`],
        ["estimate", `${rank.toFixed(1)} of ${count(dim)}`],
        ["bounds of the quadrature", ends([lower, upper])],
        ["sampling, 95 %", `+- ${sampling.toFixed(1)}`],
        ["both", ends(interval)],
      ]),
  };
}

function gapText(gap: number): string {
  if (Number.isNaN(gap)) return "none";
  if (gap === Number.POSITIVE_INFINITY) return "infinite: what is dropped is 0";
  return `${short(gap)}, ${Math.log10(gap).toFixed(1)} decades`;
}

/** How many magnitudes lie in each decade; runs of empty ones and rounding are one row each. */
function countByDecade(magnitudes: Float64Array, largest: number): [string, string][] {
  const counts = new Map<number, number>();
  let zeros = 0;
  for (const value of magnitudes) {
    if (value <= 1e-20 * largest || largest === 0) zeros++;
    else {
      const decade = Math.min(0, Math.ceil(Math.log10(value / largest)));
      counts.set(decade, (counts.get(decade) ?? 0) + 1);
    }
  }
  const rows = [...counts]
    .sort(([a], [b]) => b - a)
    .map(([decade, n]): [string, string] => [`1e${decade - 1} to 1e${decade}`, count(n)]);
  return zeros > 0 ? [...rows, ["0", count(zeros)]] : rows;
}
