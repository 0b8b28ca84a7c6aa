/** What the runs of a lottery say: means, standard errors and paired differences, and pictures. */
import type { Figure, Series } from "../figures/figure";

/** A number over seeds. */
export interface OverSeeds {
  readonly mean: number;
  /** Of the mean; NaN for one seed. */
  readonly standardError: number;
  /** In the order of the seeds. */
  readonly values: readonly number[];
}

export function overSeeds(values: readonly number[]): OverSeeds {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, standardError: Math.sqrt(squares / (n - 1) / n), values };
}

/** One kind of ticket at one level. */
export interface TicketSummary {
  readonly loss: OverSeeds;
  /** Undefined for losses of regression. */
  readonly accuracy: OverSeeds | undefined;
  /** The ticket's accuracy (loss, where there is none) less that of this kind, seed by seed. */
  readonly difference: OverSeeds | undefined;
}

export interface LotteryLevel {
  /** 0: the dense network. */
  readonly level: number;
  /** The share of prunable weights that was asked for, and that is kept, on average over seeds. */
  readonly keep: number;
  readonly share: number;
  /** How many prunable weights are kept, on average over seeds. */
  readonly kept: number;
  /** Tensors of which nothing is left, in the masks of some seed. */
  readonly collapsed: readonly string[];
  /** By kind; the dense network alone has the kind "rewound". */
  readonly tickets: Readonly<Record<string, TicketSummary>>;
}

/** Accuracy (or loss) of all kinds over the share that is kept, with bands of a standard error. */
export function lotteryFigures(
  levels: readonly LotteryLevel[],
  kinds: readonly string[],
  caption: string,
): Record<string, Figure> {
  const measured = levels[0]!.tickets.rewound!.accuracy ? "accuracy" : "loss";
  const share = levels.map((level) => 100 * level.share);
  const x = { label: "weights kept (%)", scale: "log" } as const;
  const scale = measured === "accuracy" ? 100 : 1;
  const series = (name: string, of: (level: LotteryLevel) => OverSeeds | undefined): Series[] => {
    const found = levels.flatMap((level, i) => {
      const value = of(level);
      return value ? [{ x: share[i]!, value }] : [];
    });
    const band = (side: number) =>
      found.map(({ value }) => scale * (value.mean + side * (value.standardError || 0)));
    return [
      {
        ...{ kind: "line", name, x: found.map((point) => point.x) },
        ...{ y: band(0), low: band(-1), high: band(1) },
      },
    ];
  };
  const unit = measured === "accuracy" ? "test accuracy (%)" : "test loss";
  return {
    tickets: {
      title: `Lottery tickets: ${measured} over the share of weights kept`,
      caption: `${caption}; bands: standard error of the mean`,
      x,
      y: { label: unit },
      marks: kinds.flatMap((kind) =>
        // All begin at the dense network.
        series(
          kind,
          ({ level, tickets }) => (level === 0 ? tickets.rewound : tickets[kind])?.[measured],
        ),
      ),
    },
    differences: {
      title: "How much better the rewound ticket is, seed by seed",
      caption: `${caption}; bands: standard error of the mean difference`,
      x,
      y: { label: `difference of ${unit}` },
      marks: kinds
        .filter((kind) => kind !== "rewound")
        .flatMap((kind) => series(kind, ({ tickets }) => tickets[kind]?.difference)),
    },
  };
}
