/**
 * Parameters that something can be added to without a change of the outputs or the loss: what dies in
 * a softmax or a normalisation, and what another bias takes up.
 */
import type { PrimitiveGraph } from "../native";
import { type CentredReader, centred, centredReaders } from "./centred";
import { follow, type Outcome } from "./follow";
import { Primals } from "./primals";
import { regroup } from "./regroup";
import { leaf, map, multiply, reshape, select, sizeOf, type Value } from "./tape";

/** Which entries of a tensor change, and which of them alike. */
export interface Pattern {
  /** Only these positions of one axis. */
  readonly segment?: { readonly axis: number; readonly start: number; readonly length: number };
  /** Along this axis all entries of each block change alike. */
  readonly alike?: { readonly axis: number; readonly block: number };
  /** Along the axis where all change alike, divided by the gain of the value that is read. */
  readonly reader?: CentredReader;
}

/** A family of changes of one tensor, of as many dimensions as the pattern leaves free. */
export interface Translation {
  /** Its position among the parameters. */
  readonly parameter: number;
  readonly shape: readonly number[];
  readonly pattern: Pattern;
  /** Of the free numbers. */
  readonly free: readonly number[];
  readonly dimension: number;
  readonly outcome: Outcome;
  readonly classAxis: number | undefined;
  readonly absorb: boolean;
  readonly avoid: readonly number[];
}

/** The shape of the numbers that a pattern leaves free. */
function freeShape(shape: readonly number[], { segment, alike }: Pattern): number[] {
  return shape.map((size, axis) => {
    const length = segment?.axis === axis ? segment.length : size;
    return alike?.axis === axis ? length / alike.block : length;
  });
}

/** The change of the tensor: size 1 along an axis where all of it is alike. */
export function spreadPattern(
  primals: Primals,
  shape: readonly number[],
  pattern: Pattern,
  free: Value,
): Value {
  const { segment, alike, reader } = pattern;
  const gain = reader && centred(primals, reader.value, reader.valueAxis)?.gain;
  if (reader && gain) {
    const inverse = map(
      gain,
      (x) => 1 / x,
      (x) => -1 / (x * x),
    );
    const wide = shape.map((size, axis) => (axis === reader.axis ? size : 1));
    return multiply(free, reshape(inverse, wide));
  }
  const positions = shape.map((size, axis) => {
    const start = segment?.axis === axis ? segment.start : 0;
    const length = segment?.axis === axis ? segment.length : size;
    const block = alike?.axis === axis ? alike.block : 1;
    if (length === size && (block === 1 || block === size)) return undefined;
    return Int32Array.from({ length: size }, (_, i) =>
      i < start || i >= start + length ? -1 : Math.floor((i - start) / block),
    );
  });
  return positions.some(Boolean) ? select(free, positions) : free;
}

/** Numbers that nothing cancels by chance, the same ones each time. */
export function generic(length: number, seed: number): Float64Array {
  let state = (seed + 1) * 0x9e3779b1;
  return Float64Array.from({ length }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    const x = (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
    return x < 0.5 ? x - 1 : x;
  });
}

/** Shapes of the parameters that the graph uses, by position. */
export function parameterShapes(primals: Primals): Map<number, readonly number[]> {
  const shapes = new Map<number, readonly number[]>();
  for (const { op, ints, shape } of primals.graph.nodes)
    if (op === "Param" && primals.isParameter(ints[0]!)) shapes.set(ints[0]!, shape);
  return shapes;
}

/** Primals at numbers without structure, for what holds at all parameters. */
export function genericPrimals(graph: PrimitiveGraph): Primals {
  const sizes = new Map<number, number>();
  for (const { op, ints, shape } of graph.nodes)
    if (op === "Param") sizes.set(ints[0]!, sizeOf(shape));
  return new Primals(graph, (index) => generic(sizes.get(index)!, 1000 + index));
}

/** Where an axis of this length is cut by slices and concatenations, and split by reshapes. */
class Cuts {
  readonly #cuts = new Map<number, Set<number>>();
  readonly #blocks = new Map<number, Set<number>>();

