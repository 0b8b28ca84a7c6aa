/** Several runs of one network: what a factor such as weight decay does to the symmetry of layers. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { OptionError } from "../errors";
import { type Check, check, checkOptions, describe } from "../options";
import { adjustedP, type RankCorrelation, rankCorrelation } from "../subnetworks/rank-correlation";
import {
  BREAKING_MEASURES,
  type BreakingMeasure,
  symmetryBreakingAlong,
} from "../symmetry/breaking";
import type { PermutationGroup } from "../symmetry/types";
import { Trajectory } from "./trajectory";

/** A run with what was chosen for it. */
export interface StudyRun {
  readonly path: Trajectory;
  /** Such as { weightDecay: 1e-4, batchSize: 64 }; the same names for all runs. */
  readonly factors: Readonly<Record<string, number>>;
  /** Runs are compared within a block only, such as those of one seed. Default: one block. */
  readonly block?: string | number | undefined;
  /** Other numbers of the run that factors may bear on: sharpness, test accuracy. */
  readonly outcomes?: Readonly<Record<string, number>> | undefined;
}

export interface CompareRunsOptions extends CallOptions {
  /** Default exchangeBalanced, distinctBalanced, importanceBalanced, chargeSpread, kurtosis. */
  measures?: readonly BreakingMeasure[] | undefined;
  /** Whose units. Default: those found in the graph. */
  groups?: readonly PermutationGroup[] | undefined;
  /** Random orders of runs, where not all are gone through. Default 9,999. */
  permutations?: number | undefined;
  /** Of them. Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<CompareRunsOptions>]: Check } = {
  ...CALL_OPTIONS,
  measures: {
    expected: `some of ${Object.keys(BREAKING_MEASURES).join(", ")}`,
    fits: (value) =>
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((name) => Object.hasOwn(BREAKING_MEASURES, name)),
  },
  groups: { expected: "an array of permutation groups", fits: Array.isArray },
  permutations: check.positiveInteger,
  seed: check.seed,
};

const DEFAULT: readonly BreakingMeasure[] = [
  "exchangeBalanced",
  "distinctBalanced",
  "importanceBalanced",
  "chargeSpread",
  "kurtosis",
];

/** A measure of a layer in a run, at the first and the last checkpoint. */
export interface RunRow {
  readonly run: string;
  readonly factors: Readonly<Record<string, number>>;
  /** Of the units; "" for outcomes of the whole run. */
  readonly layer: string;
  readonly measure: string;
  /** NaN for outcomes. */
  readonly initial: number;
  readonly final: number;
}

/** A factor against a measure over the runs, layer by layer and all layers together. */
export interface RunAssociation {
  readonly factor: string;
  readonly measure: string;
  /** Ranks within block and layer; p by permuting the runs of a block, all layers alike. */
  readonly correlation: RankCorrelation;
  /** Spearman's correlation in each layer alone. */
  readonly layers: readonly { readonly layer: string; readonly spearman: number }[];
  /** p for all factors and measures together (Benjamini and Hochberg 1995). */
  readonly adjustedP: number;
}

export interface RunComparison {
  readonly rows: readonly RunRow[];
  readonly associations: readonly RunAssociation[];
}

/**
 * What factors of training do to the symmetry of layers: the measures of `symmetryBreakingAlong` at
 * the end of each run, against the factors, by rank correlations over runs within each layer and
 * block. p-values permute the runs of a block and keep the layers of a run together, as they are no
 * independent evidence: with n runs in one block none is below 2 / n!.
 *
 * ```ts
 * const runs = [];
 * for (const weightDecay of [0, 1e-4, 1e-3, 1e-2])
 *   for (const seed of [0, 1, 2]) {
 *     const folder = `runs/${weightDecay}-${seed}`;
 *     const initial = initialParameters(model, { seed });
 *     await train(model, data, { initial, weightDecay, seed, checkpoints: { folder } });
 *     const path = await trajectory(model, folder, { name: folder });
 *     runs.push({ path, factors: { weightDecay }, block: seed });
 *   }
 * const { associations } = await compareRuns(runs);
 * ```
 *
 * No products; as `symmetryBreakingAlong` for two checkpoints a run.
 *
 * @throws OptionError where runs have other factors or networks; AbortError
 */
export async function compareRuns(
  runs: readonly StudyRun[],
  options?: CompareRunsOptions,
): Promise<RunComparison> {
  const given = checkOptions("compareRuns", options, OPTIONS);
  const { measures = DEFAULT, groups, permutations, seed, signal, onProgress } = given;
  checkRuns(runs);
  const begin = performance.now();
  const rows: RunRow[] = [];
  for (const [i, { path, factors, outcomes = {} }] of runs.entries()) {
    const ends = [
      await path.parameters(0, { signal }),
      await path.parameters(path.length - 1, { signal }),
    ];
    const found = await symmetryBreakingAlong(path.model, ends, { groups, signal });
    for (const { name: layer, measures: values } of found)
      for (const measure of measures) {
        const [initial, final] = [values[measure][0]!, values[measure][1]!];
        rows.push({ run: path.name, factors, layer, measure, initial, final });
      }
    for (const [measure, final] of Object.entries(outcomes))
      rows.push({ run: path.name, factors, layer: "", measure, initial: Number.NaN, final });
    onProgress?.({
      products: 0,
      fraction: (i + 1) / runs.length,
      seconds: (performance.now() - begin) / 1000,
    });
  }
  const factors = Object.keys(runs[0]!.factors);
  const named = [...new Set(rows.map(({ measure }) => measure))];
  const plain = factors.flatMap((factor) =>
    named.map((measure) =>
      associate(runs, rows, { factor, measure, order: { permutations, seed } }),
    ),
  );
  const adjusted = adjustedP(
    plain.map(({ correlation }) => correlation.p),
    "bh",
  );
  return { rows, associations: plain.map((row, i) => ({ ...row, adjustedP: adjusted[i]! })) };
}

interface Question {
  factor: string;
  measure: string;
  order: { permutations?: number | undefined; seed?: number | bigint | undefined };
}

function associate(
  runs: readonly StudyRun[],
  rows: readonly RunRow[],
  { factor, measure, order }: Question,
): Omit<RunAssociation, "adjustedP"> {
  const of = rows.filter((row) => row.measure === measure);
  const layers = [...new Set(of.map(({ layer }) => layer))];
  const blocks = [...new Set(runs.map(({ block }) => block))];
  const strataOf = (layer: string) =>
    blocks.map((block) => {
      const names = runs.filter((run) => run.block === block).map(({ path }) => path.name);
      const mine = of.filter((row) => row.layer === layer && names.includes(row.run));
      return {
        x: mine.map((row) => row.factors[factor]!),
        y: mine.map(({ final }) => final),
        block: `${block}`,
      };
    });
  return {
    ...{ factor, measure },
    correlation: rankCorrelation(layers.flatMap(strataOf), order),
    layers: layers.map((layer) => ({
      layer,
      spearman: rankCorrelation(strataOf(layer), { permutations: 1, maxEnumerated: 0 }).spearman,
    })),
  };
}

function checkRuns(runs: readonly StudyRun[]): void {
  if (!Array.isArray(runs) || runs.length < 2)
    throw new OptionError(
      `compareRuns: expected at least two runs { path, factors }, got ${describe(runs)}`,
    );
  const names = new Set<string>();
  const wanted = Object.keys(runs[0]?.factors ?? {});
  if (wanted.length === 0)
    throw new OptionError("compareRuns: factors: expected numbers by name, got none");
  for (const { path, factors } of runs as readonly StudyRun[]) {
    if (!(path instanceof Trajectory))
      throw new OptionError(`compareRuns: path: expected a trajectory, got ${describe(path)}`);
    if (names.has(path.name))
      throw new OptionError(
        `compareRuns: expected a name of its own for each run, got ${path.name} twice; give one by ` +
          "the option name of trajectory",
      );
    names.add(path.name);
    const has = Object.keys(factors ?? {});
    const numbers = Object.values(factors ?? {}).every(Number.isFinite);
    if (has.length !== wanted.length || !wanted.every((name) => has.includes(name)) || !numbers)
      throw new OptionError(
        `compareRuns: ${path.name}: factors: expected finite numbers for ${wanted.join(", ")}, got ` +
          `${has.map((name) => `${name} ${factors[name]}`).join(", ") || "none"}`,
      );
    if (path.model.parameterCount !== runs[0]!.path.model.parameterCount)
      throw new OptionError(
        `compareRuns: ${path.name}: expected runs of one network, got ${path.model.parameterCount} ` +
          `parameters beside ${runs[0]!.path.model.parameterCount}`,
      );
  }
}
