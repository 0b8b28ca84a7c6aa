/** What each primitive demands of the axes of its operands and its result, one row a primitive. */
import type { PrimitiveGraph, PrimitiveNode } from "../native";

/** How axes of two values are permuted together. Axes that no map names are on their own. */
export type AxisMap =
  /** Position i of one is position i of the other. */
  | { readonly kind: "same"; readonly x: number; readonly y: number }
  /** The axes of one, row-major, are the axes of the other, row-major. */
  | { readonly kind: "merged"; readonly x: readonly number[]; readonly y: readonly number[] }
  /** Position i of y is position start + i * step of x. */
  | {
      readonly kind: "part";
      readonly x: number;
      readonly y: number;
      readonly start: number;
      readonly step: number;
    };

export interface Link {
  readonly x: number;
  readonly y: number;
  readonly maps: readonly AxisMap[];
  /** Which of the two is computed of the other; neither where both are operands. */
  readonly result?: "x" | "y";
  /** Maps whose axes are summed over. */
  readonly contracted?: readonly AxisMap[];
}

/** All relations between the axes of a network's values. */
export interface Relations {
  /** Of each primitive, then of each value that stands between the two sides of one. */
  readonly shapes: readonly (readonly number[])[];
  /** Which values depend on the network's inputs. */
  readonly onData: readonly boolean[];
  /** In the order of the graph. */
  readonly links: readonly Link[];
  /** Axes whose positions keep their places, and why. */
  readonly fixed: readonly {
    readonly value: number;
    readonly axis: number;
    readonly why: string;
  }[];
}

class Rules {
  readonly graph: PrimitiveGraph;
  readonly shapes: (readonly number[])[];
  readonly onData: boolean[] = [];
  readonly links: Link[] = [];
  readonly fixed: { value: number; axis: number; why: string }[] = [];
  /** Gathers that take what the window's maximum is at, by the node of the window. */
  readonly pooled = new Map<number, number>();
  /** Nodes whose only use is in those. */
  readonly silent = new Set<number>();

  constructor(graph: PrimitiveGraph) {
    this.graph = graph;
    this.shapes = graph.nodes.map(({ shape }) => shape);
    for (const { op, in: operands } of graph.nodes)
      this.onData.push(op === "Input" || operands.some((id) => this.onData[id]));
    this.#findPooling();
  }

  /** A value that no primitive stands for. */
  between(shape: readonly number[], like: number): number {
    this.onData.push(this.onData[like]!);
    return this.shapes.push(shape) - 1;
  }

  fix(value: number, axes: readonly number[], why: string): void {
    for (const axis of axes)
      if (this.shapes[value]![axis] !== 1) this.fixed.push({ value, axis, why });
  }

  fixAll(value: number, why: string): void {
    this.fix(value, [...this.shapes[value]!.keys()], why);
  }

  /** `to` is computed of `from`. */
  flow(from: number, to: number, maps: readonly AxisMap[]): void {
    this.links.push({ x: from, y: to, maps, result: "y" });
  }

  /** The row-major positions of two values are the same. */
  reshape(from: number, to: number): void {
    this.flow(from, to, reshapeMaps(this.shapes[from]!, this.shapes[to]!));
  }

  /** Every axis of an operand that is as long as the result's; others are repeated. */
  aligned(from: number, to: number, but: readonly number[] = []): void {
    const [x, y] = [this.shapes[from]!, this.shapes[to]!];
    const axes = [...x.keys()].filter((axis) => x[axis] === y[axis] && !but.includes(axis));
    this.flow(from, to, axes.map(same));
  }

  #rootOf(id: number): number {
    const { op, in: operands } = this.graph.nodes[id]!;
    return op === "Reshape" ? this.#rootOf(operands[0]!) : id;
  }

  #findPooling(): void {
    const { nodes, output, logits } = this.graph;
    const readers = nodes.map((): number[] => []);
    nodes.forEach(({ in: operands }, id) => {
      for (const operand of operands) readers[operand]!.push(id);
    });
    nodes.forEach(({ op, in: operands, ints }, id) => {
      if (op !== "Gather" || ints[0] !== 0) return;
      const [x, index] = operands as [number, number];
      const window = this.#rootOf(index);
      if (nodes[window]!.op !== "WindowArgmax" || nodes[x]!.shape.length !== 1) return;
      if (this.#rootOf(nodes[window]!.in[0]!) === this.#rootOf(x)) this.pooled.set(id, window);
    });
    for (let id = nodes.length - 1; id >= 0; id--) {
      const known = nodes[id]!.op === "WindowArgmax" || nodes[id]!.op === "Reshape";
      const used = readers[id]!.every(
        (to) => this.pooled.has(to) || (this.silent.has(to) && nodes[to]!.op === "Reshape"),
      );
      if (known && used && id !== output && id !== logits) this.silent.add(id);
    }
  }
}

