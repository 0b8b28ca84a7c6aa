/** What each primitive does to a change, one row a primitive. */
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import { centred } from "./centred";
import {
  Absorbed,
  blocksOf,
  type Change,
  collapse,
  type Known,
  known,
  largest,
  type Step,
  Stopped,
} from "./changes";
import type { Walk } from "./follow";
import { gcd, mapBlocks, regroup } from "./regroup";
import {
  add,
  concat,
  contract,
  expand,
  multiply,
  permute,
  reshape,
  scale,
  select,
  sizeOf,
  sum,
  type Value,
} from "./tape";

type Rule = (walk: Walk, node: PrimitiveNode, id: number) => Step;

export const stop: Rule = (_, __, id) => new Stopped(id);

const only = (walk: Walk, node: PrimitiveNode): Change => walk.change(node.in[0]!)!;

const same: Rule = (walk, node) => only(walk, node);

/** A change of an operand as a change of what it is repeated to. */
function lift(change: Change, from: readonly number[], to: readonly number[]): Change {
  if (change.kind === "known") return change;
  const blocks = to.map((size, axis) => (from[axis] === size ? change.blocks[axis]! : size));
  return { ...change, blocks };
}

const addRule =
  (sign: number): Rule =>
  (walk, node, id) => {
    const [a, b] = node.in as [number, number];
    const [left, right] = [walk.change(a), walk.change(b)];
    if (left && right) {
      const [p, q] = [left, right].map((each, i) =>
        lift(each, walk.node(node.in[i]!).shape, node.shape),
      ) as [Change, Change];
      if (p.kind === "known" && q.kind === "known") {
        const total = add(p.value, scale(q.value, sign));
        if (largest(total) <= 1e-10 * Math.max(largest(p.value), largest(q.value))) {
          walk.outcome.cancelled.push(id);
          return undefined;
        }
        if (walk.takeUp(id, b, known(total), sign) || walk.takeUp(id, a, known(total), 1))
          return new Absorbed();
        return known(collapse(total));
      }
      if (p.kind === "opaque" && q.kind === "opaque" && p.id === q.id) {
        const coef = p.coef + sign * q.coef;
        if (Math.abs(coef) <= 1e-10 * Math.max(Math.abs(p.coef), Math.abs(q.coef))) {
          walk.outcome.cancelled.push(id);
          return undefined;
        }
        return { ...p, coef };
      }
      const [s, t] = [blocksOf(p, node.shape), blocksOf(q, node.shape)];
      return walk.opaque(
        id,
        s.map((block, axis) => gcd(block, t[axis]!)),
      );
    }
    const change = (left ?? right)!;
    if (change.kind === "known") {
      const taken = left
        ? walk.takeUp(id, b, change, sign)
        : walk.takeUp(id, a, known(scale(change.value, sign)), 1);
      if (taken) return new Absorbed();
    }
    const signed = left ? change : times(change, sign);
    return lift(signed, walk.node(left ? a : b).shape, node.shape);
  };

function times(change: Change, factor: number): Change {
  if (change.kind === "known") return known(scale(change.value, factor));
  return { ...change, coef: change.coef * factor };
}

const mulRule: Rule = (walk, node, id) => {
  const [a, b] = node.in as [number, number];
  const [left, right] = [walk.change(a), walk.change(b)];
  const change = (left ?? right)!;
  const [from, other] = left ? [a, b] : [b, a];
  if (!left || !right) {
    const splat = walk.primals.splat(other);
    if (splat !== undefined) return lift(times(change, splat), walk.node(from).shape, node.shape);
    const factor = walk.primals.value(other);
    if (factor && change.kind === "known") {
      walk.outcome.scaled = true;
      const shape = node.shape.map((_, axis) =>
        Math.max(change.value.shape[axis]!, factor.shape[axis]!),
      );
      return known(multiplyExpanded(change.value, factor, shape));
    }
  }
  const blocks = node.shape.map((size, axis) => {
    let block = size;
    for (const operand of [a, b]) {
      const { shape } = walk.node(operand);
      if (shape[axis] === 1) continue;
      const its = operand === from && !(left && right) ? walk.change(operand) : undefined;
      block = gcd(block, its ? blocksOf(its, shape)[axis]! : 1);
    }
    return block;
  });
  return walk.opaque(id, blocks);
};

function multiplyExpanded(a: Value, b: Value, shape: readonly number[]): Value {
  const labels = shape.map((_, axis) => String.fromCharCode(97 + axis)).join("");
  return contract(a, b, `${labels},${labels}->${labels}`);
}

