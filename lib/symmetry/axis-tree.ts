/**
 * How the positions along an axis are made up: of parts one after the other, and of factors of which
 * one runs inside of the other, as reshapes, slices and concatenations demand.
 */

/** A product of factors, the outermost first; none is one position. */
export type AxisTree = readonly Factor[];

export interface Factor {
  readonly size: number;
  /** Its positions keep their places, for a reason that its axis tells. */
  readonly fixed: boolean;
  /** One after the other; a factor without parts is whole. */
  readonly parts: readonly AxisTree[] | undefined;
}

/** A run of positions without cuts: start + the sum of index times stride. */
export interface Piece {
  readonly start: number;
  /** The outermost first. */
  readonly factors: readonly { readonly size: number; readonly stride: number; fixed: boolean }[];
}

export const sizeOf = (tree: AxisTree): number => tree.reduce((n, { size }) => n * size, 1);

export const whole = (size: number, fixed = false): AxisTree =>
  size === 1 ? [] : [{ size, fixed, parts: undefined }];

/** Parts one after the other. */
export function joined(parts: readonly AxisTree[]): AxisTree {
  if (parts.length === 1) return parts[0]!;
  return [{ size: parts.reduce((n, part) => n + sizeOf(part), 0), fixed: false, parts }];
}

/** The parts that a tree is of, as far as it is cut at the top. */
export function segments(tree: AxisTree): AxisTree[] {
  const [first, ...rest] = tree;
  if (!first?.parts) return [tree];
  return first.parts.flatMap((part) => segments([...part, ...rest]));
}

/** The same positions with a cut before position `at`. */
function cutSegment(tree: AxisTree, at: number): AxisTree[] {
  const [first, ...rest] = tree;
  const inner = sizeOf(rest);
  const [count, within] = [Math.floor(at / inner), at % inner];
  const some = (n: number): AxisTree[] => (n > 0 ? [[...whole(n, first!.fixed), ...rest]] : []);
  if (within === 0) return [...some(count), ...some(first!.size - count)];
  return [...some(count), ...cutAt(rest, [within]), ...some(first!.size - count - 1)];
}

/** The parts of a tree with cuts at these positions too. */
export function cutAt(tree: AxisTree, positions: readonly number[]): AxisTree[] {
  let parts = segments(tree);
  for (const at of positions) {
    let begin = 0;
    parts = parts.flatMap((part) => {
      const offset = at - begin;
      const size = sizeOf(part);
      begin += size;
      if (offset <= 0 || offset >= size) return [part];
      return cutSegment(part, offset).flatMap(segments);
    });
  }
  return parts;
}

/** Where parts begin, without the first. */
export function boundaries(parts: readonly AxisTree[]): number[] {
  let at = 0;
  return parts.map((part) => (at += sizeOf(part))).slice(0, -1);
}

/** Cuts a tree into a product of which the inner part has this size; nothing where it cannot be. */
export function splitAt(tree: AxisTree, inner: number): [AxisTree, AxisTree] | undefined {
  let size = 1;
  for (let i = tree.length; i >= 0; i--) {
    if (size === inner) return [tree.slice(0, i), tree.slice(i)];
    const factor = tree[i - 1];
    if (!factor) return undefined;
    if (inner % (size * factor.size) === 0) {
      size *= factor.size;
      continue;
    }
    const halves = splitFactor(factor, inner / size);
    if (!halves) return undefined;
    return [
      [...tree.slice(0, i - 1), ...halves[0]],
      [...halves[1], ...tree.slice(i)],
    ];
  }
  return undefined;
}

function splitFactor(
  { size, fixed, parts }: Factor,
  inner: number,
): [AxisTree, AxisTree] | undefined {
  if (!Number.isInteger(inner) || size % inner !== 0) return undefined;
  if (!parts) return [whole(size / inner, fixed), whole(inner, fixed)];
  const outer: AxisTree[] = [];
  let common: AxisTree | undefined;
  for (const part of parts) {
    const halves = splitAt(part, inner);
    if (!halves) return undefined;
    outer.push(halves[0]);
    common = common ? refined(common, halves[1]) : halves[1];
    if (!common) return undefined;
  }
  return [joined(outer), common!];
}

/** The coarsest tree that has all cuts and factors of both; nothing where they cross. */
export function refined(a: AxisTree, b: AxisTree): AxisTree | undefined {
  const [left, right] = [[...a], [...b]];
  const out: Factor[] = [];
  while (left.length > 0 && right.length > 0) {
    const [x, y] = [left.pop()!, right.pop()!];
    if (x.size === y.size) {
      const both = unified(x, y);
      if (!both) return undefined;
      out.unshift(...both);
      continue;
    }
    const [larger, smaller] = x.size > y.size ? [x, y] : [y, x];
    const halves = splitFactor(larger, smaller.size);
    if (!halves) return undefined;
    (x.size > y.size ? left : right).push(...halves[0], ...halves[1]);
    (x.size > y.size ? right : left).push(smaller);
  }
  return left.length === 0 && right.length === 0 ? out : undefined;
}

function unified(x: Factor, y: Factor): AxisTree | undefined {
  if (!x.parts && !y.parts) return [{ ...x, fixed: x.fixed || y.fixed }];
  if (!x.parts) return x.fixed ? allFixed([y]) : [y];
  if (!y.parts) return y.fixed ? allFixed([x]) : [x];
  const parts = refinedParts([x], [y]);
  return parts && joined(parts);
}

/** The parts of two trees of one size, cut alike and refined pairwise. */
export function refinedParts(a: AxisTree, b: AxisTree): AxisTree[] | undefined {
  const left = cutAt(a, boundaries(segments(b)));
  const right = cutAt(b, boundaries(left));
  const parts: AxisTree[] = [];
  for (const [i, part] of left.entries()) {
    const both = refined(part, right[i]!);
    if (!both) return undefined;
    parts.push(both);
  }
  return parts;
}

export function allFixed(tree: AxisTree): AxisTree {
  return tree.map(({ size, parts }) => ({ size, fixed: true, parts: parts?.map(allFixed) }));
}

/** What a tree cuts its axis into, in order of their starts. */
export function piecesOf(tree: AxisTree): Piece[] {
  let pieces: Piece[] = [{ start: 0, factors: [] }];
  let stride = 1;
  for (const { size, fixed, parts } of [...tree].reverse()) {
    if (!parts) {
      const factor = { size, stride, fixed };
      pieces = pieces.map(({ start, factors }) => ({ start, factors: [factor, ...factors] }));
    } else {
      let begin = 0;
      const outer = pieces;
      pieces = parts.flatMap((part) => {
        const first = begin;
        begin += sizeOf(part);
        return piecesOf(part).flatMap((sub) =>
          outer.map(({ start, factors }) => ({
            start: start + (first + sub.start) * stride,
            factors: [
              ...sub.factors.map((factor) => ({ ...factor, stride: factor.stride * stride })),
              ...factors,
            ],
          })),
        );
      });
    }
    stride *= size;
  }
  return pieces.sort((x, y) => x.start - y.start);
}

/** The same for trees that cut an axis alike. */
export const treeKey = (tree: AxisTree): string =>
  piecesOf(tree)
    .map(({ start, factors }) => {
      const each = factors.map(({ size, stride, fixed }) => `${size}@${stride}${fixed ? "!" : ""}`);
      return `${start}:${each.join()}`;
    })
    .join(";");