const same = (axis: number): AxisMap => ({ kind: "same", x: axis, y: axis });
const axesOf = (shape: readonly number[]): number[] => [...shape.keys()];

/** Runs of axes with equal products on both sides. */
function reshapeMaps(x: readonly number[], y: readonly number[]): AxisMap[] {
  const maps: AxisMap[] = [];
  let [i, j] = [0, 0];
  while (i < x.length || j < y.length) {
    const [from, to]: [number[], number[]] = [[], []];
    let [a, b] = [1, 1];
    do {
      if (i < x.length && (a <= b || j === y.length)) {
        if (x[i] !== 1) from.push(i);
        a *= x[i++]!;
      } else {
        if (y[j] !== 1) to.push(j);
        b *= y[j++]!;
      }
    } while (a !== b);
    if (from.length === 0) continue;
    maps.push(
      from.length === 1 && to.length === 1
        ? { kind: "same", x: from[0]!, y: to[0]! }
        : { kind: "merged", x: from, y: to },
    );
  }
  return maps;
}

type Row = (rules: Rules, node: PrimitiveNode, id: number) => void;

const elementwise: Row = (rules, { in: operands }, id) => {
  for (const operand of new Set(operands)) rules.aligned(operand, id);
};

const reduction: Row = (rules, { in: [x], ints }, id) => rules.aligned(x!, id, ints);

const leaf: Row = () => {};

const notInNetworks: Row = (rules, { op, in: operands }, id) => {
  for (const value of [id, ...operands]) rules.fixAll(value, `${op} has no rule`);
};

const WINDOW = "a window slides over it";

/** What a window does along each of the two spatial axes. */
function spatial(
  { window }: PrimitiveNode,
  from: readonly number[],
  to: readonly number[],
): ("same" | "all" | "slides")[] {
  const { kernel, stride, pad } = window!;
  return [0, 1].map((d) => {
    const [n, m] = [from[from.length - 3 + d]!, to[to.length - 3 + d]!];
    if (kernel[d] === 1 && stride[d] === 1 && pad[d] === 0 && n === m) return "same";
    return kernel[d] === n && pad[d] === 0 && m === 1 ? "all" : "slides";
  });
}

/** Channels last; a window over the two axes before them. */
const windowed: Row = (rules, node, id) => {
  const x = node.in[0]!;
  const [from, to] = [rules.shapes[x]!, rules.shapes[id]!];
  const first = from.length - 3;
  const kinds = spatial(node, from, to);
  kinds.forEach((kind, d) => {
    if (kind !== "slides") return;
    rules.fix(x, [first + d], WINDOW);
    rules.fix(id, [first + d], WINDOW);
  });
  const kept = axesOf(from).filter(
    (axis) => axis < first || axis === first + 2 || kinds[axis - first] === "same",
  );
  rules.flow(x, id, kept.map(same));
};

