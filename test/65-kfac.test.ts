// KFAC and EKFAC against curvlinops, closed forms and identities.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  AbortError,
  blockDiagonal,
  type DataSet,
  eigsh,
  exactDiagonal,
  fisher,
  ggn,
  type KfacOptions,
  kfac,
  type LinearOperator,
  type Loss,
  linearOperator,
  loadData,
  loadModel,
  type Model,
  OptionError,
  type StructuredOperator,
  solve,
  structuredOperator,
} from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { CASES, openCase, rejection, relative, tinyProblem, vector } from "./50-helpers";
import { Case, caseNames, readNpy } from "./support/cases";

interface Row {
  corrected: boolean;
  type: "type-2" | "empirical";
  sharing: "expand" | "reduce";
  joint: boolean;
  trace: number;
  frobenius: number;
  damping: number;
  products: number[];
  inverse: number[];
  heuristic?: number[];
}
const REFERENCE: { case: string; rows: Row[] }[] = JSON.parse(
  readFileSync(join(__dirname, "fixtures", "kfac", "kfac.json"), "utf8"),
);

const wave = (n: number, f: (x: number) => number, a: number, b: number) =>
  Float64Array.from({ length: n }, (_, i) => f(a * i + b));

async function inner(op: StructuredOperator, sizes: number[]): Promise<number[]> {
  const v = wave(op.dim, Math.sin, 0.7, 0.3);
  const w = wave(op.dim, Math.cos, 1.3, 0.1);
  const y = await op.apply(v);
  let at = 0;
  return sizes.map((size) => {
    let sum = 0;
    for (let i = at; i < at + size; i++) sum += y[i]! * w[i]!;
    at += size;
    return sum;
  });
}

describe.each(REFERENCE)("$case beside curvlinops", ({ case: name, rows }) => {
  let model: Model;
  let data: DataSet;
  beforeAll(async () => {
    ({ model, data } = await openCase(name));
  });

  test.each(rows)(
    "corrected $corrected, $type, $sharing, joint $joint",
    async ({ corrected, type, sharing, joint, ...wanted }) => {
      const options: KfacOptions = { type, sharing, joint, precision: "float64" };
      using op = await kfac(model, data, { ...options, eigenvalueCorrected: corrected });
      const sizes = model.parameters.map(({ size }) => size);
      expect(await op.trace()).toBeCloseTo(wanted.trace, 10);
      expect(relative(await inner(op, sizes), wanted.products)).toBeLessThan(1e-10);
      expect((await op.eigenvalues()).frobenius / wanted.frobenius - 1).toBeCloseTo(0, 10);
      using inverse = await op.inverse(wanted.damping);
      expect(relative(await inner(inverse, sizes), wanted.inverse)).toBeLessThan(1e-7);
      if (wanted.heuristic) {
        using heuristic = await op.inverse(wanted.damping, { how: "heuristic" });
        // curvlinops damps B for a bias of its own as for the weight beside it; we, as it stands.
        const weights = (_: number, i: number) => joint || i % 2 === 0;
        const got = (await inner(heuristic, sizes)).filter(weights);
        expect(relative(got, wanted.heuristic.filter(weights))).toBeLessThan(1e-8);
      }
    },
  );
});

const TYPES = [
  { type: "type-2" },
  { type: "mc", draws: 3, seed: 7 },
  { type: "empirical" },
] as const;

