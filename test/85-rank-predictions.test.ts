// Ranks derived from network, loss and data, against measured ones and the tables of the literature.
import { loadData, loadModel, type Model, mlp, rankParts, rankPrediction, rankSweep } from "../lib";
import { biasedRanks, linearRanks } from "../lib/rank/formulas";
import { DataType, modelBytes, node, value } from "./10-model-maker";
import { openCase, rejection } from "./50-helpers";
import { type CnnCase, type LinearCase, linearCnn, linearProblem, lowRank } from "./support/linear";
import { doubles } from "./support/networks";
import { integers, normals, uniform } from "./support/numbers";

type Ranks = [outer: number, functional: number, whole: number];

/** Measured and predicted ranks of a network. */
async function both(given: { model: Model; data: Awaited<ReturnType<typeof loadData>> }) {
  const found = await rankParts(given.model, given.data);
  given.data.dispose();
  const parts = [found.ggn, found.functional, found.hessian];
  const { prediction } = found;
  const predictions = [prediction!.ggn, prediction!.functional, prediction!.hessian];
  return {
    found,
    prediction: prediction!,
    measured: parts.map(({ rank }) => rank),
    predicted: predictions.map((part) => part?.rank),
    methods: predictions.map((part) => part?.method ?? "none").join(", "),
  };
}

const CLOSED = "closed form, closed form, closed form";

