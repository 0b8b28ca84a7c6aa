/** A network read from an ONNX file. */

import { dirname } from "node:path";
import { OptionError, type UnsupportedNode, UnsupportedOperatorError } from "../errors";
import {
  type ElementType,
  type NativeModel,
  native,
  type TensorRole,
  type ValueDescription,
} from "../native";
import { describe, typeName } from "../options";
import { readBind } from "./bind";
import { type DecodedModel, decodeModel } from "./decode";
import { type Globs, isPlainName, matchGlobs } from "./glob";
import { checkLoss, type Loss, type LossName } from "./loss";
import { checkModes, type ModelModes, type ModeOptions } from "./modes";
import { readFileBytes } from "./read";
import {
  certainName,
  type FileTensor,
  isSuperseded,
  mapStateDict,
  readStateDict,
  type StateDictMatch,
  type StateDictReport,
  stateDictWarnings,
} from "./state-dict";
import { outputAxes } from "./units";

/** What `loadModel` may be told about the model. */
export interface LoadModelOptions extends ModeOptions {
  /** The loss on the output, for operators that are given none. */
  loss?: LossName | Loss;
  /** The output that the loss is on. Default: the first that holds floating-point numbers. */
  output?: string;
  /** Which tensors are differentiated; the rest are constants. */
  params?: {
    /**
     * Names or patterns of names (`*`, `?`, `[...]`, `{a,b}`). Default: all parameters. A plain
     * name is a parameter even where the rules take it for a buffer or a constant.
     */
    include?: Globs;
    /** Taken away from those. */
    exclude?: Globs;
  };
  /**
   * Pairs of names of tensors that the trained model shares and the file stores twice. The second
   * then stands for the first, and the two count as one parameter.
   */
  ties?: readonly (readonly [string, string])[];
  /** Where external data lies. Default: the folder of the file. */
  folder?: string;
  /**
   * A file with PyTorch's state_dict, .safetensors or .npz, of the moment of the export. Tensors of
   * the model are mapped to its names by their numbers: see `Model.stateDict`.
   */
  stateDict?: string;
}

/** A differentiated tensor. All of them, row-major and in order, make up the parameter vector. */
export interface Parameter {
  readonly name: string;
  /** As stored in the file. */
  readonly shape: readonly number[];
  /** Of its first number in the parameter vector. */
  readonly offset: number;
  readonly size: number;
  /** Of a weight: the axis that runs over the outputs of its layer. */
  readonly outputAxis: number;
  /** Its name in PyTorch's state_dict, where the option `stateDict` made that certain. */
  readonly stateDictName: string | undefined;
  /** What the option `stateDict` found out about it. */
  readonly stateDict: StateDictMatch | undefined;
  /** Its numbers, row-major, converted to float64. A new array each time. */
  values(): Float64Array;
}

/** An input or output of the network. */
export interface ModelValue {
  readonly name: string;
  readonly type: ElementType;
  /** A number, the name of a free length, or "?" for one without a name; null: any rank. */
  readonly shape: readonly (number | string)[] | null;
}

/** A floating-point tensor of the file, and what it is to the analysis. */
export interface StoredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: TensorRole | "excluded";
  /** Why it is no parameter; "" for parameters. */
  readonly reason: string;
}

