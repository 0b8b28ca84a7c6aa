/** Kronecker-factored approximations of Fisher matrices. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import type { DataSet } from "./data/data";
import { OptionError } from "./errors";
import { packed } from "./linear-operator";
import type { Model } from "./model/model";
import { native } from "./native";
import {
  checkSubject,
  chosenTensors,
  FISHER_OPTIONS,
  type FisherOptions,
  lossOf,
} from "./operators";
import { type Check, check, checkOptions } from "./options";
import { StructuredOperator } from "./structured";

export interface KfacOptions extends Omit<FisherOptions, "type">, CallOptions {
  /** Of the Fisher matrix, as in `fisher`. Default "type-2". */
  type?: FisherOptions["type"] | undefined;
  /** EKFAC: the factors' eigenvectors with corrected eigenvalues. Default false. */
  eigenvalueCorrected?: boolean | undefined;
  /**
   * How weights that act on several positions (convolutions, sequences) are treated (Eschenhagen et
   * al. 2023). "expand" (default): positions count as samples of their own. "reduce": inputs are
   * averaged and derivatives summed over the positions of a sample.
   */
  sharing?: "expand" | "reduce" | undefined;
  /** A layer's weight and bias in one block, where that can be told. Default false. */
  joint?: boolean | undefined;
  /**
   * What stands for tensors that are no weight or bias of a linear or convolution layer, such as
   * scales of normalisations and embeddings. "error" (default) names them; "diagonal": the exact
   * diagonal of the Fisher matrix; "identity".
   */
  others?: "error" | "diagonal" | "identity" | undefined;
}

const KFAC_OPTIONS: { [K in keyof Required<KfacOptions>]: Check } = {
  ...FISHER_OPTIONS,
  ...CALL_OPTIONS,
  eigenvalueCorrected: check.boolean,
  sharing: check.oneOf("expand", "reduce"),
  joint: check.boolean,
  others: check.oneOf("error", "diagonal", "identity"),
};

/**
 * The Kronecker-factored approximation of a Fisher matrix (KFAC), or with corrected eigenvalues
 * (EKFAC), over the parameters of the model in their order: for each layer A x B with A the mean
 * outer product of its inputs, B the sum of those of the derivatives by its outputs. For type-2 it
 * approximates the Gauss-Newton matrix. Normalised as `fisher`; formulas in docs/methods.md.
 *
 * The factors are computed at once, by a forward pass and C backward passes over the data for
 * type-2, C the outputs of a sample (mc: one a draw, empirical: one); EKFAC does that twice.
 * Memory: 8 (n^2 + m^2) bytes for a layer of n inputs and m outputs, several times while they are
 * made.
 *
 * @throws OptionError when tensors have no such block (see `others`), and as `fisher`;
 * MemoryBudgetError; AbortError
 */
export async function kfac(
  model: Model,
  data: DataSet,
  options?: KfacOptions,
): Promise<StructuredOperator> {
  const checked = checkOptions("kfac", options, KFAC_OPTIONS);
  checkSubject("kfac", model, data);
  const { loss, params, exclude, signal, onProgress, ...rest } = checked;
  const { type = "type-2" } = rest;
  if (type !== "mc" && (rest.draws !== undefined || rest.seed !== undefined))
    throw new OptionError(`kfac: draws and seed belong to type "mc", got type "${type}"`);
  const tensors = chosenTensors("kfac", model, { params, exclude });
  const { operator, report } = await run(
    (progress) =>
      native().kfacOperator(
        model.native,
        data.native,
        lossOf("kfac", model, loss),
        { ...rest, type, tensors },
        progress,
      ),
    { signal, onProgress },
  );
  const name = `${rest.eigenvalueCorrected ? "ekfac" : "kfac"} (${type})`;
  const segments = packed(tensors.map((i) => model.parameters[i]!));
  return new StructuredOperator(operator, name, segments, report);
}
