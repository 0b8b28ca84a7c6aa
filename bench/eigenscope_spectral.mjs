// eigenscope's side of bench/spectral.mjs: answers one task a line, as bench/peers/spectral.py does,
// and besides measures the results of both sides in float64. Runs in a process of its own.
//   node bench/eigenscope_spectral.mjs MODELS
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const eigenscope = require("../dist/index.js");
const folder = process.argv[2];
const operators = { hessian: eigenscope.hessian, ggn: eigenscope.ggn };

const read = (out, name) => new Float64Array(Uint8Array.from(readFileSync(join(out, name))).buffer);
const write = (out, name, values) =>
  writeFileSync(join(out, name), new Uint8Array(Float64Array.from(values).buffer));
const vectorOf = (dtype, values) =>
  dtype === "float32" ? Float32Array.from(values) : Float64Array.from(values);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** Runs `use` on a fresh operator; what it costs to build is part of the task. */
async function withOperator({ model, data }, { matrix, precision, threads }, use) {
  const operator = operators[matrix](model, data, { precision, threads });
  try {
    return await use(operator);
  } finally {
    operator.dispose();
  }
}

/** Second moment, with the standard error over probes, and share above the threshold. */
function measured({ nodes, weights }, threshold) {
  const sums = nodes.map((list, i) => {
    const second = list.reduce((sum, x, j) => sum + weights[i][j] * x * x, 0);
    const above = list.reduce((sum, x, j) => sum + (x > threshold ? weights[i][j] : 0), 0);
    return { second, above };
  });
  const count = sums.length;
  const mean = (of) => sums.reduce((sum, x) => sum + of(x), 0) / count;
  const moment = mean((x) => x.second);
  const variance = mean((x) => (x.second - moment) ** 2);
  const momentError = Math.sqrt(variance / (count - 1));
  return { moment, momentError, above: mean((x) => x.above) };
}

/** The same of a density on a grid. */
function smoothed({ grid, mass }, threshold) {
  let smoothedMoment = 0;
  let smoothedAbove = 0;
  for (const [i, x] of grid.entries()) {
    smoothedMoment += mass[i] * x * x;
    if (x > threshold) smoothedAbove += mass[i];
  }
  return { smoothedMoment, smoothedAbove };
}

// What both sides do.
const tasks = {
  eigenvalues: (net, request) =>
    withOperator(net, request, async (operator) => {
      const { k, tol } = request;
      const found = await eigenscope.eigsh(operator, { k, which: "LM", tol });
      const { products, values, vectors, converged } = found;
      return { products, converged, arrays: { values, vectors } };
    }),

  trace: (net, request) =>
    withOperator(net, request, async (operator) => {
      const { method, budget } = request;
      const found = await eigenscope.trace(operator, { method, products: budget });
      const { value, standardError, products } = found;
      return { value, standardError, products };
    }),

  density: (net, request) =>
    withOperator(net, request, async (operator) => {
      const { probes, steps, threshold } = request;
      const found = await eigenscope.spectralDensity(operator, { probes, steps });
      const { products } = found;
      return { products, ...measured(found, threshold), ...smoothed(found, threshold) };
    }),

  diagonal: (net, request) =>
    withOperator(net, request, async (operator) => {
      const { diagonal, rows } = await eigenscope.exactDiagonal(operator);
      return { products: rows, arrays: { diagonal } };
    }),

  async kfac({ model, data }, { precision, threads }) {
    const operator = await eigenscope.kfac(model, data, { precision, threads });
    const blocks = await operator.blocks();
    operator.dispose();
    const norms = blocks.flatMap(({ trace, frobenius }) => [trace, frobenius]);
    return { products: data.samples * 10, arrays: { norms } };
  },

  solve: (net, request) =>
    withOperator(net, request, async (operator) => {
      const { damping, tol, out } = request;
      const b = vectorOf(operator.dtype, read(out, "gradient.bin"));
      const { solution, products, converged } = await eigenscope.solve(operator, b, {
        method: "cg",
        damping,
        tol,
      });
      return { products, converged, arrays: { solution } };
    }),

  async empirical({ model, data }, { model: name, precision, threads, out }) {
    const x = { file: join(folder, `${name}/x.npy`) };
    const targets = read(out, "targets.bin");
    const shape = [data.samples, targets.length / data.samples];
    const own = await eigenscope.loadData({ x: x.file, y: { data: targets, shape } });
    const options = { type: "empirical", loss: "mse", precision, threads };
    const operator = eigenscope.fisher(model, own, options);
    const { data: v } = await direction(name);
    const product = await operator.apply(vectorOf(operator.dtype, v));
    operator.dispose();
    own.dispose();
    return { products: 1, arrays: { product } };
  },

  async ntk({ model, data }, { precision, threads }) {
    const { matrix, order } = await eigenscope.ntk(model, data, { precision, threads });
    return { products: order, arrays: { matrix } };
  },
};

/** The direction of bench/peers/models.py: the float32 numbers at the end of a .npy file. */
async function direction(name) {
  const bytes = readFileSync(join(folder, `${name}/v.npy`));
  const start = 10 + bytes.readUInt16LE(8);
  return { data: new Float32Array(Uint8Array.from(bytes.subarray(start)).buffer) };
}