// With corrected eigenvalues the trace of a block is that of the matrix it stands for, whatever the
// layer: the samples' own gradients against those that the layers' rows make.
describe("corrected eigenvalues keep the trace of every tensor", () => {
  test.each(caseNames.flatMap((name) => TYPES.map((fisher) => ({ name, ...fisher }))))(
    "$name, $type",
    async ({ name, ...type }) => {
      const { model, data } = await openReference(name, 6);
      const options = { ...type, precision: "float64" } as const;
      using exact = fisher(model, data, options);
      const { diagonal } = await exactDiagonal(exact);
      using op = await kfac(model, data, {
        ...options,
        eigenvalueCorrected: true,
        others: "diagonal",
      });
      await checkTraces(op, model, diagonal);
    },
  );

  test.each(["autoencoder", "cnn_small", "resnet_bn", "sequence_mse", "transformer"])(
    "%s, weight and bias in one block",
    async (name) => {
      const { model, data } = await openReference(name, 6);
      using exact = fisher(model, data, { type: "empirical", precision: "float64" });
      const { diagonal } = await exactDiagonal(exact);
      using op = await kfac(model, data, {
        type: "empirical",
        precision: "float64",
        eigenvalueCorrected: true,
        joint: true,
        others: "diagonal",
      });
      expect((await op.blocks()).some((block) => block.name.includes(" + "))).toBe(true);
      await checkTraces(op, model, diagonal);
    },
  );

  const LOSSES: Loss[] = [
    { name: "cross-entropy", reduction: "sum" },
    { name: "cross-entropy", classWeights: [1, 2, 0.5, 1, 3, 1, 1, 0.1, 1, 1] },
    { name: "cross-entropy", labelSmoothing: 0.2, ignoreIndex: 3 },
  ];
  test.each(LOSSES)("%j", async (loss) => {
    const { model, data } = await openReference("mlp_relu", 9);
    for (const type of ["type-2", "empirical"] as const) {
      using exact = fisher(model, data, { type, loss, precision: "float64" });
      const { diagonal } = await exactDiagonal(exact);
      const options = { type, loss, precision: "float64", eigenvalueCorrected: true } as const;
      using op = await kfac(model, data, options);
      await checkTraces(op, model, diagonal);
    }
  });

  test("bce-with-logits, with weights of positive examples", async () => {
    const { model } = await tinyProblem();
    const data = await loadData({
      x: { data: vector(15, 4), shape: [5, 3] },
      y: { data: Float64Array.from([1, 0, 0, 1, 1, 1, 0, 0, 0.3, 0.8]), shape: [5, 2] },
    });
    const loss = { name: "bce-with-logits", posWeight: [2, 0.5] } as const;
    using exact = ggn(model, data, { loss, precision: "float64" });
    const { diagonal } = await exactDiagonal(exact);
    const options = { loss, precision: "float64", eigenvalueCorrected: true } as const;
    using op = await kfac(model, data, options);
    await checkTraces(op, model, diagonal);
  });
});

async function openReference(name: string, samples: number) {
  const reference = new Case(name);
  const model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
  const data = await loadData(
    { x: reference.path("x.npy"), y: reference.path("y.npy") },
    { samples },
  );
  return { model, data };
}

/** Traces of the blocks against those of their tensors in an exact diagonal. */
async function checkTraces(op: StructuredOperator, model: Model, diagonal: Float64Array) {
  const found = new Map<string, number>();
  for (const { name, trace } of await op.blocks()) {
    const tensors = name.replace(/\[\d+\]$/, "");
    found.set(tensors, (found.get(tensors) ?? 0) + trace);
  }
  const traceOf = (tensor: string) => {
    const { offset, size } = model.parameters.find(({ name }) => name === tensor)!;
    return diagonal.subarray(offset, offset + size).reduce((a, b) => a + b, 0);
  };
  for (const [tensors, trace] of found) {
    const wanted = tensors.split(" + ").reduce((sum, tensor) => sum + traceOf(tensor), 0);
    expect([tensors, trace / wanted]).toEqual([tensors, expect.closeTo(1, 9)]);
  }
  expect((await op.trace()) / diagonal.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 9);
}

/** Largest entry of the difference of two operators over the largest of the second. */
async function distance(a: LinearOperator, b: LinearOperator): Promise<number> {
  const V = wave(4 * a.dim, Math.sin, 0.37, 0.2);
  return relative(await a.apply(V), await b.apply(V));
}

