// Linear systems and inverses through the API: against elimination, closed forms and networks.
import {
  eigsh,
  ggn,
  gradient,
  hessian,
  inverse,
  type LinearOperator,
  linearOperator,
  NotConvergedError,
  OptionError,
  type SolveOptions,
  solve,
  trace,
} from "../lib";
import {
  dense,
  denseOperator,
  openCase,
  rejection,
  relative,
  tinyProblem,
  vector,
} from "./50-helpers";

const METHODS = ["cg", "minres", "lsmr", "neumann"] as const;

/** Gaussian elimination with pivoting, for several right-hand sides. */
function eliminate(A: Float64Array, dim: number, B: ArrayLike<number>): Float64Array {
  const M = A.slice();
  const X = Float64Array.from(B);
  const count = X.length / dim;
  for (let j = 0; j < dim; j++) {
    let pivot = j;
    for (let i = j + 1; i < dim; i++)
      if (Math.abs(M[i * dim + j]!) > Math.abs(M[pivot * dim + j]!)) pivot = i;
    for (let l = 0; l < dim; l++)
      [M[j * dim + l], M[pivot * dim + l]] = [M[pivot * dim + l]!, M[j * dim + l]!];
    for (let k = 0; k < count; k++)
      [X[k * dim + j], X[k * dim + pivot]] = [X[k * dim + pivot]!, X[k * dim + j]!];
    for (let i = j + 1; i < dim; i++) {
      const factor = M[i * dim + j]! / M[j * dim + j]!;
      if (factor === 0) continue;
      for (let l = j; l < dim; l++) M[i * dim + l]! -= factor * M[j * dim + l]!;
      for (let k = 0; k < count; k++) X[k * dim + i]! -= factor * X[k * dim + j]!;
    }
  }
  for (let k = 0; k < count; k++)
    for (let i = dim - 1; i >= 0; i--) {
      for (let l = i + 1; l < dim; l++) X[k * dim + i]! -= M[i * dim + l]! * X[k * dim + l]!;
      X[k * dim + i]! /= M[i * dim + i]!;
    }
  return X;
}

/** A reflection of a diagonal matrix: eigenvalues that are known, eigenvectors that are not unit. */
function withSpectrum(values: readonly number[]): Float64Array {
  const dim = values.length;
  const u = vector(dim, 0.4);
  const norm = Math.hypot(...u);
  const q = (i: number, j: number) => (i === j ? 1 : 0) - (2 * u[i]! * u[j]!) / norm ** 2;
  return Float64Array.from({ length: dim * dim }, (_, n) => {
    const [i, j] = [Math.floor(n / dim), n % dim];
    return values.reduce((sum, value, l) => sum + q(i, l) * value * q(l, j), 0);
  });
}

function identity(dim: number): Float64Array {
  return Float64Array.from({ length: dim * dim }, (_, n) => (n % (dim + 1) === 0 ? 1 : 0));
}

async function matrixOf(operator: LinearOperator): Promise<Float64Array> {
  const I = identity(operator.dim);
  const V = operator.dtype === "float32" ? Float32Array.from(I) : I;
  return Float64Array.from(await operator.apply(V));
}

const DIM = 24;
const VALUES = Array.from({ length: DIM }, (_, i) => 0.3 + 0.2 * i);
const A = withSpectrum(VALUES);
const operatorA = denseOperator(A, DIM);
const B = vector(3 * DIM, 1);

test.each(METHODS)("%s: three systems at once, as by elimination", async (method) => {
  const damping = 0.5;
  const damped = A.map((x, n) => x + (n % (DIM + 1) === 0 ? damping : 0));
  const result = await solve(operatorA, B, { method, damping, tol: 1e-11 });
  expect(result.converged).toBe(true);
  expect(result.reason).toBe("");
  expect(relative(result.solution, eliminate(damped, DIM, B))).toBeLessThan(1e-9);
  expect(result).toMatchObject({ method, damping, tol: 1e-11, preconditionerProducts: 0 });
  expect(result.residuals.length).toBe(3);
  expect(Math.max(...result.residuals)).toBeLessThanOrEqual(1e-11);
  expect(result.iterations).toHaveLength(3);
  expect("errorBounds" in result).toBe(method === "cg" || method === "neumann");
  expect("optimality" in result).toBe(method === "lsmr");
  expect("scale" in result).toBe(method === "neumann");
});

test("products come in blocks of all right-hand sides that have not converged", async () => {
  const widths: number[] = [];
  const counting = linearOperator(DIM, (V, count) => {
    widths.push(count);
    return dense(A, DIM, V, count);
  });
  const easy = B.slice();
  easy.fill(0, 0, DIM); // the first system is solved by 0
  const result = await solve(counting, easy, { tol: 1e-8 });
  expect(result.converged).toBe(true);
  expect(Math.max(...widths)).toBe(2);
  expect(widths.reduce((sum, width) => sum + width, 0)).toBe(result.products);
  expect(widths.length).toBeLessThan(result.products);
  expect(result.residuals[0]).toBe(0);
  expect(result.solution.slice(0, DIM).every((x) => x === 0)).toBe(true);
});

