/** Weight matching: Ainsworth, Hayase and Srinivasa 2023, "Git Re-Basin", algorithm 1. */
import { matrixProduct } from "../dense";
import type { PermutationGroup, UnitPlace } from "../symmetry/types";
import { dot } from "../vectors";
import { assign, scoreOf } from "./assignment";
import { type Inner, nestingOf } from "./nesting";
import { type Membership, type Network, type Orders, permuteTensor } from "./network";
import { identityOrder, inverseOrder, unitRows } from "./places";

/** Two networks of one architecture, and the groups whose units are to be matched. */
export interface MatchTask {
  readonly network: Network;
  readonly groups: readonly PermutationGroup[];
  readonly members: ReadonlyMap<string, readonly Membership[]>;
  /** States: parameters, then buffers. */
  readonly first: Float64Array;
  readonly second: Float64Array;
  readonly signal?: AbortSignal | undefined;
}

/** What a matching found. */
export interface Matched {
  readonly orders: Int32Array[];
  /** Rounds over all groups, the last of which changed nothing. */
  readonly rounds: number;
  readonly converged: boolean;
}

/** Gains below this share of the norms of both networks are rounding. */
const GAIN = 1e-12;

/** The parameters that each group moves, each tensor once. */
function tensorsOf({ groups, network }: MatchTask): string[][] {
  return groups.map(({ places }) => [
    ...new Set(
      places
        .filter(({ tensor, parameter }) => parameter && network.tensor(tensor))
        .map(({ tensor }) => tensor),
    ),
  ]);
}

/** The inner product of the networks over some tensors, and the product of their norms. */
function similarityOver(
  { network, members, first, second }: MatchTask,
  tensors: readonly string[],
  orders: Orders,
): { product: number; scale: number } {
  let [product, a2, b2] = [0, 0, 0];
  for (const name of tensors) {
    const tensor = network.tensor(name)!;
    const a = first.subarray(tensor.offset, tensor.offset + tensor.size);
    const b = permuteTensor(second, tensor, members.get(name) ?? [], orders);
    product += dot(a, b);
    a2 += dot(a, a);
    b2 += dot(b, b);
  }
  return { product, scale: Math.sqrt(a2) * Math.sqrt(b2) };
}

/**
 * Scores of pairs of units: entry (i, j) is the inner product of what unit i of a group of the first
 * network and unit j of a group of the second have, with the other groups in their orders. Orders are
 * applied group after group, and may lie inside one another, as the width of a head inside the heads:
 * those before this group turn the second network, those after it are undone in the first.
 *
 * @param other the group of the second network: the same, or one whose units have the same places
 */
async function pairScores(
  task: MatchTask,
  group: number,
  orders: Orders,
  other = group,
): Promise<Float64Array> {
  const { network, groups, members, first, second, signal } = task;
  const { size, places } = groups[group]!;
  const scores = new Float64Array(size * size);
  for (const [at, place] of places.entries()) {
    if (!place.parameter) continue;
    const tensor = network.tensor(place.tensor)!;
    const list = members.get(place.tensor)!;
    const there = groups[other]!.places[at]!;
    const unitsOf = (of: UnitPlace) => list.find((member) => member.place === of)!.units;
    const earlier = list.filter((member) => member.group <= group && member.place !== place);
    const later = list.filter((member) => member.group > group).reverse();
    const a = permuteTensor(first, tensor, later, orders.map(inverseOrder));
    const b = permuteTensor(second, tensor, earlier, orders);
    const units = unitsOf(place);
    const product = await matrixProduct(
      unitRows(a, units),
      unitRows(b, unitsOf(there)),
      ...([size, units.width, size] as const),
      { transposed: true, signal },
    );
    product.forEach((x, i) => {
      scores[i]! += x;
    });
  }
  return scores;
}

/**
 * Orders of a group and of those inside its units together: the score of a pair of units is what they
 * have in common with the best orders inside them.
 */
async function matchNested(
  task: MatchTask,
  group: number,
  inner: Inner,
  orders: Orders,
): Promise<Int32Array[]> {
  const { groups } = task;
  const { size } = groups[group]!;
  // As if all of them were in the order of the files.
  const plain = orders.map((order, g) =>
    g === group || inner.some((inside) => inside.includes(g)) ? identityOrder(order.length) : order,
  );
  const rest = await pairScores(task, group, plain);
  const found: Int32Array[][] = [];
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      const within: Int32Array[] = [];
      for (const [k, own] of inner[i]!.entries()) {
        const scores = await pairScores(task, own, plain, inner[j]![k]!);
        const order = assign(scores, groups[own]!.size);
        // Numbers outside of the inner groups keep their score.
        rest[i * size + j]! +=
          scoreOf(scores, order) - scoreOf(scores, identityOrder(order.length));
        within.push(order);
      }
      found.push(within);
    }
  const order = assign(rest, size);
  const tried = plain.with(group, order);
  for (let i = 0; i < size; i++)
    for (const [k, own] of inner[i]!.entries()) tried[own] = found[i * size + order[i]!]![k]!;
  return tried;
}

/**
 * Coordinate descent over the groups: each gets the order that solves its assignment problem, the
 * other groups held, until a whole round changes nothing. An order is taken only where the inner
 * product of the networks grows, so that it ends also where a group stands at both axes of one tensor
 * and its problem is quadratic. Groups inside the units of another, of which the units are the same,
 * are matched with it: all pairs of units, with the best order inside each.
 *
 * @param sequence the groups of each round, in the order in which they are visited
 */
export async function matchWeights(
  task: MatchTask,
  sequence: (round: number) => readonly number[],
  maxRounds: number,
  onRound: (round: number) => void = () => {},
): Promise<Matched> {
  let orders = task.groups.map(({ size }) => identityOrder(size));
  const tensors = tensorsOf(task);
  const nesting = nestingOf(task.groups, task.members);
  for (let round = 0; round < maxRounds; round++) {
    onRound(round);
    let changed = false;
    for (const group of sequence(round)) {
      const { size } = task.groups[group]!;
      const inner = nesting[group];
      const tried = inner
        ? await matchNested(task, group, inner, orders)
        : orders.with(group, assign(await pairScores(task, group, orders), size));
      const now = similarityOver(task, tensors[group]!, orders);
      const then = similarityOver(task, tensors[group]!, tried);
      if (!(then.product - now.product > GAIN * now.scale)) continue;
      orders = tried;
      changed = true;
    }
    if (!changed) return { orders, rounds: round + 1, converged: true };
  }
  return { orders, rounds: maxRounds, converged: false };
}
