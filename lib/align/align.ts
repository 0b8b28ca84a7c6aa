/** The units of one network matched with those of another. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import { saveCheckpoint } from "../checkpoints";
import type { DataSet } from "../data/data";
import { DataMismatchError, OptionError } from "../errors";
import { type Checkpoint, parametersOf } from "../landscape/directions";
import { Model } from "../model/model";
import type { RunOptions } from "../operators";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";
import { permutationGroups } from "../symmetry/permutations";
import type { PermutationGroup } from "../symmetry/types";
import { comparePairs } from "./activations";
import { assign, scoreOf } from "./assignment";
import { type FusionTask, planOf, plansByWeights, requireApart, transportState } from "./fusion";
import { outerFirst } from "./nesting";
import { memberships, Network, permuteState } from "./network";
import { identityOrder } from "./places";
import { type MatchTask, matchWeights } from "./weights";

export interface AlignOptions
  extends Pick<RunOptions, "precision" | "threads" | "maxMemory">,
    CallOptions {
  /**
   * "weights" (default): weight matching of Git Re-Basin, coordinate descent over assignment
   * problems; no data. "activations": one assignment problem a group, of how alike units act on
   * data. "fusion": optimal transport from the input to the output; also for networks whose widths
   * differ.
   */
  method?: "weights" | "activations" | "fusion" | undefined;
  /** Default: `permutationGroups` of the first network. */
  groups?: readonly PermutationGroup[] | undefined;
  /** Of the second, where widths differ: the same groups in the same order. */
  otherGroups?: readonly PermutationGroup[] | undefined;
  /** For activations. */
  data?: DataSet | undefined;
  /** For activations: the first so many samples. Default: all, of large values as many as fit. */
  samples?: number | undefined;
  /** activations: "correlation" (default) or "product", the mean inner product. */
  similarity?: "correlation" | "product" | undefined;
  /** fusion: distances of incoming "weights" (default) or of "activations". */
  costs?: "weights" | "activations" | undefined;
  /**
   * fusion: of Sinkhorn's entropy, over the largest cost, such as 0.01. Default 0: the exact plan,
   * for equal widths a permutation.
   */
  regularisation?: number | undefined;
  /**
   * fusion: what reads merged units gets the "mean" of their weights (default, as published), or
   * their "sum", with which splitting and merging equal units leaves the function unchanged. The
   * same for equal widths.
   */
  scaling?: "mean" | "sum" | undefined;
  /** Of the second network in the fused one. Default 0.5. */
  share?: number | undefined;
  /** weights: rounds over all groups at most. Default 100. */
  maxRounds?: number | undefined;
  /** weights: of the order in which each round visits the groups. Default 0. */
  seed?: number | bigint | undefined;
}

const groupList: Check = { expected: "an array of permutation groups", fits: Array.isArray };

const OPTIONS: { [K in keyof Required<AlignOptions>]: Check } = {
  ...CALL_OPTIONS,
  precision: check.oneOf("float32", "float64"),
  threads: check.positiveInteger,
  maxMemory: check.positiveInteger,
  method: check.oneOf("weights", "activations", "fusion"),
  groups: groupList,
  otherGroups: groupList,
  data: { expected: "data of loadData", fits: (value) => (value as DataSet)?.native !== undefined },
  samples: check.positiveInteger,
  similarity: check.oneOf("correlation", "product"),
  costs: check.oneOf("weights", "activations"),
  regularisation: check.notNegative,
  scaling: check.oneOf("mean", "sum"),
  share: {
    expected: "a number from 0 to 1",
    fits: (value) => typeof value === "number" && value >= 0 && value <= 1,
  },
  maxRounds: check.positiveInteger,
  seed: check.seed,
};

/** A number before and after alignment. */
export interface BeforeAfter {
  /** Undefined where the networks' widths differ. */
  readonly before: number | undefined;
  readonly after: number;
}

/** How the units of one group were matched. */
export interface AlignedGroup {
  readonly name: string;
  /** Units in the first network, and in the second. */
  readonly size: number;
  readonly otherSize: number;
  /** Unit i of the first network goes with unit order[i] of the second. Undefined for other plans. */
  readonly order: Int32Array | undefined;
  /** fusion: size x otherSize, row-major; adds up to 1. */
  readonly plan: Float64Array | undefined;
  /** Units that do not go with the unit of their own number; undefined without an order. */
  readonly moved: number | undefined;
  /** The cosine of the two networks' weights over all tensors of the group. */
  readonly similarity: BeforeAfter;
  /** activations: the mean similarity of the activations of units that go together. */
  readonly score: BeforeAfter | undefined;
}

