/** What a reshape does to axes: which merge and which split. */

export function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}

/** Axes before and after, in the smallest groups of equal size. */
export function regroup(
  from: readonly number[],
  to: readonly number[],
): [from: number[], to: number[]][] {
  const groups: [number[], number[]][] = [];
  let [i, j] = [0, 0];
  while (i < from.length || j < to.length) {
    const group: [number[], number[]] = [[], []];
    let [left, right] = [1, 1];
    do {
      if (i < from.length && (left <= right || j === to.length)) {
        left *= from[i]!;
        group[0].push(i++);
      } else if (j < to.length) {
        right *= to[j]!;
        group[1].push(j++);
      } else break;
    } while (left !== right || group[0].length === 0 || group[1].length === 0);
    groups.push(group);
  }
  return groups;
}

/**
 * Within which blocks something is constant after a reshape that was so before; `kept` where all
 * that varies stays as it was, but for axes along which it is constant.
 */
export function mapBlocks(
  groups: readonly [number[], number[]][],
  from: readonly number[],
  to: readonly number[],
  blocks: readonly number[],
): { blocks: number[]; kept: boolean } {
  const out = to.map(() => 1);
  let kept = true;
  for (const [before, after] of groups) {
    // As one axis: constant within its last so many.
    let block = 1;
    for (let k = before.length - 1; k >= 0; k--) {
      const axis = before[k]!;
      block *= blocks[axis]!;
      if (blocks[axis] !== from[axis]) break;
    }
    let rest = block;
    for (let k = after.length - 1; k >= 0; k--) {
      const axis = after[k]!;
      out[axis] = gcd(to[axis]!, rest);
      rest = out[axis] === to[axis] ? rest / out[axis]! : 1;
    }
    const varied = (axes: number[], sizes: readonly number[], of: readonly number[]) =>
      axes.filter((axis) => of[axis] !== sizes[axis]).map((axis) => sizes[axis]! / of[axis]!);
    kept &&= varied(before, from, blocks).join() === varied(after, to, out).join();
  }
  return { blocks: out, kept };
}