describe("linear networks without biases", () => {
  const CASES: [string, LinearCase, Ranks][] = [
    ["O1", { widths: [25, 5, 10, 10], samples: 50 }, [150, 175, 250]],
    ["O2", { widths: [5, 4, 3] }, [15, 24, 30]],
    ["O3", { widths: [4, 3, 2] }, [8, 12, 16]],
    ["O4", { widths: [6, 5, 4, 3] }, [18, 45, 54]],
    ["O5", { widths: [5, 2, 3] }, [12, 12, 16]],
    ["O6", { widths: [8, 2, 6, 4], samples: 60 }, [20, 36, 44]],
    ["O7", { widths: [10, 6, 3], samples: 50, dataRank: 4 }, [12, 36, 39]],
    ["O7b", { widths: [10, 6, 3], samples: 2 }, [6, 24, 26]],
    ["O8", { widths: [6, 8, 1] }, [6, 16, 21]],
    ["O8b", { widths: [4, 5, 5, 5, 2] }, [8, 52, 56]],
    ["O8c", { widths: [5, 6, 4], loss: "cross-entropy" }, [15, 36, 42]],
    ["O8d", { widths: [16, 4, 4, 10], loss: "cross-entropy", samples: 80 }, [84, 88, 116]],
    ["O8e", { widths: [5, 4, 3], residualRank: 0 }, [15, 0, 15]],
    ["O8e", { widths: [6, 5, 4, 3], residualRank: 0 }, [18, 0, 18]],
    ["residuals of rank 1", { widths: [5, 4, 3], residualRank: 1 }, [15, 8, 22]],
    ["residuals of rank 2", { widths: [5, 4, 3], residualRank: 2 }, [15, 16, 27]],
    ["residuals of rank 1", { widths: [6, 5, 4, 3], residualRank: 1 }, [18, 17, 34]],
    ["residuals of rank 2", { widths: [6, 5, 4, 3], residualRank: 2 }, [18, 32, 46]],
    ["residuals of rank 1", { widths: [8, 3, 6, 5], residualRank: 1 }, [30, 17, 46]],
    ["residuals of rank 2", { widths: [8, 3, 6, 5], residualRank: 2 }, [30, 32, 58]],
    ["residuals of rank 4", { widths: [8, 3, 6, 5], residualRank: 4 }, [30, 51, 66]],
    ["residuals of rank 3", { widths: [8, 2, 6, 5], residualRank: 3 }, [22, 32, 46]],
    ["residuals of rank 2", { widths: [6, 5, 5, 5, 4], residualRank: 2 }, [24, 52, 72]],
  ];
  // The authors' own results: two hidden layers on data of dimension 64 and rank 41.
  const WIDTHS: [number, Ranks][] = [
    [4, [184, 88, 216]],
    [8, [336, 208, 464]],
    [12, [369, 351, 639]],
  ];
  for (const [width, ranks] of WIDTHS)
    CASES.push([
      "published",
      { widths: [64, width, width, 10], loss: "cross-entropy", samples: 100, dataRank: 41 },
      ranks,
    ]);

  test.each(CASES)("%s: %j", async (_, given, ranks) => {
    const { measured, predicted, methods, prediction, found } = await both(
      await linearProblem(given),
    );
    expect({ measured, predicted, methods }).toEqual({
      measured: ranks,
      predicted: ranks,
      methods: CLOSED,
    });
    const { form, reason, widths, biased, conditions } = prediction;
    expect({ form, reason, widths, biased }).toEqual({
      form: "linear",
      reason: "",
      widths: given.widths,
      biased: false,
    });
    expect(conditions).toEqual([
      { what: "products of consecutive weights have full rank", holds: true },
    ]);
    expect(found.hessian.redundancy).toBeCloseTo(1 - ranks[2] / found.parameters, 14);
    if (given.residualRank !== undefined) expect(prediction.residual.rank).toBe(given.residualRank);
    expect(prediction.data.rank).toBe(
      Math.min(given.dataRank ?? 1e9, given.samples ?? 40, given.widths[0]!),
    );
  });

  test("O10 and O11: diagonal weights on white data, fitted and not", async () => {
    const root = Math.sqrt(3);
    const parameters = [2, 0, 0, 0, 1, 0, 3, 0, 0, 0.5];
    const model = await loadModel(mlp({ widths: [3, 2, 2], bias: false, parameters }), {
      loss: "mse",
    });
    const x = { data: Float64Array.of(root, 0, 0, 0, root, 0, 0, 0, root), shape: [3, 3] };
    const y = [6 * root, 0, 0, 0.5 * root, 0, 0];
    const off = [root, 0, 0, 2 * root, 0, 0];
    for (const [shift, ranks] of [
      [0, [6, 0, 6]],
      [1, [6, 8, 10]],
    ] as const) {
      const targets = Float64Array.from(y, (value, i) => value - shift * off[i]!);
      const data = await loadData({ x, y: { data: targets, shape: [3, 2] } });
      const { measured, predicted } = await both({ model, data });
      expect({ measured, predicted }).toEqual({ measured: ranks, predicted: ranks });
    }
  });

  test("the wider published networks, from the formulas alone", () => {
    const published: [number, Ranks][] = [
      [16, [369, 495, 783]],
      [20, [369, 639, 927]],
      [24, [369, 783, 1071]],
      [28, [369, 927, 1215]],
      [32, [369, 1071, 1359]],
      [36, [369, 1215, 1503]],
    ];
    for (const [width, ranks] of published) {
      const { ggn, functional, hessian } = linearRanks({
        widths: [64, width, width, 10],
        dataRank: 41,
        curvatureRank: 9,
        residualRank: 9,
      });
      expect([ggn!.rank, functional!.rank, hessian!.rank]).toEqual(ranks);
    }
  });

  test("weights of low rank are named, and the measured ranks fall short", async () => {
    const { model, data } = await linearProblem({ widths: [5, 4, 3] });
    const theta = normals(3, 32);
    theta.set(lowRank(4, 3, 4, 2), 20);
    const { measured, predicted, prediction } = await both({
      model: model.withParameters(theta),
      data,
    });
    expect(predicted).toEqual([15, 24, 30]);
    expect(measured[0]).toBe(2 * 5 + 4);
    expect(prediction.conditions).toContainEqual({
      what: "the weight fc2.weight has rank 2 of 3",
      holds: false,
    });
  });
});

