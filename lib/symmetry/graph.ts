/** The graph of a network in primitives, in which symmetries are looked for. */
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { Model } from "../model/model";
import { native, type PrimitiveGraph } from "../native";

/** Samples in the graph where the file leaves their number free: no weight is likely to have it. */
const ROWS = 3;

/**
 * The primitives of a network for a few samples. Free lengths other than the number of samples are
 * those of the data.
 *
 * @throws OptionError where lengths are free and there are no data; UnsupportedOperatorError
 */
export function primitiveGraph(model: Model, data?: DataSet): PrimitiveGraph {
  model.requireSupported();
  const shapes: Record<string, number[]> = {};
  for (const { name, shape } of model.inputs) shapes[name] = shapeOf(name, shape, model, data);
  return native().lowerModel(model.native, shapes);
}

function shapeOf(
  name: string,
  declared: readonly (number | string)[] | null,
  model: Model,
  data: DataSet | undefined,
): number[] {
  const given =
    data && (data.arrays.find((array) => array.name === name) ?? onlyInput(model, data));
  if (declared?.every((length, axis) => axis === 0 || typeof length === "number"))
    return declared.map((length) => (typeof length === "number" ? length : ROWS));
  if (!given)
    throw new OptionError(
      `${model.source}: expected data, as the file leaves lengths of the input "${name}" free ` +
        `(${declared ? `[${declared.join(", ")}]` : "any shape"}); give the data set too`,
    );
  const rows = typeof declared?.[0] === "number" ? declared[0] : ROWS;
  return [rows, ...given.shape.slice(1)];
}

/** A model with one input takes an array of any name. */
function onlyInput(model: Model, data: DataSet) {
  return model.inputs.length === 1 ? data.arrays[0] : undefined;
}
