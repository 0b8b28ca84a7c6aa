/** Values of the graph that depend on parameters and buffers only, in numbers, as far as needed. */
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import {
  add,
  concat,
  contract,
  expand,
  leaf,
  map,
  multiply,
  permute,
  reshape,
  scale,
  select,
  sum,
  type Value,
} from "./tape";

type Rule = (node: PrimitiveNode, operands: Value[]) => Value | undefined;

const unary =
  (f: (x: number) => number, slope: (x: number) => number): Rule =>
  (_, [x]) =>
    map(x!, f, slope);

const same: Rule = (_, [x]) => x;

/** Primitives that are computed; what depends on others counts as dependent on data. */
const RULES: Record<string, Rule> = {
  Spread: same,
  Barrier: same,
  StopGradient: same,
  Reshape: ({ shape }, [x]) => reshape(x!, shape),
  Permute: ({ ints }, [x]) => permute(x!, ints),
  Broadcast: ({ shape }, [x]) =>
    expand(reshape(x!, [...new Array(shape.length - x!.shape.length).fill(1), ...x!.shape]), shape),
  Slice: ({ shape, ints }, [x]) =>
    select(
      x!,
      shape.map((size, axis) =>
        Int32Array.from({ length: size }, (_, i) => ints[axis]! + i * ints[shape.length + axis]!),
      ),
    ),
  Concat: ({ ints }, xs) => concat(xs, ints[0]!),
  Add: (_, [a, b]) => add(a!, b!),
  Sub: (_, [a, b]) => add(a!, scale(b!, -1)),
  Mul: (_, [a, b]) => multiply(a!, b!),
  Neg: (_, [x]) => scale(x!, -1),
  Dot: ({ labels }, [a, b]) => contract(a!, b!, labels),
  Sum: ({ ints }, [x]) => sum(x!, ints),
  Sqrt: unary(Math.sqrt, (x) => 0.5 / Math.sqrt(x)),
  Recip: unary(
    (x) => 1 / x,
    (x) => -1 / (x * x),
  ),
  Exp: unary(Math.exp, Math.exp),
};

export class Primals {
  readonly #values = new Map<number, Value | undefined>();
  readonly #leaves = new Map<number, Value>();

  /** @param numbers those of a parameter, by position */
  constructor(
    readonly graph: PrimitiveGraph,
    readonly numbers: (parameter: number) => Float64Array,
  ) {}

  isParameter(leaf: number): boolean {
    return leaf < this.graph.leaves.length - this.graph.buffers.length;
  }

  /** The parameters that values were computed from so far, by position. */
  get leaves(): ReadonlyMap<number, Value> {
    return this.#leaves;
  }

  /** Undefined where it depends on data. */
  value(id: number): Value | undefined {
    if (this.#values.has(id)) return this.#values.get(id);
    const value = this.#compute(id);
    this.#values.set(id, value);
    return value;
  }

  #compute(id: number): Value | undefined {
    const node = this.graph.nodes[id]!;
    if (node.op === "Param") {
      const index = node.ints[0]!;
      if (!this.isParameter(index)) {
        const parameters = this.graph.leaves.length - this.graph.buffers.length;
        return leaf(node.shape, this.graph.buffers[index - parameters]!);
      }
      const value = leaf(node.shape, this.numbers(index));
      this.#leaves.set(index, value);
      return value;
    }
    if (node.op === "Const") {
      if (node.type !== "real") return undefined;
      const size = node.shape.reduce((a, b) => a * b, 1);
      const values = node.values!;
      return leaf(
        node.shape,
        values.length === size ? values : new Float64Array(size).fill(values[0]!),
      );
    }
    const rule = RULES[node.op];
    if (!rule || node.in.length === 0) return undefined;
    const operands: Value[] = [];
    for (const each of node.in) {
      const value = this.value(each);
      if (!value) return undefined;
      operands.push(value);
    }
    return rule(node, operands);
  }

  /** Of a constant, where all its entries are one number. */
  splat(id: number): number | undefined {
    const { op, values, in: operands } = this.graph.nodes[id]!;
    if (op === "Spread" || op === "Broadcast" || op === "Reshape") return this.splat(operands[0]!);
    if (op !== "Const") return undefined;
    return values!.every((x) => x === values![0]) ? values![0] : undefined;
  }

  /** Of a constant: whole numbers that are known. */
  indices(id: number): Int32Array | undefined {
    const { op, values, shape } = this.graph.nodes[id]!;
    if (op !== "Const") return undefined;
    const size = shape.reduce((a, b) => a * b, 1);
    return values!.length === size
      ? Int32Array.from(values!)
      : new Int32Array(size).fill(values![0]!);
  }

  /** The axis along which a value is a distribution: that of a softmax. */
  sumsToOne(id: number): number | undefined {
    const { op, shape, ints, in: operands } = this.graph.nodes[id]!;
    if (op === "Softmax") return shape.length - 1;
    if (op === "Spread" || op === "Barrier") return this.sumsToOne(operands[0]!);
    if (op === "Permute") {
      const axis = this.sumsToOne(operands[0]!);
      return axis === undefined ? undefined : ints.indexOf(axis);
    }
    if (op === "Reshape") {
      const before = this.graph.nodes[operands[0]!]!.shape;
      const axis = this.sumsToOne(operands[0]!);
      const last = axis === before.length - 1 && before.at(-1) === shape.at(-1);
      return last ? shape.length - 1 : undefined;
    }
    return undefined;
  }
}
