/** Rank correlations over several networks at once, with p-values by permutation. */
import { OptionError } from "../errors";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";

/** Pairs of one network: x[i] and y[i] are of the same layer. */
export interface Stratum {
  readonly x: ArrayLike<number>;
  readonly y: ArrayLike<number>;
  /**
   * Strata of one block are permuted alike: the same layers in networks of one architecture, say,
   * whose values are no independent evidence. Default: a block of its own.
   */
  readonly block?: string | number | undefined;
}

export interface RankCorrelationOptions {
  /** All permutations are gone through where there are at most so many. Default 50,000. */
  maxEnumerated?: number | undefined;
  /** Random ones otherwise. Default 9,999. */
  permutations?: number | undefined;
  /** Of them. Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<RankCorrelationOptions>]: Check } = {
  maxEnumerated: check.naturalNumber,
  permutations: check.positiveInteger,
  seed: check.seed,
};

export interface RankCorrelation {
  /** Pairs that are complete, and the networks that have at least two. */
  readonly n: number;
  readonly strata: number;
  /** Of ranks within each network; NaN where one side is constant. */
  readonly spearman: number;
  /** tau-b, of pairs of layers within each network. */
  readonly kendall: number;
  /** Two-sided, that a random order of the layers within each network is as far from 0. */
  readonly p: number;
  readonly kendallP: number;
  /** "exact": over all orders; "monte-carlo": (1 + hits) / (1 + draws). */
  readonly method: "exact" | "monte-carlo";
  /** Orders that were gone through or drawn. */
  readonly orders: number;
  /** No correlation of so many layers can have a smaller p. */
  readonly smallestP: number;
}

/** Ranks from 1, equal numbers sharing the mean of theirs. */
export function ranksOf(values: ArrayLike<number>): Float64Array {
  const order = Array.from(values, (_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const ranks = new Float64Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to < order.length && values[order[to]!] === values[order[from]!]) to++;
    for (let i = from; i < to; i++) ranks[order[i]!] = (from + to + 1) / 2;
    from = to;
  }
  return ranks;
}

/** Ranks of one stratum, centred, over the number of ranks plus one. */
interface Ranked {
  readonly a: Float64Array;
  readonly b: Float64Array;
  /** Of all differences: n x n, rows less columns. */
  readonly signsA: Int8Array;
  readonly signsB: Int8Array;
}

function signsOf(values: Float64Array): Int8Array {
  const n = values.length;
  return Int8Array.from({ length: n * n }, (_, i) =>
    Math.sign(values[Math.floor(i / n)]! - values[i % n]!),
  );
}

function centred(values: ArrayLike<number>): Float64Array {
  const n = values.length;
  return ranksOf(values).map((rank) => (rank - (n + 1) / 2) / (n + 1));
}

/** Strata that are permuted alike, with the same pairs in each. */
interface Block {
  readonly size: number;
  readonly ranked: readonly Ranked[];
}

function blocksOf(strata: readonly Stratum[]): Block[] {
  const blocks = new Map<string | number | symbol, Stratum[]>();
  for (const stratum of strata) {
    const key = stratum.block ?? Symbol();
    blocks.set(key, [...(blocks.get(key) ?? []), stratum]);
  }
  return Array.from(blocks.values()).flatMap((members) => {
    const { length } = members[0]!.x;
    for (const { x, y } of members)
      if (x.length !== length || y.length !== length)
        throw new OptionError(
          `rankCorrelation: strata: expected as many x as y, and as many in each of a block, got ` +
            `${x.length} and ${y.length} beside ${length}`,
        );
    const complete = Array.from({ length }, (_, i) => i).filter((i) =>
      members.every(({ x, y }) => Number.isFinite(x[i]) && Number.isFinite(y[i])),
    );
    if (complete.length < 2) return [];
    const ranked = members.map(({ x, y }) => {
      const [a, b] = [x, y].map((values) => centred(complete.map((i) => values[i]!)));
      return { a: a!, b: b!, signsA: signsOf(a!), signsB: signsOf(b!) };
    });
    return [{ size: complete.length, ranked }];
  });
}

/** The two numerators of a block under an order of its layers. */
interface Numerators {
  readonly spearman: number;
  readonly kendall: number;
}

