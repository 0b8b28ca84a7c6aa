/**
 * Sub-networks, symmetry breaking and anisotropy of the layers of networks in one table, with rank
 * correlations between its columns. The table and its pooling are ours.
 */
import { anisotropy } from "../anisotropy/anisotropy";
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { NotConvergedError, OptionError } from "../errors";
import { exactDiagonal } from "../exact";
import type { Checkpoint } from "../landscape/directions";
import type { LinearOperator } from "../linear-operator";
import { CRITERIA, type Criterion } from "../masks/criteria";
import { masks as masksOf } from "../masks/make";
import type { Mask } from "../masks/mask";
import { Model } from "../model/model";
import { layersOf } from "../model/units";
import { EVALUATE_OPTIONS, type EvaluateOptions, fisher } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { eigsh } from "../spectra";
import { tensorShares } from "../subspaces/subspaces";
import {
  BREAKING_MEASURES,
  type BreakingMeasure,
  type BreakingOptions,
  symmetryBreaking,
} from "../symmetry/breaking";
import { sum } from "../vectors";
import {
  adjustedP,
  type Correction,
  type RankCorrelation,
  type RankCorrelationOptions,
  rankCorrelator,
  spearmanOf,
} from "./rank-correlation";

/** A network of the table. */
export interface LinkSubject {
  /** In the table; unique. */
  readonly name: string;
  readonly model: Model;
  /** The weights that training began with: of all networks or of none. */
  readonly initial?: Checkpoint | undefined;
  /** More sub-networks of it, by name. */
  readonly masks?: readonly Mask[] | undefined;
  readonly groups?: BreakingOptions["groups"];
}

export interface LinkOptions extends EvaluateOptions, RankCorrelationOptions {
  /**
   * Whose sub-networks are compared. Default: magnitude and fisher, and movement where the initial
   * weights are given.
   */
  criteria?: readonly Criterion[] | undefined;
  /** The share of all weights that they keep, over all layers together. Default 0.1. */
  keep?: number | undefined;
  /**
   * Makes the Fisher matrix of a network, over all its parameters. Default: type-2.
   */
  operator?: ((model: Model) => LinearOperator) | undefined;
  /** Leading eigenvectors whose shares are taken. Default 10. */
  k?: number | undefined;
  /** Blocks up to this order have their anisotropy from all eigenvalues. Default 300. */
  maxExact?: number | undefined;
  /** Of symmetry breaking. Default: exchange, importance, fisherImportance, chargeSpread, kurtosis. */
  measures?: readonly BreakingMeasure[] | undefined;
  /** Of the p-values of all correlations together. Default "holm". */
  correction?: Correction | undefined;
  /** The level at which something is called significant. Default 0.05. */
  level?: number | undefined;
  /**
   * What is exchanged by permutations. "networks" (default): the layers of each network by
   * themselves. "architectures": layers of networks with the same layers all alike, as their order may
   * come from the architecture and not from what training did.
   */
  exchange?: "networks" | "architectures" | undefined;
}

const arrayOf = (expected: string, known: readonly string[]): Check => ({
  expected,
  fits: (value) => Array.isArray(value) && value.every((name) => known.includes(name)),
});

const OPTIONS: { [K in keyof Required<LinkOptions>]: Check } = {
  ...EVALUATE_OPTIONS,
  criteria: arrayOf(`an array of criteria (${CRITERIA.slice(0, 3).join(", ")}, ...)`, CRITERIA),
  keep: {
    expected: "a share over 0 and below 1",
    fits: (value) => typeof value === "number" && value > 0 && value < 1,
  },
  operator: check.function,
  k: check.positiveInteger,
  maxExact: check.positiveInteger,
  measures: arrayOf(
    `an array of ${Object.keys(BREAKING_MEASURES).join(", ")}`,
    Object.keys(BREAKING_MEASURES),
  ),
  correction: check.oneOf("holm", "bh"),
  level: {
    expected: "a number over 0 and below 1",
    fits: (value) => typeof value === "number" && value > 0 && value < 1,
  },
  exchange: check.oneOf("networks", "architectures"),
  maxEnumerated: check.naturalNumber,
  permutations: check.positiveInteger,
  seed: check.seed,
};

