// One network, trained on real images, one matrix, every method: what they say of it must agree.
import { join } from "node:path";
import {
  anisotropy,
  type DataSet,
  type ExactSpectrum,
  eigsh,
  exactDiagonal,
  exactSpectrum,
  frobeniusNorm,
  functionProduct,
  ggn,
  hessian,
  kfac,
  type LinearOperator,
  loadData,
  loadModel,
  logDeterminant,
  type Model,
  ntk,
  numericalRank,
  solve,
  spectralDensity,
  spectrumMeasures,
  trace,
  traceFunction,
} from "../lib";
import { selectSamples } from "../lib/data/select";
import { errorOf } from "./support/numbers";

const SAMPLES = 64;
const LEAST = 1e-3;

let model: Model;
let data: DataSet;
let G: LinearOperator;
let exact: ExactSpectrum;
let total: number;

beforeAll(async () => {
  const examples = (...path: string[]) => join(__dirname, "..", "examples", ...path);
  model = await loadModel(examples("models", "lenet.onnx"), { loss: "cross-entropy" });
  const all = await loadData(
    {
      x: examples("data", "t10k-2048-images.idx3-ubyte"),
      y: examples("data", "t10k-2048-labels.idx1-ubyte"),
    },
    { normalize: { scale: 1 / 255 } },
  );
  data = await selectSamples(
    all,
    Array.from({ length: SAMPLES }, (_, i) => i),
  );
  G = ggn(model, data, { precision: "float64" });
  exact = await exactSpectrum(G);
  total = exact.values.reduce((sum, x) => sum + x, 0);
}, 120_000);

afterAll(() => G.dispose());

test("the exact spectrum is that of the dual matrix, as large as samples times outputs", async () => {
  expect(exact).toMatchObject({ method: "dual", order: 10 * SAMPLES });
  expect(exact.values).toHaveLength(model.parameterCount);
  const kernel = await ntk(model, data, { rows: "ggn", precision: "float64" });
  expect(errorOf(kernel.values, exact.values.subarray(0, kernel.order))).toBeLessThan(1e-12);
});

test("top eigenvalues are its first ones, and their intervals hold them", async () => {
  for (const method of ["lanczos", "lobpcg", "krylov"] as const) {
    const top = await eigsh(G, { k: 8, method, tol: 1e-8 });
    expect(top.converged).toBe(true);
    top.values.forEach((value, i) => {
      expect(Math.abs(value - exact.values[i]!)).toBeLessThan(1e-8 * exact.values[0]!);
    });
    top.intervals.forEach(({ low, high }, i) => {
      expect(low).toBeLessThanOrEqual(exact.values[i]! * (1 + 1e-12));
      expect(high).toBeGreaterThanOrEqual(exact.values[i]! * (1 - 1e-12));
    });
  }
});

test("traces: exact, sampled and by quadrature", async () => {
  const { trace: sum } = await exactDiagonal(G);
  expect(sum / total).toBeCloseTo(1, 12);
  const sampled = await trace(G, { method: "xnystrace", products: 48 });
  expect(Math.abs(sampled.value - total)).toBeLessThan(4 * sampled.standardError);
  const byQuadrature = await traceFunction(G, (x) => x, { probes: 8, steps: 20 });
  expect(Math.abs(byQuadrature.value - total)).toBeLessThan(4 * byQuadrature.standardError);
});

test("counts in intervals hold the exact ones", async () => {
  const density = await spectralDensity(G, { probes: 8, steps: 48 });
  for (const [low, high] of [
    [0.5, 100],
    [0.1, 0.5],
    [0.02, 0.1],
    [LEAST, 100],
  ] as const) {
    const counted = exact.values.filter((x) => x > low && x <= high).length;
    // Twice what holds it 19 times out of 20.
    const { value, interval } = density.count(low, high);
    expect(counted).toBeGreaterThanOrEqual(2 * interval[0] - value);
    expect(counted).toBeLessThanOrEqual(2 * interval[1] - value);
  }
});

test("norms and functions", async () => {
  const frobenius = Math.sqrt(exact.values.reduce((sum, x) => sum + x * x, 0));
  const norm = await frobeniusNorm(G, { tol: 0.02 });
  expect(Math.abs(norm.value - frobenius)).toBeLessThan(4 * norm.standardError);
  const wanted = exact.values.reduce((sum, x) => sum + Math.log(x + 0.1), 0);
  const found = await logDeterminant(G, { damping: 0.1, probes: 8, steps: 40 });
  expect(Math.abs(found.value - wanted)).toBeLessThan(
    4 * found.standardError + found.quadratureError,
  );
});

test("a damped solve is the function 1 / (x + damping) of the matrix", async () => {
  const b = Float64Array.from({ length: G.dim }, (_, i) => Math.sin(i));
  const { solution, converged } = await solve(G, b, { damping: 0.05, tol: 1e-9 });
  expect(converged).toBe(true);
  const product = await functionProduct(G, (x) => 1 / (x + 0.05), b, { steps: 150 });
  expect(errorOf(product.vectors, solution)).toBeLessThan(1e-6);
});

test("measures of the whole spectrum, and rank", async () => {
  const found = await anisotropy(G, { method: "estimate", definite: true, k: 10, probes: 64 });
  const measures = spectrumMeasures(exact.values);
  if (found.source !== "estimated") throw new Error("expected an estimate");
  const { value, standardError } = found.participationRatio;
  expect(Math.abs(value - measures.participationRatio)).toBeLessThan(4 * standardError);
  const { rank, gap } = numericalRank(exact.values);
  // Softmax takes a row from each sample.
  expect(rank).toBeLessThanOrEqual(9 * SAMPLES);
  expect(rank).toBeGreaterThan(8 * SAMPLES);
  expect(gap).toBeGreaterThan(1);
});

test("corrected Kronecker factors keep the trace, and the Hessian is near at a minimum", async () => {
  const factors = await kfac(model, data, { precision: "float64", eigenvalueCorrected: true });
  expect((await factors.trace()) / total).toBeCloseTo(1, 10);
  factors.dispose();
  using H = hessian(model, data, { precision: "float64" });
  const top = await eigsh(H, { k: 1 });
  expect(Math.abs(top.values[0]! / exact.values[0]! - 1)).toBeLessThan(0.1);
});
