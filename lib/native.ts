/**
 * The C++ core as TypeScript sees it. This is the only file that loads the addon; each part of the
 * library that needs the core extends the interface below by its own section.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { isMainThread } from "node:worker_threads";
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
  /** In a branch of an If: runs where each condition has this value. */
  guards?: { condition: string; when: boolean }[];
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
  /**
   * What the exporter said of an initializer: "PARAMETER", "BUFFER", "CONSTANT_TENSOR"; "BOUND" for
   * an input that was given a constant.
   */
  kinds: Record<string, string>;
  /** Inputs of free lengths that hold one number everywhere. */
  fills?: (ValueDescription & { number: number })[];
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
  /** Statistics of normalisations: as each node says; those stored; those of each batch. */
  batchNorm?: "running" | "batch" | undefined;
  /** Samples of a batch, where stated. */
  statisticsBatch?: number | undefined;
  /** Of the masks of Dropout, which is the identity without it. */
  dropoutSeed?: number | bigint | undefined;
}

/** An operator that has a lowering, in a range of opsets. */
export interface NativeOperatorRow {
  op: string;
  since: number;
  until: number;
  /**
   * "smooth"; "piecewise": smooth but for kinks; "zero": 0 wherever there is one; "fold": evaluated
   * while the model is read, on constants only.
   */
  derivative: "smooth" | "piecewise" | "zero" | "fold";
  /** What of ONNX's definition is not taken; "" where all of it is. */
  limits: string;
}

/** A primitive of the core (native/ir/graph.h) with its attributes. */
export interface PrimitiveNode {
  op: string;
  type: "real" | "int" | "bool";
  shape: number[];
  /** Positions of its operands among the nodes, all before its own. */
  in: number[];
  ints: number[];
  labels: string;
  number: number;
  window?: {
    kernel: number[];
    stride: number[];
    dilation: number[];
    pad: number[];
    groups: number;
  };
  /** Of a constant: one number for all elements, or all of them. */
  values?: Float64Array;
}

/** A network as primitives, in topological order; normalisations are not folded into weights. */
export interface PrimitiveGraph {
  nodes: PrimitiveNode[];
  /** Names behind the number of a Param: the parameters in their order, then stored buffers. */
  leaves: string[];
  /** The numbers of the stored buffers, in their order. */
  buffers: Float64Array[];
  /** The position of the chosen output. */
  output: number;
  /** Where the output is an activation of logits: "Softmax", "LogSoftmax", "Sigmoid". */
  activation: string;
  activationAxis: number;
  /** -1 where there is no such activation. */
  logits: number;
}

interface NativeModels {
  /** By name, then by opset. */
  operatorTable(): NativeOperatorRow[];
  createModel(description: ModelDescription, options: NativeModelOptions): NativeModel;
  /**
   * The same model with only these parameters, by position; the rest are constants. It holds the
   * same tensors: dispose of the first.
   */
  selectParameters(model: NativeModel, positions: number[]): NativeModel;
  /** The same graph with other numbers, one for each of the flat vector; both are used on. */
  withParameters(model: NativeModel, values: Float64Array): NativeModel;
  /** The same graph with these stored tensors as parameters, in this order, whatever their roles. */
  chooseTensors(model: NativeModel, names: string[]): NativeModel;
  /** The network up to a value that one of its nodes makes. */
  chooseOutput(model: NativeModel, name: string): NativeModel;
  /** The nodes that the output needs, in topological order; operators by domain and name. */
  describeNodes(model: NativeModel): { op: string; inputs: string[]; outputs: string[] }[];
  /** For inputs of these shapes, by name. */
  lowerModel(model: NativeModel, shapes: Record<string, number[]>): PrimitiveGraph;
}

// ---- calls ----------------------------------------------------------------------------------

/** How far a long call is. Unknown: -1. */
export interface NativeProgress {
  /** Products of the operator with one vector so far. */
  products: number;
  /** Worst residual of the wanted pairs over the largest Ritz value. */
  residual: number;
  /** Done share of the call, from 0 to 1. */
  fraction: number;
}

/** A call under way on a thread of its own. */
export interface NativeCall<T> {
  promise: Promise<T>;
  /** Tells the thread to stop at its next boundary; the promise then rejects. */
  cancel(): void;
}

type OnProgress = ((progress: NativeProgress) => void) | undefined;

// ---- data -----------------------------------------------------------------------------------

/** An array at hand: row-major, in the machine's byte order. Copied by the core. */
export interface NativeArray {
  name: string;
  type: ElementType;
  shape: number[];
  data: ArrayBufferView;
}

