/**
 * Into what the axes of all values are cut, so that every primitive takes each piece as a whole:
 * axes that are permuted alike share one description, which reshapes, slices and concatenations
 * refine until nothing changes.
 */
import type { PrimitiveGraph } from "../native";
import {
  type AxisTree,
  boundaries,
  cutAt,
  joined,
  type Piece,
  piecesOf,
  refined,
  refinedParts,
  segments,
  sizeOf,
  splitAt,
  treeKey,
  whole,
} from "./axis-tree";
import type { AxisMap, Link, Relations } from "./primitives";

/** Constants with more runs of equal numbers than this are taken to differ everywhere. */
const MOST_RUNS = 64;

/** More pieces than this are no structure. */
const MOST_PIECES = 8192;

interface Both {
  readonly whole: AxisTree;
  readonly part: AxisTree;
}

/** A tree with a part from `start` on, both as fine as the other asks. */
function withRun(tree: AxisTree, part: AxisTree, start: number): Both | undefined {
  const end = start + sizeOf(part);
  const cuts = boundaries(segments(part)).map((at) => start + at);
  const parts = cutAt(tree, [start, ...cuts, end]);
  if (parts.length > MOST_PIECES) return undefined;
  const begins = [0, ...boundaries(parts)];
  const [from, count] = [
    begins.indexOf(start),
    begins.filter((begin) => begin >= start && begin < end).length,
  ];
  const both = refinedParts(joined(parts.slice(from, from + count)), part);
  if (!both) return undefined;
  parts.splice(from, count, ...both);
  return { whole: joined(parts), part: joined(both) };
}

/** The same for a part of every step-th position: of one index of an inner factor. */
function withSteps(tree: AxisTree, part: AxisTree, start: number, step: number): Both | undefined {
  if (step < 0 || start >= step || sizeOf(tree) !== sizeOf(part) * step) return undefined;
  const halves = splitAt(tree, step);
  const both = halves && refined(halves[0], part);
  if (!both) return undefined;
  return { whole: [...both, ...joined(cutAt(halves[1], [start, start + 1]))], part: both };
}

/** The numbers at one position of an axis, as text. */
export function numbersAt(
  values: Float64Array,
  shape: readonly number[],
  axis: number,
  position: number,
): string {
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const step = shape[axis]! * inner;
  const numbers: number[] = [];
  for (let outer = 0; outer < values.length; outer += step)
    for (let j = 0; j < inner; j++) numbers.push(values[outer + position * inner + j]!);
  return numbers.join();
}

/** Of one value. */
const MOST_CELLS = 1 << 16;

/** Axes that are permuted alike. */
interface AxisClass {
  tree: AxisTree;
  key: string;
  /** Why no position may move, if so. */
  why: string | undefined;
  /** Maps to look at again when it changes. */
  readonly maps: Set<number>;
}

/** The axes of a network in pieces. */
export class Axes {
  readonly relations: Relations;
  readonly #first: number[] = [];
  readonly #parent: Int32Array;
  readonly #classes = new Map<number, AxisClass>();
  readonly #pieces = new Map<number, Piece[]>();
  readonly #maps: { link: Link; map: AxisMap }[] = [];
  readonly #queue = new Set<number>();

  constructor(graph: PrimitiveGraph, relations: Relations) {
    this.relations = relations;
    let count = 0;
    for (const shape of relations.shapes) {
      this.#first.push(count);
      count += shape.length;
    }
    this.#parent = Int32Array.from({ length: count }, (_, i) => i);
    this.#unite();
    this.#start(graph);
    this.#settle();
    while (this.#coarsen()) this.#settle();
  }

  /** Gives up the finest axis of a value that is cut into too many cells. */
  #coarsen(): boolean {
    this.#pieces.clear();
    let changed = false;
    this.relations.shapes.forEach((shape, value) => {
      const counts = shape.map((_, axis) => this.pieces(value, axis).length);
      if (counts.reduce((a, b) => a * b, 1) <= MOST_CELLS) return;
      const free = counts.map((count, axis) => (this.why(value, axis) === undefined ? count : 0));
      const most = Math.max(...free);
      if (most <= 1) return;
      this.#fix(value, free.indexOf(most), "it is cut into too many pieces");
      changed = true;
    });
    if (changed) this.#pieces.clear();
    return changed;
  }

