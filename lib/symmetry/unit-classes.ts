/** Classes of tied factors made into sets of units: as large as they can be exchanged. */
import type { Leaf } from "./permutations";
import type { Ties } from "./ties";
import type { UnitPlace } from "./types";

/** Positions along an axis, a list a unit. */
export interface Positions {
  readonly where: UnitPlace["where"];
  readonly positions: number[][];
}

/** An axis of a tensor that units lie along. */
export interface UnitAxis {
  readonly leaf: Leaf;
  readonly axis: number;
  /** At one index of what the permutation depends on. */
  positions(at: ReadonlyMap<number, number>): Positions[];
}

/** Units that are exchanged, and what the permutation may depend on. */
export interface Units {
  /** The classes that make them up. */
  readonly roots: readonly number[];
  readonly size: number;
  /** Classes of which a permutation may depend on the index. */
  readonly free: readonly { readonly root: number; readonly size: number }[];
  /** In the order of the tensors. */
  readonly axes: readonly UnitAxis[];
}

/** The pieces of an axis that a class runs through, each with the cells where it does. */
type Pieces = ReadonlyMap<number, readonly (readonly number[])[]>;

/** A product of classes, the outermost first, of which any index pairs may be exchanged. */
interface Cluster {
  readonly roots: readonly number[];
  readonly size: number;
}

/** The classes that touch a parameter and keep no places, as units. */
export function joinedUnits(ties: Ties, leaves: readonly Leaf[]): Units[] {
  const isLeaf = new Map(leaves.map((leaf) => [leaf.value, leaf]));
  const candidates = new Set<number>();
  const axes = new Map<number, { leaf: Leaf; axis: number; pieces: Pieces }[]>();
  for (const leaf of leaves)
    leaf.shape.forEach((_, axis) => {
      for (const [root, pieces] of ties.cellsByClass(leaf.value, axis)) {
        if (leaf.parameter) candidates.add(root);
        axes.set(root, [...(axes.get(root) ?? []), { leaf, axis, pieces }]);
      }
    });
  const roots = [...candidates].filter((root) => ties.why(root) === undefined);
  const inLeaves = (root: number) =>
    ties.members.get(root)!.filter((node) => isLeaf.has(ties.occurrence(node).value));
  const freeOf = new Map(
    roots.map((root) => {
      const nodes = ties.free(ties.members.get(root)![0]!);
      return [root, new Map(nodes.map((node) => [ties.root(node), ties.sizeOf(node)]))];
    }),
  );
  const clusters = clustersOf(roots, freeOf, (a, b) => alwaysBeside(ties, inLeaves(a), b));
  const sets = twinsOf(clusters, ties, leaves).filter(
    (members) => members.length > 1 || members[0]!.size > 1,
  );
  return sets.map((members) => {
    const [first] = members as [Cluster];
    const free = [...freeOf.get(first.roots[0]!)!]
      .filter(([root]) => !first.roots.includes(root))
      .map(([root, size]) => ({ root, size }));
    return {
      roots: members.flatMap(({ roots }) => roots),
      size: members.reduce((n, { size }) => n + size, 0),
      free,
      axes: axes.get(first.roots[0]!)!.map(({ leaf, axis }) => {
        // Twins stand on the same axes.
        const pieces = members.map(
          ({ roots: [root] }) =>
            axes.get(root!)!.find((each) => each.leaf === leaf && each.axis === axis)!.pieces,
        );
        return {
          ...{ leaf, axis },
          positions: (at) => unitPositions(ties, members, leaf.value, axis, pieces, at),
        };
      }),
    };
  });
}

/** Whether wherever these nodes stand in tensors, a node of another class stands on their axis. */
function alwaysBeside(ties: Ties, nodes: readonly number[], root: number): boolean {
  return nodes.every((node) => {
    const { axis } = ties.occurrence(node);
    return ties
      .cellNodes(node)
      .some((other) => ties.root(other) === root && ties.occurrence(other).axis === axis);
  });
}