describe("where the approximation is exact", () => {
  test("type-2 of the mse of a linear network, at any depth", async () => {
    const { model, data } = await openReference("deep_linear", 32);
    using exact = ggn(model, data, { precision: "float64" });
    using blocks = structuredOperator(exact, await blockDiagonal(exact));
    using op = await kfac(model, data, { precision: "float64" });
    expect(await distance(op, blocks)).toBeLessThan(1e-12);
    using corrected = await kfac(model, data, { precision: "float64", eigenvalueCorrected: true });
    expect(await distance(corrected, blocks)).toBeLessThan(1e-12);
  });

  test("the empirical matrix of a single sample, without shared weights", async () => {
    const { model } = await tinyProblem();
    const data = await loadData({
      x: { data: vector(3, 4), shape: [1, 3] },
      y: { data: vector(2, 5), shape: [1, 2] },
    });
    using exact = fisher(model, data, { type: "empirical", precision: "float64" });
    using blocks = structuredOperator(exact, await blockDiagonal(exact));
    using op = await kfac(model, data, { type: "empirical", precision: "float64" });
    expect(await distance(op, blocks)).toBeLessThan(1e-12);
  });

  test("biases, and shared weights of inputs that are the same everywhere: reduce", async () => {
    // The rows of a sequence are equal, so that a sample's gradient is delta summed times a.
    const net = modelBytes({
      nodes: [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["out"])],
      inputs: [value("x", ["N", 3, 2])],
      outputs: [value("out", ["N", 3, 4])],
      initializers: [
        floats("w", [2, 4], Array.from(wave(8, Math.sin, 1, 0))),
        floats("b", [4], [1, 2, 3, 4]),
      ],
    });
    const model = await loadModel(net, { loss: "mse" });
    const rows = [0.5, -1.5, 2, 0.25].flatMap((a) => [a, 1, a, 1, a, 1]);
    const data = await loadData({
      x: { data: Float64Array.from(rows.slice(0, 6)), shape: [1, 3, 2] },
      y: { data: wave(12, Math.cos, 2, 1), shape: [1, 3, 4] },
    });
    const options = { type: "empirical", precision: "float64" } as const;
    using exact = fisher(model, data, options);
    using blocks = structuredOperator(exact, await blockDiagonal(exact));
    using reduce = await kfac(model, data, { ...options, sharing: "reduce" });
    expect(await distance(reduce, blocks)).toBeLessThan(1e-12);
    using expand = await kfac(model, data, options);
    expect(await distance(expand, blocks)).toBeGreaterThan(0.1);
  });
});

