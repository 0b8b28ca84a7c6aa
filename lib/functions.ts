/** Functions of operators: traces, log-determinants, products with vectors. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { completeSpectrum, PROBE_OPTIONS, type ProbeOptions, quadrature } from "./density";
import { meanOf, samplingOf, standardErrorOf } from "./density/estimate";
import { type LanczosRule, ruleThrough } from "./density/measure";
import { tridiagonalEigen } from "./density/tridiagonal";
import { MemoryBudgetError, OptionError } from "./errors";
import { LinearOperator, vectors as room } from "./linear-operator";
import type { NativeFunctionResult, NativeQuadrature, Vectors } from "./native";
import { type Check, check, checkOptions, describe, typeName } from "./options";
import { sum } from "./vectors";

/** Functions that have a name. */
export type FunctionName = "exp" | "log" | "sqrt" | "inverse" | "inverse-sqrt" | "sign" | "abs";

/** A function of real eigenvalues: one of the named, or the caller's. */
export type SpectralFunction = FunctionName | ((eigenvalue: number) => number);

interface FunctionRow {
  value: (x: number) => number;
  domain: "any" | "not-negative" | "positive" | "not-zero";
  /**
   * Signs of the derivatives of even and odd order, where they do not change on the positive axis:
   * the Gauss rule then errs to the side of the even ones, Radau's to that of the odd ones.
   */
  even?: 1 | -1;
  odd?: 1 | -1;
}

/** The same functions as in native/spectral/functions.cc. */
const FUNCTIONS: Record<FunctionName, FunctionRow> = {
  exp: { value: Math.exp, domain: "any", even: 1, odd: 1 },
  log: { value: Math.log, domain: "positive", even: -1, odd: 1 },
  sqrt: { value: Math.sqrt, domain: "not-negative", even: -1, odd: 1 },
  inverse: { value: (x) => 1 / x, domain: "not-zero", even: 1, odd: -1 },
  "inverse-sqrt": { value: (x) => 1 / Math.sqrt(x), domain: "positive", even: 1, odd: -1 },
  sign: { value: Math.sign, domain: "any" },
  abs: { value: Math.abs, domain: "any" },
};

const functionCheck: Check = {
  expected: `a function of a number, or one of ${Object.keys(FUNCTIONS)
    .map((name) => `"${name}"`)
    .join(", ")}`,
  fits: (value) =>
    typeof value === "function" || (typeof value === "string" && Object.hasOwn(FUNCTIONS, value)),
};

function rowOf(f: SpectralFunction, where: string): FunctionRow {
  if (!functionCheck.fits(f))
    throw new OptionError(`${where}: f: expected ${functionCheck.expected}, got ${describe(f)}`);
  return typeof f === "function" ? { value: f, domain: "any" } : FUNCTIONS[f];
}

export interface TraceFunctionOptions extends ProbeOptions {
  /**
   * Bounds of the spectrum that are known beforehand, such as the damping of a semi-definite
   * operator. With a lower one (for exp: an upper one) the quadrature error of the named functions
   * that are smooth on the positive axis is bounded by Radau's rule.
   */
  lowerBound?: number | undefined;
  upperBound?: number | undefined;
}

const finite: Check = { expected: "a finite number", fits: (value) => Number.isFinite(value) };

const TRACE_OPTIONS: { [K in keyof Required<TraceFunctionOptions>]: Check } = {
  ...PROBE_OPTIONS,
  lowerBound: finite,
  upperBound: finite,
};

/** An estimate of tr f(A), with its two errors apart. */
export interface TraceOfFunction {
  value: number;
  /** Of the mean over probes; infinite for a single one, 0 where the spectrum is known completely. */
  standardError: number;
  /** [value - t s - q, value + t s + q]: 95 % by Student's t, and the quadrature error q. */
  interval: [number, number];
  /**
   * Of the quadrature, in the mean over probes: half the gap between Gauss and Radau rules where
   * `bounded`, else the change by the last step.
   */
  quadratureError: number;
  /** Whether quadratureError is a proven bound. */
  bounded: boolean;
  /** What each probe says. */
  samples: Float64Array;
  /** Whether the whole spectrum is known, so that the value is exact. */
  complete: boolean;
  products: number;
  warnings: readonly string[];
  seconds: number;
}