export interface NativeDataOptions {
  /** What the target array is called; "y". */
  target?: string;
  /** The arrays to keep. */
  select?: string[];
  /** Keep samples [first, last) only; a negative last means all. */
  first?: number;
  last?: number;
  /** By array name; "" stands for every array but the target. */
  normalize?: { name: string; scale?: number; mean?: number[]; std?: number[] }[];
  /** CSV only: see ReadOptions in native/data/readers.h. */
  targetColumns?: string[];
  header?: boolean;
  whole?: boolean;
}

/** Arrays that the core holds. */
export interface NativeData {
  readonly arrays: { name: string; type: ElementType; shape: number[]; source: string }[];
  /** The number of rows that all arrays have; throws a DataMismatchError where they differ. */
  readonly samples: number;
  readonly description: string;
  /** All numbers of an array, row-major, into an array of as many. */
  read(name: string, values: Vectors): NativeCall<void>;
  /** Releases the arrays; operators made from them keep what they need. */
  dispose(): void;
}

interface NativeDataSets {
  openData(
    files: { name: string; path: string }[],
    arrays: NativeArray[],
    options: NativeDataOptions,
  ): NativeCall<NativeData>;
}

// ---- small dense problems -------------------------------------------------------------------

/** Row-major matrices; vectors are rows, values are largest first. */
export interface NativeDense {
  symmetric: [
    { matrix: Float64Array; rows: number; columns: number; vectors: boolean },
    { values: Float64Array; vectors: Float64Array },
  ];
  /** left and right with `vectors` only. */
  singular: [
    { matrix: Float64Array; rows: number; columns: number; vectors: boolean },
    { values: Float64Array; left: Float64Array; right: Float64Array },
  ];
  /** matrix * other, or matrix * other^T. */
  product: [
    {
      matrix: Float64Array;
      rows: number;
      columns: number;
      other: Float64Array;
      otherColumns: number;
      transposed: boolean;
    },
    { values: Float64Array },
  ];
}

interface NativeDenseAlgebra {
  denseAlgebra<N extends keyof NativeDense>(
    what: N,
    options: NativeDense[N][0],
    onProgress: OnProgress,
  ): NativeCall<NativeDense[N][1]>;
}

// ---- operators ------------------------------------------------------------------------------

export type Dtype = "float32" | "float64";
export type Vectors = Float32Array | Float64Array;

export type OperatorKind =
  | "hessian"
  | "ggn"
  | "functional"
  | "fisher-type2"
  | "fisher-mc"
  | "fisher-empirical";

export interface NativeLoss {
  name: string;
  reduction?: string | undefined;
  labelSmoothing?: number | undefined;
  ignoreIndex?: number | undefined;
  classWeights?: readonly number[] | undefined;
  posWeight?: readonly number[] | undefined;
  /** Of smooth-l1, its beta. */
  delta?: number | undefined;
  classAxis?: number | undefined;
}

export interface NativeRunOptions {
  precision?: Dtype | undefined;
  /** 0: all cores. */
  threads?: number | undefined;
  /** Samples a micro-batch; 0: from model, shapes and precision. */
  batch?: number | undefined;
  /** Bytes; 0: what is available. */
  maxMemory?: number | undefined;
  keepLinearisation?: boolean | undefined;
}

export interface NativeOperatorOptions extends NativeRunOptions {
  kind: OperatorKind;
  /** Positions of the parameters that the operator acts on; all when absent. */
  tensors?: number[] | undefined;
  draws?: number | undefined;
  seed?: number | bigint | undefined;
}

/** What a curvature operator tells of itself. */
export interface NativeReport {
  split: string;
  batch: number;
  microBatches: number;
  cachedMicroBatches: number;
  peakBytes: number;
  threads: number;
  warnings: string[];
}

export interface NativeEigshOptions {
  k: number;
  which: string;
  method: string;
  tol: number;
  maxProducts: number;
  seed: number | bigint;
  blockSize: number;
  oversample: number;
  basisSize: number;
  memoryBudget: number;
  start: Vectors | undefined;
  deflate: Vectors | undefined;
  preconditioner: NativeOperator | undefined;
  sigma: number;
  low: number;
  high: number;
  checkpoint: string;
  resume: string;
  /** Eigenvectors go here: k * dim numbers of the operator's dtype. */
  vectors: Vectors;
}

