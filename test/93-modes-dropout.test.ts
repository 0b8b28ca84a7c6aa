// Dropout with a fixed mask: keyed by seed, node and sample, never by batches, order or threads.
import {
  type DataSet,
  forward,
  hessian,
  type LoadModelOptions,
  loadData,
  loadModel,
  type Model,
  train,
} from "../lib";
import { DataType, modelBytes, node, tensor, value } from "./10-model-maker";
import { rejection, relative, vector } from "./50-helpers";
import { doubles, longs } from "./support/networks";
import { normals } from "./support/numbers";

const RATIO = 0.4;
const precision = "float64" as const;

const number = (name: string, x: number) => doubles(name, [], [x]);
const flag = (name: string, on: boolean) =>
  tensor(name, [], { dataType: DataType.BOOL, int32Data: [Number(on)] });

const SAMPLES = 24;
const WIDTH = 6;

const samples = (rows = SAMPLES, from = 0): Promise<DataSet> =>
  loadData({
    x: {
      data: normals(3, SAMPLES * WIDTH).slice(from * WIDTH, (from + rows) * WIDTH),
      shape: [rows, WIDTH],
    },
    y: { data: Int32Array.from({ length: rows }, (_, i) => (i + from) % 3), shape: [rows] },
  });

/** x -> Dropout, so that the output over the input is the mask. */
function bare(options: LoadModelOptions, inputs = ["x", "ratio", "mode"], opset = 17) {
  const attributes = inputs.length === 1 ? { ratio: RATIO } : {};
  const bytes = modelBytes({
    opset,
    nodes: [
      node("Mul", ["x", "one"], ["a"]),
      node("Dropout", [...inputs.with(0, "a")], ["out"], attributes),
    ],
    inputs: [value("x", ["N", WIDTH])],
    outputs: [value("out", ["N", WIDTH])],
    initializers: [
      doubles("one", [WIDTH], new Array(WIDTH).fill(1)),
      number("ratio", RATIO),
      flag("mode", true),
      flag("off", false),
    ],
  });
  return loadModel(bytes, options);
}

/** The mask of `bare` by its output. */
async function maskOf(model: Model, data: DataSet, batch?: number): Promise<number[]> {
  const { values } = await forward(model, data, { precision, ...(batch && { batch }) });
  const x = normals(3, SAMPLES * WIDTH);
  return Array.from(values, (y, i) => Math.round((y / x[i]!) * 1e9) / 1e9);
}