/**
 * Classes that may each depend on the other's index: all their index pairs are exchanged, as row and
 * column permutations of a table generate all permutations of its entries.
 */
function clustersOf(
  roots: readonly number[],
  freeOf: ReadonlyMap<number, ReadonlyMap<number, number>>,
  beside: (a: number, b: number) => boolean,
): Cluster[] {
  const taken = new Set<number>();
  const clusters: Cluster[] = [];
  const known = new Set(roots);
  for (const root of roots) {
    if (taken.has(root)) continue;
    const together = [root];
    const free = freeOf.get(root)!;
    for (const other of free.keys()) {
      if (!known.has(other) || taken.has(other)) continue;
      const back = freeOf.get(other)!;
      const mutual = together.every(
        (each) =>
          back.has(each) &&
          freeOf.get(each)!.has(other) &&
          beside(each, other) &&
          beside(other, each),
      );
      // Both depend on the same others.
      const alike =
        back.size === free.size && [...back.keys()].every((r) => r === root || free.has(r));
      if (mutual && alike) together.push(other);
    }
    for (const each of together) taken.add(each);
    clusters.push({ roots: together, size: 0 });
  }
  return clusters;
}

/** Clusters that stand beside each other everywhere, with nothing that tells them apart. */
function twinsOf(clusters: readonly Cluster[], ties: Ties, leaves: readonly Leaf[]): Cluster[][] {
  const values = new Set(leaves.map(({ value }) => value));
  const sized = clusters.map(({ roots }) => ({
    roots: outermostFirst(ties, roots, values),
    size: sizeOf(ties, roots),
  }));
  const byRoot = new Map(sized.map((cluster) => [cluster.roots[0]!, cluster]));
  const done = new Set<number>();
  const sets: Cluster[][] = [];
  for (const cluster of sized) {
    const root = cluster.roots[0]!;
    if (done.has(root)) continue;
    done.add(root);
    const set = [cluster];
    if (cluster.roots.length === 1)
      for (const other of neighbours(ties, root, leaves)) {
        const twin = byRoot.get(other);
        if (!twin || done.has(other) || twin.roots.length > 1) continue;
        if (!areTwins(ties, root, other)) continue;
        done.add(other);
        set.push(twin);
      }
    sets.push(set);
  }
  return sets;
}

/** In the order in which they run in the first tensor. */
function outermostFirst(
  ties: Ties,
  roots: readonly number[],
  values: ReadonlySet<number>,
): readonly number[] {
  if (roots.length === 1) return roots;
  const stride = (root: number) => {
    const node = ties.members.get(root)!.find((each) => values.has(ties.occurrence(each).value))!;
    const { value, cell, axis, factor } = ties.occurrence(node);
    return ties.pieces(value, axis)[cell[axis]!]!.factors[factor]!.stride;
  };
  return [...roots].sort((a, b) => stride(b) - stride(a));
}

function sizeOf(ties: Ties, roots: readonly number[]): number {
  return roots.reduce((n, root) => n * ties.sizeOf(ties.members.get(root)![0]!), 1);
}

/** Axes of more pieces are not searched for those that are alike. */
const MOST_PIECES = 100;

/** Classes that stand in other pieces of an axis of a tensor where a class does. */
function neighbours(ties: Ties, root: number, leaves: readonly Leaf[]): Set<number> {
  const values = new Set(leaves.map(({ value }) => value));
  const node = ties.members.get(root)!.find((each) => values.has(ties.occurrence(each).value))!;
  const { value, cell, axis, factor } = ties.occurrence(node);
  const others = new Set<number>();
  const pieces = ties.pieces(value, axis);
  if (pieces.length > MOST_PIECES) return others;
  pieces.forEach(({ factors }, piece) => {
    if (factors.length !== pieces[cell[axis]!]!.factors.length) return;
    const at = cell.map((each, i) => (i === axis ? piece : each));
    others.add(ties.root(ties.node(value, at, axis, factor)));
  });
  others.delete(root);
  return others;
}

/**
 * Whether a unit of one class can change places with a unit of the other: the two stand in the same
 * values beside the same factors.
 */
