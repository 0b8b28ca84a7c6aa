/** Which tensors of PyTorch's state_dict a model's file holds, found by their numbers. */
import { open } from "node:fs/promises";
import { extname } from "node:path";
import { withArrays } from "../data/read-arrays";
import { DataMismatchError, OptionError } from "../errors";
import type { Model } from "./model";
import {
  type BatchNorm,
  batchNorms,
  channelFactors,
  type Form,
  findRows,
  formsBySize,
  matches,
  type StateTensor,
  sameShape,
  sameValues,
  scalesBy,
  shiftsTo,
  sizeOf,
  transpose,
  varies,
} from "./state-dict-forms";

/**
 * How a tensor of the file comes from the state_dict.
 *
 * - `name`: name, shape and numbers are the same
 * - `value`, `transposed`, `reshaped`: the same numbers under another name, in that form
 * - `packed`: gates of recurrent layers in ONNX's order, directions and biases together
 * - `rows`: some rows of a larger tensor
 * - `fused`: a batch norm was multiplied into it
 * - `copy`: the numbers of a tensor that the file holds already: a broken tie
 * - `stale`: the name is in both, the numbers differ and no fusion explains it
 * - `ambiguous`: several tensors of the state_dict have these numbers, and nothing tells them apart
 * - `unknown`: nothing in the state_dict makes it
 */
export type StateDictRule =
  | "name"
  | Form["rule"]
  | "rows"
  | "fused"
  | "copy"
  | "stale"
  | "ambiguous"
  | "unknown";

/** A tensor of the file, and what it is in the state_dict. */
export interface StateDictMatch {
  /** Its name in the file. */
  readonly tensor: string;
  readonly rule: StateDictRule;
  /** Those that it is made of; of an ambiguous one, those that it may be. */
  readonly names: readonly string[];
  /** What is not to be seen from the rule, such as which rows; "" where there is nothing. */
  readonly note: string;
}

/** What `loadModel` with the option `stateDict` found. */
export interface StateDictReport {
  readonly source: string;
  /** What the state_dict holds, counters of batches left out. */
  readonly tensors: readonly Pick<StateTensor, "name" | "shape" | "tiedTo">[];
  /** Parameters in the model's order, then other stored tensors that the state_dict has. */
  readonly matches: readonly StateDictMatch[];
  /** Tensors of the state_dict without one in the file, whose numbers another's has. */
  readonly merged: readonly { readonly name: string; readonly like: string }[];
  /** Tensors that PyTorch shares, or may share as they are equal, and the file stores apart. */
  readonly untied: readonly {
    readonly tensors: readonly string[];
    readonly names: readonly string[];
    /** Whether the state_dict says that they are shared. */
    readonly certain: boolean;
  }[];
  /** Tensors of the state_dict that nothing in the file stands for. */
  readonly absent: readonly string[];
}

/** A tensor of the file with its numbers. */
export interface FileTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float64Array;
  readonly parameter: boolean;
}

/** A node, as far as the mapping looks at it. */
export interface FileNode {
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly string[];
}

/** The rules by which a tensor has exactly the numbers of `names`. */
const WHOLE: readonly StateDictRule[] = ["name", "value", "transposed", "reshaped", "packed"];

/** The one name of the state_dict that a tensor has for certain. */
export function certainName({ rule, names }: StateDictMatch): string | undefined {
  return WHOLE.includes(rule) && names.length === 1 ? names[0] : undefined;
}

/** Names of tensors that safetensors' `save_model` left out, each with the one it shares. */
async function sharedNames(path: string): Promise<Record<string, string>> {
  if (extname(path) !== ".safetensors") return {};
  const file = await open(path, "r");
  try {
    const length = Buffer.alloc(8);
    await file.read(length, 0, 8, 0);
    const text = Buffer.alloc(Number(length.readBigUInt64LE()));
    await file.read(text, 0, text.length, 8);
    return JSON.parse(text.toString()).__metadata__ ?? {};
  } finally {
    await file.close();
  }
}

