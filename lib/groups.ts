/** Groups of an operator's coordinates: tensors, layers, units. */
import { OptionError } from "./errors";
import type { LinearOperator } from "./linear-operator";
import type { Segment } from "./masks/mask";
import { isPlainName } from "./model/glob";
import { layersOf, type ShapedTensor, unitIndices, unitsOf } from "./model/units";

export type GroupBy = "tensor" | "layer" | "unit";

/** Coordinates that are looked at together. */
export interface Group {
  /** Of the tensor, of the layer, or "layer[3]" of a unit. */
  name: string;
  size: number;
  /** Coordinates of the operator. */
  indices: () => number[];
  /** The operator on them alone. */
  restricted: () => LinearOperator;
}

function segmentsOf(where: string, operator: LinearOperator): readonly Segment[] {
  if (!operator.parameters)
    throw new OptionError(
      `${where}: by: expected an operator of a model, and ${operator.name} has no named ` +
        "parameters; restrict it by indices instead",
    );
  return operator.parameters;
}

function ofTensors(operator: LinearOperator, name: string, tensors: readonly Segment[]): Group {
  const names = tensors.map((tensor) => tensor.name);
  const indices = () =>
    tensors.flatMap(({ offset, size }) => Array.from({ length: size }, (_, i) => offset + i));
  return {
    name,
    size: tensors.reduce((sum, { size }) => sum + size, 0),
    indices,
    // Whole tensors by name cost less than the full product.
    restricted: () => operator.restrict(names.every(isPlainName) ? names : { indices: indices() }),
  };
}

/**
 * @param where the function that asks, for messages
 * @param shapes of the model's tensors, for units
 * @throws OptionError where the operator or the shapes do not fit
 */
export function groupsOf(
  where: string,
  operator: LinearOperator,
  by: GroupBy,
  shapes: readonly ShapedTensor[] | undefined,
): Group[] {
  const segments = segmentsOf(where, operator);
  if (by === "tensor") return segments.map((tensor) => ofTensors(operator, tensor.name, [tensor]));
  if (by === "layer")
    return Array.from(layersOf(segments), ([name, tensors]) => ofTensors(operator, name, tensors));
  if (shapes === undefined)
    throw new OptionError(
      `${where}: by "unit" needs the shapes of tensors: expected parameters: model.parameters`,
    );
  const byName = new Map(shapes.map((tensor) => [tensor.name, tensor]));
  const shaped = segments.map((segment): ShapedTensor => {
    const { shape, outputAxis } = byName.get(segment.name) ?? {};
    const size = shape?.reduce((product, n) => product * n, 1);
    if (!shape || size !== segment.size)
      throw new OptionError(
        `${where}: by "unit": expected whole tensors of parameters, and ${operator.name} has ` +
          `${segment.size} numbers of ${segment.name}, of which parameters has ${size ?? "none"}`,
      );
    return { ...segment, shape, outputAxis };
  });
  return Array.from(layersOf(shaped)).flatMap(([name, layer]) => ofUnits(operator, name, layer));
}

/** The units of a layer: a row of each weight, and its entries of biases as long. */
function ofUnits(operator: LinearOperator, layer: string, tensors: ShapedTensor[]): Group[] {
  const weights = tensors.filter(({ shape }) => shape.length >= 2);
  const left = new Set(tensors.filter(({ shape }) => shape.length < 2));
  const groups = weights.flatMap((weight) => {
    const units = unitsOf(weight);
    const biases = [...left].filter(({ size }) => size === units);
    for (const bias of biases) left.delete(bias);
    const name = weights.length === 1 ? layer : weight.name;
    return Array.from({ length: units }, (_, unit): Group => {
      const indices = [weight, ...biases].flatMap((tensor) => unitIndices(tensor, unit));
      return {
        name: `${name}[${unit}]`,
        size: indices.length,
        indices: () => indices,
        restricted: () => operator.restrict({ indices }),
      };
    });
  });
  // Such as the scales and shifts of a normalisation, which have no rows.
  return [...groups, ...[...left].map((tensor) => ofTensors(operator, tensor.name, [tensor]))];
}
