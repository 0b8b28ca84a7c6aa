// The same numbers to the last bit for every repetition and every number of threads, and to
// rounding for every micro-batch size and block width.
import { existsSync, readdirSync } from "node:fs";
import {
  eigsh,
  fisher,
  ggn,
  hessian,
  type LinearOperator,
  loadData,
  loadModel,
  type Model,
  type RunOptions,
} from "../lib";
import { CASES, caseFile, openCase, relative, vector } from "./50-helpers";

const all = readdirSync(CASES).filter((name) => existsSync(caseFile(name, "case.json")));

async function open(name: string) {
  const { loss_kind } = require(caseFile(name, "case.json"));
  const model = await loadModel(caseFile(name, "model.onnx"), {
    loss: loss_kind === "ce" ? "cross-entropy" : "mse",
  });
  const data = await loadData({ x: caseFile(name, "x.npy"), y: caseFile(name, "y.npy") });
  return { model, data };
}

/** Whether a graph takes any number of samples at once; a batch may be asked for only then. */
const isDynamic = (model: Model) =>
  model.inputs.every(({ shape }) => typeof shape?.[0] !== "number");

/** The first index at which two arrays differ in any bit, or -1. */
function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Math.min(a.length, b.length);
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return i;
  return -1;
}

/** A block in the operator's type. */
function block(operator: LinearOperator, count: number) {
  const V = vector(count * operator.dim);
  return operator.dtype === "float32" ? Float32Array.from(V) : V;
}

test.each(all)("%s: products on 1, 2 and 3 threads, once and again", async (name) => {
  const { model, data } = await open(name);
  for (const precision of ["float32", "float64"] as const)
    for (const make of [hessian, ggn]) {
      // A small batch, for there to be more micro-batches than threads.
      const operators = [1, 2, 3].map((threads) =>
        make(model, data, { precision, threads, ...(isDynamic(model) && { batch: 5 }) }),
      );
      const V = block(operators[0]!, 3);
      const wanted = await operators[0]!.apply(V);
      // The first product linearises; those after it use what was kept.
      for (const operator of operators)
        for (let again = 0; again < 2; again++)
          expect(firstDifference(await operator.apply(V), wanted)).toBe(-1);
      for (const operator of operators) operator.dispose();
    }
});

test.each(all)("%s: any micro-batch size and block width, to rounding", async (name) => {
  const { model, data } = await open(name);
  const make = (options: RunOptions) => hessian(model, data, { precision: "float64", ...options });
  const whole = make({});
  const V = block(whole, 4);
  const wanted = await whole.apply(V);
  for (const batch of isDynamic(model) ? [1, 7, data.samples] : []) {
    const split = make({ batch });
    expect(relative(await split.apply(V), wanted)).toBeLessThan(1e-12);
    split.dispose();
  }
  for (let k = 0; k < 4; k++) {
    const [from, to] = [k * whole.dim, (k + 1) * whole.dim];
    const one = await whole.apply(V.slice(from, to));
    expect(relative(one, wanted.subarray(from, to))).toBeLessThan(1e-12);
  }
  whole.dispose();
});

test("draws of the Monte Carlo Fisher follow the seed and the sample, not the run", async () => {
  const { model, data } = await openCase("mlp_relu");
  const make = (seed: number, options: RunOptions = {}) =>
    fisher(model, data, { type: "mc", draws: 2, seed, precision: "float64", ...options });
  const reference = make(7);
  const V = block(reference, 2);
  const wanted = await reference.apply(V);
  expect(await make(7, { threads: 1 }).apply(V)).toEqual(wanted);
  expect(relative(await make(7, { batch: 11 }).apply(V), wanted)).toBeLessThan(1e-12);
  expect(relative(await make(8).apply(V), wanted)).toBeGreaterThan(1e-3);
});

test.each(["lanczos", "krylov", "nystrom"] as const)(
  "eigenpairs by %s are the same on any number of threads",
  async (method) => {
    const { model, data } = await openCase("mlp_relu");
    const solve = async (threads: number) => {
      const G = ggn(model, data, { threads });
      const { values, vectors, residuals, products } = await eigsh(G, { k: 4, method, tol: 1e-4 });
      G.dispose();
      return { values, vectors, residuals, products };
    };
    const wanted = await solve(1);
    for (const threads of [2, 3]) expect(await solve(threads)).toEqual(wanted);
  },
);

test("a seed changes the start of a solver, not what it finds", async () => {
  const { model, data } = await openCase("mlp_relu");
  const H = hessian(model, data, { precision: "float64" });
  const [a, b] = await Promise.all([0, 1].map((seed) => eigsh(H, { k: 3, tol: 1e-10, seed })));
  expect(relative(a!.values, b!.values)).toBeLessThan(1e-12);
  expect(a!.vectors).not.toEqual(b!.vectors);
  H.dispose();
});