interface Parts {
  readonly method: NonNullable<AlignOptions["method"]>;
  readonly groups: readonly AlignedGroup[];
  readonly rounds: number;
  readonly converged: boolean;
  readonly network: Network;
  /** States: parameters, then buffers. The second's is undefined where its widths differ. */
  readonly first: Float64Array;
  readonly second: Float64Array | undefined;
  readonly alignedState: Float64Array;
  readonly share: number;
}

/** Two networks aligned: made by `align`. It holds copies of both until it is disposed of. */
export class Alignment {
  readonly method: NonNullable<AlignOptions["method"]>;
  /**
   * In the sequence in which their orders are applied, each to what those before have left: groups
   * around others, such as heads around their widths, come first.
   */
  readonly groups: readonly AlignedGroup[];
  /** weights: rounds over all groups, the last of which changed nothing. Else 1. */
  readonly rounds: number;
  /** Whether matching ended by itself: see maxRounds. Of Sinkhorn: whether marginals are met. */
  readonly converged: boolean;
  /** The share of all units that moved; undefined for plans that are no permutations. */
  readonly churn: number | undefined;
  /** The cosine of all parameters of the two networks. */
  readonly similarity: BeforeAfter;
  /** @internal */
  readonly parts: Parts;

  /** @internal */
  constructor(parts: Parts) {
    this.parts = parts;
    this.method = parts.method;
    this.groups = parts.groups;
    this.rounds = parts.rounds;
    this.converged = parts.converged;
    const units = parts.groups.reduce((sum, { size }) => sum + size, 0);
    const moved = parts.groups.map((group) => group.moved);
    this.churn = moved.every((count) => count !== undefined)
      ? moved.reduce((sum, count) => sum + count, 0) / Math.max(1, units)
      : undefined;
    const P = parts.network.model.parameterCount;
    const cosine = (b: Float64Array) => cosineOf(parts.first, b, P);
    this.similarity = {
      before: parts.second && cosine(parts.second),
      after: cosine(parts.alignedState),
    };
  }

  /** All parameters of the second network in the units of the first, in the first's order. */
  get parameters(): Float64Array {
    return this.parts.network.parametersOf(this.parts.alignedState);
  }

  /** The second network in the units of the first, with its buffers; a model of its own each time. */
  aligned(): Model {
    return this.parts.network.modelAt(this.parts.alignedState);
  }

  /** The mean of the first network and the aligned second: (1 - share) and share of each number. */
  fused(): Model {
    return this.parts.network.modelAt(this.fusedState());
  }

  /** @internal */
  fusedState(): Float64Array {
    const { first, alignedState, share } = this.parts;
    return first.map((x, i) => (1 - share) * x + share * alignedState[i]!);
  }

  /**
   * Writes the aligned or the fused network, buffers included: .onnx, the first network's file with
   * these numbers, .safetensors or .npz.
   */
  async save(file: string, which: "aligned" | "fused" = "aligned"): Promise<void> {
    const { network, alignedState } = this.parts;
    const state = which === "fused" ? this.fusedState() : alignedState;
    await saveCheckpoint(file, network.whole, state);
  }

