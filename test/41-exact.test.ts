// What is known without sampling: whole spectra, diagonals, blocks, per-sample gradients, Jacobians
// and Gram matrices, against the matrices formed by products, and against one another.
import {
  blockDiagonal,
  blockDiagonalOperator,
  classDecomposition,
  type DataSet,
  exactDiagonal,
  exactSpectrum,
  fisher,
  forward,
  ggn,
  gradient,
  gradientCovariance,
  hessian,
  jacobian,
  type LinearOperator,
  type Loss,
  type LossName,
  linearOperator,
  loadData,
  loadModel,
  MemoryBudgetError,
  type Model,
  ntk,
  type OperatorOptions,
  OptionError,
  perSampleGradients,
} from "../lib";
import { openCase, rejection, tinyProblem, vector } from "./50-helpers";
import { Case, caseNames } from "./support/cases";
import { dataOf, dense, netModel, randomTheta } from "./support/networks";
import {
  dot,
  eigenvalues,
  errorOf,
  integers,
  type Matrix,
  normals,
  outerSum,
  rowsOf,
  times,
} from "./support/numbers";

const F64 = { precision: "float64" } as const;

/** A dense network of 3 outputs on 7 samples with the targets of a loss. */
async function network(loss: LossName | Loss): Promise<{ model: Model; data: DataSet }> {
  const name = typeof loss === "string" ? loss : loss.name;
  const widths = [4, 5, 3];
  const model = await netModel({ widths, theta: randomTheta(3, widths), activation: "Tanh" });
  const labels = { data: integers(5, 7, 3), shape: [] };
  const numbers = {
    data: normals(6, 21).map((x) => (name.startsWith("bce") ? Number(x > 0) : x)),
    shape: [3],
  };
  const data = await dataOf({
    x: { data: normals(4, 28), shape: [4] },
    y: name === "cross-entropy" ? labels : numbers,
  });
  return { model, data };
}

type Make = (model: Model, data: DataSet, options: OperatorOptions) => LinearOperator;
const KINDS: [string, Make][] = [
  ["ggn", ggn],
  ["fisher type-2", (m, d, o) => fisher(m, d, { ...o, type: "type-2" })],
  ["fisher mc", (m, d, o) => fisher(m, d, { ...o, type: "mc", draws: 3, seed: 9 })],
  ["fisher empirical", (m, d, o) => fisher(m, d, { ...o, type: "empirical" })],
];
const LOSSES: (LossName | Loss)[] = [
  "cross-entropy",
  { name: "cross-entropy", classWeights: [1, 2, 0.5], labelSmoothing: 0.1 },
  { name: "cross-entropy", reduction: "sum" },
  "mse",
  { name: "mse", reduction: "sum" },
  "bce-with-logits",
  { name: "huber", delta: 0.5 },
];

const diagonalOf = (matrix: Matrix) => matrix.map((row, i) => row[i]!);
const TABLE = LOSSES.flatMap((loss) =>
  KINDS.filter(([kind]) => {
    const likelihood = typeof loss === "string" || loss.name !== "huber";
    return likelihood || kind === "ggn" || kind === "fisher empirical";
  }).map(([kind, make]) => [kind, JSON.stringify(loss), make, loss] as const),
);

