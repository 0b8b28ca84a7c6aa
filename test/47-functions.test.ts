// Traces of functions, log-determinants and products with functions of an operator, against dense
// results.
import {
  functionProduct,
  linearOperator,
  logDeterminant,
  OptionError,
  type SpectralFunction,
  traceFunction,
} from "../lib";
import { rejection } from "./50-helpers";
import { errorOf, normals } from "./support/numbers";

const range = (n: number, f: (i: number) => number) =>
  Float64Array.from({ length: n }, (_, i) => f(i));
const total = (values: ArrayLike<number>) => Array.from(values).reduce((sum, x) => sum + x, 0);

/** Eigenvalues on the columns of a reflection, and f of it on a vector, in closed form. */
function reflected(values: Float64Array, dtype: "float32" | "float64" = "float64") {
  const n = values.length;
  const u = normals(5, n);
  const length = Math.hypot(...u);
  const reflect = (v: ArrayLike<number>) => {
    let inner = 0;
    for (let i = 0; i < n; i++) inner += (u[i]! / length) * v[i]!;
    return Float64Array.from(v, (x, i) => x - (2 * inner * u[i]!) / length);
  };
  const apply = (f: (x: number) => number, v: ArrayLike<number>) =>
    reflect(reflect(v).map((x, i) => x * f(values[i]!)));
  const operator = linearOperator(
    n,
    (V, count) => {
      for (let k = 0; k < count; k++) {
        const row = V.subarray(k * n, (k + 1) * n);
        row.set(apply((x) => x, row));
      }
      return V;
    },
    { dtype },
  );
  return { operator, apply };
}

const POSITIVE = range(300, (i) => 0.05 + ((i + 1) / 300) ** 2);
const INDEFINITE = range(200, (i) => (i % 2 ? 1 : -1) * (0.2 + i / 100));

const FUNCTIONS: Record<string, (x: number) => number> = {
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  inverse: (x) => 1 / x,
  "inverse-sqrt": (x) => 1 / Math.sqrt(x),
  abs: Math.abs,
  sign: Math.sign,
};

test.each(Object.entries(FUNCTIONS))("tr %s(A) against the eigenvalues", async (name, f) => {
  const want = total(POSITIVE.map(f));
  const { operator } = reflected(POSITIVE);
  const options = { probes: 10, steps: 25, lowerBound: 0.05, upperBound: 1.1 };
  const found = await traceFunction(operator, name as SpectralFunction, options);
  const [low, high] = found.interval;
  expect(low).toBeLessThanOrEqual(want + 1e-9 * Math.abs(want));
  expect(high).toBeGreaterThanOrEqual(want - 1e-9 * Math.abs(want));
  expect(found.standardError).toBeLessThan(0.06 * Math.abs(want));
  expect(found.bounded).toBe(!["abs", "sign"].includes(name));
  expect(found.products).toBe(250);
  const own = await traceFunction(operator, f, { probes: 10, steps: 25 });
  expect(own.bounded).toBe(false);
  expect(own.value / found.value).toBeCloseTo(1, 4);
});

test.each(["exp", "log", "sqrt", "inverse", "inverse-sqrt"] as const)(
  "%s: bounds by Gauss and Radau hold for every probe after few steps",
  async (name) => {
    const f = FUNCTIONS[name]!;
    const few = { probes: 6, steps: 4, lowerBound: 0.05, upperBound: 1.1 };
    const { operator } = reflected(POSITIVE);
    const found = await traceFunction(operator, name, few);
    const exact = await traceFunction(operator, f, { probes: 6, steps: 120 });
    expect(found.bounded).toBe(true);
    expect(found.quadratureError).toBeGreaterThan(0);
    const mean = total(exact.samples) / 6;
    expect(Math.abs(found.value - mean)).toBeLessThanOrEqual(found.quadratureError * (1 + 1e-9));
  },
);

test("the interval holds the truth in 90 to 99 of 100 seeds", async () => {
  const values = range(80, (i) => 1 / (1 + i));
  const operator = linearOperator(80, (V) => V.map((x, i) => x * values[i % 80]!));
  const want = total(values.map(Math.sqrt));
  let held = 0;
  for (let seed = 0; seed < 200; seed++) {
    const options = { seed, probes: 8, steps: 30, probeType: "gaussian" } as const;
    const { interval } = await traceFunction(operator, "sqrt", options);
    if (interval[0] <= want && want <= interval[1]) held++;
  }
  expect(held).toBeGreaterThanOrEqual(180);
  expect(held).toBeLessThanOrEqual(198);
});