/**
 * tr f(A) = dim E[v^T f(A) v] by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017). Costs
 * probes * steps products.
 *
 * @param f a name, or a function of one eigenvalue
 * @throws OptionError when a Ritz value lies outside the domain of f, such as one of at most 0 for
 * "log"; DataMismatchError when f or the operator gives NaN or infinity; MemoryBudgetError;
 * AbortError
 */
export async function traceFunction(
  operator: LinearOperator,
  f: SpectralFunction,
  options: TraceFunctionOptions = {},
): Promise<TraceOfFunction> {
  const row = rowOf(f, "traceFunction");
  const checked = checkOptions("traceFunction", options, TRACE_OPTIONS);
  const name = typeof f === "string" ? f : "f";
  return traceOf(operator, row, name, 0, checked, "traceFunction");
}

export interface LogDeterminantOptions extends TraceFunctionOptions {
  /** The log-determinant is that of A + damping I. Default 0. */
  damping?: number | undefined;
}

const LOG_DETERMINANT_OPTIONS: { [K in keyof Required<LogDeterminantOptions>]: Check } = {
  ...TRACE_OPTIONS,
  damping: check.notNegative,
};

/**
 * log det(A + damping I) = tr log(A + damping I), see traceFunction. Bounds given are those of A.
 *
 * @throws OptionError when an eigenvalue of A + damping I that is not positive shows up
 */
export async function logDeterminant(
  operator: LinearOperator,
  options: LogDeterminantOptions = {},
): Promise<TraceOfFunction> {
  const { damping = 0, ...rest } = checkOptions("logDeterminant", options, LOG_DETERMINANT_OPTIONS);
  return traceOf(operator, FUNCTIONS.log, "log", damping, rest, "logDeterminant");
}

async function traceOf(
  operator: LinearOperator,
  row: FunctionRow,
  name: string,
  damping: number,
  options: TraceFunctionOptions,
  where: string,
): Promise<TraceOfFunction> {
  const begin = performance.now();
  const result = await quadrature(operator, options, where);
  const dim = operator.dim;
  const resolution = Math.max(result.resolution, 32 * Number.EPSILON * damping);
  const shifted = result.rules.map((rule) => ({
    ...rule,
    diagonal: rule.diagonal.map((x) => x + damping),
    nodes: rule.nodes.map((x) => x + damping),
  }));
  const known = {
    lower: options.lowerBound === undefined ? undefined : options.lowerBound + damping,
    upper: options.upperBound === undefined ? undefined : options.upperBound + damping,
  };
  checkBounds(shifted, known, resolution, where);
  const f = (x: number) => valueAt(row, name, x, resolution, damping, where);
  const all = completeSpectrum(result, dim);
  const scale = result.scale + damping;
  const samples = shifted.map((rule) => (all ? 0 : sampleOf(rule, row, f, known, scale)));
  const sums = samples.map((sample) => (sample ? dim * sample.value : 0));
  const errors = samples.map((sample) => (sample ? dim * sample.error : 0));
  const value = all ? sum(all.map((x) => f(x + damping))) : meanOf(sums);
  const standardError = all ? 0 : standardErrorOf(sums);
  const quadratureError = meanOf(errors);
  const half = quadratureError + samplingOf(sums, all !== undefined);
  const warnings = [...result.warnings];
  if (!all && sums.length === 1)
    warnings.push("a single probe tells nothing of the sampling error; take several");
  return {
    value,
    standardError,
    interval: [value - half, value + half],
    quadratureError,
    bounded: all !== undefined || samples.every((sample) => sample !== 0 && sample.bounded),
    samples: all ? Float64Array.of(value) : Float64Array.from(sums),
    complete: all !== undefined,
    products: result.products,
    warnings,
    seconds: (performance.now() - begin) / 1000,
  };
}