/** A node of the file's graph, for messages that name it. */
export interface ModelNode {
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** What a model is besides its parameters and nodes, which the core tells. */
interface ModelDetails
  extends Pick<
    Model,
    | "source"
    | "inputs"
    | "outputs"
    | "output"
    | "opset"
    | "irVersion"
    | "producer"
    | "operators"
    | "loss"
    | "ties"
    | "modes"
    | "nodes"
    | "stateDict"
  > {
  /** By position of the parameter. */
  readonly axes: readonly number[];
  /** Beside the core's. */
  readonly warnings: readonly string[];
  /** Tensors whose numbers may be others than those of the file. */
  readonly moved: readonly string[];
}

/**
 * A network: its graph and the values of its parameters, held by the core. Made by `loadModel`.
 */
export class Model {
  /** The file, or "model" for one that came as bytes. */
  readonly source: string;
  /** In the order of the parameter vector. */
  readonly parameters: readonly Parameter[];
  /** The length of the parameter vector. */
  readonly parameterCount: number;
  readonly inputs: readonly ModelValue[];
  readonly outputs: readonly ModelValue[];
  /** The output that the loss is on. */
  readonly output: string;
  /** The version of ONNX's operators. */
  readonly opset: number;
  readonly irVersion: number;
  /** Program and version that wrote the file. */
  readonly producer: string;
  /** How many nodes of each operator there are. */
  readonly operators: Readonly<Record<string, number>>;
  /** Nodes that the output needs and that are not supported; operators cannot be made then. */
  readonly unsupported: readonly UnsupportedNode[];
  /** Every stored floating-point tensor with its role. */
  readonly tensors: readonly StoredTensor[];
  /** What may not be as expected. */
  readonly warnings: readonly string[];
  /** The loss that operators are made with unless they are given another. */
  readonly loss: Loss | undefined;
  /** The option of `loadModel`: pairs of which the second stands for the first. */
  readonly ties: readonly (readonly [string, string])[];
  /** What function the file stands for: the options batchNorm, dropout and bind of `loadModel`. */
  readonly modes: ModelModes;
  /** What the option `stateDict` of `loadModel` found: where each tensor comes from. */
  readonly stateDict: StateDictReport | undefined;
  /** @internal The graph as the file has it, functions written out, in topological order. */
  readonly nodes: readonly ModelNode[];
  /** @internal */
  readonly native: NativeModel;
  readonly #details: ModelDetails;

  /** @internal */
  constructor(core: NativeModel, details: ModelDetails) {
    this.#details = details;
    this.source = details.source;
    this.native = core;
    this.stateDict = details.stateDict;
    const matches = new Map(details.stateDict?.matches.map((match) => [match.tensor, match]));
    this.parameters = core.parameters.map((parameter, index) =>
      Object.freeze({
        ...parameter,
        outputAxis: details.axes[index]!,
        stateDictName: nameIn(matches.get(parameter.name)),
        stateDict: matches.get(parameter.name),
        values: () => core.values(index),
      }),
    );
    this.parameterCount = this.parameters.reduce((sum, { size }) => sum + size, 0);
    this.inputs = details.inputs;
    this.outputs = details.outputs;
    this.output = details.output;
    this.opset = details.opset;
    this.irVersion = details.irVersion;
    this.producer = details.producer;
    this.operators = details.operators;
    this.unsupported = core.unsupported;
    const kept = new Set(this.parameters.map(({ name }) => name));
    this.tensors = core.tensors.map((tensor) =>
      tensor.role === "parameter" && !kept.has(tensor.name)
        ? { ...tensor, role: "excluded", reason: "left out by the option params" }
        : tensor,
    );
    this.warnings = [
      ...core.warnings.filter((text) => !(details.stateDict && isSuperseded(text))),
      ...details.warnings,
    ];
    this.loss = details.loss;
    this.ties = details.ties;
    this.modes = details.modes;
    this.nodes = details.nodes;
  }

  /** The position of a parameter, -1 where there is none of that name. */
  parameterIndex(name: string): number {
    return this.parameters.findIndex((parameter) => parameter.name === name);
  }

