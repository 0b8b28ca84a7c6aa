/** Identities that a symmetry of the loss fulfils, as residuals on data. */
import { CALL_OPTIONS, type CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { parameterVector } from "../landscape/directions";
import type { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import { fisher, ggn, gradient, hessian, type OperatorOptions } from "../operators";
import { type Check, check, checkOptions } from "../options";
import { Random } from "../random";
import { dot, norm } from "../vectors";
import type { FamilyName } from "./families";
import type { SymmetryInstance } from "./instances";
import { type Symmetries, symmetries } from "./symmetries";

export interface VerifySymmetriesOptions
  extends CallOptions,
    Pick<OperatorOptions, "loss" | "threads" | "maxMemory"> {
  /** What to verify. Default: `symmetries` of the model, data and loss. */
  symmetries?: Symmetries | readonly SymmetryInstance[] | undefined;
  /** Of an instance with more generators so many random combinations are taken. Default 3. */
  combinations?: number | undefined;
  /** Residuals above it fail. Default 1e-9. */
  tol?: number | undefined;
  /** Of the combinations. Default 0. */
  seed?: number | bigint | undefined;
}

const OPTIONS: { [K in keyof Required<VerifySymmetriesOptions>]: Check } = {
  ...CALL_OPTIONS,
  loss: check.anything,
  threads: check.positiveInteger,
  maxMemory: check.positiveInteger,
  symmetries: check.anything,
  combinations: check.positiveInteger,
  tol: check.notNegative,
  seed: check.seed,
};

/** Residuals of one instance, the worst over its combinations; NaN where they are not defined. */
export interface VerifiedSymmetry {
  readonly instance: SymmetryInstance;
  /** |<g, v>| / (|g| |v|). */
  readonly gradient: number;
  /** |H v + (dv/dtheta)^T g| over |H v| + |(dv/dtheta)^T g| + h |v|, h of a random direction. */
  readonly hessian: number;
  /** |G v| / (h |v|) of the Gauss-Newton matrix. */
  readonly ggn: number;
  /** The same of the type-2 Fisher matrix. */
  readonly fisher: number;
  /** Sign flips: |g(S theta) - S g(theta)| / |g|. */
  readonly flip: number;
  /** The largest of them. */
  readonly residual: number;
  /** Within tol; an instance that is approximate passes always. */
  readonly passed: boolean;
}

export interface VerifiedFamily {
  readonly family: FamilyName;
  readonly instances: number;
  readonly dimension: number;
  readonly approximate: number;
  /** Of exact instances, the largest; NaN where there are none. */
  readonly residual: number;
  /** Of approximate instances, the largest; NaN where there are none. */
  readonly approximateResidual: number;
  readonly passed: boolean;
}

export interface SymmetryVerification {
  readonly passed: boolean;
  readonly tol: number;
  readonly instances: readonly VerifiedSymmetry[];
  readonly families: readonly VerifiedFamily[];
  /** Products with single vectors. */
  readonly products: number;
}

/** Vectors that go into one block of products. */
const BLOCK = 16;

/** Streams of one seed. */
const COMBINATIONS = 31;
const FLIPS = 32;
const DIRECTION = 33;

/**
 * The identities of symmetries on data, in float64: for a symmetry v(theta) of the loss L, <g, v> = 0
 * and H v + (dv/dtheta)^T g = 0 for gradient g and Hessian H, and G v = F v = 0 for the Gauss-Newton
 * and Fisher matrices, where the loss has them (Kunin et al., Neural Mechanics, 2021, for the three
 * classic families). All hold wherever the parameters are; one that does not means that the graph was
 * read wrongly, or that a product is wrong. Costs `combinations` products of each of three operators
 * for an instance, fewer where it has fewer generators, and a gradient for each index of sign flips.
 *
 * @throws OptionError; as `hessian`
 */
export async function verifySymmetries(
  model: Model,
  data: DataSet,
  options?: VerifySymmetriesOptions,
): Promise<SymmetryVerification> {
  const given = checkOptions("verifySymmetries", options, OPTIONS);
  const { combinations = 3, tol = 1e-9, seed = 0, signal, onProgress } = given;
  const { loss, threads, maxMemory } = given;
  const found = given.symmetries ?? symmetries(model, { data, loss });
  const instances = "instances" in found ? found.instances : found;
  const run: OperatorOptions = { loss, threads, maxMemory, precision: "float64" };
  const theta = parameterVector(model);
  const { gradient: g } = await gradient(model, data, { ...run, signal });

  const random = new Random(seed, COMBINATIONS);
  const tasks = instances.flatMap((instance, at) =>
    combined(instance, combinations, random).map((coefficients) => ({ at, coefficients })),
  );
  const residuals = instances.map(() => ({
    gradient: Number.NaN,
    hessian: Number.NaN,
    ggn: Number.NaN,
    fisher: Number.NaN,
    flip: Number.NaN,
  }));
  const worst = (at: number, name: keyof (typeof residuals)[number], value: number) => {
    const before = residuals[at]![name];
    residuals[at]![name] = Number.isNaN(before) ? value : Math.max(before, value);
  };
  let products = 0;
  const measure = makers(model, data, run);
  const begin = performance.now();
  const total = tasks.length * measure.length;
  for (const { name, make } of measure) {
    using operator = defined(make);
    if (!operator) continue;
    const scale = await typicalScale(operator, seed, signal);
    products++;
    for (let first = 0; first < tasks.length; first += BLOCK) {
      const block = tasks.slice(first, first + BLOCK);
      const vectors = block.map(({ at, coefficients }) =>
        instances[at]!.generator(theta, coefficients),
      );
      const V = new Float64Array(block.length * theta.length);
      vectors.forEach((vector, i) => {
        V.set(vector, i * theta.length);
      });
      const products_ = await operator.apply(V, { signal });
      products += block.length;
      onProgress?.({
        products,
        fraction: Math.min(1, products / total),
        seconds: (performance.now() - begin) / 1000,
      });
      block.forEach(({ at, coefficients }, i) => {
        const v = vectors[i]!;
        const length = norm(v);
        const Av = products_.subarray(i * theta.length, (i + 1) * theta.length);
        if (name === "hessian") {
          const response = instances[at]!.response(theta, coefficients, g);
          const sum = response.map((x, k) => x + Av[k]!);
          worst(at, name, ratio(norm(sum), norm(Av) + norm(response) + scale * length));
          worst(at, "gradient", ratio(Math.abs(dot(g, v)), norm(g) * length));
        } else worst(at, name, ratio(norm(Av), scale * length));
      });
    }
  }
  const flips = new Random(seed, FLIPS);
  for (const [at, instance] of instances.entries()) {
    if (instance.flips === 0) continue;
    const chosen = Array.from({ length: instance.flips }, () => flips.sign() > 0);
    chosen[0] = true;
    const flip = (x: Float64Array) => instance.flipped(x, (unit) => chosen[unit]!);
    using moved = model.withParameters(flip(theta));
    const there = await gradient(moved, data, { ...run, signal });
    const here = flip(g);
    const difference = there.gradient.map((x, k) => x - here[k]!);
    worst(at, "flip", ratio(norm(difference), norm(g)));
  }
  const verified = instances.map((instance, at): VerifiedSymmetry => {
    const all = residuals[at]!;
    const residual = Math.max(0, ...Object.values(all).filter((x) => !Number.isNaN(x)));
    const passed = instance.approximate !== undefined || residual <= tol;
    return { instance, ...all, residual, passed };
  });
  const families = byFamily(verified);
  return {
    passed: verified.every((each) => each.passed),
    tol,
    instances: verified,
    families,
    products,
  };
}

/** 0 over 0 is 0. */
const ratio = (part: number, whole: number) => (part === 0 ? 0 : part / whole);

/** Each generator, or random combinations of them. */
function combined(instance: SymmetryInstance, most: number, random: Random): Float64Array[] {
  const { dimension } = instance;
  if (dimension <= most)
    return Array.from({ length: dimension }, (_, i) => {
      const unit = new Float64Array(dimension);
      unit[i] = 1;
      return unit;
    });
  return Array.from({ length: most }, () =>
    Float64Array.from({ length: dimension }, () => random.uniform()),
  );
}

type Measure = "hessian" | "ggn" | "fisher";

function makers(
  model: Model,
  data: DataSet,
  run: OperatorOptions,
): { name: Measure; make: () => LinearOperator }[] {
  return [
    { name: "hessian", make: () => hessian(model, data, run) },
    { name: "ggn", make: () => ggn(model, data, run) },
    { name: "fisher", make: () => fisher(model, data, { ...run, type: "type-2" }) },
  ];
}

/** Undefined where the loss has no such matrix. */
function defined(make: () => LinearOperator): LinearOperator | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof OptionError) return undefined;
    throw error;
  }
}

/** |A u| / |u| of a random direction. */
async function typicalScale(
  operator: LinearOperator,
  seed: number | bigint,
  signal: AbortSignal | undefined,
): Promise<number> {
  const random = new Random(seed, DIRECTION);
  const direction = Float64Array.from({ length: operator.dim }, () => random.sign());
  return norm(await operator.apply(direction, { signal })) / norm(direction);
}

function byFamily(verified: readonly VerifiedSymmetry[]): VerifiedFamily[] {
  const names = [...new Set(verified.map(({ instance }) => instance.family))];
  return names.map((family) => {
    const own = verified.filter(({ instance }) => instance.family === family);
    const approximate = own.filter(({ instance }) => instance.approximate !== undefined);
    const exact = own.filter(({ instance }) => instance.approximate === undefined);
    const largest = (of: readonly VerifiedSymmetry[]) =>
      of.length > 0 ? Math.max(...of.map(({ residual }) => residual)) : Number.NaN;
    return {
      family,
      instances: own.length,
      dimension: own.reduce((sum, { instance }) => sum + instance.dimension, 0),
      approximate: approximate.length,
      residual: largest(exact),
      approximateResidual: largest(approximate),
      passed: own.every(({ passed }) => passed),
    };
  });
}
