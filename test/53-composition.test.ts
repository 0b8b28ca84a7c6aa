// Sums, multiples, shifts, restrictions and projections: against the same of a matrix, and of the
// Hessian of a network.
import {
  eigsh,
  ggn,
  hessian,
  type LinearOperator,
  linearOperator,
  Mask,
  OptionError,
} from "../lib";
import {
  caseOf,
  dense,
  denseOperator,
  openCase,
  rejection,
  relative,
  symmetric,
  tinyProblem,
  vector,
} from "./50-helpers";

const DIM = 7;
const A = symmetric(DIM);
const B = symmetric(DIM, 1);
const operatorA = denseOperator(A, DIM);
const operatorB = denseOperator(B, DIM);
const kept = [0, 2, 3, 6];

/** The matrix of an operator, from its products with the unit vectors. */
async function matrixOf(operator: LinearOperator): Promise<Float64Array> {
  const { dim } = operator;
  const identity = new Float64Array(dim * dim);
  for (let i = 0; i < dim; i++) identity[i * dim + i] = 1;
  return Float64Array.from(await operator.apply(identity as never));
}

const entries = (dim: number, entry: (i: number, j: number) => number) =>
  Float64Array.from({ length: dim * dim }, (_, n) => entry(Math.floor(n / dim), n % dim));
const at = (M: Float64Array, i: number, j: number) => M[i * DIM + j]!;
const same = (i: number, j: number) => (i === j ? 1 : 0);

// Each composition, and the matrix that it must be.
const TABLE: [string, LinearOperator, Float64Array][] = [
  ["add", operatorA.add(operatorB), A.map((x, n) => x + B[n]!)],
  ["scale", operatorA.scale(-2.5), A.map((x) => -2.5 * x)],
  ["shift", operatorA.shift(3), entries(DIM, (i, j) => at(A, i, j) + 3 * same(i, j))],
  [
    "restrict",
    operatorA.restrict({ indices: kept }),
    entries(4, (i, j) => at(A, kept[i]!, kept[j]!)),
  ],
  [
    "project",
    operatorA.project({ indices: kept }),
    entries(DIM, (i, j) => (kept.includes(i) && kept.includes(j) ? at(A, i, j) : 0)),
  ],
  [
    "all at once",
    operatorA
      .add(operatorB.scale(2))
      .shift(-1)
      .project({ indices: kept })
      .restrict({ indices: [0, 1, 2] }),
    entries(3, (i, j) =>
      [0, 2].includes(i) && [0, 2].includes(j) ? at(A, i, j) + 2 * at(B, i, j) - same(i, j) : 0,
    ),
  ],
  [
    "a restriction of a restriction",
    operatorA.restrict({ indices: kept }).restrict({ indices: [1, 3] }),
    entries(2, (i, j) => at(A, [2, 6][i]!, [2, 6][j]!)),
  ],
];

test.each(TABLE)("%s", async (_, operator, matrix) => {
  expect(relative(await matrixOf(operator), matrix)).toBeLessThan(1e-14);
});

test("the ways to say which coordinates", async () => {
  const booleans = Array.from({ length: DIM }, (_, i) => kept.includes(i));
  const bytes = Uint8Array.from(booleans, Number);
  const mask = new Mask([{ name: "all", offset: 0, size: DIM }], booleans);
  const wanted = await matrixOf(operatorA.restrict({ indices: kept }));
  for (const choice of [booleans, bytes, mask, { indices: Float64Array.from(kept) }])
    expect(await matrixOf(operatorA.restrict(choice))).toEqual(wanted);
  expect(mask.count).toBe(4);
  expect(Array.from(mask.indices())).toEqual(kept);
});

test("eigenvalues: of a shift shifted, of a multiple multiplied, of a restriction interlaced", async () => {
  const values = async (operator: LinearOperator, k: number) =>
    (await eigsh(operator, { k, which: "LA", tol: 1e-12 })).values;
  const all = await values(operatorA, DIM);
  expect(
    relative(
      await values(operatorA.shift(5), DIM),
      all.map((x) => x + 5),
    ),
  ).toBeLessThan(1e-12);
  expect(
    relative(
      await values(operatorA.scale(1e-9), DIM),
      all.map((x) => x * 1e-9),
    ),
  ).toBeLessThan(1e-12);
  const part = await values(operatorA.restrict({ indices: kept }), kept.length);
  part.forEach((value, i) => {
    expect(value).toBeLessThanOrEqual(all[i]! + 1e-12);
    expect(value).toBeGreaterThanOrEqual(all[i + DIM - kept.length]! - 1e-12);
  });
});

