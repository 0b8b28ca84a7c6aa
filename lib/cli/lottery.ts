/** eigenscope lottery: tickets by iterative pruning with rewinding, beside those that should lose. */
import type { Criterion } from "../masks/criteria";
import { requireCriterion } from "../masks/make";
import type { InitialOptions } from "../training/initial";
import { type Control, type Lottery, lottery } from "../training/lottery";
import { type LotteryLevel, lotteryFigures, type OverSeeds } from "../training/ticket-figures";
import { type Findings, prepareFolder, writeArtefacts } from "./analysis";
import type { Globals, SubjectArguments } from "./arguments";
import { count, duration, ProgressLine, print, printJson, short, table, warn } from "./output";
import { openTest, type RecipeArguments, recipeOptions } from "./recipe";
import { openData, openModel } from "./subject";

interface LotteryArguments
  extends SubjectArguments,
    RecipeArguments,
    Pick<InitialOptions, "scheme"> {
  seeds?: number;
  share?: number;
  rounds?: number;
  keep?: number[];
  rewind?: number;
  criterion?: string;
  scope?: "global" | "layer";
  controls?: string[];
  out?: string;
}

export async function run(
  file: string,
  args: LotteryArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { precision, threads, maxMemory } = args;
  const { out, seeds, share, rounds, keep, rewind, scope, scheme } = args;
  await prepareFolder(out);
  using model = await openModel(file, args);
  const data = await openData(args, signal);
  const test = await openTest(args, signal);
  const criterion: Criterion = requireCriterion("--criterion", args.criterion ?? "magnitude");
  const line = new ProgressLine("lottery");
  try {
    const found = await lottery(model, data, {
      ...recipeOptions(args),
      ...{ precision, threads, maxMemory },
      ...{ seeds, share, rounds, keep, rewind, criterion, scope, scheme, signal },
      ...{ test, target: args.targetName, folder: out },
      controls: args.controls?.filter((name) => name !== "none") as Control[] | undefined,
      seed: args.seed === undefined ? undefined : Number(args.seed),
      onPlan: ({ runs, reused, steps, seconds }) => {
        // On standard error, so that the result alone is on standard output.
        if (!json)
          process.stderr.write(
            `${count(runs)} runs${reused > 0 ? `, ${count(reused)} of them done before` : ""}; ` +
              `${count(steps)} steps, about ${duration(seconds)}\n`,
          );
      },
      onProgress: ({ done, runs, seconds, secondsLeft }) =>
        line.show([
          `lottery: ${count(done)} of ${count(runs)} runs`,
          duration(seconds),
          `about ${duration(secondsLeft)} left`,
        ]),
    });
    line.end();
    const { levels, kinds } = found;
    const caption =
      `${file}, ${count(data.samples)} training and ${count((test ?? data).samples)} test samples, ` +
      `${found.seeds.length} seeds`;
    const document = {
      ...found,
      criterion,
      rewind: rewind ?? 0,
      parameterCount: model.parameterCount,
      samples: data.samples,
      testSamples: (test ?? data).samples,
      seconds: (performance.now() - begin) / 1000,
      warnings: [...model.warnings, ...found.warnings],
    };
    const findings: Findings = {
      json: document,
      human: () => {},
      files: { "tickets.csv": csv(levels) },
      figures: lotteryFigures(levels, kinds, caption),
    };
    if (out !== undefined) await writeArtefacts(out, document, findings, signal);
    if (json) printJson(document);
    else {
      print(`lottery tickets of ${caption}, ${count(found.stepsPerRun)} steps a run\n`);
      printLottery(found);
      const reused = found.reused > 0 ? `, ${count(found.reused)} of them done before` : "";
      print(`\n${count(found.runs)} runs${reused}, ${duration(document.seconds)}`);
      if (out !== undefined) print(`written to ${out}`);
      warn(document.warnings);
    }
    return 0;
  } finally {
    line.end();
  }
}

/** "93.42 ± 0.26", or a loss with its digits. */
function shown(value: OverSeeds | undefined, accurate: boolean): string {
  if (value === undefined) return "";
  const { mean, standardError } = value;
  const text = (x: number) => (accurate ? (100 * x).toFixed(2) : short(x));
  return Number.isFinite(standardError) ? `${text(mean)} ± ${text(standardError)}` : text(mean);
}

function printLottery({ levels, kinds }: Lottery): void {
  const accurate = levels[0]!.tickets.rewound!.accuracy !== undefined;
  const measured = accurate ? "accuracy" : "loss";
  print(
    accurate
      ? "Test accuracy in %, mean ± standard error over seeds"
      : "Test loss, mean ± standard error over seeds",
  );
  const row = ({ share, kept }: LotteryLevel) => [
    `${(100 * share).toFixed(2)} %`,
    count(Math.round(kept)),
  ];
  const lines = table(
    ["kept", "weights", ...kinds],
    levels.map((level) => [
      ...row(level),
      ...kinds.map((kind) => shown(level.tickets[kind]?.[measured], accurate)),
    ]),
  );
  for (const line of lines) print(line);
  const others = kinds.filter((kind) => kind !== "rewound");
  if (others.length > 0) {
    print("\nThe rewound ticket less the others, seed by seed");
    const differences = table(
      ["kept", "weights", ...others],
      levels
        .slice(1)
        .map((level) => [
          ...row(level),
          ...others.map((kind) => shown(level.tickets[kind]?.difference, accurate)),
        ]),
    );
    for (const line of differences) print(line);
  }
  const empty = levels.filter(({ collapsed }) => collapsed.length > 0);
  for (const { share, collapsed } of empty)
    print(`\nat ${(100 * share).toFixed(2)} % some masks keep nothing of ${collapsed.join(", ")}`);
}

function csv(levels: readonly LotteryLevel[]): string {
  const head = ["level", "keep", "share", "kept", "kind"];
  const numbers = ["accuracy", "loss", "difference"] as const;
  const rows = levels.flatMap(({ level, keep, share, kept, tickets }) =>
    Object.entries(tickets).map(([kind, ticket]) => [
      ...[level, keep, share, kept, kind],
      ...numbers.flatMap((name) => [ticket[name]?.mean ?? "", ticket[name]?.standardError ?? ""]),
    ]),
  );
  const all = [[...head, ...numbers.flatMap((name) => [name, `${name} se`])], ...rows];
  return `${all.map((row) => row.join(",")).join("\n")}\n`;
}
