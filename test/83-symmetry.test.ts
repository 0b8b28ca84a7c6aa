// Continuous symmetries found in graphs: which ones, their identities, orbits and charges.
import {
  exactSpectrum,
  forward,
  ggn,
  gradient,
  hessian,
  kernelShare,
  type Loss,
  loadData,
  loadModel,
  type Model,
  numericalRank,
  parameterVector,
  type SymmetryInstance,
  symmetries,
  verifySymmetries,
} from "../lib";
import { ScalingInstance } from "../lib/symmetry/instances";
import { orbitDimension } from "../lib/symmetry/orbits";
import { DataType, modelBytes, node, value } from "./10-model-maker";
import { rejection } from "./50-helpers";
import { Case } from "./support/cases";
import { graphNames, openGraph } from "./support/graphs";
import { type LinearCase, linearProblem } from "./support/linear";
import { doubles, netModel } from "./support/networks";
import { dot, integers, norm, normals } from "./support/numbers";

/** "family dimension" of each, flips where there are no dimensions. */
const summary = (model: Model, options: Parameters<typeof symmetries>[1] = {}) =>
  symmetries(model, options).families.map(
    ({ name, dimension, flips }) => `${name} ${dimension || `${flips} flips`}`,
  );

/** Names of reference cases, and the dimension of their orbit. */
const ORBITS: [string, number][] = [
  ["autoencoder", 10], // two leaky layers of 5
  ["average_pools", 25], // 10 classes read 24 features and a bias
  ["cnn_small", 177], // 48 channels, 129 columns of the last layer
  ["conv1d", 27],
  ["deep_linear", 100], // 8^2 + 6^2
  ["gpt_tied", 197],
  ["grouped_conv", 40],
  ["max_pools", 61],
  ["mlp_3d_folded", 17],
  ["mlp_mse", 0],
  ["mlp_relu", 257],
  ["mlp_tanh", 65],
  ["mobilenet", 33],
  ["resnet_bn", 57],
  ["sequence_labels", 21],
  ["sequence_mse", 10],
  ["smooth_activations", 13],
  ["tokens", 137],
  ["torch_encoder_static", 292],
  ["transformer", 420], // as many as its Gauss-Newton matrix has zero eigenvalues on enough data
];

async function open(name: string) {
  const given = new Case(name);
  const model = await loadModel(given.path("model.onnx"), { loss: given.loss });
  const data = await loadData({ x: given.path("x.npy"), y: given.path("y.npy") });
  return { model, data };
}

describe("reference cases", () => {
  test.each(ORBITS)("%s", async (name, wanted) => {
    const { model, data } = await open(name);
    const found = symmetries(model, { data });
    expect((await found.orbitDimension()).dimension).toBe(wanted);
    const verified = await verifySymmetries(model, data, { symmetries: found, combinations: 1 });
    const failed = verified.instances.filter(({ passed }) => !passed);
    expect(failed.map(({ instance }) => instance.name)).toEqual([]);
    for (const { residual, approximateResidual } of verified.families) {
      if (!Number.isNaN(residual)) expect(residual).toBeLessThan(1e-12);
      // The epsilon of a normalisation: small, and not rounding.
      if (Number.isNaN(approximateResidual)) continue;
      expect(approximateResidual).toBeLessThan(1e-3);
      expect(approximateResidual).toBeGreaterThan(1e-9);
    }
  });
});

/** Families of networks of other shapes, for the mse on their outputs. */
const GRAPHS: Record<string, string[]> = {
  dense: ["batchnorm-gauge 16", "rescaling 27", "linear-path-bias 6"],
  experts: ["sign-flip 12 flips", "key-bias 6"],
  experts_stacked: ["sign-flip 6 flips", "rescaling 12", "key-bias 7"],
  group_norms: [
    ...["sign-flip 9 flips", "scale-invariance 7"],
    ...["rescaling 9", "linear-path-bias 3", "normalisation-translation 5"],
  ],
  grouped_queries: ["linear-gauge 64", "sign-flip 4 flips"],
  gru_bidirectional: ["duplicated-bias 16"],
  lstm_stacked: ["sign-flip 8 flips", "duplicated-bias 64"],
  rnn: ["sign-flip 4 flips", "duplicated-bias 4"],
  rotary: ["linear-gauge 80", "sign-flip 8 flips", "rescaling 4"],
  squeeze_excite: ["rescaling 9"],
};

