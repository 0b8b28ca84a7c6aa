// What goes in and comes out: tokens, ignored positions, axes of classes, outputs by name, several
// inputs of several types, weights of half precision.
import {
  type DataSet,
  gradient,
  hessian,
  type LoadModelOptions,
  type Loss,
  loadData,
  loadModel,
  type Model,
} from "../lib";
import { DataType, modelBytes, node, tensor, value } from "./10-model-maker";
import { rejection, relative, vector } from "./50-helpers";
import { doubles } from "./support/networks";
import { integers, normals } from "./support/numbers";

const precision = "float64" as const;
const [N, T, V, C] = [5, 4, 6, 3];

/** Tokens -> embedding -> tanh -> logits [N, T, V], or [N, V, T]. */
function tokens(options: LoadModelOptions, classesFirst = false, flat = false) {
  const turn = classesFirst ? [node("Transpose", ["z"], ["out"], { perm: [0n, 2n, 1n] })] : [];
  const bytes = modelBytes({
    nodes: [
      node("Gather", ["table", "x"], ["e"]),
      node("Tanh", ["e"], ["h"]),
      node("MatMul", ["h", "w"], [classesFirst ? "z" : "out"]),
      ...turn,
    ],
    inputs: [value("x", flat ? ["N"] : ["N", T], DataType.INT64)],
    outputs: [value("out", null)],
    initializers: [
      doubles("table", [V, C], normals(1, V * C)),
      doubles("w", [C, V], normals(2, C * V)),
    ],
  });
  return loadModel(bytes, options);
}

async function everything(model: Model, data: DataSet, batch?: number) {
  const options = { precision, ...(batch && { batch }) };
  const { loss, gradient: g } = await gradient(model, data, options);
  using H = hessian(model, data, options);
  return [loss, ...g, ...(await H.apply(vector(model.parameterCount)))];
}

describe("token models", () => {
  const x = integers(3, N * T, V);
  // A third of the positions do not count; the second sample has none that does.
  const y = integers(4, N * T, V).map((label, i) =>
    i % 3 === 0 || Math.floor(i / T) === 1 ? -100 : label,
  );
  const whole = { x: { data: x, shape: [N, T] }, y: { data: y, shape: [N, T] } };
  const kept = [...y.keys()].filter((i) => y[i] !== -100);

  it.each(["mean", "sum"] as const)("count the positions that are not ignored: %s", async (r) => {
    const loss: Loss = { name: "cross-entropy", reduction: r };
    using flat = await tokens({ loss }, false, true);
    using positions = await loadData({
      x: { data: Int32Array.from(kept, (i) => x[i]!), shape: [kept.length] },
      y: { data: Int32Array.from(kept, (i) => y[i]!), shape: [kept.length] },
    });
    const wanted = await everything(flat, positions);
    using data = await loadData(whole);
    using last = await tokens({ loss: { ...loss, classAxis: -1 } });
    using first = await tokens({ loss }, true);
    for (const model of [last, first])
      for (const batch of [undefined, 1, 2])
        expect(relative(await everything(model, data, batch), wanted)).toBeLessThan(1e-12);
  });

  it("take another label for ignored", async () => {
    using plain = await tokens({ loss: { name: "cross-entropy", classAxis: -1 } });
    using data = await loadData(whole);
    using other = await tokens({
      loss: { name: "cross-entropy", classAxis: -1, ignoreIndex: 255 },
    });
    const relabelled = y.map((label) => (label === -100 ? 255 : label));
    using same = await loadData({ ...whole, y: { data: relabelled, shape: [N, T] } });
    expect(await everything(other, same)).toEqual(await everything(plain, data));
  });

  it("name a token that the table does not have", async () => {
    using model = await tokens({ loss: { name: "cross-entropy", classAxis: -1 } });
    const wrong = x.slice();
    wrong[T + 2] = V;
    using data = await loadData({ ...whole, x: { data: wrong, shape: [N, T] } });
    const { message } = await rejection(everything(model, data));
    expect(message).toMatch(new RegExp(`${V}`));
  });
});

