/** Inner products of many long vectors, of which only some fit into memory. */
import { setImmediate } from "node:timers/promises";
import { AbortError } from "../errors";
import type { Segment } from "../masks/mask";

/** Products are summed in runs of this length first, so that errors do not grow with the length. */
const RUN = 4096;

/**
 * Adds x . row over [from, to) for each row, four rows at a time. The order of sums does not depend
 * on which rows come together.
 */
export function dots(
  rows: readonly Float64Array[],
  x: Float64Array,
  from = 0,
  to = x.length,
): Float64Array {
  const sums = new Float64Array(rows.length);
  for (let begin = from; begin < to; begin += RUN) {
    const end = Math.min(to, begin + RUN);
    let r = 0;
    for (; r + 4 <= rows.length; r += 4) {
      const [a, b, c, d] = [rows[r]!, rows[r + 1]!, rows[r + 2]!, rows[r + 3]!];
      let [p, q, s, t] = [0, 0, 0, 0];
      for (let i = begin; i < end; i++) {
        const value = x[i]!;
        p += a[i]! * value;
        q += b[i]! * value;
        s += c[i]! * value;
        t += d[i]! * value;
      }
      sums[r]! += p;
      sums[r + 1]! += q;
      sums[r + 2]! += s;
      sums[r + 3]! += t;
    }
    for (; r < rows.length; r++) {
      const a = rows[r]!;
      let p = 0;
      for (let i = begin; i < end; i++) p += a[i]! * x[i]!;
      sums[r]! += p;
    }
  }
  return sums;
}

/** x . y over [from, to). */
export function dotOf(x: Float64Array, y: Float64Array, from = 0, to = x.length): number {
  return dots([y], x, from, to)[0]!;
}

/**
 * Visits every pair i <= j once, with at most `room` items in memory beside one that passes by. Reads
 * each item about count / room times.
 *
 * @param visit gets a block of items first, first + 1, ... and the item j, at least as late as all of
 * the block that count
 */
export async function eachPair<T>(
  count: number,
  room: number,
  load: (i: number) => Promise<T>,
  visit: (first: number, block: readonly T[], j: number, item: T) => void,
  signal?: AbortSignal | undefined,
  onFraction?: (fraction: number) => void,
): Promise<void> {
  let whole = 0;
  for (let first = 0; first < count; first += room) whole += count - first;
  let done = 0;
  for (let first = 0; first < count; first += room) {
    const end = Math.min(count, first + room);
    const block: T[] = [];
    for (let j = first; j < count; j++) {
      const item = await load(j);
      if (j < end) block.push(item);
      visit(first, block, j, item);
      onFraction?.(++done / whole);
      await breath(signal);
    }
  }
}

/** Leaves the event loop a turn. @throws AbortError */
export async function breath(signal: AbortSignal | undefined): Promise<void> {
  await setImmediate();
  if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
}

/** Square symmetric matrices, one for each segment: inner products of the items' segments. */
export async function gramMatrices(
  count: number,
  room: number,
  load: (i: number) => Promise<Float64Array>,
  segments: readonly Segment[],
  signal?: AbortSignal | undefined,
  onFraction?: (fraction: number) => void,
): Promise<Float64Array[]> {
  const grams = segments.map(() => new Float64Array(count * count));
  await eachPair(
    count,
    room,
    load,
    (first, block, j, item) => {
      segments.forEach(({ offset, size }, s) => {
        dots(block, item, offset, offset + size).forEach((value, b) => {
          const i = first + b;
          grams[s]![i * count + j] = value;
          grams[s]![j * count + i] = value;
        });
      });
    },
    signal,
    onFraction,
  );
  return grams;
}
