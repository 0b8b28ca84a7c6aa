// Assignments and transport plans: against SciPy, by hand, and by what makes a plan optimal.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { assign, scoreOf } from "../lib/align/assignment";
import { exactTransport, sinkhorn, type TransportPlan } from "../lib/align/transport";
import { normals, uniform } from "./support/numbers";

const CASES = JSON.parse(
  readFileSync(join(__dirname, "fixtures", "align", "cases.json"), "utf8"),
) as { transport: { rows: number; columns: number; costs: number[]; cost: number }[] };

function marginals({ plan, rows, columns }: TransportPlan) {
  const [of, to] = [new Float64Array(rows), new Float64Array(columns)];
  plan.forEach((mass, i) => {
    of[Math.floor(i / columns)]! += mass;
    to[i % columns]! += mass;
  });
  return { of, to };
}

test("the assignment of units that were turned by hand", () => {
  // W_a = [[1, 0], [0, 1], [1, 1]] and W_b = W_a[[2, 0, 1]]: scores W_a W_b^T.
  const scores = Float64Array.of(1, 1, 0, 1, 0, 1, 2, 1, 1);
  const order = assign(scores, 3);
  expect([...order]).toEqual([1, 2, 0]);
  expect(scoreOf(scores, order)).toBe(4);
});

test("no exchange of two units is better, at any scale", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 14 }),
      fc.nat(),
      fc.integer({ min: -12, max: 12 }),
      (n, seed, power) => {
        const scores = normals(seed, n * n);
        const order = assign(scores, n);
        expect([...order].sort((a, b) => a - b)).toEqual([...order.keys()]);
        for (let i = 0; i < n; i++)
          for (let j = 0; j < i; j++) {
            const swapped = order.slice();
            [swapped[i], swapped[j]] = [order[j]!, order[i]!];
            expect(scoreOf(scores, swapped)).toBeLessThanOrEqual(scoreOf(scores, order) + 1e-12);
          }
        const scaled = scores.map((x) => x * 10 ** power);
        expect(scoreOf(scores, assign(scaled, n))).toBeCloseTo(scoreOf(scores, order), 10);
      },
    ),
    { seed: 8, numRuns: 60 },
  );
});

test("scores that are not numbers are refused", () => {
  expect(() => assign(Float64Array.of(1, 2, Number.NaN, 3), 2)).toThrow(
    "assignment: expected finite scores, got NaN of units 1 and 0",
  );
});

test.each(CASES.transport)(
  "the cheapest plan for $rows and $columns units costs as linear programming says",
  (wanted) => {
    const { rows, columns, costs, cost } = wanted;
    const found = exactTransport(Float64Array.from(costs), rows, columns);
    expect(found.cost).toBeCloseTo(cost, 12);
    const { of, to } = marginals(found);
    for (const mass of of) expect(mass).toBeCloseTo(1 / rows, 14);
    for (const mass of to) expect(mass).toBeCloseTo(1 / columns, 14);
    // A vertex has at most rows + columns - 1 masses.
    expect(found.plan.filter((mass) => mass > 0).length).toBeLessThan(rows + columns);
  },
);

test("of equal widths the plan is the assignment", () => {
  for (const n of [1, 2, 7, 20]) {
    const next = uniform(n);
    const costs = Float64Array.from({ length: n * n }, next);
    const { plan, cost } = exactTransport(costs, n, n);
    const order = assign(
      costs.map((x) => -x),
      n,
    );
    expect(cost).toBeCloseTo(scoreOf(costs, order) / n, 13);
    expect(plan.filter((mass) => mass > 0)).toEqual(new Float64Array(n).fill(1 / n));
  }
});

test("equal units cost nothing, and many ties end", () => {
  const { plan, cost } = exactTransport(new Float64Array(12), 3, 4);
  expect(cost).toBe(0);
  expect(plan.reduce((a, b) => a + b)).toBeCloseTo(1, 14);
});

test("Sinkhorn meets its marginals and tends to the exact plan", () => {
  const next = uniform(5);
  const [rows, columns] = [6, 9];
  const costs = Float64Array.from({ length: rows * columns }, next);
  const exact = exactTransport(costs, rows, columns);
  const gaps = [0.3, 0.1, 0.01].map((regularisation) => {
    const found = sinkhorn(costs, rows, columns, regularisation);
    expect(found.converged).toBe(true);
    const { of, to } = marginals(found);
    for (const mass of of) expect(mass * rows).toBeCloseTo(1, 8);
    for (const mass of to) expect(mass * columns).toBeCloseTo(1, 8);
    // By scale: the plan is the same.
    const scaled = sinkhorn(
      costs.map((x) => 1e9 * x),
      rows,
      columns,
      regularisation,
    );
    for (const [i, mass] of scaled.plan.entries()) expect(mass).toBeCloseTo(found.plan[i]!, 12);
    return found.cost - exact.cost;
  });
  expect(gaps[0]).toBeGreaterThan(gaps[1]!);
  expect(gaps[1]).toBeGreaterThan(gaps[2]!);
  expect(gaps[2]).toBeGreaterThan(-1e-9);
  expect(gaps[2]).toBeLessThan(0.02 * exact.cost);
});
