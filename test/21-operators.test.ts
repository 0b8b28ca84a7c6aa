/**
 * Every operator on its cases: the value against other engines, first and second derivatives against
 * differences, and what holds for every operator matrix.
 */
import type { DataSet } from "../lib/data/data";
import type { Model } from "../lib/model/model";
import { native } from "../lib/native";
import { forward, functionalHessian, ggn, gradient, hessian } from "../lib/operators";
import { CASES, openData, openModel, scattered } from "./21-operator-cases";

/** Of central differences: their error is about 1e-10. */
const STEP = 1e-5;
const F64 = { precision: "float64", threads: 1 } as const;
const F32 = { precision: "float32", threads: 1 } as const;

type Numbers = ArrayLike<number>;

function dot(x: Numbers, y: Numbers): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
}

const largest = (x: Numbers) => Array.from(x).reduce((max, v) => Math.max(max, Math.abs(v)), 0);

/** The largest error over the largest magnitude wanted, or over `floor` where that is larger. */
function errorOf(got: Numbers, want: Numbers, floor = 0): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  const error = largest(Array.from(want, (v, i) => v - got[i]!));
  return error === 0 ? 0 : error / Math.max(largest(want), floor);
}

const difference = (above: Numbers, below: Numbers) =>
  Float64Array.from(above, (v, i) => (v - below[i]!) / (2 * STEP));

/** Loss and gradient at the parameters moved by `step` times a direction. */
async function moved(model: Model, data: DataSet, direction: Float64Array, step: number) {
  const gradient = new Float64Array(model.parameterCount);
  const { loss } = await native().evaluateRisk(
    model.native,
    data.native,
    { name: "mse" },
    { ...F64, direction, step },
    gradient,
    undefined,
  ).promise;
  return { loss, gradient };
}

/** The network's output there. */
async function outputAt(name: string, data: DataSet, direction: Float64Array, step: number) {
  using model = await openModel(name, { move: direction.map((x) => step * x) });
  return (await forward(model, data, F64)).values;
}

test.each(Object.keys(CASES))("%s", async (name) => {
  const { batched, output, parameters } = CASES[name]!;
  using model = await openModel(name);
  using data = await openData(name);
  expect(model.parameters.map((parameter) => parameter.name)).toEqual(parameters);

  const value = await forward(model, data, F64);
  if (batched) expect(value.shape).toEqual(output.shape);
  const single = await forward(model, data, F32);

  const n = model.parameterCount;
  const [u, v] = [scattered(n, 1), scattered(n, 2)];
  const block = new Float64Array([...u, ...v]);
  const halves = (products: Float64Array) => [products.subarray(0, n), products.subarray(n)];

  const { loss, gradient: g, norm } = await gradient(model, data, F64);
  const above = await moved(model, data, v, STEP);
  const below = await moved(model, data, v, -STEP);
  const slope = (above.loss - below.loss) / (2 * STEP);

  using H = hessian(model, data, F64);
  const products = (await H.apply(block)) as Float64Array;
  const [hu, hv] = halves(products);
  // A case on which nothing depends would pass whatever its derivatives.
  expect(largest(products)).toBeGreaterThan(0);
  // What rounding is measured by where a saturated function leaves next to nothing.
  const floor = norm + 1e-4 * loss;

  using G = ggn(model, data, F64);
  const gauss = (await G.apply(block)) as Float64Array;
  const [gu, gv] = halves(gauss);
  const jv = difference(await outputAt(name, data, v, STEP), await outputAt(name, data, v, -STEP));
  // The loss is (1/m) |f - y|^2, so v'Gv = (2/m) |Jv|^2.
  const form = (2 / jv.length) * dot(jv, jv);

  using F = functionalHessian(model, data, F64);
  const rest = await F.apply(block);

  using H32 = hessian(model, data, F32);
  const products32 = await H32.apply(Float32Array.from(block));

  // Five samples at once, and as 2 + 2 + 1.
  using more = await openData(name, { samples: 5 });
  using together = hessian(model, more, { ...F64, batch: more.samples });
  const whole = await together.apply(block);
  using split = hessian(model, more, { ...F64, batch: Math.min(2, more.samples) });

  // The same numbers in another order of axes.
  using turnedModel = await openModel(name, { turned: true });
  using turnedData = await openData(name, { turned: true });
  const turned = await forward(turnedModel, turnedData, F64);
  using turnedH = hessian(turnedModel, turnedData, F64);

  const asymmetry = (av: Numbers, au: Numbers) =>
    Math.abs(dot(u, av) - dot(v, au)) / (n * (largest(av) + largest(au) + floor));
  const checks: [string, number, number][] = [
    ["value", errorOf(value.values, output.data), 1e-12],
    ["value in float32", errorOf(single.values, output.data), 1e-5],
    ["gradient", Math.abs(slope - dot(g, v)) / (norm + loss), 1e-7],
    ["Hessian", errorOf(hv!, difference(above.gradient, below.gradient), floor), 1e-6],
    ["Hessian in float32", errorOf(products32, products, norm + loss), 1e-4],
    ["symmetry of the Hessian", asymmetry(hv!, hu!), 1e-11],
    ["Gauss-Newton", Math.abs(dot(v, gv!) - form) / (form + largest(gauss) + floor), 1e-7],
    ["symmetry of Gauss-Newton", asymmetry(gv!, gu!), 1e-11],
    [
      "the two parts",
      errorOf(
        gauss.map((x, i) => x + rest[i]!),
        products,
        floor,
      ),
      1e-11,
    ],
    ["value in another layout", errorOf(turned.values, output.data), 1e-12],
    ["Hessian in another layout", errorOf(await turnedH.apply(block), products, floor), 1e-12],
    ["micro-batches", errorOf(await split.apply(block), whole, floor), 1e-12],
  ];
  expect(checks.filter(([, error, bar]) => !(error <= bar))).toEqual([]);
});
