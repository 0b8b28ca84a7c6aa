/** eigenscope verify: the numbers of this model and data against independent routes. */
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { type LinearOperator, vectors } from "../linear-operator";
import type { BoundInput } from "../model/bind";
import type { Model } from "../model/model";
import { native, type Vectors } from "../native";
import { forward, gradient, hessian, lossOf, type RunOptions } from "../operators";
import { dot, norm } from "../vectors";
import type { Globals, OperatorArguments, SubjectArguments } from "./arguments";
import { print, printJson, table, warn } from "./output";
import { Random } from "./random";
import { makeOperator, openData, openModel, runOptions } from "./subject";

/** What one check found. */
interface Row {
  identity: string;
  /** Relative; null where the check does not apply. */
  error: number | null;
  bar: number | null;
  passed: boolean;
  note: string;
}

interface Subject {
  model: Model;
  file: string;
  data: DataSet;
  args: SubjectArguments;
  options: RunOptions;
  signal: AbortSignal;
  /** What rounding may make of an identity, and of a comparison with differences. */
  bars: { rounding: number; differences: number };
}

/** Operators whose output has corners: differences across one are no derivative. */
const KINKED = ["Relu", "LeakyRelu", "PRelu", "MaxPool", "Abs", "Clip", "Max", "Min", "ReduceMax"];

const OPERATORS: readonly NonNullable<OperatorArguments["operator"]>[] = [
  "hessian",
  "ggn",
  "functional",
  "fisher-type2",
  "fisher-mc",
  "fisher-empirical",
];

export async function run(
  file: string,
  args: SubjectArguments,
  { signal, json }: Globals,
): Promise<number> {
  const single = args.precision === "float32";
  const withDefaults: SubjectArguments = { ...args, precision: args.precision ?? "float64" };
  using model = await openModel(file, args);
  const all = await openData(args, signal);
  const samples = Math.min(args.samples ?? 64, all.samples);
  const data = await openData({ ...args, samples }, signal);
  const subject: Subject = {
    model,
    file,
    data,
    args: withDefaults,
    options: runOptions(withDefaults),
    signal,
    bars: { rounding: single ? 1e-4 : 1e-10, differences: single ? 1e-3 : 1e-6 },
  };
  const rows: Row[] = [];
  const add = (row: Row) => {
    rows.push(row);
    if (!json && process.stderr.isTTY) process.stderr.write(`\r\x1b[K${row.identity}`);
  };
  add(await againstOnnxruntime(subject));
  add(await gradientDifferences(subject));
  add(await hessianDifferences(subject));
  for (const kind of OPERATORS) for (const row of await identities(subject, kind)) add(row);
  add(await splitSum(subject));
  if (!json && process.stderr.isTTY) process.stderr.write("\r\x1b[K");

  const passed = rows.every((row) => row.passed);
  if (json) printJson({ passed, samples, precision: withDefaults.precision, checks: rows });
  else {
    print(`${file}: ${samples} samples, ${withDefaults.precision}`);
    const lines = rows.map(({ identity, error, bar, passed, note }) => [
      identity,
      error === null ? "" : error.toExponential(1),
      bar === null ? "" : bar.toExponential(0),
      error === null ? "skipped" : passed ? "pass" : "FAIL",
      note,
    ]);
    for (const line of table(["check", "error", "bar", "", ""], lines)) print(line);
    warn(model.warnings);
  }
  return passed ? 0 : 1;
}

function result(identity: string, error: number, bar: number, note = ""): Row {
  return { identity, error, bar, passed: error <= bar, note };
}

function skipped(identity: string, note: string): Row {
  return { identity, error: null, bar: null, passed: true, note };
}

type Numbers = ArrayLike<number>;

const largest = (x: Numbers) => {
  let max = 0;
  for (let i = 0; i < x.length; i++) max = Math.max(max, Math.abs(x[i]!));
  return max;
};

/** Largest difference over the largest entry, or over `scale`; NaN counts as infinite. */
function relative(got: Numbers, wanted: Numbers, scale = largest(wanted)): number {
  let error = got.length === wanted.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < wanted.length; i++) error = Math.max(error, Math.abs(got[i]! - wanted[i]!));
  if (error === 0) return 0;
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / scale;
}

// ---- another engine -------------------------------------------------------------------------

type Onnxruntime = typeof import("onnxruntime-node");

