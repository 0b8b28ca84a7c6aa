/** What units do on data: activations of intermediate values, and how alike two networks' are. */
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { matrixProduct } from "../dense";
import { OptionError } from "../errors";
import type { Model } from "../model/model";
import { native } from "../native";
import { forward, type RunOptions } from "../operators";
import type { PermutationGroup } from "../symmetry/types";
import type { Network } from "./network";
import { checkPlace, type Layout, unitIndices, unitRows } from "./places";

/** Linear maps: the input with the weights, and the axis of the output that has their units. */
const MAPS: Record<string, { weight: number; axis: number }> = {
  Conv: { weight: 1, axis: 1 },
  ConvTranspose: { weight: 1, axis: 1 },
  Gemm: { weight: 1, axis: -1 },
  MatMul: { weight: 1, axis: -1 },
  Gather: { weight: 0, axis: -1 },
};

/** What only moves a weight on its way to its map. */
const MOVES = new Set(["Identity", "Transpose", "Cast"]);

/** What acts on each unit by itself, and so leaves units where they are. */
const UNITWISE = new Set([
  ...["Identity", "Dropout", "BatchNormalization", "Cast"],
  ...["Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Clip", "Mish"],
  ...["Tanh", "Sigmoid", "HardSigmoid", "HardSwish", "Gelu", "Softplus", "Softsign", "Erf"],
]);
/** As well, where the other input is stored: a bias, a scale. */
const WITH_STORED = new Set(["Add", "Sub", "Mul", "Div"]);

/** A value of the network that shows the units of a group. */
export interface UnitValue {
  readonly value: string;
  /** Of the units in it; a negative axis counts from the end. */
  readonly layout: Layout;
}

/**
 * The values that show the units of a group: the outputs of the linear maps whose rows they are, after
 * bias, normalisation and activation where these follow directly.
 */
export function unitValues(network: Network, { places }: PermutationGroup): UnitValue[] {
  const { model } = network;
  const nodes = native().describeNodes(model.native);
  const stored = new Set(model.tensors.map(({ name }) => name));
  const readers = (name: string) => nodes.filter(({ inputs }) => inputs.includes(name));
  const ends = new Set(nodes.flatMap(({ outputs }) => outputs));
  for (const { inputs } of nodes) for (const name of inputs) ends.delete(name);

  const after = (value: string): string => {
    const next = readers(value);
    const [only] = next;
    if (next.length !== 1 || only!.inputs.filter((name) => name === value).length !== 1)
      return value;
    const { op, inputs, outputs } = only!;
    const others = inputs.filter((name) => name !== value && name !== "");
    const unitwise =
      (UNITWISE.has(op) && inputs[0] === value) ||
      (WITH_STORED.has(op) && others.every((name) => stored.has(name)));
    // The network's output shows classes.
    return unitwise && !ends.has(outputs[0]!) ? after(outputs[0]!) : value;
  };

  const found = new Map<string, UnitValue>();
  for (const place of places) {
    const tensor = network.tensor(place.tensor);
    if (!place.parameter || place.side === "out" || !tensor || tensor.shape.length < 2) continue;
    let names = [place.tensor];
    while (names.length > 0) {
      const uses = names.flatMap((name) => readers(name).map((node) => ({ node, name })));
      names = [];
      for (const { node, name } of uses) {
        const map = MAPS[node.op];
        if (MOVES.has(node.op)) names.push(node.outputs[0]!);
        else if (map && node.inputs.indexOf(name) === map.weight) {
          const value = after(node.outputs[0]!);
          // Other axes of the weight are none of the value.
          const { start, outer, inner, positions } = place;
          const layout = { axis: map.axis, start, outer, inner, ...(positions && { positions }) };
          if (!place.where) found.set(value, { value, layout });
        }
      }
    }
  }
  return [...found.values()];
}

export interface ActivationOptions extends Pick<RunOptions, "precision" | "threads" | "maxMemory"> {
  readonly signal?: CallOptions["signal"];
  /** The first so many. Default: all, of large values as many as give 2^23 numbers. */
  readonly samples?: number | undefined;
}

/** Numbers of one value that are held at a time. */
const MOST_NUMBERS = 2 ** 23;