/**
 * The shift of a value without a mean, where all else of it that a change of weights reads is along
 * the direction of the mean.
 */
function withoutMean(
  walk: Walk,
  change: Value,
  mine: string,
  other: number,
  theirs: string,
  label: string,
): Value | "nothing" | undefined {
  const [axis, position] = [mine.indexOf(label), theirs.indexOf(label)];
  const value = centred(walk.primals, other, position);
  if (!value) return undefined;
  let read = change;
  if (value.gain) {
    const shape = change.shape.map((_, at) => (at === axis ? value.gain!.data.length : 1));
    read = multiply(change, reshape(value.gain, shape));
  }
  const inner = sizeOf(read.shape.slice(axis + 1));
  const size = read.shape[axis]!;
  const most = largest(read);
  const even = read.data.every(
    (x, i) =>
      Math.floor(i / inner) % size === 0 || Math.abs(x - read.data[i - inner]!) <= 1e-12 * most,
  );
  if (!even) return undefined;
  return value.shift ?? "nothing";
}

const dotRule: Rule = (walk, node, id) => {
  const [a, b] = node.in as [number, number];
  const [left, right] = [walk.change(a), walk.change(b)];
  const [inputs, out] = node.labels.split("->") as [string, string];
  const names = inputs.split(",") as [string, string];
  if (left && right)
    return walk.opaque(
      id,
      node.shape.map(() => 1),
    );
  const [at, other] = left ? [0, b] : [1, a];
  const change = (left ?? right)!;
  const [mine, theirs] = [names[at]!, names[1 - at]!];
  const myShape = walk.node(node.in[at]!).shape;
  const blocks = blocksOf(change, myShape);
  const summed = [...mine].filter((label) => !out.includes(label));
  // A softmax's rows sum to 1: they leave alone what is the same for all that they weigh.
  const axis = walk.primals.sumsToOne(other);
  if (axis !== undefined && summed.join() === theirs[axis]) {
    const position = mine.indexOf(summed[0]!);
    if (blocks[position] === myShape[position]) {
      if (change.kind === "known") {
        const ones = theirs.length;
        const unit: Value = {
          shape: new Array(ones).fill(1),
          data: Float64Array.of(1),
          operands: [],
        };
        const operands = at === 0 ? [change.value, unit] : [unit, change.value];
        return known(contract(operands[0]!, operands[1]!, node.labels));
      }
      return {
        ...change,
        blocks: [...out].map((label, i) => {
          const from = mine.indexOf(label);
          return from < 0 ? node.shape[i]! : blocks[from]!;
        }),
      };
    }
  }
  if (change.kind === "known" && summed.length === 1) {
    const left = withoutMean(walk, change.value, mine, other, theirs, summed[0]!);
    if (left !== undefined) {
      walk.outcome.centred = true;
      if (left === "nothing") return undefined;
      const operands = at === 0 ? [change.value, left] : [left, change.value];
      return known(contract(operands[0]!, operands[1]!, node.labels));
    }
  }
  const factor = walk.primals.value(other);
  if (factor && change.kind === "known") {
    walk.outcome.mixed = true;
    const operands = at === 0 ? [change.value, factor] : [factor, change.value];
    return known(contract(operands[0]!, operands[1]!, node.labels));
  }
  const otherShape = walk.node(other).shape;
  return walk.opaque(
    id,
    [...out].map((label, i) => {
      const [p, q] = [mine.indexOf(label), theirs.indexOf(label)];
      if (q >= 0 && otherShape[q]! > 1) return p >= 0 && node.shape[i] === 1 ? 1 : 1;
      return p >= 0 ? blocks[p]! : node.shape[i]!;
    }),
  );
};

/** Whether windows lie inside, so that what is constant stays so. */
export function inside(node: PrimitiveNode, input: readonly number[]): boolean {
  const { kernel, stride, dilation, pad } = node.window!;
  const rank = input.length;
  return [0, 1].every((i) => {
    const [size, out] = [input[rank - 3 + i]!, node.shape[node.shape.length - 3 + i]!];
    const end = (out - 1) * stride[i]! + dilation[i]! * (kernel[i]! - 1) + 1;
    return pad[i] === 0 && end <= size;
  });
}

const flat = (blocks: readonly number[], shape: readonly number[]) => {
  const rank = shape.length;
  return blocks[rank - 3] === shape[rank - 3] && blocks[rank - 2] === shape[rank - 2];
};

