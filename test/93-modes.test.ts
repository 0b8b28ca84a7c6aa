// Batch statistics and masks of Dropout: the network in its training mode.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type DataSet,
  effectiveRank,
  exactDiagonal,
  exactSpectrum,
  fisher,
  forward,
  functionalHessian,
  ggn,
  gradient,
  hessian,
  kfac,
  type LoadModelOptions,
  loadData,
  loadModel,
  type Model,
  train,
} from "../lib";
import { modelBytes, node, value } from "./10-model-maker";
import { rejection, relative, vector } from "./50-helpers";
import { doubles } from "./support/networks";

const FOLDER = join(__dirname, "fixtures", "modes");

interface Reference {
  x: number[];
  shape: number[];
  y: number[];
  parameters: { name: string; size: number }[];
  v: number[];
  stored: number[];
  batches: {
    batch: number;
    loss: number;
    outputs: number[];
    gradient: number[];
    hessian: number[];
    ggn: number[];
  }[];
}

const file = (name: string) => join(FOLDER, `${name}.onnx`);
const reference = (name: string): Reference =>
  JSON.parse(readFileSync(join(FOLDER, `${name}.json`), "utf8"));

/** Numbers by PyTorch's order of parameters, in the model's, or back. */
function reorder(model: Model, { parameters }: Reference, from: ArrayLike<number>, back = false) {
  const to = new Float64Array(from.length);
  let at = 0;
  for (const { name, size } of parameters) {
    const { offset } = model.parameters[model.parameterIndex(name)]!;
    for (let i = 0; i < size; i++)
      if (back) to[at + i] = from[offset + i]!;
      else to[offset + i] = from[at + i]!;
    at += size;
  }
  expect(at).toBe(model.parameterCount);
  return to;
}

const open = (name: string, options: LoadModelOptions = {}) =>
  loadModel(file(name), { loss: "cross-entropy", ...options });

const dataOf = ({ x, shape, y }: Reference): Promise<DataSet> =>
  loadData({
    x: { data: Float64Array.from(x), shape },
    y: { data: Int32Array.from(y), shape: [y.length] },
  });

const precision = "float64" as const;

describe("statistics of the batch", () => {
  const cases = ["mlp_training", "cnn_eval", "mlp_static", "mlp_dynamo"].flatMap((name) =>
    reference(name).batches.map(({ batch }, i) => [name, batch, i] as const),
  );
  it.each(cases)("%s in batches of %i agrees with PyTorch", async (name, batch, i) => {
    const wanted = reference(name);
    const { loss, ...numbers } = wanted.batches[i]!;
    using model = await open(name, { batchNorm: { batch } });
    using data = await dataOf(wanted);
    const v = reorder(model, wanted, wanted.v);
    const got = await gradient(model, data, { precision });
    expect(Math.abs(got.loss / loss - 1)).toBeLessThan(1e-12);
    const values = reorder(model, wanted, got.gradient, true);
    expect(relative(values, numbers.gradient)).toBeLessThan(1e-10);
    const outputs = await forward(model, data, { precision });
    expect(relative(outputs.values, numbers.outputs)).toBeLessThan(1e-11);
    using H = hessian(model, data, { precision });
    using G = ggn(model, data, { precision });
    using T = fisher(model, data, { precision, type: "type-2" });
    using F = functionalHessian(model, data, { precision });
    const Hv = await H.apply(v);
    const Gv = await G.apply(v);
    expect(relative(reorder(model, wanted, Hv, true), numbers.hessian)).toBeLessThan(1e-9);
    expect(relative(reorder(model, wanted, Gv, true), numbers.ggn)).toBeLessThan(1e-9);
    expect(relative(await T.apply(v), Gv)).toBeLessThan(1e-12);
    const Fv = await F.apply(v);
    expect(
      relative(
        Gv.map((g, j) => g + Fv[j]!),
        Hv,
      ),
    ).toBeLessThan(1e-10);
    const [report] = await H.report();
    expect(report!.batch).toBe(batch);
  });

  it("is the size that the run states, and all samples by default", async () => {
    const wanted = reference("mlp_training");
    using model = await open("mlp_training", { batchNorm: "batch" });
    using data = await dataOf(wanted);
    for (const { batch, loss } of wanted.batches) {
      const options = { precision, ...(batch < 12 && { batch }) };
      const got = await gradient(model, data, options);
      expect(Math.abs(got.loss / loss - 1)).toBeLessThan(1e-12);
    }
  });

  it("gives the same bits for any number of threads, and follows memory in nothing", async () => {
    const wanted = reference("cnn_eval");
    using model = await open("cnn_eval", { batchNorm: { batch: 6 } });
    using data = await dataOf(wanted);
    const v = vector(model.parameterCount);
    using one = hessian(model, data, { precision, threads: 1 });
    using two = hessian(model, data, { precision, threads: 2 });
    expect(await two.apply(v)).toEqual(await one.apply(v));
    using small = hessian(model, data, { precision, maxMemory: 1000 });
    expect((await rejection(small.apply(v))).name).toBe("MemoryBudgetError");
  });

  it("refuses what is not whole or said twice", async () => {
    const wanted = reference("mlp_training");
    using data = await dataOf(wanted);
    using five = await open("mlp_training", { batchNorm: { batch: 5 } });
    expect((await rejection(gradient(five, data))).message).toMatch(
      /batches of 5 divide; received 12: .* take 10 samples/,
    );
    const more = await rejection(gradient(five, data, { batch: 4 }));
    expect(more.message).toMatch(/loaded for statistics of batches of 5; received 4/);
    using large = await open("mlp_training", { batchNorm: { batch: 24 } });
    expect((await rejection(gradient(large, data))).message).toMatch(/a smaller batch/);
    using fixed = await open("mlp_static", { batchNorm: { batch: 5 } });
    expect((await rejection(gradient(fixed, data))).name).toBe("OptionError");
    for (const batchNorm of ["stored", 4, { batch: 0 }, { size: 3 }, null] as never[])
      expect((await rejection(open("mlp_training", { batchNorm }))).message).toMatch(
        /^batchNorm: expected "running", "batch" or/,
      );
  });

  it("refuses what is made of single samples, with the reason", async () => {
    const wanted = reference("mlp_training");
    using model = await open("mlp_training", { batchNorm: "batch" });
    using data = await dataOf(wanted);
    const reason = /every sample's loss depends on all samples of its batch/;
    for (const type of ["empirical", "mc"] as const) {
      using F = fisher(model, data, { type });
      const { name, message } = await rejection(F.apply(new Float32Array(model.parameterCount)));
      expect(name).toBe("OptionError");
      expect(message).toMatch(reason);
      expect(message).toContain(type);
    }
    using G = ggn(model, data, { precision });
    expect((await rejection(kfac(model, data))).message).toMatch(reason);
    expect((await rejection(exactDiagonal(G))).message).toMatch(reason);
    expect((await rejection(train(model, data, { steps: 1 }))).message).toMatch(
      /^train: expected a model loaded without batchNorm "batch"/,
    );
    // By products it is there.
    const { values, method } = await exactSpectrum(G);
    expect(method).toBe("dense");
    expect(effectiveRank(values)).toBeGreaterThan(1);
  });
});