describe("what holds for every one", () => {
  const KINDS: KfacOptions[] = [
    {},
    { eigenvalueCorrected: true },
    { sharing: "reduce", joint: true },
    { type: "mc", draws: 2, eigenvalueCorrected: true, joint: true },
  ];
  let model: Model;
  let data: DataSet;
  beforeAll(async () => {
    ({ model, data } = await openReference("cnn_small", 40));
  });

  test.each(KINDS)("%j: symmetric, semi-definite, inverted, traced", async (kind) => {
    using op = await kfac(model, data, { ...kind, precision: "float64" });
    const { dim } = op;
    const [v, w] = [vector(dim, 1), vector(dim, 2)];
    const [Av, Aw] = [await op.apply(v), await op.apply(w)];
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      Array.from(a).reduce((sum, x, i) => sum + x * b[i]!, 0);
    expect(dot(Av, w) / dot(Aw, v)).toBeCloseTo(1, 10);
    const { values, trace, frobenius, blocks } = await op.eigenvalues();
    expect(values).toHaveLength(dim);
    expect(values.at(-1)! / values[0]!).toBeGreaterThanOrEqual(0);
    expect(values.reduce((a, b) => a + b, 0) / trace).toBeCloseTo(1, 10);
    expect(Math.hypot(...values) / frobenius).toBeCloseTo(1, 10);
    expect(blocks.reduce((sum, block) => sum + block.size, 0)).toBe(dim);

    const damping = trace / dim;
    using inverse = await op.inverse(damping);
    const y = await inverse.apply(Av.map((x, i) => x + damping * v[i]!));
    expect(relative(y, v)).toBeLessThan(1e-10);
    const logDet = values.reduce((sum, x) => sum + Math.log(x + damping), 0);
    expect(await op.logDeterminant(damping)).toEqual({
      value: expect.closeTo(logDet, 6),
      sign: 1,
    });
    expect((await inverse.logDeterminant()).value).toBeCloseTo(-logDet, 6);

    // A solver sees an operator like any other.
    const top = await eigsh(op, { k: 2, which: "LA" });
    expect(top.values[0]! / values[0]!).toBeCloseTo(1, 8);
  });

  test.each(KINDS)("%j: any micro-batch, bit-identical for any threads", async (kind) => {
    const options = { ...kind, precision: "float64" } as const;
    using one = await kfac(model, data, { ...options, threads: 1, batch: 16 });
    using four = await kfac(model, data, { ...options, threads: 4, batch: 16 });
    using odd = await kfac(model, data, { ...options, batch: 13 }); // and one of 1
    const v = vector(one.dim);
    const wanted = await one.apply(v);
    expect(await four.apply(v)).toEqual(wanted);
    expect(await one.apply(v)).toEqual(wanted);
    expect(relative(await odd.apply(v), wanted)).toBeLessThan(1e-10);
  });

  test("float32 agrees with float64", async () => {
    using single = await kfac(model, data);
    using double = await kfac(model, data, { precision: "float64" });
    const v = vector(single.dim);
    expect(single.dtype).toBe("float32");
    const got = await single.apply(Float32Array.from(v));
    expect(relative(got, await double.apply(v))).toBeLessThan(1e-5);
  });

  test("more draws come closer to type-2", async () => {
    using exact = await kfac(model, data, { precision: "float64" });
    const errors: number[] = [];
    for (const draws of [4, 400]) {
      using mc = await kfac(model, data, { type: "mc", draws, precision: "float64" });
      errors.push(await distance(mc, exact));
    }
    expect(errors[1]! * 4).toBeLessThan(errors[0]!);
    expect(errors[1]!).toBeLessThan(0.05);
  });

  test("some tensors only: the blocks of the whole", async () => {
    using all = await kfac(model, data, { precision: "float64" });
    using part = await kfac(model, data, { precision: "float64", params: ["conv2.*", "fc.bias"] });
    expect(part.parameters!.map(({ name }) => name)).toEqual([
      "conv2.weight",
      "conv2.bias",
      "fc.bias",
    ]);
    using restricted = all.restrict(["conv2.*", "fc.bias"]);
    expect(await distance(part, restricted)).toBeLessThan(1e-13);
  });

  test("expand and reduce are one where no weight is shared", async () => {
    const { model: mlp, data: flat } = await openReference("mlp_relu", 30);
    using expand = await kfac(mlp, flat, { precision: "float64" });
    using reduce = await kfac(mlp, flat, { precision: "float64", sharing: "reduce" });
    expect(await distance(reduce, expand)).toBeLessThan(1e-13);
  });

  test("the split and the micro-batch are reported", async () => {
    using op = await kfac(model, data);
    expect(await op.report()).toEqual([
      expect.objectContaining({ split: "at the output", warnings: [] }),
    ]);
  });
});

test("its inverse is a preconditioner like any other", async () => {
  const { model, data } = await openReference("conv1d", 20);
  const options = { precision: "float64" } as const;
  using G = ggn(model, data, options);
  using op = await kfac(model, data, { ...options, eigenvalueCorrected: true });
  const damping = (await op.trace()) / op.dim;
  using preconditioner = await op.inverse(damping);
  const b = vector(G.dim);
  const plain = await solve(G, b, { damping, tol: 1e-8 });
  const other = await solve(G, b, { damping, tol: 1e-8, preconditioner });
  expect([plain.converged, other.converged]).toEqual([true, true]);
  expect(relative(other.solution, plain.solution)).toBeLessThan(1e-6);
});