const convRule: Rule = (walk, node, id) => {
  const [x, w] = node.in as [number, number];
  const [dx, dw] = [walk.change(x), walk.change(w)];
  const [, height, width, channels] = node.shape as [number, number, number, number];
  if (dw) {
    const block = blocksOf(dw, walk.node(w).shape)[0]!;
    return walk.opaque(id, [1, 1, 1, dx ? 1 : block]);
  }
  const shape = walk.node(x).shape;
  const blocks = blocksOf(dx!, shape);
  const even = flat(blocks, shape) && inside(node, shape);
  const weights = walk.primals.value(w);
  const batch = blocks[0]!;
  if (dx!.kind === "known" && even && weights && batch === shape[0]) {
    walk.outcome.mixed = true;
    const { groups } = node.window!;
    const [O, kh, kw, C] = weights.shape as [number, number, number, number];
    const kernel = reshape(weights, [groups, O / groups, kh * kw, C]);
    const input = reshape(expand(dx!.value, [1, 1, 1, C * groups]), [groups, C]);
    const out = contract(sum(kernel, [2]), reshape(input, [groups, 1, 1, C]), "goxc,gyxc->gyo");
    return known(reshape(out, [1, 1, 1, O]));
  }
  return walk.opaque(id, [batch, even ? height : 1, even ? width : 1, channels === 1 ? 1 : 1]);
};

/** Along the windows' axes constant, and nothing lies outside. */
const windowSumRule: Rule = (walk, node, id) => {
  const shape = walk.node(node.in[0]!).shape;
  const change = only(walk, node);
  const blocks = blocksOf(change, shape);
  const rank = shape.length;
  const out = node.shape.map((size, axis) =>
    axis === rank - 3 || axis === rank - 2 ? size : blocks[axis]!,
  );
  if (flat(blocks, shape) && inside(node, shape)) {
    const [height, width] = node.window!.kernel as [number, number];
    const scaled = times(change, height * width);
    return scaled.kind === "known" ? scaled : { ...scaled, blocks: out };
  }
  out[rank - 3] = 1;
  out[rank - 2] = 1;
  return walk.opaque(id, out);
};

const windowArgmaxRule: Rule = (walk, node, id) => {
  const shape = walk.node(node.in[0]!).shape;
  return flat(blocksOf(only(walk, node), shape), shape) ? undefined : new Stopped(id);
};

/** Of a max pool: the tensor that the indices were found in. */
export function pooled(graph: PrimitiveGraph, node: PrimitiveNode): number | undefined {
  const [x, index] = node.in as [number, number];
  const argmax = graph.nodes[index]!;
  if (argmax.op !== "WindowArgmax") return undefined;
  const source = argmax.in[0]!;
  return x === source || graph.nodes[x]!.in[0] === source ? source : undefined;
}

const gatherRule: Rule = (walk, node, id) => {
  const source = pooled(walk.graph, node);
  if (source !== undefined && walk.change(source)) {
    // The maximum of what is shifted alike in every window is shifted alike.
    const shape = walk.node(source).shape;
    const change = walk.change(source)!;
    const blocks = blocksOf(change, shape);
    if (flat(blocks, shape))
      return lift(
        change,
        shape.map((size, axis) => (blocks[axis] === size ? 1 : size)),
        node.shape,
      );
    return walk.opaque(
      id,
      node.shape.map(() => 1),
    );
  }
  const [x, index] = node.in as [number, number];
  const change = walk.change(x);
  if (!change) return new Stopped(id);
  const axis = node.ints[0]!;
  const shape = walk.node(x).shape;
  const indexShape = walk.node(index).shape;
  const blocks = blocksOf(change, shape);
  const constant = blocks[axis] === shape[axis];
  if (change.kind === "known") {
    const { value } = change;
    const rows = walk.primals.indices(index);
    if (value.shape[axis] === 1 || rows) {
      const taken =
        value.shape[axis] === 1
          ? value
          : select(
              value,
              shape.map((_, at) => (at === axis ? rows : undefined)),
            );
      const middle = value.shape[axis] === 1 ? indexShape.map(() => 1) : indexShape;
      return known(
        reshape(taken, [...value.shape.slice(0, axis), ...middle, ...value.shape.slice(axis + 1)]),
      );
    }
  }
  const middle = indexShape.map((size) => (constant ? size : 1));
  const out = [...blocks.slice(0, axis), ...middle, ...blocks.slice(axis + 1)];
  if (change.kind === "opaque" && constant) return { ...change, blocks: out };
  return walk.opaque(id, out);
};