function numerators({ size, ranked }: Block, order: ArrayLike<number>): Numerators {
  let [spearman, kendall] = [0, 0];
  for (const { a, b, signsA, signsB } of ranked)
    for (let i = 0; i < size; i++) {
      const from = order[i]! * size;
      spearman += a[i]! * b[order[i]!]!;
      for (let j = 0; j < i; j++) kendall += signsA[i * size + j]! * signsB[from + order[j]!]!;
    }
  return { spearman, kendall };
}

/** Every order of 0 .. n - 1 (Heap 1963). */
function* orders(n: number): Generator<Int32Array> {
  const order = Int32Array.from({ length: n }, (_, i) => i);
  const counts = new Int32Array(n);
  yield order;
  for (let i = 1; i < n; ) {
    if (counts[i]! < i) {
      const other = i % 2 === 0 ? 0 : counts[i]!;
      [order[i], order[other]] = [order[other]!, order[i]!];
      yield order;
      counts[i]!++;
      i = 1;
    } else counts[i++] = 0;
  }
}

/** How often random orders are as far from 0 as what was found, and as far as possible. */
interface Hits {
  spearman: number;
  kendall: number;
  extreme: number;
  orders: number;
}

/** What rounding may differ by: sums of a few products of ranks. */
const SLACK = 1e-10;

function enumerate(blocks: readonly Block[], found: Numerators): Hits {
  const tables = blocks.map((block) =>
    Array.from(orders(block.size), (order) => numerators(block, order)),
  );
  let sums: Numerators[] = [{ spearman: 0, kendall: 0 }];
  for (const table of tables)
    sums = sums.flatMap((sum) =>
      table.map(({ spearman, kendall }) => ({
        spearman: sum.spearman + spearman,
        kendall: sum.kendall + kendall,
      })),
    );
  const most = sums.reduce((max, { spearman }) => Math.max(max, Math.abs(spearman)), 0);
  const hits = { spearman: 0, kendall: 0, extreme: 0, orders: sums.length };
  for (const { spearman, kendall } of sums) {
    if (Math.abs(spearman) >= Math.abs(found.spearman) - SLACK) hits.spearman++;
    if (Math.abs(kendall) >= Math.abs(found.kendall) - SLACK) hits.kendall++;
    if (Math.abs(spearman) >= most - SLACK) hits.extreme++;
  }
  return hits;
}

/** Streams of one seed. */
const ORDERS = 41;

/** Random orders of blocks, the same ones for blocks of the same sizes: drawn once. */
class RandomOrders {
  readonly #draws: number;
  readonly #seed: number | bigint;
  readonly #known = new Map<string, Int32Array>();

  constructor(draws: number, seed: number | bigint) {
    this.#draws = draws;
    this.#seed = seed;
  }