describe("linear networks with biases", () => {
  const CASES: [LinearCase, Ranks, string][] = [
    [{ widths: [5, 4, 3] }, [18, 24, 36], CLOSED],
    [{ widths: [4, 3, 2] }, [10, 12, 20], CLOSED],
    [{ widths: [6, 5, 4, 3] }, [21, 48, 63], CLOSED],
    [{ widths: [8, 6, 7, 4] }, [36, 92, 116], CLOSED],
    [{ widths: [9, 3, 3, 3, 2] }, [20, 32, 50], CLOSED],
    [{ widths: [10, 6, 3], dataRank: 4 }, [15, 36, 45], CLOSED],
    [{ widths: [4, 5, 5, 5, 2] }, [10, 56, 64], CLOSED],
    [{ widths: [6, 8, 1] }, [7, 16, 23], CLOSED],
    [{ widths: [8, 2, 6, 4] }, [24, 46, 60], "closed form, generic, generic"],
    [{ widths: [8, 3, 6, 4] }, [31, 60, 79], "closed form, generic, generic"],
    [{ widths: [8, 6, 2, 4] }, [24, 38, 52], "closed form, generic, generic"],
    [{ widths: [8, 2, 2, 4] }, [24, 22, 36], "closed form, generic, generic"],
    [{ widths: [8, 2, 6, 6, 4] }, [24, 76, 90], "closed form, generic, generic"],
    [{ widths: [3, 6, 5, 5] }, [20, 76, 84], "closed form, generic, generic"],
    [{ widths: [2, 6, 6, 4] }, [12, 66, 72], "closed form, generic, generic"],
    [{ widths: [5, 2, 3] }, [15, 12, 21], "closed form, closed form, generic"],
    [{ widths: [2, 6, 4] }, [12, 36, 42], "closed form, closed form, generic"],
  ];
  test.each(CASES)("O9: %j", async (given, ranks, wanted) => {
    const { measured, predicted, methods, prediction } = await both(
      await linearProblem({ ...given, samples: 60, bias: true }),
    );
    expect({ measured, predicted, methods }).toEqual({
      measured: ranks,
      predicted: ranks,
      methods: wanted,
    });
    expect(prediction.biased).toBe(true);
    expect(prediction.reason).toMatch(
      wanted === CLOSED ? /^$/ : /^no closed form is known for biased/,
    );
  });

  test("without leave to compute there is none, and the reason says so", async () => {
    const { model, data } = await linearProblem({ widths: [8, 2, 6, 4], samples: 60, bias: true });
    const { ggn, functional, hessian, reason } = await rankPrediction(model, data, {
      generic: false,
    });
    data.dispose();
    expect([ggn?.rank, functional, hessian]).toEqual([24, undefined, undefined]);
    expect(reason).toBe(
      "no closed form is known for biased networks with a bottleneck or few residuals; its rank " +
        "at random parameters was not asked for",
    );
  });

  test("cross-entropy has K - 1 there, too", () => {
    const { ggn, functional, hessian } = biasedRanks({
      widths: [6, 5, 5, 4],
      dataRank: 6,
      curvatureRank: 3,
      residualRank: 3,
      augmentedRank: 3,
    });
    expect([ggn?.rank, functional?.rank, hessian?.rank]).toEqual([21, 54, 69]);
  });
});

test.each([1e-12, 1, 1e12])(
  "a loss %d times as large has the same ranks, predicted and measured",
  async (c) => {
    const classWeights = [c, 2 * c, c, 3 * c];
    const loss = { name: "cross-entropy", reduction: "sum", classWeights } as const;
    for (const given of [
      { widths: [5, 6, 4], loss: "cross-entropy" },
      { widths: [5, 2, 3, 4], loss: "cross-entropy", bias: true },
    ] as const) {
      const { model, data } = await linearProblem({ ...given, widths: [...given.widths] });
      const found = await rankParts(model, data, { loss });
      data.dispose();
      const { ggn, functional, hessian } = found;
      expect(found.prediction!.residual.rank).toBe(3);
      for (const { rank, predicted, certain } of [ggn, functional, hessian])
        expect([predicted, certain]).toEqual([rank, true]);
      if (given.widths.length === 3)
        expect([ggn.rank, functional.rank, hessian.rank]).toEqual([15, 36, 42]);
    }
  },
);

test("random networks have the ranks that are predicted", async () => {
  const next = uniform(7);
  const pick = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  for (let trial = 0; trial < 40; trial++) {
    const widths = Array.from({ length: pick(2, 5) }, () => pick(2, 7));
    const given: LinearCase = {
      widths,
      seed: 100 * trial,
      bias: next() < 0.5,
      samples: next() < 0.3 ? pick(1, 8) : 50,
      dataRank: next() < 0.4 ? pick(1, widths[0]!) : widths[0]!,
    };
    if (next() < 0.4) given.loss = "cross-entropy";
    else if (next() < 0.5) given.residualRank = pick(0, widths.at(-1)!);
    const { measured, predicted } = await both(await linearProblem(given));
    expect({ given, ranks: predicted }).toEqual({ given, ranks: measured });
  }
});