  constructor({ nodes }: PrimitiveGraph) {
    // Lengths that are cut at an outer axis once they are split.
    const outer = new Map<number, Set<number>>();
    const note = (map: Map<number, Set<number>>, key: number, value: number) => {
      if (!map.has(key)) map.set(key, new Set());
      map.get(key)!.add(value);
    };
    for (const node of nodes) {
      const input = node.in[0] === undefined ? undefined : nodes[node.in[0]]!.shape;
      if (node.op === "Reshape")
        for (const [from, to] of regroup(input!, node.shape)) {
          const axes = to.filter((axis) => node.shape[axis]! > 1);
          if (from.filter((axis) => input![axis]! > 1).length !== 1 || axes.length < 2) continue;
          const size = sizeOf(from.map((axis) => input![axis]!));
          let block = 1;
          for (const axis of axes.slice(1).reverse()) {
            block *= node.shape[axis]!;
            note(this.#blocks, size, block);
          }
          note(outer, node.shape[axes[0]!]!, size);
        }
    }
    const cut = (size: number, at: number) => {
      note(this.#cuts, size, at);
      for (const whole of outer.get(size) ?? []) note(this.#cuts, whole, (at * whole) / size);
    };
    for (const node of nodes) {
      const input = node.in[0] === undefined ? undefined : nodes[node.in[0]]!.shape;
      const rank = node.shape.length;
      if (node.op === "Slice")
        input!.forEach((size, axis) => {
          if (size === node.shape[axis] || node.ints[rank + axis] !== 1) return;
          cut(size, node.ints[axis]!);
          cut(size, node.ints[axis]! + node.shape[axis]!);
        });
      if (node.op === "Concat") {
        let at = 0;
        for (const each of node.in) {
          at += nodes[each]!.shape[node.ints[0]!]!;
          cut(node.shape[node.ints[0]!]!, at);
        }
      }
      if (node.op === "Gather") {
        const index = nodes[node.in[1]!]!;
        const size = input![node.ints[0]!]!;
        if (index.op === "Const" && index.values!.length === 1) {
          cut(size, index.values![0]!);
          cut(size, index.values![0]! + 1);
        }
      }
    }
  }

  segments(size: number): { start: number; length: number }[] {
    const at = [...(this.#cuts.get(size) ?? [])].filter((x) => x > 0 && x < size);
    if (at.length === 0 || at.length > 64) return [];
    const ends = [0, ...at.sort((a, b) => a - b), size];
    return ends.slice(1).map((end, i) => ({ start: ends[i]!, length: end - ends[i]! }));
  }

  /** Sizes of blocks that an axis is split into; those that divide it. */
  blocks(size: number): number[] {
    return [...(this.#blocks.get(size) ?? [])].filter((block) => size % block === 0);
  }
}

/** Tensors of more numbers are not tried entry by entry. */
const MOST_FREE = 65_536;

/**
 * All translations of single tensors, whole or in the parts that slices cut them into.
 *
 * @param classAxis of the output, where the loss does not see what is added to all classes
 */
export function findTranslations(
  graph: PrimitiveGraph,
  classAxis: number | undefined,
): Translation[] {
  const primals = genericPrimals(graph);
  const cuts = new Cuts(graph);
  const found: Translation[] = [];
  const readers = centredReaders(primals);
  for (const [parameter, shape] of parameterShapes(primals)) {
    const attempt = (pattern: Pattern): boolean => {
      const free = freeShape(shape, pattern);
      const dimension = sizeOf(free);
      const wide = free.filter((size) => size > 1).length > 1;
      if (dimension > (pattern.alike || !wide ? 1e7 : MOST_FREE)) return false;
      // Once more without a bias that takes it up both ways: another may be behind it.
      let avoid: number[] = [];
      for (const absorb of [true, true, false]) {
        const values = leaf(free, generic(dimension, parameter));
        const change = spreadPattern(primals, shape, pattern, values);
        const parameters = new Map([[parameter, change]]);
        const outcome = follow(primals, { parameters }, { classAxis, absorb, avoid });
        if (outcome.stopped === undefined) {
          const translation = {
            ...{ parameter, shape, pattern, free, dimension },
            ...{ outcome, classAxis, absorb, avoid },
          };
          const other = found.find((each) => exchanged(each, translation));
          if (!other) {
            found.push(translation);
            return true;
          }
          if (avoid.length > 0) return true;
          avoid = [other.parameter];
          continue;
        }
        if (avoid.length > 0) return true;
        if (outcome.absorbed.length === 0) break;
      }
      return false;
    };
    alongAxes(shape, cuts, attempt);
    for (const reader of readers)
      if (reader.parameter === parameter) {
        const alike = { axis: reader.axis, block: shape[reader.axis]! };
        const known = found.some(
          ({ parameter: other, pattern }) =>
            other === parameter &&
            !pattern.reader &&
            !pattern.segment &&
            pattern.alike?.axis === alike.axis,
        );
        const gain = centred(primals, reader.value, reader.valueAxis)?.gain;
        if (gain || !known) attempt({ alike, reader });
      }
  }
  return found;
}

function alongAxes(
  shape: readonly number[],
  cuts: Cuts,
  attempt: (pattern: Pattern) => boolean,
): void {
  if (attempt({})) return;
  const wide = [...shape.keys()].filter((axis) => shape[axis]! > 1);
  const done = new Set<number>();
  for (const axis of wide)
    for (const block of [...cuts.blocks(shape[axis]!), shape[axis]!])
      if (!done.has(axis) && attempt({ alike: { axis, block } })) done.add(axis);
  for (const axis of wide)
    for (const { start, length } of cuts.segments(shape[axis]!)) {
      const segment = { axis, start, length };
      if (attempt({ segment })) continue;
      for (const other of wide) {
        if (done.has(other)) continue;
        const size = other === axis ? length : shape[other]!;
        for (const block of [...cuts.blocks(size), size])
          if (block > 1 && attempt({ segment, alike: { axis: other, block } })) break;
      }
    }
}

/** Two tensors that take up each other: the same changes, told from the other side. */
function exchanged(a: Translation, b: Translation): boolean {
  const [first, second] = [a.outcome.absorbed, b.outcome.absorbed];
  return (
    a.dimension === b.dimension &&
    first.length === 1 &&
    second.length === 1 &&
    first[0] === b.parameter &&
    second[0] === a.parameter
  );
}
