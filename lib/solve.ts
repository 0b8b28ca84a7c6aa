/** Linear systems with operators, and their inverses as operators. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { MemoryBudgetError, OptionError } from "./errors";
import { LinearOperator, vectors } from "./linear-operator";
import { type NativeSystemOptions, native, type Vectors } from "./native";
import { type Check, check, checkOptions, describe, typeName } from "./options";

/** How a system (A + damping I) x = b is solved. */
export interface SystemOptions {
  /**
   * "cg" (default): conjugate gradients (Hestenes and Stiefel 1952), for positive (semi-)definite
   * A + damping I (ggn, fisher); refuses an operator in which it meets negative curvature.
   * "minres" (Paige and Saunders 1975): any symmetric operator, such as the Hessian. "lsmr" (Fong
   * and Saunders 2011): any symmetric operator by least squares, for systems that are singular or
   * have no solution: it gives the shortest of the least-squares solutions. "neumann": the series
   * sum_k (I - A / scale)^k b / scale, as influence functions use it; for positive definite
   * operators, and slower than cg.
   */
  method?: "cg" | "minres" | "lsmr" | "neumann" | undefined;
  /** Adds damping I to the operator. From 0, the default. */
  damping?: number | undefined;
  /**
   * Largest residual ||b - (A + damping I) x|| / ||b||. Default 1e-8 in float64 and 1e-4 in float32,
   * whose products carry noise of about 1e-6 ||A|| ||x||. lsmr is content with a gradient of the
   * squares of tol ||A|| ||r|| too.
   */
  tol?: number | undefined;
  /**
   * Products with single vectors, of all right-hand sides. Default: 1000 + min(10 dim, 10000) for
   * each.
   */
  maxProducts?: number | undefined;
  /**
   * An operator near (A + damping I)^-1, symmetric and positive definite; for cg, minres and lsmr
   * (there from the right). "nystrom": built from a sketch of `rank` products, for cg and minres on
   * positive semi-definite operators with damping (Frangella, Tropp and Udell 2023).
   */
  preconditioner?: LinearOperator | "nystrom" | undefined;
  /** Of the Nystrom preconditioner, which keeps as many vectors. Default min(20, dim). */
  rank?: number | undefined;
  /** lsmr only: minimises ||b - (A + damping I) x||^2 + tikhonov^2 ||x||^2. Default 0. */
  tikhonov?: number | undefined;
  /**
   * neumann only: the series converges where the eigenvalues of A + damping I lie between 0 and
   * twice this. Default: a little above the largest, from 12 products of Lanczos, which also check
   * a given one.
   */
  scale?: number | undefined;
  /** Of the sketch and the estimate. Default 0. */
  seed?: number | bigint | undefined;
}

export interface SolveOptions extends SystemOptions, CallOptions {
  /** Where to begin, of the shape of B. Default 0. */
  start?: Vectors | undefined;
}

export interface InverseOperatorOptions extends SystemOptions {
  /** Whether a product that did not reach tol is an error. Default true. */
  requireConvergence?: boolean | undefined;
}

const SYSTEM_OPTIONS: { [K in keyof Required<SystemOptions>]: Check } = {
  method: check.oneOf("cg", "minres", "lsmr", "neumann"),
  damping: check.notNegative,
  tol: {
    expected: "a number above 0 and below 1",
    fits: (value) => (value as number) > 0 && (value as number) < 1,
  },
  maxProducts: check.positiveInteger,
  preconditioner: {
    expected: 'an operator or "nystrom"',
    fits: (value) => value === "nystrom" || value instanceof LinearOperator,
  },
  rank: check.positiveInteger,
  tikhonov: check.notNegative,
  scale: {
    expected: "a number above 0",
    fits: (value) => Number.isFinite(value) && (value as number) > 0,
  },
  seed: check.seed,
};

const block: Check = {
  expected: "a Float32Array or Float64Array",
  fits: (value) => /^Float(32|64)Array$/.test(typeName(value)),
};

const SOLVE_OPTIONS: { [K in keyof Required<SolveOptions>]: Check } = {
  ...SYSTEM_OPTIONS,
  ...CALL_OPTIONS,
  start: block,
};

const INVERSE_OPTIONS: { [K in keyof Required<InverseOperatorOptions>]: Check } = {
  ...SYSTEM_OPTIONS,
  requireConvergence: check.boolean,
};

/** Solutions of K systems with one operator. */
export interface Solution {
  /** K x dim, row-major, in the operator's dtype. */
  solution: Vectors;
  /** ||b - (A + damping I) x|| / ||b|| of each, from a fresh product; 0 where b is 0. */
  residuals: Float64Array;
  /** Whether every one reached tol. */
  converged: boolean;
  /** Why the first that did not failed; "" when converged. */
  reason: string;
  /**
   * For cg and neumann with damping: ||x - x*|| is at most this for each, x* being the solution for
   * the operator as its products are computed. It is the residual over damping, and holds where A is
   * positive semi-definite, as both methods suppose.
   */
  errorBounds?: Float64Array;
  /** lsmr: the gradient of the squares over ||A|| ||r|| for each; -1 where not measured. */
  optimality?: Float64Array;
  iterations: number[];
  /** Products with single vectors: iterations, residuals and preparation. */
  products: number;
  /** The same of the preconditioner. */
  preconditionerProducts: number;
  method: NonNullable<SystemOptions["method"]>;
  damping: number;
  /** The tolerance that was used. */
  tol: number;
  /** neumann: the scale that was used. */
  scale?: number;
  seconds: number;
}