const sumRule: Rule = (walk, node, id) => {
  const shape = walk.node(node.in[0]!).shape;
  const change = only(walk, node);
  const axes = node.ints;
  if (change.kind === "known") {
    const { value } = change;
    const repeats = axes.reduce((n, axis) => n * (value.shape[axis] === 1 ? shape[axis]! : 1), 1);
    return known(scale(sum(value, axes), repeats));
  }
  const blocks = change.blocks.map((block, axis) => (axes.includes(axis) ? 1 : block));
  if (axes.every((axis) => change.blocks[axis] === shape[axis])) {
    const repeats = axes.reduce((n, axis) => n * shape[axis]!, 1);
    return { ...change, coef: change.coef * repeats, blocks };
  }
  return walk.opaque(id, blocks);
};

const reshapeRule: Rule = (walk, node, id) => {
  const shape = walk.node(node.in[0]!).shape;
  const change = only(walk, node);
  const groups = regroup(shape, node.shape);
  if (change.kind === "known") {
    const full = [...shape];
    const out = [...node.shape];
    for (const [from, to] of groups)
      if (from.every((axis) => change.value.shape[axis] === 1)) {
        for (const axis of from) full[axis] = 1;
        for (const axis of to) out[axis] = 1;
      }
    return known(collapse(reshape(expand(change.value, full), out)));
  }
  const { blocks, kept } = mapBlocks(groups, shape, node.shape, change.blocks);
  return kept ? { ...change, blocks } : walk.opaque(id, blocks);
};

const permuteRule: Rule = (walk, node, id) => {
  const change = only(walk, node);
  if (change.kind === "known") return known(permute(change.value, node.ints));
  const shape = walk.node(node.in[0]!).shape;
  const blocks = node.ints.map((axis) => change.blocks[axis]!);
  const varied = node.ints.filter((axis) => change.blocks[axis] !== shape[axis]);
  const ordered = varied.every((axis, i) => i === 0 || varied[i - 1]! < axis);
  return ordered ? { ...change, blocks } : walk.opaque(id, blocks);
};

const broadcastRule: Rule = (walk, node) => {
  const shape = walk.node(node.in[0]!).shape;
  const change = only(walk, node);
  const lead = node.shape.length - shape.length;
  if (change.kind === "known")
    return known(reshape(change.value, [...new Array(lead).fill(1), ...change.value.shape]));
  const blocks = node.shape.map((size, axis) =>
    axis >= lead && shape[axis - lead] === size ? change.blocks[axis - lead]! : size,
  );
  return { ...change, blocks };
};

const sliceRule: Rule = (walk, node, id) => {
  const shape = walk.node(node.in[0]!).shape;
  const rank = shape.length;
  const change = only(walk, node);
  const part = shape.map((size, axis) => size !== node.shape[axis]);
  if (change.kind === "known") {
    const value = select(
      change.value,
      shape.map((_, axis) => {
        if (!part[axis] || change.value.shape[axis] === 1) return undefined;
        const [start, step] = [node.ints[axis]!, node.ints[rank + axis]!];
        return Int32Array.from({ length: node.shape[axis]! }, (_, i) => start + i * step);
      }),
    );
    return largest(value) === 0 ? undefined : known(collapse(value));
  }
  const blocks = change.blocks.map((block, axis) => {
    const size = node.shape[axis]!;
    if (!part[axis]) return block;
    if (block === shape[axis]) return size;
    const [start, step] = [node.ints[axis]!, node.ints[rank + axis]!];
    return step === 1 ? Math.max(1, gcd(gcd(block, start), size)) : 1;
  });
  const cut = part.some((is, axis) => is && change.blocks[axis] !== shape[axis]);
  return cut ? walk.opaque(id, blocks) : { ...change, blocks };
};

const unsliceRule: Rule = (walk, node, id) => {
  const shape = walk.node(node.in[0]!).shape;
  const change = only(walk, node);
  return walk.opaque(
    id,
    blocksOf(change, shape).map((block, axis) => (shape[axis] === node.shape[axis] ? block : 1)),
  );
};

