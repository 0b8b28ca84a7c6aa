// Inputs that are no data: constants that loadModel binds to them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BindValue, forward, gradient, loadData, loadModel } from "../lib";
import { writeNpy } from "../lib/data/npy";
import { body, DataType, modelBytes, node, value } from "./10-model-maker";
import { rejection, relative } from "./50-helpers";
import { doubles } from "./support/networks";
import { normals } from "./support/numbers";

const precision = "float64" as const;
const [N, WIDTH] = [6, 4];

const folder = mkdtempSync(join(tmpdir(), "bind-"));
afterAll(() => rmSync(folder, { recursive: true }));

const samples = () =>
  loadData({
    x: { data: normals(3, N * WIDTH), shape: [N, WIDTH] },
    y: { data: normals(4, N * 2), shape: [N, 2] },
  });

/** x (mask) W, with the mask an input of any type and shape. */
const masked = (dims: (number | string)[], type = DataType.FLOAT) =>
  modelBytes({
    nodes: [
      node("Cast", ["mask"], ["m"], { to: BigInt(DataType.DOUBLE) }),
      node("Mul", ["x", "m"], ["kept"]),
      node("MatMul", ["kept", "w"], ["out"]),
    ],
    inputs: [value("x", ["N", WIDTH]), value("mask", dims, type)],
    outputs: [value("out", ["N", 2])],
    initializers: [doubles("w", [WIDTH, 2], normals(5, WIDTH * 2))],
  });

/** x (mask) W by hand. */
function product(mask: (i: number, j: number) => number): Float64Array {
  const [x, w] = [normals(3, N * WIDTH), normals(5, WIDTH * 2)];
  return Float64Array.from({ length: N * 2 }, (_, at) => {
    const [i, c] = [Math.floor(at / 2), at % 2];
    let sum = 0;
    for (let j = 0; j < WIDTH; j++) sum += x[i * WIDTH + j]! * mask(i, j) * w[j * 2 + c]!;
    return sum;
  });
}

