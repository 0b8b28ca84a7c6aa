/** Directions in the space of parameters: random ones, and those to other checkpoints. */
import { OptionError } from "../errors";
import { type Globs, matchGlobs } from "../model/glob";
import { Model } from "../model/model";
import { unitIndices, unitsOf } from "../model/units";
import { type Check, check, checkOptions, describe, typeName } from "../options";
import { Random } from "../random";

/** All parameters of a model, in their order, in float64. */
export function parameterVector(model: Model): Float64Array {
  if (!(model instanceof Model))
    throw new OptionError(`parameterVector: expected a model of loadModel, got ${describe(model)}`);
  const theta = new Float64Array(model.parameterCount);
  for (const { offset, values } of model.parameters) theta.set(values(), offset);
  return theta;
}

/** A checkpoint: a model of the same architecture, or all its parameters one after the other. */
export type Checkpoint = Model | Float64Array | Float32Array;

/**
 * @internal The parameters of a checkpoint in the order of a model: by name where the names are the
 * same, else by their order, where the shapes are the same.
 */
export function parametersOf(where: string, model: Model, other: Checkpoint): Float64Array {
  const { parameters, parameterCount } = model;
  if (!(other instanceof Model)) {
    if (!/^Float(32|64)Array$/.test(typeName(other)) || other.length !== parameterCount)
      throw new OptionError(
        `${where}: expected a model, or a Float64Array of its ${parameterCount} parameters, got ` +
          describe(other),
      );
    const bad = other.findIndex((x) => !Number.isFinite(x));
    if (bad >= 0)
      throw new OptionError(
        `${where}: expected finite parameters, got ${other[bad]} at index ${bad}`,
      );
    return Float64Array.from(other);
  }
  const byName = new Map(other.parameters.map((parameter) => [parameter.name, parameter]));
  const named = parameters.every(({ name }) => byName.has(name));
  const theta = new Float64Array(parameterCount);
  const shapeOf = (shape: readonly number[]) => `(${shape.join(", ")})`;
  if (!named && parameters.length !== other.parameters.length)
    throw new OptionError(
      `${where}: expected a checkpoint of ${model.source} with its ${parameters.length} tensors, ` +
        `got ${other.source} with ${other.parameters.length}, and without ` +
        parameters.find(({ name }) => !byName.has(name))!.name,
    );
  parameters.forEach(({ name, shape, offset }, i) => {
    const match = named ? byName.get(name)! : other.parameters[i]!;
    if (shapeOf(match.shape) !== shapeOf(shape))
      throw new OptionError(
        `${where}: ${name}: expected the shape ${shapeOf(shape)}, got ${match.name} of ` +
          `${shapeOf(match.shape)} in ${other.source}`,
      );
    theta.set(match.values(), offset);
  });
  return theta;
}

export interface DirectionToOptions {
  /** Only these tensors move, by patterns of their names: layer-wise interpolation. */
  params?: Globs | undefined;
}

/**
 * The way from a model's parameters to a checkpoint's: their difference.
 *
 * @throws OptionError where the architectures differ
 */
export function directionTo(
  model: Model,
  other: Checkpoint,
  options?: DirectionToOptions,
): Float64Array {
  const { params } = checkOptions("directionTo", options, { params: check.anything });
  const direction = parametersOf("directionTo", model, other);
  parameterVector(model).forEach((value, i) => {
    direction[i]! -= value;
  });
  if (params !== undefined) keepOnly(direction, model, params, "directionTo: params");
  return direction;
}

function keepOnly(direction: Float64Array, model: Model, params: Globs, where: string): void {
  const names = model.parameters.map(({ name }) => name);
  const kept = matchGlobs(names, params, where);
  model.parameters.forEach(({ offset, size }, i) => {
    if (!kept[i]) direction.fill(0, offset, offset + size);
  });
}

export interface RandomDirectionOptions {
  /** Default 0. Directions of different seeds are nearly orthogonal. */
  seed?: number | bigint | undefined;
  /**
   * "filter" (default; Li et al. 2018): each filter of a convolution and each row of a matrix, the
   * weights into one unit, gets the length that it has in the model. "layer": each tensor. "none":
   * a standard normal vector.
   */
  scaling?: "filter" | "layer" | "none" | undefined;
  /**
   * Whether tensors of rank below 2, biases and parameters of normalisations, move as well, scaled
   * as a whole. Default false, as Li et al. do.
   */
  biases?: boolean | undefined;
  /** Only these tensors move, by patterns of their names. Default: all. */
  params?: Globs | undefined;
}

const RANDOM_OPTIONS: { [K in keyof Required<RandomDirectionOptions>]: Check } = {
  seed: check.seed,
  scaling: check.oneOf("filter", "layer", "none"),
  biases: check.boolean,
  params: check.anything,
};

/** Streams of one seed. */
const DIRECTIONS = 3;

/**
 * A random direction that takes the scale of each filter into account, so that networks that differ
 * in the scale of their weights alone have the same landscape.
 *
 * @returns one number a parameter of the model
 */
export function randomDirection(model: Model, options?: RandomDirectionOptions): Float64Array {
  const given = checkOptions("randomDirection", options, RANDOM_OPTIONS);
  const { seed = 0, scaling = "filter", biases = false, params } = given;
  const theta = parameterVector(model);
  const random = new Random(seed, DIRECTIONS);
  const direction = Float64Array.from(theta, () => random.normal());
  if (params !== undefined) keepOnly(direction, model, params, "randomDirection: params");
  for (const tensor of model.parameters) {
    const { shape, offset, size } = tensor;
    if (shape.length < 2 && !biases) direction.fill(0, offset, offset + size);
    if (scaling === "none") continue;
    const groups =
      scaling === "filter" && shape.length >= 2
        ? Array.from({ length: unitsOf(tensor) }, (_, unit) => unitIndices(tensor, unit))
        : [Array.from({ length: size }, (_, i) => offset + i)];
    for (const indices of groups) {
      const length = (of: Float64Array) =>
        Math.sqrt(indices.reduce((sum, i) => sum + of[i]! ** 2, 0));
      const now = length(direction);
      const factor = now === 0 ? 0 : length(theta) / now;
      for (const i of indices) direction[i]! *= factor;
    }
  }
  return direction;
}