type Rule = NativeQuadrature["rules"][number];

function checkBounds(
  rules: readonly Rule[],
  { lower, upper }: { lower: number | undefined; upper: number | undefined },
  resolution: number,
  where: string,
): void {
  for (const { nodes } of rules) {
    const [least, most] = [nodes[0]!, nodes.at(-1)!];
    if (lower !== undefined && least < lower - resolution)
      throw new OptionError(
        `${where}: lowerBound: expected a bound of all eigenvalues, and a Ritz value is ` +
          `${(lower - least).toPrecision(3)} below it`,
      );
    if (upper !== undefined && most > upper + resolution)
      throw new OptionError(
        `${where}: upperBound: expected a bound of all eigenvalues, and a Ritz value is ` +
          `${(most - upper).toPrecision(3)} above it`,
      );
  }
}

/** f at a Ritz value. Rounding does not make a semi-definite operator indefinite. */
function valueAt(
  { value, domain }: FunctionRow,
  name: string,
  x: number,
  resolution: number,
  damping: number,
  where: string,
): number {
  const zero = Math.abs(x) <= resolution;
  const wrong =
    (domain === "positive" && x <= resolution) ||
    (domain === "not-negative" && x < -resolution) ||
    (domain === "not-zero" && zero);
  if (wrong) {
    const wanted = { positive: "positive", "not-negative": "not negative", "not-zero": "not 0" };
    const plus = damping > 0 ? ` + ${damping}` : "";
    throw new OptionError(
      `${where}: expected eigenvalues that are ${wanted[domain as keyof typeof wanted]}, as ` +
        `${name} asks for, and a Ritz value${plus} is ${zero ? "0 up to rounding" : x.toPrecision(3)}; ` +
        (where === "logDeterminant" ? "raise damping" : "shift the operator, A.shift(damping)"),
    );
  }
  const result = value(domain === "not-negative" || name === "sign" ? (zero ? 0 : x) : x);
  if (!Number.isFinite(result))
    throw new OptionError(`${where}: f: expected a finite number at ${x}, got ${describe(result)}`);
  return result;
}

function apply(
  { nodes, weights }: { nodes: Float64Array; weights: Float64Array },
  f: (x: number) => number,
): number {
  return nodes.reduce((total, x, i) => (weights[i]! > 0 ? total + weights[i]! * f(x) : total), 0);
}

/** v^T f(A) v, and how far the quadrature may be off. */
function sampleOf(
  rule: Rule,
  row: FunctionRow,
  f: (x: number) => number,
  known: { lower: number | undefined; upper: number | undefined },
  scale: number,
): { value: number; error: number; bounded: boolean } {
  const gauss = apply(rule, f);
  if (rule.exact) return { value: gauss, error: 0, bounded: true };
  // With derivatives of fixed signs, the Gauss rule errs to one side (its error has the sign of the
  // even ones), and the one with a node at an end to the other, if at the fitting end.
  const end = row.even === row.odd ? known.upper : known.lower;
  if (row.even && end !== undefined && !(row.domain !== "any" && end <= 0)) {
    const radau = ruleThrough(rule, end, scale);
    if (radau) {
      const other = apply(radau, f);
      return { value: (gauss + other) / 2, error: Math.abs(gauss - other) / 2, bounded: true };
    }
  }
  return { value: gauss, error: Math.abs(gauss - apply(previous(rule), f)), bounded: false };
}

/** The Gauss rule of one step less. */
function previous(rule: Rule): { nodes: Float64Array; weights: Float64Array } {
  const m = rule.diagonal.length - 1;
  if (m === 0) return { nodes: rule.nodes, weights: new Float64Array(1) };
  const { values, rows } = tridiagonalEigen(rule.diagonal.subarray(0, m), rule.offDiagonal, [0]);
  return { nodes: values, weights: rows[0]!.map((first) => first * first) };
}