/** What a column is about: correlations are taken between columns of different families. */
export type LinkFamily = "size" | "mask" | "breaking" | "anisotropy" | "curvature";

export interface LinkColumn {
  /** Such as "kept magnitude", "exchange" or "exchange change". */
  readonly name: string;
  readonly family: LinkFamily;
  /** What it is, in a few words. */
  readonly meaning: string;
}

/** A layer of a network. */
export interface LinkRow {
  readonly network: string;
  readonly layer: string;
  /** In the order of the columns; NaN where a column has nothing to say of the layer. */
  readonly values: Float64Array;
}

export interface LinkCorrelation extends RankCorrelation {
  /** Names of columns. */
  readonly a: string;
  readonly b: string;
  /**
   * The partial rank correlation given the layers' sizes, which go with most columns; NaN where one
   * of the two columns is ordered as they are, and of the size itself.
   */
  readonly givenSize: number;
  /** p, corrected for all correlations of the table. */
  readonly adjusted: number;
  readonly significant: boolean;
}

export interface Link {
  readonly columns: readonly LinkColumn[];
  readonly rows: readonly LinkRow[];
  readonly correlations: readonly LinkCorrelation[];
  readonly correction: Correction;
  readonly level: number;
  /** What the numbers of layers and tests allow to be found. */
  readonly verdict: string;
  readonly seconds: number;
  readonly warnings: readonly string[];
}

const MEASURES: readonly BreakingMeasure[] = [
  "exchange",
  "importance",
  "fisherImportance",
  "chargeSpread",
  "kurtosis",
];

/** Measures that are there at the start, so that their change means something. */
const CHANGING = (name: BreakingMeasure) => !name.startsWith("fisher") && name !== "weightShift";

interface Layer {
  readonly name: string;
  readonly tensors: readonly Model["parameters"][number][];
}

/** Layers with a weight matrix. */
function weightLayers(model: Model): Layer[] {
  return Array.from(layersOf(model.parameters), ([name, tensors]) => ({ name, tensors })).filter(
    ({ tensors }) => tensors.some(({ shape }) => shape.length >= 2),
  );
}

/** The columns of one network: each gives a number for a layer. */
type Cells = Map<string, (layer: Layer) => number>;

interface Shared {
  criteria: readonly Criterion[];
  measures: readonly BreakingMeasure[];
  changes: boolean;
  keep: number;
  k: number;
  maxExact: number;
  seed: number | bigint;
  run: EvaluateOptions;
  make: (model: Model) => LinearOperator;
  call: CallOptions;
}