describe("networks of other shapes", () => {
  test.each(graphNames)("%s", async (name) => {
    const { model } = await openGraph(name);
    const [input] = model.inputs;
    const x = [6, ...input!.shape!.slice(1).map(Number)];
    const inputs = await loadData({
      x: {
        data: normals(
          2,
          x.reduce((a, b) => a * b, 1),
        ),
        shape: x,
      },
    });
    const { shape } = await forward(model, inputs, { samples: 6 });
    const y = {
      data: normals(
        3,
        shape.reduce((a, b) => a * b, 1),
      ),
      shape,
    };
    const data = await loadData({
      x: {
        data: normals(
          2,
          x.reduce((a, b) => a * b, 1),
        ),
        shape: x,
      },
      y,
    });
    if (GRAPHS[name]) expect(summary(model, { data, loss: "mse" })).toEqual(GRAPHS[name]);
    const { instances } = await verifySymmetries(model, data, { loss: "mse", combinations: 1 });
    for (const { instance, residual } of instances) {
      const most = instance.approximate ? 1e-2 : 1e-11;
      expect([instance.name, residual < most]).toEqual([instance.name, true]);
    }
  });
});

describe("orbits and kernels with an oracle", () => {
  test.each<[string, LinearCase, orbit: number, kernel: number]>([
    ["biased ReLU 5-4-3, cross-entropy", relu543(), 9, 9],
    [
      "tanh 4-5-3, cross-entropy",
      { widths: [4, 5, 3], bias: true, activation: "tanh", loss: "cross-entropy", samples: 60 },
      6,
      6,
    ],
    [
      "leaky ReLU 4-5-3, mse",
      { widths: [4, 5, 3], bias: true, activation: "leaky-relu", samples: 60 },
      5,
      5,
    ],
    // The gauge has 16 dimensions, the kernel one more: 3 of 4 units are enough for 3 outputs.
    ["linear 5-4-3, mse", { widths: [5, 4, 3] }, 16, 17],
    ["linear 5-4-3 with biases, mse", { widths: [5, 4, 3], bias: true, samples: 60 }, 20, 21],
    ["linear 6-3-5, mse", { widths: [6, 3, 5] }, 9, 9],
  ])("%s", async (_, given, orbit, kernel) => {
    const { model, data } = await linearProblem(given);
    const loss = given.loss ?? "mse";
    const found = symmetries(model, { loss });
    expect(await found.orbitDimension()).toEqual({ dimension: orbit, decomposed: true });
    const basis = await found.basis();
    expect(basis.rank).toBe(orbit);
    using matrix = ggn(model, data, { loss, precision: "float64" });
    const share = await kernelShare(matrix, basis);
    expect(share).toMatchObject({ kernel, directions: orbit, surplus: kernel - orbit });
    expect(share.residual).toBeLessThan(1e-13);
    const verified = await verifySymmetries(model, data, { loss });
    expect(verified.passed).toBe(true);
  });

  test("of the Hessian only shifts lie in the kernel (O17)", async () => {
    const { model, data } = await linearProblem(relu543());
    using H = hessian(model, data, { loss: "cross-entropy", precision: "float64" });
    expect((await numericalRank(H)).rank).toBe(34);
    using G = ggn(model, data, { loss: "cross-entropy", precision: "float64" });
    expect((await numericalRank(G)).rank).toBe(30);
  });

  test("the kernel of a trained transformer is its symmetries", async () => {
    const { model, data } = await open("gpt_tied");
    const found = symmetries(model, { data });
    using G = ggn(model, data, { precision: "float64" });
    const share = await kernelShare(G, await found.basis());
    // 196 exact ones, and the scale of the residual stream, which an epsilon breaks.
    expect(share).toMatchObject({ kernel: 197, directions: 196, surplus: 1 });
  });

  test("BatchNorm with stored statistics after a biased layer", async () => {
    const model = await batchNormNet();
    const data = await classes(80, 4, 3);
    expect(summary(model, { loss: "cross-entropy" })).toEqual([
      "batchnorm-gauge 10", // a weight's scale and a bias for each of 5 units
      "rescaling 5",
      "softmax-translation 6",
    ]);
    using G = ggn(model, data, { loss: "cross-entropy", precision: "float64" });
    const share = await kernelShare(G, await symmetries(model, { loss: "cross-entropy" }).basis());
    expect(share).toMatchObject({ kernel: 21, directions: 21, surplus: 0 });
  });

  test("a residual stream that normalisations alone read may be turned", async () => {
    const model = await rootMeanSquareNet();
    const loss = "mse";
    const targets = { data: normals(8, 450), shape: [150, 3] };
    const all = await loadData({ x: { data: normals(5, 600), shape: [150, 4] }, y: targets });
    expect(summary(model, { loss })).toEqual([
      "stream-rotation 6", // so(4)
      "sign-flip 17 flips",
      "scale-invariance 1", // of all that is added to the stream, but for the epsilon
      "rescaling 8", // gains against what reads them
    ]);
    expect((await verifySymmetries(model, all, { loss })).passed).toBe(true);
    using G = ggn(model, all, { loss, precision: "float64" });
    const share = await kernelShare(G, await symmetries(model, { loss }).basis());
    // And the scale of the stream.
    expect(share).toMatchObject({ kernel: 15, directions: 14, surplus: 1 });
  });

  test("f = a b x (O12)", async () => {
    const model = await netModel({ widths: [1, 1, 1], theta: [2, 1], bias: false });
    const data = await loadData({
      x: { data: Float64Array.of(1), shape: [1, 1] },
      y: { data: Float64Array.of(1), shape: [1, 1] },
    });
    const [unit] = symmetries(model, { loss: "mse" }).instances;
    expect(unit).toMatchObject({ family: "rescaling", dimension: 1, units: 1 });
    const theta = parameterVector(model);
    expect([...unit!.generator(theta, [1])]).toEqual([2, -1]);
    expect([...unit!.charges(theta)]).toEqual([3]);
    // The mse is (ab - 1)^2: twice the oracle's.
    const { gradient: g } = await gradient(model, data, { loss: "mse", precision: "float64" });
    expect([...g]).toEqual([2, 4]);
    expect([...unit!.response(theta, [1], g)]).toEqual([2, -4]);
    using H = hessian(model, data, { loss: "mse", precision: "float64" });
    expect([...(await H.apply(Float64Array.of(2, -1)))]).toEqual([-2, 4]);
  });

  test("rescaling lies in the gauge of linear units", async () => {
    const { model } = await linearProblem({ widths: [5, 4, 3] });
    const { instances } = symmetries(model);
    const [gauge] = instances as unknown as ScalingInstance[];
    const diagonal = new ScalingInstance(gauge!.subject, "rescaling", {
      ...gauge!.scaling,
      kind: "scale",
    });
    const theta = parameterVector(model);
    expect((await orbitDimension([diagonal], theta)).dimension).toBe(4);
    expect((await orbitDimension([...instances, diagonal], theta)).dimension).toBe(16);
  });

  test("a factor of lower rank has a smaller orbit", async () => {
    const { model } = await linearProblem({ widths: [5, 4, 3] });
    const theta = parameterVector(model);
    // One unit is cut off: of (4 - 3) (4 - 3) generators nothing is left.
    theta.fill(0, 0, 5);
    const { offset } = model.parameters[1]!;
    for (let i = 0; i < 3; i++) theta[offset + 4 * i] = 0;
    const found = symmetries(model);
    expect((await found.orbitDimension()).dimension).toBe(16);
    expect((await found.orbitDimension(theta)).dimension).toBe(15);
  });
});