describe("of a network", () => {
  test("globs, masks and indices that name the same tensors give the same operator", async () => {
    const { model, data } = await openCase("mlp_tanh");
    const H = hessian(model, data, { precision: "float64" });
    const { parameters, num_params: P } = caseOf("mlp_tanh");
    const chosen = parameters.filter(({ name }) => name.startsWith("net.2."));
    const bits = new Uint8Array(P);
    for (const { offset, size } of chosen) bits.fill(1, offset, offset + size);

    const byGlob = H.restrict("net.2.*");
    const byMask = H.restrict(bits);
    const byOption = hessian(model, data, { precision: "float64", params: ["net.2.*"] });
    expect(byGlob.dim).toBe(chosen.reduce((sum, { size }) => sum + size, 0));
    expect(byGlob.parameters!.map(({ name, offset }) => [name, offset])).toEqual([
      ["net.2.weight", 0],
      ["net.2.bias", 64 * 128],
    ]);
    expect(byMask.parameters).toEqual(byGlob.parameters);
    const v = vector(2 * byGlob.dim);
    const wanted = await byMask.apply(v);
    expect(relative(await byGlob.apply(v), wanted)).toBeLessThan(1e-12);
    expect(relative(await byOption.apply(v), wanted)).toBeLessThan(1e-12);
    // Names survive, so that restricting goes on.
    const bias = byMask.restrict("*bias");
    expect(bias.dim).toBe(64);
    const w = vector(64);
    expect(relative(await byGlob.restrict("*bias").apply(w), await bias.apply(w))).toBeLessThan(
      1e-12,
    );
    // Random vectors are keyed by parameter, so solvers take the same steps.
    const [a, b] = await Promise.all([
      eigsh(byGlob, { k: 2, tol: 1e-9 }),
      eigsh(byMask, { k: 2, tol: 1e-9 }),
    ]);
    expect(relative(a.values, b.values)).toBeLessThan(1e-10);
    expect(a.products).toBe(b.products);
  });

  test("a Hessian and a function's operator in one sum", async () => {
    const { model, data } = await tinyProblem();
    const H = hessian(model, data, { precision: "float64" });
    const decay = linearOperator(H.dim, (V) => V.map((x) => 0.1 * x));
    const matrix = await matrixOf(H);
    const sum = await matrixOf(H.add(decay));
    const shifted = await matrixOf(H.shift(0.1));
    expect(relative(sum, shifted)).toBeLessThan(1e-14);
    expect(relative(matrix, dense(matrix, H.dim, entries(H.dim, same), H.dim))).toBeLessThan(1e-15);
  });

  test("a function's operator takes on the parameters of what it is added to", async () => {
    const { model, data } = await tinyProblem();
    const part = hessian(model, data, { precision: "float64" }).restrict("w2");
    const decay = linearOperator(part.dim, (V) => V.map((x) => 0.1 * x));
    const wanted = await matrixOf(part.shift(0.1));
    expect(relative(await matrixOf(part.add(decay)), wanted)).toBeLessThan(1e-14);
    expect(relative(await matrixOf(decay.add(part)), wanted)).toBeLessThan(1e-14);
  });

  test("parts that do not fit together are refused by name", async () => {
    const { model, data } = await tinyProblem();
    const H = hessian(model, data, { precision: "float64" });
    const G = ggn(model, data);
    expect(() => H.add(G)).toThrow(OptionError);
    expect(() => H.add(G)).toThrow("float32");
    expect(() => H.add(hessian(model, data, { precision: "float64", params: "w1" }))).toThrow(
      "dimension 12",
    );
    expect(() => H.restrict("v*")).toThrow('restrict: "v*" matches no parameter');
    const { message } = await rejection(H.apply(new Float64Array(3)));
    expect(message).toContain(`expected K times ${H.dim} numbers, the dimension of hessian, got 3`);
  });
});