export interface NativeEigshResult {
  values: Float64Array;
  residuals: Float64Array;
  low: Float64Array;
  high: Float64Array;
  bounds: ("residual" | "gap" | "cluster")[];
  missedProbability: number;
  missedHow: string;
  countExact: boolean;
  countEstimate: number;
  countError: number;
  countProbes: number;
  coupling: number;
  converged: boolean;
  reason: string;
  method: string;
  scale: number;
  tol: number;
  products: number;
  restarts: number;
  warnings: string[];
}

/** How systems are solved, see SolveOptions in lib/solve.ts; 0 where a default is wanted. */
export interface NativeSystemOptions {
  method: string;
  damping: number;
  tol: number;
  maxProducts: number;
  preconditioner?: NativeOperator | undefined;
  /** Vectors of the Nystrom preconditioner; 0: none. */
  rank: number;
  tikhonov: number;
  scale: number;
  seed: number | bigint;
}

export interface NativeSolveOptions extends NativeSystemOptions {
  /** count * dim numbers of the operator's dtype, as the next two. */
  b: Vectors;
  start?: Vectors | undefined;
  /** Solutions go here. */
  solution: Vectors;
}

/** An entry for each right-hand side; errorBounds and optimality are empty where undefined. */
export interface NativeSolveResult {
  residuals: Float64Array;
  errorBounds: Float64Array;
  optimality: Float64Array;
  iterations: number[];
  converged: boolean;
  reason: string;
  tol: number;
  /** Of the Neumann series; else 0. */
  scale: number;
  products: number;
  preconditionerProducts: number;
}

/** Rows of single samples that matrices are sums of: see RowKind in native/curvature/programs.h. */
export type RowKind = "jacobian" | "ggn" | "mc" | "empirical";

/** Random probes, see ProbeOptions in lib/density.ts. */
export interface NativeProbeOptions {
  probes: number;
  steps: number;
  seed: number | bigint;
  probeType: string;
  blockSize: number;
  memoryBudget: number;
}

/** What Lanczos left of a start vector; the last off-diagonal entry leads out of T, 0 if exact. */
export interface NativeTridiagonal {
  diagonal: Float64Array;
  offDiagonal: Float64Array;
  exact: boolean;
}

export interface NativeQuadrature {
  rules: (NativeTridiagonal & {
    nodes: Float64Array;
    weights: Float64Array;
    residuals: Float64Array;
  })[];
  scale: number;
  resolution: number;
  products: number;
  blockSize: number;
  warnings: string[];
}

export interface NativeMoments {
  probes: { moments: Float64Array }[];
  center: number;
  halfWidth: number;
  /** Ritz values at the ends. */
  least: number;
  largest: number;
  scale: number;
  resolution: number;
  products: number;
  blockSize: number;
  warnings: string[];
}

export interface NativeFunctionOptions {
  /** "": none, only the bases. */
  function: string;
  steps: number;
  tol: number;
  blockSize: number;
  memoryBudget: number;
  count: number;
  /** count x dim numbers of the operator's dtype. */
  vectors: Vectors;
  /** As many, for f(A) v. */
  result: Vectors;
  /** count x steps x dim numbers. */
  bases?: Vectors;
}

export interface NativeFunctionResult {
  vectors: (NativeTridiagonal & {
    startNorm: number;
    error: number;
    residual: number;
    converged: boolean;
  })[];
  products: number;
  tol: number;
  resolution: number;
  warnings: string[];
}

/** One block of a structured operator: see native/spectral/structured.h. */
export interface NativeBlock {
  name: string;
  kind: string;
  size: number;
  trace: number;
  frobenius: number;
}

export interface NativeKfacOptions extends NativeRunOptions {
  type: string;
  sharing?: string | undefined;
  others?: string | undefined;
  eigenvalueCorrected?: boolean | undefined;
  joint?: boolean | undefined;
  tensors: number[];
  draws?: number | undefined;
  seed?: number | bigint | undefined;
}

/** Numbers that are sampled: see native/spectral/sampling.h. */
export interface NativeSampledOptions {
  tol: number;
  standardError: number;
  products: number;
  maxProducts: number;
  memoryBudget: number;
  seed: number | bigint;
  blockSize: number;
}

export interface NativeSampled {
  value: number;
  standardError: number;
  low: number;
  high: number;
  converged: boolean;
  reason: string;
  method: string;
  products: number;
  samples: number;
  scale: number;
  warnings: string[];
}

