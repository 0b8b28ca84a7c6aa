/** Sharpness of a minimum by several measures, and how each behaves under reparametrisation. */
import type { Uncertain } from "../anisotropy/estimated";
import { CALL_OPTIONS, type CallOptions, run as call } from "../call";
import type { DataSet } from "../data/data";
import { exactDiagonal } from "../exact";
import { jacobian } from "../jacobian";
import { parameterVector } from "../landscape/directions";
import { type LinearOperator, linearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import { unitIndices, unitsOf } from "../model/units";
import { native, type Vectors } from "../native";
import { checkSubject, gradient, lossOf, type OperatorOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { eigsh } from "../spectra";
import { trace } from "../trace";
import { dot, norm } from "../vectors";
import { sampleOutputs } from "./outputs";
import {
  CURVATURES,
  type CurvatureName,
  certainly,
  curvatureName,
  OPERATOR_OPTIONS,
} from "./quantities";

export interface SharpnessOptions extends Omit<OperatorOptions, "params" | "exclude">, CallOptions {
  /** The matrix of eigenvalues and traces. Default "hessian". */
  curvature?: CurvatureName | undefined;
  /** Radius of the ball. Default 0.05. */
  rho?: number | undefined;
  /** Radius of the ball that is scaled by the weights. Default 0.5. */
  adaptiveRho?: number | undefined;
  /** Steps of projected gradient ascent beyond the first-order one. Default 5. */
  ascent?: number | undefined;
  /** Products for a trace that is not exact. Default 64. */
  products?: number | undefined;
  /** Default 0. */
  seed?: number | bigint | undefined;
  /** What the target array is called. Default "y". */
  target?: string | undefined;
}

const { params: _params, exclude: _exclude, ...RUN } = OPERATOR_OPTIONS;

const OPTIONS: { [K in keyof Required<SharpnessOptions>]: Check } = {
  ...RUN,
  ...CALL_OPTIONS,
  curvature: curvatureName,
  rho: check.notNegative,
  adaptiveRho: check.notNegative,
  ascent: check.naturalNumber,
  products: check.positiveInteger,
  seed: check.seed,
  target: check.anything,
};

/** How coordinates are scaled: e = T u, with a ball ||u|| <= rho. */
export type Scaling = "none" | "weights" | "filters";

/** How much the loss rises in a ball. */
export interface BallSharpness {
  readonly rho: number;
  /** rho ||T g||: what the gradient predicts (Foret et al. 2021). */
  readonly firstOrder: number;
  /** The rise at the point that the gradient points to, rho T^2 g / ||T g||. */
  readonly measured: number;
  /** The largest rise that was found: there, at +-rho times the top eigenvector, and by ascent. */
  readonly largest: number;
  /** rho^2 lambda_max / 2: what the curvature predicts where the gradient is 0. */
  readonly secondOrder: number;
}

export interface ScaledSharpness {
  readonly scaling: Scaling;
  /** Largest eigenvalue of T A T. */
  readonly lambdaMax: Uncertain;
  /** tr(T A T), and over P. */
  readonly trace: Uncertain;
  readonly meanCurvature: Uncertain;
  readonly ball: BallSharpness;
  /** What leaves the number unchanged, in words. */
  readonly invariance: string;
}

/** theta^T F theta. */
export interface FisherRaoNorm {
  /** With the type-2 Fisher matrix or GGN. */
  readonly value: number;
  /**
   * The degree c of homogeneity of the network, by least squares of J theta = c f; undefined for
   * losses that are not known in the outputs.
   */
  readonly degree: number | undefined;
  /** ||J theta - c f|| / ||J theta||: 0 for networks without biases. */
  readonly residual: number | undefined;
  /** c^2 mean f^T S f, the same number where the residual is 0 (Liang et al. 2019). */
  readonly identity: number | undefined;
}

export interface Sharpness {
  readonly curvature: CurvatureName;
  readonly dim: number;
  readonly samples: number;
  readonly loss: number;
  readonly gradientNorm: number;
  readonly scaled: Readonly<Record<Scaling, ScaledSharpness>>;
  readonly fisherRao: FisherRaoNorm;
  readonly converged: boolean;
  readonly warnings: readonly string[];
  readonly seconds: number;
}

/** What each measure is invariant under. */
const INVARIANCE: Record<Scaling, string> = {
  none: "rotations of the parameters; changes when weights are rescaled, though the network does not",
  weights: "rescaling of units and layers that leaves the network unchanged; not rotations",
  filters: "rescaling of whole layers that leaves the network unchanged",
};

const WHERE = "sharpness";

/** T, a positive factor a parameter. */
export function scalingOf(model: Model, scaling: Scaling): Float64Array {
  const theta = parameterVector(model);
  if (scaling === "none") return theta.fill(1);
  if (scaling === "weights") return theta.map(Math.abs);
  const factors = new Float64Array(theta.length);
  for (const tensor of model.parameters) {
    const { shape, offset, size } = tensor;
    const filters =
      shape.length >= 2
        ? Array.from({ length: unitsOf(tensor) }, (_, unit) => unitIndices(tensor, unit))
        : [Array.from({ length: size }, (_, i) => offset + i)];
    for (const indices of filters) {
      const squares = indices.reduce((sum, i) => sum + theta[i]! ** 2, 0);
      for (const i of indices) factors[i] = Math.sqrt(squares / indices.length);
    }
  }
  return factors;
}

/**
 * How sharp the loss is around a model's parameters: largest eigenvalue and trace of a curvature
 * matrix A, and the rise of the loss in a ball (the objective of SAM), each plain, scaled by the
 * weights (T = |w|, adaptive sharpness: Kwon et al. 2021) and by filters (T = root mean square of the
 * weights into a unit; ours, after Li et al. 2018), as T A T; and the Fisher-Rao norm.
 *
 * Costs per scaling one eigenpair, a trace (exact for GGN and Fisher matrices) and 4 + 2 ascent
 * evaluations of the loss or its gradient. The largest rise in a ball is a lower bound of the
 * maximum.
 *
 * @throws as `hessian`; AbortError
 */
export async function sharpness(
  model: Model,
  data: DataSet,
  options: SharpnessOptions = {},
): Promise<Sharpness> {
  const begin = performance.now();
  const checked = checkOptions(WHERE, options, OPTIONS);
  checkSubject(WHERE, model, data);
  const {
    curvature = "hessian",
    rho = 0.05,
    adaptiveRho = 0.5,
    ascent = 5,
    products = 64,
  } = checked;
  const { seed = 0, target, signal, onProgress, loss, ...run } = checked;
  const { precision, threads, batch, maxMemory, keepLinearisation } = run;
  const settings = { precision, threads, batch, maxMemory, keepLinearisation, loss };
  const here = await gradient(model, data, { ...settings, signal });
  using operator = CURVATURES[curvature](model, data, settings);
  const exact = operator.native.sumsRows
    ? (await exactDiagonal(operator, { signal, onProgress })).diagonal
    : undefined;
  const warnings: string[] = [];
  let converged = true;
  const scaled = {} as Record<Scaling, ScaledSharpness>;
  for (const scaling of ["none", "weights", "filters"] as const) {
    const factors = scalingOf(model, scaling);
    using view = scaling === "none" ? undefined : scaledOperator(operator, factors);
    const matrix = view ?? operator;
    const top = await eigsh(matrix, { k: 1, which: "LA", seed, signal, onProgress });
    if (!top.converged) {
      converged = false;
      warnings.push(`the largest eigenvalue (${scaling}) is not converged: ${top.reason}`);
    }
    const total = exact
      ? certainly(exact.reduce((sum, x, i) => sum + x * factors[i]! ** 2, 0))
      : await sampledTrace(matrix, products, seed, signal);
    const P = operator.dim;
    const { low, high } = top.intervals[0]!;
    scaled[scaling] = {
      scaling,
      lambdaMax: {
        value: top.values[0]!,
        standardError: top.residuals[0]!,
        interval: [low, high],
      },
      trace: total,
      meanCurvature: {
        value: total.value / P,
        standardError: total.standardError / P,
        interval: [total.interval[0] / P, total.interval[1] / P],
      },
      ball: await ballOf(model, data, settings, {
        ...{ rho: scaling === "none" ? rho : adaptiveRho, factors, ascent, here, signal },
        top: Float64Array.from(top.vector(0)),
        lambdaMax: top.values[0]!,
      }),
      invariance: INVARIANCE[scaling],
    };
  }
  const fisherRao = await fisherRaoNorm(model, data, settings, target, signal);
  return {
    ...{ curvature, dim: operator.dim, samples: data.samples, loss: here.loss },
    ...{ gradientNorm: here.norm, scaled, fisherRao, converged, warnings },
    seconds: (performance.now() - begin) / 1000,
  };
}

async function sampledTrace(
  matrix: LinearOperator,
  products: number,
  seed: number | bigint,
  signal: AbortSignal | undefined,
): Promise<Uncertain> {
  const { value, standardError, interval } = await trace(matrix, { products, seed, signal });
  return { value, standardError, interval: [interval[0], interval[1]] };
}

/** T A T. */
function scaledOperator(operator: LinearOperator, factors: Float64Array): LinearOperator {
  const { dim, dtype } = operator;
  const multiply = (block: Vectors) => {
    for (let i = 0; i < block.length; i++) block[i]! *= factors[i % dim]!;
    return block;
  };
  return linearOperator(
    dim,
    async (block) => multiply((await operator.apply(multiply(block))) as Vectors),
    { dtype, name: `scaled ${operator.name}` },
  );
}

interface Ball {
  rho: number;
  factors: Float64Array;
  ascent: number;
  here: { loss: number; gradient: Float64Array };
  top: Float64Array;
  lambdaMax: number;
  signal: AbortSignal | undefined;
}

type Settings = Pick<OperatorOptions, "precision" | "threads" | "batch" | "maxMemory" | "loss">;

async function ballOf(
  model: Model,
  data: DataSet,
  settings: Settings,
  { rho, factors, ascent, here, top, lambdaMax, signal }: Ball,
): Promise<BallSharpness> {
  const scaledSlope = here.gradient.map((x, i) => x * factors[i]!);
  const length = norm(scaledSlope);
  const at = (u: Float64Array, withGradient: boolean) =>
    risk(
      model,
      data,
      settings,
      u.map((x, i) => x * factors[i]!),
      withGradient,
      signal,
    );
  const onSphere = (u: Float64Array) => {
    const size = norm(u);
    return size === 0 ? u : u.map((x) => (rho * x) / size);
  };
  let u = onSphere(length > 0 ? scaledSlope : top);
  const first = await at(u, ascent > 0);
  const measured = first.loss - here.loss;
  let largest = measured;
  let best = u;
  for (const sign of [1, -1]) {
    const there = onSphere(top.map((x) => sign * x));
    const rise = (await at(there, false)).loss - here.loss;
    if (rise > largest) [largest, best] = [rise, there];
  }
  u = best;
  for (let step = 0; step < ascent; step++) {
    const { gradient: slope } = await at(u, true);
    if (!slope || norm(slope) === 0) break;
    // For a convex loss the next point of this map is never lower.
    u = onSphere(slope.map((x, i) => x * factors[i]!));
    const rise = (await at(u, false)).loss - here.loss;
    if (!(rise > largest)) break;
    largest = rise;
  }
  return {
    ...{ rho, firstOrder: rho * length, measured, largest },
    secondOrder: (rho * rho * lambdaMax) / 2,
  };
}

/** Loss, and gradient where it is wanted, at the parameters plus a direction. */
async function risk(
  model: Model,
  data: DataSet,
  { loss, ...run }: Settings,
  direction: Float64Array,
  withGradient: boolean,
  signal: AbortSignal | undefined,
): Promise<{ loss: number; gradient: Float64Array | undefined }> {
  const slope = withGradient ? new Float64Array(direction.length) : undefined;
  const spec = lossOf(WHERE, model, loss);
  const found = await call(
    () =>
      native().evaluateRisk(
        model.native,
        data.native,
        spec,
        { ...run, direction, step: 1 },
        slope,
        undefined,
      ),
    { signal },
  );
  return { loss: found.loss, gradient: slope };
}

async function fisherRaoNorm(
  model: Model,
  data: DataSet,
  settings: Settings,
  target: string | undefined,
  signal: AbortSignal | undefined,
): Promise<FisherRaoNorm> {
  const theta = parameterVector(model);
  using matrix = CURVATURES.ggn(model, data, { ...settings, precision: "float64" });
  const moved = await matrix.apply(theta, { signal });
  const value = theta.reduce((sum, x, i) => sum + x * moved[i]!, 0);
  const unknown = { value, degree: undefined, residual: undefined, identity: undefined };
  const all = await sampleOutputs(WHERE, model, data, { ...settings, target, signal }).catch(
    () => undefined,
  );
  if (!all) return unknown;
  using J = await jacobian(model, data, { ...settings, precision: "float64", signal });
  if (J.rows !== all.outputs.length) return unknown;
  const along = Float64Array.from(await J.product(theta, { signal }));
  const { outputs: f, samples, width } = all;
  const degree = dot(along, f) / dot(f, f);
  const residual = norm(along.map((x, i) => x - degree * f[i]!)) / norm(along);
  let sum = 0;
  for (let n = 0; n < samples; n++) {
    const out = f.subarray(n * width, (n + 1) * width);
    const S = all.loss.curvature(out, all.targets.subarray(n * width, (n + 1) * width));
    for (let i = 0; i < width; i++)
      for (let j = 0; j < width; j++) sum += out[i]! * S[i * width + j]! * out[j]!;
  }
  return { value, degree, residual, identity: (degree ** 2 * sum) / samples };
}
