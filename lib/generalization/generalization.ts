/** Generalisation quantities of one network on several data sets, side by side. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { evaluator } from "../evaluator";
import type { Model } from "../model/model";
import { checkSubject } from "../operators";
import { type Check, check, checkOptions } from "../options";
import {
  type CurvatureQuantities,
  curvatureName,
  curvatureQuantities,
  type GradientTrace,
  OPERATOR_OPTIONS,
  type QuantityOptions,
} from "./quantities";

export interface GeneralizationOptions extends Omit<QuantityOptions, "gradients"> {
  /** Other data by name: held-out, shifted (`shiftedData`). */
  sets?: Readonly<Record<string, DataSet>> | undefined;
  /** What the target array is called. Default "y". */
  target?: string | undefined;
}

const OPTIONS: { [K in keyof Required<GeneralizationOptions>]: Check } = {
  ...OPERATOR_OPTIONS,
  ...CALL_OPTIONS,
  sets: {
    expected: "data sets by name",
    fits: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  },
  target: { expected: "a name", fits: (value) => typeof value === "string" && value !== "" },
  // The rest is checked by curvatureQuantities.
  curvature: curvatureName,
  damping: check.anything,
  method: check.anything,
  probes: check.anything,
  steps: check.anything,
  draws: check.anything,
  seed: check.anything,
};

/** A data set, and what the network's curvature on it is like. */
export interface SetQuantities {
  readonly name: string;
  readonly samples: number;
  readonly loss: number;
  readonly accuracy: number | undefined;
  /** Loss less that on the training data. */
  readonly gap: number;
  /** Of the curvature on this set, with its own gradients. */
  readonly own: CurvatureQuantities;
  /** Of the curvature on the training data with the gradients of this set: tr(A_train^+ C_set). */
  readonly transfer: GradientTrace;
}

export interface Generalization {
  /** The training data first, called "train". */
  readonly sets: readonly SetQuantities[];
  readonly parameterCount: number;
  readonly warnings: readonly string[];
  readonly products: number;
  readonly seconds: number;
}

const WHERE = "generalization";

/**
 * Loss, accuracy and `curvatureQuantities` of a network on its training data and on others, held-out
 * or shifted: of the curvature on each set, and of the training curvature with the gradients of each
 * set, whose tr(A^+ C) / n is the gap that the training curvature predicts for it. The damping of all
 * sets is that of the training data. Costs `curvatureQuantities` for each set.
 *
 * @throws as `curvatureQuantities` and `evaluator`
 */
export async function generalization(
  model: Model,
  data: DataSet,
  options: GeneralizationOptions = {},
): Promise<Generalization> {
  const begin = performance.now();
  const checked = checkOptions(WHERE, options, OPTIONS);
  checkSubject(WHERE, model, data);
  const { sets = {}, target, ...rest } = checked;
  const { loss, precision, threads, batch, maxMemory, signal } = rest;
  if (Object.hasOwn(sets, "train"))
    throw new OptionError(
      `${WHERE}: sets: "train" is the name of the training data; choose another`,
    );
  const all: [string, DataSet][] = [["train", data], ...Object.entries(sets)];
  const call: CallOptions = { signal, onProgress: rest.onProgress };
  const first = await curvatureQuantities(model, data, {
    ...rest,
    gradients: Object.fromEntries(all),
  });
  const found: SetQuantities[] = [];
  for (const [i, [name, set]] of all.entries()) {
    using worth = evaluator(model, set, { loss, precision, threads, batch, maxMemory, target });
    const evaluation = await worth.at(undefined, call);
    const transfer = first.gradients[i]!;
    const own =
      i === 0
        ? { ...first, gradients: [transfer] }
        : await curvatureQuantities(model, set, {
            ...rest,
            damping: first.damping,
            gradients: { [name]: set },
          });
    const gap = i === 0 ? 0 : evaluation.loss - found[0]!.loss;
    found.push({ name, samples: set.samples, ...evaluation, gap, own, transfer });
  }
  return {
    sets: found,
    parameterCount: model.parameterCount,
    warnings: [
      ...new Set(
        found.flatMap(({ name, own }) => own.warnings.map((warning) => `${name}: ${warning}`)),
      ),
    ],
    products: found.reduce((sum, { own }) => sum + own.products, 0),
    seconds: (performance.now() - begin) / 1000,
  };
}
