/** Initial parameters: what PyTorch's layers begin with, by what a tensor does in the graph. */
import { OptionError } from "../errors";
import { Model, type ModelNode, type Parameter } from "../model/model";
import { type Check, check, checkOptions, describe } from "../options";
import { Random } from "../random";

export interface InitialOptions {
  /** Default 0. */
  seed?: number | bigint | undefined;
  /**
   * Of weights. "pytorch" (default): the layers' own, uniform up to 1/sqrt(fan in), kaiming_uniform
   * with a = sqrt(5), and biases likewise. "kaiming-normal": normal with variance 2/fan in (He et al.
   * 2015), "xavier": uniform up to sqrt(6/(fan in + fan out)) (Glorot and Bengio 2010), biases 0.
   */
  scheme?: "pytorch" | "kaiming-normal" | "xavier" | undefined;
}

const OPTIONS: { [K in keyof Required<InitialOptions>]: Check } = {
  seed: check.seed,
  scheme: check.oneOf("pytorch", "kaiming-normal", "xavier"),
};

/** What a tensor begins with. */
export interface InitialRule {
  readonly name: string;
  /** What it is in the graph: "weight of Conv", "bias of Gemm", "scale", "embedding". */
  readonly role: string;
  /** "uniform": between -size and size; "normal": of standard deviation size; "constant": size. */
  readonly distribution: "uniform" | "normal" | "constant";
  readonly size: number;
}

type Rule = Omit<InitialRule, "name">;

const product = (lengths: readonly number[]) => lengths.reduce((a, b) => a * b, 1);

/** Numbers of inputs and outputs that meet in a weight, as torch.nn.init counts them. */
function fans(op: string, { shape, outputAxis }: Parameter): { in: number; out: number } {
  if (shape.length < 2) return { in: product(shape), out: 1 };
  if (op.startsWith("Conv")) {
    const field = product(shape.slice(2));
    return { in: shape[1]! * field, out: shape[0]! * field };
  }
  // Of a stack of matrices, each has its own.
  const [rows, columns] = [shape.at(-2)!, shape.at(-1)!];
  const outLast = outputAxis === shape.length - 1;
  return outLast ? { in: rows, out: columns } : { in: columns, out: rows };
}

function weightRule(op: string, tensor: Parameter, scheme: string): Rule {
  const role = `weight of ${op}`;
  const fan = fans(op, tensor);
  if (scheme === "kaiming-normal")
    return { role, distribution: "normal", size: Math.sqrt(2 / fan.in) };
  const size = scheme === "xavier" ? Math.sqrt(6 / (fan.in + fan.out)) : 1 / Math.sqrt(fan.in);
  return { role, distribution: "uniform", size };
}

const constant = (role: string, size: number): Rule => ({ role, distribution: "constant", size });

/** Nodes that only move numbers. */
const MOVES = new Set([
  "Transpose",
  "Reshape",
  "Identity",
  "Cast",
  "Squeeze",
  "Unsqueeze",
  "Slice",
]);

/** Layers with a weight and a bias, by position of their inputs. */
const WEIGHTS: Record<string, { weights: readonly number[]; bias: number }> = {
  Conv: { weights: [1], bias: 2 },
  ConvTranspose: { weights: [1], bias: 2 },
  Gemm: { weights: [0, 1], bias: 2 },
  MatMul: { weights: [0, 1], bias: -1 },
};

/** What the other inputs of an operator are: scale and shift of normalisations, and the rest. */
const OTHERS: Record<string, Record<number, Rule>> = {
  ...Object.fromEntries(
    [
      "BatchNormalization",
      "LayerNormalization",
      "GroupNormalization",
      "InstanceNormalization",
      "RMSNormalization",
      "SimplifiedLayerNormalization",
    ].map((op) => [op, { 1: constant("scale", 1), 2: constant("shift", 0) }]),
  ),
  PRelu: { 1: constant("slope", 0.25) },
  Gather: { 0: { role: "embedding", distribution: "normal", size: 1 } },
};

const RECURRENT = new Set(["LSTM", "GRU", "RNN"]);

class Rules {
  readonly #model: Model;
  readonly #byName: Map<string, Parameter>;
  readonly #made = new Map<string, ModelNode>();
  readonly #scheme: string;

  constructor(model: Model, scheme: string) {
    this.#model = model;
    this.#scheme = scheme;
    this.#byName = new Map(model.parameters.map((tensor) => [tensor.name, tensor]));
    for (const node of model.nodes) for (const name of node.outputs) this.#made.set(name, node);
  }