export interface FunctionProductOptions extends CallOptions {
  /** Most products a vector. Default 200, or the dimension. A function of yours takes them all. */
  steps?: number | undefined;
  /** Of the estimated error over the length of f(A) v. Default 1e-5 in float32, 1e-10 in float64. */
  tol?: number | undefined;
  /** Vectors side by side. Default: all up to 16, as far as their bases fit into maxMemory. */
  blockSize?: number | undefined;
  /** Bytes for bases. Default 1 GiB, and one vector whatever it takes. */
  maxMemory?: number | undefined;
}

const PRODUCT_OPTIONS: { [K in keyof Required<FunctionProductOptions>]: Check } = {
  ...CALL_OPTIONS,
  steps: check.positiveInteger,
  tol: check.notNegative,
  blockSize: check.positiveInteger,
  maxMemory: check.positiveInteger,
};

/** f(A) v for one or more vectors. */
export interface FunctionProductResult {
  /** As many numbers as were given, of the operator's dtype. */
  vectors: Vectors;
  /** Estimated error of each over its length: the last change, extrapolated by its pace. */
  errors: Float64Array;
  /**
   * beta_m |e_m^T f(T) e_1| of each, over its length and the largest |Ritz value|: what the next
   * Lanczos vector would add at most, in order of magnitude. For "inverse" the exact residual
   * ||A x - v|| in these units.
   */
  residuals: Float64Array;
  /** Lanczos steps of each. */
  steps: number[];
  /** Whether errors and residuals of all are at most tol. */
  converged: boolean;
  /** Why not; "" when converged. */
  reason: string;
  tol: number;
  products: number;
  warnings: readonly string[];
  seconds: number;
}

/**
 * f(A) v by Lanczos from v with full reorthogonalisation: ||v|| V_m f(T_m) e_1 (Saad 1992; Higham
 * 2008, chapter 13). Costs one product a step and vector. A named function stops when its estimated
 * error passes tol; for a function of yours the core gives T and the basis, `steps` vectors of
 * memory, and f is evaluated here on the eigenvalues of T.
 *
 * Not converging is no error: `converged` is false then, and `reason` says why.
 *
 * @param v K x dim numbers, row-major, of the operator's dtype; read in place
 * @throws OptionError when v does not fit, an option is out of range, or a Ritz value lies outside
 * the domain of f; DataMismatchError; MemoryBudgetError; AbortError
 */
export async function functionProduct(
  operator: LinearOperator,
  f: SpectralFunction,
  v: Vectors,
  options: FunctionProductOptions = {},
): Promise<FunctionProductResult> {
  const row = rowOf(f, "functionProduct");
  const checked = checkOptions("functionProduct", options, PRODUCT_OPTIONS);
  const count = countOf(operator, v);
  const { dim, dtype } = operator;
  const begin = performance.now();
  const steps = Math.min(checked.steps ?? 200, dim);
  const result = room(dtype, v.length);
  const bases = typeof f === "function" ? basesFor(operator, count, steps) : undefined;
  const found = await run(
    (onProgress) =>
      operator.native.call(
        "functionProduct",
        {
          function: typeof f === "function" ? "" : f,
          steps,
          tol: checked.tol ?? 0,
          blockSize: checked.blockSize ?? 0,
          memoryBudget: checked.maxMemory ?? 0,
          count,
          vectors: v,
          result,
          ...(bases && { bases }),
        },
        onProgress,
      ),
    checked,
  );
  const all = found.vectors.map((vector, k) =>
    bases
      ? combine(vector, row.value, found.tol, {
          basis: bases.subarray(k * steps * dim, (k + 1) * steps * dim),
          result: result.subarray(k * dim, (k + 1) * dim),
        })
      : vector,
  );
  const converged = all.every((vector) => vector.converged);
  const errors = Float64Array.from(all, (vector) => vector.error);
  return {
    vectors: result,
    errors,
    residuals: Float64Array.from(all, (vector) => vector.residual),
    steps: found.vectors.map((vector) => vector.diagonal.length),
    converged,
    reason: converged
      ? ""
      : `${steps} steps were not enough: the worst estimated error is ` +
        `${Math.max(...errors).toExponential(1)}, tol is ${found.tol}; allow more steps or raise tol`,
    tol: found.tol,
    products: found.products,
    warnings: found.warnings,
    seconds: (performance.now() - begin) / 1000,
  };
}

