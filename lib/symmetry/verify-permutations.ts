/** Permutation groups checked by doing. */

import { Network } from "../align/network";
import { permutePlace, unitIndices } from "../align/places";
import { CALL_OPTIONS, type CallOptions, run } from "../call";
import type { DataSet } from "../data/data";
import type { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import { forward, jacobianHolder } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { Random } from "../random";
import { permutationGroups } from "./permutations";
import type { PermutationGroup, UnitPlace } from "./types";

export interface VerifyPermutationsOptions extends CallOptions {
  /** The first so many of the data. Default 4. */
  samples?: number | undefined;
  /** Of the permutations, and of the numbers that parameters are changed by. Default 0. */
  seed?: number | bigint | undefined;
  /** Also permute each place alone. Default true. */
  places?: boolean | undefined;
}

const OPTIONS: { [K in keyof Required<VerifyPermutationsOptions>]: Check } = {
  ...CALL_OPTIONS,
  samples: check.positiveInteger,
  seed: check.seed,
  places: check.boolean,
};

/** What permuting the units of one group does to the outputs. */
export interface VerifiedGroup {
  readonly group: PermutationGroup;
  /** Largest change of an output over the largest output: rounding, about 1e-15, for a symmetry. */
  readonly residual: number;
  /**
   * The same with one place alone permuted, by place, where there are several: not small, or the
   * place is not needed. NaN where the outputs do not depend on the numbers there at all, as on the
   * bias of attention's keys.
   */
  readonly alone: readonly number[];
}

/** Streams of one seed. */
const CHANGES = 11;
const ORDERS = 12;

/** Changes below this are none. */
const NOTHING = 1e-9;

/**
 * Permutes the units of each group at random and compares the outputs, in float64. Parameters and
 * running statistics are moved away from where they are first, to a place where no two units are
 * alike by chance: a symmetry of the network holds at any place. Costs a forward pass a group, and
 * one a place.
 *
 * @throws OptionError where a group does not fit the model; as `forward`
 */
export async function verifyPermutations(
  model: Model,
  data: DataSet,
  groups: readonly PermutationGroup[] = permutationGroups(model, data),
  options?: VerifyPermutationsOptions,
): Promise<VerifiedGroup[]> {
  const given = checkOptions("verifyPermutations", options, OPTIONS);
  const { samples = 4, seed = 0, places: each = true, signal } = given;
  using network = new Network("verifyPermutations", model);
  const touched = new Set(groups.flatMap(({ places }) => places.map(({ tensor }) => tensor)));
  const state = away(network, touched, new Random(seed, CHANGES));
  using outputs = new Outputs(network, data, samples);
  const here = await outputs.at(state, signal);
  const change = async (at: Float64Array) => relativeChange(await outputs.at(at, signal), here);
  const random = new Random(seed, ORDERS);

  const found: VerifiedGroup[] = [];
  for (const group of groups) {
    const order = turned(group.size, random);
    const permuted = (places: readonly UnitPlace[]) => {
      const at = state.slice();
      for (const place of places) permuteIn(network, at, place, order);
      return change(at);
    };
    const residual = await permuted(group.places);
    const alone: number[] = [];
    for (const place of each && group.places.length > 1 ? group.places : []) {
      const moved = await permuted([place]);
      const counts =
        moved > NOTHING || (await change(elsewhere(network, state, place, group.size))) > NOTHING;
      alone.push(counts ? moved : Number.NaN);
    }
    found.push({ group, residual, alone });
  }
  return found;
}

/** More samples than this are not run to have the outputs for a few. */
const FEW = 64;

/** The outputs of a network at many places. */
class Outputs {
  readonly #network: Network;
  readonly #data: DataSet;
  readonly #samples: number;
  readonly #holder: LinearOperator | undefined;

  constructor(network: Network, data: DataSet, samples: number) {
    this.#network = network;
    this.#data = data;
    this.#samples = samples;
    // Compiled once, and run on all samples.
    const few = data.arrays.every(({ shape }) => (shape[0] ?? 0) <= Math.max(FEW, samples));
    if (few)
      this.#holder = jacobianHolder("verifyPermutations", network.whole, data, {
        loss: "output",
        precision: "float64",
      });
  }

  async at(state: Float64Array, signal: AbortSignal | undefined): Promise<Float64Array> {
    if (!this.#holder) {
      using moved = this.#network.whole.withParameters(state);
      const options = { precision: "float64", samples: this.#samples, signal } as const;
      return (await forward(moved, this.#data, options)).values;
    }
    const direction = state.map((value, i) => value - this.#network.state[i]!);
    const { native: core } = this.#holder;
    return (await run(() => core.call("outputs", { direction }, undefined), { signal })).values;
  }

  [Symbol.dispose](): void {
    this.#holder?.dispose();
  }
}

function relativeChange(there: Float64Array, here: Float64Array): number {
  let [most, largest] = [0, 0];
  here.forEach((value, i) => {
    const change = Math.abs(there[i]! - value);
    most = Number.isNaN(change) ? Number.POSITIVE_INFINITY : Math.max(most, change);
    largest = Math.max(largest, Math.abs(value));
  });
  return most === 0 ? 0 : most / largest;
}

/** The numbers of a network, moved a little: factors keep variances positive. */
function away(network: Network, touched: ReadonlySet<string>, random: Random): Float64Array {
  const state = network.state.slice();
  network.whole.parameters.forEach(({ name, offset, size }) => {
    if (!touched.has(name)) return;
    const own = network.model.parameterIndex(name) >= 0;
    for (let i = offset; i < offset + size; i++) {
      state[i]! *= Math.exp(0.2 * random.normal());
      if (own || state[i] === 0) state[i]! += 0.1 * random.normal();
    }
  });
  return state;
}

/** A random order of at least two units that leaves none where it is. */
function turned(size: number, random: Random): Int32Array {
  const units = Array.from({ length: size }, (_, i) => i);
  for (let i = size - 1; i > 0; i--) {
    // Sattolo's: one cycle.
    const j = random.below(i);
    [units[i], units[j]] = [units[j]!, units[i]!];
  }
  return Int32Array.from(units);
}

function permuteIn(
  network: Network,
  state: Float64Array,
  place: UnitPlace,
  order: Int32Array,
): void {
  const { offset, size, shape } = network.tensor(place.tensor)!;
  const values = state.subarray(offset, offset + size);
  state.set(permutePlace(values, unitIndices(shape, order.length, place), order), offset);
}

/** Other numbers at a place. */
function elsewhere(
  network: Network,
  state: Float64Array,
  place: UnitPlace,
  units: number,
): Float64Array {
  const { offset, shape } = network.tensor(place.tensor)!;
  const at = state.slice();
  unitIndices(shape, units, place).indices.forEach((i, j) => {
    at[offset + i]! *= 1.5 + Math.sin(j);
  });
  return at;
}
