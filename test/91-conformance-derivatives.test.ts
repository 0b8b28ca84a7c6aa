/**
 * First and second derivatives on ONNX's own tests of operators, in float64: Jacobian products
 * against differences and against one another, Hessian products against differences of gradients.
 */
import { type DataSet, forward, hessian, jacobian, loadData, type Model } from "../lib";
import { native } from "../lib/native";
import { scattered } from "./21-operator-cases";
import {
  backendTests,
  isFloat,
  oneSample,
  openNetwork,
  readCase,
  skippedTests,
} from "./support/backend";

const F64 = { precision: "float64", threads: 1 } as const;
const STEP = 1e-5;
/** How many there are at least; the rest have no floating-point input, are large or not finite. */
const CHECKED = 700;
/** Larger ones take long, and say no more. */
const MOST_PARAMETERS = 4000;
const MOST_OUTPUTS = 4000;

const dot = (x: ArrayLike<number>, y: ArrayLike<number>) =>
  Array.from(x).reduce((sum, v, i) => sum + v * y[i]!, 0);
const largest = (x: ArrayLike<number>) =>
  Array.from(x).reduce((most, v) => Math.max(most, Math.abs(v)), 0);
const slope = (above: Float64Array, below: Float64Array) =>
  above.map((v, i) => (v - below[i]!) / (2 * STEP));
const along = (at: Float64Array, v: Float64Array, step: number) =>
  at.map((x, i) => x + step * v[i]!);

async function gradientAt(model: Model, data: DataSet, direction: Float64Array, step: number) {
  const gradient = new Float64Array(model.parameterCount);
  const options = { ...F64, direction, step };
  const loss = { name: "mse" };
  await native().evaluateRisk(model.native, data.native, loss, options, gradient, undefined)
    .promise;
  return gradient;
}

async function outputAt(model: Model, data: DataSet, at: Float64Array) {
  using there = model.withParameters(at);
  return (await forward(there, data, F64)).values;
}

/** Why a test is not looked at, or the errors relative to the largest number. */
async function derivatives(test: ReturnType<typeof backendTests>[number]) {
  const which = readCase(test);
  const output = which.outputs.find(({ dataType }) => isFloat(dataType));
  if (!output) return "its outputs are integers";
  using plain = await oneSample();
  const opened = await openNetwork(which, output, plain);
  using original = opened.model;
  const { value, parameters } = opened;
  if (parameters.length === 0) return "nothing in it can be a parameter";
  if (original.parameterCount > MOST_PARAMETERS || value.length > MOST_OUTPUTS)
    return "it is large";
  if (value.length === 0 || original.parameterCount === 0) return "it is empty";
  if (!value.every(Number.isFinite)) return "its output is not finite";

  // Away from kinks and ties: ONNX's tests are full of zeros and whole numbers.
  const p = original.parameterCount;
  const stored = Float64Array.from(original.parameters.flatMap((each) => [...each.values()]));
  if (!stored.every(Number.isFinite)) return "its inputs are not finite";
  const here = stored.map((x, i) => x + 0.01 * (1 + Math.abs(x)) * scattered(p, 5)[i]!);
  using model = original.withParameters(here);
  const y = await outputAt(original, plain, here);
  if (!y.every(Number.isFinite)) return "its output is not finite beside its inputs";

  const n = y.length;
  const target = scattered(n, 3).map((t, i) => t + y[i]!);
  using data = await loadData({
    backend_one: { data: Float32Array.of(1), shape: [1, 1] },
    y: { data: target, shape: [1, n] },
  });
  const [u, v] = [scattered(n, 4), scattered(p, 1)];
  using J = await jacobian(model, data, F64);
  const product = await J.product(v).catch((error: Error) => {
    if (/does not depend on the parameters/.test(error.message)) return undefined;
    throw error;
  });
  if (!product) {
    expect(await outputAt(original, plain, along(here, v, STEP))).toEqual(y);
    return "it is piecewise constant";
  }
  const Jv = product as Float64Array;
  const Ju = (await J.transposedProduct(u)) as Float64Array;
  const wantJv = slope(
    await outputAt(original, plain, along(here, v, STEP)),
    await outputAt(original, plain, along(here, v, -STEP)),
  );
  using H = hessian(model, data, F64);
  const Hv = (await H.apply(v)) as Float64Array;
  const wantHv = slope(
    await gradientAt(model, data, v, STEP),
    await gradientAt(model, data, v, -STEP),
  );
  const scaleJ = Math.max(largest(wantJv), largest(y), 1e-3);
  const scaleH = Math.max(largest(wantHv), 1e-3 * scaleJ);
  return {
    jvp: largest(Jv.map((x, i) => x - wantJv[i]!)) / scaleJ,
    adjoint: Math.abs(dot(u, Jv) - dot(Ju, v)) / (largest(Jv) * n + 1e-12),
    hvp: largest(Hv.map((x, i) => x - wantHv[i]!)) / scaleH,
  };
}

/** Where a difference says nothing. */
const SINGULAR = new Set(["node/test_acosh_example"]); // at 1, where the slope is infinite

const TESTS = backendTests(["node", "pytorch-converted", "pytorch-operator"]).filter(
  ({ name }) => !skippedTests().has(name) && !SINGULAR.has(name),
);
if (TESTS.length === 0) test.skip("ONNX's backend tests", () => {});
else {
  let checked = 0;
  test.each(TESTS.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    const found = await derivatives(one);
    if (typeof found === "string") return;
    checked++;
    expect(found.jvp).toBeLessThan(1e-6);
    expect(found.adjoint).toBeLessThan(1e-12);
    expect(found.hvp).toBeLessThan(1e-5);
  });

  test("most tests with floating-point inputs and outputs were looked at", () => {
    process.stdout.write(`ONNX backend tests: derivatives checked on ${checked}\n`);
    expect(checked).toBeGreaterThanOrEqual(CHECKED);
  });
}