test("log-determinants with damping; exact where the spectrum is known", async () => {
  const values = range(40, (i) => (i < 30 ? i / 10 : 0));
  const { operator } = reflected(values);
  for (const damping of [1e-3, 0.1, 10]) {
    const want = total(values.map((x) => Math.log(x + damping)));
    const found = await logDeterminant(operator, { damping, probes: 12, lowerBound: 0 });
    expect(found.interval[0]).toBeLessThanOrEqual(want + 1e-9);
    expect(found.interval[1]).toBeGreaterThanOrEqual(want - 1e-9);
    expect(found.bounded).toBe(true);
  }
  const distinct = range(25, (i) => 1 + i / 7);
  const all = await logDeterminant(reflected(distinct).operator, { probes: 1 });
  expect(all.complete).toBe(true);
  expect(all.value).toBeCloseTo(total(distinct.map(Math.log)), 9);
  expect(all.standardError).toBe(0);
  // log det(c A) = dim log c + log det A.
  for (const factor of [1e-12, 1e12]) {
    const scaled = await logDeterminant(reflected(distinct.map((x) => x * factor)).operator);
    expect(scaled.value - 25 * Math.log(factor)).toBeCloseTo(all.value, 8);
  }
});

test("eigenvalues outside the domain are an error that names them", async () => {
  const { operator } = reflected(INDEFINITE);
  const negative = await rejection(logDeterminant(operator));
  expect(negative).toBeInstanceOf(OptionError);
  expect(negative.message).toMatch(
    /logDeterminant: expected eigenvalues that are positive, as log asks for, and a Ritz value is -\S+; raise damping/,
  );
  expect((await rejection(logDeterminant(operator, { damping: 0.5 }))).message).toContain(
    "a Ritz value + 0.5 is -",
  );
  const singular = reflected(range(40, (i) => (i < 5 ? 1 + i : 0))).operator;
  expect((await rejection(logDeterminant(singular))).message).toContain("is 0 up to rounding");
  expect((await rejection(traceFunction(singular, "inverse"))).message).toContain(
    "that are not 0, as inverse asks for",
  );
  expect((await traceFunction(singular, "sqrt")).value).toBeGreaterThan(5);
  expect((await rejection(traceFunction(operator, "sqrt"))).message).toContain(
    "shift the operator, A.shift(damping)",
  );
  expect((await rejection(traceFunction(operator, (x) => Math.log(x)))).message).toContain(
    "f: expected a finite number at -",
  );
  expect((await rejection(traceFunction(operator, "cosine" as "exp"))).message).toContain(
    'f: expected a function of a number, or one of "exp", "log"',
  );
  expect((await rejection(traceFunction(operator, "exp", { lowerBound: 0 }))).message).toContain(
    "lowerBound: expected a bound of all eigenvalues",
  );
  const v = normals(1, 200);
  for (const [name, text] of [
    ["log", "log needs a positive definite operator, and a Ritz value is -"],
    ["sqrt", "sqrt needs a positive semi-definite operator"],
    ["inverse-sqrt", "inverse-sqrt needs a positive definite operator"],
  ] as const)
    expect((await rejection(functionProduct(operator, name, v))).message).toContain(text);
  const w = normals(1, 40);
  expect((await rejection(functionProduct(singular, "inverse", w))).message).toContain(
    "inverse needs an invertible operator",
  );
});

test.each(Object.entries(FUNCTIONS))("%s(A) v against the closed form", async (name, f) => {
  const indefinite = ["exp", "abs", "sign", "inverse"].includes(name);
  for (const values of indefinite ? [POSITIVE, INDEFINITE] : [POSITIVE]) {
    const n = values.length;
    const { operator, apply } = reflected(values);
    const v = normals(3, 3 * n);
    const tol = 1e-7;
    const found = await functionProduct(operator, name as SpectralFunction, v, { tol });
    expect(found.reason).toBe("");
    expect(found.converged).toBe(true);
    expect(found.products).toBe(total(found.steps));
    for (let k = 0; k < 3; k++) {
      const want = apply(f, v.subarray(k * n, (k + 1) * n));
      const got = found.vectors.subarray(k * n, (k + 1) * n);
      const error = Math.hypot(...got.map((x, i) => x - want[i]!)) / Math.hypot(...want);
      expect(error).toBeLessThan(1e-6);
      expect(found.errors[k]!).toBeLessThanOrEqual(tol);
    }
    // The same by a function of ours, which takes every step.
    const steps = Math.max(...found.steps);
    const own = await functionProduct(operator, f, v, { steps, tol: 1e-6 });
    expect(errorOf(own.vectors, found.vectors)).toBeLessThan(1e-6);
    expect(own.products).toBe(3 * steps);
    expect(own.converged).toBe(true);
  }
});

