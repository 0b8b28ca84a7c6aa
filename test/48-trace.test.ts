// Traces, diagonals and norms of the API: against closed forms, dense references and reference
// networks; errors of wrong uses.
import {
  diagonal,
  eigsh,
  exactDiagonal,
  frobeniusNorm,
  ggn,
  hessian,
  type LinearOperator,
  linearOperator,
  OptionError,
  schattenNorm,
  type TraceOptions,
  trace,
} from "../lib";
import { denseOperator, openCase, rejection, symmetric } from "./50-helpers";

const DIM = 60;
const MATRIX = symmetric(DIM);
const A = denseOperator(MATRIX, DIM);
const TRACE = Array.from({ length: DIM }, (_, i) => MATRIX[i * DIM + i]!).reduce((s, x) => s + x);

/** diag(1, 1/2, 1/3, ...), with signs that alternate. */
function harmonic(dim: number, dtype: "float32" | "float64", signs = true): LinearOperator {
  return linearOperator(
    dim,
    (V) => V.map((x, i) => (x * (signs && i % 2 ? -1 : 1)) / ((i % dim) + 1)) as typeof V,
    { dtype },
  );
}

const METHODS = ["xtrace", "hutchinson", "hutch++"] as const;

test.each(METHODS)(
  "%s finds the trace within its interval, and says what it did",
  async (method) => {
    const found = await trace(A, { method, products: 48 });
    expect(found.interval[0]).toBeLessThanOrEqual(TRACE);
    expect(found.interval[1]).toBeGreaterThanOrEqual(TRACE);
    expect(found.interval[0]).toBeLessThan(found.value);
    expect(found).toMatchObject({
      method,
      products: 48,
      converged: true,
      reason: "",
      warnings: [],
    });
    expect(found.samples).toBe({ xtrace: 24, hutchinson: 48, "hutch++": 16 }[method]);
    expect(found.standardError).toBeGreaterThan(0);
    expect(await trace(A, { method, products: 48 })).toMatchObject({ value: found.value });
    const other = await trace(A, { method, products: 48, seed: 7n });
    expect(other.value).not.toBe(found.value);
  },
);

test("as many products as the dimension are exact, for every method and by name", async () => {
  for (const options of [
    { products: DIM },
    { method: "hutchinson", products: 1000 },
    { method: "exact" },
    { tol: 1e-12 },
  ] satisfies TraceOptions[]) {
    const found = await trace(A, options);
    expect(found).toMatchObject({ method: "exact", samples: 0, converged: true });
    expect(Math.abs(found.value - TRACE)).toBeLessThan(1e-12);
    expect(found.interval[0]).toBeLessThanOrEqual(TRACE);
    expect(found.interval[1]).toBeGreaterThanOrEqual(TRACE);
  }
});

test.each(["float32", "float64"] as const)("a requested error is reached in %s", async (dtype) => {
  const operator = harmonic(3000, dtype);
  let truth = 0;
  for (let i = 0; i < 3000; i++) truth += (i % 2 ? -1 : 1) / (i + 1);
  for (const method of ["xtrace", "hutch++"] as const) {
    const found = await trace(operator, { method, tol: 0.02 });
    expect(found.converged).toBe(true);
    expect(found.standardError).toBeLessThanOrEqual(0.02 * found.scale);
    expect(Math.abs(found.value - truth)).toBeLessThan(4 * found.standardError);
  }
  const poor = await trace(operator, { tol: 1e-5, maxProducts: 64 });
  expect(poor.converged).toBe(false);
  expect(poor.products).toBeLessThanOrEqual(64);
  expect(poor.reason).toContain("64 products (maxProducts) were not enough");
  const absolute = await trace(operator, { standardError: 0.05 });
  expect(absolute.standardError).toBeLessThanOrEqual(0.05);
});

test("xnystrace takes the fewest products on semi-definite operators and refuses others", async () => {
  const G = harmonic(2000, "float64", false);
  const [nystrom, general] = await Promise.all([
    trace(G, { method: "xnystrace", products: 60 }),
    trace(G, { method: "xtrace", products: 60 }),
  ]);
  let truth = 0;
  for (let i = 1; i <= 2000; i++) truth += 1 / i;
  expect(nystrom.interval[0]).toBeLessThan(truth);
  expect(nystrom.interval[1]).toBeGreaterThan(truth);
  expect(nystrom.samples).toBe(60);
  expect(nystrom.standardError).toBeLessThan(general.standardError);
  const error = await rejection(trace(harmonic(2000, "float64"), { method: "xnystrace" }));
  expect(error).toBeInstanceOf(OptionError);
  expect(error.message).toContain("xnystrace needs a positive semi-definite operator");
  expect(error.message).toContain("use method xtrace");
});

