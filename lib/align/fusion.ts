/** Fusion by optimal transport: Singh and Jaggi 2020, "Model fusion via optimal transport". */
import { matrixProduct } from "../dense";
import { OptionError } from "../errors";
import type { Parameter } from "../model/model";
import type { PermutationGroup, UnitPlace } from "../symmetry/types";
import { assign } from "./assignment";
import type { Membership, Network } from "./network";
import { type Layout, type Mixing, mixUnits, unitIndices, unitRows } from "./places";
import { exactTransport, sinkhorn, type TransportPlan } from "./transport";

/** One of two networks that are fused: the first gives the shape of the result. */
export interface FusionSide {
  readonly network: Network;
  readonly groups: readonly PermutationGroup[];
  readonly members: ReadonlyMap<string, readonly Membership[]>;
  readonly state: Float64Array;
}

export interface FusionTask {
  readonly first: FusionSide;
  readonly second: FusionSide;
  /** How weights of the readers of merged units count: see AlignOptions. */
  readonly scaling: "mean" | "sum";
  /** Of Sinkhorn; 0: exact. */
  readonly regularisation: number;
  readonly signal?: AbortSignal | undefined;
}

/** A plan, with the order where it is one. */
export interface GroupPlan extends TransportPlan {
  readonly order: Int32Array | undefined;
}

/** The plan of a group from the costs of its pairs of units. */
export function planOf(
  costs: Float64Array,
  rows: number,
  columns: number,
  regularisation: number,
): GroupPlan {
  if (regularisation > 0)
    return { ...sinkhorn(costs, rows, columns, regularisation), order: undefined };
  if (rows !== columns) return { ...exactTransport(costs, rows, columns), order: undefined };
  // Of equal masses the vertices are the permutations (Birkhoff).
  const order = assign(
    costs.map((x) => -x),
    rows,
  );
  const plan = new Float64Array(rows * rows);
  let cost = 0;
  order.forEach((j, i) => {
    plan[i * rows + j] = 1 / rows;
    cost += costs[i * rows + j]! / rows;
  });
  return { plan, rows, columns, cost, order, iterations: 1, converged: true };
}

/** A plan as sums over units of the second network; `readers`: so that columns add up to 1. */
function mixingOf(given: GroupPlan, readers: boolean): Mixing {
  const { plan, rows, columns, order } = given;
  if (order) return Array.from(order, (unit) => [[unit, 1]] as const);
  const factor = readers ? columns : rows;
  return Array.from({ length: rows }, (_, i) =>
    Array.from({ length: columns }, (_, j) => [j, factor * plan[i * columns + j]!] as const).filter(
      ([, weight]) => weight !== 0,
    ),
  );
}

/** Tensors of two networks of one architecture go together by name, else by their order. */
function partner({ first, second }: FusionTask, name: string): Parameter {
  const position = first.network.whole.parameterIndex(name);
  const found = second.network.tensor(name) ?? second.network.whole.parameters[position];
  if (!found)
    throw new OptionError(`fusion: expected "${name}" in ${second.network.model.source}, got none`);
  return found;
}

function placePartner(task: FusionTask, { group, place }: Membership): UnitPlace {
  const at = task.first.groups[group]!.places.indexOf(place);
  const found = task.second.groups[group]?.places[at];
  if (
    !found ||
    found.axis !== place.axis ||
    found.outer !== place.outer ||
    !found.positions !== !place.positions
  )
    throw new OptionError(
      `fusion: ${task.first.groups[group]!.name}: expected the same places in both networks, and ` +
        `${place.tensor} differs`,
    );
  return found;
}

type Plans = readonly (GroupPlan | undefined)[];

/**
 * A tensor of the second network in the units of the first, along all axes but one. Axes whose
 * groups have no plan yet stay as they are.
 */
function transported(task: FusionTask, tensor: Parameter, plans: Plans, except = -1): Float64Array {
  const from = partner(task, tensor.name);
  const members = task.first.members.get(tensor.name) ?? [];
  const { state } = task.second;
  let values: Float64Array = state.slice(from.offset, from.offset + from.size);
  const shape = [...from.shape];
  for (let axis = 0; axis < shape.length; axis++) {
    if (axis === except) continue;
    const there = members.filter(({ group, place }) => place.axis === axis && plans[group]);
    if (there.length === 0) continue;
    const next = shape.with(axis, tensor.shape[axis]!);
    const places = there.map((member) => {
      const plan = plans[member.group]!;
      const readers = task.scaling === "sum" && member.place.side === "out";
      const old = placePartner(task, member);
      // Along axes that are moved already, the second network has the first's positions.
      const where = (done: number) => [
        ...(member.place.where ?? []).filter((part) => part.axis < done && part.axis !== except),
        ...(old.where ?? []).filter((part) => part.axis >= done || part.axis === except),
      ];
      return {
        to: unitIndices(next, plan.rows, { ...member.place, where: where(axis) }),
        from: unitIndices(shape, plan.columns, { ...old, where: where(axis) }),
        mixing: mixingOf(plan, readers),
      };
    });
    const size = next.reduce((total, n) => total * n, 1);
    values = mixUnits(values, size, places);
    shape[axis] = next[axis]!;
  }
  return values;
}

