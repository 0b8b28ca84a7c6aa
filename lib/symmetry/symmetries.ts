/** Continuous symmetries and sign flips of a network, found in its graph. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import type { SpanBasis } from "../dense";
import { OptionError } from "../errors";
import { type Checkpoint, parametersOf } from "../landscape/directions";
import { checkLoss, type Loss, type LossName } from "../model/loss";
import { Model } from "../model/model";
import { type Check, check, checkOptions, describe } from "../options";
import type { Charge } from "../trajectory/charges";
import { Atoms } from "./atoms";
import { FAMILIES, type FamilyName, familyOf } from "./families";
import { primitiveGraph } from "./graph";
import {
  ScalingInstance,
  type Subject,
  type SymmetryInstance,
  TranslationInstance,
} from "./instances";
import { type OrbitDimension, orbitBasis, orbitDimension } from "./orbits";
import { findRotations, RotationInstance } from "./rotations";
import { findScalings } from "./scalings";
import { slicesFirst } from "./slices";
import { findTranslations, genericPrimals } from "./translations";

export interface SymmetriesOptions {
  /** Needed where the file leaves lengths other than the number of samples free. */
  data?: DataSet | undefined;
  /** Some symmetries are of the loss. Default: the model's; without one, those are left out. */
  loss?: LossName | Loss | undefined;
}

const OPTIONS: { [K in keyof Required<SymmetriesOptions>]: Check } = {
  data: check.anything,
  loss: check.anything,
};

/** The symmetries of one family. */
export interface SymmetryFamily {
  readonly name: FamilyName;
  /** What may be done to the parameters. */
  readonly summary: string;
  readonly instances: readonly SymmetryInstance[];
  /** The sum over instances, which may depend on one another. */
  readonly dimension: number;
  /** Units that may change sign; 0 but for sign flips. */
  readonly flips: number;
}

/** All symmetries of a network that its graph shows, for any parameters. */
export class Symmetries {
  readonly model: Model;
  readonly families: readonly SymmetryFamily[];
  readonly instances: readonly SymmetryInstance[];

  /** @internal */
  constructor(model: Model, instances: readonly SymmetryInstance[]) {
    this.model = model;
    this.instances = instances;
    this.families = FAMILIES.map(({ name, summary }) => {
      const own = instances.filter(({ family }) => family === name);
      const total = (of: "dimension" | "flips") =>
        own.reduce((sum, instance) => sum + instance[of], 0);
      return {
        name,
        summary,
        instances: own,
        dimension: total("dimension"),
        flips: total("flips"),
      };
    }).filter(({ instances: own }) => own.length > 0);
  }

  #at(where: string, parameters: Checkpoint | undefined): Float64Array {
    return parametersOf(where, this.model, parameters ?? this.model);
  }

  /**
   * The dimension of the orbit through a place: of what all generators span there. Instances overlap,
   * and without a common tensor they add up; see docs/methods.md for large parts. At most
   * O(n^3) for n = 1,200 generators a part.
   *
   * @param parameters default: the model's
   * @throws OptionError; AbortError
   */
  async orbitDimension(
    parameters?: Checkpoint,
    options?: Pick<CallOptions, "signal">,
  ): Promise<OrbitDimension> {
    const { signal } = checkOptions("orbitDimension", options, { signal: CALL_OPTIONS.signal });
    return orbitDimension(this.instances, this.#at("orbitDimension", parameters), { signal });
  }

  /**
   * An orthonormal basis of what all generators span at a place, rank x P, row-major.
   *
   * @param options.exact leave out symmetries that hold only approximately. Default true
   * @throws OptionError where it takes more than a GiB; AbortError
   */
  async basis(
    parameters?: Checkpoint,
    options?: Pick<CallOptions, "signal"> & { exact?: boolean | undefined },
  ): Promise<SpanBasis> {
    const { signal, exact = true } = checkOptions("basis", options, {
      signal: CALL_OPTIONS.signal,
      exact: check.boolean,
    });
    const theta = this.#at("basis", parameters);
    const instances = this.instances.filter(({ approximate }) => !exact || !approximate);
    const found = await orbitBasis(instances, theta, { signal });
    if (!found)
      throw new OptionError(
        `basis: expected a basis of at most 1 GiB, and ${this.model.source} has ` +
          `${instances.reduce((sum, { dimension }) => sum + dimension, 0)} generators of ` +
          `${theta.length} numbers; use the generators of single instances`,
      );
    return found;
  }

  /**
   * What gradient flow conserves, for `chargeDrift`: an entry for each instance that conserves
   * something, or one for each family and degree with those of all its instances.
   */
  charges(by: "instance" | "family" = "instance"): Charge[] {
    const conserving = this.instances.filter(({ conserved }) => conserved !== "");
    const chargeOf = (name: string, members: readonly SymmetryInstance[]): Charge => ({
      name,
      degree: degreeOf(members[0]!),
      diagonal: members[0]!.family !== "linear-gauge",
      of: (parameters) =>
        Float64Array.from(members.flatMap((each) => [...each.charges(parameters)])),
    });
    if (by === "instance")
      return conserving.map((each) => chargeOf(`${each.family}: ${each.name}`, [each]));
    return this.families.flatMap(({ name }) => {
      const members = conserving.filter(({ family }) => family === name);
      return members.length > 0 ? [chargeOf(name, members)] : [];
    });
  }
}

/** Shifts conserve sums, scalings squares. */
const degreeOf = ({ tensors }: SymmetryInstance): 1 | 2 =>
  tensors.some(({ degree }) => degree !== 0) ? 2 : 1;

/** The axis of the output that a loss does not see a shift along. */
function classAxisOf(loss: Loss | undefined, rank: number): number | undefined {
  if (loss?.name !== "cross-entropy") return undefined;
  const { classAxis = 1 } = loss;
  return Math.min(classAxis < 0 ? rank + classAxis : classAxis, rank - 1);
}

/**
 * The continuous symmetries of a network, and changes of sign: what may be done to its parameters
 * without a change of the function, or of the loss, whatever the parameters are. They are found in the
 * graph of primitives: scalings and matrices by solving for degrees that every primitive agrees to,
 * shifts by following them until nothing is left. See docs/methods.md for the families and for what
 * each is taken for.
 *
 * Costs no product; time grows with the length of the graph times the number of tensors.
 *
 * @throws OptionError; UnsupportedOperatorError
 */
export function symmetries(model: Model, options?: SymmetriesOptions): Symmetries {
  const { data, loss } = checkOptions("symmetries", options, OPTIONS);
  if (!(model instanceof Model))
    throw new OptionError(`symmetries: expected a model of loadModel, got ${describe(model)}`);
  const graph = slicesFirst(primitiveGraph(model, data));
  const chosen = loss === undefined ? model.loss : checkLoss(loss);
  const classAxis = classAxisOf(chosen, graph.nodes[graph.output]!.shape.length);
  const { parameters, parameterCount } = model;
  const subject: Subject = { graph, parameters, parameterCount, classAxis };
  const scalings = findScalings(graph, new Atoms(graph), genericPrimals(graph), classAxis);
  const translations = findTranslations(graph, classAxis);
  return new Symmetries(model, [
    ...scalings.map(
      (scaling) => new ScalingInstance(subject, familyOf({ scaling }, graph), scaling),
    ),
    ...translations.map(
      (translation) =>
        new TranslationInstance(subject, familyOf({ translation }, graph), translation),
    ),
    ...findRotations(graph).map((rotation) => new RotationInstance(subject, rotation)),
  ]);
}