  /** The node and input that take a tensor, behind nodes that only move it. */
  #uses(name: string): { node: ModelNode; at: number }[] {
    return this.#model.nodes.flatMap((node) => {
      const at = node.inputs.indexOf(name);
      if (at < 0) return [];
      return MOVES.has(node.op) && at === 0 ? this.#uses(node.outputs[0]!) : [{ node, at }];
    });
  }

  /** What a value is, before nodes that only move it. */
  #source(name: string): { tensor?: Parameter | undefined; node?: ModelNode | undefined } {
    const tensor = this.#byName.get(name);
    const node = this.#made.get(name);
    if (tensor || !node || !MOVES.has(node.op)) return { tensor, node };
    return this.#source(node.inputs[0]!);
  }

  /** The weight of the layer that a node is, where it is a parameter. */
  #weightOf(node: ModelNode | undefined): Parameter | undefined {
    const row = node && WEIGHTS[node.op];
    for (const at of row?.weights ?? []) {
      const { tensor } = this.#source(node!.inputs[at] ?? "");
      if (tensor) return tensor;
    }
    return undefined;
  }

  #biasRule(node: ModelNode): Rule {
    const role = `bias of ${node.op}`;
    const weight = this.#weightOf(node);
    if (this.#scheme !== "pytorch" || !weight) return constant(role, 0);
    return { role, distribution: "uniform", size: 1 / Math.sqrt(fans(node.op, weight).in) };
  }

  of(tensor: Parameter): Rule {
    for (const { node, at } of this.#uses(tensor.name)) {
      const { op } = node;
      const layer = WEIGHTS[op];
      if (layer?.weights.includes(at)) return weightRule(op, tensor, this.#scheme);
      if (layer?.bias === at) return this.#biasRule(node);
      const other = OTHERS[op]?.[at];
      if (other) return other;
      if (RECURRENT.has(op)) {
        const hidden = this.#byName.get(node.inputs[2]!)?.shape[2] ?? tensor.shape.at(-1)!;
        return { role: `of ${op}`, distribution: "uniform", size: 1 / Math.sqrt(hidden) };
      }
      if (op === "Mul") return constant("scale", 1);
      if (op === "Add") {
        const { node: from } = this.#source(node.inputs[1 - at]!);
        if (this.#weightOf(from)) return this.#biasRule(from!);
        const wide = tensor.shape.filter((n) => n > 1).length > 1;
        return wide
          ? { role: "added to the stream", distribution: "normal", size: 0.02 }
          : constant("shift", 0);
      }
    }
    if (tensor.shape.length < 2) return constant("of no known layer", 0);
    return { ...weightRule("", tensor, this.#scheme), role: "of no known layer" };
  }
}

function rulesOf(where: string, model: Model, scheme: string): InitialRule[] {
  if (!(model instanceof Model))
    throw new OptionError(`${where}: expected a model of loadModel, got ${describe(model)}`);
  const rules = new Rules(model, scheme);
  return model.parameters.map((tensor) => ({ name: tensor.name, ...rules.of(tensor) }));
}

/**
 * What each tensor of a model begins with in `initialParameters`, and what it was taken for.
 *
 * @throws OptionError
 */
export function initialRules(model: Model, options?: InitialOptions): InitialRule[] {
  const { scheme = "pytorch" } = checkOptions("initialRules", options, OPTIONS);
  return rulesOf("initialRules", model, scheme);
}

/** Streams of one seed. */
const INITIAL = 21;

/**
 * New parameters for a network, as PyTorch's layers begin: by layer and fan in, which are read off
 * the graph; normalisations begin as the identity, embeddings normal. `initialRules` says which rule
 * a tensor got. The numbers are float32, and those of a tensor depend on seed, name and shape alone.
 *
 * Attention of nn.MultiheadAttention, which PyTorch initialises in a way of its own, is taken for
 * linear layers, and what a graph adds to a stream (learnt positions) is normal with 0.02.
 *
 * @returns all parameters in the model's order
 * @throws OptionError
 */
export function initialParameters(model: Model, options?: InitialOptions): Float64Array {
  const { seed = 0, scheme = "pytorch" } = checkOptions("initialParameters", options, OPTIONS);
  const rules = rulesOf("initialParameters", model, scheme);
  const theta = new Float64Array(model.parameterCount);
  model.parameters.forEach(({ name, offset, size }, i) => {
    const { distribution, size: scale } = rules[i]!;
    const random = new Random(seed, INITIAL + 1000 * (1 + hash(name)));
    for (let j = offset; j < offset + size; j++) {
      const draw =
        distribution === "constant"
          ? 1
          : distribution === "normal"
            ? random.normal()
            : random.uniform();
      theta[j] = Math.fround(scale * draw);
    }
  });
  return theta;
}

/** 32 bits of a name (FNV-1a). */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (const byte of Buffer.from(text)) h = Math.imul(h ^ byte, 0x01000193) >>> 0;
  return h;
}