// What holds the results of both against the truth, in float64.
const exact = { precision: "float64", threads: 2 };
const references = new Map();

async function reference(key, make) {
  if (!references.has(key)) references.set(key, await make());
  return references.get(key);
}

const checks = {
  /** Of returned pairs: the worst residual over the largest |eigenvalue|, and what is amiss. */
  async pairs(net, request) {
    const { model, matrix, out, k } = request;
    return withOperator(net, { ...exact, matrix }, async (operator) => {
      const { dim } = operator;
      // Errors of eigenvalues are of the order of the squared residual.
      const truth = await reference(`${model} ${matrix}`, () =>
        eigenscope.eigsh(operator, { k: 10, which: "LM", tol: 1e-6 }),
      );
      const values = read(out, "values.bin");
      const vectors = read(out, "vectors.bin");
      const rows = Array.from(values, (_, i) => vectors.subarray(i * dim, (i + 1) * dim));
      for (const row of rows) {
        const length = Math.sqrt(dot(row, row));
        for (let i = 0; i < dim; ++i) row[i] /= length;
      }
      const products = await operator.apply(vectors);
      const residuals = rows.map((row, i) =>
        Math.sqrt(row.reduce((sum, v, j) => sum + (products[i * dim + j] - values[i] * v) ** 2, 0)),
      );
      const scale = Math.abs(truth.values[0]);
      const wanted = Array.from({ length: k }, (_, i) => truth.vector(i));
      const missed = wanted.filter(
        (u) => rows.reduce((sum, row) => sum + dot(u, row) ** 2, 0) < 0.5,
      ).length;
      const copies = rows.filter((row, i) =>
        rows.slice(0, i).some((other) => Math.abs(dot(row, other)) > 0.7),
      ).length;
      const nearest = (value) =>
        truth.values.reduce((best, x) => (Math.abs(x - value) < Math.abs(best - value) ? x : best));
      const offset = Math.max(...Array.from(values, (x) => Math.abs(nearest(x) - x))) / scale;
      return { residual: Math.max(...residuals) / scale, missed, copies, offset };
    });
  },

  /** ||b - (A + damping I) x|| / ||b||. */
  residual: (net, { matrix, out, damping }) =>
    withOperator(net, { ...exact, matrix }, async (operator) => {
      const b = read(out, "gradient.bin");
      const x = read(out, "solution.bin");
      const product = await operator.apply(x);
      const r = b.map((value, i) => value - product[i] - damping * x[i]);
      return { residual: Math.sqrt(dot(r, r) / dot(b, b)) };
    }),

  /** Trace, second moment and shares above thresholds of the Gauss-Newton matrix, exactly. */
  spectrum: (net, { model, shares }) =>
    reference(`${model} spectrum`, () =>
      withOperator(net, { ...exact, matrix: "ggn" }, async (operator) => {
        const { values } = await eigenscope.exactSpectrum(operator, { method: "dual" });
        const thresholds = shares.map((share) => share * values[0]);
        return {
          largest: values[0],
          trace: values.reduce((sum, x) => sum + x, 0),
          moment: dot(values, values) / values.length,
          thresholds,
          above: thresholds.map((t) => values.filter((x) => x > t).length / values.length),
        };
      }),
    ),

  /** The mean squared eigenvalue of the Hessian, with its standard error. */
  moment: (net, { model }) =>
    reference(`${model} moment`, () =>
      withOperator(net, { ...exact, matrix: "hessian" }, async (operator) => {
        const { value, standardError } = await eigenscope.frobeniusNorm(operator, {
          products: 200,
        });
        const moment = value ** 2 / operator.dim;
        return { moment, standardError: (2 * moment * standardError) / value };
      }),
    ),

  /** Right-hand side, and targets for mse. */
  async inputs({ model, data }, { out }) {
    const { gradient } = await eigenscope.gradient(model, data, exact);
    write(out, "gradient.bin", gradient);
    write(
      out,
      "targets.bin",
      Float64Array.from({ length: data.samples * 10 }, (_, i) => Math.sin(i + 1)),
    );
    return { length: Math.sqrt(dot(gradient, gradient)) };
  },
};

async function load(name, samples) {
  const file = (what) => join(folder, `${name}/${what}`);
  const model = await eigenscope.loadModel(file("model.onnx"), { loss: "cross-entropy" });
  const all = await eigenscope.loadData({ x: file("x.npy"), y: file("y.npy") });
  const chosen = Array.from({ length: samples ?? 0 }, (_, i) => i);
  const data = samples ? await eigenscope.selectSamples(all, chosen) : all;
  await eigenscope.gradient(model, data); // once, as the peers do
  return { model, data };
}

const nets = new Map();
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    const key = `${request.model} ${request.samples}`;
    if (!nets.has(key)) nets.set(key, await load(request.model, request.samples));
    const start = performance.now();
    const run = tasks[request.task] ?? checks[request.task];
    const { arrays, ...answer } = await run(nets.get(key), request);
    const seconds = (performance.now() - start) / 1000;
    for (const [name, values] of Object.entries(arrays ?? {}))
      write(request.out, `${name}.bin`, values);
    console.log(JSON.stringify({ seconds, ...answer }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }));
  }
}
