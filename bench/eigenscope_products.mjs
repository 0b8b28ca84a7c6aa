// eigenscope's side of the comparison: answers one measurement a line, as the peers do
// (bench/peers/serve.py). Runs in a process of its own.
//   node bench/eigenscope_products.mjs MODELS
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const { loadModel, loadData, hessian, ggn, gradient } = require("../dist/index.js");
const folder = process.argv[2];

const files = (name) => join(folder, name);
const operators = { hvp: hessian, ggn };
let prepared = { key: "", run: undefined, dispose() {} };

async function prepare({ model: name, op, precision, threads, k = 1 }) {
  const model = await loadModel(files(`${name}/model.onnx`), { loss: "cross-entropy" });
  const data = await loadData({ x: files(`${name}/x.npy`), y: files(`${name}/y.npy`) });
  if (op === "gradient")
    return { run: () => gradient(model, data, { precision, threads }), dispose() {} };
  const [kind, kept] = op.split("-");
  const operator = operators[kind](model, data, {
    precision,
    threads,
    keepLinearisation: kept === "retained",
  });
  const Vector = precision === "float64" ? Float64Array : Float32Array;
  const v = new Vector(operator.dim * k).map((_, i) => Math.sin(i + 1));
  return { run: () => operator.apply(v), dispose: () => operator.dispose() };
}

console.log(JSON.stringify({ peer: "eigenscope", ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    const key = JSON.stringify({ ...request, reps: 0 });
    if (prepared.key !== key) {
      prepared.dispose();
      prepared = { key, ...(await prepare(request)) };
      await prepared.run();
    }
    const times = [];
    for (let i = 0; i < request.reps; ++i) {
      const start = performance.now();
      await prepared.run();
      times.push((performance.now() - start) / 1000);
    }
    times.sort((a, b) => a - b);
    const median = times[times.length >> 1];
    console.log(JSON.stringify({ ...request, times, median, peer: "eigenscope" }));
  } catch (error) {
    console.log(JSON.stringify({ error: `${error.name}: ${error.message}` }));
  }
}