  /** Axes are named by one number. */
  #id(value: number, axis: number): number {
    return this.#first[value]! + axis;
  }

  #root(value: number, axis: number): number {
    const parent = this.#parent;
    let at = this.#id(value, axis);
    while (parent[at] !== at) at = parent[at] = parent[parent[at]!]!;
    return at;
  }

  #of(value: number, axis: number): AxisClass {
    return this.#classes.get(this.#root(value, axis))!;
  }

  #sizeOf(value: number, axis: number): number {
    return this.relations.shapes[value]![axis]!;
  }

  #unite(): void {
    for (const link of this.relations.links)
      for (const map of link.maps) {
        if (map.kind !== "same") this.#maps.push({ link, map });
        else if (this.#sizeOf(link.x, map.x) > 1) {
          const [a, b] = [this.#root(link.x, map.x), this.#root(link.y, map.y)];
          this.#parent[Math.max(a, b)] = Math.min(a, b);
        }
      }
  }

  #start(graph: PrimitiveGraph): void {
    this.relations.shapes.forEach((shape, value) => {
      shape.forEach((size, axis) => {
        const root = this.#root(value, axis);
        if (this.#classes.has(root)) return;
        const tree = whole(size);
        this.#classes.set(root, { tree, key: treeKey(tree), why: undefined, maps: new Set() });
      });
    });
    this.#maps.forEach(({ link, map }, at) => {
      for (const side of ["x", "y"] as const)
        for (const axis of [map[side]].flat()) this.#of(link[side], axis).maps.add(at);
      this.#queue.add(at);
    });
    for (const { value, axis, why } of this.relations.fixed) this.#fix(value, axis, why);
    graph.nodes.forEach(({ values, shape }, value) => {
      if (values && values.length > 1)
        shape.forEach((size, axis) => {
          if (size > 1) this.#cutByRuns(value, axis, values);
        });
    });
  }

  /** A constant that is the same along stretches of an axis cuts it into those. */
  #cutByRuns(value: number, axis: number, values: Float64Array): void {
    const { tree, why } = this.#of(value, axis);
    const shape = this.relations.shapes[value]!;
    const size = shape[axis]!;
    if (why !== undefined) return;
    const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const changes = new Set<number>();
    for (let i = inner; i < values.length && changes.size < MOST_RUNS; i++) {
      const at = Math.floor(i / inner) % size;
      if (at > 0 && !Object.is(values[i], values[i - inner])) changes.add(at);
    }
    if (changes.size === 0 || changes.size >= MOST_RUNS) return;
    // Numbers that differ everywhere make no stretches, and fix the axis.
    const different = new Set(
      Array.from({ length: size }, (_, at) => numbersAt(values, shape, axis, at)),
    );
    if (different.size < size)
      this.#set(
        value,
        axis,
        joined(
          cutAt(
            tree,
            [...changes].sort((a, b) => a - b),
          ),
        ),
      );
  }

  #set(value: number, axis: number, tree: AxisTree): void {
    const known = this.#of(value, axis);
    const key = treeKey(tree);
    if (key === known.key) return;
    known.tree = tree;
    known.key = key;
    for (const at of known.maps) this.#queue.add(at);
  }

  #fix(value: number, axis: number, why: string): void {
    const known = this.#of(value, axis);
    if (known.why !== undefined || this.#sizeOf(value, axis) === 1) return;
    known.why = why;
    this.#set(value, axis, whole(this.#sizeOf(value, axis), true));
  }

  #settle(): void {
    while (this.#queue.size > 0) {
      for (const at of [...this.#queue]) {
        this.#queue.delete(at);
        const { link, map } = this.#maps[at]!;
        if (map.kind === "part") this.#settlePart(link, map);
        else if (map.kind === "merged") this.#settleMerged(link, map);
      }
    }
  }

  #settlePart({ x, y }: Link, map: AxisMap & { kind: "part" }): void {
    const { why, tree } = this.#of(x, map.x);
    const part = this.#of(y, map.y).tree;
    const both =
      why !== undefined
        ? undefined
        : map.step === 1
          ? withRun(tree, part, map.start)
          : withSteps(tree, part, map.start, map.step);
    if (both) {
      this.#set(x, map.x, both.whole);
      this.#set(y, map.y, both.part);
    } else {
      this.#fix(x, map.x, why ?? "a slice or concatenation crosses its blocks");
      this.#fix(y, map.y, why ?? "a slice or concatenation crosses its blocks");
    }
  }

  #settleMerged({ x, y }: Link, map: AxisMap & { kind: "merged" }): void {
    const sides = [
      { value: x, axes: map.x },
      { value: y, axes: map.y },
    ];
    const whys = sides.map(({ value, axes }) => axes.map((axis) => this.#of(value, axis).why));
    const fixAll = (why: string) => {
      for (const { value, axes } of sides) for (const axis of axes) this.#fix(value, axis, why);
    };
    const settled = whys.find((each) => each.every((why) => why !== undefined));
    if (settled) {
      fixAll(settled[0]!);
      return;
    }
    const [left, right] = sides.map(({ value, axes }) =>
      axes.flatMap((axis) => this.#of(value, axis).tree),
    );
    const both = refined(left!, right!);
    const cuts = both && sides.map(({ value, axes }) => this.#divided(both, value, axes));
    if (!cuts?.every((each) => each !== undefined)) {
      fixAll("a reshape mixes its positions");
      return;
    }
    cuts.forEach((each, i) => {
      const { value, axes } = sides[i]!;
      axes.forEach((axis, k) => {
        this.#set(value, axis, each![k]!);
      });
    });
  }

  /** The factors of each of these axes. */
  #divided(tree: AxisTree, value: number, axes: readonly number[]): AxisTree[] | undefined {
    const trees: AxisTree[] = [];
    let rest: AxisTree = tree;
    for (const axis of [...axes].reverse()) {
      const halves = splitAt(rest, this.#sizeOf(value, axis));
      if (!halves) return undefined;
      rest = halves[0];
      trees.unshift(halves[1]);
    }
    return trees;
  }

  /** What an axis is cut into. */
  pieces(value: number, axis: number): readonly Piece[] {
    const root = this.#root(value, axis);
    let pieces = this.#pieces.get(root);
    if (!pieces) {
      pieces = piecesOf(this.#classes.get(root)!.tree);
      this.#pieces.set(root, pieces);
    }
    return pieces;
  }

  /** Why the positions of an axis may not move, if they may not. */
  why(value: number, axis: number): string | undefined {
    return this.#of(value, axis).why;
  }
}