describe.each(TABLE)("%s of %s", (_kind, _name, make, loss) => {
  test("rows of samples give the diagonal, the spectrum and the blocks of the matrix", async () => {
    const { model, data } = await network(loss);
    using A = make(model, data, { ...F64, loss });
    const matrix = await dense(A);

    const { diagonal, trace } = await exactDiagonal(A);
    expect(errorOf(diagonal, diagonalOf(matrix))).toBeLessThan(1e-13);
    expect(trace).toBeCloseTo(
      diagonalOf(matrix).reduce((a, b) => a + b, 0),
      12,
    );

    const wanted = eigenvalues(matrix);
    for (const method of ["dense", "dual"] as const) {
      const { values, vectors, order } = await exactSpectrum(A, { method, vectors: 3 });
      expect(errorOf(values, wanted)).toBeLessThan(1e-12);
      expect(order).toBe(method === "dense" ? A.dim : order);
      rowsOf(vectors, A.dim).forEach((v, k) => {
        expect(dot(v, v)).toBeCloseTo(1, 10);
        expect(
          errorOf(
            times(matrix, v),
            v.map((x) => values[k]! * x),
            wanted[0],
          ),
        ).toBeLessThan(1e-9);
      });
    }

    const blocks = await blockDiagonal(A);
    expect(blocks.map(({ name }) => name)).toEqual(["w0", "b0", "w1", "b1"]);
    for (const { indices, matrix: block } of blocks) {
      const at = Array.from(indices);
      expect(
        errorOf(
          block,
          at.flatMap((i) => at.map((j) => matrix[i]![j]!)),
        ),
      ).toBeLessThan(1e-12);
    }
  });
});

test("blocks keep the order of their coordinates, of matrices of rows and of others", async () => {
  const { model, data } = await network("cross-entropy");
  const indices = [7, 2, 30];
  for (const make of [ggn, hessian]) {
    using A = make(model, data, { ...F64, loss: "cross-entropy" });
    const matrix = await dense(A);
    const [block] = await blockDiagonal(A, { blocks: [{ name: "some", indices }] });
    const wanted = indices.flatMap((i) => indices.map((j) => matrix[i]![j]!));
    expect(errorOf(block!.matrix, wanted)).toBeLessThan(1e-13);
  }
});

test("blocks of layers and units as an operator: what is between the groups is dropped", async () => {
  const { model, data } = await network("cross-entropy");
  const { parameters } = model;
  using A = ggn(model, data, { ...F64, loss: "cross-entropy" });
  const matrix = await dense(A);
  for (const by of ["tensor", "unit"] as const) {
    const blocks = await blockDiagonal(A, { by, parameters });
    expect(blocks).toHaveLength(by === "tensor" ? 4 : 5 + 1 + 3 + 1);
    const group = new Int32Array(A.dim);
    blocks.forEach(({ indices }, g) => {
      for (const i of Array.from(indices)) group[i] = g;
    });
    using D = await blockDiagonalOperator(A, { by, parameters });
    const wanted = matrix.map((row, i) => row.map((x, j) => (group[i] === group[j] ? x : 0)));
    const got = await dense(D);
    expect(
      errorOf(
        got.flatMap((r) => [...r]),
        wanted.flatMap((r) => [...r]),
      ),
    ).toBeLessThan(1e-13);
    const { values } = await D.eigenvalues();
    expect(errorOf(values, eigenvalues(wanted))).toBeLessThan(1e-12);
    expect(await D.trace()).toBeCloseTo((await exactDiagonal(A)).trace, 12);
    using inverted = await D.inverse(0.1);
    const v = vector(A.dim);
    const back = await inverted.apply(await D.shift(0.1).apply(v));
    expect(errorOf(back, v)).toBeLessThan(1e-11);
  }
  await expect(blockDiagonal(A, { by: "unit" })).rejects.toThrow(/model.parameters/);
});

