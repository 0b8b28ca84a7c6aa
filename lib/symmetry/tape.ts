/**
 * Small arrays of numbers with reverse-mode derivatives: what a generator of a symmetry is computed
 * from, such as -W t, and what the identities of the Hessian need of it. For parameters only, never
 * for data.
 */

/** An array on the tape. */
export interface Value {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  /** Adds to the gradients of the operands. */
  readonly back?: (gradient: Float64Array) => void;
  readonly operands: readonly Value[];
  gradient?: Float64Array | undefined;
}

export const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

export function leaf(shape: readonly number[], data: Float64Array): Value {
  return { shape, data, operands: [] };
}

function into(value: Value): Float64Array {
  value.gradient ??= new Float64Array(value.data.length);
  return value.gradient;
}

/** The derivative of <seeds, values> by every leaf, into their `gradient`. */
export function backward(values: readonly Value[], seeds: readonly Float64Array[]): void {
  const order: Value[] = [];
  const seen = new Set<Value>();
  const visit = (root: Value) => {
    const stack: [Value, number][] = [[root, 0]];
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const [value, next] = top;
      if (next === 0) {
        if (seen.has(value)) {
          stack.pop();
          continue;
        }
        seen.add(value);
      }
      if (next < value.operands.length) {
        top[1]++;
        if (!seen.has(value.operands[next]!)) stack.push([value.operands[next]!, 0]);
      } else {
        order.push(value);
        stack.pop();
      }
    }
  };
  for (const value of values) visit(value);
  for (const value of order) value.gradient = undefined;
  values.forEach((value, i) => {
    const gradient = into(value);
    seeds[i]!.forEach((x, at) => {
      gradient[at]! += x;
    });
  });
  for (const value of order.reverse()) if (value.gradient) value.back?.(value.gradient);
}

/** out[i] = x[from[i]], or 0 where from[i] is -1: every movement of numbers. */
export function pull(x: Value, shape: readonly number[], from: Int32Array): Value {
  const data = new Float64Array(from.length);
  for (let i = 0; i < from.length; i++) if (from[i]! >= 0) data[i] = x.data[from[i]!]!;
  return {
    shape,
    data,
    operands: [x],
    back: (gradient) => {
      const out = into(x);
      for (let i = 0; i < from.length; i++) if (from[i]! >= 0) out[from[i]!]! += gradient[i]!;
    },
  };
}

export function reshape(x: Value, shape: readonly number[]): Value {
  return {
    shape,
    data: x.data,
    operands: [x],
    back: (gradient) => {
      const out = into(x);
      gradient.forEach((g, i) => {
        out[i]! += g;
      });
    },
  };
}

export function strides(shape: readonly number[]): number[] {
  const out: number[] = new Array(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    out[axis] = step;
    step *= shape[axis]!;
  }
  return out;
}

/** For each entry of `shape`, in order, the sum of steps[axis](index). */
export function indexMap(
  shape: readonly number[],
  at: (axis: number, index: number) => number,
): Int32Array {
  let map = Int32Array.of(0);
  shape.forEach((size, axis) => {
    const next = new Int32Array(map.length * size);
    const offsets = Int32Array.from({ length: size }, (_, i) => at(axis, i));
    for (let i = 0; i < map.length; i++)
      for (let j = 0; j < size; j++) {
        const outside = map[i]! < 0 || offsets[j]! < 0;
        next[i * size + j] = outside ? -1 : map[i]! + offsets[j]!;
      }
    map = next;
  });
  return map;
}

export function permute(x: Value, order: readonly number[]): Value {
  const step = strides(x.shape);
  const shape = order.map((axis) => x.shape[axis]!);
  return pull(
    x,
    shape,
    indexMap(shape, (axis, i) => i * step[order[axis]!]!),
  );
}

/** Axes of size 1 repeated. */
export function expand(x: Value, shape: readonly number[]): Value {
  if (x.shape.every((size, axis) => size === shape[axis])) return x;
  const step = strides(x.shape);
  return pull(
    x,
    shape,
    indexMap(shape, (axis, i) => (x.shape[axis] === 1 ? 0 : i * step[axis]!)),
  );
}

/** Some positions of each axis; undefined: all. Position -1 gives 0. */
export function select(x: Value, positions: readonly (Int32Array | undefined)[]): Value {
  const step = strides(x.shape);
  const shape = x.shape.map((size, axis) => positions[axis]?.length ?? size);
  return pull(
    x,
    shape,
    indexMap(shape, (axis, i) => {
      const from = positions[axis] ? positions[axis][i]! : i;
      return from < 0 ? -1 : from * step[axis]!;
    }),
  );
}

