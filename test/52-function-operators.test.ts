// Operators that a JavaScript function computes: in every solver, sync or async, with the errors of
// the function kept as they are.
import fc from "fast-check";
import { DataMismatchError, eigsh, linearOperator, OptionError } from "../lib";
import { dense, denseOperator, rejection, relative, symmetric, vector } from "./50-helpers";

// The same cases in every run.
fc.configureGlobal({ seed: 1 });

// Wide enough that no method forms the matrix.
const DIM = 120;
const A = symmetric(DIM);

/** A A, which is positive semi-definite. */
const square = (() => {
  const S = new Float64Array(DIM * DIM);
  for (let i = 0; i < DIM; i++) S.set(dense(A, DIM, A.subarray(i * DIM, (i + 1) * DIM)), i * DIM);
  return S;
})();

test.each(["lanczos", "krylov", "subspace", "nystrom"] as const)(
  "%s finds the leading pairs of a function's operator",
  async (method) => {
    const sync = linearOperator(DIM, (V, count) => dense(square, DIM, V, count));
    const later = linearOperator(DIM, async (V, count) => {
      await new Promise((resolve) => setImmediate(resolve));
      return dense(square, DIM, V, count);
    });
    const options = { k: 2, which: "LM", method, tol: 1e-6, maxProducts: 5000 } as const;
    const a = await eigsh(sync, options);
    expect(a.converged).toBe(true);
    for (let i = 0; i < 2; i++) {
      const v = a.vector(i);
      const product = dense(square, DIM, v);
      const difference = product.map((x, j) => x - a.values[i]! * v[j]!);
      expect(Math.hypot(...difference)).toBeLessThan(2e-6 * a.values[0]!);
      expect(Math.hypot(...v)).toBeCloseTo(1, 10);
    }
    const b = await eigsh(later, options);
    expect(b.values).toEqual(a.values);
    expect(b.products).toBe(a.products);
  },
);

test("a block comes as count rows, is a copy, and may be changed and returned", async () => {
  const given = vector(3 * 4);
  const before = given.slice();
  let seen: [number, number] | undefined;
  const twice = linearOperator(4, (V, count) => {
    seen = [V.length, count];
    for (let i = 0; i < V.length; i++) V[i]! *= 2;
    return V;
  });
  const result = await twice.apply(given);
  expect(seen).toEqual([12, 3]);
  expect(given).toEqual(before);
  expect(result).toEqual(before.map((x) => 2 * x));
});

test("float32 operators get and give Float32Array", async () => {
  let name = "";
  const half = linearOperator(
    4,
    (V) => {
      name = Object.prototype.toString.call(V);
      return V.map((x) => x / 2);
    },
    { dtype: "float32", name: "half" },
  );
  expect(half.name).toBe("half");
  const result = await half.apply(new Float32Array([2, 4, 6, 8]));
  expect(name).toBe("[object Float32Array]");
  expect(result).toEqual(new Float32Array([1, 2, 3, 4]));
});

test("any linear map of a block", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 7 }),
      fc.integer({ min: 1, max: 5 }),
      fc.double({ min: -5, max: 5, noNaN: true }),
      async (dim, count, phase) => {
        const M = symmetric(dim, phase);
        const V = vector(count * dim, phase);
        const got = await denseOperator(M, dim).apply(V);
        expect(relative(got, dense(M, dim, V, count))).toBeLessThan(1e-15);
      },
    ),
    { numRuns: 50 },
  );
});

test("an exception keeps its identity and its stack", async () => {
  const mine = new RangeError("not today");
  function whereItWasThrown(): never {
    throw mine;
  }
  const error = await rejection(eigsh(linearOperator(9, whereItWasThrown), { k: 1 }));
  expect(error).toBe(mine);
  const thrown = await rejection(
    linearOperator(9, () => {
      throw new Error("here");
    }).apply(vector(9)),
  );
  expect(thrown.message).toBe("here");
  expect(thrown.stack).toContain("52-function-operators.test.ts");
});

test("so does a rejection", async () => {
  const mine = new SyntaxError("later");
  const A = linearOperator(9, async () => {
    await null;
    throw mine;
  });
  expect(await rejection(eigsh(A, { k: 1 }))).toBe(mine);
  expect(await rejection(A.apply(vector(9)))).toBe(mine);
  // Through a composition as well.
  expect(
    await rejection(
      A.shift(1)
        .restrict({ indices: [0, 2] })
        .apply(vector(2)),
    ),
  ).toBe(mine);
});

test("what is thrown and is no error becomes the cause of one", async () => {
  const error = await rejection(
    linearOperator(3, () => {
      throw "a string";
    }).apply(vector(3)),
  );
  expect(error).toBeInstanceOf(Error);
  expect(error.message).toBe('linearOperator: apply threw "a string"');
  expect(error.cause).toBe("a string");
});

// What a function returns, and what is said of it.
const WRONG: [string, () => unknown, new (message: string) => Error, string][] = [
  ["nothing", () => undefined, OptionError, "to return a Float64Array, got undefined"],
  ["an array", () => [1, 2, 3], OptionError, "to return a Float64Array, got an array of 3"],
  ["another type", () => new Float32Array(3), OptionError, "got a Float32Array of 3 entries"],
  ["too few", () => new Float64Array(2), OptionError, "return 3 numbers, 1 vectors of 3, got 2"],
  ["too many", () => new Float64Array(6), OptionError, "return 3 numbers, 1 vectors of 3, got 6"],
  ["NaN", () => Float64Array.of(1, Number.NaN, 3), DataMismatchError, "coordinate 1 of vector 0"],
  ["infinity", () => Float64Array.of(1, 2, 1 / 0), DataMismatchError, "returned inf for coordin"],
  [
    "shared memory",
    () => new Float64Array(new SharedArrayBuffer(24)),
    OptionError,
    "shared buffers are not read",
  ],
];

test.each(WRONG)("a function that returns %s", async (_, f, Class, message) => {
  for (const apply of [f, async () => f()]) {
    const error = await rejection(linearOperator(3, apply as never).apply(vector(3)));
    expect(error).toBeInstanceOf(Class);
    expect(error.message).toContain(message);
  }
});

test("a function may itself use another operator while a solver waits for it", async () => {
  const inner = denseOperator(A, DIM);
  const outer = linearOperator(DIM, (V) => inner.apply(V));
  const sum = inner.add(outer); // both parts reach the same operator
  const top = await eigsh(sum, { k: 1, which: "LA", tol: 1e-9 });
  const alone = await eigsh(inner, { k: 1, which: "LA", tol: 1e-9 });
  expect(top.values[0]! / alone.values[0]!).toBeCloseTo(2, 8);
});

test("hundreds of calls at once are all answered", async () => {
  const op = denseOperator(symmetric(6), 6);
  const calls = Array.from({ length: 300 }, (_, i) => op.apply(vector(6, i)));
  const results = await Promise.all(calls);
  results.forEach((result, i) => {
    expect(relative(result, dense(symmetric(6), 6, vector(6, i)))).toBeLessThan(1e-15);
  });
});