describe("masks of Dropout", () => {
  it("are 0 or 1/(1 - ratio), in the share of the ratio", async () => {
    const kept = Math.round(1e9 / (1 - RATIO)) / 1e9;
    let zeros = 0;
    const seeds = 20;
    for (let seed = 0; seed < seeds; seed++) {
      using model = await bare({ dropout: { seed } });
      using data = await samples();
      const mask = await maskOf(model, data);
      expect(mask.filter((m) => m !== 0 && m !== kept)).toEqual([]);
      zeros += mask.filter((m) => m === 0).length;
    }
    const n = seeds * SAMPLES * WIDTH;
    // Five standard deviations.
    expect(Math.abs(zeros / n - RATIO)).toBeLessThan(5 * Math.sqrt((RATIO * (1 - RATIO)) / n));
  });

  it("do not depend on batches, threads or how many samples follow", async () => {
    using model = await bare({ dropout: { seed: 7 } });
    using data = await samples();
    using first = await samples(5);
    const mask = await maskOf(model, data);
    for (const batch of [1, 5, 7, 24]) expect(await maskOf(model, data, batch)).toEqual(mask);
    expect(await maskOf(model, first)).toEqual(mask.slice(0, 5 * WIDTH));
    using other = await bare({ dropout: { seed: 8 } });
    expect(await maskOf(other, data)).not.toEqual(mask);
    // Samples differ from one another.
    expect(mask.slice(0, WIDTH * 4)).not.toEqual(mask.slice(WIDTH * 4, WIDTH * 8));
  });

  it("are the same in old forms, and absent where the node says inference", async () => {
    using data = await samples();
    const mask = await maskOf(await bare({ dropout: { seed: 7 } }), data);
    using old = await bare({ dropout: { seed: 7 } }, ["x"], 10);
    expect(await maskOf(old, data)).toEqual(mask);
    using silent = await bare({ dropout: { seed: 7 } }, ["x", "ratio"]);
    expect(await maskOf(silent, data)).toEqual(mask);
    const ones = new Array(mask.length).fill(1);
    using off = await bare({ dropout: { seed: 7 } }, ["x", "ratio", "off"]);
    expect(await maskOf(off, data)).toEqual(ones);
    using untold = await bare({});
    expect(await maskOf(untold, data)).toEqual(ones);
    using plain = await network({});
    using H = hessian(plain, data, { precision });
    const [report] = await H.report();
    expect(report!.warnings.join()).toMatch(
      /training mode.*dropout: \{ seed \} \(--dropout-seed\)/,
    );
  });

  it("refuses seeds that are none, and training", async () => {
    for (const dropout of [true, { seed: -1 }, {}, { seed: 1, ratio: 2 }, null] as never[])
      expect((await rejection(bare({ dropout }))).message).toMatch(/^dropout: expected \{ seed: /);
    using model = await network({ dropout: { seed: 1 } });
    using data = await samples();
    expect((await rejection(train(model, data, { steps: 1 }))).message).toMatch(
      /^train: expected a model loaded without .* dropout/,
    );
  });
});

/**
 * Two layers with Dropout between them, its mask made inside, or an input "mask".
 * `layout` moves the samples to another axis and back around it.
 */
function network(options: LoadModelOptions, layout?: "transposed" | "joined", asInput = false) {
  const around: Record<string, [ReturnType<typeof node>[], string, ReturnType<typeof node>[]]> = {
    transposed: [
      [node("Transpose", ["h"], ["ht"], { perm: [1n, 0n] })],
      "ht",
      [node("Transpose", ["dt"], ["d"], { perm: [1n, 0n] })],
    ],
    joined: [
      [node("Reshape", ["h", "joined"], ["ht"])],
      "ht",
      [node("Reshape", ["dt", "apart"], ["d"])],
    ],
  };
  const [before, name, after] = layout ? around[layout]! : [[], "h", []];
  const middle = asInput
    ? [node("Mul", ["h", "mask"], ["d"])]
    : [...before, node("Dropout", [name, "ratio", "mode"], [layout ? "dt" : "d"]), ...after];
  const bytes = modelBytes({
    nodes: [
      node("Gemm", ["x", "w1", "b1"], ["a"]),
      node("Tanh", ["a"], ["h"]),
      ...middle,
      node("Gemm", ["d", "w2"], ["out"]),
    ],
    inputs: [value("x", ["N", WIDTH]), ...(asInput ? [value("mask", ["N", 4])] : [])],
    outputs: [value("out", ["N", 3])],
    initializers: [
      doubles("w1", [WIDTH, 4], normals(5, WIDTH * 4)),
      doubles("b1", [4], normals(6, 4)),
      doubles("w2", [4, 3], normals(7, 12)),
      number("ratio", RATIO),
      flag("mode", true),
      longs("joined", [-1, 2]),
      longs("apart", [-1, 4]),
    ],
  });
  return loadModel(bytes, { loss: "cross-entropy", ...options });
}

describe("curvature under a mask", () => {
  /** The mask of the network's Dropout, from its input and output. */
  async function hiddenMask(): Promise<Float64Array> {
    const bytes = modelBytes({
      nodes: [
        node("Gemm", ["x", "w1"], ["a"]),
        node("Exp", ["a"], ["h"]),
        node("Dropout", ["h", "ratio", "mode"], ["d"]),
        node("Div", ["d", "h"], ["out"]),
      ],
      inputs: [value("x", ["N", WIDTH])],
      outputs: [value("out", ["N", 4])],
      initializers: [
        doubles("w1", [WIDTH, 4], normals(5, WIDTH * 4)),
        number("ratio", RATIO),
        flag("mode", true),
      ],
    });
    using model = await loadModel(bytes, { dropout: { seed: 3 } });
    using data = await samples();
    return (await forward(model, data, { precision })).values;
  }

  it.each([undefined, "transposed", "joined"] as const)(
    "is that of the network with the mask as an input (samples %s)",
    async (layout) => {
      const mask = await hiddenMask();
      using data = await samples();
      using model = await network({ dropout: { seed: 3 } }, layout);
      using given = await network({}, undefined, true);
      const x = { data: normals(3, SAMPLES * WIDTH), shape: [SAMPLES, WIDTH] };
      const y = { data: Int32Array.from({ length: SAMPLES }, (_, i) => i % 3), shape: [SAMPLES] };
      // Where samples are moved, elements of a sample may count in another order.
      using both = await loadData({ x, y, mask: { data: mask, shape: [SAMPLES, 4] } });
      const v = vector(model.parameterCount);
      using H = hessian(given, both, { precision });
      const wanted = await H.apply(v);
      for (const batch of [1, 7, SAMPLES])
        for (const threads of [1, 2]) {
          using masked = hessian(model, data, { precision, batch, threads });
          expect(relative(await masked.apply(v), wanted)).toBeLessThan(1e-11);
        }
    },
  );

  it("gives different masks to different nodes", async () => {
    const bytes = modelBytes({
      nodes: [
        node("Dropout", ["x", "ratio", "mode"], ["a"]),
        node("Dropout", ["x", "ratio", "mode"], ["b"]),
        node("Sub", ["a", "b"], ["c"]),
        node("Mul", ["c", "one"], ["out"]),
      ],
      inputs: [value("x", ["N", WIDTH])],
      outputs: [value("out", ["N", WIDTH])],
      initializers: [number("ratio", RATIO), flag("mode", true), doubles("one", [1], [1])],
    });
    using model = await loadModel(bytes, { dropout: { seed: 3 } });
    using data = await samples();
    const { values } = await forward(model, data, { precision });
    expect(values.some((each) => each !== 0)).toBe(true);
  });
});