/**
 * Reads a state_dict: .safetensors or .npz. Takes 8 bytes a number while the model is loaded.
 *
 * @throws OptionError, DataMismatchError
 */
export async function readStateDict(path: string): Promise<Map<string, StateTensor>> {
  if (typeof path !== "string" || ![".safetensors", ".npz"].includes(extname(path)))
    throw new OptionError(
      `stateDict: expected a file that ends in .safetensors or .npz, got ${path}; a state_dict of ` +
        "PyTorch is written by safetensors.torch.save_model(model, file)",
    );
  const tensors = new Map<string, StateTensor>();
  await withArrays(path, {}, async (arrays) => {
    for (const { name, shape, values } of arrays)
      if (!/(^|\.)num_batches_tracked$/.test(name))
        tensors.set(name, { name, shape, values: await values() });
  });
  if (tensors.size === 0)
    throw new DataMismatchError(`${path}: expected the tensors of a state_dict, got none`);
  for (const [name, tiedTo] of Object.entries(await sharedNames(path))) {
    const kept = tensors.get(tiedTo);
    if (kept && !tensors.has(name)) tensors.set(name, { ...kept, name, tiedTo });
  }
  return tensors;
}

/** The module of a node or tensor: "/blocks/blocks.0/fc1/MatMul" is of "blocks.0.fc1". */
function moduleOfNode(name: string): string {
  const parts = name.split("/").slice(0, -1).filter(Boolean);
  // A module in a list is written with its list, "blocks.0" after "blocks".
  return parts.filter((part, i) => !parts[i + 1]?.startsWith(`${part}.`)).join(".");
}
const moduleOfTensor = (name: string) => name.slice(0, Math.max(0, name.lastIndexOf(".")));

const shiftFirst = (names: readonly string[]) =>
  [...names].sort((a, b) => Number(b.endsWith("bias")) - Number(a.endsWith("bias")));

class Mapper {
  readonly #matches = new Map<string, StateDictMatch>();
  /** Names of the state_dict that a tensor of the file holds, with that tensor. */
  readonly #held = new Map<string, string>();
  /** Those that went into a fused or partial tensor. */
  readonly #used = new Set<string>();
  readonly #state: ReadonlyMap<string, StateTensor>;
  readonly #tensors: readonly FileTensor[];
  readonly #nodes: readonly FileNode[];

  constructor(
    state: ReadonlyMap<string, StateTensor>,
    tensors: readonly FileTensor[],
    nodes: readonly FileNode[],
  ) {
    this.#state = state;
    this.#tensors = tensors;
    this.#nodes = nodes;
  }

  run(source: string): StateDictReport {
    this.#byName();
    this.#byFusion();
    this.#byValue();
    this.#byRows();
    for (const { name, values, shape, parameter } of this.#left()) {
      const state = this.#state.get(name);
      if (state) this.#set(name, "stale", [name], difference(values, shape, state));
      else if (parameter) this.#set(name, "unknown", []);
    }
    const order = new Map(this.#tensors.map(({ name }, i) => [name, i]));
    const matches = [...this.#matches.values()].sort(
      (a, b) => order.get(a.tensor)! - order.get(b.tensor)!,
    );
    const tensors = [...this.#state.values()].map(({ name, shape, tiedTo }) =>
      tiedTo === undefined ? { name, shape } : { name, shape, tiedTo },
    );
    return { source, tensors, matches, untied: this.#untied(), ...this.#withoutTensor() };
  }

  #set(tensor: string, rule: StateDictRule, names: readonly string[], note = ""): void {
    this.#matches.set(tensor, { tensor, rule, names, note });
    if (WHOLE.includes(rule)) for (const name of names) this.#held.set(name, tensor);
    for (const name of names) this.#used.add(name);
  }

  /** One name for tensors that the state_dict says are shared. */
  #root(name: string): string {
    return this.#state.get(name)?.tiedTo ?? name;
  }

