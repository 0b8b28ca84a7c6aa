/** Which networks have ranks that can be predicted, read off their primitive graph. */
import type { DataSet } from "../data/data";
import type { Model } from "../model/model";
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import { primitiveGraph } from "../symmetry/graph";

/** A dense layer of a chain: positions of its tensors among the model's parameters. */
export interface DenseLayer {
  readonly weight: number;
  readonly bias: number | undefined;
  readonly inputs: number;
  readonly outputs: number;
  /** Whether the stored weight has a row for each output. */
  readonly rows: boolean;
}

/** What stands between two layers. "homogeneous": relu and leaky relu; "smooth": tanh and its like. */
export interface Nonlinearity {
  readonly kind: "homogeneous" | "smooth";
  readonly name: string;
  /** Of a homogeneous one, its slope below zero. */
  readonly slope: number;
}

/**
 * "chain": dense layers, nothing else; "linear": linear in its input, but of another
 * form; "one-hidden-layer": two dense layers with a nonlinearity between; "other": `why` is
 * no prediction.
 */
export type NetworkForm =
  | { readonly kind: "chain"; readonly layers: readonly DenseLayer[]; readonly positions: number }
  | { readonly kind: "linear"; readonly convolutional: boolean; readonly why: string }
  | {
      readonly kind: "one-hidden-layer";
      readonly layers: readonly [DenseLayer, DenseLayer];
      readonly positions: number;
      readonly between: Nonlinearity;
    }
  | { readonly kind: "other"; readonly why: string };

/** With the activation that stands at the end: "Softmax", "LogSoftmax", "Sigmoid" or "". */
export type FoundForm = NetworkForm & { readonly activation: string };

/** Activations at the end that belong to the loss. */
const OF_LOSS: Record<string, readonly string[]> = {
  LogSoftmax: ["nll", "cross-entropy"],
  Softmax: ["nll-probabilities"],
  Sigmoid: ["bce"],
};

/**
 * The form of a network in front of a loss.
 *
 * @throws as `primitiveGraph`
 */
export function networkForm(model: Model, data: DataSet, lossName: string): FoundForm {
  const graph = primitiveGraph(model, data);
  const { activation } = graph;
  return { ...formOf(model, graph, lossName), activation };
}

function formOf(model: Model, graph: PrimitiveGraph, lossName: string): NetworkForm {
  const split = graph.logits >= 0 && (OF_LOSS[graph.activation] ?? []).includes(lossName);
  const end = split ? graph.logits : graph.output;
  const { nodes } = graph;
  const chain = walk(graph, end, model.parameters.length);
  if (chain.layers) {
    const [first, second, third] = chain.layers;
    const { between } = chain;
    if (between.length === 0)
      return { kind: "chain", layers: chain.layers, positions: chain.positions };
    if (first && second && !third && between.length === 1)
      return {
        kind: "one-hidden-layer",
        layers: [first, second],
        between: between[0]!,
        positions: chain.positions,
      };
  }
  const needed = neededFor(nodes, end);
  const seesData = dependents(nodes, (node) => node.op === "Input");
  const seesWeights = dependents(nodes, (node) => node.op === "Param");
  const seesBoth = nodes.map((_, at) => seesData[at]! && seesWeights[at]!);
  const bent = needed.find((at) => breaksLinearity(nodes, at, seesData, seesBoth));
  if (bent !== undefined) return { kind: "other", why: nonlinearIn(model, nodes[bent]!) };
  const convolutional = needed.some((at) => /^Conv/.test(nodes[at]!.op));
  return {
    kind: "linear",
    convolutional,
    why: convolutional
      ? "it has convolutions, of whose ranks no closed form is known"
      : (chain.why ?? "it is no chain of dense layers"),
  };
}

/** Primitives that are linear in what they are given, however many operands. */
const LINEAR = new Set([
  ...["Reshape", "Permute", "Broadcast", "Slice", "Unslice", "Concat", "WindowSum", "WindowSpread"],
  ...["Add", "Sub", "Neg", "Sum", "Spread", "Collect", "Barrier"],
]);
const BILINEAR = new Set(["Mul", "Dot", "Conv", "ConvInput", "ConvWeight"]);
/** Linear in the operands at these places; the others choose. */
const CHOOSING: Record<string, readonly number[]> = {
  Select: [1, 2],
  Gather: [0],
  ScatterAdd: [0],
};

/**
 * Whether a node is not linear in what parameters have made of the input; features that come before
 * the first of them are data.
 */
function breaksLinearity(
  nodes: readonly PrimitiveNode[],
  at: number,
  seesData: readonly boolean[],
  seesBoth: readonly boolean[],
): boolean {
  const { op, in: operands } = nodes[at]!;
  if (LINEAR.has(op) || !operands.some((from) => seesBoth[from])) return false;
  if (BILINEAR.has(op)) return operands.filter((from) => seesData[from]).length > 1;
  const linear = CHOOSING[op];
  if (linear) return operands.some((from, place) => seesData[from] && !linear.includes(place));
  return true;
}