  /**
   * The same network at another place: a model of the same graph, buffers and loss with other
   * numbers, such as a checkpoint's or those of a masked network. The two share what does not differ
   * and are disposed of one by one; `source` is still the file that the graph came from.
   *
   * ```ts
   * using pruned = model.withParameters(maskedParameters(model, mask));
   * await eigsh(hessian(pruned, data));
   * ```
   *
   * @param parameters all of them, in the order of `parameters`
   * @throws OptionError where there are more or fewer, or one is not finite
   */
  withParameters(parameters: Float64Array | Float32Array): Model {
    const numbers = /^Float(32|64)Array$/.test(typeName(parameters));
    if (!numbers || parameters.length !== this.parameterCount)
      throw new OptionError(
        `withParameters: expected a Float64Array of the ${this.parameterCount} parameters of ` +
          `${this.source}, got ${describe(parameters)}`,
      );
    const values = Float64Array.from(parameters);
    const bad = values.findIndex((x) => !Number.isFinite(x));
    if (bad >= 0)
      throw new OptionError(
        `withParameters: expected finite parameters, got ${values[bad]} at index ${bad}`,
      );
    const moved = new Set([...this.#details.moved, ...this.parameters.map(({ name }) => name)]);
    return new Model(native().withParameters(this.native, values), {
      ...this.#details,
      moved: [...moved],
    });
  }

  /** @internal The same network with these stored tensors as its parameters, in this order. */
  withTensors(names: readonly string[]): Model {
    const axes = names.map((name) => this.parameters[this.parameterIndex(name)]?.outputAxis ?? 0);
    const core = native().chooseTensors(this.native, [...names]);
    return new Model(core, { ...this.#details, axes });
  }

  /** @internal Tensors whose numbers may be others than those of the file. */
  get moved(): readonly string[] {
    return this.#details.moved;
  }

  /** @internal The network up to a value that one of its nodes makes. */
  withOutput(output: string): Model {
    return new Model(native().chooseOutput(this.native, output), { ...this.#details, output });
  }

  /**
   * @throws UnsupportedOperatorError that lists every node that is not supported
   */
  requireSupported(): void {
    if (this.unsupported.length === 0) return;
    const lines = this.unsupported.map(
      ({ op, node, reason }) => `\n  "${node}" (${op}): ${reason}`,
    );
    throw new UnsupportedOperatorError(
      `${this.source}: expected operators that eigenscope has rules for, got ` +
        `${lines.length} nodes without one:${lines.join("")}`,
      { operators: this.unsupported },
    );
  }

  /**
   * Releases the values of the parameters. What was made from the model keeps what it needs;
   * anything new from it throws an OptionError.
   */
  dispose(): void {
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const nameIn = (match: StateDictMatch | undefined) => match && certainName(match);

/** Every stored tensor that may be one of a state_dict, with its numbers. */
function fileTensors(core: NativeModel): FileTensor[] {
  const read = (from: NativeModel, parameter: boolean) =>
    from.parameters.map(({ name, shape }, i) => ({
      ...{ name, shape, parameter },
      values: from.values(i),
    }));
  const kept = new Set(core.parameters.map(({ name }) => name));
  const others = core.tensors
    .filter(({ name, role }) => !kept.has(name) && (role === "buffer" || role === "parameter"))
    .map(({ name }) => name);
  if (others.length === 0) return read(core, true);
  const rest = native().chooseTensors(core, others);
  try {
    return [...read(core, true), ...read(rest, false)];
  } finally {
    rest.dispose();
  }
}

function modelValue({ name, type, dims, dimNames }: ValueDescription): ModelValue {
  const shape = dims?.map((length, axis) => (length >= 0 ? length : dimNames[axis] || "?"));
  return { name, type, shape: shape ?? null };
}

/** The options by name; a misspelt one is an error. */
const OPTIONS: Record<keyof LoadModelOptions, true> = {
  loss: true,
  output: true,
  params: true,
  ties: true,
  folder: true,
  stateDict: true,
  batchNorm: true,
  dropout: true,
  bind: true,
};

function checkKeys(options: object, known: readonly string[], what: string): void {
  for (const key of Object.keys(options))
    if (!known.includes(key))
      throw new OptionError(`${what}: expected the options ${known.join(", ")}, got "${key}"`);
}

/** Across realms, where instanceof fails. */
function isBytes(value: unknown): value is Uint8Array {
  return (
    ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === "[object Uint8Array]"
  );
}

/**
 * Reads a network from an ONNX file. Loading does not fail for operators that are not supported:
 * `unsupported` lists them, and making an operator of the model throws.
 *
 * @param file a path, or the bytes of the file
 * @throws ModelFormatError when it is no ONNX file, is cut off, of an unknown version, or when
 * external data is missing
 * @throws OptionError for options that do not fit the model
 */
export async function loadModel(
  file: string | Uint8Array,
  options: LoadModelOptions = {},
): Promise<Model> {
  checkKeys(options, Object.keys(OPTIONS), "loadModel");
  checkKeys(options.params ?? {}, ["include", "exclude"], "params");
  const loss = options.loss === undefined ? undefined : checkLoss(options.loss);
  const fromPath = typeof file === "string";
  if (!fromPath && !isBytes(file))
    throw new OptionError(
      `loadModel: expected a path or a Uint8Array, got ${file === null ? "null" : typeof file}`,
    );
  const source = fromPath ? file : "model";
  const bytes = fromPath ? await readFileBytes(file) : file;
  const folder = options.folder ?? (fromPath ? dirname(file) : undefined);
  const modes = checkModes(options);
  const decoded = decodeModel(bytes, source, folder, await readBind(options.bind));

  const warnings = [...decoded.warnings];
  const output = chooseOutput(decoded, options.output, warnings);
  const ties = (options.ties ?? []).map(([first, second]) => [first, second] as const);
  const { include, exclude } = options.params ?? {};
  const included = typeof include === "string" ? [include] : include;
  const all = native().createModel(decoded.description, {
    output,
    promote: (included ?? []).filter((name) => typeof name === "string" && isPlainName(name)),
    ties: ties.map(([first, second]) => [first, second]),
    ...modes,
  });
  let core = all;
  try {
    const names = all.parameters.map(({ name }) => name);
    let stateDict: StateDictReport | undefined;
    if (options.stateDict !== undefined) {
      const state = await readStateDict(options.stateDict);
      const { nodes } = decoded.description;
      stateDict = mapStateDict(options.stateDict, state, fileTensors(all), nodes);
      warnings.push(...stateDictWarnings(stateDict));
    }
    if (included || exclude) {
      const byFile = new Map(stateDict?.matches.map((match) => [match.tensor, nameIn(match)]));
      // A tensor goes by its name in the file and by that in the state_dict.
      const both = [...names, ...names.map((name) => byFile.get(name) ?? name)];
      const matching = (globs: Globs, what: string) => {
        const matched = matchGlobs(both, globs, what);
        return names.map((_, i) => matched[i] || matched[i + names.length]);
      };
      const wanted = included ? matching(included, "params.include") : names.map(() => true);
      const unwanted = exclude ? matching(exclude, "params.exclude") : [];
      const positions = [...names.keys()].filter((i) => wanted[i] && !unwanted[i]);
      if (positions.length === 0)
        throw new OptionError("params: expected at least one parameter, and none is left");
      core = native().selectParameters(all, positions);
      all.dispose();
    } else if (names.length === 0) {
      warnings.push(
        "no parameter was found: the model stores no floating-point tensor that its output " +
          "depends on; name tensors in params.include",
      );
    }
    const { description, irVersion, producer, operators } = decoded;
    const axisOf = outputAxes(description);
    return new Model(core, {
      ...{ source, output, opset: description.opset, irVersion, producer, operators },
      ...{ loss, ties, warnings, stateDict, moved: [] },
      modes: { ...modes, bound: decoded.bound },
      inputs: description.inputs.map(modelValue),
      outputs: description.outputs.map(modelValue),
      nodes: description.nodes.map(({ op, name, inputs, outputs }) => ({
        ...{ op, name, inputs, outputs },
      })),
      axes: core.parameters.map(({ name, shape }) => axisOf(name, shape.length)),
    });
  } catch (error) {
    all.dispose();
    core.dispose();
    throw error;
  }
}

function chooseOutput(
  { description }: DecodedModel,
  wanted: string | undefined,
  warnings: string[],
): string {
  if (wanted !== undefined) return wanted;
  const { outputs } = description;
  const floats = outputs.filter(({ type }) => /float/.test(type));
  const first = (floats[0] ?? outputs[0]!).name;
  if (outputs.length > 1)
    warnings.push(
      `the model has the outputs ${outputs.map(({ name }) => name).join(", ")}, and ${first} is ` +
        "used; choose another with the option output",
    );
  return first;
}