/**
 * Solves (A + damping I) x = b for each of K right-hand sides side by side: an iteration of all that
 * have not converged is one block product.
 *
 * Running out of products, a tolerance below the operator's noise, or a system without a solution
 * is no error: `converged` is false then and `reason` says why; the solution is the best that was
 * measured. On scale: for c A and c damping the solution is 1 / c times as long.
 *
 * @param B K x dim numbers, row-major; converted to the operator's dtype
 * @throws OptionError when an option is out of range or not of the method, when cg meets negative
 * curvature, when a preconditioner is not positive definite, when `scale` is too small;
 * NotConvergedError when the Neumann series diverges; DataMismatchError when B, start or a product
 * is not finite, or a solution exceeds float32; AbortError; what the function of a
 * `linearOperator` throws
 */
export async function solve(
  operator: LinearOperator,
  B: Vectors,
  options: SolveOptions = {},
): Promise<Solution> {
  checkOperator("solve", operator);
  const checked = checkOptions("solve", options, SOLVE_OPTIONS);
  const { dim, dtype } = operator;
  const length = checkBlock("B", B, operator);
  if (checked.start !== undefined) {
    checkBlock("start", checked.start, operator);
    if (checked.start.length !== length)
      throw new OptionError(
        `solve: start: expected ${length} numbers, as B has, got ${checked.start.length}`,
      );
  }
  const begin = performance.now();
  const system = systemOptions("solve", operator, checked);
  const solution = roomFor(length, dim, dtype);
  const b = converted(B, dtype);
  const start = checked.start && converted(checked.start, dtype);
  const { errorBounds, optimality, scale, ...result } = await run(
    (onProgress) => operator.native.call("solve", { ...system, b, start, solution }, onProgress),
    checked,
  );
  return {
    solution,
    ...result,
    ...(errorBounds.length > 0 && { errorBounds }),
    ...(optimality.length > 0 && { optimality }),
    ...(scale > 0 && { scale }),
    method: checked.method ?? "cg",
    damping: system.damping,
    seconds: (performance.now() - begin) / 1000,
  };
}

/**
 * (A + damping I)^-1 as an operator of the same dimension, dtype and parameters, for every solver
 * and composition. A product solves a system, with as many products of A as that takes; blocks are
 * solved side by side. It is linear and symmetric to `tol` only (default 1e-11 in float64, 1e-5 in
 * float32), so a solver on top of it cannot be more accurate.
 *
 * What is prepared for the operator (a Nystrom sketch, the scale of a series) is made by the first
 * product and kept. Disposing of the operator, or of one that was composed of it, is as for other
 * compositions; progress counts products of the inverse.
 *
 * @throws OptionError as `solve`. Calls reject with a NotConvergedError when a product does not
 * reach tol, unless `requireConvergence` is false; else as `solve`
 */
export function inverse(
  operator: LinearOperator,
  options: InverseOperatorOptions = {},
): LinearOperator {
  checkOperator("inverse", operator);
  const { requireConvergence = true, ...checked } = checkOptions(
    "inverse",
    options,
    INVERSE_OPTIONS,
  );
  const tol = checked.tol ?? (operator.dtype === "float32" ? 1e-5 : 1e-11);
  const core = native().inverseOperator(operator.native, {
    ...systemOptions("inverse", operator, { ...checked, tol }),
    lenient: !requireConvergence,
  });
  const damped = checked.damping ? `${operator.name} + ${checked.damping} I` : operator.name;
  return new LinearOperator(core, `inverse of ${damped}`, operator.parameters);
}

function systemOptions(
  where: string,
  operator: LinearOperator,
  options: SystemOptions,
): NativeSystemOptions {
  const { preconditioner, rank } = options;
  const sketched = preconditioner === "nystrom";
  if (rank !== undefined && !sketched)
    throw new OptionError(
      `${where}: rank belongs to preconditioner "nystrom", got ${preconditioner ? "an operator" : "none"}`,
    );
  return {
    method: options.method ?? "cg",
    damping: options.damping ?? 0,
    tol: options.tol ?? 0,
    maxProducts: options.maxProducts ?? 0,
    preconditioner: sketched ? undefined : preconditioner?.native,
    rank: sketched ? (rank ?? Math.min(20, operator.dim)) : 0,
    tikhonov: options.tikhonov ?? 0,
    scale: options.scale ?? 0,
    seed: options.seed ?? 0,
  };
}

function checkOperator(where: string, operator: LinearOperator): void {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`${where}: expected an operator, got ${describe(operator)}`);
}

/** @returns the number of entries */
function checkBlock(name: string, B: Vectors, { dim, name: of }: LinearOperator): number {
  if (!block.fits(B))
    throw new OptionError(`solve: ${name}: expected ${block.expected}, got ${describe(B)}`);
  if (B.length === 0 || B.length % dim !== 0)
    throw new OptionError(
      `solve: ${name}: expected K times ${dim} numbers, the dimension of ${of}, got ${B.length}`,
    );
  return B.length;
}

function converted(B: Vectors, dtype: LinearOperator["dtype"]): Vectors {
  if (dtype === "float32") return typeName(B) === "Float32Array" ? B : Float32Array.from(B);
  return typeName(B) === "Float64Array" ? B : Float64Array.from(B);
}

function roomFor(length: number, dim: number, dtype: LinearOperator["dtype"]): Vectors {
  try {
    return vectors(dtype, length);
  } catch (cause) {
    throw new MemoryBudgetError(
      `solve: ${length / dim} solutions of dimension ${dim} do not fit into one array; ask for fewer`,
      { cause },
    );
  }
}