test.each([1e-12, 1, 1e12])("systems scale: c = %d", async (c) => {
  const scaled = operatorA.scale(c);
  for (const method of METHODS) {
    const plain = await solve(operatorA, B, { method, damping: 0.1, tol: 1e-9 });
    const result = await solve(scaled, B, { method, damping: 0.1 * c, tol: 1e-9 });
    result.iterations.forEach((n, k) => {
      expect(Math.abs(n - plain.iterations[k]!)).toBeLessThanOrEqual(2);
    });
    expect(
      relative(
        result.solution.map((x) => x * c),
        plain.solution,
      ),
    ).toBeLessThan(1e-8);
  }
});

test("leave-one-out residuals of a regression, from its leverages", async () => {
  const J = [
    [1, 0],
    [1, 1],
    [1, 2],
    [1, 3],
  ];
  const y = [0, 1, 1, 3];
  const gram = Float64Array.from([0, 1, 2, 3], (n) =>
    J.reduce((sum, row) => sum + row[n >> 1]! * row[n & 1]!, 0),
  );
  const normal = denseOperator(gram, 2);
  const moments = Float64Array.from([0, 1], (j) =>
    J.reduce((sum, row, i) => sum + row[j]! * y[i]!, 0),
  );
  for (const method of METHODS) {
    const options: SolveOptions = { method, tol: 1e-12 };
    const beta = (await solve(normal, moments, options)).solution;
    const columns = (await solve(normal, Float64Array.from(J.flat()), options)).solution;
    const leverage = J.map((row, i) => row[0]! * columns[2 * i]! + row[1]! * columns[2 * i + 1]!);
    const residual = J.map((row, i) => y[i]! - row[0]! * beta[0]! - row[1]! * beta[1]!);
    expect(relative(leverage, [0.7, 0.3, 0.3, 0.7])).toBeLessThan(1e-10);
    expect(relative(residual, [0.1, 0.2, -0.7, 0.4])).toBeLessThan(1e-10);
    const left = residual.map((e, i) => e / (1 - leverage[i]!));
    expect(relative(left, [1 / 3, 2 / 7, -1, 4 / 3])).toBeLessThan(1e-10);
    const mse = left.reduce((sum, e) => sum + e * e, 0) / 4;
    expect(mse).toBeCloseTo(0.7426303855, 9);
  }
});

test("lsmr inverts on the range: the trace of a pseudo-inverse, from the dual matrix", async () => {
  const [n, p] = [9, 20];
  const X = Float64Array.from({ length: n * p }, (_, i) => Math.sin(i * i + 1));
  const entry = (rows: number, inner: number, at: (i: number, l: number) => number) =>
    Float64Array.from({ length: rows * rows }, (_, m) => {
      let sum = 0;
      for (let l = 0; l < inner; l++) sum += at(Math.floor(m / rows), l) * at(m % rows, l);
      return sum / n;
    });
  const H = entry(p, n, (i, l) => X[l * p + i]!);
  const dual = entry(n, p, (i, l) => X[i * p + l]!);
  const traceOf = (M: Float64Array, dim: number) =>
    M.reduce((sum, x, m) => sum + (m % (dim + 1) === 0 ? x : 0), 0);
  const wanted = traceOf(eliminate(dual, n, identity(n)), n);
  const pseudo = inverse(denseOperator(H, p), { method: "lsmr", tol: 1e-12 });
  const matrix = await matrixOf(pseudo);
  expect(traceOf(matrix, p) / wanted).toBeCloseTo(1, 8);
  // H H^+ H = H
  expect(relative(dense(H, p, dense(matrix, p, H, p), p), H)).toBeLessThan(1e-8);
});

