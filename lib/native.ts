/**
 * The C++ core as TypeScript sees it. This is the only file that loads the addon; each part of the
 * library that needs the core extends the interface below by its own section.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { EigenscopeError, type ErrorKind, errorClasses } from "./errors";

// ---- models ---------------------------------------------------------------------------------

/** Element types as the core names them; ONNX's others are refused or widened by the decoder. */
export type ElementType =
  | "bool"
  | "uint8"
  | "int8"
  | "int16"
  | "uint16"
  | "int32"
  | "int64"
  | "float16"
  | "bfloat16"
  | "float32"
  | "float64";

/** Bytes of a file: the core maps them. */
export interface FileRange {
  path: string;
  offset: number;
  length: number;
}

/** A tensor of a model: row-major, little-endian. */
export interface TensorDescription {
  type: ElementType;
  dims: number[];
  /** Copied by the core, or mapped where it lies in a file of its own. */
  data: Uint8Array | FileRange;
}

/** One attribute of a node; the fields of other types are absent. */
export interface AttributeDescription {
  /** INT and INTS. */
  ints?: BigInt64Array;
  /** FLOAT and FLOATS. */
  floats?: Float64Array;
  /** STRING and STRINGS. */
  strings?: string[];
  /** TENSOR. */
  tensor?: TensorDescription;
}

export interface NodeDescription {
  op: string;
  /** "" for ONNX's own operators. */
  domain: string;
  name: string;
  /** "" where an optional input is absent. */
  inputs: string[];
  outputs: string[];
  attributes: Record<string, AttributeDescription>;
}

export interface ValueDescription {
  name: string;
  type: ElementType;
  /** -1 where a length is free; null where even their number is unknown. */
  dims: number[] | null;
  /** The name of a free length, or "". */
  dimNames: string[];
}

/** A decoded graph: functions inlined, names unique, nodes in topological order. */
export interface ModelDescription {
  /** The file, for messages. */
  source: string;
  opset: number;
  nodes: NodeDescription[];
  initializers: { name: string; tensor: TensorDescription }[];
  /** What the exporter said of an initializer: "PARAMETER", "BUFFER", "CONSTANT_TENSOR". */
  kinds: Record<string, string>;
  /** Without those that are initializers. */
  inputs: ValueDescription[];
  outputs: ValueDescription[];
}

/** What a float tensor is to the analysis. */
export type TensorRole = "parameter" | "buffer" | "constant" | "unused";

export interface NativeTensor {
  name: string;
  shape: number[];
  role: TensorRole;
  /** Why it is no parameter; "" for parameters. */
  reason: string;
}

export interface NativeParameter {
  name: string;
  shape: number[];
  /** Where it begins in the flat parameter vector, and how many numbers it has. */
  offset: number;
  size: number;
}

/** A model that the core holds. */
export interface NativeModel {
  /** Differentiated tensors, in the order of the flat vector. */
  readonly parameters: NativeParameter[];
  /** Every float tensor of the file with its role. */
  readonly tensors: NativeTensor[];
  /** Nodes without a lowering that the chosen output needs. */
  readonly unsupported: { op: string; node: string; reason: string }[];
  readonly warnings: string[];
  /** Memory that V8 does not see. */
  readonly heldBytes: number;
  /** A parameter's values as float64. */
  values(index: number): Float64Array;
  /** Releases the tensors; operators made from the model keep what they need. */
  dispose(): void;
}

export interface NativeModelOptions {
  /** The output that counts. */
  output: string;
  /** Names that are made parameters whatever the heuristics say. */
  promote: string[];
  /** Each pair is one parameter: the second name stands for the first. */
  ties: [string, string][];
}

interface NativeModels {
  createModel(description: ModelDescription, options: NativeModelOptions): NativeModel;
  /**
   * The same model with only these parameters, by position; the rest are constants. It holds the
   * same tensors: dispose of the first.
   */
  selectParameters(model: NativeModel, positions: number[]): NativeModel;
}

// ---- the addon ------------------------------------------------------------------------------

/** Everything that the addon exports. */
export interface Native extends NativeModels {
  setErrorClasses(classes: Record<ErrorKind, new (message: string) => EigenscopeError>): void;
}

/** The folder of package.json, from lib/ as from dist/. */
export function packageRoot(): string {
  for (let folder = __dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) return folder;
    if (folder === dirname(folder)) return __dirname;
  }
}

function glibcVersion(): string {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } };
  return report?.header?.glibcVersionRuntime ?? "none";
}

function notFound(root: string, cause: unknown): EigenscopeError {
  const machine = `${process.platform} ${process.arch}, glibc ${glibcVersion()}, Node ${process.version}`;
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  // A checkout has the sources; the published package has not.
  const build = existsSync(join(root, "CMakeLists.txt"))
    ? `Build it in ${root}: apt-get install -y --no-install-recommends g++ cmake ninja-build libopenblas-dev, then npm ci && npm run build:native.`
    : "The package carries it for Linux on x86-64 with glibc 2.35 or newer. Elsewhere, get the " +
      `source of eigenscope ${version}, and there: apt-get install -y --no-install-recommends ` +
      "g++ cmake ninja-build libopenblas-dev, then npm ci && npm run build.";
  const reason = cause instanceof Error ? cause.message.split("\n", 1)[0] : String(cause);
  return new EigenscopeError(
    "Internal",
    `The compiled core of eigenscope was not found or did not load on this machine (${machine}). ` +
      `${build} (${reason})`,
    { cause },
  );
}

let loaded: Native | undefined;

/**
 * The addon, loaded on first use.
 *
 * @throws EigenscopeError with the commands that build it, where there is none for this machine.
 */
export function native(): Native {
  if (loaded) return loaded;
  const root = packageRoot();
  let addon: Native;
  try {
    addon = require("node-gyp-build")(root) as Native;
  } catch (cause) {
    throw notFound(root, cause);
  }
  addon.setErrorClasses(errorClasses());
  loaded = addon;
  return addon;
}