function relu543(): LinearCase {
  return { widths: [5, 4, 3], bias: true, activation: "relu", loss: "cross-entropy", samples: 80 };
}

async function classes(count: number, width: number, K: number) {
  return loadData({
    x: { data: normals(5, count * width), shape: [count, width] },
    y: { data: BigInt64Array.from(integers(6, count, K), BigInt), shape: [count] },
  });
}

async function batchNormNet(): Promise<Model> {
  const positive = (seed: number) => normals(seed, 5).map((x) => 0.5 + Math.abs(x));
  return loadModel(
    modelBytes({
      nodes: [
        node("Gemm", ["x", "w0", "b0"], ["a"], { transB: 1n }),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["n"]),
        node("Relu", ["n"], ["h"]),
        node("Gemm", ["h", "w1", "b1"], ["out"], { transB: 1n }),
      ],
      inputs: [value("x", ["N", 4], DataType.DOUBLE)],
      outputs: [value("out", ["N", 3], DataType.DOUBLE)],
      initializers: [
        doubles("w0", [5, 4], normals(11, 20)),
        doubles("b0", [5], normals(12, 5, 0.3)),
        doubles("scale", [5], positive(13)),
        doubles("shift", [5], normals(14, 5, 0.5)),
        doubles("mean", [5], normals(15, 5, 0.3)),
        doubles("var", [5], positive(16)),
        doubles("w1", [3, 5], normals(17, 15)),
        doubles("b1", [3], normals(18, 3)),
      ],
    }),
  );
}