describe("O20: linear convolutional networks", () => {
  const CASES: [CnnCase, Ranks][] = [
    [{ d: 8, k: [3], K: 2, m: 1 }, [14, 6, 15]],
    [{ d: 8, k: [3], K: 2, m: 2 }, [16, 12, 27]],
    [{ d: 8, k: [3], K: 2, m: 4 }, [16, 24, 39]],
    [{ d: 8, k: [3], K: 2, m: 8 }, [16, 48, 63]],
    [{ d: 8, k: [3], K: 2, m: 12 }, [16, 72, 87]],
    [{ d: 6, k: [4], K: 3, m: 4 }, [18, 32, 49]],
    [{ d: 6, k: [4], K: 3, m: 8 }, [18, 64, 81]],
    [{ d: 8, k: [3, 3], K: 2, m: 4 }, [16, 63, 75]],
    [{ d: 8, k: [3, 3], K: 2, m: 8 }, [16, 127, 142]],
  ];
  test.each(CASES)("%j", async (given, ranks) => {
    const { measured, predicted, prediction } = await both(await linearCnn(given));
    expect({ measured, predicted }).toEqual({ measured: ranks, predicted: ranks });
    expect(prediction.form).toBe("linear convolutional");
    expect(prediction.ggn!.method).toBe("generic");
    expect(prediction.reason).toMatch(/^it has convolutions/);
  });
});

describe("one hidden layer", () => {
  const CASES: [string, LinearCase, Ranks][] = [
    ["relu, mse", { widths: [5, 4, 3], activation: "relu" }, [28, 24, 32]],
    ["tanh, mse", { widths: [5, 4, 3], activation: "tanh" }, [32, 32, 32]],
    ["relu", { widths: [5, 4, 3], activation: "relu", loss: "cross-entropy" }, [24, 16, 28]],
    ["tanh", { widths: [5, 4, 3], activation: "tanh", loss: "cross-entropy" }, [28, 28, 28]],
    ["relu, mse", { widths: [10, 8, 4], activation: "relu" }, [104, 64, 112]],
    ["relu", { widths: [10, 8, 4], activation: "relu", loss: "cross-entropy" }, [96, 48, 104]],
    [
      "O17: relu with biases",
      { widths: [5, 4, 3], activation: "relu", loss: "cross-entropy", bias: true },
      [30, 16, 34],
    ],
    ["leaky relu", { widths: [5, 4, 3], activation: "leaky-relu" }, [28, 24, 32]],
    ["data of rank 3", { widths: [5, 4, 3], activation: "relu", dataRank: 3 }, [20, 24, 24]],
    ["sigmoid with biases", { widths: [4, 3, 2], activation: "sigmoid", bias: true }, [23, 21, 23]],
  ];
  test.each(CASES)("%s: %j", async (_, given, ranks) => {
    const { measured, predicted, methods, prediction } = await both(
      await linearProblem({ ...given, samples: 250 }),
    );
    expect({ measured, predicted, methods }).toEqual({
      measured: ranks,
      predicted: ranks,
      methods: CLOSED,
    });
    expect(prediction.form).toBe("one hidden layer");
    expect(prediction.activation.replace(" ", "-")).toBe(given.activation);
  });

  test("dead units do not count", async () => {
    const { model, data } = await linearProblem({
      widths: [5, 4, 3],
      samples: 250,
      activation: "relu",
      bias: true,
    });
    const theta = normals(17, 39);
    theta[20] = -50; // the first unit's bias: never active
    const dead = await both({ model: model.withParameters(theta), data });
    expect(dead.predicted).toEqual(dead.measured);
    expect(dead.measured[0]).toBe(39 - 9 - 3);
    expect(dead.prediction.conditions).toContainEqual({
      what: "1 of 4 units are dead and do not count",
      holds: true,
    });
  });

  test("units that are linear on all samples have a larger group in place of rescalings", async () => {
    const given = { widths: [5, 4, 3], samples: 250, activation: "relu", bias: true } as const;
    for (const straight of [1, 2, 3]) {
      const { model, data } = await linearProblem({ ...given, widths: [5, 4, 3] });
      const theta = normals(17, 39);
      theta.fill(50, 20, 20 + straight);
      const { measured, predicted } = await both({ model: model.withParameters(theta), data });
      expect(measured).toEqual([39 - (4 - straight) - straight ** 2 - straight, 24, 39]);
      expect(predicted).toEqual(measured);
    }
    const { model, data } = await linearProblem({ ...given, widths: [5, 4, 3] });
    const all = normals(17, 39);
    all.fill(50, 20, 24);
    const found = await both({ model: model.withParameters(all), data });
    expect(found.predicted).toEqual([undefined, undefined, undefined]);
    expect(found.prediction.reason).toBe(
      "the formulas for one hidden layer need that at most 3 units of relu bend on the same " +
        "samples: 4 do, at most 3 units are linear on all samples: 4 are",
    );
  });

  test("units that bend on the same samples, and residuals of low rank", async () => {
    const given: LinearCase = { widths: [5, 4, 3], samples: 250, activation: "relu" };
    const { model, data } = await linearProblem(given);
    const theta = normals(17, 32);
    // The second unit is a multiple of the first, up to what no sample tells apart.
    for (let j = 0; j < 5; j++) theta[5 + j] = 2 * theta[j]! + 1e-4 * theta[10 + j]!;
    const alike = await both({ model: model.withParameters(theta), data });
    expect(alike.measured[0]).toBe(32 - 2 - 2 ** 2);
    expect(alike.predicted).toEqual(alike.measured);
    const low = await both(await linearProblem({ ...given, residualRank: 1 }));
    expect(low.measured[1]).toBe(2 * 4);
    expect(low.predicted.slice(0, 2)).toEqual(low.measured.slice(0, 2));
    expect(low.prediction.reason).toBe(
      "no formula is known for few samples, or residuals of low rank",
    );
    const fitted = await both(await linearProblem({ ...given, residualRank: 0 }));
    expect(fitted.predicted).toEqual([28, 0, 28]);
    expect(fitted.measured).toEqual([28, 0, 28]);
    const few = await both(await linearProblem({ ...given, samples: 8 }));
    expect([few.prediction.ggn, few.prediction.hessian]).toEqual([undefined, undefined]);
    expect(few.predicted[1]).toBe(few.measured[1]);
  });

  test("sparse inputs: each unit sees those of its own samples", async () => {
    // Each sample has two of twelve inputs.
    const [samples, d] = [60, 12];
    const x = new Float64Array(samples * d);
    const pick = integers(3, 2 * samples, d);
    const size = normals(4, 2 * samples);
    pick.forEach((at, i) => {
      x[Math.floor(i / 2) * d + at]! += size[i]!;
    });
    const model = await loadModel(mlp({ widths: [d, 4, 3], activation: "relu", seed: 5 }), {
      loss: "cross-entropy",
    });
    const data = await loadData({
      x: { data: x, shape: [samples, d] },
      y: { data: integers(5, samples, 3), shape: [samples] },
    });
    const { measured, predicted } = await both({ model, data });
    expect(predicted).toEqual(measured);
  });
});