async function againstOnnxruntime(subject: Subject): Promise<Row> {
  const { model, file, data, options, signal } = subject;
  const identity = "forward = onnxruntime";
  let ort: Onnxruntime;
  try {
    ort = require("onnxruntime-node") as Onnxruntime;
  } catch {
    return skipped(identity, "onnxruntime-node is not installed: npm install onnxruntime-node");
  }
  const { batchNorm, dropoutSeed, bound } = model.modes;
  if ((batchNorm !== undefined && model.operators.BatchNormalization) || dropoutSeed !== undefined)
    return skipped(
      identity,
      "onnxruntime has no modes; those of batch norm or dropout were chosen",
    );
  // A graph with a fixed batch takes exactly that many samples.
  const fixed = model.inputs.map(({ shape }) => shape?.[0]).find((b) => typeof b === "number");
  const samples = Math.min(data.samples, typeof fixed === "number" ? fixed : 16);
  if (typeof fixed === "number" && samples < fixed)
    return skipped(identity, `the model takes ${fixed} samples at once, and there are ${samples}`);
  const inputs = native().inputRows(model.native, data.native, samples);
  const feeds: Record<string, InstanceType<Onnxruntime["Tensor"]>> = {};
  for (const { name, type, shape, values } of inputs)
    feeds[name] = new ort.Tensor(type as "float32", values as Float32Array, shape);
  for (const each of bound)
    feeds[each.name] = new ort.Tensor(each.type as "float32", ...constantFor(model, each, feeds));

  let theirs: Numbers;
  try {
    const session = await ort.InferenceSession.create(file);
    theirs = (await session.run(feeds))[model.output]!.data as Float32Array;
  } catch (error) {
    return skipped(identity, `onnxruntime: ${(error as Error).message.split("\n", 1)[0]}`);
  }
  const { values } = await forward(model, data, { ...options, samples, signal });
  return result(identity, relative(values, theirs), 1e-4, "onnxruntime computes in float32");
}

/** A bound input's numbers and shape, its free lengths as the core takes them. */
function constantFor(
  model: Model,
  { type, shape, dimNames, values }: BoundInput,
  feeds: Record<string, { dims: readonly number[] }>,
): [Float32Array, number[]] {
  const lengths = new Map<string, number>();
  let samples = 1;
  for (const input of model.inputs) {
    const { dims } = feeds[input.name]!;
    samples = dims[0] ?? samples;
    input.shape?.forEach((length, axis) => {
      if (typeof length === "string" && length !== "?") lengths.set(length, dims[axis]!);
    });
  }
  const full = shape.map((n, axis) => (n < 0 ? (lengths.get(dimNames[axis]!) ?? samples) : n));
  const size = full.reduce((product, n) => product * n, 1);
  const all = values.length === size ? values : new Array(size).fill(values[0]);
  const arrays = { float64: Float64Array, bool: Uint8Array, uint8: Uint8Array, int32: Int32Array };
  const numbers =
    type === "int64"
      ? BigInt64Array.from(all, BigInt)
      : (arrays[type as "float64"] ?? Float32Array).from(all, Number);
  return [numbers as unknown as Float32Array, full];
}

// ---- differences ----------------------------------------------------------------------------

/** Relative to the parameters. The small ones are for networks with corners close by. */
const STEPS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8];

function parameterNorm(model: Model): number {
  return Math.sqrt(model.parameters.reduce((sum, p) => sum + norm(p.values()) ** 2, 0));
}

function kinkNote(model: Model): string {
  const kinked = KINKED.filter((op) => model.operators[op]);
  return kinked.length > 0 ? `, corners of ${kinked.join(", ")} allowed for` : "";
}

/** Loss, and gradient where asked for, in float64 at the parameters plus step times direction. */
async function riskAt(
  { model, data, options, signal }: Subject,
  direction: Float64Array,
  step: number,
  gradient?: Float64Array,
): Promise<number> {
  signal.throwIfAborted();
  const { loss } = await native().evaluateRisk(
    model.native,
    data.native,
    lossOf("verify", model, undefined),
    { ...options, precision: "float64", direction, step },
    gradient,
    undefined,
  ).promise;
  return loss;
}

/** The least error over a ladder of steps: differences are exact at none of them. */
async function leastError(
  subject: Subject,
  errorAt: (step: number) => Promise<number>,
): Promise<{ error: number; step: number }> {
  const size = parameterNorm(subject.model) || 1;
  let best = { error: Number.POSITIVE_INFINITY, step: 0 };
  for (const relativeStep of STEPS) {
    const step = relativeStep * size;
    const error = await errorAt(step);
    if (error < best.error) best = { error, step };
  }
  return best;
}

function unit(length: number, seed: bigint): Float64Array {
  const random = new Random(seed);
  const v = Float64Array.from({ length }, () => random.uniform());
  const scale = 1 / norm(v);
  return v.map((x) => x * scale);
}

async function gradientDifferences(subject: Subject): Promise<Row> {
  const { model, data, options, signal, bars, args } = subject;
  const { gradient: g, norm: size } = await gradient(model, data, { ...options, signal });
  if (size === 0) return skipped("gradient = differences", "the gradient is zero");
  // Partly along the gradient, for most of it to show; partly not, for the rest to show.
  const away = unit(model.parameterCount, args.seed ?? 0n);
  const direction = g.map((x, i) => (x / size + away[i]!) / Math.SQRT2);
  const slope = dot(g, direction);
  const { error, step } = await leastError(subject, async (step) => {
    const up = await riskAt(subject, direction, step);
    const down = await riskAt(subject, direction, -step);
    return Math.abs((up - down) / (2 * step) - slope) / Math.abs(slope);
  });
  const bar = bars.differences * (kinkNote(model) ? 100 : 1);
  return result("gradient = differences", error, bar, `of the loss, step ${step.toExponential(0)}`);
}