/** x -> W0 -> stream of 4; + W2 tanh(W1 norm); W3 norm, with gains and root mean squares. */
async function rootMeanSquareNet(): Promise<Model> {
  const normed = (from: string, gain: string, out: string) => [
    node("Mul", [from, from], [`${out}2`]),
    node("ReduceMean", [`${out}2`], [`${out}m`], { axes: [-1n], keepdims: 1n }),
    node("Add", [`${out}m`, "eps"], [`${out}e`]),
    node("Sqrt", [`${out}e`], [`${out}r`]),
    node("Div", [from, `${out}r`], [`${out}z`]),
    node("Mul", [`${out}z`, gain], [out]),
  ];
  const positive = (seed: number) => normals(seed, 4).map((x) => 0.5 + Math.abs(x));
  return loadModel(
    modelBytes({
      nodes: [
        node("Gemm", ["x", "w0"], ["s"], { transB: 1n }),
        ...normed("s", "g1", "n"),
        node("Gemm", ["n", "w1", "b1"], ["a"], { transB: 1n }),
        node("Tanh", ["a"], ["h"]),
        node("Gemm", ["h", "w2"], ["d"], { transB: 1n }),
        node("Add", ["s", "d"], ["t"]),
        ...normed("t", "g2", "q"),
        node("Gemm", ["q", "w3"], ["out"], { transB: 1n }),
      ],
      inputs: [value("x", ["N", 4], DataType.DOUBLE)],
      outputs: [value("out", ["N", 3], DataType.DOUBLE)],
      initializers: [
        doubles("w0", [4, 4], normals(31, 16)),
        doubles("g1", [4], positive(32)),
        doubles("w1", [5, 4], normals(33, 20)),
        doubles("b1", [5], normals(34, 5)),
        doubles("w2", [4, 5], normals(35, 20)),
        doubles("g2", [4], positive(36)),
        doubles("w3", [3, 4], normals(37, 12)),
        doubles("eps", [], [1e-5]),
      ],
    }),
    { params: { exclude: "eps" } },
  );
}