  #left(): FileTensor[] {
    return this.#tensors.filter(({ name }) => !this.#matches.has(name));
  }

  #byName(): void {
    for (const { name, shape, values } of this.#tensors) {
      const state = this.#state.get(name);
      if (state && sameShape(shape, state.shape) && sameValues(values, state.values))
        this.#set(name, "name", [name]);
    }
  }

  #byValue(): void {
    const forms = formsBySize(this.#state);
    const candidates = new Map<FileTensor, Form[]>();
    for (const tensor of this.#left()) {
      if (!tensor.parameter && !this.#state.has(tensor.name)) continue;
      const { name, shape, values } = tensor;
      const equal = (forms.get(values.length) ?? []).filter((form) => {
        const parts = form.names.map((each) => this.#state.get(each)!.values);
        return matches(form, values, parts);
      });
      // Transposed and as it is look the same where all numbers are equal.
      const fitting = equal.filter((form) => sameShape(form.shape, shape));
      const named = equal.filter((form) => form.names.includes(name));
      const chosen = [named, fitting, equal].find((list) => list.length > 0) ?? [];
      const once = new Map(chosen.map((form) => [form.names.join(), form]));
      if (once.size > 0) candidates.set(tensor, [...once.values()]);
    }
    const settle = (tensor: FileTensor, form: Form) => {
      const whole = form.rule !== "value" || sameShape(form.shape, tensor.shape);
      this.#set(tensor.name, whole ? form.rule : "reshaped", form.names);
      candidates.delete(tensor);
    };
    // First what numbers or the graph decide; then what is left over by that.
    for (let more = true; more; ) {
      more = false;
      for (const [tensor, all] of [...candidates]) {
        const free = all.filter(({ names }) => !names.some((name) => this.#held.has(name)));
        const named = free.filter((form) => this.#agrees(tensor.name, form));
        const roots = new Set(free.map((form) => this.#root(form.names[0]!)));
        const only = named.length === 1 ? named[0] : roots.size === 1 ? free[0] : undefined;
        if (!only) continue;
        settle(tensor, only);
        more = true;
      }
    }
    for (const [tensor, all] of [...candidates]) {
      const free = all.filter(({ names }) => !names.some((name) => this.#held.has(name)));
      const names = [...new Set((free.length > 0 ? free : all).flatMap((form) => form.names))];
      const rivals = [...candidates.values()].filter((others) =>
        others.some((form) => form.names.some((name) => names.includes(name))),
      );
      if (free.length === 0 && varies(tensor.values)) {
        const form = all[0]!;
        const how = form.rule === "value" ? "" : ` ${form.rule}`;
        this.#set(tensor.name, "copy", names, `of ${this.#held.get(names[0]!)}${how}`);
      } else if (free.length > 0 && rivals.length === 1) {
        // The one tensor for all of them: the others are merged with the first.
        settle(tensor, free[0]!);
      } else if (tensor.parameter) {
        this.#set(tensor.name, "ambiguous", names, "equal numbers");
      }
    }
  }

  /** Whether the nodes that take a tensor belong to the module that a form is of. */
  #agrees(tensor: string, form: Form): boolean {
    const module = moduleOfTensor(form.names[0]!);
    return this.#nodes.some(
      (node) => node.inputs.includes(tensor) && moduleOfNode(node.name) === module,
    );
  }

  #byRows(): void {
    for (const { name, shape, values, parameter } of this.#left()) {
      if (!parameter) continue;
      const found = findRows(shape, values, this.#state.values());
      if (found.length !== 1) continue;
      const { name: of, first, count, transposed } = found[0]!;
      const rows = `rows ${first} to ${first + count - 1} of ${this.#state.get(of)!.shape[0]}`;
      this.#set(name, "rows", [of], `${rows}${transposed ? ", transposed" : ""}`);
    }
  }

  #byFusion(): void {
    const norms = batchNorms(this.#state);
    if (norms.length === 0) return;
    const left = new Map(this.#left().map((tensor) => [tensor.name, tensor]));
    for (const { op, inputs } of this.#nodes) {
      const weight = left.get(inputs[1] ?? "");
      if (!["Conv", "ConvTranspose", "Gemm", "MatMul"].includes(op) || !weight) continue;
      if (this.#matches.has(weight.name)) continue;
      const bias = left.get(inputs[2] ?? "");
      const found = this.#fusions(weight, bias, op, norms);
      if (found.length === 0) continue;
      const { state, norm } = found[0]!;
      const first = moduleOfTensor(state.name);
      const before = this.#state.has(`${first}.bias`) ? [`${first}.bias`] : [];
      const which = [...new Set(found.map((each) => each.norm.prefix))];
      const known = which.length === 1;
      const what = known
        ? `the batch norm ${norm.prefix}`
        : `one of ${which.length} equal batch norms`;
      // A shift of zeros is optimised away.
      const note = `with ${what}${inputs[2] ? "" : ", its shift left out"}`;
      for (const each of found) for (const name of each.norm.names) this.#used.add(name);
      this.#set(weight.name, "fused", [state.name, ...(known ? norm.names : [])], note);
      if (bias)
        this.#set(bias.name, "fused", [...before, ...(known ? shiftFirst(norm.names) : [])], note);
    }
  }

  #fusions(
    weight: FileTensor,
    bias: FileTensor | undefined,
    op: string,
    norms: readonly BatchNorm[],
  ): { state: StateTensor; norm: BatchNorm }[] {
    const found: { state: StateTensor; norm: BatchNorm }[] = [];
    const { shape } = weight;
    const axes = op === "Conv" ? [0] : op === "ConvTranspose" ? [1] : [0, 1];
    for (const state of this.#state.values()) {
      const turned = shape.length === 2 && sameShape(state.shape, [shape[1]!, shape[0]!]);
      const numbers = sameShape(state.shape, shape)
        ? state.values
        : turned
          ? transpose(state.values, state.shape[0]!, state.shape[1]!)
          : undefined;
      if (!numbers) continue;
      for (const axis of axes) {
        const factors = channelFactors(weight.values, numbers, shape, axis);
        if (!factors || factors.every((factor) => factor === 1)) continue;
        const before = this.#state.get(`${moduleOfTensor(state.name)}.bias`)?.values;
        for (const norm of norms) {
          const epsilon = scalesBy(norm, factors);
          if (epsilon === undefined) continue;
          if (!bias || shiftsTo(norm, epsilon, before, bias.values)) found.push({ state, norm });
        }
      }
    }
    // A tensor of the same name, where several weights are equal.
    const named = found.filter(({ state }) => state.name === weight.name);
    return named.length > 0 ? named : found;
  }

  #untied(): StateDictReport["untied"] {
    const groups = new Map<string, { tensors: string[]; names: string[]; certain: boolean }>();
    const groupOf = (key: string) => {
      const group = groups.get(key) ?? { tensors: [], names: [], certain: false };
      groups.set(key, group);
      return group;
    };
    for (const [i, name] of [...this.#state.keys()].entries()) {
      const state = this.#state.get(name)!;
      const other = state.tiedTo
        ? this.#state.get(state.tiedTo)
        : [...this.#state.values()].slice(0, i).find((each) => this.#equal(each, state));
      const held = this.#held.get(name);
      const first = other && this.#held.get(other.name);
      if (!held || !first || held === first) continue;
      const group = groupOf(other.name);
      if (group.tensors.length === 0) {
        group.tensors.push(first);
        group.names.push(other.name);
      }
      group.tensors.push(held);
      group.names.push(name);
      group.certain ||= state.tiedTo !== undefined;
    }
    for (const { tensor, rule, names } of this.#matches.values()) {
      if (rule !== "copy") continue;
      const group = groupOf(names[0]!);
      if (group.tensors.length === 0) {
        group.tensors.push(this.#held.get(names[0]!)!);
        group.names.push(...names);
      }
      group.tensors.push(tensor);
      group.certain = true;
    }
    return [...groups.values()];
  }

  #equal(a: StateTensor, b: StateTensor): boolean {
    return sameShape(a.shape, b.shape) && sameValues(a.values, b.values) && varies(a.values);
  }

  #withoutTensor(): Pick<StateDictReport, "merged" | "absent"> {
    const merged: { name: string; like: string }[] = [];
    const absent: string[] = [];
    const used = new Set([...this.#used].map((name) => this.#root(name)));
    for (const state of this.#state.values()) {
      if (used.has(this.#root(state.name))) continue;
      const like = [...this.#held.keys()].find((name) => {
        const other = this.#state.get(name)!;
        return sameShape(other.shape, state.shape) && sameValues(other.values, state.values);
      });
      if (like === undefined) absent.push(state.name);
      else merged.push({ name: state.name, like });
    }
    return { merged, absent };
  }
}

function difference(
  values: Float64Array,
  shape: readonly number[],
  { shape: expected, values: wanted }: StateTensor,
): string {
  if (!sameShape(shape, expected))
    return `shape (${shape.join(", ")}), not (${expected.join(", ")})`;
  let error = 0;
  let scale = 0;
  wanted.forEach((x, i) => {
    error = Math.max(error, Math.abs(values[i]! - x));
    scale = Math.max(scale, Math.abs(x));
  });
  return `differs by ${(error / scale).toPrecision(2)} of the largest number`;
}

/** Maps stored tensors to those of a state_dict. */
export function mapStateDict(
  source: string,
  state: ReadonlyMap<string, StateTensor>,
  tensors: readonly FileTensor[],
  nodes: readonly FileNode[],
): StateDictReport {
  return new Mapper(state, tensors, nodes).run(source);
}

function few(names: readonly string[], most = 5): string {
  const more = names.length - most;
  return names.slice(0, most).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

/** What the core warns of without a state_dict; with one it is known tensor by tensor. */
const SUPERSEDED = [
  "the exporter folded or fused weights into",
  "parameters are transposes of each other",
];

/** @internal */
export const isSuperseded = (warning: string) =>
  SUPERSEDED.some((start) => warning.startsWith(start));

/** What spectra of the file's parameters and of the PyTorch model differ in. */
export function stateDictWarnings(report: StateDictReport): string[] {
  const of = (rule: StateDictRule) => report.matches.filter((match) => match.rule === rule);
  const texts = {
    fused: of("fused").map(({ tensor, note }) => `${tensor} ${note}`),
    stale: of("stale").map(({ tensor, note }) => `${tensor} ${note}`),
    rows: of("rows").map(({ tensor, names, note }) => `${tensor} = ${note} ${names[0]}`),
    ambiguous: of("ambiguous").map(({ tensor, names }) => `${tensor} is ${few(names, 3)}`),
    unknown: of("unknown").map(({ tensor }) => tensor),
    untied: report.untied.filter(({ certain }) => certain).map(untiedText),
    equal: report.untied.filter(({ certain }) => !certain).map(untiedText),
    merged: report.merged.map(({ name, like }) => `${name} = ${like}`),
    absent: report.absent,
  };
  const rows: [keyof typeof texts, string, string][] = [
    [
      "fused",
      "batch norm was fused into",
      "; the network has a weight, a scale and a shift there, so its spectrum is another than that " +
        "of the file's parameters",
    ],
    [
      "stale",
      "tensors have the name of one of the state_dict and other numbers:",
      "; the file and the state_dict are of different moments, or the exporter changed the numbers",
    ],
    [
      "rows",
      "the file holds only some rows:",
      "; the rest has derivative 0 and is no part of the spectrum",
    ],
    ["ambiguous", "not told apart, as numbers are equal:", ""],
    ["unknown", "nothing in the state_dict makes", ""],
    [
      "untied",
      "the network shares tensors that the file stores apart:",
      "; they count as separate parameters, so its spectrum is another; name those of one shape in " +
        "`ties`, or export without constant folding",
    ],
    [
      "equal",
      "tensors hold equal numbers and count as separate ones:",
      "; if the network shares them its spectrum is another: name them in `ties`",
    ],
    [
      "merged",
      "the file has no tensor for",
      ", as numbers are equal: right if the network shares them; if not, the spectrum counts one " +
        "tensor where the network has several",
    ],
    [
      "absent",
      "nothing in the file stands for",
      ": folded into constants, not needed by the output, or a buffer",
    ],
  ];
  return rows
    .filter(([key]) => texts[key].length > 0)
    .map(([key, before, after]) => `state_dict: ${before} ${few(texts[key])}${after}`);
}

const untiedText = ({ tensors, names }: StateDictReport["untied"][number]) =>
  names.length > 1 && names.join() !== tensors.join()
    ? `${tensors.join(" and ")} (${names.join(", ")})`
    : tensors.join(" and ");

/** The stored numbers of a tensor of the file, of those under names of the state_dict. */
function assembleTensor(
  match: StateDictMatch,
  { tensors }: StateDictReport,
  shape: readonly number[],
  read: (name: string) => Float64Array,
): Float64Array {
  if (match.rule !== "packed" && match.rule !== "transposed") return read(match.names[0]!);
  const values = new Float64Array(0);
  const shapes = new Map(tensors.map((tensor) => [tensor.name, { ...tensor, values }]));
  const form = formsBySize(shapes)
    .get(sizeOf(shape))!
    .find(({ rule, names }) => rule === match.rule && names.join() === match.names.join());
  return form!.assemble(match.names.map(read));
}

/**
 * The parameter vector of numbers that are given under the names of PyTorch's state_dict, in its
 * shapes: other weights of the network, or a gradient or vector of PyTorch's. It is a permutation of
 * them, so spectra are the same.
 *
 * ```ts
 * const model = await loadModel("model.onnx", { stateDict: "model.safetensors" });
 * const v = fromStateDict(model, { "fc.weight": weight, "fc.bias": bias });
 * ```
 *
 * @param tensors row-major numbers by name
 * @returns all parameters in the model's order
 * @throws OptionError where the model was loaded without the option `stateDict`, where parameters are
 * no whole tensors of it (fused, stale, ambiguous), or where one is missing or of another length
 */
export function fromStateDict(
  model: Pick<Model, "source" | "parameters" | "parameterCount" | "stateDict">,
  tensors: Readonly<Record<string, ArrayLike<number>>>,
): Float64Array {
  const report = model.stateDict;
  if (!report)
    throw new OptionError(
      `fromStateDict: expected a model of loadModel(file, { stateDict }), got ${model.source} ` +
        "without one",
    );
  const sizes = new Map(report.tensors.map(({ name, shape }) => [name, sizeOf(shape)]));
  const roots = new Map(report.tensors.map(({ name, tiedTo }) => [name, tiedTo ?? name]));
  const read = (name: string): Float64Array => {
    // Of shared tensors one name is enough.
    const names = [name, ...[...roots.keys()].filter((n) => roots.get(n) === roots.get(name))];
    const numbers = tensors[names.find((each) => Object.hasOwn(tensors, each)) ?? ""];
    if (numbers?.length !== sizes.get(name))
      throw new OptionError(
        `fromStateDict: ${name}: expected its ${sizes.get(name)} numbers, got ` +
          (numbers === undefined ? "none" : `${numbers.length}`),
      );
    return Float64Array.from(numbers!);
  };
  const unclear = model.parameters.filter(
    ({ stateDict }) => !stateDict || !WHOLE.includes(stateDict.rule),
  );
  if (unclear.length > 0)
    throw new OptionError(
      `fromStateDict: expected parameters that are tensors of ${report.source}, got ` +
        few(unclear.map(({ name, stateDict }) => `${name} (${stateDict?.rule ?? "unknown"})`)),
    );
  const vector = new Float64Array(model.parameterCount);
  for (const { shape, offset, stateDict } of model.parameters)
    vector.set(assembleTensor(stateDict!, report, shape, read), offset);
  return vector;
}