describe("a normalisation over the batch that is written out", () => {
  const network = (axis: bigint) =>
    loadModel(
      modelBytes({
        nodes: [
          node("MatMul", ["x", "w"], ["h"]),
          node("ReduceMean", ["h"], ["mean"], { axes: [axis] }),
          node("Sub", ["h", "mean"], ["out"]),
        ],
        inputs: [value("x", ["N", 2])],
        outputs: [value("out", ["N", 2])],
        initializers: [doubles("w", [2, 2], [1, 2, 3, 4])],
      }),
      { loss: "mse" },
    );
  it.each([
    [0n, true],
    [1n, false],
  ])("over axis %i warns: %s", async (axis, warns) => {
    using model = await network(axis);
    using data = await loadData({
      x: { data: vector(12), shape: [6, 2] },
      y: { data: vector(12, 1), shape: [6, 2] },
    });
    using H = hessian(model, data, { precision });
    const [report] = await H.report();
    expect(/samples depend on each other/.test(report!.warnings.join())).toBe(warns);
  });
});

describe("files of training mode", () => {
  it("are not supported until batchNorm says which statistics are meant", async () => {
    using model = await open("mlp_training");
    expect(model.unsupported).toHaveLength(1);
    expect(model.unsupported[0]!.op).toBe("BatchNormalization");
    expect(model.unsupported[0]!.reason).toMatch(
      /training_mode = 1 .*batchNorm "batch" \(--batch-norm batch\).*"running"/,
    );
    expect(model.modes).toEqual({ bound: [] });
  });

  it.each(["mlp_training", "cnn_eval", "mlp_static"])("%s with stored statistics", async (name) => {
    const wanted = reference(name);
    using model = await open(name, { batchNorm: "running" });
    using data = await dataOf(wanted);
    const { values } = await forward(model, data, { precision });
    expect(relative(values, wanted.stored)).toBeLessThan(1e-11);
    expect(model.modes.batchNorm).toBe("running");
    expect(model.warnings.join()).not.toMatch(/batchNorm/);
  });

  it("warns where an option changes nothing", async () => {
    const bytes = modelBytes({
      nodes: [node("MatMul", ["x", "w"], ["out"])],
      inputs: [value("x", ["N", 2])],
      outputs: [value("out", ["N", 2])],
      initializers: [doubles("w", [2, 2], [1, 2, 3, 4])],
    });
    using model = await loadModel(bytes, { batchNorm: "batch", dropout: { seed: 1 } });
    expect(model.warnings.join("\n")).toMatch(/needs no BatchNormalization/);
    expect(model.warnings.join("\n")).toMatch(/needs no Dropout/);
  });
});