test("the inverse is an operator: its spectrum, products and compositions", async () => {
  const inv = inverse(operatorA);
  expect(inv.dim).toBe(DIM);
  expect(inv.dtype).toBe("float64");
  expect(inv.name).toBe("inverse of linearOperator");
  const top = await eigsh(inv, { k: 4 });
  expect(top.converged).toBe(true);
  expect(
    relative(
      top.values,
      VALUES.slice(0, 4).map((x) => 1 / x),
    ),
  ).toBeLessThan(1e-8);
  const wanted = eliminate(A, DIM, identity(DIM));
  const matrix = await matrixOf(inv);
  expect(relative(matrix, wanted)).toBeLessThan(1e-9);
  for (let i = 0; i < DIM; i++)
    for (let j = 0; j < i; j++)
      expect(Math.abs(matrix[i * DIM + j]! - matrix[j * DIM + i]!)).toBeLessThan(1e-9);
  const sum = VALUES.reduce((total, x) => total + 1 / x, 0);
  expect((await trace(inv)).value).toBeCloseTo(sum, 7);
  // Back again, restricted, shifted, and as a preconditioner of what it is the inverse of.
  expect(relative(await matrixOf(inverse(inv, { tol: 1e-9 })), A)).toBeLessThan(1e-6);
  const part = await matrixOf(inv.restrict({ indices: [0, 5] }).shift(2));
  expect(
    relative(
      part,
      [0, 5].flatMap((i) => [0, 5].map((j) => wanted[i * DIM + j]! + (i === j ? 2 : 0))),
    ),
  ).toBeLessThan(1e-9);
  const helped = await solve(operatorA, B, { preconditioner: inv, tol: 1e-8 });
  expect(helped.iterations).toEqual([1, 1, 1]);
  expect(helped.preconditionerProducts).toBe(3);
});

test("a product of the inverse that does not converge is an error, unless told otherwise", async () => {
  const hard = denseOperator(withSpectrum(VALUES.map((x) => x ** 6)), DIM);
  const options = { maxProducts: 12 };
  const error = await rejection(inverse(hard, options).apply(vector(DIM)));
  expect(error).toBeInstanceOf(NotConvergedError);
  expect(error.message).toContain("a product of the inverse did not converge");
  expect(error.message).toContain("maxProducts");
  const lenient = inverse(hard, { ...options, requireConvergence: false });
  const product = await lenient.apply(vector(DIM));
  expect(product.every(Number.isFinite)).toBe(true);
});

test("the damped Gauss-Newton step of a network, as by elimination", async () => {
  const { model, data } = await tinyProblem();
  const damping = 1e-3;
  const G = ggn(model, data, { precision: "float64" });
  const { gradient: g } = await gradient(model, data, { precision: "float64" });
  const matrix = await matrixOf(G);
  const damped = matrix.map((x, n) => x + (n % (G.dim + 1) === 0 ? damping : 0));
  const wanted = eliminate(damped, G.dim, g);
  for (const method of ["cg", "minres", "lsmr"] as const) {
    const result = await solve(G, g, { method, damping, tol: 1e-10 });
    expect(result.converged).toBe(true);
    expect(relative(result.solution, wanted)).toBeLessThan(1e-6);
    if (result.errorBounds) {
      const error = Math.hypot(...result.solution.map((x, i) => x - wanted[i]!));
      expect(error).toBeLessThanOrEqual(result.errorBounds[0]! * (1 + 1e-6) + 1e-10);
    }
  }
  // The Hessian is indefinite: cg refuses it, minres does not.
  const H = hessian(model, data, { precision: "float64" });
  const least = (await eigsh(H, { k: 1, which: "SA" })).values[0]!;
  expect(least).toBeLessThan(-1e-3);
  const refusal = await rejection(solve(H, g, { tol: 1e-12 }));
  expect(refusal).toBeInstanceOf(OptionError);
  expect(refusal.message).toContain("cg needs a positive semi-definite operator");
  const result = await solve(H, g, { method: "minres", damping, tol: 1e-10 });
  const shifted = (await matrixOf(H)).map((x, n) => x + (n % (H.dim + 1) === 0 ? damping : 0));
  expect(result.converged).toBe(true);
  expect(relative(result.solution, eliminate(shifted, H.dim, g))).toBeLessThan(1e-5);
  // cg with enough damping agrees with the same.
  const enough = await solve(H, g, { damping: 1.5 * -least, tol: 1e-10 });
  expect(enough.converged).toBe(true);
});

test("a layer of mlp_relu: dense, sketched, in float32, and on any number of threads", async () => {
  const { model, data } = await openCase("mlp_relu");
  const damping = 1e-3;
  const make = (precision: "float32" | "float64", threads = 2) =>
    ggn(model, data, { precision, threads, params: "net.4.*" });
  const G = make("float64");
  const b = vector(2 * G.dim, 3);
  const matrix = (await matrixOf(G)).map((x, n) => x + (n % (G.dim + 1) === 0 ? damping : 0));
  const wanted = eliminate(matrix, G.dim, b);
  const plain = await solve(G, b, { damping, tol: 1e-9 });
  expect(plain.converged).toBe(true);
  expect(relative(plain.solution, wanted)).toBeLessThan(1e-6);
  const sketched = await solve(G, b, { damping, tol: 1e-9, preconditioner: "nystrom", rank: 80 });
  expect(sketched.converged).toBe(true);
  expect(relative(sketched.solution, wanted)).toBeLessThan(1e-6);
  expect(Math.max(...sketched.iterations) * 2).toBeLessThan(Math.max(...plain.iterations));
  const single = [];
  for (const threads of [1, 2, 3]) {
    const operator = make("float32", threads);
    single.push(await solve(operator, b, { damping, tol: 1e-3 }));
    operator.dispose();
  }
  expect(single[0]!.converged).toBe(true);
  expect(single[0]!.solution).toBeInstanceOf(Float32Array);
  expect(relative(single[0]!.solution, wanted)).toBeLessThan(0.1);
  for (const other of single.slice(1)) {
    expect(other.solution).toEqual(single[0]!.solution);
    expect(other.residuals).toEqual(single[0]!.residuals);
  }
  G.dispose();
});

