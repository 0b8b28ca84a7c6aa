// Ranks of the Hessian H, of its Gauss-Newton part H_o and of the rest H_f, measured and predicted,
// against width, depth, bias, activation and loss, on 100 real digits of 7 x 7 pixels; then what the
// kernel of one network is made of. Run `npm run build` first, then: node examples/node/ranks.js
"use strict";
const { join } = require("node:path");
const eigenscope = require("../.."); // in your own program: require("eigenscope")
const { readFileSync } = require("node:fs");

const SAMPLES = 100;
const CLASSES = 10;

/** Networks on 49 inputs; each question changes one thing. */
const QUESTIONS = {
  width: [2, 4, 8, 12].map((w) => ({ name: `${w}`, hidden: [w, w] })),
  depth: [1, 2, 3].map((depth) => ({ name: `${depth} hidden`, hidden: Array(depth).fill(5) })),
  bias: [false, true].map((bias) => ({ name: bias ? "with" : "without", bias })),
  activation: ["linear", "relu", "tanh"].map((activation) => ({ name: activation, activation })),
  loss: ["mse", "cross-entropy"].map((loss) => ({ name: loss, loss })),
};

async function main() {
  const begin = performance.now();
  const digits = await smallDigits();
  for (const [question, networks] of Object.entries(QUESTIONS)) {
    const cases = [];
    for (const { name, hidden = [5], bias = false, activation = "linear", loss } of networks) {
      const widths = [49, ...hidden, CLASSES];
      const at = await eigenscope.loadModel(eigenscope.mlp({ widths, bias, activation, seed: 1 }));
      const kind = loss ?? "cross-entropy";
      cases.push({ name, at, loss: kind, data: digits[kind] });
    }
    const rows = await eigenscope.rankSweep(cases[0].at, cases[0].data, cases);
    print(question, rows);
  }
  await kernel(digits["cross-entropy"]);
  console.log(`Everything took ${((performance.now() - begin) / 1000).toFixed(1)} s.`);
}

/** The first digits, averaged over 4 x 4 pixels: with labels, and with labels as numbers. */
async function smallDigits() {
  const here = (name) => join(__dirname, "..", "data", name);
  const images = readFileSync(here("t10k-2048-images.idx3-ubyte")).subarray(16);
  const labels = readFileSync(here("t10k-2048-labels.idx1-ubyte")).subarray(8, 8 + SAMPLES);
  const x = new Float64Array(SAMPLES * 49);
  for (let at = 0; at < SAMPLES * 784; at++) {
    const [sample, row, column] = [Math.floor(at / 784), Math.floor((at % 784) / 28), at % 28];
    x[sample * 49 + (row >> 2) * 7 + (column >> 2)] += images[at] / (255 * 16);
  }
  const hot = new Float64Array(SAMPLES * CLASSES);
  labels.forEach((label, i) => {
    hot[i * CLASSES + label] = 1;
  });
  const inputs = { data: x, shape: [SAMPLES, 49] };
  return {
    "cross-entropy": await eigenscope.loadData({
      x: inputs,
      y: { data: Int32Array.from(labels), shape: [SAMPLES] },
    }),
    mse: await eigenscope.loadData({ x: inputs, y: { data: hot, shape: [SAMPLES, CLASSES] } }),
  };
}

function print(question, rows) {
  const text = ({ rank, predicted }) => `${rank} (${predicted ?? "-"})`.padStart(12);
  console.log(`${question.padEnd(15)}parameters           H         H_o         H_f  redundancy`);
  for (const { name, parameters, hessian, ggn, functional } of rows)
    console.log(
      `${name.padEnd(15)}${`${parameters}`.padStart(10)}${text(hessian)}${text(ggn)}` +
        `${text(functional)}${hessian.redundancy.toFixed(3).padStart(12)}`,
    );
  const { data } = rows[0].prediction;
  console.log(`In brackets what is predicted; inputs of rank ${data.rank} of ${data.dimension}.\n`);
}

async function kernel(data) {
  const bytes = eigenscope.mlp({ widths: [49, 5, CLASSES], activation: "relu", seed: 1 });
  const model = await eigenscope.loadModel(bytes, { loss: "cross-entropy" });
  const found = await eigenscope.redundancy(model, data);
  console.log(`relu 49-5-10 with biases: kernel ${found.kernel} of ${found.parameters}`);
  for (const { name, why, contained, adds } of found.sources)
    console.log(`  ${name}: ${contained}, ${adds} of them new (${why})`);
  console.log(`  explained ${found.explained}, unexplained ${found.unexplained}\n`);
}

main().catch((error) => {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = error.exitCode ?? 1;
});