async function cellsOf(
  data: DataSet,
  { name, model, initial, masks = [], groups }: LinkSubject,
  shared: Shared,
): Promise<Cells> {
  const { criteria, measures, changes, keep, k, maxExact, seed, run, make, call } = shared;
  using F = make(model);
  if (F.dim !== model.parameterCount)
    throw new OptionError(
      `subnetworkLink: operator: expected one over all ${model.parameterCount} parameters of ` +
        `${name}, got ${F.name} of dimension ${F.dim}`,
    );
  const top = await eigsh(F, { k: Math.min(k, F.dim), which: "LA", seed, ...call });
  if (!top.converged)
    throw new NotConvergedError(`subnetworkLink: ${name}: eigenvectors: ${top.reason}`);
  const { diagonal, trace } = await exactDiagonal(F, call);
  const blocks = await anisotropy(F, {
    ...{ by: "layer", definite: true, maxExact, k: Math.min(3, F.dim), seed },
    signal: call.signal,
  });
  const made =
    criteria.length === 0
      ? []
      : await masksOf(model, criteria, {
          ...{ keep, scope: "global", initial, data, diagonal, vectors: top, seed },
          ...{ ...run, ...call },
        });
  const broken = await symmetryBreaking(model, {
    ...{ groups, initial, diagonal, draws: 0, signal: call.signal },
  });

  const cells: Cells = new Map();
  cells.set("weights", ({ tensors }) => sum(weights(tensors).map(({ size }) => size)));
  for (const mask of [...made, ...masks])
    cells.set(`kept ${mask.name}`, ({ tensors }) => keptOf(mask, weights(tensors)));
  const groupOf = (layer: Layer) =>
    broken.groups.find(({ tensors }) => layer.tensors.some((of) => tensors.includes(of.name)));
  for (const measure of measures) {
    cells.set(measure, (layer) => groupOf(layer)?.measures[measure].value ?? Number.NaN);
    if (changes && CHANGING(measure))
      cells.set(
        `${measure} change`,
        (layer) => groupOf(layer)?.measures[measure].delta ?? Number.NaN,
      );
  }
  cells.set("anisotropy", ({ name }) => {
    const block = blocks.find((of) => of.name === name)!;
    const { participationRatio: ratio, dim } = block;
    return 1 - (typeof ratio === "number" ? ratio : ratio.value) / dim;
  });
  cells.set("trace share", ({ tensors }) => {
    const mass = tensors.map(({ offset, size }) => sum(diagonal.subarray(offset, offset + size)));
    return sum(mass) / trace;
  });
  const shares = new Map(
    tensorShares(top, model.parameters).map((of) => [of.name, of.mean] as const),
  );
  cells.set("top share", ({ tensors }) => sum(tensors.map((of) => shares.get(of.name)!)));
  return cells;
}

const weights = (tensors: Layer["tensors"]) => tensors.filter(({ shape }) => shape.length >= 2);

function keptOf({ bits }: Mask, tensors: Layer["tensors"]): number {
  const kept = tensors.map(({ offset, size }) => sum(bits.subarray(offset, offset + size)));
  return sum(kept) / sum(tensors.map(({ size }) => size));
}

function columnOf(name: string, keep: number, k: number): LinkColumn {
  const change = / change$/.test(name);
  const measure = name.replace(/ change$/, "") as BreakingMeasure;
  if (Object.hasOwn(BREAKING_MEASURES, measure)) {
    const meaning = BREAKING_MEASURES[measure];
    return {
      name,
      family: "breaking",
      meaning: change ? `${meaning}; less that at init` : meaning,
    };
  }
  if (name.startsWith("kept "))
    return {
      name,
      family: "mask",
      meaning: `share of the layer that the mask keeps (${keep} of all)`,
    };
  return OTHERS[name]!(k);
}

const OTHERS: Record<string, (k: number) => LinkColumn> = {
  weights: () => ({ name: "weights", family: "size", meaning: "how many weights the layer has" }),
  anisotropy: () => ({
    name: "anisotropy",
    family: "anisotropy",
    meaning: "1 - participation ratio / size, of the layer's Fisher block",
  }),
  "trace share": () => ({
    name: "trace share",
    family: "curvature",
    meaning: "of the trace of the Fisher matrix",
  }),
  "top share": (k) => ({
    name: "top share",
    family: "curvature",
    meaning: `of its ${k} leading eigenvectors`,
  }),
};

function checkSubjects(subjects: readonly LinkSubject[]): void {
  const where = "subnetworkLink: networks";
  if (!Array.isArray(subjects) || subjects.length === 0)
    throw new OptionError(
      `${where}: expected an array of { name, model }, got ${describe(subjects)}`,
    );
  const names = new Set<string>();
  for (const { name, model, initial } of subjects) {
    if (!(model instanceof Model) || typeof name !== "string")
      throw new OptionError(`${where}: expected { name, model }, got ${describe(model)}`);
    if (names.has(name))
      throw new OptionError(`${where}: expected names of their own, got "${name}" twice`);
    names.add(name);
    if ((initial === undefined) !== (subjects[0]!.initial === undefined))
      throw new OptionError(
        `${where}: expected initial weights of all networks or of none, got ` +
          `${initial === undefined ? "none" : "some"} of ${name}`,
      );
  }
}