function elementwise(
  a: Value,
  b: Value,
  f: (x: number, y: number) => number,
  slopes: (x: number, y: number) => readonly [number, number],
): Value {
  const shape = a.shape.map((size, axis) => Math.max(size, b.shape[axis]!));
  const [p, q] = [expand(a, shape), expand(b, shape)];
  return {
    shape,
    data: p.data.map((x, i) => f(x, q.data[i]!)),
    operands: [p, q],
    back: (gradient) => {
      const [left, right] = [into(p), into(q)];
      for (let i = 0; i < gradient.length; i++) {
        const [s, t] = slopes(p.data[i]!, q.data[i]!);
        left[i]! += s * gradient[i]!;
        right[i]! += t * gradient[i]!;
      }
    },
  };
}

/** Arrays of one rank, where axes of size 1 are repeated. */
export const add = (a: Value, b: Value) =>
  elementwise(
    a,
    b,
    (x, y) => x + y,
    () => [1, 1],
  );

export const multiply = (a: Value, b: Value) =>
  elementwise(
    a,
    b,
    (x, y) => x * y,
    (x, y) => [y, x],
  );

export function map(x: Value, f: (x: number) => number, slope: (x: number) => number): Value {
  return {
    shape: x.shape,
    data: x.data.map(f),
    operands: [x],
    back: (gradient) => {
      const out = into(x);
      for (let i = 0; i < gradient.length; i++) out[i]! += slope(x.data[i]!) * gradient[i]!;
    },
  };
}

export const scale = (x: Value, factor: number) =>
  map(
    x,
    (v) => factor * v,
    () => factor,
  );

/** Sums over axes, which are kept with size 1. */
export function sum(x: Value, axes: readonly number[]): Value {
  const shape = x.shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
  const step = strides(shape);
  const to = indexMap(x.shape, (axis, i) => (axes.includes(axis) ? 0 : i * step[axis]!));
  const data = new Float64Array(sizeOf(shape));
  for (let i = 0; i < to.length; i++) data[to[i]!]! += x.data[i]!;
  return {
    shape,
    data,
    operands: [x],
    back: (gradient) => {
      const out = into(x);
      for (let i = 0; i < to.length; i++) out[i]! += gradient[to[i]!]!;
    },
  };
}

/** A contraction "bi,oi->bo"; a label of size 1 in one operand is repeated to its size in the other. */
export function contract(a: Value, b: Value, labels: string): Value {
  const [inputs, out] = labels.split("->") as [string, string];
  const [left, right] = inputs.split(",") as [string, string];
  const summed = [...new Set(left + right)].filter((label) => !out.includes(label));
  const sizes = new Map<string, number>();
  for (const [names, value] of [
    [left, a],
    [right, b],
  ] as const)
    [...names].forEach((label, axis) => {
      sizes.set(label, Math.max(sizes.get(label) ?? 1, value.shape[axis]!));
    });
  const offsets = (names: string, value: Value, over: readonly string[]) => {
    const step = strides(value.shape);
    const shape = over.map((label) => sizes.get(label)!);
    return indexMap(shape, (axis, i) => {
      const position = names.indexOf(over[axis]!);
      return position < 0 || value.shape[position] === 1 ? 0 : i * step[position]!;
    });
  };
  const kept = [...out];
  const [aOut, bOut] = [offsets(left, a, kept), offsets(right, b, kept)];
  const [aIn, bIn] = [offsets(left, a, summed), offsets(right, b, summed)];
  const data = new Float64Array(aOut.length);
  for (let o = 0; o < data.length; o++) {
    let total = 0;
    for (let k = 0; k < aIn.length; k++)
      total += a.data[aOut[o]! + aIn[k]!]! * b.data[bOut[o]! + bIn[k]!]!;
    data[o] = total;
  }
  return {
    shape: kept.map((label) => sizes.get(label)!),
    data,
    operands: [a, b],
    back: (gradient) => {
      const [ga, gb] = [into(a), into(b)];
      for (let o = 0; o < gradient.length; o++)
        for (let k = 0; k < aIn.length; k++) {
          const [i, j] = [aOut[o]! + aIn[k]!, bOut[o]! + bIn[k]!];
          ga[i]! += gradient[o]! * b.data[j]!;
          gb[j]! += gradient[o]! * a.data[i]!;
        }
    },
  };
}

/** One after the other along an axis; other axes have equal sizes. */
export function concat(values: readonly Value[], axis: number): Value {
  const shape = values[0]!.shape.map((size, at) =>
    at === axis ? values.reduce((total, value) => total + value.shape[axis]!, 0) : size,
  );
  let begin = 0;
  return values
    .map((value) => {
      const length = value.shape[axis]!;
      const from = Int32Array.from({ length: shape[axis]! }, (_, i) =>
        i >= begin && i < begin + length ? i - begin : -1,
      );
      begin += length;
      return select(
        value,
        shape.map((_, at) => (at === axis ? from : undefined)),
      );
    })
    .reduce(add);
}