describe("factors", () => {
  test("of a convolution, in the order of the tensor", async () => {
    const { model, data } = await openReference("cnn_small", 5);
    using op = await kfac(model, data, { precision: "float64" });
    const blocks = await op.blocks();
    const at = blocks.findIndex(({ name }) => name === "conv1.weight");
    const { indices, parts } = await op.parts(at);
    expect(Array.from(indices)).toEqual(Array.from({ length: 144 }, (_, i) => i));
    expect(parts.map(({ name, shape }) => [name, shape])).toEqual([
      ["B", [16, 16]],
      ["A", [9, 9]],
    ]);
    // The middle of the window sees every pixel once: its mean square.
    const x = readNpy(join(CASES, "cnn_small", "x.npy")).data.subarray(0, 5 * 64);
    const A = parts[1]!.values;
    expect(A[4 * 9 + 4]).toBeCloseTo(x.reduce((sum, p) => sum + p * p, 0) / x.length, 12);
    // The left and the right neighbour: two pixels apart in a row, 6 of 8 columns.
    let apart = 0;
    for (let i = 0; i < x.length; i++) if (i % 8 < 6) apart += x[i]! * x[i + 2]!;
    expect(A[3 * 9 + 5]).toBeCloseTo(apart / x.length, 12);
  });

  test("of a grouped convolution are one a group", async () => {
    const { model, data } = await openReference("mobilenet", 5);
    using op = await kfac(model, data, { others: "identity" });
    const names = (await op.blocks()).map(({ name }) => name);
    expect(names.filter((name) => name.startsWith("block.3.weight["))).toHaveLength(12);
  });
});

describe("blocks of given numbers", () => {
  test("a diagonal with its inverse, and dense blocks with theirs, at any scale", async () => {
    const like = linearOperator(4, (V) => V);
    for (const c of [1e-12, 1, 1e12]) {
      const op = structuredOperator(like, [
        { name: "d", indices: [3, 1], diagonal: Float64Array.of(4 * c, 2 * c) },
        { name: "m", indices: [0, 2], matrix: Float64Array.of(2 * c, c, c, 2 * c) },
      ]);
      expect(Array.from(await op.apply(Float64Array.of(1, 1, 0, 1)), (x) => x / c)).toEqual([
        2, 2, 1, 4,
      ]);
      const { values, blocks } = await op.eigenvalues();
      expect(Array.from(values, (x) => x / c)).toEqual([4, 3, 2, 1].map((x) => expect.closeTo(x)));
      expect(blocks.map(({ kind }) => kind)).toEqual(["diagonal", "dense"]);
      const { value, sign } = await op.logDeterminant();
      expect([value, sign]).toEqual([expect.closeTo(Math.log(24) + 4 * Math.log(c), 9), 1]);
      const inverse = await op.inverse(0);
      const back = await inverse.apply(await op.apply(vector(4)));
      expect(relative(back, vector(4))).toBeLessThan(1e-14);
    }
  });

  test("one diagonal for all: the exact one of an operator", async () => {
    const { model, data } = await tinyProblem();
    using G = ggn(model, data, { precision: "float64" });
    const { diagonal, trace } = await exactDiagonal(G);
    const op = structuredOperator(G, diagonal);
    expect(await op.apply(new Float64Array(G.dim).fill(1))).toEqual(diagonal);
    expect(await op.trace()).toBeCloseTo(trace, 12);
    expect(op.parameters).toEqual(G.parameters);
  });

  test("an indefinite or a singular one", async () => {
    const like = linearOperator(2, (V) => V);
    const op = structuredOperator(like, [
      { name: "m", indices: [0, 1], matrix: Float64Array.of(1, 2, 2, 1) },
    ]);
    expect((await op.logDeterminant()).sign).toBe(-1);
    const zero = structuredOperator(like, [
      { name: "z", indices: [0, 1], diagonal: Float64Array.of(1, 0) },
    ]);
    expect(await zero.logDeterminant()).toEqual({ value: -Infinity, sign: 0 });
    const error = await rejection(zero.inverse(0));
    expect(error).toBeInstanceOf(OptionError);
    expect(error.message).toMatch(/the block of z with damping 0 is singular.*larger damping/s);
  });

  test.each([
    [{ name: "a", indices: [0, 0], diagonal: Float64Array.of(1, 2) }, /coordinate 0 twice/],
    [{ name: "a", indices: [0], diagonal: Float64Array.of(1) }, /leave 1 of 2 coordinates out/],
    [{ name: "a", indices: [0, 1], matrix: Float64Array.of(1) }, /a: expected 4 numbers.*got 1/],
  ])("refuses %#", (block, message) => {
    const like = linearOperator(2, (V) => V);
    expect(() => structuredOperator(like, [block])).toThrow(OptionError);
    expect(() => structuredOperator(like, [block])).toThrow(message);
  });
});

