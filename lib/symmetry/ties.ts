/**
 * Which factors of the pieces of all axes are permuted by one permutation (classes), which of them
 * keep their places, and on the index of which others a permutation may depend.
 */
import type { PrimitiveGraph } from "../native";
import { type Axes, numbersAt } from "./axes";
import type { Piece } from "./axis-tree";
import type { AxisMap, Link } from "./primitives";

/** Where a factor stands: in one cell (a piece of each axis) of a value. */
export interface Occurrence {
  readonly value: number;
  /** The piece of each axis. */
  readonly cell: readonly number[];
  readonly axis: number;
  /** The position among the factors of the piece. */
  readonly factor: number;
  /** Its number among all factors of the cell: its bit in masks. */
  readonly bit: number;
}

/** Pieces that belong together, and the factors that do. */
interface Match {
  readonly x: readonly (readonly [axis: number, piece: number])[];
  readonly y: readonly (readonly [axis: number, piece: number])[];
  readonly pairs: readonly (readonly [ax: number, kx: number, ay: number, ky: number])[];
}

/** Cells with more factors have no dependent permutations. */
const MOST_BITS = 30;

export class Ties {
  readonly axes: Axes;
  readonly graph: PrimitiveGraph;
  /** Of each value: its pieces by axis. */
  readonly #pieces: (readonly (readonly Piece[])[])[];
  /** Of each value: the first node of each cell. */
  readonly #cells: Int32Array[] = [];
  readonly #parent: Int32Array;
  readonly #where: Occurrence[] = [];
  readonly #whys = new Map<number, string>();
  /** Of each node: the factors of its cell on whose index its permutation may depend. */
  readonly #free: Int32Array;
  /** Pairs of nodes, link after link and cell after cell. */
  readonly #links: Int32Array[] = [];
  /** What constants say of the pieces that nodes stand in. */
  readonly #marks = new Map<number, Set<string>>();
  readonly #members = new Map<number, number[]>();