describe("what the graph says", () => {
  const shape = (data: ArrayLike<number>, ...dims: number[]) => ({
    data: Float64Array.from(data),
    shape: dims,
  });
  const input = [value("x", ["batch", 2, 3], DataType.DOUBLE)];
  const outputs = [value("out", null, DataType.DOUBLE)];
  const weights = () => [
    doubles("w1", [6, 5], normals(1, 30)),
    doubles("w2", [4, 5], normals(2, 20)),
    doubles("b1", [5], normals(3, 5)),
    doubles("b2", [4], normals(4, 4)),
  ];
  const data = () =>
    loadData({ x: shape(normals(5, 180), 30, 2, 3), y: shape(normals(6, 120), 30, 4) });

  test("Flatten, Identity, MatMul, Add, Transpose and Gemm with alpha are dense layers", async () => {
    const model = await loadModel(
      modelBytes({
        nodes: [
          node("Flatten", ["x"], ["flat"]),
          node("MatMul", ["flat", "w1"], ["a"]),
          node("Add", ["b1", "a"], ["h"]),
          node("Identity", ["h"], ["same"]),
          node("Dropout", ["same"], ["dropped"]),
          node("Transpose", ["w2"], ["t"], { perm: [1n, 0n] }),
          node("Gemm", ["dropped", "t", "b2"], ["out"], { alpha: 0.5 }),
        ],
        initializers: weights(),
        inputs: input,
        outputs,
      }),
      { loss: "mse", params: { include: ["w1", "b1", "w2", "b2"] } },
    );
    const { prediction, measured, predicted, methods } = await both({ model, data: await data() });
    expect(prediction).toMatchObject({ widths: [6, 5, 4], biased: true });
    expect({ predicted, methods }).toEqual({ predicted: measured, methods: CLOSED });
  });

  test.each<[string, ReturnType<typeof node>[], string]>([
    [
      "a branch",
      [
        node("Flatten", ["x"], ["flat"]),
        node("MatMul", ["flat", "w1"], ["a"]),
        node("Gemm", ["a", "w2", "b2"], ["b"], { transB: 1n }),
        node("Gemm", ["a", "w2"], ["c"], { transB: 1n }),
        node("Add", ["b", "c"], ["out"]),
      ],
      "it has branches",
    ],
    [
      "scales",
      [
        node("Flatten", ["x"], ["flat"]),
        node("MatMul", ["flat", "w1"], ["a"]),
        node("Mul", ["a", "b1"], ["b"]),
        node("Gemm", ["b", "w2", "b2"], ["out"], { transB: 1n }),
      ],
      "values are scaled between layers",
    ],
  ])("%s leaves a linear network, whose generic ranks are computed", async (_, nodes, reason) => {
    const model = await loadModel(
      modelBytes({ nodes, initializers: weights(), inputs: input, outputs }),
      { loss: "mse", params: { include: ["w1", "w2", "b*"] } },
    );
    const { prediction, measured, predicted, methods } = await both({ model, data: await data() });
    expect({ predicted, methods }).toEqual({
      predicted: measured,
      methods: "generic, generic, generic",
    });
    expect(prediction).toMatchObject({ form: "linear", reason });
  });

  /** A weight of normal numbers. */
  const weight = (name: string, dims: number[], seed: number) =>
    doubles(
      name,
      dims,
      normals(
        seed,
        dims.reduce((a, b) => a * b, 1),
        0.6,
      ),
    );
  const [a45, b53] = [weight("a", [4, 5], 1), weight("b", [5, 3], 2)];
  const flatHead = [
    node("Flatten", ["h"], ["f"]),
    node("Gemm", ["f", "b"], ["out"], { transB: 1n }),
  ];
  interface Other {
    nodes: ReturnType<typeof node>[];
    weights: ReturnType<typeof doubles>[];
    x: number[];
    y: number[];
    classes?: number;
    loss?: Parameters<typeof loadModel>[1] & object;
    wanted: { form: string; method: string; reason: string | RegExp };
  }
  const linear = (reason: string) => ({ form: "linear", method: "generic", reason });
  const convolutional = {
    form: "linear convolutional",
    method: "generic",
    reason: /^it has convolutions/,
  };
  const closed = { form: "linear", method: "closed form", reason: "" };
  const bothLayers = [node("MatMul", ["x", "a"], ["h"]), node("MatMul", ["h", "b"], ["out"])];
  const OTHERS: [string, Other][] = [
    [
      "positions of a sequence as samples",
      { nodes: bothLayers, weights: [a45, b53], x: [6, 4], y: [6, 3], wanted: closed },
    ],
    [
      "classes of each position",
      {
        nodes: bothLayers,
        weights: [a45, b53],
        ...{ x: [6, 4], y: [6], classes: 3 },
        loss: { loss: { name: "cross-entropy", classAxis: 2 } },
        wanted: closed,
      },
    ],
    [
      "classes before positions",
      {
        nodes: [
          node("MatMul", ["x", "a"], ["h"]),
          node("MatMul", ["h", "b"], ["o"]),
          node("Transpose", ["o"], ["out"], { perm: [0n, 2n, 1n] }),
        ],
        weights: [a45, b53],
        ...{ x: [6, 4], y: [6], classes: 3 },
        wanted: linear("it has a product that is no dense layer of one stored weight"),
      },
    ],
    [
      "relu at each position",
      {
        nodes: [
          node("MatMul", ["x", "a"], ["h"]),
          node("Relu", ["h"], ["r"]),
          node("MatMul", ["r", "b"], ["out"]),
        ],
        weights: [a45, b53],
        ...{ x: [6, 4], y: [6, 3] },
        wanted: { form: "one hidden layer", method: "closed form", reason: "" },
      },
    ],
    [
      "features of the data",
      {
        nodes: [
          node("Relu", ["x"], ["p"]),
          node("Gemm", ["p", "a"], ["h"]),
          node("Gemm", ["h", "b"], ["out"]),
        ],
        weights: [a45, b53],
        ...{ x: [4], y: [3] },
        wanted: linear("its inputs are features of the data"),
      },
    ],
    [
      "residual streams",
      {
        nodes: [
          node("Gemm", ["x", "a"], ["h"]),
          node("Add", ["x", "h"], ["s"]),
          node("Gemm", ["s", "b"], ["out"]),
        ],
        weights: [weight("a", [4, 4], 1), weight("b", [4, 2], 2)],
        ...{ x: [4], y: [2] },
        wanted: linear("it has branches"),
      },
    ],
    [
      "a weight used twice",
      {
        nodes: [node("Gemm", ["x", "a"], ["h"]), node("Gemm", ["h", "a"], ["out"], { transB: 1n })],
        weights: [weight("a", [4, 3], 1)],
        ...{ x: [4], y: [4] },
        wanted: linear("a is used by several layers"),
      },
    ],
    [
      "one bias of two",
      {
        nodes: [node("Gemm", ["x", "a"], ["h"]), node("Gemm", ["h", "b", "out.bias"], ["out"])],
        weights: [a45, b53, weight("out.bias", [3], 3)],
        ...{ x: [4], y: [3] },
        wanted: linear("no closed form is known where only some layers have a bias"),
      },
    ],
    [
      "padding and pooling",
      {
        nodes: [
          node("Conv", ["x", "a"], ["c"], { pads: [1n, 1n, 1n, 1n] }),
          node("AveragePool", ["c"], ["h"], { kernel_shape: [2n, 2n], strides: [2n, 2n] }),
          ...flatHead,
        ],
        weights: [weight("a", [3, 2, 3, 3], 1), weight("b", [3, 12], 2)],
        ...{ x: [2, 4, 4], y: [3] },
        wanted: convolutional,
      },
    ],
    [
      "strides and groups",
      {
        nodes: [node("Conv", ["x", "a"], ["h"], { group: 2n, strides: [2n] }), ...flatHead],
        weights: [weight("a", [4, 1, 3], 1), weight("b", [2, 8], 2)],
        ...{ x: [2, 6], y: [2] },
        wanted: convolutional,
      },
    ],
    [
      "transposed convolutions",
      {
        nodes: [node("Conv", ["x", "a"], ["h"]), node("ConvTranspose", ["h", "b"], ["out"])],
        weights: [weight("a", [3, 1, 3], 1), weight("b", [3, 1, 3], 2)],
        ...{ x: [1, 6], y: [1, 6] },
        wanted: convolutional,
      },
    ],
  ];
  test.each(OTHERS)("%s", async (_, { nodes, weights, x, y, classes, loss, wanted }) => {
    const samples = 60;
    const model = await loadModel(
      modelBytes({
        nodes,
        initializers: weights,
        inputs: [value("x", ["batch", ...x], DataType.DOUBLE)],
        outputs,
      }),
      loss ?? { loss: classes ? "cross-entropy" : "mse" },
    );
    const count = (dims: number[]) => dims.reduce((total, n) => total * n, samples);
    const targets = classes ? integers(7, count(y), classes) : normals(7, count(y));
    const found = await both({
      model,
      data: await loadData({
        x: shape(normals(6, count(x)), samples, ...x),
        y: { data: targets, shape: [samples, ...y] },
      }),
    });
    expect(found.predicted).toEqual(found.measured);
    const { form, reason, hessian } = found.prediction;
    expect({ form, method: hessian!.method }).toEqual({ form: wanted.form, method: wanted.method });
    expect(reason).toMatch(wanted.reason);
  });

  test("layers that are held are no part of the rank", async () => {
    const model = await loadModel(mlp({ widths: [5, 4, 3], bias: false }), {
      loss: "mse",
      params: { include: "fc2.*" },
    });
    const other = await loadData({
      x: shape(normals(1, 200), 40, 5),
      y: shape(normals(2, 120), 40, 3),
    });
    const { measured, predicted, prediction } = await both({ model, data: other });
    expect({ measured, predicted }).toEqual({ measured: [12, 0, 12], predicted: [12, 0, 12] });
    expect(prediction.ggn!.method).toBe("generic");
  });

  test("what makes a network nonlinear is named", async () => {
    const { model, data: images } = await openCase("cnn_small");
    const { form, reason, ggn } = await rankPrediction(model, images);
    expect({ form, ggn }).toEqual({ form: "other", ggn: undefined });
    expect(reason).toMatch(/^Relu at node ".+" makes it nonlinear$/);
    const deep = await loadModel(mlp({ widths: [3, 3, 3, 3], activation: "tanh" }), {
      loss: "mse",
    });
    using some = await loadData({
      x: shape(normals(1, 30), 10, 3),
      y: shape(normals(2, 30), 10, 3),
    });
    expect((await rankPrediction(deep, some)).reason).toBe(
      'Tanh at node "tanh1" makes it nonlinear',
    );
    const line = await loadModel(mlp({ widths: [3, 3, 3] }));
    expect((await rankPrediction(line, some, { loss: "huber" })).reason).toBe(
      "the curvature of the loss huber vanishes for some outputs, or is unknown",
    );
  });

  test("a softmax or sigmoid of the loss is no part of the network", async () => {
    const widths = [5, 4, 3];
    const x = shape(normals(1, 200), 40, 5);
    const labels = { data: integers(2, 40, 3), shape: [40] };
    const ends = [
      ["LogSoftmax", "nll", [10, 16, 22]],
      ["Softmax", "nll-probabilities", [10, 16, 22]],
      ["Sigmoid", "bce", [15, 24, 30]],
    ] as const;
    for (const [op, loss, ranks] of ends) {
      const model = await loadModel(
        modelBytes({
          nodes: [
            node("Gemm", ["x", "w1"], ["a"], { transB: 1n }),
            node("Gemm", ["a", "w2"], ["z"], { transB: 1n }),
            node(op, ["z"], ["out"]),
          ],
          initializers: [
            doubles("w1", [4, 5], normals(3, 20, 0.5)),
            doubles("w2", [3, 4], normals(4, 12, 0.5)),
          ],
          inputs: [value("x", ["batch", 5], DataType.DOUBLE)],
          outputs,
        }),
        { loss },
      );
      const y = loss === "bce" ? shape(integers(3, 120, 2), 40, 3) : labels;
      const { measured, predicted, prediction } = await both({
        model,
        data: await loadData({ x, y }),
      });
      expect({ measured, predicted }).toEqual({ measured: ranks, predicted: ranks });
      expect(prediction.widths).toEqual(widths);
    }
  });
});