/** Places that make the units of a group, of tensors whose other axes are settled. */
function settled(task: FusionTask, group: number, plans: Plans): UnitPlace[] {
  const { groups, members } = task.first;
  return groups[group]!.places.filter(({ side, parameter, tensor, axis }) => {
    if (!parameter || side === "out") return false;
    const others = members.get(tensor)!.filter(({ place }) => place.axis !== axis);
    return others.every((member) => plans[member.group] !== undefined);
  });
}

/** Euclidean distances between what makes the units of both networks. */
async function weightCosts(task: FusionTask, group: number, plans: Plans): Promise<Float64Array> {
  const { first, second, signal } = task;
  const [m, n] = [first.groups[group]!.size, second.groups[group]!.size];
  const places = settled(task, group, plans);
  if (places.length === 0)
    throw new OptionError(
      `fusion: ${first.groups[group]!.name}: expected weights that make its units from units that ` +
        'are matched already, found none; give costs: "activations"',
    );
  const squares = new Float64Array(m * n);
  for (const place of places) {
    const tensor = first.network.tensor(place.tensor)!;
    const member = first.members.get(place.tensor)!.find((each) => each.place === place)!;
    const own = first.state.slice(tensor.offset, tensor.offset + tensor.size);
    const other = transported(task, tensor, plans, place.axis);
    const from = partner(task, tensor.name);
    const shape = tensor.shape.map((size, i) => (i === place.axis ? from.shape[i]! : size));
    const { width } = member.units;
    // Along its other axes, `other` has the first network's positions.
    const layout: Layout = { ...placePartner(task, member), where: place.where ?? [] };
    const [a, b] = [unitRows(own, member.units), unitRows(other, unitIndices(shape, n, layout))];
    const products = await matrixProduct(a, b, m, width, n, { transposed: true, signal });
    const norm = (rows: Float64Array, i: number) =>
      rows.subarray(i * width, (i + 1) * width).reduce((sum, x) => sum + x * x, 0);
    const [aa, bb] = [
      Float64Array.from({ length: m }, (_, i) => norm(a, i)),
      Float64Array.from({ length: n }, (_, j) => norm(b, j)),
    ];
    products.forEach((product, at) => {
      squares[at]! += aa[Math.floor(at / n)]! + bb[at % n]! - 2 * product;
    });
  }
  return squares.map((x) => Math.sqrt(Math.max(0, x)));
}

/**
 * Plans are for groups side by side: those inside one another have none.
 *
 * @throws OptionError
 */
export function requireApart({ groups, members, network }: FusionSide): void {
  for (const [name, list] of members) {
    const { size } = network.tensor(name)!;
    for (const axis of new Set(list.map(({ place }) => place.axis))) {
      const owner = new Int32Array(size).fill(-1);
      for (const { group, place, units } of list)
        for (const at of place.axis === axis ? units.indices : []) {
          if (owner[at]! >= 0 && owner[at] !== group)
            throw new OptionError(
              `fusion: ${name}: expected groups of units side by side, and those of ` +
                `${groups[owner[at]!]!.name} and ${groups[group]!.name} lie inside one another, as ` +
                'heads of attention and their widths do; align by method "weights"',
            );
          owner[at] = group;
        }
    }
  }
}

/**
 * Plans group by group, from the input to the output: costs between units are distances of their
 * incoming weights once these read the units of the first network.
 */
export async function plansByWeights(
  task: FusionTask,
  onGroup: (done: number) => void,
): Promise<GroupPlan[]> {
  const { groups } = task.first;
  const plans: (GroupPlan | undefined)[] = groups.map(() => undefined);
  for (let done = 0; done < groups.length; done++) {
    onGroup(done);
    const open = [...groups.keys()].filter((group) => !plans[group]);
    const ready = (group: number) =>
      settled(task, group, plans).some(
        ({ tensor }) => task.first.network.tensor(tensor)!.shape.length >= 2,
      );
    const group = open.find(ready) ?? open[0]!;
    const [m, n] = [groups[group]!.size, task.second.groups[group]!.size];
    plans[group] = planOf(await weightCosts(task, group, plans), m, n, task.regularisation);
  }
  return plans as GroupPlan[];
}

/** The second network in the shape and units of the first. */
export function transportState(task: FusionTask, plans: Plans): Float64Array {
  const { network } = task.first;
  const out = new Float64Array(network.whole.parameterCount);
  for (const tensor of network.whole.parameters) {
    const values = transported(task, tensor, plans);
    if (values.length !== tensor.size)
      throw new OptionError(
        `fusion: ${tensor.name}: expected a tensor that differs by the widths of units only, got ` +
          `(${partner(task, tensor.name).shape.join(", ")}) for (${tensor.shape.join(", ")})`,
      );
    out.set(values, tensor.offset);
  }
  return out;
}
