/**
 * The pieces that axes are cut into, with names for the factors that are one and the same index
 * throughout the network, and how pieces of operands become pieces of results.
 */
import type { PrimitiveGraph } from "../native";
import { Axes } from "./axes";
import { type AxisMap, type Link, relationsOf } from "./primitives";

export interface AtomFactor {
  /** The same number: the same index. */
  atom: number;
  readonly size: number;
  readonly stride: number;
}

/** A stretch of an axis without cuts: positions start + the sum of index times stride. */
export interface AtomPiece {
  readonly axis: number;
  readonly start: number;
  readonly factors: readonly AtomFactor[];
}

/** A piece of an operand that goes into a piece of the result, or meets one of another operand. */
export interface PiecePair {
  readonly x: AtomPiece;
  readonly y: AtomPiece;
}

/** What a primitive does to the pieces. */
export interface AtomLink {
  /** The values, primitives first; see Relations. */
  readonly x: number;
  readonly y: number;
  readonly result: "x" | "y" | undefined;
  readonly pairs: readonly PiecePair[];
  /** Of those, the pairs that are summed over. */
  readonly contracted: readonly PiecePair[];
}

export class Atoms {
  /** Pieces of each value with more than one position. */
  readonly pieces: AtomPiece[][] = [];
  /** By the primitive that they belong to. */
  readonly links = new Map<number, AtomLink[]>();
  readonly values: number;
  readonly #parent: number[] = [];
  readonly #nodes: number;

  constructor(graph: PrimitiveGraph) {
    const relations = relationsOf(graph);
    const axes = new Axes(graph, relations);
    this.#nodes = graph.nodes.length;
    this.values = relations.shapes.length;
    relations.shapes.forEach((shape, value) => {
      this.pieces.push(
        shape.flatMap((size, axis) =>
          size === 1
            ? []
            : axes.pieces(value, axis).map(({ start, factors }) => ({
                axis,
                start,
                factors: factors.map(({ size: n, stride }) => {
                  const atom = this.#parent.push(this.#parent.length) - 1;
                  return { atom, size: n, stride };
                }),
              })),
        ),
      );
    });
    let waiting: AtomLink[] = [];
    for (const link of relations.links) {
      const made = this.#linkOf(link, relations.shapes);
      waiting.push(made);
      const to = link.result === "x" ? link.x : link.y;
      if (link.result === undefined || to >= this.#nodes) continue;
      const known = this.links.get(to);
      if (known) known.push(...waiting);
      else this.links.set(to, waiting);
      waiting = [];
    }
    for (const pieces of this.pieces)
      for (const { factors } of pieces)
        for (const factor of factors) factor.atom = this.#root(factor.atom);
  }

  #root(atom: number): number {
    let at = atom;
    while (this.#parent[at] !== at) {
      this.#parent[at] = this.#parent[this.#parent[at]!]!;
      at = this.#parent[at]!;
    }
    return at;
  }

  #unite({ x, y }: PiecePair, scaleX: number, scaleY: number): void {
    for (const a of x.factors)
      for (const b of y.factors)
        if (a.size === b.size && a.stride * scaleX === b.stride * scaleY) {
          const [p, q] = [this.#root(a.atom), this.#root(b.atom)];
          this.#parent[Math.max(p, q)] = Math.min(p, q);
        }
  }

  #linkOf(link: Link, shapes: readonly (readonly number[])[]): AtomLink {
    const pairsOf = (map: AxisMap) => this.#pairs(link, map, shapes);
    const contractedMaps = link.contracted ?? [];
    const byMap = new Map(link.maps.map((map) => [map, pairsOf(map)]));
    return {
      x: link.x,
      y: link.y,
      result: link.result,
      pairs: [...byMap.values()].flat(),
      contracted: contractedMaps.flatMap(
        (map) => byMap.get(map) ?? [...byMap].find(([other]) => equal(other, map))?.[1] ?? [],
      ),
    };
  }

  #on(value: number, axis: number): AtomPiece[] {
    return this.pieces[value]!.filter((piece) => piece.axis === axis);
  }

  #pairs(link: Link, map: AxisMap, shapes: readonly (readonly number[])[]): PiecePair[] {
    const pairs: PiecePair[] = [];
    if (map.kind === "same") {
      const [left, right] = [this.#on(link.x, map.x), this.#on(link.y, map.y)];
      if (left.length === right.length)
        left.forEach((x, i) => {
          pairs.push({ x, y: right[i]! });
        });
      for (const pair of pairs) this.#unite(pair, 1, 1);
      return pairs;
    }
    if (map.kind === "part") {
      if (map.step !== 1) return [];
      const right = this.#on(link.y, map.y);
      for (const x of this.#on(link.x, map.x)) {
        const y = right.find(({ start }) => start === x.start - map.start);
        if (y && extent(x) === extent(y)) pairs.push({ x, y });
      }
      for (const pair of pairs) this.#unite(pair, 1, 1);
      return pairs;
    }
    const left = this.#combined(link.x, map.x, shapes[link.x]!);
    const right = this.#combined(link.y, map.y, shapes[link.y]!);
    for (const a of left) {
      const b = right.find(({ start, key }) => start === a.start && key === a.key);
      if (!b) continue;
      for (const p of a.parts)
        for (const q of b.parts)
          if (touch(p, q)) {
            const pair = { x: p.piece, y: q.piece };
            this.#unite(pair, p.scale, q.scale);
            pairs.push(pair);
          }
    }
    return pairs;
  }

  /** Pieces of several axes taken as one, row-major. */
  #combined(value: number, axes: readonly number[], shape: readonly number[]): Combined[] {
    let all: { start: number; parts: Part[] }[] = [{ start: 0, parts: [] }];
    let scale = 1;
    for (const axis of [...axes].reverse()) {
      const pieces = this.#on(value, axis);
      all = pieces.flatMap((piece) =>
        all.map(({ start, parts }) => ({
          start: start + piece.start * scale,
          parts: [{ piece, scale }, ...parts],
        })),
      );
      scale *= shape[axis]!;
    }
    return all.map(({ start, parts }) => {
      const factors = parts.flatMap(({ piece, scale: by }) =>
        piece.factors.map(({ size, stride }) => `${size}@${stride * by}`),
      );
      return { start, parts, key: factors.join() };
    });
  }
}

interface Part {
  readonly piece: AtomPiece;
  readonly scale: number;
}

interface Combined {
  readonly start: number;
  readonly parts: Part[];
  readonly key: string;
}

const extent = ({ factors }: AtomPiece) => factors.reduce((n, { size }) => n * size, 1);

const touch = (p: Part, q: Part) =>
  p.piece.factors.some((a) =>
    q.piece.factors.some((b) => a.size === b.size && a.stride * p.scale === b.stride * q.scale),
  );

const equal = (a: AxisMap, b: AxisMap) => JSON.stringify(a) === JSON.stringify(b);