test("along training and over widths", async () => {
  const { model, data } = await linearProblem({ widths: [5, 4, 3] });
  const theta = normals(8, 32);
  const checkpoints = await rankSweep(model, data, [
    { name: "0", at: theta },
    { name: "1", at: new Float64Array(32) },
  ]);
  // At zero only the product of both weights has a second derivative.
  expect(checkpoints.map(({ name, ggn, functional }) => [name, ggn.rank, functional.rank])).toEqual(
    [
      ["0", 15, 24],
      ["1", 0, 24],
    ],
  );
  expect(checkpoints[1]!.prediction!.conditions.some(({ holds }) => !holds)).toBe(true);
  const networks = await Promise.all(
    [4, 6].map(async (width) => ({
      name: `width ${width}`,
      at: await loadModel(mlp({ widths: [5, width, 3], bias: false }), { loss: "mse" }),
    })),
  );
  const rows = await rankSweep(model, data, networks, { loss: "mse" });
  expect(rows.map(({ hessian, parameters }) => [hessian.rank, parameters])).toEqual([
    [30, 32],
    [42, 48],
  ]);
  data.dispose();
});

test("wrong uses", async () => {
  const { model, data } = await linearProblem({ widths: [3, 2] });
  expect((await rejection(rankSweep(model, data, []))).message).toBe(
    "rankSweep: cases: expected at least one { name, at }, got an array of 0 entries",
  );
  await expect(rankParts(model, data, { precision: "float32" } as never)).rejects.toThrow(
    'there is no option "precision"',
  );
  const bare = await loadModel(mlp({ widths: [3, 2] }));
  await expect(rankPrediction(bare, data)).rejects.toThrow("rankPrediction: expected a loss");
  data.dispose();
});
