/** Groups whose units lie inside the units of another, as the width of a head inside the heads. */
import type { PermutationGroup } from "../symmetry/types";
import { type Membership, memberships, type Network } from "./network";

/** For each unit of a group the groups inside it; those of two units go together by their order. */
export type Inner = readonly (readonly number[])[];

/** The unit of a group, by its place in `members`, in which all numbers of another group lie. */
function holder(
  outer: number,
  inner: number,
  members: ReadonlyMap<string, readonly Membership[]>,
): number | undefined {
  let found: number | undefined;
  for (const list of members.values())
    for (const { group, place, units } of list) {
      if (group !== inner) continue;
      const around = list.filter(
        (other) => other.group === outer && other.place.axis === place.axis,
      );
      const unitOf = new Map<number, number>();
      for (const other of around)
        for (const [i, at] of other.units.indices.entries())
          unitOf.set(at, Math.floor(i / other.units.width));
      for (const at of units.indices) {
        const unit = unitOf.get(at);
        if (unit === undefined || (found !== undefined && unit !== found)) return undefined;
        found = unit;
      }
    }
  return found;
}

/** Tensors that a group is in. */
const tensorsOf = ({ places }: PermutationGroup) => new Set(places.map(({ tensor }) => tensor));

/**
 * The groups inside each group; undefined where there are none, or not as many in each unit and of the
 * same sizes.
 */
export function nestingOf(
  groups: readonly PermutationGroup[],
  members: ReadonlyMap<string, readonly Membership[]>,
): (Inner | undefined)[] {
  const tensors = groups.map(tensorsOf);
  return groups.map(({ size }, outer) => {
    const inside = Array.from({ length: size }, (): number[] => []);
    for (const [inner, other] of groups.entries()) {
      if (inner === outer || ![...tensors[inner]!].every((name) => tensors[outer]!.has(name)))
        continue;
      const unit = other.size > 1 ? holder(outer, inner, members) : undefined;
      if (unit !== undefined) inside[unit]!.push(inner);
    }
    const sizes = inside.map((each) =>
      each.map((g) => `${groups[g]!.size} in ${groups[g]!.places.length}`).join(),
    );
    return sizes[0] !== "" && sizes.every((each) => each === sizes[0]) ? inside : undefined;
  });
}

/**
 * Groups with those around others first. Permutations are applied one after the other, and only in
 * this order do they give all: heads first, then the width of each head where it has come to lie.
 */
export function outerFirst(
  where: string,
  network: Network,
  groups: readonly PermutationGroup[],
): PermutationGroup[] {
  const inner = nestingOf(groups, memberships(where, network, groups));
  const depth = groups.map(() => 0);
  // Nesting is seldom deeper than two; each pass pushes what is inside one further.
  for (let pass = 0; pass < groups.length; pass++) {
    let moved = false;
    inner.forEach((units, outer) => {
      for (const g of units?.flat() ?? [])
        if (depth[g]! <= depth[outer]!) {
          depth[g] = depth[outer]! + 1;
          moved = true;
        }
    });
    if (!moved) break;
  }
  return groups
    .map((group, at) => ({ group, at }))
    .sort((a, b) => depth[a.at]! - depth[b.at]! || a.at - b.at)
    .map(({ group }) => group);
}