/**
 * For each layer of one or more networks: the share of it that sub-networks of several criteria keep
 * (of the same share of all weights, so that layers can differ), how far the symmetry of its units is
 * broken and how that changed in training, how anisotropic its block of the Fisher matrix is, and its
 * share of the trace and of the leading eigenvectors. Beside the table rank correlations between
 * columns of different families, over the layers of all networks, with permutation p-values, corrected
 * for their number; `verdict` says what so few layers allow to be found at all.
 *
 * Networks of one architecture that differ by seed repeat the same layers: a correlation over them
 * shows that it comes back with every training, not that it holds for other architectures; see
 * `exchange`.
 *
 * Costs for each network `eigsh`, a diagonal, the blocks' anisotropies and what criteria need.
 *
 * @throws OptionError; NotConvergedError; what these throw; AbortError
 */
export async function subnetworkLink(
  data: DataSet,
  networks: readonly LinkSubject[],
  options?: LinkOptions,
): Promise<Link> {
  const where = "subnetworkLink";
  const begin = performance.now();
  const checked = checkOptions(where, options, OPTIONS);
  checkSubjects(networks);
  const { keep = 0.1, k = 10, maxExact = 300, measures = MEASURES, seed = 0 } = checked;
  const { correction = "holm", level = 0.05, exchange = "networks" } = checked;
  const { loss, precision, threads, batch, maxMemory, keepLinearisation, signal } = checked;
  const run = { loss, precision, threads, batch, maxMemory, keepLinearisation };
  const changes = networks[0]!.initial !== undefined;
  const { criteria = ["magnitude", ...(changes ? (["movement"] as const) : []), "fisher"] } =
    checked;
  const make = checked.operator ?? ((at: Model) => fisher(at, data, { ...run, type: "type-2" }));
  const shared = { criteria, measures, changes, keep, k, maxExact, seed, run, make };

  const found: { subject: LinkSubject; layers: Layer[]; cells: Cells }[] = [];
  for (const [i, subject] of networks.entries()) {
    const onProgress =
      checked.onProgress &&
      (({ products }: { products: number }) =>
        checked.onProgress!({
          products,
          fraction: i / networks.length,
          seconds: (performance.now() - begin) / 1000,
        }));
    const cells = await cellsOf(data, subject, { ...shared, call: { signal, onProgress } });
    found.push({ subject, layers: weightLayers(subject.model), cells });
  }
  const names = [...new Set(found.flatMap(({ cells }) => [...cells.keys()]))];
  const rows = found.flatMap(({ subject, layers, cells }) =>
    layers.map((layer) => ({
      network: subject.name,
      layer: layer.name,
      values: Float64Array.from(names, (name) => cells.get(name)?.(layer) ?? Number.NaN),
    })),
  );
  const columns = names.map((name) => columnOf(name, keep, k));
  const { maxEnumerated, permutations } = checked;
  const correlations = correlationsOf(columns, rows, {
    ...{ correction, level, exchange, maxEnumerated, permutations, seed },
  });
  const warnings = columns.flatMap(({ family }, c) =>
    family === "breaking" && rows.every(({ values }) => Number.isNaN(values[c]!))
      ? [`${names[c]} is not defined for any layer`]
      : [],
  );
  return {
    ...{ columns, rows, correlations, correction, level, warnings },
    verdict: verdictOf(rows, correlations, checked),
    seconds: (performance.now() - begin) / 1000,
  };
}

