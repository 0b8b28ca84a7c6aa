/** A network with all numbers that its function depends on, and those numbers in another order. */
import { OptionError } from "../errors";
import { type Checkpoint, parametersOf, parameterVector } from "../landscape/directions";
import { Model, type Parameter } from "../model/model";
import { describe } from "../options";
import type { PermutationGroup, UnitPlace } from "../symmetry/types";
import { checkOrder, checkPlace, permutePlace, type UnitIndices, unitIndices } from "./places";

/** A group that a tensor belongs to, and where its units lie there. */
export interface Membership {
  /** The position of the group. */
  readonly group: number;
  readonly place: UnitPlace;
  /** The numbers of the units there. */
  readonly units: UnitIndices;
}

/**
 * @internal A network of which buffers, such as running statistics, count as well as parameters:
 * its state is the parameters in their order, then the buffers.
 */
export class Network {
  readonly model: Model;
  /** The same network with its buffers as further parameters. */
  readonly whole: Model;
  /** The numbers of the model. */
  readonly state: Float64Array;

  constructor(where: string, model: Model) {
    if (!(model instanceof Model))
      throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
    model.requireSupported();
    this.model = model;
    const own = model.parameters.map(({ name }) => name);
    const fixed = model.tensors.filter(({ role }) => role === "buffer" || role === "excluded");
    const all = model.withTensors([...own, ...fixed.map(({ name }) => name)]);
    // Masks of attention hold -infinity, and belong to the architecture.
    const finite = all.parameters.filter(
      (tensor, i) => i < own.length || tensor.values().every(Number.isFinite),
    );
    if (finite.length === all.parameters.length) this.whole = all;
    else {
      this.whole = all.withTensors(finite.map(({ name }) => name));
      all.dispose();
    }
    this.state = parameterVector(this.whole);
  }

  /** The tensor of that name among parameters and buffers. */
  tensor(name: string): Parameter | undefined {
    return this.whole.parameters[this.whole.parameterIndex(name)];
  }

  /**
   * The state of a checkpoint: of a model with its own buffers; of parameters alone with those of
   * this network.
   */
  stateOf(where: string, checkpoint: Checkpoint): Float64Array {
    if (!(checkpoint instanceof Model)) {
      const state = this.state.slice();
      state.set(parametersOf(where, this.model, checkpoint));
      return state;
    }
    using other = new Network(where, checkpoint);
    return parametersOf(where, this.whole, other.whole);
  }

  /** The numbers of a state that are parameters of the model. */
  parametersOf(state: Float64Array): Float64Array {
    return state.slice(0, this.model.parameterCount);
  }

  /** The model with the numbers of a state: buffers are no parameters of it. */
  modelAt(state: Float64Array): Model {
    using moved = this.whole.withParameters(state);
    return moved.withTensors(this.model.parameters.map(({ name }) => name));
  }

  dispose(): void {
    this.whole.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * @internal The groups of each tensor of a network.
 *
 * @throws OptionError where a group names a tensor or a place that the network has not
 */
export function memberships(
  where: string,
  network: Network,
  groups: readonly PermutationGroup[],
): Map<string, Membership[]> {
  const found = new Map<string, Membership[]>();
  groups.forEach(({ name, size, places }, group) => {
    if (!Array.isArray(places) || places.length === 0)
      throw new OptionError(`${where}: groups: expected groups with places, got none in ${name}`);
    for (const place of places) {
      const tensor = network.tensor(place.tensor);
      if (!tensor)
        throw new OptionError(
          `${where}: ${name}: expected a group of tensors of ${network.model.source}, got one ` +
            `with "${place.tensor}", which is none of its parameters and buffers`,
        );
      checkPlace(`${where}: ${name}`, place.tensor, tensor.shape, size, place);
      const list = found.get(place.tensor) ?? [];
      list.push({ group, place, units: unitIndices(tensor.shape, size, place) });
      found.set(place.tensor, list);
    }
  });
  return found;
}

/** The order of each group, by position. */
export type Orders = readonly Int32Array[];

/** @internal One tensor of a state with its units in another order, group after group. */
export function permuteTensor(
  state: Float64Array,
  { offset, size }: Parameter,
  members: readonly Membership[],
  orders: Orders,
): Float64Array {
  let values: Float64Array = state.slice(offset, offset + size);
  for (const { group, units } of members) values = permutePlace(values, units, orders[group]!);
  return values;
}

/** @internal A state with its units in another order: new unit i is old unit order[i]. */
export function permuteState(
  network: Network,
  state: Float64Array,
  members: ReadonlyMap<string, readonly Membership[]>,
  orders: Orders,
): Float64Array {
  const out = state.slice();
  for (const [name, list] of members) {
    const tensor = network.tensor(name)!;
    out.set(permuteTensor(state, tensor, list, orders), tensor.offset);
  }
  return out;
}

/**
 * A network with the units of one group in another order: weights, biases, normalisations and
 * buffers such as running statistics are permuted along, so that its outputs are the same to
 * rounding. Groups one after the other: the result is a checkpoint for the next.
 *
 * ```ts
 * const [hidden] = permutationGroups(model);
 * using turned = permute(model, model, hidden, [2, 0, 1]);
 * ```
 *
 * @param parameters a model of the same architecture, whose buffers are used as well, or all
 * parameters of `model` in their order
 * @param permutation new unit i is old unit permutation[i]
 * @returns a model of its own, to be disposed of
 * @throws OptionError where the group does not fit the model, or it is no permutation
 */
export function permute(
  model: Model,
  parameters: Checkpoint,
  group: PermutationGroup,
  permutation: ArrayLike<number>,
): Model {
  using network = new Network("permute", model);
  const order = checkOrder("permute", group, permutation);
  const members = memberships("permute", network, [group]);
  const state = network.stateOf("permute", parameters);
  return network.modelAt(permuteState(network, state, members, [order]));
}