test("gradients of samples: their mean, their second moment and their covariance", async () => {
  for (const loss of LOSSES) {
    const { model, data } = await network(loss);
    const options = { ...F64, loss };
    const { gradients, samples, dim } = await perSampleGradients(model, data, options);
    const rows = rowsOf(gradients, dim);
    const sum = typeof loss !== "string" && loss.reduction === "sum";
    const { gradient: g } = await gradient(model, data, options);
    const mean = new Float64Array(dim);
    for (const row of rows) for (let i = 0; i < dim; i++) mean[i]! += row[i]! / (sum ? 1 : samples);
    expect(errorOf(mean, g)).toBeLessThan(1e-12);

    const weights = rows.map(() => (sum ? 1 : 1 / samples));
    const moment = outerSum(rows, weights);
    using F = fisher(model, data, { ...options, type: "empirical" });
    expect(
      errorOf(
        (await dense(F)).flatMap((r) => [...r]),
        moment.flatMap((r) => [...r]),
      ),
    ).toBeLessThan(1e-12);

    using C = await gradientCovariance(model, data, options);
    const centred = rows.map((row) => row.map((x, i) => x - mean[i]! / (sum ? samples : 1)));
    const wanted = outerSum(centred, weights).flatMap((r) => [...r]);
    expect(
      errorOf(
        (await dense(C)).flatMap((r) => [...r]),
        wanted,
      ),
    ).toBeLessThan(1e-11);

    const some = await perSampleGradients(model, data, { ...options, first: 2, last: 5 });
    expect([...some.gradients]).toEqual([...gradients.subarray(2 * dim, 5 * dim)]);
  }
});

test("the Jacobian is adjoint to its transpose, and its Gram matrix is the kernel", async () => {
  const { model, data } = await network("mse");
  const options = { ...F64, loss: "mse" } as const;
  using J = await jacobian(model, data, options);
  expect([J.rows, J.columns, J.splitShape]).toEqual([21, 43, [3]]);
  const V = vector(2 * J.columns) as Float64Array;
  const U = vector(3 * J.rows, 1) as Float64Array;
  const JV = rowsOf(await J.product(V), J.rows);
  const JtU = rowsOf(await J.transposedProduct(U), J.columns);
  rowsOf(V, J.columns).forEach((v, k) => {
    rowsOf(U, J.rows).forEach((u, l) => {
      expect(dot(JV[k]!, u)).toBeCloseTo(dot(v, JtU[l]!), 10);
    });
  });

  const unit = Float64Array.from({ length: 21 * 21 }, (_, i) => Number(i % 22 === 0));
  const rows = rowsOf(await J.transposedProduct(unit), J.columns);
  const { matrix, order, perSample } = await ntk(model, data, options);
  expect([order, perSample]).toEqual([21, 3]);
  expect(
    errorOf(
      matrix,
      rows.flatMap((a) => rows.map((b) => dot(a, b))),
    ),
  ).toBeLessThan(1e-12);
  // For the mse the Gauss-Newton matrix is 2 / (N C) J^T J.
  using G = ggn(model, data, options);
  const wanted = outerSum(
    rows,
    rows.map(() => 2 / 21),
  ).flatMap((r) => [...r]);
  expect(
    errorOf(
      (await dense(G)).flatMap((r) => [...r]),
      wanted,
    ),
  ).toBeLessThan(1e-12);
});

test("Gram matrices in runs of parameters are those of all at once", async () => {
  const { model, data } = await network("cross-entropy");
  const options = { ...F64, loss: "cross-entropy" } as const;
  for (const rows of ["jacobian", "ggn", "empirical"] as const) {
    const whole = await ntk(model, data, { ...options, rows });
    // Room for 64 of the 43 columns is the least that runs take; so a wider network.
    expect(whole.matrix).toHaveLength(whole.order ** 2);
    using A =
      rows === "empirical"
        ? fisher(model, data, { ...options, type: "empirical" })
        : ggn(model, data, options);
    if (rows === "jacobian") continue;
    const gram = eigenvalues(rowsOf(whole.matrix, whole.order));
    const { values } = await exactSpectrum(A, { method: "dense" });
    expect(errorOf(gram.slice(0, 6), [...values].slice(0, 6))).toBeLessThan(1e-12);
  }
  const widths = [20, 30, 3];
  const wide = await netModel({ widths, theta: randomTheta(8, widths), activation: "Tanh" });
  const data2 = await dataOf({
    x: { data: normals(1, 400), shape: [20] },
    y: { data: integers(2, 20, 3), shape: [] },
  });
  const free = await ntk(wide, data2, options);
  // The matrix twice, and a little: 64 columns a run.
  const tight = await ntk(wide, data2, { ...options, maxMemory: 16 * 60 * 60 + 8 * 60 * 70 });
  expect(errorOf(tight.matrix, free.matrix)).toBeLessThan(1e-13);
});