/** x [B, H, W, C] and w [O, h, w, C / groups] give [B, H', W', O], or the other way round. */
function convolution(rules: Rules, node: PrimitiveNode, id: number, transposed: boolean): void {
  const [x, w] = node.in as [number, number];
  const [from, to] = [rules.shapes[x]!, rules.shapes[id]!];
  const groups = node.window!.groups;
  const kinds = spatial(node, from, to);
  const kept = [same(0)];
  const summed: AxisMap[] = [];
  kinds.forEach((kind, d) => {
    const axis = 1 + d;
    if (kind === "same") kept.push(same(axis));
    else if (kind === "all" && groups === 1 && !transposed) summed.push(same(axis));
    else for (const value of [x, w, id]) rules.fix(value, [axis], WINDOW);
  });
  // The weight's axis that meets the channels of x, and the one that makes those of the result.
  const [into, outOf] = transposed ? [0, 3] : [3, 0];
  if (groups === 1) {
    const contracted: AxisMap[] = [{ kind: "same", x: 3, y: into }, ...summed];
    rules.links.push({ x, y: w, maps: contracted, contracted });
    rules.flow(w, id, [{ kind: "same", x: outOf, y: 3 }]);
    rules.flow(x, id, kept);
    return;
  }
  // Channels as (group, channel in the group).
  const [batch, weight] = [from[0]!, rules.shapes[w]!];
  const [inner, outer] = [from[3]! / groups, to[3]! / groups];
  const xs = rules.between([batch, groups, inner], x);
  const ws = rules.between([groups, weight[0]! / groups, weight[3]!], w);
  const ys = rules.between([batch, groups, outer], id);
  rules.flow(x, xs, [same(0), { kind: "merged", x: [3], y: [1, 2] }]);
  rules.flow(w, ws, [
    { kind: "merged", x: [0], y: [0, 1] },
    { kind: "same", x: 3, y: 2 },
  ]);
  const [meets, makes] = transposed ? [1, 2] : [2, 1];
  const contracted: AxisMap[] = [{ kind: "same", x: 2, y: meets }];
  const byGroup: AxisMap = { kind: "same", x: 1, y: 0 };
  rules.links.push({ x: xs, y: ws, maps: [byGroup, ...contracted], contracted });
  rules.flow(ws, ys, [
    { kind: "same", x: 0, y: 1 },
    { kind: "same", x: makes, y: 2 },
  ]);
  rules.flow(xs, ys, [same(0), same(1)]);
  rules.flow(ys, id, [same(0), { kind: "merged", x: [1, 2], y: [3] }]);
  rules.flow(x, id, kept);
}

const dot: Row = (rules, { in: operands, labels }, id) => {
  const [left, out] = labels.split("->") as [string, string];
  const [a, b] = left.split(",") as [string, string];
  const [x, y] = operands as [number, number];
  const between = (from: string, to: string): AxisMap[] =>
    [...from].flatMap((label, axis): AxisMap[] =>
      to.includes(label) ? [{ kind: "same", x: axis, y: to.indexOf(label) }] : [],
    );
  const both = between(a, b);
  const contracted = both.filter((map) => map.kind === "same" && !out.includes(a[map.x]!));
  rules.links.push({ x, y, maps: both, contracted });
  rules.flow(x, id, between(a, out));
  rules.flow(y, id, between(b, out));
};

const slice: Row = (rules, { in: operands, ints, shape }, id) => {
  const x = operands[0]!;
  const rank = shape.length;
  const maps = shape.map((size, axis): AxisMap => {
    const [start, step] = [ints[axis]!, size > 1 ? ints[rank + axis]! : 1];
    const all = size === rules.shapes[x]![axis] && step === 1;
    return all ? same(axis) : { kind: "part", x: axis, y: axis, start, step };
  });
  rules.flow(x, id, maps);
};

/** The result is the whole, so that it stands first in the link. */
const within = (
  rules: Rules,
  whole: number,
  part: number,
  starts: readonly number[],
  steps: readonly number[],
) => {
  const [shape, of] = [rules.shapes[whole]!, rules.shapes[part]!];
  const maps = shape.map((size, axis): AxisMap => {
    const step = of[axis]! > 1 ? steps[axis]! : 1;
    return of[axis] === size && step === 1
      ? same(axis)
      : { kind: "part", x: axis, y: axis, start: starts[axis]!, step };
  });
  rules.links.push({ x: whole, y: part, maps, result: "x" });
};

const unslice: Row = (rules, { in: [x], ints, shape }, id) =>
  within(rules, id, x!, ints.slice(0, shape.length), ints.slice(shape.length));

const concat: Row = (rules, { in: operands, ints: [along], shape }, id) => {
  let start = 0;
  for (const operand of operands) {
    const starts = shape.map((_, axis) => (axis === along ? start : 0));
    within(
      rules,
      id,
      operand,
      starts,
      shape.map(() => 1),
    );
    start += rules.shapes[operand]![along!]!;
  }
};