/** A value of the network on the first samples, as many as are held at a time. */
export async function valueOn(
  model: Model,
  value: string,
  data: DataSet,
  options: ActivationOptions,
): Promise<{ values: Float64Array; shape: number[] }> {
  const { samples = data.samples, ...run } = options;
  using part = model.withOutput(value);
  const one = await forward(part, data, { ...run, samples: 1 });
  const most = Math.max(1, Math.floor(MOST_NUMBERS / Math.max(1, one.values.length)));
  return await forward(part, data, { ...run, samples: Math.min(samples, data.samples, most) });
}

/** The activations of a group's units: a row a unit, a column for each sample and position. */
async function activationsOf(
  where: string,
  model: Model,
  group: PermutationGroup,
  { value, layout }: UnitValue,
  data: DataSet,
  options: ActivationOptions,
): Promise<{ rows: Float64Array; width: number }> {
  const { values, shape } = await valueOn(model, value, data, options);
  const axis = layout.axis < 0 ? shape.length + layout.axis : layout.axis;
  const at = { ...layout, axis };
  checkPlace(`${where}: ${group.name}`, value, shape, group.size, at);
  const units = unitIndices(shape, group.size, at);
  return { rows: unitRows(values, units), width: units.width };
}

/** In place, each row minus its mean over its length; a row that does not vary becomes zero. */
function standardise(rows: Float64Array, width: number): void {
  for (let at = 0; at < rows.length; at += width) {
    const row = rows.subarray(at, at + width);
    const most = row.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
    const mean = row.reduce((sum, x) => sum + x, 0) / width;
    let squares = 0;
    for (let i = 0; i < width; i++) {
      row[i]! -= mean;
      squares += row[i]! ** 2;
    }
    const length = Math.sqrt(squares);
    // What rounding leaves of a constant is no variation.
    const factor = length > 1e-14 * most * Math.sqrt(width) ? 1 / length : 0;
    for (let i = 0; i < width; i++) row[i]! *= factor;
  }
}

/** How alike the units of two networks are on data, and how far apart. */
export interface ActivationPairs {
  /** rows x columns: correlations, or inner products over the number of columns. */
  readonly scores: Float64Array;
  /** Root mean squared differences of activations. */
  readonly distances: Float64Array;
}

/**
 * Compares the units of a group of one network with those of another, over all values that show them.
 *
 * @throws OptionError where no value shows them
 */
export async function comparePairs(
  where: string,
  sides: readonly { network: Network; model: Model; group: PermutationGroup }[],
  data: DataSet,
  similarity: "correlation" | "product",
  options: ActivationOptions,
): Promise<ActivationPairs> {
  const [a, b] = sides as [(typeof sides)[0], (typeof sides)[0]];
  const [ofA, ofB] = [unitValues(a.network, a.group), unitValues(b.network, b.group)];
  if (ofA.length === 0 || ofA.length !== ofB.length)
    throw new OptionError(
      `${where}: ${a.group.name}: expected a linear map or convolution whose outputs are the units ` +
        'of the group, found none; match by method "weights"',
    );
  const [m, n] = [a.group.size, b.group.size];
  const scores = new Float64Array(m * n);
  const squares = new Float64Array(m * n);
  for (const [v, value] of ofA.entries()) {
    const x = await activationsOf(where, a.model, a.group, value, data, options);
    const y = await activationsOf(where, b.model, b.group, ofB[v]!, data, options);
    const width = Math.min(x.width, y.width);
    if (x.width !== y.width)
      throw new OptionError(
        `${where}: ${a.group.name}: expected as many activations of both networks, got ` +
          `${x.width} and ${y.width} a unit`,
      );
    const norms = ({ rows }: { rows: Float64Array }, count: number) =>
      Float64Array.from({ length: count }, (_, i) =>
        rows.subarray(i * width, (i + 1) * width).reduce((sum, t) => sum + t * t, 0),
      );
    const [xx, yy] = [norms(x, m), norms(y, n)];
    const products = await matrixProduct(x.rows, y.rows, m, width, n, {
      transposed: true,
      signal: options.signal,
    });
    products.forEach((product, i) => {
      const square = xx[Math.floor(i / n)]! + yy[i % n]! - 2 * product;
      squares[i]! += Math.max(0, square) / width / ofA.length;
      if (similarity === "product") scores[i]! += product / width / ofA.length;
    });
    if (similarity === "product") continue;
    standardise(x.rows, width);
    standardise(y.rows, width);
    const correlations = await matrixProduct(x.rows, y.rows, m, width, n, {
      transposed: true,
      signal: options.signal,
    });
    correlations.forEach((r, i) => {
      scores[i]! += r / ofA.length;
    });
  }
  return { scores, distances: squares.map(Math.sqrt) };
}