describe("several inputs and outputs", () => {
  const bytes = modelBytes({
    nodes: [
      node("Gather", ["table", "token"], ["e"]),
      node("Add", ["e", "dense"], ["a"]),
      node("Where", ["mask", "a", "zero"], ["h"]),
      node("MatMul", ["h", "w"], ["first"]),
      node("Tanh", ["first"], ["second"]),
    ],
    inputs: [
      value("token", ["N"], DataType.INT32),
      value("dense", ["N", C]),
      value("mask", ["N", C], DataType.BOOL),
    ],
    outputs: [value("first", ["N", 2]), value("second", ["N", 2])],
    initializers: [
      doubles("table", [V, C], normals(1, V * C)),
      doubles("w", [C, 2], normals(2, C * 2)),
      doubles("zero", [], [0]),
    ],
  });
  const token = integers(5, N, V);
  const dense = normals(6, N * C);
  const mask = Uint8Array.from({ length: N * C }, (_, i) => Number(i % 3 !== 1));
  const y = normals(7, N * 2);

  it.each(["first", "second"])("by name: %s", async (output) => {
    using model = await loadModel(bytes, { loss: "mse", output });
    using data = await loadData({
      token: { data: token, shape: [N] },
      dense: { data: dense, shape: [N, C] },
      mask: { data: mask, shape: [N, C] },
      y: { data: y, shape: [N, 2] },
    });
    const [table, w] = [normals(1, V * C), normals(2, C * 2)];
    let sum = 0;
    for (let n = 0; n < N; n++)
      for (let o = 0; o < 2; o++) {
        let z = 0;
        for (let c = 0; c < C; c++) {
          const h = table[token[n]! * C + c]! + dense[n * C + c]!;
          z += mask[n * C + c] ? h * w[c * 2 + o]! : 0;
        }
        sum += ((output === "second" ? Math.tanh(z) : z) - y[n * 2 + o]!) ** 2;
      }
    const { loss } = await gradient(model, data, { precision });
    expect(Math.abs(loss / (sum / (2 * N)) - 1)).toBeLessThan(1e-13);
    expect(model.output).toBe(output);
  });

  it("refuse names that are none", async () => {
    const { message } = await rejection(loadModel(bytes, { output: "third" }));
    expect(message).toMatch(/one of the model's outputs \(first, second\), got "third"/);
  });
});

describe("weights of half precision", () => {
  const half = (bits: (x: number) => number) => (x: number) => bits(x);
  // Numbers that both hold exactly.
  const numbers = [1, -0.5, 2, 0.25, -3, 1.5];
  const bfloat16 = half((x) => new Uint32Array(Float32Array.of(x).buffer)[0]! >>> 16);
  const float16 = half((x) => {
    const bits = new Uint32Array(Float32Array.of(x).buffer)[0]!;
    const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
    return ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 0x3ff);
  });
  const network = (w: ReturnType<typeof tensor>, type: DataType) =>
    loadModel(
      modelBytes({
        nodes: [
          node("Cast", ["x"], ["c"], { to: BigInt(type) }),
          node("MatMul", ["c", "w"], ["z"]),
          node("Tanh", ["z"], ["t"]),
          node("Cast", ["t"], ["out"], { to: 1n }),
        ],
        inputs: [value("x", ["N", 3])],
        outputs: [value("out", ["N", 2])],
        initializers: [w],
      }),
      { loss: "mse" },
    );

  it.each([
    ["bfloat16", DataType.BFLOAT16, bfloat16],
    ["float16", DataType.FLOAT16, float16],
  ] as const)("%s are those numbers in the computing precision", async (_, type, bits) => {
    using wide = await network(doubles("w", [3, 2], numbers), DataType.DOUBLE);
    const int32Data = numbers.map(bits);
    using narrow = await network(tensor("w", [3, 2], { dataType: type, int32Data }), type);
    using data = await loadData({
      x: { data: normals(8, N * 3), shape: [N, 3] },
      y: { data: normals(9, N * 2), shape: [N, 2] },
    });
    expect([...narrow.parameters[0]!.values()]).toEqual(numbers);
    expect(await everything(narrow, data)).toEqual(await everything(wide, data));
  });
});