test("abort and progress; disposal of what an inverse is made of", async () => {
  let asked = 0;
  const slow = linearOperator(DIM, async (V, count) => {
    asked++;
    await new Promise((resolve) => setTimeout(resolve, 20));
    return dense(A, DIM, V, count);
  });
  const controller = new AbortController();
  const seen: number[] = [];
  const call = solve(slow, B, {
    tol: 1e-11,
    signal: controller.signal,
    onProgress: ({ products }) => {
      seen.push(products);
      controller.abort();
    },
  });
  expect((await rejection(call)).name).toBe("AbortError");
  expect(seen.length).toBeGreaterThan(0);
  const before = asked;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(asked).toBeLessThanOrEqual(before + 1);

  const inner = new AbortController();
  const product = inverse(slow).apply(vector(DIM), { signal: inner.signal });
  setTimeout(() => inner.abort(), 30);
  expect((await rejection(product)).name).toBe("AbortError");

  const { model, data } = await tinyProblem();
  const G = ggn(model, data);
  const inv = inverse(G, { damping: 1, tol: 1e-4 });
  expect(inv.parameters).toEqual(G.parameters);
  const bias = inv.restrict("b1");
  expect(bias.dim).toBe(4);
  await bias.apply(new Float32Array(4).fill(1));
  G.dispose();
  expect((await rejection(inv.apply(new Float32Array(inv.dim)))).message).toContain("disposed of");
  expect((await rejection(solve(G, new Float32Array(inv.dim)))).message).toContain("disposed of");
});

test("what a function throws rejects the call unchanged", async () => {
  const failing = linearOperator(3, () => {
    throw new RangeError("no product today");
  });
  const error = await rejection(solve(failing, Float64Array.of(1, 2, 3)));
  expect(error).toBeInstanceOf(RangeError);
  expect((await rejection(inverse(failing).apply(Float64Array.of(1, 2, 3)))).message).toBe(
    "no product today",
  );
});

test.each<[string, unknown, unknown, unknown]>([
  ["expected an operator", {}, B, {}],
  ["B: expected a Float32Array or Float64Array, got an array", operatorA, [1, 2], {}],
  [`B: expected K times ${DIM} numbers`, operatorA, new Float64Array(DIM + 1), {}],
  [`B: expected K times ${DIM} numbers`, operatorA, new Float64Array(0), {}],
  ["start: expected 72 numbers, as B has, got 24", operatorA, B, { start: new Float64Array(DIM) }],
  ['method: expected one of "cg"', operatorA, B, { method: "gmres" }],
  ["damping: expected a number of at least 0, got -1", operatorA, B, { damping: -1 }],
  ["tol: expected a number above 0 and below 1, got 0", operatorA, B, { tol: 0 }],
  ['"damping" was probably meant', operatorA, B, { dampng: 1 }],
  ['preconditioner: expected an operator or "nystrom"', operatorA, B, { preconditioner: "ilu" }],
  ["rank belongs to preconditioner", operatorA, B, { rank: 3 }],
  ["needs damping above 0", operatorA, B, { preconditioner: "nystrom" }],
  ["tikhonov belongs to method lsmr", operatorA, B, { tikhonov: 1 }],
  ["scale belongs to method neumann", operatorA, B, { scale: 1 }],
  ["scale: expected more than half", operatorA, B, { method: "neumann", scale: 1 }],
  ["eigenvalue of at most", operatorA.shift(-3), B, { method: "neumann" }],
  ["minres, or damping above", operatorA.shift(-3), B, {}],
  ["expected dimension 24", operatorA, B, { preconditioner: operatorA.restrict({ indices: [1] }) }],
])("wrong use: %s", async (message, operator, b, options) => {
  const error = await rejection(solve(operator as never, b as never, options as never));
  expect(error).toBeInstanceOf(OptionError);
  expect(error.message).toContain(message);
});

test("right-hand sides that are not finite name the entry", async () => {
  const bad = B.slice();
  bad[DIM + 2] = Number.NaN;
  const error = await rejection(solve(operatorA, bad));
  expect(error.message).toContain("right-hand side 1 has nan at coordinate 2");
});
