/** Changes of values: in numbers as long as they depend on parameters only, else in outline. */
import { gcd } from "./regroup";
import { select, sizeOf, type Value } from "./tape";

/** Numbers that are known, with size 1 along axes where they are constant. */
export interface Known {
  readonly kind: "known";
  readonly value: Value;
}

/** coef times something that has a name; along each axis it is constant within blocks. */
export interface Opaque {
  readonly kind: "opaque";
  readonly id: string;
  readonly coef: number;
  readonly blocks: readonly number[];
}

export type Change = Known | Opaque;

/** Why a change is no symmetry: the primitive that it does not pass. */
export class Stopped {
  constructor(readonly node: number) {}
}

/** A bias takes up a change; the walk begins anew. */
export class Absorbed {}

export type Step = Change | Stopped | Absorbed | undefined;

export const known = (value: Value): Known => ({ kind: "known", value });

export function blocksOf(change: Change, shape: readonly number[]): readonly number[] {
  if (change.kind === "opaque") return change.blocks;
  return shape.map((size, axis) =>
    change.value.shape[axis] === 1 ? size : largestBlock(change.value, axis),
  );
}

/** The largest blocks of an axis within which numbers are constant. */
export function largestBlock({ shape, data }: Value, axis: number): number {
  const size = shape[axis]!;
  const inner = sizeOf(shape.slice(axis + 1));
  let block = size;
  for (let i = 0; i < data.length && block > 1; i++) {
    const at = Math.floor(i / inner) % size;
    if (at > 0 && data[i] !== data[i - inner]) block = gcd(block, at);
  }
  return block;
}

/** Axes along which numbers happen to be constant get size 1. */
export function collapse(value: Value): Value {
  const first = value.shape.map((size, axis) =>
    size > 1 && largestBlock(value, axis) === size ? Int32Array.of(0) : undefined,
  );
  return first.some(Boolean) ? select(value, first) : value;
}

export const largest = ({ data }: Value) =>
  data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