describe("reference networks", () => {
  test.each(["cnn_small", "mlp_relu"])("%s: diagonal and dual spectrum", async (name) => {
    const { model, data: all } = await openCase(name);
    const read = async (threads: number) => {
      using G = ggn(model, all, { ...F64, threads });
      return exactDiagonal(G);
    };
    const one = await read(1);
    expect([...(await read(2)).diagonal]).toEqual([...one.diagonal]);
    using G = ggn(model, all, F64);
    const chosen = [0, 3, 999, G.dim - 1];
    const units = new Float64Array(chosen.length * G.dim);
    for (const [k, i] of chosen.entries()) units[k * G.dim + i] = 1;
    const products = await G.apply(units);
    const scale = Math.max(...one.diagonal);
    expect(
      errorOf(
        chosen.map((i) => one.diagonal[i]!),
        chosen.map((i, k) => products[k * G.dim + i]!),
        scale,
      ),
    ).toBeLessThan(1e-12);
  });

  test("a product with the dual eigenvectors gives the values, and the trace is their sum", async () => {
    const { model, data } = await openCase("cnn_small");
    using F = fisher(model, data, { ...F64, type: "empirical" });
    const { values, vectors, method, order } = await exactSpectrum(F, { vectors: 5 });
    expect([method, order]).toEqual(["dual", data.samples]);
    const products = await F.apply(vectors);
    const wanted = vectors.map((x, i) => x * values[Math.floor(i / F.dim)]!);
    expect(errorOf(products, wanted)).toBeLessThan(1e-9);
    const { trace } = await exactDiagonal(F);
    expect(values.reduce((a, b) => a + b, 0) / trace).toBeCloseTo(1, 12);
  });
});

// Convolutions with and without normalisation, attention, embeddings, sequences, fixed batches.
test.each(caseNames)("%s: the diagonal is that of products with unit vectors", async (name) => {
  const reference = new Case(name);
  using model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
  using data = await loadData({ x: reference.path("x.npy"), y: reference.path("y.npy") });
  for (const make of [ggn, KINDS[2]![1], KINDS[3]![1]]) {
    using A = make(model, data, F64);
    const { diagonal } = await exactDiagonal(A);
    const chosen = Array.from({ length: 8 }, (_, k) => Math.floor((k * (A.dim - 1)) / 7));
    const units = new Float64Array(chosen.length * A.dim);
    for (const [k, i] of chosen.entries()) units[k * A.dim + i] = 1;
    const products = await A.apply(units);
    const got = chosen.map((i) => diagonal[i]!);
    const wanted = chosen.map((i, k) => products[k * A.dim + i]!);
    expect(errorOf(got, wanted, Math.max(...diagonal))).toBeLessThan(1e-13);
  }
});