test("the estimated error is above the error after any number of steps", async () => {
  const { operator, apply } = reflected(POSITIVE);
  const v = normals(8, 300);
  const want = apply(Math.log, v);
  for (const steps of [5, 10, 15, 20, 30]) {
    for (const f of ["log", Math.log] as const) {
      const found = await functionProduct(operator, f, v, { steps, tol: 1e-14 });
      const error = Math.hypot(...found.vectors.map((x, i) => x - want[i]!)) / Math.hypot(...want);
      expect(error).toBeLessThanOrEqual(found.errors[0]!);
      expect(error).toBeGreaterThan(1e-3 * found.errors[0]!);
      expect(found.converged).toBe(false);
      expect(found.reason).toContain(`${steps} steps were not enough`);
    }
  }
});

test("inverse: the residual is the one of the linear system", async () => {
  const { operator } = reflected(INDEFINITE);
  const v = normals(2, 200);
  const { vectors, residuals } = await functionProduct(operator, "inverse", v, {
    steps: 40,
    tol: 1e-12,
  });
  const product = await operator.apply(vectors);
  const off = Math.hypot(...product.map((x, i) => x - v[i]!));
  // Over the length of x and the largest Ritz value, about 2.19.
  expect(off / (Math.hypot(...vectors) * residuals[0]!)).toBeGreaterThan(2);
  expect(off / (Math.hypot(...vectors) * residuals[0]!)).toBeLessThan(2.2);
});

test("zero vectors, low rank, float32, one dimension", async () => {
  const { operator, apply } = reflected(range(60, (i) => (i < 3 ? i + 1 : 0)));
  const v = new Float64Array(120);
  v.set(normals(4, 60), 60);
  const found = await functionProduct(operator, "exp", v);
  expect(Math.max(...found.vectors.subarray(0, 60).map(Math.abs))).toBe(0);
  expect(errorOf(found.vectors.subarray(60), apply(Math.exp, v.subarray(60)))).toBeLessThan(1e-12);
  expect(found.steps[1]).toBeLessThanOrEqual(5);
  expect(found.errors[1]).toBe(0);
  const single = reflected(POSITIVE, "float32");
  const w = Float32Array.from(normals(4, 300));
  const root = await functionProduct(single.operator, "sqrt", w);
  expect(root.vectors).toBeInstanceOf(Float32Array);
  expect(root.converged).toBe(true);
  expect(errorOf(root.vectors, single.apply(Math.sqrt, w))).toBeLessThan(2e-5);
  const one = linearOperator(1, (V) => V.map((x) => 4 * x));
  expect((await functionProduct(one, "sqrt", Float64Array.of(3))).vectors[0]).toBeCloseTo(6, 14);
  expect((await functionProduct(one, (x) => x ** 3, Float64Array.of(3))).vectors[0]).toBeCloseTo(
    192,
    12,
  );
  expect((await traceFunction(one, "sqrt")).value).toBe(2);
});

test("a first iterate that vanishes by symmetry is no result", async () => {
  // The mean of +-lambda over a vector of ones is 0, and so is its square root.
  const values = range(60, (i) => (i % 2 ? 1 : -1) * (1 + (Math.floor(i / 2) % 5)));
  const A = linearOperator(60, (V) => V.map((x, i) => x * values[i % 60]!));
  const ones = new Float64Array(60).fill(1);
  expect(await rejection(functionProduct(A, "sqrt", ones))).toBeInstanceOf(OptionError);
  const { vectors, converged } = await functionProduct(A, "sign", ones);
  expect(converged).toBe(true);
  expect(errorOf(vectors, values.map(Math.sign))).toBeLessThan(1e-9);
});

test("wrong uses of products", async () => {
  const { operator } = reflected(POSITIVE);
  expect(
    (await rejection(functionProduct(operator, "exp", new Float64Array(299)))).message,
  ).toContain("v: expected a Float64Array of K times 300 numbers");
  expect(
    (await rejection(functionProduct(operator, "exp", new Float32Array(300)))).message,
  ).toContain("got a Float32Array of 300 entries");
  const v = normals(1, 300);
  expect((await rejection(functionProduct(operator, "exp", v, { steps: 0 }))).message).toContain(
    "steps: expected a whole number of at least 1, got 0",
  );
  expect(
    (await rejection(functionProduct(operator, "exp", v, { maxMemory: 1000 }))).message,
  ).toContain("raise the memory limit or lower steps");
});
