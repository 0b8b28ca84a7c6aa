/** The anisotropy of an operator, as a whole and by tensor, layer or unit. */
import { allEigenvalues } from "../all-eigenvalues";
import { CALL_OPTIONS, type CallOptions } from "../call";
import { OptionError } from "../errors";
import { exactOrder } from "../exact";
import { type GroupBy, groupsOf } from "../groups";
import { LinearOperator } from "../linear-operator";
import type { ShapedTensor } from "../model/units";
import { type Check, check, checkOptions, describe } from "../options";
import { blockSpectra, cheaperTogether } from "./block-spectra";
import {
  ESTIMATE_OPTIONS,
  type EstimatedMeasures,
  type EstimateOptions,
  estimatedMeasures,
} from "./estimated";
import {
  type ExactMeasures,
  MEASURE_OPTIONS,
  type MeasureOptions,
  spectrumMeasures,
} from "./exact";

export interface AnisotropyOptions extends MeasureOptions, EstimateOptions, CallOptions {
  /**
   * "exact": from all eigenvalues (`exactSpectrum`). "estimate": from random products and the leading
   * eigenpairs, with standard errors. Default "auto": exact where the matrix of the smaller of the
   * dimension and, for Gauss-Newton and Fisher matrices, samples times outputs is at most of order
   * `maxExact`.
   */
  method?: "auto" | "exact" | "estimate" | undefined;
  /** Default 3000. */
  maxExact?: number | undefined;
}

export interface GroupAnisotropyOptions extends AnisotropyOptions {
  /**
   * "tensor"; "layer": tensors with the same name up to its last dot or slash; "unit": a row of a
   * layer's weight along its outputs, with the entry of its bias.
   */
  by: GroupBy;
  /** unit: `model.parameters`, for the shapes. */
  parameters?: readonly ShapedTensor[] | undefined;
}

const TABLE: { [K in keyof Required<GroupAnisotropyOptions>]: Check } = {
  ...MEASURE_OPTIONS,
  ...ESTIMATE_OPTIONS,
  ...CALL_OPTIONS,
  method: check.oneOf("auto", "exact", "estimate"),
  maxExact: check.positiveInteger,
  by: check.oneOf("tensor", "layer", "unit"),
  parameters: { expected: "model.parameters", fits: Array.isArray },
};

/** Measures from all eigenvalues, with what they cost. */
export interface ExactAnisotropy extends ExactMeasures {
  /** All eigenvalues, with their signs, largest first. */
  values: Float64Array;
  /** 0, like `seconds`, for a group whose block was computed together with others. */
  products: number;
  seconds: number;
}

export interface EstimatedAnisotropy extends EstimatedMeasures {
  seconds: number;
}

/** `source` says which: the two have different fields, and none is of both kinds. */
export type Anisotropy = ExactAnisotropy | EstimatedAnisotropy;

export type GroupAnisotropy = Anisotropy & {
  /** Of the tensor or layer, or "layer[3]" of a unit. */
  name: string;
  /** Its trace over the sum of all groups' traces; of sum |lambda| for indefinite operators. */
  share: number;
};

/**
 * How uneven an operator's spectrum is. The result says by `source` whether it is exact, from all
 * eigenvalues, or estimated, with an error of each number.
 *
 * With `by`, the same of the diagonal block of each tensor, layer or unit, in their order. Exact, that
 * is one pass over the samples for Gauss-Newton and Fisher matrices (`blockDiagonal`), C backward
 * passes a sample for C outputs, and as many products as the blocks have coordinates for others.
 *
 * ```ts
 * const F = fisher(model, data, { type: "type-2" });
 * const whole = await anisotropy(F);
 * if (whole.source === "exact") whole.effectiveRank;
 * for (const layer of await anisotropy(F, { by: "layer" })) console.log(layer.name, layer.share);
 * ```
 *
 * For one class: `hessian(model, await selectSamples(data, indices))`, see `samplesByClass`.
 *
 * @throws OptionError; MemoryBudgetError where the matrix does not fit; NotConvergedError where the
 * leading eigenpairs of an estimate do not converge; DataMismatchError; AbortError
 */
export function anisotropy(
  operator: LinearOperator,
  options: GroupAnisotropyOptions,
): Promise<GroupAnisotropy[]>;
export function anisotropy(
  operator: LinearOperator,
  options?: AnisotropyOptions & { by?: undefined },
): Promise<Anisotropy>;
export async function anisotropy(
  operator: LinearOperator,
  options?: AnisotropyOptions & { by?: GroupBy | undefined },
): Promise<Anisotropy | GroupAnisotropy[]> {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`anisotropy: expected an operator, got ${describe(operator)}`);
  const checked = checkOptions("anisotropy", options as GroupAnisotropyOptions, TABLE);
  const { by, parameters, onProgress, ...rest } = checked;
  if (by === undefined) return whole(operator, { ...rest, onProgress });
  const groups = groupsOf("anisotropy", operator, by, parameters);
  const total = groups.reduce((sum, { size }) => sum + size, 0);
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const together = cheaperTogether(operator, by)
    ? groups.filter(({ size }) => isExact(size, rest))
    : [];
  const spectra = await blockSpectra(operator, together, rest, (done) =>
    onProgress?.({ products: 0, fraction: done / total, seconds: seconds() }),
  );
  const found: (Anisotropy & { name: string })[] = [];
  let done = together.reduce((sum, { size }) => sum + size, 0);
  let products = 0;
  for (const group of groups) {
    const { name, size } = group;
    const values = spectra.get(group);
    if (values) {
      const measures = spectrumMeasures(values, measureOptions(rest), operator.dtype);
      found.push({ name, ...measures, values, products: 0, seconds: 0 });
      continue;
    }
    using part = group.restricted();
    const measures = await whole(part, rest);
    found.push({ name, ...measures });
    done += size;
    products += measures.products;
    onProgress?.({ products, fraction: done / total, seconds: seconds() });
  }
  const massOf = (a: Anisotropy) => (a.source === "exact" ? a.nuclear : a.nuclear.value);
  const mass = found.reduce((sum, part) => sum + massOf(part), 0);
  return found.map((part) => ({ ...part, share: mass === 0 ? 0 : massOf(part) / mass }));
}

function isExact(order: number, { method = "auto", maxExact = 3000 }: AnisotropyOptions): boolean {
  return method === "exact" || (method === "auto" && order <= maxExact);
}

function measureOptions({ top, tau, z, window, samples }: AnisotropyOptions): MeasureOptions {
  return { top, tau, z, window, samples };
}

async function whole(operator: LinearOperator, options: AnisotropyOptions): Promise<Anisotropy> {
  const { k, probes, definite, seed, top, signal, onProgress } = options;
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const call = { signal, onProgress };
  const order = options.method === "estimate" ? operator.dim : await exactOrder(operator, call);
  if (!isExact(order, options)) {
    const estimate = { k, probes, definite, seed, top };
    const measures = await estimatedMeasures(operator, estimate, call);
    return { ...measures, seconds: seconds() };
  }
  const { values, products } = await allEigenvalues(operator, call);
  const measures = spectrumMeasures(values, measureOptions(options), operator.dtype);
  return { ...measures, values, products, seconds: seconds() };
}
