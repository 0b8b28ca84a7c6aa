/** Permutation symmetries of a network, found in its graph. */
import type { DataSet } from "../data/data";
import type { Model } from "../model/model";
import type { PrimitiveGraph } from "../native";
import { Axes } from "./axes";
import { primitiveGraph } from "./graph";
import { relationsOf } from "./primitives";
import { Sides } from "./sides";
import { Ties } from "./ties";
import type { PermutationGroup, UnitPlace } from "./types";
import { joinedUnits, type UnitAxis, type Units } from "./unit-classes";

/** An axis of a parameter with positions that belong to no group. */
export interface FixedAxis {
  readonly tensor: string;
  readonly axis: number;
  /** Why they keep their places. */
  readonly why: string;
}

export interface PermutationAnalysis {
  readonly groups: readonly PermutationGroup[];
  /** What keeps its places, tensor by tensor; an axis is listed once for each reason. */
  readonly fixed: readonly FixedAxis[];
}

/** @internal What of a network is permuted together. */
export function tiesOf(graph: PrimitiveGraph): Ties {
  return new Ties(graph, new Axes(graph, relationsOf(graph)));
}

/**
 * The groups of units that can be exchanged without a change of the network's function, as its graph
 * shows them: neurons, channels (of a whole residual stream, of a concatenation, of convolutions in
 * groups), heads of attention, the width of one head, hidden units of recurrent cells. Together they
 * generate all permutations of units that leave the outputs unchanged for any parameters. See
 * docs/methods.md for what is taken for a unit.
 *
 * @param data needed where the file leaves lengths other than the number of samples free
 * @throws OptionError; UnsupportedOperatorError
 */
export function permutationGroups(model: Model, data?: DataSet): PermutationGroup[] {
  return [...analysePermutations(model, data).groups];
}

/** The groups, and why all other axes of parameters have none. Throws as `permutationGroups`. */
export function analysePermutations(model: Model, data?: DataSet): PermutationAnalysis {
  const graph = primitiveGraph(model, data);
  const ties = tiesOf(graph);
  const sides = new Sides(ties.axes.relations);
  const leaves = leavesOf(graph, model.parameters.length);
  const units = joinedUnits(ties, leaves);
  const groups = units
    .flatMap((each) => copies(each, leaves, sides))
    .filter(({ places }) => places.some(({ parameter }) => parameter))
    .sort((a, b) => a.order - b.order || a.start - b.start || a.inner - b.inner);
  const names = groups.map(({ name }) => name);
  return {
    groups: groups.map(({ name, axis, size, places }) => ({
      // Along two axes of one tensor.
      name: names.indexOf(name) === names.lastIndexOf(name) ? name : `${name} axis ${axis}`,
      ...{ size, places },
    })),
    fixed: fixedAxes(ties, leaves, new Set(units.flatMap(({ roots }) => roots))),
  };
}

/** A parameter or buffer in the graph. */
export interface Leaf {
  readonly value: number;
  readonly tensor: string;
  readonly parameter: boolean;
  readonly shape: readonly number[];
}

/** In the order of the model's parameters, then of its buffers. */
function leavesOf({ nodes, leaves }: PrimitiveGraph, parameters: number): Leaf[] {
  const found: (Leaf & { number: number })[] = [];
  nodes.forEach(({ op, ints, shape }, value) => {
    if (op !== "Param") return;
    const number = ints[0]!;
    const tensor = leaves[number]!;
    found.push({ value, tensor, parameter: number < parameters, shape, number });
  });
  return found.sort((a, b) => a.number - b.number);
}

function fixedAxes(ties: Ties, leaves: readonly Leaf[], grouped: ReadonlySet<number>): FixedAxis[] {
  return leaves.flatMap(({ value, tensor, parameter, shape }) =>
    parameter
      ? shape.flatMap((length, axis) => {
          const whys = new Set<string>();
          for (const node of length > 1 ? ties.nodesAlong(value, axis) : []) {
            const root = ties.root(node);
            const why = ties.why(root);
            if (why !== undefined) whys.add(why);
            else if (!grouped.has(root)) whys.add("single positions of it are taken apart");
          }
          return [...whys].map((why) => ({ tensor, axis, why }));
        })
      : [],
  );
}

interface Found extends PermutationGroup {
  /** Of the place that names it. */
  readonly axis: number;
  /** For the order of the list. */
  readonly order: number;
  readonly start: number;
  readonly inner: number;
}