/** y [pre, index..., post] of x [pre, n, post]. */
const gather: Row = (rules, { in: operands, ints }, id) => {
  const [x, index] = operands as [number, number];
  const axis = ints[0]!;
  const window = rules.pooled.get(id);
  if (window !== undefined) {
    // What a window takes the maximum of, then in the shape that is asked for.
    const of = rules.graph.nodes[window]!;
    const pooled = rules.between(of.shape, id);
    windowed(rules, of, pooled);
    rules.reshape(pooled, id);
    return;
  }
  const [from, at] = [rules.shapes[x]!, rules.shapes[index]!];
  const onData = rules.onData[index];
  rules.fix(x, [axis], onData ? "indices that come with the data" : "a list of indices picks it");
  const others = axesOf(from).filter((each) => each !== axis);
  const moved = (each: number) => (each < axis ? each : each + at.length - 1);
  rules.flow(
    x,
    id,
    others.map((each) => ({ kind: "same", x: each, y: moved(each) })),
  );
  rules.flow(
    index,
    id,
    axesOf(at).map((each) => ({ kind: "same", x: each, y: axis + each })),
  );
};

/** The transpose of it: y [pre, index..., post] to [pre, n, post]. */
const scatterAdd: Row = (rules, { in: operands, ints }, id) => {
  const [y, index] = operands as [number, number];
  const [axis, rank] = ints as [number, number];
  rules.fix(id, [axis], "it is scattered into by indices");
  const others = axesOf(rules.shapes[y]!).filter((each) => each < axis || each >= axis + rank);
  rules.flow(
    y,
    id,
    others.map((each) => ({ kind: "same", x: each, y: each < axis ? each : each - rank + 1 })),
  );
  const maps: AxisMap[] = axesOf(rules.shapes[index]!).map((each) => ({
    kind: "same",
    x: axis + each,
    y: each,
  }));
  rules.links.push({ x: y, y: index, maps });
};

const alongLast: Row = (rules, { in: [x], shape }, id) => {
  const last = shape.length - 1;
  // What each row is divided by depends on nothing of the last axis.
  const row = rules.between(
    shape.map((size, axis) => (axis === last ? 1 : size)),
    id,
  );
  rules.aligned(x!, row, [last]);
  rules.aligned(row, id, [last]);
  rules.aligned(x!, id);
};

/** By name of native/ir/graph.h. */
export const PRIMITIVE_ROWS: Readonly<Record<string, Row>> = {
  Param: leaf,
  Tangent: notInNetworks,
  Probe: notInNetworks,
  Input: (rules, _, id) => rules.fixAll(id, "an axis of the input"),
  Const: leaf,
  Reshape: (rules, { in: [x] }, id) => rules.reshape(x!, id),
  Permute: (rules, { in: [x], ints }, id) =>
    rules.flow(
      x!,
      id,
      ints.map((from, axis) => ({ kind: "same", x: from, y: axis })),
    ),
  Broadcast: elementwise,
  Slice: slice,
  Unslice: unslice,
  Concat: concat,
  Gather: gather,
  ScatterAdd: scatterAdd,
  WindowSum: windowed,
  WindowSpread: windowed,
  WindowArgmax: (rules, { in: [x] }, id) => {
    for (const value of [x!, id]) rules.fixAll(value, "the place of a maximum is used as a number");
  },
  Add: elementwise,
  Sub: elementwise,
  Neg: elementwise,
  Select: elementwise,
  Mul: elementwise,
  Exp: elementwise,
  Log: elementwise,
  Sqrt: elementwise,
  Recip: elementwise,
  Pow: elementwise,
  Tanh: elementwise,
  Atan: elementwise,
  Sigmoid: elementwise,
  Softplus: elementwise,
  Erf: elementwise,
  Sin: elementwise,
  Cos: elementwise,
  Floor: elementwise,
  Less: elementwise,
  LessEqual: elementwise,
  Equal: elementwise,
  And: elementwise,
  Or: elementwise,
  Not: elementwise,
  Cast: elementwise,
  StopGradient: elementwise,
  Barrier: elementwise,
  Sum: reduction,
  ReduceMax: reduction,
  Dot: dot,
  Conv: (rules, node, id) => convolution(rules, node, id, false),
  ConvInput: (rules, node, id) => convolution(rules, node, id, true),
  ConvWeight: notInNetworks,
  Softmax: alongLast,
  LogSumExp: reduction,
  Draw: notInNetworks,
  Spread: elementwise,
  Collect: notInNetworks,
};

/** The relations between all axes of a network. */
export function relationsOf(graph: PrimitiveGraph): Relations {
  const rules = new Rules(graph);
  graph.nodes.forEach((node, id) => {
    if (!rules.silent.has(id)) PRIMITIVE_ROWS[node.op]!(rules, node, id);
  });
  rules.fixAll(graph.output, "an axis of the output");
  return rules;
}
