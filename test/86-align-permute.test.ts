// Units in another order: the function stays, buffers come along, and files hold it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forward, loadModel, type Model, parameterVector, permute, writeModel } from "../lib";
import { memberships, Network, permuteState } from "../lib/align/network";
import { inverseOrder, mixUnits, permutePlace, unitIndices, unitRows } from "../lib/align/places";
import { relative } from "./50-helpers";
import { dataOf, netModel, randomTheta } from "./support/networks";
import { normals } from "./support/numbers";
import {
  CONVOLUTIONAL_GROUPS,
  convolutional,
  convolutionalModel,
  perceptronGroups,
  place,
} from "./support/units";

const widths = [3, 5, 4, 2];
const groups = perceptronGroups(widths);
const perceptron = (seed = 1) =>
  netModel({ widths, activation: "Tanh", theta: randomTheta(seed, widths) });
const images = () => dataOf({ x: { data: normals(3, 10 * 72), shape: [2, 6, 6] } });

async function outputs(model: Model): Promise<Float64Array> {
  using data =
    model.inputs[0]!.shape!.length === 4
      ? await images()
      : await dataOf({ x: { data: normals(2, 30), shape: [3] } });
  return (await forward(model, data, { precision: "float64" })).values;
}

test("a permuted perceptron computes the same, with other parameters", async () => {
  using model = await perceptron();
  using turned = permute(model, model, groups[1]!, [2, 0, 3, 1]);
  expect(turned.parameterCount).toBe(model.parameterCount);
  const [before, after] = [parameterVector(model), parameterVector(turned)];
  expect(after).not.toEqual(before);
  expect([...after].sort()).toEqual([...before].sort());
  // New unit i is old unit order[i].
  const row = (theta: Float64Array, unit: number) => theta.slice(20 + 5 * unit, 25 + 5 * unit);
  expect(row(after, 0)).toEqual(row(before, 2));
  expect(relative(await outputs(turned), await outputs(model))).toBeLessThan(1e-14);
});

test("running statistics are permuted along, and flattened maps unit by unit", async () => {
  using model = await convolutionalModel(1);
  using first = permute(model, model, CONVOLUTIONAL_GROUPS[0]!, [4, 2, 0, 1, 3]);
  using both = permute(model, first, CONVOLUTIONAL_GROUPS[1]!, [3, 0, 2, 1]);
  const wanted = await outputs(model);
  expect(relative(await outputs(both), wanted)).toBeLessThan(1e-13);
  const [net, turned] = [new Network("test", model), new Network("test", both)];
  const mean = net.tensor("bn.running_mean")!.values();
  expect([...turned.tensor("bn.running_mean")!.values()]).toEqual(
    [4, 2, 0, 1, 3].map((unit) => mean[unit]),
  );
  // Parameters alone are not the function.
  const halfway = model.withParameters(parameterVector(both));
  expect(relative(await outputs(halfway), wanted)).toBeGreaterThan(1e-3);
});

test("any place that is left out changes the function", async () => {
  using model = await convolutionalModel(2);
  const wanted = await outputs(model);
  for (const group of CONVOLUTIONAL_GROUPS)
    for (const left of group.places) {
      const part = { ...group, places: group.places.filter((other) => other !== left) };
      const order = Array.from({ length: group.size }, (_, i) => (i + 1) % group.size);
      using turned = permute(model, model, part, order);
      expect(relative(await outputs(turned), wanted)).toBeGreaterThan(1e-3);
    }
});

test("the inverse order undoes an order", async () => {
  using model = await convolutionalModel(3);
  using network = new Network("test", model);
  const members = memberships("test", network, CONVOLUTIONAL_GROUPS);
  const orders = [Int32Array.of(3, 1, 4, 0, 2), Int32Array.of(1, 3, 0, 2)];
  const there = permuteState(network, network.state, members, orders);
  expect(there).not.toEqual(network.state);
  expect(permuteState(network, there, members, orders.map(inverseOrder))).toEqual(network.state);
});