function areTwins(ties: Ties, a: number, b: number): boolean {
  const [left, right] = [ties.members.get(a)!, ties.members.get(b)!];
  if (left.length !== right.length) return false;
  const partners = new Set<number>();
  return left.every((node) => {
    const { value, cell, axis, factor } = ties.occurrence(node);
    const pieces = ties.pieces(value, axis);
    const count = pieces[cell[axis]!]!.factors.length;
    const nodeIn = (piece: number) =>
      ties.node(
        value,
        cell.map((each, i) => (i === axis ? piece : each)),
        axis,
        factor,
      );
    const alike = [...pieces.keys()].filter((piece) => pieces[piece]!.factors.length === count);
    const of = (root: number) => alike.filter((piece) => ties.root(nodeIn(piece)) === root);
    const [own, others] = [of(a), of(b)];
    const partner = others[own.indexOf(cell[axis]!)];
    if (own.length !== others.length || partner === undefined) return false;
    const other = nodeIn(partner);
    if (partners.has(other) || ties.marks(node) !== ties.marks(other)) return false;
    partners.add(other);
    const [xs, ys] = [ties.cellNodes(node), ties.cellNodes(other)];
    const moves = (x: number) => ties.sizeOf(x) > 1 && ties.why(ties.root(x)) === undefined;
    const same = (x: number, y: number) =>
      ties.root(x) === ties.root(y) || (!moves(x) && !moves(y));
    const beside = xs.every((x, bit) => x === node || same(x, ys[bit]!));
    return (
      beside &&
      ties.free(node).join() ===
        ties
          .free(other)
          .map((y) => y - other + node)
          .join()
    );
  });
}

/** Where units lie along an axis of a value. */
function unitPositions(
  ties: Ties,
  members: readonly Cluster[],
  value: number,
  axis: number,
  pieces: readonly Pieces[],
  at: ReadonlyMap<number, number>,
): Positions[] {
  const size = members.reduce((n, each) => n + each.size, 0);
  const byWhere = new Map<string, Positions>();
  let before = 0;
  for (const [m, { roots, size: count }] of members.entries()) {
    const first = before;
    before += count;
    for (const [piece, cells] of pieces[m]!)
      for (const [nth, lists] of inPiece(ties, value, axis, piece, cells[0]!, roots, at).entries())
        for (const where of ties.restriction(value, axis, cells, at)) {
          const key = JSON.stringify([nth, where]);
          const known = byWhere.get(key) ?? {
            where,
            positions: Array.from({ length: size }, (): number[] => []),
          };
          byWhere.set(key, known);
          lists.forEach((list, u) => void known.positions[first + u]!.push(...list));
        }
  }
  return [...byWhere.values()];
}

/**
 * Positions in one piece: of each unit, with all factors that ride along. A class that runs twice
 * through an axis, as after the product of a value with itself, is permuted in one and then the other.
 */
function inPiece(
  ties: Ties,
  value: number,
  axis: number,
  piece: number,
  cell: readonly number[],
  roots: readonly number[],
  at: ReadonlyMap<number, number>,
): number[][][] {
  const { start, factors } = ties.pieces(value, axis)[piece]!;
  const rootOf = factors.map((_, k) => ties.root(ties.node(value, cell, axis, k)));
  const times = (bases: readonly number[], k: number) =>
    bases.flatMap((base) =>
      Array.from({ length: factors[k]!.size }, (_, i) => base + i * factors[k]!.stride),
    );
  const runs = roots.map((root) => factors.flatMap((_, k) => (rootOf[k] === root ? [k] : [])));
  return runs[0]!.map((_, nth) => {
    const own = runs.map((each) => each[nth]!);
    const units = own.reduce(times, [start]);
    let riding = [0];
    factors.forEach(({ stride }, k) => {
      if (own.includes(k)) return;
      const index = at.get(rootOf[k]!);
      riding = index === undefined ? times(riding, k) : riding.map((base) => base + index * stride);
    });
    return units.map((unit) => riding.map((offset) => unit + offset));
  });
}