export interface NativeTrainOptions {
  optimizer: string;
  weightDecay: number;
  momentum?: number | undefined;
  dampening?: number | undefined;
  nesterov?: boolean | undefined;
  beta1?: number | undefined;
  beta2?: number | undefined;
  epsilon?: number | undefined;
  batchSize: number;
  shuffle?: boolean | undefined;
  dropLast?: boolean | undefined;
  seed?: number | bigint | undefined;
  step: number;
  updates: number;
  rates: Float64Array;
  /** A byte a parameter: 0 where it is held. */
  keep?: Uint8Array | undefined;
  theta: Float64Array;
  first: Float64Array | undefined;
  second: Float64Array | undefined;
}

/** Computations on operators: options and result of each, as in native/binding/calls.cc. */
export interface NativeCalls {
  eigsh: [NativeEigshOptions, NativeEigshResult];
  solve: [NativeSolveOptions, NativeSolveResult];
  quadrature: [NativeProbeOptions, NativeQuadrature];
  moments: [NativeProbeOptions, NativeMoments];
  functionProduct: [NativeFunctionOptions, NativeFunctionResult];
  exactSpectrum: [
    { method: string; vectors: number; memory: number },
    {
      values: Float64Array;
      vectors: Float64Array;
      method: "dense" | "dual";
      order: number;
      products: number;
      warnings: string[];
    },
  ];
  trace: [
    NativeSampledOptions & {
      method: string;
      probes: string;
      values?: Float64Array;
      /** values.length x dim numbers of the operator's dtype. */
      vectors?: Vectors;
    },
    NativeSampled,
  ];
  /** dim numbers go into `diagonal` and `errors`. */
  diagonal: [
    NativeSampledOptions & { method: string; diagonal: Float64Array; errors: Float64Array },
    NativeSampled,
  ];
  evenNorm: [NativeSampledOptions & { method: string; power: number }, NativeSampled];
  exactDiagonal: [object, { diagonal: Float64Array; rows: number }];
  /** order x order for order = samples * perSample. */
  gram: [
    { rows: RowKind; memory: number },
    {
      matrix: Float64Array;
      values: Float64Array;
      samples: number;
      perSample: number;
      scale: number;
    },
  ];
  rowsShape: [
    { rows: RowKind | "own" },
    { samples: number; perSample: number; scale: number; split: number[] },
  ];
  /** (last - first) x perSample x dim numbers go into `out`. */
  sampleRows: [
    { rows: RowKind; first: number; last: number; out: Vectors },
    { samples: number; perSample: number; scale: number },
  ];
  jacobian: [{ in: Vectors; out: Vectors; count: number; transposed: boolean }, object];
  /** The loss at the parameters plus `direction`, all of the model's. */
  risk: [{ direction: Float64Array }, { loss: number }];
  /** The network's output there. */
  outputs: [{ direction: Float64Array }, { values: Float64Array; shape: number[] }];
  /**
   * Steps of training, one for each rate. `theta`, `first` and `second` change in place once all are
   * made. Progress: steps in `products`, a running mean of losses in `residual`.
   */
  train: [NativeTrainOptions, { losses: Float64Array; step: number; updates: number }];
  /** The blocks' coordinates one after the other, and the matrices likewise. */
  blockDiagonal: [
    { indices: number[]; sizes: number[]; memory: number },
    { matrices: Float64Array },
  ];
  /** C x C weights and squares, C x C x dim means. */
  classMeans: [
    object,
    { classes: number; weights: Float64Array; means: Float64Array; squares: Float64Array },
  ];
  structuredBlocks: [object, { trace: number; frobenius: number; blocks: NativeBlock[] }];
  /** Block after block, largest first in each. */
  structuredEigenvalues: [object, { values: Float64Array }];
  structuredDeterminant: [{ damping: number }, { sign: number; logAbs: number }];
  structuredParts: [
    { block: number },
    {
      coordinates: Float64Array;
      parts: { name: string; shape: number[]; values: Float64Array }[];
    },
  ];
}

/** An operator that the core holds. */
export interface NativeOperator {
  readonly dim: number;
  readonly dtype: Dtype;
  /** A Gauss-Newton or Fisher matrix: a sum of outer products of the samples' rows. */
  readonly sumsRows: boolean;
  /** y = A x for `count` vectors of the operator's dtype; both arrays are held until it settles. */
  apply(x: Vectors, y: Vectors, count: number, onProgress: OnProgress): NativeCall<void>;
  /** A computation on the operator, by its row in NativeCalls. */
  call<N extends keyof NativeCalls>(
    name: N,
    options: NativeCalls[N][0],
    onProgress: OnProgress,
  ): NativeCall<NativeCalls[N][1]>;
  /** One a curvature operator in it. */
  report(): NativeCall<NativeReport[]>;
  plan(): NativeCall<string>;
  /** Of a curvature operator only: the same on some of its model's parameters. */
  restrictTensors(positions: number[]): NativeOperator;
  dispose(): void;
}