test("a permuted network is written as a file of its own", async () => {
  const folder = mkdtempSync(join(tmpdir(), "eigenscope-permute-"));
  try {
    const bytes = convolutional(1);
    using model = await loadModel(bytes, { loss: "cross-entropy" });
    using turned = permute(model, model, CONVOLUTIONAL_GROUPS[0]!, [4, 2, 0, 1, 3]);
    const file = join(folder, "turned.onnx");
    await writeModel(file, turned, { parameters: turned, from: bytes });
    using read = await loadModel(file, { loss: "cross-entropy" });
    expect(parameterVector(read)).toEqual(parameterVector(turned));
    expect(await outputs(read)).toEqual(await outputs(turned));
    // Of a model elsewhere, all its numbers are written, not what differs from where it is.
    using moved = model.withParameters(parameterVector(model).map((x) => 2 * x));
    await writeModel(file, moved, { parameters: moved, from: bytes });
    using again = await loadModel(file);
    expect(parameterVector(again)).toEqual(parameterVector(moved));
    await writeModel(file, moved, { parameters: model, from: bytes });
    using back = await loadModel(file);
    expect(parameterVector(back)).toEqual(parameterVector(model));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("segments, blocks and runs of an axis", () => {
  // Axis of 11: one fixed, then two blocks of 2 units of 2 numbers, then two fixed.
  const values = Float64Array.from({ length: 22 }, (_, i) => i);
  const layout = { axis: 1, start: 1, outer: 2, inner: 2 };
  const units = unitIndices([2, 11], 2, layout);
  const turned = permutePlace(values, units, [1, 0]);
  expect([...turned.subarray(0, 11)]).toEqual([0, 3, 4, 1, 2, 7, 8, 5, 6, 9, 10]);
  expect([...turned.subarray(11)]).toEqual([11, 14, 15, 12, 13, 18, 19, 16, 17, 20, 21]);
  expect(units.width).toBe(8);
  expect([...unitRows(values, units).subarray(0, 8)]).toEqual([1, 2, 5, 6, 12, 13, 16, 17]);
  // Mixed into three units, of which the last is the mean of the two.
  const mean: [number, number][] = [
    [0, 0.5],
    [1, 0.5],
  ];
  const [to, from] = [unitIndices([1, 15], 3, layout), unitIndices([1, 11], 2, layout)];
  const mixed = mixUnits(values.subarray(0, 11), 15, [
    { to, from, mixing: [[[1, 1]], [[0, 1]], mean] },
  ]);
  expect([...mixed]).toEqual([0, 3, 4, 1, 2, 2, 3, 7, 8, 5, 6, 6, 7, 9, 10]);
});

test("positions one by one, and only some of the other axis", () => {
  const values = Float64Array.from({ length: 12 }, (_, i) => i);
  const at = { axis: 1, start: 0, outer: 1, inner: 1 };
  const listed = { ...at, positions: [[3], [0], [1]] };
  const turned = permutePlace(values, unitIndices([3, 4], 3, listed), [1, 2, 0]);
  expect([...turned]).toEqual([1, 3, 2, 0, 5, 7, 6, 4, 9, 11, 10, 8]);
  const only = { ...at, where: [{ axis: 0, positions: [2] }] };
  const part = permutePlace(values, unitIndices([3, 4], 4, only), [3, 2, 1, 0]);
  expect([...part]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 11, 10, 9, 8]);
});

test("what does not fit is refused", async () => {
  using model = await perceptron();
  const [group] = groups;
  expect(() => permute(model, model, group!, [0, 1, 2])).toThrow(
    "permute: w0: expected a permutation of 0 to 4, got 3 numbers",
  );
  expect(() => permute(model, model, group!, [0, 1, 2, 3, 3])).toThrow("got 3 twice");
  expect(() => permute(model, model, group!, [0, 1, 2, 3, 5])).toThrow("got 5 at index 4");
  const order = [1, 0, 2, 3, 4];
  const elsewhere = { ...group!, places: [place("w9", 0, "in")] };
  expect(() => permute(model, model, elsewhere, order)).toThrow(
    'permute: w0: expected a group of tensors of model, got one with "w9"',
  );
  const outside = { ...group!, places: [place("w0", 0, "in", { start: 1 })] };
  expect(() => permute(model, model, outside, order)).toThrow(
    "permute: w0: w0: expected 1 x 5 x 1 positions from 1 along axis 0, got the shape (5, 3)",
  );
  expect(() => permute({} as Model, model, group!, order)).toThrow("expected a model of loadModel");
});

test("a network with chosen tensors as parameters, and up to one of its values", async () => {
  using model = await convolutionalModel(1);
  using few = model.withTensors(["bn.running_var", "d1.bias"]);
  expect(few.parameters.map(({ name, offset }) => [name, offset])).toEqual([
    ["bn.running_var", 0],
    ["d1.bias", 5],
  ]);
  expect(await outputs(few)).toEqual(await outputs(model));
  expect(() => model.withTensors(["h0"])).toThrow("expected tensors that the model stores and its");
  using hidden = model.withOutput("h0");
  using set = await images();
  const { values, shape } = await forward(hidden, set, { precision: "float64" });
  expect(shape).toEqual([10, 5, 4, 4]);
  expect(Math.min(...values)).toBe(0);
  expect(() => model.withOutput("x")).toThrow(
    'output: expected a value that a node of the network makes, got "x"',
  );
});