function correlationsOf(
  columns: readonly LinkColumn[],
  rows: readonly LinkRow[],
  options: RankCorrelationOptions & {
    correction: Correction;
    level: number;
    exchange: NonNullable<LinkOptions["exchange"]>;
  },
): LinkCorrelation[] {
  const { correction, level, exchange, ...how } = options;
  const correlate = rankCorrelator(how);
  const networks = [...new Set(rows.map(({ network }) => network))].map((name) =>
    rows.filter(({ network }) => network === name),
  );
  const found = columns.flatMap((a, i) =>
    columns.slice(i + 1).flatMap((b, j) => {
      if (a.family === b.family) return [];
      const strata = networks.map((layers) => ({
        x: layers.map(({ values }) => values[i]!),
        y: layers.map(({ values }) => values[i + 1 + j]!),
        ...(exchange === "architectures" && {
          block: layers.map(({ layer }) => layer).join("\n"),
        }),
      }));
      const found = correlate(strata);
      // Of two layers every order is as far from 0.
      if (!(found.smallestP < 1)) return [];
      const givenSize = givenThird(
        networks.map((layers) => layers.map(({ values }) => values)),
        [i, i + 1 + j, columns.findIndex(({ family }) => family === "size")],
      );
      return [{ a: a.name, b: b.name, givenSize, ...found }];
    }),
  );
  const adjusted = adjustedP(
    found.map(({ p }) => p),
    correction,
  );
  return found.map((row, i) => ({
    ...row,
    adjusted: adjusted[i]!,
    significant: adjusted[i]! <= level,
  }));
}

/** The partial rank correlation of two columns given a third, over layers that have all three. */
function givenThird(
  networks: readonly (readonly Float64Array[])[],
  columns: readonly [a: number, b: number, c: number],
): number {
  const complete = networks.map((layers) =>
    layers.filter((values) => columns.every((c) => Number.isFinite(values[c]!))),
  );
  const rho = (x: number, y: number) =>
    spearmanOf(
      complete.map((layers) => ({
        x: layers.map((values) => values[x]!),
        y: layers.map((values) => values[y]!),
      })),
    );
  const [a, b, c] = columns;
  const [ab, ac, bc] = [rho(a, b), rho(a, c), rho(b, c)];
  const left = (1 - ac ** 2) * (1 - bc ** 2);
  return left > 1e-12 ? (ab - ac * bc) / Math.sqrt(left) : Number.NaN;
}

const NAMES: Record<Correction, string> = { holm: "Holm", bh: "Benjamini and Hochberg" };

function verdictOf(
  rows: readonly LinkRow[],
  correlations: readonly LinkCorrelation[],
  { correction = "holm", level = 0.05, exchange = "networks" }: LinkOptions,
): string {
  const networks = new Map<string, string>();
  for (const { network, layer } of rows)
    networks.set(network, `${networks.get(network) ?? ""}\n${layer}`);
  const { size } = networks;
  const layers = `${rows.length} layers of ${size === 1 ? "one network" : `${size} networks`}`;
  if (correlations.length === 0)
    return `${layers}: no two columns that could be told apart by their order`;
  const least = Math.min(...correlations.map(({ smallestP }) => smallestP));
  const number = (p: number) => (p < 0.001 ? p.toExponential(1) : p.toPrecision(2));
  const text = `${layers}, ${correlations.length} correlations: the smallest p that any can have is ${number(least)}`;
  const together = Math.min(1, least * correlations.length);
  if (least > level) return `${text}, so none can be significant at ${level}; pool more networks`;
  if (correction === "holm" && together > level)
    return (
      `${text}, after the correction of Holm at least ${number(together)} for a single finding, so ` +
      `none alone can be significant at ${level}; pool more networks`
    );
  const count = correlations.filter(({ significant }) => significant).length;
  const repeated = new Set(networks.values()).size < size && exchange === "networks";
  const caveat = repeated
    ? ". Some networks have the same layers: p is for an order to come back in every training, not " +
      "for other architectures"
    : "";
  return (
    `${text}; ${count} significant at ${level} after the correction of ${NAMES[correction]}` +
    caveat
  );
}
