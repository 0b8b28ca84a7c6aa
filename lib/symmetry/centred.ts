/** Values that a normalisation has left without a mean: what weights read along that direction is nothing. */
import type { PrimitiveGraph } from "../native";
import type { Primals } from "./primals";
import { regroup } from "./regroup";
import { add, multiply, permute, reshape, scale, type Value } from "./tape";

/** value = z * gain + shift, where z sums to 0 along an axis, and gain and shift vary along it only. */
export interface Centred {
  readonly gain: Value | undefined;
  readonly shift: Value | undefined;
}

/** Numbers that do not depend on data and vary along one axis only. */
function along(primals: Primals, id: number, axis: number): Value | undefined {
  const { shape } = primals.graph.nodes[id]!;
  if (shape.some((size, at) => at !== axis && size !== 1)) return undefined;
  return primals.value(id);
}

/** The value that `id` is the mean of along one axis. */
function meanOf({ nodes }: PrimitiveGraph, primals: Primals, id: number, axis: number) {
  const node = nodes[id]!;
  if (node.op !== "Mul") return undefined;
  const [a, b] = node.in as [number, number];
  for (const [sum, factor] of [
    [a, b],
    [b, a],
  ] as const) {
    const { op, ints, in: operands } = nodes[sum]!;
    if (op !== "Sum" || ints.length !== 1 || ints[0] !== axis) continue;
    const size = nodes[operands[0]!]!.shape[axis]!;
    const splat = primals.splat(factor);
    if (splat !== undefined && Math.abs(splat * size - 1) < 1e-12) return operands[0];
  }
  return undefined;
}

/** How a value is without a mean along an axis, if it is. */
export function centred(primals: Primals, id: number, axis: number): Centred | undefined {
  const { graph } = primals;
  const { op, in: operands, ints, shape } = graph.nodes[id]!;
  const [a, b] = operands as [number, number];
  const each = (value: Value | undefined, f: (x: Value) => Value) => value && f(value);
  switch (op) {
    case "Spread":
    case "Barrier":
      return centred(primals, a, axis);
    case "Sub":
      return meanOf(graph, primals, b, axis) === a
        ? { gain: undefined, shift: undefined }
        : undefined;
    case "Add":
    case "Mul":
      for (const [x, y] of [
        [a, b],
        [b, a],
      ] as const) {
        const number = along(primals, y, axis);
        const splat = primals.splat(y);
        const even = graph.nodes[y]!.shape[axis] === 1;
        if (!number && !(op === "Mul" && even)) continue;
        const inner = centred(primals, x, axis);
        if (!inner) continue;
        const { gain, shift } = inner;
        if (op === "Add") return { gain, shift: shift ? add(shift, number!) : number };
        if (splat !== undefined) return { gain, shift: each(shift, (v) => scale(v, splat)) };
        if (even) return shift ? undefined : inner;
        return {
          gain: gain ? multiply(gain, number!) : number,
          shift: each(shift, (v) => multiply(v, number!)),
        };
      }
      return undefined;
    case "Sum": {
      if (ints.includes(axis)) return undefined;
      const inner = centred(primals, a, axis);
      const before = graph.nodes[a]!.shape;
      const count = ints.reduce((n, at) => n * before[at]!, 1);
      return inner && { ...inner, shift: each(inner.shift, (v) => scale(v, count)) };
    }
    case "Permute": {
      const inner = centred(primals, a, ints[axis]!);
      const turn = (v: Value) => permute(v, ints);
      return inner && { gain: each(inner.gain, turn), shift: each(inner.shift, turn) };
    }
    case "Slice": {
      const full = graph.nodes[a]!.shape[axis] === shape[axis];
      return full ? centred(primals, a, axis) : undefined;
    }
    case "Reshape": {
      const before = graph.nodes[a]!.shape;
      const group = regroup(before, shape).find(([, to]) => to.includes(axis))!;
      const wide = group[0].filter((at) => before[at]! > 1);
      if (wide.length !== 1 || before[wide[0]!] !== shape[axis]) return undefined;
      const inner = centred(primals, a, wide[0]!);
      const moved = (v: Value) =>
        reshape(
          v,
          shape.map((size, at) => (at === axis ? size : 1)),
        );
      return inner && { gain: each(inner.gain, moved), shift: each(inner.shift, moved) };
    }
    default:
      return undefined;
  }
}

/** A parameter that is contracted with such a value. */
export interface CentredReader {
  readonly parameter: number;
  /** Of the parameter: the one that is summed over. */
  readonly axis: number;
  /** The value without a mean, and its axis. */
  readonly value: number;
  readonly valueAxis: number;
}

/** Weights that read values without a mean. */
export function centredReaders(primals: Primals): CentredReader[] {
  const { nodes } = primals.graph;
  const found: CentredReader[] = [];
  for (const { op, in: operands, labels } of nodes) {
    if (op !== "Dot") continue;
    const [inputs, out] = labels.split("->") as [string, string];
    const names = inputs.split(",") as [string, string];
    for (const side of [0, 1]) {
      const [mine, theirs] = [names[side]!, names[1 - side]!];
      const summed = [...mine].filter((label) => !out.includes(label));
      const parameter = summed.length === 1 ? leafOf(primals, operands[side]!) : undefined;
      if (!parameter) continue;
      const value = operands[1 - side]!;
      const valueAxis = theirs.indexOf(summed[0]!);
      if (!centred(primals, value, valueAxis)) continue;
      const axis = parameter.axes[mine.indexOf(summed[0]!)]!;
      found.push({ parameter: parameter.index, axis, value, valueAxis });
    }
  }
  return found;
}

/** The parameter that a value is, and its axes for those of the value. */
function leafOf(primals: Primals, id: number): { index: number; axes: number[] } | undefined {
  const { op, ints, in: operands, shape } = primals.graph.nodes[id]!;
  if (op === "Param")
    return primals.isParameter(ints[0]!) ? { index: ints[0]!, axes: [...shape.keys()] } : undefined;
  if (op !== "Spread" && op !== "Barrier" && op !== "Permute") return undefined;
  const inner = leafOf(primals, operands[0]!);
  if (!inner || op !== "Permute") return inner;
  return { index: inner.index, axes: ints.map((axis) => inner.axes[axis]!) };
}