  /** Draw after draw, in each the orders of the blocks one after the other. */
  of(blocks: readonly Block[]): Int32Array {
    const sizes = blocks.map(({ size }) => size);
    const known = this.#known.get(sizes.join());
    if (known) return known;
    const random = new Random(this.#seed, ORDERS);
    const width = sizes.reduce((sum, size) => sum + size, 0);
    const all = new Int32Array(this.#draws * width);
    let at = 0;
    for (let draw = 0; draw < this.#draws; draw++)
      for (const size of sizes) {
        const order = all.subarray(at, at + size);
        for (let i = 0; i < size; i++) order[i] = i;
        for (let i = size - 1; i > 0; i--) {
          const j = random.below(i + 1);
          [order[i], order[j]] = [order[j]!, order[i]!];
        }
        at += size;
      }
    this.#known.set(sizes.join(), all);
    return all;
  }
}

function sample(blocks: readonly Block[], found: Numerators, random: RandomOrders): Hits {
  const all = random.of(blocks);
  const hits = { spearman: 1, kendall: 1, extreme: 1, orders: 1 };
  for (let at = 0; at < all.length; ) {
    let [spearman, kendall] = [0, 0];
    for (const block of blocks) {
      const drawn = numerators(block, all.subarray(at, at + block.size));
      at += block.size;
      spearman += drawn.spearman;
      kendall += drawn.kendall;
    }
    if (Math.abs(spearman) >= Math.abs(found.spearman) - SLACK) hits.spearman++;
    if (Math.abs(kendall) >= Math.abs(found.kendall) - SLACK) hits.kendall++;
    hits.orders++;
  }
  return hits;
}

/**
 * Spearman's and Kendall's rank correlation of pairs that come from several networks. Ranks are taken
 * within each network, so that networks may differ in level, and only layers of one network are
 * compared; of a single network these are the ordinary rho (with ties: the correlation of mean ranks)
 * and tau-b. p-values are those of permutations of the layers within each network. Pairs with a
 * number that is not finite are left out.
 *
 * @throws OptionError
 */
export function rankCorrelation(
  strata: readonly Stratum[],
  options?: RankCorrelationOptions,
): RankCorrelation {
  return rankCorrelator(options)(strata);
}

/** @internal The same for many correlations, which share their random orders. */
export function rankCorrelator(
  options?: RankCorrelationOptions,
): (strata: readonly Stratum[]) => RankCorrelation {
  const given = checkOptions("rankCorrelation", options, OPTIONS);
  const { maxEnumerated = 50_000, permutations = 9_999, seed = 0 } = given;
  const random = new RandomOrders(permutations, seed);
  return (strata) => correlate(strata, maxEnumerated, random);
}

function correlate(
  strata: readonly Stratum[],
  maxEnumerated: number,
  random: RandomOrders,
): RankCorrelation {
  if (!Array.isArray(strata))
    throw new OptionError(
      `rankCorrelation: strata: expected an array of { x, y }, got ${describe(strata)}`,
    );
  const blocks = blocksOf(strata);
  const n = blocks.reduce((sum, { size, ranked }) => sum + size * ranked.length, 0);
  const members = blocks.reduce((sum, { ranked }) => sum + ranked.length, 0);
  const found = { spearman: 0, kendall: 0 };
  const squares = { a: 0, b: 0 };
  const untied = { a: 0, b: 0 };
  for (const block of blocks) {
    const { spearman, kendall } = numerators(
      block,
      Array.from({ length: block.size }, (_, i) => i),
    );
    found.spearman += spearman;
    found.kendall += kendall;
    for (const ranked of block.ranked)
      for (const side of ["a", "b"] as const) {
        const of = ranked[side];
        for (let i = 0; i < of.length; i++) {
          squares[side] += of[i]! ** 2;
          for (let j = 0; j < i; j++) if (of[i] !== of[j]) untied[side]++;
        }
      }
  }
  const constant = squares.a === 0 || squares.b === 0;
  const count = blocks.reduce((product, { size }) => product * factorial(size), 1);
  const exact = count <= maxEnumerated;
  const hits = constant
    ? { spearman: Number.NaN, kendall: Number.NaN, extreme: Number.NaN, orders: 1 }
    : exact
      ? enumerate(blocks, found)
      : sample(blocks, found, random);
  return {
    ...{ n, strata: members },
    spearman: constant ? Number.NaN : found.spearman / Math.sqrt(squares.a * squares.b),
    kendall: constant ? Number.NaN : found.kendall / Math.sqrt(untied.a * untied.b),
    p: hits.spearman / hits.orders,
    kendallP: hits.kendall / hits.orders,
    method: exact ? "exact" : "monte-carlo",
    orders: hits.orders,
    smallestP: hits.extreme / hits.orders,
  };
}

function factorial(n: number): number {
  let product = 1;
  for (let i = 2; i <= n; i++) product *= i;
  return product;
}

/** @internal Spearman's rho alone, of pairs that are complete. */
export function spearmanOf(strata: readonly Stratum[]): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (const { size, ranked } of blocksOf(strata))
    for (const { a, b } of ranked)
      for (let i = 0; i < size; i++) {
        ab += a[i]! * b[i]!;
        aa += a[i]! ** 2;
        bb += b[i]! ** 2;
      }
  return ab / Math.sqrt(aa * bb);
}

export type Correction = "holm" | "bh";

/**
 * p-values for m tests together. "holm" (1979) keeps the chance of a single false finding below the
 * level, "bh" (Benjamini and Hochberg 1995) the expected share of false ones among the findings.
 * Those that are NaN are no tests and stay NaN.
 */
export function adjustedP(p: ArrayLike<number>, correction: Correction): Float64Array {
  const adjusted = Float64Array.from(p);
  const order = Array.from(p, (_, i) => i)
    .filter((i) => !Number.isNaN(p[i]!))
    .sort((i, j) => p[i]! - p[j]!);
  const m = order.length;
  let bound = correction === "holm" ? 0 : 1;
  if (correction === "holm")
    order.forEach((i, rank) => {
      bound = Math.max(bound, Math.min(1, (m - rank) * p[i]!));
      adjusted[i] = bound;
    });
  else
    order.reverse().forEach((i, rank) => {
      bound = Math.min(bound, (m * p[i]!) / (m - rank));
      adjusted[i] = bound;
    });
  return adjusted;
}