const concatRule: Rule = (walk, node, id) => {
  const axis = node.ints[0]!;
  const parts = node.in.map((each) => ({
    change: walk.change(each),
    shape: walk.node(each).shape,
  }));
  if (parts.every(({ change }) => change?.kind !== "opaque")) {
    const shape = node.shape.map((_, at) =>
      Math.max(
        1,
        ...parts.map(({ change }) => (change as Known | undefined)?.value.shape[at] ?? 1),
      ),
    );
    const values = parts.map(({ change, shape: own }) => {
      const full = shape.map((size, at) => (at === axis ? own[at]! : size));
      if (!change) return { shape: full, data: new Float64Array(sizeOf(full)), operands: [] };
      return expand((change as Known).value, full);
    });
    return known(collapse(concat(values, axis)));
  }
  return walk.opaque(
    id,
    node.shape.map((size, at) => {
      if (at === axis) return 1;
      return parts.reduce(
        (block, { change, shape }) => gcd(block, change ? blocksOf(change, shape)[at]! : size),
        size,
      );
    }),
  );
};

/** Along the last axis constant: a softmax does not see it, a log-sum-exp lets it through. */
const lastConstant = (walk: Walk, node: PrimitiveNode) => {
  const { shape } = walk.node(node.in[0]!);
  return blocksOf(only(walk, node), shape).at(-1) === shape.at(-1);
};

const softmaxRule: Rule = (walk, node, id) => {
  if (!lastConstant(walk, node)) return new Stopped(id);
  walk.outcome.softmax.push(id);
  return undefined;
};

const logSumExpRule: Rule = (walk, node, id) => {
  if (!lastConstant(walk, node)) return new Stopped(id);
  walk.outcome.softmax.push(id);
  const change = only(walk, node);
  if (change.kind === "known") return change;
  return { ...change, blocks: change.blocks.map((block, i) => (node.shape[i] === 1 ? 1 : block)) };
};

const reduceMaxRule: Rule = (walk, node, id) => {
  const { shape } = walk.node(node.in[0]!);
  const change = only(walk, node);
  const blocks = blocksOf(change, shape);
  if (node.ints.some((axis) => blocks[axis] !== shape[axis])) return new Stopped(id);
  if (change.kind === "known") return change;
  return { ...change, blocks: blocks.map((block, i) => (node.shape[i] === 1 ? 1 : block)) };
};

/** Both sides are shifted alike. */
function alike(p: Change, q: Change): boolean {
  if (p.kind === "opaque" && q.kind === "opaque") return p.id === q.id && p.coef === q.coef;
  if (p.kind !== "known" || q.kind !== "known") return false;
  const difference = add(p.value, scale(q.value, -1));
  return largest(difference) <= 1e-10 * largest(p.value);
}

const compareRule: Rule = (walk, node, id) => {
  const [left, right] = node.in.map((each) => walk.change(each));
  return left && right && alike(left, right) ? undefined : new Stopped(id);
};

const selectRule: Rule = (walk, node, id) => {
  const [, a, b] = node.in as [number, number, number];
  const [left, right] = [walk.change(a), walk.change(b)];
  if (left && right && alike(left, right)) return lift(left, walk.node(a).shape, node.shape);
  // Where the other is minus infinity, as under an attention mask, a shift does not matter.
  const [change, from, other] = left ? [left, a, b] : [right!, b, a];
  if (!(left && right) && walk.primals.splat(other) === Number.NEGATIVE_INFINITY)
    return lift(change, walk.node(from).shape, node.shape);
  return walk.opaque(
    id,
    node.shape.map(() => 1),
  );
};

/** Primitives that a change passes; it stops at the others. */
export const RULES: Record<string, Rule> = {
  Spread: same,
  Barrier: same,
  StopGradient: same,
  Add: addRule(1),
  Sub: addRule(-1),
  Neg: (walk, node) => times(only(walk, node), -1),
  Mul: mulRule,
  Dot: dotRule,
  Conv: convRule,
  ConvInput: (walk, node, id) =>
    walk.change(node.in[0]!)
      ? walk.opaque(
          id,
          node.shape.map(() => 1),
        )
      : new Stopped(id),
  WindowSum: windowSumRule,
  WindowSpread: (walk, node, id) =>
    walk.opaque(
      id,
      node.shape.map(() => 1),
    ),
  WindowArgmax: windowArgmaxRule,
  Gather: gatherRule,
  ScatterAdd: (walk, node, id) =>
    walk.opaque(
      id,
      node.shape.map(() => 1),
    ),
  Sum: sumRule,
  Reshape: reshapeRule,
  Permute: permuteRule,
  Broadcast: broadcastRule,
  Slice: sliceRule,
  Unslice: unsliceRule,
  Concat: concatRule,
  Softmax: softmaxRule,
  LogSumExp: logSumExpRule,
  ReduceMax: reduceMaxRule,
  Less: compareRule,
  LessEqual: compareRule,
  Equal: compareRule,
  Select: selectRule,
};
