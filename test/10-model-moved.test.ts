// A model at other parameters: the same graph with other numbers.
import { forward, gradient, hessian, loadData, loadModel, parameterVector } from "../lib";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { openCase, relative, tinyProblem } from "./50-helpers";

const moved = (theta: Float64Array) => theta.map((x, i) => x + 0.1 * Math.sin(i));

test("what is computed is that of a model that was stored with these numbers", async () => {
  const w = [0.5, -1, 2, 0.25];
  const bytes = (numbers: number[]) =>
    modelBytes({
      nodes: [node("MatMul", ["x", "w"], ["out"])],
      inputs: [value("x", ["N", 2])],
      outputs: [value("out", ["N", 2])],
      initializers: [floats("w", [2, 2], numbers)],
    });
  const there = [1, 2, -0.5, 4];
  using model = await loadModel(bytes(w), { loss: "mse" });
  using stored = await loadModel(bytes(there), { loss: "mse" });
  using same = model.withParameters(Float64Array.from(there));
  const data = await loadData({
    x: { data: Float64Array.from([1, 2, 3, -1]), shape: [2, 2] },
    y: { data: Float64Array.from([0, 1, 1, 0]), shape: [2, 2] },
  });
  const results = await Promise.all(
    [stored, same].map(async (at) => [
      await forward(at, data),
      (await gradient(at, data, { precision: "float64" })).gradient,
    ]),
  );
  expect(results[1]).toEqual(results[0]);
});

test("the gradient there is that of the loss, and the first model stays where it was", async () => {
  const { model, data } = await tinyProblem();
  const theta = parameterVector(model);
  using at = model.withParameters(moved(theta));
  expect(parameterVector(at)).toEqual(moved(theta));
  expect(parameterVector(model)).toEqual(theta);
  const precision = "float64";
  const [here, there] = [
    await gradient(model, data, { precision }),
    await gradient(at, data, { precision }),
  ];
  expect(there.loss).not.toBe(here.loss);
  // H (g at theta + h v) - H: a small step changes the gradient by h H v.
  const h = 1e-6;
  const v = theta.map((_, i) => Math.cos(i));
  using near = at.withParameters(moved(theta).map((x, i) => x + h * v[i]!));
  const change = (await gradient(near, data, { precision })).gradient.map(
    (x, i) => (x - there.gradient[i]!) / h,
  );
  using H = hessian(at, data, { precision });
  expect(relative(change, await H.apply(v))).toBeLessThan(1e-4);
});

test("the two are disposed of one by one", async () => {
  const { model, data } = await tinyProblem();
  const at = model.withParameters(moved(parameterVector(model)));
  model.dispose();
  expect((await forward(at, data)).shape).toEqual([5, 2]);
  at.dispose();
  await expect(forward(at, data)).rejects.toThrow("disposed");
});

test("everything else is as before", async () => {
  const { model } = await openCase("cnn_small");
  using at = model.withParameters(new Float64Array(model.parameterCount));
  const plain = ({ parameters, ...rest }: typeof model) => ({
    ...rest,
    native: undefined,
    parameters: parameters.map(({ values: _, ...parameter }) => parameter),
  });
  expect(plain(at)).toEqual(plain(model));
});

test("parameters that do not fit are refused", async () => {
  const { model } = await tinyProblem();
  expect(() => model.withParameters(new Float64Array(3))).toThrow(
    "withParameters: expected a Float64Array of the 26 parameters of model, got a Float64Array of 3 entries",
  );
  expect(() => model.withParameters([1, 2] as never)).toThrow("got an array of 2 entries");
  const bad = parameterVector(model);
  bad[4] = Number.NaN;
  expect(() => model.withParameters(bad)).toThrow("expected finite parameters, got NaN at index 4");
});