function dependents(
  nodes: readonly PrimitiveNode[],
  begins: (node: PrimitiveNode) => boolean,
): boolean[] {
  const seen: boolean[] = [];
  for (const node of nodes) seen.push(begins(node) || node.in.some((from) => seen[from]));
  return seen;
}

/** Positions of the nodes that a value is computed from, in order. */
function neededFor(nodes: readonly PrimitiveNode[], end: number): number[] {
  const needed = new Set([end]);
  for (let at = end; at >= 0; at--)
    if (needed.has(at)) for (const from of nodes[at]!.in) needed.add(from);
  return [...needed].sort((a, b) => a - b);
}

/** Operators of ONNX that are linear in the input, given that their other operands are constant. */
const LINEAR_ONNX = new Set([
  ...["Add", "Sub", "Neg", "Sum", "Mean", "Gemm", "MatMul", "Mul", "Div", "Conv", "ConvTranspose"],
  ...["Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"],
  ...["Expand", "Concat", "Slice", "Split", "Gather", "GatherElements", "Pad", "Tile", "ReduceSum"],
  ...["ReduceMean", "AveragePool", "GlobalAveragePool", "BatchNormalization", "Einsum", "Shape"],
  ...["Size", "Constant", "ConstantOfShape", "DepthToSpace", "SpaceToDepth", "Resize", "Where"],
]);

/** The first operator of the file that bends the network, by name. */
function nonlinearIn(model: Model, node: PrimitiveNode): string {
  const sees = new Set(model.inputs.map(({ name }) => name));
  for (const { op, name, inputs, outputs } of model.nodes) {
    if (!inputs.some((input) => sees.has(input))) continue;
    for (const output of outputs) sees.add(output);
    const operator = op.split(".").at(-1)!;
    const both = ["Mul", "MatMul", "Gemm", "Div", "Conv", "Einsum"].includes(operator);
    const product = both && inputs.slice(0, 2).every((input) => sees.has(input));
    if (!LINEAR_ONNX.has(operator) || product)
      return `${operator} at node "${name || outputs[0]}" makes it nonlinear`;
  }
  return `it is not linear in its input (${node.op})`;
}

interface Walked {
  layers?: DenseLayer[];
  between: Nonlinearity[];
  positions: number;
  /** Why it is no chain. */
  why?: string;
}

/** From the output back to the input, layer by layer. */
function walk({ nodes, leaves }: PrimitiveGraph, end: number, parameters: number): Walked {
  const sees = dependents(nodes, (node) => node.op === "Input");
  const layers: DenseLayer[] = [];
  const between: Nonlinearity[] = [];
  let positions = 0;
  let bias: number | undefined;
  let mixed = false;
  let bent = false;
  const used = new Set<number>();
  const no = (why: string): Walked => ({ between, positions, why });
  for (let at = end; ; ) {
    const node = nodes[at]!;
    const data = node.in.filter((from) => sees[from]);
    const other = node.in.find((from) => !sees[from]);
    if (node.op === "Input") break;
    if (node.op === "Reshape" || node.op === "Permute") {
      const [from] = node.in;
      if (node.op === "Permute" || nodes[from!]!.shape.at(-1) !== node.shape.at(-1)) mixed = true;
      at = from!;
      continue;
    }
    const nonlinear = nonlinearityAt(nodes, at, sees);
    if (nonlinear) {
      if (layers.length === 0) return no("an activation stands at its output");
      if (bias !== undefined) return no("something is added after an activation");
      between.unshift(nonlinear.what);
      bent = true;
      at = nonlinear.of;
      continue;
    }
    if (data.length !== 1 || other === undefined) return no("it has branches");
    if (node.op === "Mul") {
      if (!scalar(nodes[other]!)) return no("values are scaled between layers");
      at = data[0]!;
      continue;
    }
    const leaf = parameterOf(nodes, other);
    if (node.op === "Add") {
      if (bias !== undefined) return no("a layer has two biases");
      if (leaf === undefined) return no("constants are added");
      bias = other;
      at = data[0]!;
      continue;
    }
    const dense = node.op === "Dot" ? denseOf(nodes, at, data[0]!) : undefined;
    if (!dense || leaf === undefined)
      return no(
        `it has a ${node.op === "Dot" ? "product" : node.op} that is no dense layer of one stored weight`,
      );
    if (positions !== 0 && positions !== dense.positions)
      return no("layers act on other positions");
    positions = dense.positions;
    let biasLeaf: number | undefined;
    if (bias !== undefined) {
      biasLeaf = parameterOf(nodes, bias)!;
      const { shape } = nodes[bias]!;
      const size = shape.reduce((a, b) => a * b, 1);
      if (size !== dense.outputs || (positions > 1 && shape.at(-1) !== dense.outputs))
        return no("a bias is shared by several outputs of a layer");
    }
    for (const each of [leaf, biasLeaf])
      if (each !== undefined) {
        if (used.has(each)) return no(`${leaves[each]} is used by several layers`);
        if (each >= parameters) return no(`${leaves[each]} is no parameter`);
        used.add(each);
      }
    layers.unshift({
      weight: leaf,
      bias: biasLeaf,
      inputs: dense.inputs,
      outputs: dense.outputs,
      rows: dense.rows,
    });
    bias = undefined;
    bent = false;
    at = data[0]!;
  }
  if (bent) return no("its inputs are features of the data");
  if (bias !== undefined) return no("something is added to the input");
  if (layers.length === 0) return no("it has no dense layer");
  if (positions > 1 && mixed) return no("positions and features are mixed between layers");
  if (used.size !== parameters) return no("it has other parameters than those of dense layers");
  for (let l = 1; l < layers.length; l++)
    if (layers[l]!.inputs !== layers[l - 1]!.outputs) return no("it is no plain chain");
  return { layers, between, positions };
}

