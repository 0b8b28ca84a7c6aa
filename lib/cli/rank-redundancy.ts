/** eigenscope rank --redundancy: what the kernel is made of. */
import type { CallOptions } from "../call";
import type { Figure } from "../figures/figure";
import { type Redundancy, redundancy } from "../rank/redundancy";
import type { Findings, Subject } from "./analysis";
import type { SubjectArguments } from "./arguments";
import { count, print, table } from "./output";
import { printPairs } from "./pairs";

export interface RedundancyArguments extends SubjectArguments {
  tol?: number;
}

export async function redundancyOf(
  { model, data }: Subject,
  args: RedundancyArguments,
  call: CallOptions,
): Promise<Findings> {
  const { tol, threads, maxMemory, operator } = args;
  const found = await redundancy(model, data, {
    ...{ tol, threads, maxMemory, ...call },
    operator: operator === "hessian" ? "hessian" : "ggn",
  });
  const { rank, seconds: _, ...json } = found;
  const { magnitudes, ...measured } = rank;
  return {
    json: { ...json, rank: measured },
    arrays: { magnitudes: { values: magnitudes } },
    figures: { redundancy: figureOf(found) },
    warnings: rank.certain
      ? found.notes
      : [
          "the rank is not certain: eigenvalues that count are within 100 times the tolerance, and " +
            "what is unexplained may be small eigenvalues",
          ...found.notes,
        ],
    human: () => {
      printPairs([
        ["rank", `${count(rank.rank)} of ${count(rank.dim)}`],
        ["kernel", `${count(found.kernel)}, a share of ${found.redundancy.toFixed(3)}`],
        [
          "explained",
          `${count(found.explained)}${found.explained > 0 ? `, ${degrees(found.largestSine)} from the kernel` : ""}`,
        ],
        ["unexplained", count(found.unexplained)],
      ]);
      print();
      const rows = found.sources.map((source) => [
        ...[source.name, count(source.dimension), count(source.contained), count(source.adds)],
        ...[source.residual.toExponential(1), source.why],
      ]);
      if (rows.length > 0)
        for (const line of table(
          ["source", "dimension", "in kernel", "adds", "|A v|", "why"],
          rows,
        ))
          print(line);
      for (const line of residualWords(found)) print(line);
      if (found.unexplained > 0) {
        print("\nThe unexplained directions lie in:");
        for (const { name, share } of found.unexplainedTensors.slice(0, 8))
          print(`  ${name}  ${(100 * share).toFixed(1)} %`);
      }
    },
  };
}

function degrees(sine: number): string {
  return `${((180 / Math.PI) * Math.asin(Math.min(1, sine))).toExponential(1)} degrees`;
}

function residualWords({ residual }: Redundancy): string[] {
  if (!residual) return [];
  const { rank, generic, adds } = residual;
  return [
    `\nResiduals have rank ${rank} of ${generic}` +
      (adds > 0 ? `: with full rank the kernel of H would be smaller by ${count(adds)}.` : "."),
  ];
}

function figureOf(found: Redundancy): Figure {
  const names = found.sources.map(({ name }) => name);
  const rest = found.unexplained > 0 ? ["unexplained"] : [];
  return {
    title: "Where the kernel comes from",
    caption: `${found.operator}: kernel ${found.kernel} of ${found.parameters} parameters`,
    x: { label: "source", categories: [...names, ...rest] },
    y: { label: "dimensions" },
    marks: [
      { kind: "bars", name: "in the kernel", x: names, y: found.sources.map((s) => s.contained) },
      {
        kind: "bars",
        name: "beyond those before",
        x: [...names, ...rest],
        y: [...found.sources.map((s) => s.adds), ...rest.map(() => found.unexplained)],
      },
    ],
  };
}