async function hessianDifferences(subject: Subject): Promise<Row> {
  const { model, data, options, signal, bars, args } = subject;
  const P = model.parameterCount;
  using H = hessian(model, data, options);
  const direction = unit(P, (args.seed ?? 0n) + 1n);
  const product = await H.apply(converted(H, direction), { signal });
  if (largest(product) === 0) return skipped("H v = differences", "H v is zero");
  const { error, step } = await leastError(subject, async (step) => {
    const up = new Float64Array(P);
    const down = new Float64Array(P);
    await riskAt(subject, direction, step, up);
    await riskAt(subject, direction, -step, down);
    return relative(
      product,
      up.map((x, i) => (x - down[i]!) / (2 * step)),
    );
  });
  const kinks = kinkNote(model);
  const note = `of the gradient, step ${step.toExponential(0)}${kinks}`;
  return result("H v = differences", error, bars.differences * (kinks ? 100 : 1), note);
}

// ---- identities -----------------------------------------------------------------------------

function converted(operator: LinearOperator, values: Numbers): Vectors {
  const out = vectors(operator.dtype, values.length);
  out.set(values);
  return out;
}

/** Symmetry, linearity and independence of the batch, of one operator. */
async function identities(
  subject: Subject,
  kind: NonNullable<OperatorArguments["operator"]>,
): Promise<Row[]> {
  const { model, data, args, signal, bars } = subject;
  const seed = args.seed ?? 0n;
  const P = model.parameterCount;
  using operator = makeOperator(model, data, { ...args, operator: kind });
  const u = unit(P, seed + 2n);
  const v = unit(P, seed + 3n);
  const [a, b] = [0.75, -1.5];
  const block = vectors(operator.dtype, 3 * P);
  block.set(u, 0);
  block.set(v, P);
  block.set(
    u.map((x, i) => a * x + b * v[i]!),
    2 * P,
  );
  let products: Vectors;
  try {
    products = await operator.apply(block, { signal });
  } catch (error) {
    // What the loss does not define is refused, by this name.
    if (!(error instanceof OptionError)) throw error;
    return [skipped(`${kind}`, error.message)];
  }
  const row = (i: number) => products.subarray(i * P, (i + 1) * P);
  const [Au, Av, Aw] = [row(0), row(1), row(2)];
  const scale = Math.max(norm(Au), norm(Av));
  if (scale === 0) return [skipped(kind, "its products are zero here")];
  const symmetry = Math.abs(dot(u, Av) - dot(v, Au)) / scale;
  const combined = Float64Array.from(Au, (x, i) => a * x + b * Av[i]!);

  return [
    result(`${kind}: u'Av = v'Au`, symmetry, bars.rounding),
    result(`${kind}: A(au + bv) = aAu + bAv`, relative(Aw, combined), bars.rounding),
    await inSmallerBatches(subject, kind, block.slice(0, P), Au),
  ];
}

async function inSmallerBatches(
  { model, data, args, signal, bars }: Subject,
  kind: NonNullable<OperatorArguments["operator"]>,
  vector: Vectors,
  wanted: Vectors,
): Promise<Row> {
  const batch = Math.max(1, Math.floor(data.samples / 3));
  const identity = `${kind}: same in batches of ${batch}`;
  if (model.modes.batchNorm === "batch")
    return skipped(identity, "with statistics of the batch, its size is part of what is computed");
  using split = makeOperator(model, data, { ...args, operator: kind, batch });
  try {
    return result(identity, relative(await split.apply(vector, { signal }), wanted), bars.rounding);
  } catch (error) {
    // A graph may take one number of samples only.
    if (!(error instanceof OptionError)) throw error;
    return skipped(identity, error.message);
  }
}

/** The Hessian is the sum of its two parts, each computed by its own program. */
async function splitSum({ model, data, args, signal, bars }: Subject): Promise<Row> {
  const identity = "hessian = ggn + functional";
  using H = makeOperator(model, data, { ...args, operator: "hessian" });
  using G = makeOperator(model, data, { ...args, operator: "ggn" });
  using F = makeOperator(model, data, { ...args, operator: "functional" });
  const v = converted(H, unit(model.parameterCount, (args.seed ?? 0n) + 4n));
  try {
    const Gv = await G.apply(v, { signal });
    const Fv = await F.apply(v, { signal });
    const Hv = await H.apply(v, { signal });
    const sum = Float64Array.from(Gv, (x, i) => x + Fv[i]!);
    const scale = Math.max(largest(Hv), largest(Gv), largest(Fv));
    return result(identity, relative(Hv, sum, scale), bars.rounding);
  } catch (error) {
    if (!(error instanceof OptionError)) throw error;
    return skipped(identity, error.message);
  }
}