describe("wrong uses", () => {
  test("tensors that no layer has are named, with what to do", async () => {
    const { model, data } = await openReference("transformer", 2);
    const error = await rejection(kfac(model, data));
    expect(error).toBeInstanceOf(OptionError);
    expect(error.message).toMatch(/positions: it is added position by position/);
    expect(error.message).toMatch(/norm1.weight: it scales other values/);
    expect(error.message).toMatch(/others: "diagonal"/);
  });

  test("tied weights are no layer of their own", async () => {
    const { model, data } = await openReference("gpt_tied", 2);
    const error = await rejection(kfac(model, data, { params: "tokens.weight" }));
    expect(error.message).toMatch(/tokens.weight: it is an operand of Gather \(an embedding\)/);
  });

  test("losses without such a matrix, options, and what is no structured operator", async () => {
    const { model, data } = await openReference("mlp_relu", 4);
    const errors = [
      [kfac(model, data, { loss: "nll" }), /nll is linear in the output/],
      [kfac(model, data, { draws: 2 }), /draws and seed belong to type "mc", got type "type-2"/],
      [kfac(model, data, { sharing: "both" as never }), /sharing: expected one of "expand", "red/],
      [kfac(model, data, { maxMemory: 1000 }), /the factors take about \d+ bytes/],
    ] as const;
    for (const [promise, message] of errors)
      expect((await rejection(promise)).message).toMatch(message);
    using corrected = await kfac(model, data, { eigenvalueCorrected: true });
    const heuristic = await rejection(corrected.inverse(1, { how: "heuristic" }));
    expect(heuristic.message).toMatch(/heuristic damping is for Kronecker products/);
    expect((await rejection(corrected.inverse(-1))).message).toMatch(/damping: expected a number/);
    expect((await rejection(corrected.parts(99))).message).toMatch(
      /block: expected 0 to 5, got 99/,
    );
  });

  test("an aborted call, and a disposed operator", async () => {
    const { model, data } = await openReference("mlp_relu", 4);
    const aborted = AbortSignal.abort();
    expect(await rejection(kfac(model, data, { signal: aborted }))).toBeInstanceOf(AbortError);
    const fractions: number[] = [];
    const op = await kfac(model, data, {
      onProgress: ({ fraction }) => fractions.push(fraction ?? -1),
    });
    for (const fraction of fractions) expect(fraction).toBeGreaterThan(0);
    op.dispose();
    const error = await rejection(op.trace());
    expect(error).toBeInstanceOf(OptionError);
    expect(error.message).toMatch(/disposed of/);
  });
});