describe("the loss", () => {
  const given: LinearCase = { widths: [4, 5, 3], bias: true, activation: "tanh", samples: 20 };

  test.each<[string, Loss]>([
    ["label smoothing", { name: "cross-entropy", labelSmoothing: 0.1 }],
    ["class weights", { name: "cross-entropy", classWeights: [1, 0.5, 2] }],
    ["a sum", { name: "cross-entropy", reduction: "sum" }],
  ])("cross-entropy with %s does not see a shift of the logits", async (_, loss) => {
    const { model, data } = await linearProblem({ ...given, loss: "cross-entropy" });
    expect(summary(model, { loss })).toContain("softmax-translation 6");
    expect((await verifySymmetries(model, data, { loss })).passed).toBe(true);
  });

  test("mse sees it, and so does no loss at all", async () => {
    const { model } = await linearProblem(given);
    expect(summary(model, { loss: "mse" })).toEqual(["sign-flip 5 flips"]);
    const bare = await loadModel(
      modelBytes({
        nodes: [node("Gemm", ["x", "w"], ["out"])],
        inputs: [value("x", ["N", 3], DataType.DOUBLE)],
        outputs: [value("out", ["N", 2], DataType.DOUBLE)],
        initializers: [doubles("w", [3, 2], normals(1, 6))],
      }),
    );
    expect(summary(bare)).toEqual([]);
    expect(summary(bare, { loss: "cross-entropy" })).toEqual(["softmax-translation 3"]);
  });
});

/** The same instance with something else in it. */
function altered(of: SymmetryInstance, change: Partial<SymmetryInstance>): SymmetryInstance {
  const { family, name, tensors, units, copies, dimension, flips, approximate, conserved } = of;
  return {
    ...{ family, name, tensors, units, copies, dimension, flips, approximate, conserved },
    generator: (theta, c) => of.generator(theta, c),
    generators: (theta) => of.generators(theta),
    response: (theta, c, g) => of.response(theta, c, g),
    charges: (theta) => of.charges(theta),
    flipped: (theta, units) => of.flipped(theta, units),
    ...change,
  };
}

describe("verification", () => {
  test.each<[string, (v: Float64Array) => Float64Array]>([
    ["a wrong sign on the outgoing weights", (v) => v.map(Math.abs)],
    ["a unit left out", (v) => v.map((x, i) => (i % 5 === 0 ? 0 : x))],
  ])("fails for %s", async (_, wrong) => {
    const { model, data } = await linearProblem(relu543());
    const [right] = symmetries(model, { loss: "cross-entropy" }).instances;
    const fake = altered(right!, { generator: (theta, c) => wrong(right!.generator(theta, c)) });
    const options = { loss: "cross-entropy" as const, symmetries: [fake] };
    const { passed, instances } = await verifySymmetries(model, data, options);
    expect(passed).toBe(false);
    expect(instances[0]!.ggn).toBeGreaterThan(1e-3);
  });

  test("fails where the response of the generator is wrong", async () => {
    const { model, data } = await linearProblem(relu543());
    const [right] = symmetries(model, { loss: "cross-entropy" }).instances;
    const fake = altered(right!, { response: () => new Float64Array(model.parameterCount) });
    const options = { loss: "cross-entropy" as const, symmetries: [fake] };
    const { instances } = await verifySymmetries(model, data, options);
    expect(instances[0]!.ggn).toBeLessThan(1e-12);
    expect(instances[0]!.hessian).toBeGreaterThan(1e-3);
  });

  test("fails for a sign flip of units that are not odd", async () => {
    const { model, data } = await linearProblem(relu543());
    const [unit] = symmetries(model, { loss: "cross-entropy" })
      .instances as unknown as ScalingInstance[];
    const flip = new ScalingInstance(unit!.subject, "sign-flip", {
      ...unit!.scaling,
      kind: "sign",
    });
    const options = { loss: "cross-entropy" as const, symmetries: [flip] };
    const { passed, instances } = await verifySymmetries(model, data, options);
    expect(passed).toBe(false);
    expect(instances[0]!.flip).toBeGreaterThan(1e-3);
  });

  test("wrong uses", async () => {
    const { model, data } = await linearProblem(relu543());
    expect(() => symmetries("model.onnx" as never)).toThrow(
      'symmetries: expected a model of loadModel, got "model.onnx"',
    );
    expect(() => symmetries(model, { dat: data } as never)).toThrow('"data" was probably meant');
    const error = await rejection(verifySymmetries(model, data, { combinations: 0 }));
    expect(error.message).toContain("combinations: expected a whole number of at least 1, got 0");
  });
});

