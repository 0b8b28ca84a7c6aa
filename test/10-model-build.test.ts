// Networks made from a few words.
import { forward, loadData, loadModel, mlp, parameterVector } from "../lib";
import { mlpSize } from "../lib/model/build";
import { relative } from "./50-helpers";
import { normals } from "./support/numbers";

test.each(["float64", "float32"] as const)(
  "an MLP computes what its numbers say, stored in %s",
  async (precision) => {
    const widths = [3, 4, 2];
    const theta = normals(5, mlpSize(widths));
    const bytes = mlp({ widths, activation: "tanh", parameters: theta, precision });
    const model = await loadModel(bytes, { loss: "mse" });
    expect(model.parameters.map(({ name, shape }) => [name, ...shape])).toEqual([
      ["fc1.weight", 4, 3],
      ["fc1.bias", 4],
      ["fc2.weight", 2, 4],
      ["fc2.bias", 2],
    ]);
    expect(parameterVector(model)).toEqual(theta);
    const x = normals(6, 15);
    using data = await loadData({ x: { data: x, shape: [5, 3] } });
    const { values } = await forward(model, data, { precision: "float64" });
    const layer = (from: number[], at: number, out: number) =>
      Array.from({ length: out }, (_, o) =>
        from.reduce(
          (sum, value, i) => sum + value * theta[at + o * from.length + i]!,
          theta[at + out * from.length + o]!,
        ),
      );
    const wanted = Array.from({ length: 5 }, (_, n) => {
      const hidden = layer([...x.subarray(3 * n, 3 * n + 3)], 0, 4).map(Math.tanh);
      return layer(hidden, 16, 2);
    }).flat();
    expect(relative(values, wanted)).toBeLessThan(1e-14);
  },
);

test("widths, activations, biases and seeds", async () => {
  for (const activation of [
    "linear",
    "relu",
    "leaky-relu",
    "elu",
    "sigmoid",
    "softplus",
    "gelu",
  ] as const) {
    const model = await loadModel(mlp({ widths: [3, 4, 5, 2], activation, bias: false }));
    expect(model.unsupported).toEqual([]);
    expect(model.parameterCount).toBe(12 + 20 + 10);
    expect(model.operators.Gemm).toBe(3);
    expect(Object.keys(model.operators)).toHaveLength(activation === "linear" ? 1 : 2);
  }
  const of = async (seed: number) =>
    parameterVector(await loadModel(mlp({ widths: [100, 10], seed })));
  expect(await of(1)).toEqual(await of(1));
  expect(await of(1)).not.toEqual(await of(2));
  const theta = await of(1);
  expect(Math.max(...theta.map(Math.abs))).toBeLessThanOrEqual(0.1);
  expect(theta.reduce((sum, x) => sum + x * x, 0) / theta.length).toBeCloseTo(0.01 / 3, 3);
});

test("wrong uses name what was expected", () => {
  expect(() => mlp({ widths: [3] })).toThrow(
    "mlp: widths: expected an array of at least two whole numbers of at least 1, got an array",
  );
  expect(() => mlp({} as never)).toThrow("got undefined");
  expect(() => mlp({ widths: [3, 2], parameters: [1] })).toThrow(
    "mlp: parameters: expected 8 numbers for the widths 3-2 with biases, got an array of 1 entries",
  );
  expect(() => mlp({ widths: [3, 2], activation: "swish" as never })).toThrow('one of "linear"');
});