/** All indices of some lengths, row-major. */
function* indices(sizes: readonly number[]): Generator<number[]> {
  const count = sizes.reduce((n, size) => n * size, 1);
  for (let i = 0; i < count; i++) {
    const at: number[] = [];
    let rest = i;
    for (const size of [...sizes].reverse()) {
      at.unshift(rest % size);
      rest = Math.floor(rest / size);
    }
    yield at;
  }
}

/** One group for each index that the permutation may depend on. */
function copies(units: Units, leaves: readonly Leaf[], sides: Sides): Found[] {
  const found: Found[] = [];
  for (const index of indices(units.free.map(({ size }) => size))) {
    const at = new Map(units.free.map(({ root }, i) => [root, index[i]!]));
    const places = units.axes.flatMap((axis) => placesAlong(axis, at, sides));
    const size = units.size;
    const makers = places.filter(({ parameter, side }) => parameter && side !== "out");
    const first = makers[0] ?? places.find(({ parameter }) => parameter);
    if (!first) continue;
    const order = leaves.findIndex(({ tensor }) => tensor === first.tensor);
    const name = nameOf(first, size, leaves[order]!.shape);
    const { axis, start, inner } = first;
    found.push({ name, size, places, order, axis, start, inner });
  }
  return found;
}

/** The tensor, and which part of it, as NumPy would index it. */
function nameOf(place: UnitPlace, size: number, shape: readonly number[]): string {
  const { tensor, axis, start, outer, inner, where, positions } = place;
  const end = start + outer * size * inner;
  const all = !positions && start === 0 && end === shape[axis] && inner === 1;
  if (all && outer === 1 && !where) return tensor;
  const parts = shape.map(() => ":");
  for (const { axis: other, positions: only } of where ?? []) parts[other] = rangeOf(only);
  if (positions) parts[axis] = rangeOf(positions.map(([first]) => first!));
  else parts[axis] = all ? ":" : inner === 1 ? `${start}:${end}` : `${start}:${end}:${inner}`;
  while (parts.at(-1) === ":") parts.pop();
  return parts.length > 0 ? `${tensor}[${parts.join(", ")}]` : tensor;
}

function rangeOf(positions: readonly number[]): string {
  const [first, last] = [positions[0]!, positions.at(-1)!];
  if (positions.length === 1) return String(first);
  return last - first + 1 === positions.length ? `${first}:${last + 1}` : `${first}...${last}`;
}

/** Where the units lie along an axis, for one index of what the permutation depends on. */
function placesAlong(
  { leaf: { value, tensor, parameter }, axis, positions: positionsAt }: UnitAxis,
  at: ReadonlyMap<number, number>,
  sides: Sides,
): UnitPlace[] {
  const base = { tensor, parameter, axis, side: sides.of(value, axis) };
  return positionsAt(at).flatMap(({ where, positions }) => {
    const sorted = positions.map((each) => each.sort((a, b) => a - b));
    const extra = where && where.length > 0 ? { where } : {};
    return layouts(sorted).map((layout) => ({ ...base, ...layout, ...extra }));
  });
}

type Layout = Pick<UnitPlace, "start" | "outer" | "inner" | "positions">;

/** Positions by unit as start + (o * size + u) * inner + j, or as they are. */
function layouts(positions: readonly (readonly number[])[]): Layout[] {
  const size = positions.length;
  const first = positions[0]!;
  const fits = (start: number, inner: number, outer: number, skip: number) =>
    positions.every((each, u) => {
      for (let o = 0; o < outer; o++)
        for (let j = 0; j < inner; j++)
          if (each[skip + o * inner + j] !== start + (o * size + u) * inner + j) return false;
      return true;
    });
  const found: Layout[] = [];
  for (let at = 0; at < first.length; ) {
    const start = first[at]!;
    let inner = 1;
    while (first[at + inner] === start + inner) inner++;
    let outer = 1;
    while (
      at + (outer + 1) * inner <= first.length &&
      first[at + outer * inner] === start + outer * size * inner
    )
      outer++;
    while (outer > 1 && !fits(start, inner, outer, at)) outer--;
    if (!fits(start, inner, outer, at)) return [{ start, outer: 1, inner: 1, positions }];
    found.push({ start, outer, inner });
    at += outer * inner;
  }
  return found;
}
