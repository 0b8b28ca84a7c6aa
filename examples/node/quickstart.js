// The curvature of two networks that PyTorch trained on MNIST, on 2,048 real test images: the ten
// leading eigenpairs of the Hessian H, of the Gauss-Newton matrix G and of the Fisher matrix F.
// Run `npm run build` first, then: node examples/node/quickstart.js
"use strict";
const { join } = require("node:path");
const eigenscope = require("../.."); // in your own program: require("eigenscope")

const NETWORKS = ["lenet", "mlp"];
const OPERATORS = {
  H: eigenscope.hessian,
  G: eigenscope.ggn,
  F: (model, data) => eigenscope.fisher(model, data, { type: "type-2" }),
};
const K = 10;
const PROBES = 32;

async function main() {
  const begin = performance.now();
  const here = (...path) => join(__dirname, "..", ...path);
  const data = await eigenscope.loadData(
    {
      x: here("data", "t10k-2048-images.idx3-ubyte"),
      y: here("data", "t10k-2048-labels.idx1-ubyte"),
    },
    { normalize: { scale: 1 / 255 } },
  );
  for (const name of NETWORKS) {
    const model = await eigenscope.loadModel(here("models", `${name}.onnx`), {
      loss: "cross-entropy",
    });
    await study(name, model, data);
    model.dispose();
  }
  data.dispose();
  console.log(`Everything took ${seconds(begin)}.`);
}

async function study(name, model, data) {
  const loss = await eigenscope.loss(model, data);
  const P = model.parameterCount.toLocaleString("en-US");
  const N = data.samples.toLocaleString("en-US");
  console.log(`${name}: ${P} parameters, cross-entropy ${loss.toFixed(4)} over ${N} test images\n`);

  const found = {};
  for (const [letter, make] of Object.entries(OPERATORS)) {
    const begin = performance.now();
    const operator = make(model, data);
    const top = await eigenscope.eigsh(operator, { k: K, which: "LM" });
    const took = seconds(begin);
    const trace = await eigenscope.trace(operator, {
      method: "hutchinson",
      products: PROBES,
      known: top, // only what is left of the trace is estimated
    });
    const [report] = await operator.report();
    found[letter] = { top, trace, report, took };
    operator.dispose(); // frees what V8 does not see; where there is `using`, use that
  }
  printSpectra(found);
  printSummary(found);
}

function printSpectra(found) {
  const heads = Object.keys(found).map((letter) => `${letter}: eigenvalue  residual`.padStart(26));
  console.log(`    ${heads.join("")}`);
  for (let i = 0; i < K; i++) {
    const cells = Object.values(found).map(({ top }) => {
      const value = top.values[i].toPrecision(6).padStart(15);
      return value + top.residuals[i].toExponential(1).padStart(11);
    });
    console.log(`${String(i + 1).padStart(4)}${cells.join("")}`);
  }
  console.log();
}

function printSummary(found) {
  for (const [letter, { top, trace, took }] of Object.entries(found)) {
    const sum = top.values.reduce((total, value) => total + value, 0);
    console.log(
      `${letter}: ${top.converged ? "converged" : `NOT converged (${top.reason})`} after ` +
        `${top.products} products in ${took}; the top ${K} hold ` +
        `${((100 * sum) / trace.value).toFixed(1)} % of the trace, ` +
        `${trace.value.toPrecision(4)} +- ${trace.standardError.toPrecision(2)}`,
    );
  }
  console.log(
    `The trace is the top ${K} plus Hutchinson's estimate of the rest from ${PROBES} random ` +
      "products; +- is one standard error.",
  );
  console.log(`G and F: the loss is split from the network ${found.G.report.split}.\n`);
}

function seconds(begin) {
  return `${((performance.now() - begin) / 1000).toFixed(1)} s`;
}

main().catch((error) => {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = error.exitCode ?? 1;
});
