// Masks by magnitude: against worked examples, and used on an operator.
import fc from "fast-check";
import { DataMismatchError, eigsh, hessian, Mask, magnitudeMask } from "../lib";
import { tinyProblem } from "./50-helpers";

// The same cases in every run.
fc.configureGlobal({ seed: 1 });

function tensor(name: string, offset: number, shape: number[], values: number[]) {
  return { name, offset, size: values.length, shape, values: () => Float64Array.from(values) };
}

const indices = (mask: Mask) => Array.from(mask.indices());
// The worked example of the criteria in Zhou et al. 2019: keep 3 of 6.
const WEIGHTS = [0.4, -0.6, -0.3, -0.9, 0.1, 0.35];

test("keeps the largest magnitudes", () => {
  const mask = magnitudeMask([tensor("w", 0, [2, 3], WEIGHTS)], { keep: 0.5 });
  expect(indices(mask)).toEqual([0, 1, 3]);
  expect(mask.count).toBe(3);
  expect(mask.size).toBe(6);
  expect(mask.layers()).toEqual([{ name: "w", kept: 3, size: 6 }]);
});

test("of equal magnitudes, the first are kept", () => {
  const mask = magnitudeMask([tensor("w", 0, [2, 3], [1, -1, 1, -1, 2, 1])], { keep: 0.5 });
  expect(indices(mask)).toEqual([0, 1, 4]);
  const zeros = magnitudeMask([tensor("w", 0, [1, 4], [0, 0, 0, 0])], { keep: 0.5 });
  expect(indices(zeros)).toEqual([0, 1]);
});

test("layer by layer, or over all of them", () => {
  const parameters = [
    tensor("a", 0, [1, 4], [10, 20, 30, 40]),
    tensor("bias", 4, [2], [0, 0.001]),
    tensor("b", 6, [2, 2], [1, 2, 3, 4]),
  ];
  // Biases are kept whole, and do not count.
  expect(indices(magnitudeMask(parameters, { keep: 0.5 }))).toEqual([2, 3, 4, 5, 8, 9]);
  expect(indices(magnitudeMask(parameters, { keep: 0.5, scope: "global" }))).toEqual([
    0, 1, 2, 3, 4, 5,
  ]);
  expect(indices(magnitudeMask(parameters, { keep: 0.5, minRank: 0 }))).toEqual([2, 3, 5, 8, 9]);
  expect(magnitudeMask(parameters, { keep: 1 }).count).toBe(10);
});

test("shares that binary fractions miss keep what they say", () => {
  for (const keep of [0.1, 0.2, 0.3, 0.6, 0.7, 0.9]) {
    const values = Array.from({ length: 1000 }, (_, i) => Math.sin(i + 1));
    const mask = magnitudeMask([tensor("w", 0, [10, 100], values)], { keep });
    expect(mask.count).toBe(Math.round(1000 * keep));
  }
});

test("what is kept is no smaller than what is not", () => {
  fc.assert(
    fc.property(
      fc.array(fc.float({ noNaN: true }), { minLength: 1, maxLength: 40 }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (values, keep) => {
        const mask = magnitudeMask([tensor("w", 0, [1, values.length], values)], { keep });
        const kept = values.filter((_, i) => mask.bits[i]).map(Math.abs);
        const rest = values.filter((_, i) => !mask.bits[i]).map(Math.abs);
        expect(mask.count).toBe(values.length - Math.floor((1 - keep) * values.length + 1e-9));
        expect(Math.min(...kept)).toBeGreaterThanOrEqual(Math.max(0, ...rest));
      },
    ),
  );
});

test("NaN is named", () => {
  const parameters = [tensor("w", 0, [1, 3], [1, Number.NaN, 2])];
  expect(() => magnitudeMask(parameters, { keep: 0.5 })).toThrow(DataMismatchError);
  expect(() => magnitudeMask(parameters, { keep: 0.5 })).toThrow("w is NaN at flat index 1");
});

test("a mask has a bit for each parameter", () => {
  const segments = [{ name: "w", offset: 0, size: 3 }];
  expect(() => new Mask(segments, [true])).toThrow("expected 3 entries, one a parameter");
  expect(indices(new Mask(segments, [true, false, true]))).toEqual([0, 2]);
});

test("on a network: the masked spectrum lies inside the whole one", async () => {
  const { model, data } = await tinyProblem();
  const H = hessian(model, data, { precision: "float64" });
  const mask = magnitudeMask(model.parameters, { keep: 0.5 });
  expect(mask.layers().map(({ kept }) => kept)).toEqual([6, 4, 4, 2]);
  const part = H.restrict(mask);
  expect(part.dim).toBe(16);
  const whole = await eigsh(H, { k: H.dim, which: "LA" });
  const inside = await eigsh(part, { k: 16, which: "LA" });
  inside.values.forEach((value, i) => {
    expect(value).toBeLessThanOrEqual(whole.values[i]! + 1e-12);
    expect(value).toBeGreaterThanOrEqual(whole.values[i + H.dim - 16]! - 1e-12);
  });
  const projected = await eigsh(H.project(mask), { k: H.dim, which: "LM" });
  const zeros = projected.values.filter((value) => Math.abs(value) < 1e-12);
  expect(zeros.length).toBe(H.dim - 16);
});