  dispose(): void {
    this.parts.network.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function cosineOf(a: Float64Array, b: Float64Array, length: number): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < length; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return aa === 0 || bb === 0 ? 0 : ab / (Math.sqrt(aa) * Math.sqrt(bb));
}

/** Streams of one seed. */
const ROUNDS = 4;

/** Groups in a random order, another each round. */
function randomSequence(count: number, seed: number | bigint): () => number[] {
  const random = new Random(seed, ROUNDS);
  return () => {
    const sequence = [...new Array(count).keys()];
    for (let i = count - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [sequence[i], sequence[j]] = [sequence[j]!, sequence[i]!];
    }
    return sequence;
  };
}

type Found = Pick<Parts, "groups" | "rounds" | "converged" | "alignedState">;

/**
 * Matches the units of a second network with those of a first one, so that what differs between the
 * two is not the order of their units: weight matching, activation matching or optimal transport, on
 * the permutation groups that are found in the graph.
 *
 * ```ts
 * using found = await align(first, second);
 * found.groups[0].order;      // unit i of the first goes with unit order[i] of the second
 * await found.save("aligned.onnx");
 * ```
 *
 * Costs: weights, a matrix product and an assignment problem (cubic in the width) a group and round;
 * activations, forward passes of both networks for each group.
 *
 * @param second a model of the same architecture (its buffers are used), or all its parameters in
 * the order of `first`; with "fusion" a model that differs in widths as well
 * @throws OptionError, DataMismatchError where networks, groups or data do not fit; AbortError
 */
export async function align(
  first: Model,
  second: Checkpoint,
  options?: AlignOptions,
): Promise<Alignment> {
  const given = checkOptions("align", options, OPTIONS);
  const { method = "weights", share = 0.5 } = given;
  const needsData = method === "activations" || given.costs === "activations";
  if (needsData && !given.data)
    throw new OptionError(`align: expected data for activations: align(first, second, { data })`);
  const network = new Network("align", first);
  try {
    const asked = given.groups ?? permutationGroups(first, given.data);
    const groups = outerFirst("align", network, asked);
    if (groups.length === 0)
      throw new OptionError(
        `align: expected a network with units that can be exchanged, and ${first.source} has none`,
      );
    const members = memberships("align", network, groups);
    const same = !(second instanceof Model) || fits(network, second);
    if (!same && method !== "fusion") parametersOf("align", first, second); // says what differs
    const state = same ? network.stateOf("align", second) : undefined;
    checkFinite(state);
    const started = performance.now();
    const onStep = (fraction: number) =>
      given.onProgress?.({
        products: 0,
        fraction,
        seconds: (performance.now() - started) / 1000,
      });
    let found: Found;
    if (method === "fusion") {
      const pair = { network, groups, members, state };
      found = await fuse(pair, second, given, onStep);
    } else {
      const task: MatchTask = {
        ...{ network, groups, members },
        first: network.state,
        second: state!,
        signal: given.signal,
      };
      found =
        method === "weights"
          ? await byWeights(task, given, onStep)
          : await byActivations(task, given, onStep);
    }
    return new Alignment({ ...found, method, share, network, first: network.state, second: state });
  } catch (error) {
    network.dispose();
    throw error;
  }
}

function checkFinite(state: Float64Array | undefined): void {
  const bad = state?.findIndex((x) => !Number.isFinite(x)) ?? -1;
  if (bad >= 0)
    throw new DataMismatchError(`align: expected finite parameters, got ${state![bad]}`);
}

/** Whether a model has tensors of the same shapes. */
function fits({ model }: Network, other: Model): boolean {
  try {
    parametersOf("align", model, other);
    return true;
  } catch {
    return false;
  }
}

function aligned(
  task: MatchTask,
  orders: readonly Int32Array[],
  scores?: readonly BeforeAfter[],
): Pick<Found, "groups" | "alignedState"> {
  const { network, groups, members, second } = task;
  const alignedState = permuteState(network, second, members, orders);
  const side = { network, groups, state: task.first };
  return {
    alignedState,
    groups: groups.map(({ name, size }, g) => ({
      ...{ name, size, otherSize: size, order: orders[g]!, plan: undefined },
      moved: orders[g]!.reduce((sum, unit, i) => sum + (unit === i ? 0 : 1), 0),
      similarity: {
        before: groupCosine(side, g, second),
        after: groupCosine(side, g, alignedState),
      },
      score: scores?.[g],
    })),
  };
}

type OnStep = (fraction: number) => void;

async function byWeights(task: MatchTask, options: AlignOptions, onStep: OnStep): Promise<Found> {
  const { seed = 0, maxRounds = 100 } = options;
  const sequence = randomSequence(task.groups.length, seed);
  const { orders, rounds, converged } = await matchWeights(task, sequence, maxRounds, (round) =>
    onStep(round / maxRounds),
  );
  return { ...aligned(task, orders), rounds, converged };
}

async function byActivations(
  task: MatchTask,
  options: AlignOptions,
  onStep: OnStep,
): Promise<Found> {
  const { network, groups, members, second } = task;
  const { data, similarity = "correlation", precision, threads, maxMemory } = options;
  const run = { precision, threads, maxMemory, signal: options.signal, samples: options.samples };
  const orders = groups.map(({ size }) => identityOrder(size));
  const scores: BeforeAfter[] = [];
  for (const [g, group] of groups.entries()) {
    onStep(g / groups.length);
    // Groups that lie inside others are matched once those are.
    using other = network.modelAt(permuteState(network, second, members, orders));
    const sides = [network.model, other].map((model) => ({ network, model, group }));
    const pairs = await comparePairs("align", sides, data!, similarity, run);
    const order = assign(pairs.scores, group.size);
    const mean = (along: Int32Array) => scoreOf(pairs.scores, along) / group.size;
    scores.push({ before: mean(identityOrder(group.size)), after: mean(order) });
    orders[g] = order;
  }
  return { ...aligned(task, orders, scores), rounds: 1, converged: true };
}

interface FirstSide extends Pick<MatchTask, "network" | "groups" | "members"> {
  /** Of the second network, where its shapes are the same. */
  state: Float64Array | undefined;
}

async function fuse(
  { network, groups, members, state }: FirstSide,
  second: Checkpoint,
  options: AlignOptions,
  onStep: OnStep,
): Promise<Found> {
  const { regularisation = 0, scaling = "mean", signal, costs = "weights" } = options;
  const own = { network, groups, members, state: network.state };
  // Of equal shapes, the second is another state of the first network.
  using elsewhere = state ? undefined : new Network("align", second as Model);
  let other = { ...own, state: state! };
  if (elsewhere) {
    const otherGroups = outerFirst(
      "align",
      elsewhere,
      options.otherGroups ?? permutationGroups(second as Model, options.data),
    );
    if (otherGroups.length !== groups.length)
      throw new OptionError(
        `align: expected two networks that differ by the widths of units only, got ` +
          `${groups.length} groups of units and ${otherGroups.length}`,
      );
    other = {
      network: elsewhere,
      groups: otherGroups,
      members: memberships("align", elsewhere, otherGroups),
      state: elsewhere.state,
    };
  }
  requireApart(own);
  const task: FusionTask = { first: own, second: other, scaling, regularisation, signal };
  const plans =
    costs === "weights"
      ? await plansByWeights(task, (done) => onStep(done / groups.length))
      : await plansByActivations(task, options, onStep);
  const alignedState = transportState(task, plans);
  const cosine = (g: number, b: Float64Array | undefined) => b && groupCosine(own, g, b);
  return {
    rounds: 1,
    converged: plans.every(({ converged }) => converged),
    alignedState,
    groups: groups.map(({ name, size }, g) => ({
      ...{ name, size, otherSize: other.groups[g]!.size },
      order: plans[g]!.order,
      plan: plans[g]!.plan,
      moved: plans[g]!.order?.reduce((sum, unit, i) => sum + (unit === i ? 0 : 1), 0),
      similarity: { before: cosine(g, state), after: cosine(g, alignedState)! },
      score: undefined,
    })),
  };
}

async function plansByActivations(task: FusionTask, options: AlignOptions, onStep: OnStep) {
  const { first, second } = task;
  const { data, precision, threads, maxMemory, signal, samples } = options;
  const run = { precision, threads, maxMemory, signal, samples };
  const plans = [];
  using other = second.network.modelAt(second.state);
  for (const [g, group] of first.groups.entries()) {
    onStep(g / first.groups.length);
    const sides = [
      { network: first.network, model: first.network.model, group },
      { network: second.network, model: other, group: second.groups[g]! },
    ];
    const { distances } = await comparePairs("align", sides, data!, "product", run);
    plans.push(planOf(distances, group.size, second.groups[g]!.size, task.regularisation));
  }
  return plans;
}

/** The cosine of two states over the tensors of a group. */
function groupCosine(
  { network, groups, state }: Pick<FusionTask["first"], "network" | "groups" | "state">,
  group: number,
  other: Float64Array,
): number {
  const names = new Set(
    groups[group]!.places.filter(({ parameter }) => parameter).map(({ tensor }) => tensor),
  );
  const parts = [...names].map((name) => network.tensor(name)!);
  const gather = (of: Float64Array) =>
    Float64Array.from(
      parts.flatMap(({ offset, size }) => Array.from(of.subarray(offset, offset + size))),
    );
  const [a, b] = [gather(state), gather(other)];
  return cosineOf(a, b, a.length);
}

/** @internal For functions that take what `align` found. */
export function checkAlignment(where: string, found: unknown): asserts found is Alignment {
  if (!(found instanceof Alignment))
    throw new OptionError(`${where}: expected what align found, got ${describe(found)}`);
}