test("known eigenpairs leave the rest to be estimated", async () => {
  const top = await eigsh(A, { k: 40 });
  const options = { method: "hutchinson", products: 50 } as const;
  const plain = await trace(A, options);
  const found = await trace(A, { ...options, known: top });
  expect(found.standardError).toBeLessThan(plain.standardError / 2);
  expect(Math.abs(found.value - TRACE)).toBeLessThan(4 * found.standardError);
  const { message } = await rejection(
    trace(A, { ...options, known: { values: top.values, vectors: new Float64Array(7) } }),
  );
  expect(message).toContain(`${40 * DIM} numbers`);
});

test("traces and diagonals of a network agree with those of its samples", async () => {
  const { model, data } = await openCase("mlp_relu");
  using G = ggn(model, data, { precision: "float64" });
  const exact = await exactDiagonal(G);
  expect(await trace(G, { method: "exact" })).toMatchObject({
    value: exact.trace,
    standardError: 0,
    products: 0,
    interval: [exact.trace, exact.trace],
  });
  for (const method of ["xtrace", "xnystrace", "hutch++"] as const) {
    const found = await trace(G, { method, tol: 0.01 });
    expect(found.converged).toBe(true);
    expect(Math.abs(found.value - exact.trace)).toBeLessThan(4 * found.standardError);
  }
  const sampled = await diagonal(G, { products: 64 });
  expect((await diagonal(G, { method: "exact" })).values).toEqual(exact.diagonal);
  let [errors, within] = [0, 0];
  for (let i = 0; i < G.dim; i++) {
    const error = Math.abs(sampled.values[i]! - exact.diagonal[i]!);
    errors += error ** 2;
    if (error <= 2 * sampled.standardErrors[i]!) within++;
  }
  expect(Math.sqrt(errors) / sampled.errorNorm).toBeGreaterThan(0.6);
  expect(Math.sqrt(errors) / sampled.errorNorm).toBeLessThan(1.5);
  expect(within / G.dim).toBeGreaterThan(0.9);
  // The norm from its entries' Gram matrix is that of the trace of the square.
  const norm = await frobeniusNorm(G, { tol: 0.01 });
  const top = await schattenNorm(G, Number.POSITIVE_INFINITY);
  const fourth = await schattenNorm(G, 4, { tol: 0.01 });
  expect(norm.value).toBeGreaterThan(fourth.value);
  expect(fourth.value).toBeGreaterThan(top.value * 0.99);
  expect(norm.value).toBeLessThan(exact.trace);
});

test("what is a sum over few rows a sample is exact, unless sampling is asked for", async () => {
  const { model, data } = await openCase("mlp_relu");
  using G = ggn(model, data, { precision: "float64" });
  expect(await trace(G)).toMatchObject({ method: "samples", standardError: 0 });
  expect(await diagonal(G)).toMatchObject({ method: "samples", errorNorm: 0 });
  expect(await trace(G, { products: 20 })).toMatchObject({ method: "xtrace" });
  expect(await diagonal(G, { products: 20 })).toMatchObject({ method: "xdiag" });
  expect((await rejection(trace(G, { method: "exact", tol: 0.1 }))).message).toBe(
    "trace: tol does not apply here, got 0.1",
  );
  using H = hessian(model, data);
  expect(await trace(H, { products: 20 })).toMatchObject({ method: "xtrace" });
});

test("diagonals: exact by unit vectors, sampled with errors, zero and small operators", async () => {
  const exact = await diagonal(A, { method: "exact" });
  expect(exact).toMatchObject({ method: "exact", products: DIM, errorNorm: 0, converged: true });
  for (let i = 0; i < DIM; i++) expect(exact.values[i]).toBeCloseTo(MATRIX[i * DIM + i]!, 14);
  expect(await diagonal(A)).toMatchObject({ method: "exact" });
  for (const method of ["xdiag", "hutchinson"] as const) {
    const found = await diagonal(A, { method, products: 50 });
    expect(found.method).toBe(method);
    let wrong = 0;
    for (let i = 0; i < DIM; i++)
      if (Math.abs(found.values[i]! - exact.values[i]!) > 4 * found.standardErrors[i]!) wrong++;
    expect(wrong).toBeLessThan(DIM / 20);
    const zero = await diagonal(
      linearOperator(500, (V) => V.fill(0)),
      { method },
    );
    expect(zero).toMatchObject({ norm: 0, errorNorm: 0, converged: true });
  }
  const one = linearOperator(1, (V) => V.map((x) => 3 * x) as typeof V);
  expect((await trace(one)).value).toBe(3);
  expect(Array.from((await diagonal(one)).values)).toEqual([3]);
});