describe("charges", () => {
  test.each(["cnn_small", "deep_linear", "gpt_tied"])(
    "gradient flow conserves them: %s",
    async (name) => {
      const { model, data } = await open(name);
      const theta = parameterVector(model);
      const { gradient: g } = await gradient(model, data, { precision: "float64" });
      const step = norm(theta) / norm(g);
      const all = symmetries(model, { data }).instances.filter((each) => each.conserved !== "");
      expect(all.length).toBeGreaterThan(1);
      for (const each of all.filter(({ approximate }) => !approximate)) {
        // Of polynomials up to degree 2 central differences are exact.
        const plus = each.charges(theta.map((x, i) => x + step * g[i]!));
        const minus = each.charges(theta.map((x, i) => x - step * g[i]!));
        const change = plus.map((x, i) => x - minus[i]!);
        expect(norm(change)).toBeLessThan(1e-11 * (norm(plus) + norm(minus) + norm(theta) ** 2));
      }
    },
  );

  test("one for each unit, generator of a shift, and entry of a gauge", async () => {
    const { model } = await linearProblem({ widths: [5, 4, 3] });
    const theta = parameterVector(model);
    const [gauge] = symmetries(model).charges();
    expect(gauge).toMatchObject({ degree: 2, diagonal: false });
    const got = Array.from(gauge!.of(theta));
    const [w1, w2] = [theta.subarray(0, 20), theta.subarray(20)];
    const wanted: number[] = [];
    for (let i = 0; i < 4; i++)
      for (let j = i; j < 4; j++) {
        const rows = dot(w1.subarray(5 * i, 5 * i + 5), w1.subarray(5 * j, 5 * j + 5));
        const column = (at: number) => [0, 1, 2].map((k) => w2[4 * k + at]!);
        wanted.push(rows - dot(column(i), column(j)));
      }
    got.forEach((x, i) => {
      expect(x).toBeCloseTo(wanted[i]!, 12);
    });
  });
});

test("generators one by one are what combinations are made of", async () => {
  for (const name of ["gpt_tied", "resnet_bn"]) {
    const { model, data } = await open(name);
    const theta = parameterVector(model);
    for (const instance of symmetries(model, { data }).instances) {
      const coefficients = normals(7, instance.dimension);
      const wanted = instance.generator(theta, coefficients);
      const sum = new Float64Array(theta.length);
      let at = 0;
      for (const { indices, values } of instance.generators(theta)) {
        indices.forEach((index, i) => {
          sum[index]! += coefficients[at]! * values[i]!;
        });
        at++;
      }
      expect(at).toBe(instance.dimension);
      const error = norm(sum.map((x, i) => x - wanted[i]!));
      expect(error).toBeLessThanOrEqual(1e-13 * norm(wanted));
    }
  }
});

test("exact spectra are those of the orbit's complement", async () => {
  const { model, data } = await linearProblem(relu543());
  using G = ggn(model, data, { loss: "cross-entropy", precision: "float64" });
  const basis = await symmetries(model, { loss: "cross-entropy" }).basis();
  const { values, without } = await kernelShare(G, basis);
  const all = (await exactSpectrum(G)).values;
  expect(without).toHaveLength(30);
  without.forEach((x, i) => {
    expect(Math.abs(x - all[i]!)).toBeLessThan(1e-13 * all[0]!);
  });
  expect(values[0]).toBeCloseTo(all[0]!, 12);
});
