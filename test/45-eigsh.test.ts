// eigsh beyond the ends of a spectrum: inside, from given vectors, deflated, from a checkpoint; and
// where each value lies. The solvers themselves are tested in test/native/46-*.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eigsh, hessian, linearOperator } from "../lib";
import { openCase, rejection, relative, vector } from "./50-helpers";

const DIM = 300;
const VALUES = Float64Array.from({ length: DIM }, (_, i) =>
  i < 6 ? 5 - 0.5 * i : Math.cos(i) * 2 * Math.exp(-0.01 * i),
);

/** diag(VALUES), counting products. */
function diagonal(values: ArrayLike<number> = VALUES) {
  const counter = { products: 0 };
  const operator = linearOperator(values.length, (V, count) => {
    counter.products += count;
    return Float64Array.from(V, (x, i) => x * values[i % values.length]!);
  });
  return { operator, counter };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-eigsh-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each(["lanczos", "krylov", "subspace", "lobpcg"] as const)(
  "%s: intervals hold the eigenvalues, and products are counted",
  async (method) => {
    const { operator, counter } = diagonal();
    const top = await eigsh(operator, { k: 4, method, maxProducts: 20000 });
    expect(top.converged).toBe(true);
    expect(top.products).toBe(counter.products);
    expect(top.intervals).toHaveLength(4);
    for (const [i, { low, high, bound }] of top.intervals.entries()) {
      expect(low).toBeLessThanOrEqual(VALUES[i]!);
      expect(high).toBeGreaterThanOrEqual(VALUES[i]!);
      expect(["residual", "gap", "cluster"]).toContain(bound);
    }
    // Behind the last of the list no gap is known.
    expect(top.intervals[3]!.bound).toBe("residual");
    expect(top.missed.how).not.toBe("");
    if (method === "lanczos") expect(top.missed.probability).toBeLessThan(0.1);
    else expect(top.missed.probability).toBeUndefined();
    expect(top.count).toBeUndefined();
    expect(top.coupling).toBe(0);
  },
);

test("sigma: the nearest first; interval: all, with their count", async () => {
  const { operator } = diagonal();
  const near = await eigsh(operator, { sigma: 3.6, k: 3 });
  expect(near.method).toBe("dense");
  expect(relative(near.values, [3.5, 4, 3])).toBeLessThan(1e-12);
  expect(near.missed.probability).toBe(0);
  const inside = await eigsh(operator, { interval: [2.9, 4.6] });
  expect(relative(inside.values, [3, 3.5, 4, 4.5])).toBeLessThan(1e-12);
  expect(inside.count).toEqual({ exact: true, estimate: 4, standardError: 0, probes: 0 });
  expect(inside.vectors).toHaveLength(4 * DIM);
  const none = await eigsh(operator, { interval: [10, 11] });
  expect(none.values).toHaveLength(0);
  expect(none.converged).toBe(true);
});

test("in larger dimensions by MINRES and by a filter", async () => {
  const values = Float64Array.from({ length: 2200 }, (_, i) =>
    i < 5 ? 0.3 - 0.1 * i : (i % 2 ? 1 : -1) * (1 + 0.001 * i),
  );
  const { operator, counter } = diagonal(values);
  const near = await eigsh(operator, { sigma: 0.12, k: 2, tol: 1e-7 });
  expect(near.method).toBe("shift-invert");
  expect(near.converged).toBe(true);
  expect(relative(near.values, [0.1, 0.2])).toBeLessThan(1e-10);
  expect(near.products).toBe(counter.products);
  const inside = await eigsh(operator, { interval: [-0.15, 0.25], k: 10, tol: 1e-7 });
  expect(inside.method).toBe("filter");
  expect(inside.converged).toBe(true);
  expect(relative(inside.values, [-0.1, 0, 0.1, 0.2])).toBeLessThan(1e-10);
  expect(Math.abs(inside.count!.estimate - 4)).toBeLessThan(2 + 3 * inside.count!.standardError);
  expect((await rejection(eigsh(operator, { interval: [-0.15, 0.25], k: 2 }))).message).toMatch(
    /k = 2 is the most asked for; raise k or narrow the interval/,
  );
});

test("a preconditioner saves products of lobpcg", async () => {
  const stiff = Float64Array.from({ length: 900 }, (_, i) => 1 + i * i);
  const { operator } = diagonal(stiff);
  const { operator: inverse, counter } = diagonal(stiff.map((x, i) => (1 + 0.2 * (i % 3)) / x));
  const options = { k: 3, which: "SA", method: "lobpcg", tol: 1e-11, maxProducts: 880 } as const;
  const plain = await eigsh(operator, options);
  const helped = await eigsh(operator, { ...options, preconditioner: inverse });
  expect(counter.products).toBeGreaterThan(0);
  expect(helped.converged).toBe(true);
  expect(relative(helped.values, [1, 2, 5])).toBeLessThan(1e-6);
  expect(helped.products).toBeLessThan(plain.products / 2);
});

test("eigenvectors of one network start the next; deflated, they lead to the next pairs", async () => {
  const { model, data } = await openCase("mlp_relu");
  using operator = hessian(model, data, { precision: "float64" });
  const eight = await eigsh(operator, { k: 8, tol: 1e-7 });
  const four = await eigsh(operator, { k: 4, tol: 1e-7 });
  // As a checkpoint nearby would give them.
  const start = Float64Array.from(four.vectors);
  const noise = vector(start.length);
  for (let i = 0; i < start.length; i++) start[i]! += 1e-5 * noise[i]!;
  const again = await eigsh(operator, { k: 4, tol: 1e-7, start });
  expect(again.converged).toBe(true);
  expect(again.products).toBeLessThan(four.products);
  expect(relative(again.values, four.values)).toBeLessThan(1e-9);

  const rest = await eigsh(operator, { k: 4, tol: 1e-7, deflate: four.vectors });
  expect(rest.converged).toBe(true);
  expect(relative(rest.values, eight.values.subarray(4))).toBeLessThan(1e-9);
  expect(rest.coupling).toBeLessThan(1e-5);
  for (let i = 0; i < 4; i++)
    for (let j = 0; j < 4; j++) {
      const [a, b] = [Float64Array.from(four.vector(i)), rest.vector(j)];
      expect(Math.abs(a.reduce((sum, x, l) => sum + x * b[l]!, 0))).toBeLessThan(1e-12);
    }
});

test("a solve that ran out of products goes on from its checkpoint", async () => {
  const { operator, counter } = diagonal();
  const checkpoint = join(folder, "state.bin");
  const options = { k: 5, which: "SA", basisSize: 25 } as const;
  const whole = await eigsh(operator, options);
  expect(existsSync(checkpoint)).toBe(false);
  counter.products = 0;
  const part = await eigsh(operator, { ...options, checkpoint, maxProducts: 60 });
  expect(part.converged).toBe(false);
  const first = counter.products;
  const rest = await eigsh(operator, { ...options, resume: checkpoint });
  expect(rest.converged).toBe(true);
  expect(relative(rest.values, whole.values)).toBeLessThan(1e-9);
  expect(rest.products).toBeGreaterThan(counter.products - first);
  expect(rest.products).toBeLessThanOrEqual(counter.products);
  const other = await rejection(eigsh(operator, { ...options, k: 4, resume: checkpoint }));
  expect(other.message).toMatch(/state\.bin: the checkpoint belongs to another solve: its k is 5/);
  expect(other.name).toBe("OptionError");
  const moved = diagonal(VALUES.map((x) => 2 - x)).operator;
  expect((await rejection(eigsh(moved, { ...options, resume: checkpoint }))).message).toMatch(
    /belongs to another operator/,
  );
});

test.each([
  ["eigsh: sigma takes the place of which", { sigma: 1, which: "SA" }],
  ['sigma belongs to method "shift-invert", got method "lanczos"', { sigma: 1, method: "lanczos" }],
  ["eigsh: sigma: expected a finite number, got NaN", { sigma: Number.NaN }],
  ["expected sigma or interval, got both", { sigma: 1, interval: [0, 1] }],
  ["interval: expected two finite numbers [low, high] with low < high", { interval: [1, 0] }],
  ['interval: expected [low, high] for method "filter"', { method: "filter" }],
  ['sigma: expected a number for method "shift-invert"', { method: "shift-invert" }],
  ["which = LM; got LA", { method: "two-sketch", which: "LA" }],
  ["Nystrom needs a positive semi-definite operator", { method: "nystrom" }],
  ["preconditioner: expected a LinearOperator, got 3", { method: "lanczos", preconditioner: 3 }],
  ["start", { start: new Float32Array(DIM) }],
  ["start must hold vectors of 300 numbers", { start: new Float64Array(DIM + 1) }],
  ["k must be from 1 to 299", { deflate: new Float64Array(DIM).fill(1), k: DIM }],
  ["k: expected at most 300", { k: DIM + 1 }],
  ["resume: expected the path of a file", { resume: "" }],
  ["resume: /no/such/file: cannot be read", { resume: "/no/such/file" }],
  ["checkpoints belong to methods", { method: "nystrom", checkpoint: "x" }],
])("refused: %s", async (text, options) => {
  const error = await rejection(eigsh(diagonal().operator, options as never));
  expect(error.name).toBe("OptionError");
  expect(error.message).toContain(text);
});

test("a resumed solve has the same result in another process", () => {
  // State that is tied to nothing but its file.
  const script = `
    const { eigsh, linearOperator } = require(${JSON.stringify(join(__dirname, "..", "dist"))});
    const values = Float64Array.from({ length: 400 }, (_, i) => 3 * Math.exp(-0.01 * i));
    const op = linearOperator(400, (V) => Float64Array.from(V, (x, i) => x * values[i % 400]));
    const given = JSON.parse(process.argv[1]);
    eigsh(op, { k: 4, tol: 1e-6, maxMemory: 400000, ...given }).then((r) =>
      console.log(JSON.stringify([r.converged, r.products, ...r.values])));`;
  const solve = (given: object) =>
    JSON.parse(
      execFileSync(process.execPath, ["-e", script, JSON.stringify(given)], { encoding: "utf8" }),
    );
  const file = join(folder, "process.bin");
  const [done, , ...wanted] = solve({ maxProducts: 5000 });
  const [cut] = solve({ checkpoint: file, maxProducts: 40 });
  const [resumed, products, ...values] = solve({ resume: file, maxProducts: 5000 });
  expect([done, cut, resumed]).toEqual([true, false, true]);
  expect(products).toBeGreaterThan(40 - 10);
  expect(relative(values, wanted)).toBeLessThan(1e-6);
});