/**
 * Computes a block of `count` products. `answer` may be called later, once, with an error or with
 * the result.
 */
export type Respond = (
  block: Vectors,
  count: number,
  answer: (error: Error | undefined, block?: Vectors) => void,
) => void;

interface NativeOperators {
  curvatureOperator(
    model: NativeModel,
    data: NativeData,
    loss: NativeLoss,
    options: NativeOperatorOptions,
  ): NativeOperator;
  kfacOperator(
    model: NativeModel,
    data: NativeData,
    loss: NativeLoss,
    options: NativeKfacOptions,
    onProgress: OnProgress,
  ): NativeCall<{ operator: NativeOperator; report: NativeReport }>;
  structuredInverse(
    operator: NativeOperator,
    options: { damping: number; how: string },
    onProgress: OnProgress,
  ): NativeCall<NativeOperator>;
  /** Blocks are { name, indices, diagonal } or { name, indices, matrix, semiDefinite }. */
  structuredOperator(like: NativeOperator, blocks: object[]): NativeOperator;
  functionOperator(dim: number, dtype: Dtype, respond: Respond): NativeOperator;
  sumOperators(a: NativeOperator, b: NativeOperator): NativeOperator;
  scaleOperator(a: NativeOperator, factor: number): NativeOperator;
  shiftOperator(a: NativeOperator, amount: number): NativeOperator;
  /** (a + damping I)^-1; `lenient`: with products that did not converge. */
  inverseOperator(
    a: NativeOperator,
    options: NativeSystemOptions & { lenient: boolean },
  ): NativeOperator;
  /** The sum of weights[k] v_k v_k^T, weights.length vectors of `dim` numbers. */
  lowRankOperator(
    vectors: Float64Array,
    weights: Float64Array,
    dim: number,
    dtype: Dtype,
  ): NativeOperator;
  /** A mask has 0 or 1 for each coordinate. */
  restrictOperator(a: NativeOperator, mask: Uint8Array): NativeOperator;
  projectOperator(a: NativeOperator, mask: Uint8Array): NativeOperator;
  /**
   * The gradient goes into `gradient`, a number for each parameter of the model. `direction`, of as
   * many, moves the parameters by `step` times itself first.
   */
  evaluateRisk(
    model: NativeModel,
    data: NativeData,
    loss: NativeLoss,
    options: NativeRunOptions & { direction?: Float64Array; step?: number },
    gradient: Float64Array | undefined,
    onProgress: OnProgress,
  ): NativeCall<{ loss: number; gradientNorm: number; report: NativeReport }>;
  evaluateForward(
    model: NativeModel,
    data: NativeData,
    options: NativeRunOptions,
    samples: number | undefined,
    onProgress: OnProgress,
  ): NativeCall<{ values: Float64Array; shape: number[] }>;
  /** The first rows of each input of the model, as it declares them. */
  inputRows(
    model: NativeModel,
    data: NativeData,
    samples: number,
  ): { name: string; type: ElementType; shape: number[]; values: ArrayBufferView }[];
  /** The libraries below. */
  runtime(): {
    version: string;
    compiler: string;
    blas: string;
    blasCore: string;
    /** Its version, "" where it is not used. */
    onednn: string;
    /** Why it is not used. */
    onednnRefusal: string;
  };
}

// ---- the addon ------------------------------------------------------------------------------

/** Everything that the addon exports. */
export interface Native extends NativeModels, NativeDataSets, NativeDenseAlgebra, NativeOperators {
  /** Stops every call of the process, for its exit. */
  stopBeforeExit(): void;
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
    ? `Build it in ${root}: apt-get install -y --no-install-recommends g++ cmake ninja-build libopenblas-dev zlib1g-dev, then npm ci && npm run build:native.`
    : "The package carries it for Linux on x86-64 with glibc 2.35 or newer. Elsewhere, get the " +
      `source of eigenscope ${version}, and there: apt-get install -y --no-install-recommends ` +
      "g++ cmake ninja-build libopenblas-dev zlib1g-dev, then npm ci && npm run build.";
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
  if (isMainThread) process.on("exit", () => addon.stopBeforeExit());
  loaded = addon;
  return addon;
}