function countOf(operator: LinearOperator, v: Vectors): number {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`functionProduct: expected an operator, got ${describe(operator)}`);
  const wanted = operator.dtype === "float32" ? "Float32Array" : "Float64Array";
  const count = typeName(v) === wanted ? v.length / operator.dim : 0;
  if (!Number.isInteger(count) || count < 1)
    throw new OptionError(
      `functionProduct: v: expected a ${wanted} of K times ${operator.dim} numbers, the dimension ` +
        `of ${operator.name}, got ${describe(v)}`,
    );
  return count;
}

function basesFor(operator: LinearOperator, count: number, steps: number): Vectors {
  try {
    return room(operator.dtype, count * steps * operator.dim);
  } catch (cause) {
    throw new MemoryBudgetError(
      `functionProduct: a function of yours needs ${count} x ${steps} vectors of dimension ` +
        `${operator.dim}, and they do not fit into one array; lower steps, or give fewer vectors`,
      { cause },
    );
  }
}

/** f(T) e_1 of the leading m x m part. */
function coefficients(rule: LanczosLike, m: number, f: (x: number) => number): Float64Array {
  const rows = Array.from({ length: m }, (_, i) => i);
  const eigen = tridiagonalEigen(rule.diagonal.subarray(0, m), rule.offDiagonal, rows);
  const values = eigen.values.map((x) => {
    const y = f(x);
    if (typeof y !== "number" || !Number.isFinite(y))
      throw new OptionError(
        `functionProduct: f: expected a finite number at the Ritz value ${x}, got ${describe(y)}`,
      );
    return y;
  });
  return Float64Array.from(rows, (i) =>
    values.reduce((total, y, j) => total + y * eigen.rows[0]![j]! * eigen.rows[i]![j]!, 0),
  );
}

type LanczosLike = Pick<LanczosRule, "diagonal" | "offDiagonal">;

function combine(
  rule: NativeFunctionResult["vectors"][number],
  f: (x: number) => number,
  tol: number,
  { basis, result }: { basis: Vectors; result: Vectors },
): { error: number; residual: number; converged: boolean } {
  const m = rule.diagonal.length;
  const dim = result.length;
  const c = coefficients(rule, m, f);
  const last = new Float64Array(dim);
  for (let j = 0; j < m; j++) {
    const factor = rule.startNorm * c[j]!;
    const at = j * dim;
    for (let i = 0; i < dim; i++) last[i]! += factor * basis[at + i]!;
  }
  result.set(last);
  if (rule.exact) return { error: 0, residual: 0, converged: true };
  const length = Math.hypot(...c);
  const changes = [m - 1, m - 2].map((size) => {
    const [larger, smaller] = [
      coefficients(rule, size + 1, f),
      size > 0 ? coefficients(rule, size, f) : [],
    ];
    return Math.hypot(...larger.map((x, i) => x - (smaller[i] ?? 0)));
  });
  const pace = changes[1]! > 0 ? Math.min(0.99, changes[0]! / changes[1]!) : 0.99;
  const error = length > 0 ? changes[0]! / length / (1 - pace) : 0;
  const top = rule.diagonal.reduce(
    (most, x, i) => Math.max(most, Math.abs(x), rule.offDiagonal[i]!),
    0,
  );
  const residual =
    length > 0 && top > 0 ? (rule.offDiagonal[m - 1]! * Math.abs(c[m - 1]!)) / (length * top) : 0;
  return { error, residual, converged: Math.max(error, residual) <= tol };
}