test("the class decomposition: its parts sum to the matrix, and have their ranks", async () => {
  const { model, data } = await network("cross-entropy");
  const options = { ...F64, loss: "cross-entropy" } as const;
  const parts = await classDecomposition(model, data, options);
  using G = ggn(model, data, options);
  const [whole, byClass, cross, within] = await Promise.all(
    [G, parts.class, parts.cross, parts.within].map(dense),
  );
  const flat = (m: Matrix) => m.flatMap((row) => [...row]);
  const sum = flat(byClass!).map((x, i) => x + flat(cross!)[i]! + flat(within!)[i]!);
  expect(errorOf(sum, flat(whole!))).toBeLessThan(1e-12);
  const trace = (m: Matrix) => diagonalOf(m).reduce((a, b) => a + b, 0);
  expect(parts.traces.class).toBeCloseTo(trace(byClass!), 12);
  expect(parts.traces.cross).toBeCloseTo(trace(cross!), 12);
  expect(parts.traces.within).toBeCloseTo(trace(within!), 12);
  expect(parts.traces.total).toBeCloseTo(trace(whole!), 12);
  expect(parts.weights.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 12);
  // Every part is a sum of squares.
  for (const part of [byClass, cross, within])
    expect(Math.min(...eigenvalues(part!))).toBeGreaterThan(-1e-14);
  expect(eigenvalues(byClass!).filter((x) => x > 1e-12)).toHaveLength(3);
  expect(eigenvalues(cross!).filter((x) => x > 1e-12).length).toBeLessThanOrEqual(6);

  // The means by the definition: rows (p - e_c')^T J of single samples.
  using J = await jacobian(model, data, options);
  const unit = Float64Array.from({ length: 21 * 21 }, (_, i) => Number(i % 22 === 0));
  const rows = rowsOf(await J.transposedProduct(unit), J.columns);
  const logits = rowsOf((await forward(model, data, F64)).values, 3);
  const labels = integers(5, 7, 3);
  const mean = new Float64Array(J.columns);
  let weight = 0;
  const [c, d] = [labels[0]!, (labels[0]! + 1) % 3];
  logits.forEach((z, n) => {
    if (labels[n] !== c) return;
    const e = z.map(Math.exp);
    const p = e.map((x) => x / e.reduce((a, b) => a + b, 0));
    weight += p[d]! / 7;
    for (let i = 0; i < J.columns; i++) {
      const average = p.reduce((s, q, k) => s + q * rows[3 * n + k]![i]!, 0);
      mean[i]! += (p[d]! / 7) * (average - rows[3 * n + d]![i]!);
    }
  });
  expect(parts.weights[3 * c + d]).toBeCloseTo(weight, 13);
  const at = (3 * c + d) * J.columns;
  expect(
    errorOf(
      parts.crossClassMeans.subarray(at, at + J.columns),
      mean.map((x) => x / weight),
    ),
  ).toBeLessThan(1e-11);
});

describe("wrong uses", () => {
  test("each says what was expected", async () => {
    const { model, data } = await tinyProblem();
    using H = hessian(model, data, F64);
    using G = ggn(model, data, F64);
    const f = linearOperator(3, (V) => V);
    const cases: [() => Promise<unknown>, typeof OptionError | typeof MemoryBudgetError, RegExp][] =
      [
        [() => exactSpectrum(H, { method: "dual" }), OptionError, /Gauss-Newton or Fisher/],
        [() => exactSpectrum(f, { method: "dual" }), OptionError, /operator of a network/],
        [() => exactSpectrum(G, { vectors: 99 }), OptionError, /at most 26/],
        [() => exactSpectrum(G, { method: "dual", vectors: 11 }), OptionError, /at most 10/],
        [
          () => exactSpectrum(G, { method: "dense", maxMemory: 1000 }),
          MemoryBudgetError,
          /restrict/,
        ],
        [() => exactDiagonal(H), OptionError, /sum over the samples/],
        [() => exactDiagonal(f), OptionError, /operator of a network/],
        [() => classDecomposition(model, data, F64), OptionError, /cross-entropy/],
        [
          () => perSampleGradients(model, data, { first: 3, last: 3 }),
          OptionError,
          /first < last <= 5/,
        ],
        [
          () => blockDiagonal(G, { blocks: [{ name: "b", indices: [26] }] }),
          OptionError,
          /0 to 25/,
        ],
        [() => ntk(model, data, { maxMemory: 100 }), MemoryBudgetError, /budget/],
      ];
    for (const [start, kind, text] of cases) {
      const error = await rejection(start());
      expect(error).toBeInstanceOf(kind);
      expect(error.message).toMatch(text);
    }
    using J = await jacobian(model, data, F64);
    await expect(J.product(new Float64Array(25))).rejects.toThrow(/K times 26/);
    const { values } = await exactSpectrum(f);
    expect([...values]).toEqual([1, 1, 1]);
  });
});