/** A constant that is one number but 0. */
function scalar({ op, values }: PrimitiveNode): boolean {
  return op === "Const" && values?.length === 1 && values[0] !== 0;
}

/** The leaf that a value holds all numbers of, in some order and scale. */
function parameterOf(nodes: readonly PrimitiveNode[], at: number): number | undefined {
  const node = nodes[at]!;
  if (node.op === "Param") return node.ints[0];
  if (["Reshape", "Permute", "Spread", "Neg", "Barrier"].includes(node.op))
    return parameterOf(nodes, node.in[0]!);
  if (node.op === "Mul") {
    const [a, b] = node.in as [number, number];
    if (scalar(nodes[a]!)) return parameterOf(nodes, b);
    if (scalar(nodes[b]!)) return parameterOf(nodes, a);
  }
  return undefined;
}

/** A contraction of the features of each position with a weight. */
function denseOf(nodes: readonly PrimitiveNode[], at: number, data: number) {
  const { labels, in: operands } = nodes[at]!;
  const [left, right, out] = labels.split(/,|->/) as [string, string, string];
  const first = operands[0] === data;
  const [x, w] = first ? [left, right] : [right, left];
  const [, weight] = first ? operands : [operands[1], operands[0]];
  const { shape } = nodes[weight!]!;
  const lengths = nodes[data]!.shape;
  const summed = [...w].filter((label) => x.includes(label));
  if (summed.some((label) => out.includes(label)) || out[0] !== x[0]) return undefined;
  const size = (from: string, dims: readonly number[], keep: (label: string) => boolean) =>
    [...from].reduce((product, label, i) => product * (keep(label) ? dims[i]! : 1), 1);
  const inputs = size(w, shape, (label) => x.includes(label));
  const outputs = size(w, shape, (label) => !x.includes(label));
  // The first axis is that of the samples, of which there may be several positions already.
  const rows = size(x, lengths, (label) => !w.includes(label));
  const samples = nodes.find((node) => node.op === "Input")!.shape[0]!;
  // Several positions: features last.
  const free = [...x].filter((label) => !w.includes(label)).join("");
  const made = [...w].filter((label) => !x.includes(label)).join("");
  if (rows > samples && (out !== free + made || !x.startsWith(free))) return undefined;
  return { inputs, outputs, positions: rows / samples, rows: !x.includes(w[0]!) };
}

const SMOOTH: Record<string, string> = {
  Tanh: "tanh",
  Sigmoid: "sigmoid",
  Softplus: "softplus",
  Erf: "erf",
};

/** An activation of one value, and what it is applied to. */
function nonlinearityAt(
  nodes: readonly PrimitiveNode[],
  at: number,
  sees: readonly boolean[],
): { what: Nonlinearity; of: number } | undefined {
  const node = nodes[at]!;
  const smooth = SMOOTH[node.op];
  if (smooth) return { what: { kind: "smooth", name: smooth, slope: 0 }, of: node.in[0]! };
  if (node.op !== "Select") return undefined;
  // relu and leaky relu: h where it is positive, else 0 or a multiple of it.
  const [mask, a, b] = node.in as [number, number, number];
  const test = nodes[mask]!;
  if (test.op !== "Less" && test.op !== "LessEqual") return undefined;
  const zero = (id: number) =>
    nodes[id]!.op === "Const" && nodes[id]!.values!.every((x) => x === 0);
  const [low, high] = test.in as [number, number];
  const source = zero(low) ? high : zero(high) ? low : undefined;
  if (source === undefined || !sees[source]) return undefined;
  const slopeOf = (id: number): number | undefined => {
    if (id === source) return 1;
    if (zero(id)) return 0;
    const { op, in: operands } = nodes[id]!;
    const [p, q] = operands as [number, number];
    const constant = op === "Mul" ? [p, q].find((each) => scalar(nodes[each]!)) : undefined;
    if (constant === undefined || (p === constant ? q : p) !== source) return undefined;
    return nodes[constant]!.values![0];
  };
  // What Select takes where the test holds comes first.
  const positive = zero(low) ? a : b;
  const negative = zero(low) ? b : a;
  const [up, down] = [slopeOf(positive), slopeOf(negative)];
  if (up === undefined || down === undefined || up === down) return undefined;
  return {
    what: { kind: "homogeneous", name: down === 0 ? "relu" : "leaky relu", slope: down / up },
    of: source,
  };
}