  constructor(graph: PrimitiveGraph, axes: Axes) {
    this.graph = graph;
    this.axes = axes;
    const { shapes } = axes.relations;
    this.#pieces = shapes.map((shape, value) =>
      shape.map((_, axis) => axes.pieces(value, axis).map(withFactor)),
    );
    this.#pieces.forEach((pieces, value) => {
      const cells = new Int32Array(pieces.reduce((n, each) => n * each.length, 1));
      for (let c = 0; c < cells.length; c++) {
        cells[c] = this.#where.length;
        const cell = this.#cellOf(value, c);
        let bit = 0;
        pieces.forEach((each, axis) => {
          each[cell[axis]!]!.factors.forEach((_, factor) => {
            this.#where.push({ value, cell, axis, factor, bit: bit++ });
          });
        });
      }
      this.#cells.push(cells);
    });
    const count = this.#where.length;
    this.#parent = Int32Array.from({ length: count }, (_, i) => i);
    this.#free = new Int32Array(count);
    this.#fixLeaves();
    for (const link of axes.relations.links) this.#tie(link);
    this.#gather();
    this.#settle();
  }

  #cellOf(value: number, index: number): number[] {
    const cell: number[] = [];
    let rest = index;
    for (const pieces of [...this.#pieces[value]!].reverse()) {
      cell.unshift(rest % pieces.length);
      rest = Math.floor(rest / pieces.length);
    }
    return cell;
  }

  #indexOf(value: number, cell: readonly number[]): number {
    return this.#pieces[value]!.reduce((n, pieces, axis) => n * pieces.length + cell[axis]!, 0);
  }

  /** The node of a factor. */
  node(value: number, cell: readonly number[], axis: number, factor: number): number {
    let node = this.#cells[value]![this.#indexOf(value, cell)]! + factor;
    for (let a = 0; a < axis; a++) node += this.#pieces[value]![a]![cell[a]!]!.factors.length;
    return node;
  }

  /** The nodes of all factors of a node's cell, by bit. */
  cellNodes(node: number): number[] {
    const { value, cell, bit } = this.#where[node]!;
    const count = this.#pieces[value]!.reduce(
      (n, pieces, axis) => n + pieces[cell[axis]!]!.factors.length,
      0,
    );
    return Array.from({ length: count }, (_, i) => node - bit + i);
  }

  root(node: number): number {
    const parent = this.#parent;
    let at = node;
    while (parent[at] !== at) at = parent[at] = parent[parent[at]!]!;
    return at;
  }

  occurrence(node: number): Occurrence {
    return this.#where[node]!;
  }

  pieces(value: number, axis: number): readonly Piece[] {
    return this.#pieces[value]![axis]!;
  }

  sizeOf(node: number): number {
    const { value, cell, axis, factor } = this.#where[node]!;
    return this.#pieces[value]![axis]![cell[axis]!]!.factors[factor]!.size;
  }

  /** Classes with their nodes. */
  get members(): ReadonlyMap<number, readonly number[]> {
    return this.#members;
  }

  /** Why a class keeps its places, if it does. */
  why(root: number): string | undefined {
    return this.#whys.get(root);
  }

  /** The nodes of the cell on whose index the permutation of a node may depend. */
  free(node: number): number[] {
    return this.cellNodes(node).filter((_, bit) => this.#free[node]! & (1 << bit));
  }

  /** What constants say of where a node stands, to tell it from another. */
  marks(node: number): string {
    return [...(this.#marks.get(node) ?? [])].sort().join(" ");
  }

  /** The nodes of all factors along an axis. */
  nodesAlong(value: number, axis: number): number[] {
    const nodes: number[] = [];
    for (const cell of this.#cellsWith(value, []))
      this.#pieces[value]![axis]![cell[axis]!]!.factors.forEach((_, factor) => {
        nodes.push(this.node(value, cell, axis, factor));
      });
    return nodes;
  }

  /** By class, the pieces of an axis that it runs through, each with the cells where it does. */
  cellsByClass(value: number, axis: number): Map<number, Map<number, number[][]>> {
    const found = new Map<number, Map<number, number[][]>>();
    for (const cell of this.#cellsWith(value, [])) {
      const piece = cell[axis]!;
      const roots = new Set(
        this.#pieces[value]![axis]![piece]!.factors.map((_, k) =>
          this.root(this.node(value, cell, axis, k)),
        ),
      );
      for (const root of roots) {
        const pieces = found.get(root) ?? new Map<number, number[][]>();
        found.set(root, pieces);
        const cells = pieces.get(piece);
        if (cells) cells.push(cell);
        else pieces.set(piece, [cell]);
      }
    }
    return found;
  }

  /**
   * What cells cover along the axes other than `axis`, where classes have a given index: each a list
   * of axes that are not covered whole.
   */
  restriction(
    value: number,
    axis: number,
    cells: readonly (readonly number[])[],
    at: ReadonlyMap<number, number>,
  ): { axis: number; positions: number[] }[][] {
    const shape = this.axes.relations.shapes[value]!;
    const others = [...shape.keys()].filter((each) => each !== axis);
    const covered = cells.map((cell) =>
      others.map((other) => this.#covered(value, other, cell, at)),
    );
    const listed = (lists: readonly number[][]) =>
      others.flatMap((other, i) => {
        const positions = lists[i]!;
        return positions.length === shape[other] ? [] : [{ axis: other, positions }];
      });
    // All combinations of what is covered along each axis are one product.
    const along = others.map(
      (_, i) => new Map(covered.map((lists) => [lists[i]!.join(), lists[i]!])),
    );
    if (along.reduce((n, { size }) => n * size, 1) !== cells.length) return covered.map(listed);
    return [listed(along.map((lists) => [...lists.values()].flat().sort((a, b) => a - b)))];
  }

  /** Positions along one axis of a cell. */
  #covered(
    value: number,
    axis: number,
    cell: readonly number[],
    at: ReadonlyMap<number, number>,
  ): number[] {
    const { start, factors } = this.#pieces[value]![axis]![cell[axis]!]!;
    let positions = [start];
    factors.forEach(({ size, stride }, k) => {
      const index = at.get(this.root(this.node(value, cell, axis, k)));
      positions = positions.flatMap((base) =>
        index !== undefined
          ? [base + index * stride]
          : Array.from({ length: size }, (_, i) => base + i * stride),
      );
    });
    return positions.sort((a, b) => a - b);
  }

  #fix(node: number, why: string): void {
    const root = this.root(node);
    if (!this.#whys.has(root)) this.#whys.set(root, why);
  }

  #unite(a: number, b: number): void {
    const [x, y] = [this.root(a), this.root(b)];
    if (x === y) return;
    const [root, other] = x < y ? [x, y] : [y, x];
    this.#parent[other] = root;
    const why = this.#whys.get(root) ?? this.#whys.get(other);
    if (why !== undefined) this.#whys.set(root, why);
  }

  /** Axes that keep their places. */
  #fixLeaves(): void {
    this.#where.forEach(({ value, cell, axis, factor }, node) => {
      const why = this.axes.why(value, axis);
      if (why !== undefined) this.#fix(node, why);
      else if (this.#pieces[value]![axis]![cell[axis]!]!.factors[factor]!.fixed)
        this.#fix(node, "it is joined to positions that keep their places");
    });
  }

  #tie(link: Link): void {
    const { x, y, maps } = link;
    let matches: Match[] = [{ x: [], y: [], pairs: [] }];
    for (const map of maps) {
      if (map.kind === "merged") {
        for (const axis of map.x) this.#markSingle(x, axis, y);
        for (const axis of map.y) this.#markSingle(y, axis, x);
      }
      const each = this.#matches(x, y, map);
      matches = matches.flatMap((left) =>
        each.map((right) => ({
          x: [...left.x, ...right.x],
          y: [...left.y, ...right.y],
          pairs: [...left.pairs, ...right.pairs],
        })),
      );
    }
    for (const match of matches) {
      const [xs, ys] = [this.#cellsWith(x, match.x), this.#cellsWith(y, match.y)];
      for (const [i, left] of xs.entries())
        for (const right of i === 0 ? ys : ys.slice(0, 1)) this.#tieCells(x, left, y, right, match);
    }
  }

  /** The cells of a value with these pieces. */
  #cellsWith(value: number, given: Match["x"]): number[][] {
    const known = new Map(given);
    let cells: number[][] = [[]];
    this.#pieces[value]!.forEach((pieces, axis) => {
      const at = known.get(axis);
      const choices = at === undefined ? [...pieces.keys()] : [at];
      cells = cells.flatMap((cell) => choices.map((piece) => [...cell, piece]));
    });
    return cells;
  }

  #tieCells(x: number, left: number[], y: number, right: number[], match: Match): void {
    const pairs: number[] = [];
    for (const [ax, kx, ay, ky] of match.pairs) {
      const [a, b] = [this.node(x, left, ax, kx), this.node(y, right, ay, ky)];
      const same = this.#sameAlong(x, ax, left[ax]!, kx) || this.#sameAlong(y, ay, right[ay]!, ky);
      if (same) continue;
      this.#unite(a, b);
      pairs.push(a, b);
    }
    if (pairs.length > 0) this.#links.push(Int32Array.from(pairs));
    this.#mark(x, left, y, right, match, false);
    this.#mark(y, right, x, left, match, true);
  }

  /** Whether a value is a constant that is the same along a factor: it then ties nothing. */
  #sameAlong(value: number, axis: number, piece: number, factor: number): boolean {
    const values = this.graph.nodes[value]?.values;
    if (!values) return false;
    if (values.length === 1) return true;
    const key = `${value}/${axis}/${piece}/${factor}`;
    let same = this.#known.get(key);
    if (same === undefined) {
      const { start, factors } = this.#pieces[value]![axis]![piece]!;
      same = sameAlong(values, this.graph.nodes[value]!.shape, axis, start, factors, factor);
      this.#known.set(key, same);
      if (!same) {
        const why = "constant numbers differ along it";
        for (const cell of this.#cellsWith(value, [[axis, piece]]))
          this.#fix(this.node(value, cell, axis, factor), why);
      }
    }
    return same;
  }
  readonly #known = new Map<string, boolean>();

  /** Tells pieces of a value apart between which a constant differs. */
  #mark(
    constant: number,
    at: number[],
    value: number,
    cell: number[],
    match: Match,
    swapped: boolean,
  ): void {
    const node = this.graph.nodes[constant];
    if (!node?.values || node.values.length === 1) return;
    for (const [ax, kx, ay, ky] of match.pairs) {
      const [of, to, k] = swapped ? [ay, ax, kx] : [ax, ay, ky];
      const pieces = this.#pieces[constant]![of]!;
      if (pieces.length === 1) continue;
      const numbers = numbersAt(node.values, node.shape, of, pieces[at[of]!]!.start);
      const marked = this.node(value, cell, to, k);
      const marks = this.#marks.get(marked) ?? new Set();
      this.#marks.set(marked, marks.add(`${constant}/${of}/${numbers}`));
    }
  }

  /** What becomes of a position of its own in a reshape is not followed: none is like another. */
  #markSingle(value: number, axis: number, other: number): void {
    const pieces = this.#pieces[value]![axis]!;
    pieces.forEach(({ factors }, piece) => {
      if (pieces.length === 1 || factors.some(({ size }) => size > 1)) return;
      for (const cell of this.#cellsWith(value, [[axis, piece]])) {
        const node = this.node(value, cell, axis, 0);
        const marks = this.#marks.get(node) ?? new Set();
        this.#marks.set(node, marks.add(`${other}/${piece}`));
      }
    });
  }

  /** Which pieces of x and y a map brings together. */
  #matches(x: number, y: number, map: AxisMap): Match[] {
    const [xs, ys] = [this.#pieces[x]!, this.#pieces[y]!];
    if (map.kind === "same")
      return xs[map.x]!.map(({ factors }, piece) => ({
        x: [[map.x, piece]],
        y: [[map.y, piece]],
        pairs: factors.map((_, k) => [map.x, k, map.y, k]),
      }));
    if (map.kind === "part") {
      const { start, step } = map;
      // Positions that keep their places need no partners.
      if (this.#keeps(x, [map.x])) return [{ x: [], y: [], pairs: [] }];
      return ys[map.y]!.map((part, piece) => {
        const at = xs[map.x]!.findIndex((each) => each.start === start + part.start * step);
        return {
          x: [[map.x, at]],
          y: [[map.y, piece]],
          pairs: part.factors.map((_, k) => [map.x, k, map.y, k]),
        };
      });
    }
    if (this.#keeps(x, map.x) && this.#keeps(y, map.y)) return [{ x: [], y: [], pairs: [] }];
    const left = this.#together(x, map.x);
    const right = new Map(this.#together(y, map.y).map((each) => [each.start, each]));
    return left.map(({ start, at, factors }) => {
      const other = right.get(start)!;
      const pairs = factors.flatMap(({ axis, k, stride, size }) => {
        const partner = other.factors.find((each) => each.stride === stride && each.size === size);
        return partner ? [[axis, k, partner.axis, partner.k] as const] : [];
      });
      return { x: at, y: other.at, pairs };
    });
  }

  #keeps(value: number, axes: readonly number[]): boolean {
    return axes.every((axis) => this.axes.why(value, axis) !== undefined);
  }

  /** The pieces of axes taken as one, row-major. */
  #together(value: number, axes: readonly number[]) {
    const shape = this.axes.relations.shapes[value]!;
    interface Joint {
      start: number;
      at: [number, number][];
      factors: { axis: number; k: number; stride: number; size: number }[];
    }
    let joint: Joint[] = [{ start: 0, at: [], factors: [] }];
    let times = axes.reduce((n, axis) => n * shape[axis]!, 1);
    for (const axis of axes) {
      times /= shape[axis]!;
      joint = joint.flatMap(({ start, at, factors }) =>
        this.#pieces[value]![axis]!.map((piece, p) => ({
          start: start + piece.start * times,
          at: [...at, [axis, p] as [number, number]],
          factors: [
            ...factors,
            ...piece.factors.flatMap(({ size, stride }, k) =>
              size > 1 ? [{ axis, k, size, stride: stride * times }] : [],
            ),
          ],
        })),
      );
    }
    return joint;
  }

  #gather(): void {
    this.#where.forEach((_, node) => {
      const root = this.root(node);
      const members = this.#members.get(root);
      if (members) members.push(node);
      else this.#members.set(root, [node]);
    });
  }

  /** On which others permutations may depend: what all links on the way agree on. */
  #settle(): void {
    const free = this.#free;
    this.#where.forEach((_, node) => {
      const cell = this.cellNodes(node);
      if (cell.length > MOST_BITS) return;
      const roots = cell.map((each) => this.root(each));
      const own = this.root(node);
      roots.forEach((root, bit) => {
        const once = roots.indexOf(root) === bit && roots.lastIndexOf(root) === bit;
        if (root !== own && once && this.sizeOf(cell[bit]!) > 1) free[node]! |= 1 << bit;
      });
    });
    const linksOf = new Map<number, number[]>();
    this.#links.forEach((pairs, at) => {
      for (const node of pairs) {
        const links = linksOf.get(node);
        if (links) links.push(at);
        else linksOf.set(node, [at]);
      }
    });
    const queue = new Set(this.#links.keys());
    while (queue.size > 0)
      for (const at of [...queue]) {
        queue.delete(at);
        const pairs = this.#links[at]!;
        for (let i = 0; i < pairs.length; i += 2)
          for (const [from, to] of [
            [0, 1],
            [1, 0],
          ] as const) {
            const [f, g] = [pairs[i + from]!, pairs[i + to]!];
            let mask = 0;
            for (let j = 0; j < pairs.length; j += 2)
              if (free[g]! & (1 << this.#where[pairs[j + to]!]!.bit))
                mask |= 1 << this.#where[pairs[j + from]!]!.bit;
            const now = free[f]! & mask;
            if (now === free[f]) continue;
            free[f] = now;
            for (const link of linksOf.get(f)!) queue.add(link);
          }
      }
  }
}

/** A position of its own is a factor of one. */
function withFactor({ start, factors }: Piece): Piece {
  return { start, factors: factors.length > 0 ? factors : [{ size: 1, stride: 1, fixed: false }] };
}

function around(shape: readonly number[], axis: number): { inner: number; size: number } {
  return { inner: shape.slice(axis + 1).reduce((a, b) => a * b, 1), size: shape[axis]! };
}

/** Whether numbers are the same at all indices of a factor of a piece. */
function sameAlong(
  values: Float64Array,
  shape: readonly number[],
  axis: number,
  start: number,
  factors: Piece["factors"],
  factor: number,
): boolean {
  const { inner, size } = around(shape, axis);
  const { stride, size: count } = factors[factor]!;
  let bases = [start];
  factors.forEach((each, k) => {
    if (k !== factor)
      bases = bases.flatMap((at) =>
        Array.from({ length: each.size }, (_, i) => at + i * each.stride),
      );
  });
  for (let outer = 0; outer < values.length; outer += size * inner)
    for (const base of bases)
      for (let j = 0; j < inner; j++) {
        const at = outer + base * inner + j;
        for (let i = 1; i < count; i++)
          if (!Object.is(values[at + i * stride * inner], values[at])) return false;
      }
  return true;
}