test("norms: exact, sampled, spectral and nuclear", async () => {
  const { values } = await eigsh(A, { k: DIM });
  const schatten = (p: number) =>
    Array.from(values).reduce((sum, x) => sum + Math.abs(x) ** p, 0) ** (1 / p);
  const exact = await frobeniusNorm(A, { method: "exact" });
  expect(exact.value / schatten(2)).toBeCloseTo(1, 12);
  for (const p of [2, 4, 6]) {
    const found = await schattenNorm(A, p, { method: "xtrace", products: 20 * p });
    expect(found.method).toBe("xtrace");
    expect(found.interval[0]).toBeLessThanOrEqual(schatten(p));
    expect(found.interval[1]).toBeGreaterThanOrEqual(schatten(p));
  }
  // A is indefinite, and |x| has a corner at 0.
  for (const p of [1, 1.5, 3, 7]) {
    const found = await schattenNorm(A, p);
    expect(found.method).toBe("slq");
    expect(found.interval[0]).toBeLessThanOrEqual(schatten(p) * (1 + 1e-12));
    expect(found.interval[1]).toBeGreaterThanOrEqual(schatten(p) * (1 - 1e-12));
    expect(found.value / schatten(p)).toBeCloseTo(1, 1);
    const tiny = await schattenNorm(A.scale(1e-12), p);
    expect(tiny.value / found.value).toBeCloseTo(1e-12, 20);
  }
  const spectral = await schattenNorm(A, Number.POSITIVE_INFINITY);
  const largest = Math.max(...Array.from(values, Math.abs));
  expect(spectral.interval[0]).toBeLessThanOrEqual(largest);
  expect(spectral.interval[1]).toBeGreaterThanOrEqual(largest);
  const psd = harmonic(500, "float64", false);
  let truth = 0;
  for (let i = 1; i <= 500; i++) truth += 1 / i;
  const nuclear = await schattenNorm(psd, 1, { tol: 0.005 });
  expect(Math.abs(nuclear.value - truth)).toBeLessThan(4 * nuclear.standardError);
});

const WRONG: [() => Promise<unknown>, string][] = [
  [() => trace([] as never), "trace: expected an operator, got an array of 0 entries"],
  [() => trace(A, { method: "xdiag" as never }), 'method: expected one of "xtrace", "hutchinson"'],
  [() => trace(A, { tol: -1 }), "trace: tol: expected a number of at least 0, got -1"],
  [() => trace(A, { products: 0 }), "products: expected a whole number of at least 1, got 0"],
  [() => trace(A, { products: 3 }), "products: expected at least 4 for method xtrace"],
  [() => trace(A, { products: 30, tol: 0.1 }), "trace: products says what to spend"],
  [() => trace(A, { method: "exact", maxProducts: 9 }), "method exact takes 60 products"],
  [() => trace(A, { known: { values: [1] } as never }), "known: expected eigenpairs"],
  [() => trace(A, { maxproducts: 1 } as never), '"maxProducts" was probably meant'],
  [() => diagonal(A, { method: "xtrace" as never }), 'one of "xdiag", "hutchinson", "exact"'],
  [() => diagonal(A, { products: 4 }), "diagonal: products: expected at least 6 for method xdiag"],
  [() => schattenNorm(A, 0.5), "p: expected a number from 1 to 64, or Infinity, got 0.5"],
  [() => schattenNorm(A, 3, { tol: 0.1 }), "schattenNorm: tol does not apply here, got 0.1"],
  [() => schattenNorm(A, 3, { products: 100 }), "products: expected at least 128"],
  [() => schattenNorm(A, 1, { products: 30 }), "leave them out for the nuclear norm by quadrature"],
  [() => schattenNorm(A, 1, { method: "hutchinson" }), "p = 1 is found by xnystrace"],
  [
    () => schattenNorm(A, Number.POSITIVE_INFINITY, { products: 9 }),
    "schattenNorm: p = Infinity: products does not apply here, got 9",
  ],
  [() => frobeniusNorm(A, { products: 2 }), "frobeniusNorm: products: expected at least 4"],
];

test.each(WRONG.map(([call, message]) => [message, call] as const))(
  "wrong use: %s",
  async (message, call) => {
    const error = await rejection(call());
    expect(error).toBeInstanceOf(OptionError);
    expect(error.message).toContain(message);
  },
);

test("calls can be aborted and report how far they are", async () => {
  const abort = new AbortController();
  let seen = 0;
  const slow = linearOperator(500, async (V) => {
    await new Promise((done) => setTimeout(done, 5));
    return V;
  });
  const call = trace(slow, {
    method: "hutchinson",
    products: 400,
    blockSize: 1,
    signal: abort.signal,
    onProgress: ({ products }) => {
      seen = products;
      abort.abort();
    },
  });
  expect((await rejection(call)).name).toBe("AbortError");
  expect(seen).toBeGreaterThan(0);
});