describe("bound inputs", () => {
  const weights = [0, 1, -2.5, 3];
  const cases: [string, (number | string)[], DataType, BindValue, (j: number) => number][] = [
    ["an array", [WIDTH], DataType.FLOAT, weights, (j) => weights[j]!],
    ["a nested array", [1, WIDTH], DataType.FLOAT, [weights], (j) => weights[j]!],
    ["flat numbers of its shape", [1, WIDTH], DataType.DOUBLE, weights, (j) => weights[j]!],
    ["a typed array", [WIDTH], DataType.FLOAT16, Float64Array.from(weights), (j) => weights[j]!],
    ["one number for all", [1, WIDTH], DataType.FLOAT, 0.25, () => 0.25],
    ["a number for a scalar", [], DataType.DOUBLE, 3, () => 3],
    ["a number in free lengths", ["N", "M"], DataType.FLOAT, 2, () => 2],
    ["booleans", [WIDTH], DataType.BOOL, [true, false, 1, 0], (j) => [1, 0, 1, 0][j]!],
    ["a whole number", [], DataType.INT64, 7n, () => 7],
    ["whole numbers", [WIDTH], DataType.INT32, [1, 2, 3, 4], (j) => j + 1],
  ];
  it.each(cases)("may be %s", async (_, dims, type, bound, mask) => {
    // A free length that no data have is the number of samples.
    const free = dims.length === 2 && dims[1] === "M";
    const bytes = masked(free ? ["N", 1] : dims, type);
    using model = await loadModel(bytes, { bind: { mask: bound }, loss: "mse" });
    using data = await samples();
    expect(model.inputs.map(({ name }) => name)).toEqual(["x"]);
    expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
    expect(model.modes.bound[0]).toMatchObject({ name: "mask" });
    const { values } = await forward(model, data, { precision });
    expect(
      relative(
        values,
        product((_i, j) => mask(j)),
      ),
    ).toBeLessThan(1e-13);
    for (const batch of [1, 4]) {
      const one = await gradient(model, data, { precision, batch });
      const all = await gradient(model, data, { precision });
      expect(relative(one.gradient, all.gradient)).toBeLessThan(1e-12);
    }
  });

  it("may be a .npy file", async () => {
    const path = join(folder, "mask.npy");
    await writeNpy(path, Float64Array.from(weights), [1, WIDTH]);
    using model = await loadModel(masked([1, WIDTH]), { bind: { mask: path } });
    using data = await samples();
    const { values } = await forward(model, data, { precision });
    expect(
      relative(
        values,
        product((_i, j) => weights[j]!),
      ),
    ).toBeLessThan(1e-13);
  });

  it("are no parameters although they look like some", async () => {
    const bytes = modelBytes({
      nodes: [node("MatMul", ["x", "v"], ["a"]), node("MatMul", ["a", "w"], ["out"])],
      inputs: [value("x", ["N", WIDTH]), value("v", [WIDTH, WIDTH])],
      outputs: [value("out", ["N", 2])],
      initializers: [doubles("w", [WIDTH, 2], normals(5, WIDTH * 2))],
    });
    using model = await loadModel(bytes, { bind: { v: normals(6, WIDTH * WIDTH) } });
    expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
    expect(model.tensors.find(({ name }) => name === "v")).toMatchObject({
      role: "constant",
      reason: "it is an input with a bound value",
    });
  });

  it("decide conditions", async () => {
    const bytes = modelBytes({
      nodes: [
        node("MatMul", ["x", "w"], ["a"]),
        node("If", ["flag"], ["out"], {
          then_branch: body([node("Tanh", ["a"], ["t"])], ["t"]),
          else_branch: body([node("Neg", ["a"], ["e"])], ["e"]),
        }),
      ],
      inputs: [value("x", ["N", WIDTH]), value("flag", [], DataType.BOOL)],
      outputs: [value("out", ["N", 2])],
      initializers: [doubles("w", [WIDTH, 2], normals(5, WIDTH * 2))],
    });
    using data = await samples();
    const a = product(() => 1);
    using yes = await loadModel(bytes, { bind: { flag: true } });
    using no = await loadModel(bytes, { bind: { flag: false } });
    expect(
      relative((await forward(yes, data, { precision })).values, a.map(Math.tanh)),
    ).toBeLessThan(1e-13);
    expect(
      relative(
        (await forward(no, data, { precision })).values,
        a.map((z) => -z),
      ),
    ).toBeLessThan(1e-13);
  });

  it("say how often a loop runs", async () => {
    const bytes = modelBytes({
      nodes: [
        node("MatMul", ["x", "w"], ["a"]),
        node("Loop", ["times", "", "a"], ["out"], {
          body: body(
            [node("Tanh", ["h"], ["next"]), node("Identity", ["going"], ["goes"])],
            ["goes", "next"],
            ["round", "going", "h"],
          ),
        }),
      ],
      inputs: [value("x", ["N", WIDTH]), value("times", [], DataType.INT64)],
      outputs: [value("out", ["N", 2])],
      initializers: [doubles("w", [WIDTH, 2], normals(5, WIDTH * 2))],
    });
    using data = await samples();
    let wanted = product(() => 1);
    for (let times = 1; times < 4; times++) {
      wanted = wanted.map(Math.tanh);
      using model = await loadModel(bytes, { bind: { times } });
      const { values } = await forward(model, data, { precision });
      expect(relative(values, wanted)).toBeLessThan(1e-13);
    }
    using open = await loadModel(bytes);
    expect(() => forward(open, data)).toThrow(/trip count \(times\) is no constant/);
  });

  it("are what an error offers where an input has no data", async () => {
    using model = await loadModel(masked([WIDTH]));
    using data = await samples();
    expect((await rejection(forward(model, data))).message).toMatch(
      /no array for the model's input mask \(where it is no data, .*--bind mask=VALUE\)/,
    );
  });

  it("start a recurrent network in any number of samples at once", async () => {
    const H = 3;
    const bytes = modelBytes({
      nodes: [
        node("Transpose", ["x"], ["seq"], { perm: [1n, 0n, 2n] }),
        node("GRU", ["seq", "W", "R", "", "", "h0"], ["", "last"], { hidden_size: BigInt(H) }),
        node("Squeeze", ["last", "zero"], ["h"]),
        node("MatMul", ["h", "w"], ["out"]),
      ],
      inputs: [value("x", ["batch", 5, 2]), value("h0", [1, "batch", H])],
      outputs: [value("out", ["batch", 2])],
      initializers: [
        doubles("W", [1, 3 * H, 2], normals(1, 6 * H)),
        doubles("R", [1, 3 * H, H], normals(2, 3 * H * H)),
        doubles("w", [H, 2], normals(3, H * 2)),
      ].concat({
        ...doubles("zero", [1], [0]),
        dataType: DataType.INT64,
        rawData: new Uint8Array(8),
      }),
    });
    using model = await loadModel(bytes, { bind: { h0: 0.5 }, loss: "mse" });
    using data = await loadData({
      x: { data: normals(4, N * 10), shape: [N, 5, 2] },
      y: { data: normals(4, N * 2), shape: [N, 2] },
    });
    const all = await gradient(model, data, { precision });
    const two = await gradient(model, data, { precision, batch: 2 });
    expect(relative(two.gradient, all.gradient)).toBeLessThan(1e-12);
    using other = await loadModel(bytes, { bind: { h0: 0 }, loss: "mse" });
    expect((await gradient(other, data, { precision })).loss).not.toBe(all.loss);
  });

  const wrong: [string, (number | string)[], DataType, unknown, RegExp][] = [
    [
      "other shapes",
      [WIDTH],
      DataType.FLOAT,
      [1, 2],
      /^bind.mask: .*shape \(4\).*got 2 of shape \(2\)/,
    ],
    ["more axes", [WIDTH], DataType.FLOAT, [[1, 2, 3, 4]], /got 4 of shape \(1, 4\)/],
    ["ragged arrays", [2, 2], DataType.FLOAT, [[1, 2], [3]], /arrays of numbers of equal lengths/],
    ["broken integers", [], DataType.INT64, 1.5, /whole numbers, as the input is int64, got 1.5/],
    ["other booleans", [], DataType.BOOL, 2, /true or false, got 2/],
    ["NaN", [], DataType.FLOAT, Number.NaN, /expected a number, true or false/],
    [
      "what is no number",
      [],
      DataType.FLOAT,
      {},
      /expected a number, true or false, .*got an object/,
    ],
  ];
  it.each(wrong)("refuse %s", async (_, dims, type, bound, message) => {
    const error = await rejection(
      loadModel(masked(dims, type), { bind: { mask: bound } as never }),
    );
    expect(error.name).toBe("OptionError");
    expect(error.message).toMatch(message);
  });

  it("refuse names that are no inputs, and all of them", async () => {
    const bytes = masked([WIDTH]);
    const unknown = await rejection(loadModel(bytes, { bind: { masks: 1 } }));
    expect(unknown.message).toBe(
      'bind: expected names of the model\'s inputs (x, mask), got "masks"',
    );
    const all = await rejection(loadModel(masked([]), { bind: { x: 1, mask: 1 } }));
    expect(all.message).toMatch(/at least one input to be left for the data/);
    const missing = await rejection(loadModel(bytes, { bind: { mask: "nothing.npy" } }));
    expect(missing.message).toMatch(/nothing\.npy/);
  });
});
