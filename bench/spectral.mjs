// Spectral quantities beside curvlinops, PyHessian, hessian-eigenthings, BackPACK and SciPy: the
// same networks, samples and operators on both sides, each in a process of its own, interleaved.
// One table a network, precision and number of threads; a ratio is the median over rounds of our
// time divided by the peer's in the same round, below 1 we are faster.
//   node bench/spectral.mjs [--models lenet,resnet20] [--precision float32] [--threads 2]
//                           [--rounds 3] [--only trace] [--python .venv/bin/python]
//                           [--folder NETWORKS] [--json FILE]
// The Python needs bench/peers/requirements.txt; --folder keeps the networks of models.py.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { list, median, Side } from "./side.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values: options } = parseArgs({
  options: {
    models: { type: "string", default: "mlp,lenet,resnet20" },
    precision: { type: "string", default: "float32,float64" },
    threads: { type: "string", default: "1,2" },
    rounds: { type: "string", default: "3" },
    python: { type: "string", default: ".venv/bin/python" },
    only: { type: "string", default: "" },
    folder: { type: "string", default: "" },
    json: { type: "string", default: "" },
  },
});

// One row a comparison. `models`: where it is done; the rest goes to both sides.
const ALL = ["mlp", "lenet", "resnet20"];
const DUAL = ["lenet", "resnet20"]; // whose spectrum is known from the Gram matrix of few rows
const TOL = { float32: 1e-4, float64: 1e-8 };
const hessian = { task: "eigenvalues", matrix: "hessian" };
const trace = { task: "trace", matrix: "ggn", budget: 60, models: DUAL };
const density = { task: "density", matrix: "ggn", probes: 8, steps: 20, models: DUAL };
const cg = { task: "solve", matrix: "ggn", models: DUAL };
const comparisons = [
  { ...hessian, peer: "scipy", k: 10, models: ALL, note: "ARPACK" },
  { ...hessian, peer: "pyhessian", k: 5, models: DUAL, note: "power iteration, tol 1e-3" },
  {
    ...{ ...hessian, peer: "eigenthings", k: 10, models: DUAL, note: "60 steps" },
    ...{ steps: 60, reorthogonalize: null },
  },
  {
    ...{ ...hessian, peer: "eigenthings", k: 10, models: DUAL, note: "60, reorthogonalized" },
    ...{ steps: 60, reorthogonalize: true },
  },
  { ...trace, peer: "curvlinops", method: "hutchinson", note: "hutchinson" },
  { ...trace, peer: "curvlinops", method: "hutch++", note: "hutch++" },
  { ...trace, peer: "curvlinops", method: "xtrace", note: "xtrace" },
  { ...trace, peer: "eigenthings", method: "hutchinson", note: "hutchinson" },
  { ...trace, peer: "eigenthings", method: "hutch++", note: "hutch++" },
  { ...trace, peer: "pyhessian", matrix: "hessian", method: "hutchinson", note: "hutchinson" },
  { ...density, peer: "curvlinops", note: "8 x 20" },
  { ...density, peer: "eigenthings", note: "8 x 20" },
  { ...density, peer: "pyhessian", matrix: "hessian", note: "8 x 20" },
  { task: "diagonal", matrix: "ggn", peer: "backpack", models: ["mlp", "lenet"], note: "exact" },
  { task: "kfac", peer: "curvlinops", models: ["mlp", "lenet"], note: "type-2, expand" },
  { ...cg, peer: "curvlinops", note: "" },
  { ...cg, peer: "scipy", note: "" },
  { task: "empirical", peer: "curvlinops", models: ["mlp", "lenet"], note: "mse, one product" },
  { task: "ntk", peer: "torch", models: ["lenet"], samples: 64, note: "64 samples, torch.func" },
].filter((row) => `${row.task} ${row.peer}`.includes(options.only));

const TITLES = {
  eigenvalues: ({ k }) => `${k} largest eigenvalues of H`,
  trace: ({ matrix, budget }) => `trace of ${matrix === "ggn" ? "G" : "H"}, ${budget} products`,
  density: ({ matrix }) => `density of ${matrix === "ggn" ? "G" : "H"}`,
  diagonal: () => "diagonal of G",
  kfac: () => "KFAC",
  solve: () => "(G + damping) x = gradient",
  empirical: () => "empirical Fisher",
  ntk: () => "NTK and its eigenvalues",
};

const short = (x) =>
  Math.abs(x) < 1e-3 && x !== 0 ? Number(x).toExponential(1) : Number(x).toPrecision(2);
const percent = (x) => `${x < 0 ? "-" : "+"}${(100 * Math.abs(x)).toPrecision(2)} %`;
const array = (folder, name) =>
  new Float64Array(Uint8Array.from(readFileSync(join(folder, `${name}.bin`))).buffer);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/** ||theirs - ours|| / ||theirs||, of an array that both sides wrote. */
function distance({ theirs, ours }, name) {
  const [a, b] = [array(theirs, name), array(ours, name)];
  if (a.length !== b.length) return "lengths differ";
  const difference = a.map((x, i) => x - b[i]);
  return short(Math.sqrt(dot(difference, difference) / dot(a, a)));
}

// Of each task: `prepare`, what both sides are given beside the row; `judge`, what is said of an
// answer, in words; `follow`, what ours is asked for once theirs is judged; `difference`.
const kinds = {
  eigenvalues: {
    prepare: (_, { precision }) => ({ tol: TOL[precision] }),
    judge: async (us, answer, request) => {
      const found = await us.ask({ ...request, task: "pairs" });
      const { residual, missed, copies } = found;
      const late = answer.converged === false ? ", not converged" : "";
      const words = `residual ${short(residual)}, ${missed} missed, ${copies} copies${late}`;
      return { ...found, words };
    },
    // To the peer's residual, or to 1e-3 where the peer's pairs are worse than that.
    follow: ({ residual }, { precision }) => ({
      tol: Math.max(Math.min(residual, 1e-3), precision === "float32" ? 2e-6 : 1e-12),
    }),
    difference: (folders) => {
      const [a, b] = [folders.theirs, folders.ours].map((folder) =>
        array(folder, "values").sort((x, y) => Math.abs(y) - Math.abs(x)),
      );
      return short(Math.max(...a.map((x, i) => Math.abs(x - b[i]))) / Math.abs(b[0]));
    },
  },
  trace: {
    prepare: async (us, request) => ({ exact: await us.ask({ ...request, task: "spectrum" }) }),
    judge: (_, { value, standardError }, { exact }) => {
      const stated = standardError === undefined ? "no error" : `+-${short(standardError)}`;
      const words = `${value.toPrecision(4)} (${stated}; off ${percent(value / exact.trace - 1)})`;
      return { value, words };
    },
    difference: (_, theirs, ours) => short(Math.abs(theirs.value / ours.value - 1)),
  },
  density: {
    prepare: async (us, request) => {
      const exact = await us.ask({ ...request, task: "spectrum" });
      if (request.matrix === "hessian") {
        const { moment } = await us.ask({ ...request, task: "moment" });
        Object.assign(exact, { moment, above: [] });
      }
      const { largest, thresholds } = exact;
      return { exact, threshold: thresholds[0], boundaries: [0, largest] };
    },
    judge: (_, answer, { exact }) => {
      const { moment, momentError, above, smoothedMoment, smoothedAbove } = answer;
      const share = exact.above[0];
      const beside = share === undefined ? "" : ` (true ${short(share)})`;
      const smoothed = smoothedMoment
        ? `; smoothed: moment x ${short(smoothedMoment / moment)}, above ${short(smoothedAbove)}`
        : "";
      const error = percent(moment / exact.moment - 1);
      const words = `moment ${short(moment)} +-${short(momentError)} (off ${error}), above ${short(above)}${beside}${smoothed}`;
      return { moment, words };
    },
    difference: (_, theirs, ours) => `moment ${short(Math.abs(theirs.moment / ours.moment - 1))}`,
  },
  diagonal: {
    judge: () => ({ words: "exact" }),
    difference: (folders) => distance(folders, "diagonal"),
  },
  kfac: {
    judge: () => ({ words: "trace and norm of each block" }),
    difference: (folders) => distance(folders, "norms"),
  },
  solve: {
    prepare: async (us, request) => {
      const { largest } = await us.ask({ ...request, task: "spectrum" });
      for (const out of Object.values(request.folders))
        await us.ask({ ...request, out, task: "inputs" });
      return { damping: 0.01 * largest, tol: TOL[request.precision] };
    },
    judge: async (us, answer, request) => {
      const { residual } = await us.ask({ ...request, task: "residual" });
      return {
        words: `residual ${short(residual)}${answer.converged === false ? ", not converged" : ""}`,
      };
    },
    difference: (folders) => distance(folders, "solution"),
  },
  empirical: {
    prepare: async (us, request) => {
      for (const out of Object.values(request.folders))
        await us.ask({ ...request, out, task: "inputs" });
    },
    judge: () => ({ words: "one product" }),
    difference: ({ theirs, ours }) => {
      const [a, b] = [array(theirs, "product"), array(ours, "product")];
      const factor = dot(a, b) / dot(b, b);
      const rest = a.map((x, i) => x - factor * b[i]);
      const left = short(Math.sqrt(dot(rest, rest) / dot(a, a)));
      return `theirs = ${factor.toFixed(5)} x ours, rest ${left}`;
    },
  },
  ntk: {
    judge: () => ({ words: "order 640" }),
    difference: (folders) => distance(folders, "matrix"),
  },
};

async function compare(row, setting, us, them, scratch) {
  const { models: _, note, ...given } = row;
  const kind = kinds[row.task];
  const folders = { theirs: join(scratch, "theirs"), ours: join(scratch, "ours") };
  const request = { ...given, ...setting };
  Object.assign(request, await kind.prepare?.(us, { shares: [0.1], ...request, folders }));
  const theirRequest = { ...request, out: folders.theirs };
  const ourRequest = { ...request, out: folders.ours };
  let judged;
  const times = [];
  for (let round = 0; round < Number(options.rounds); ++round) {
    const theirs = await them.ask(theirRequest);
    if (round === 0) {
      const their = await kind.judge(us, theirs, theirRequest);
      Object.assign(ourRequest, kind.follow?.(their, request));
      judged = { their };
    }
    const ours = await us.ask(ourRequest);
    if (round === 0) {
      judged.our = await kind.judge(us, ours, ourRequest);
      judged.difference = kind.difference(folders, judged.their, judged.our);
      judged.products = [theirs.products, ours.products];
    }
    times.push([theirs.seconds, ours.seconds]);
  }
  return {
    ...setting,
    quantity: TITLES[row.task](row),
    peer: note ? `${row.peer}, ${note}` : row.peer,
    theirs: judged.their.words,
    ours: judged.our.words,
    difference: judged.difference,
    products: judged.products,
    seconds: [0, 1].map((side) => median(times.map((pair) => pair[side]))),
    ratio: median(times.map(([theirs, ours]) => ours / theirs)),
  };
}

const COLUMNS = "quantity|peer|theirs|ours|difference|products, theirs / ours|seconds|ratio".split(
  "|",
);
const tableRow = (cells) => `| ${cells.join(" | ")} |`;

function printed({ quantity, peer, theirs, ours, difference, products, seconds, ratio }) {
  const time = seconds.map((s) => s.toPrecision(3)).join(" / ");
  const cells = [quantity, peer, theirs, ours, difference, products.join(" / "), time];
  return tableRow([...cells, ratio.toFixed(2)]);
}

const scratch = mkdtempSync(join(tmpdir(), "eigenscope-bench-"));
for (const name of ["theirs", "ours"]) mkdirSync(join(scratch, name));
const networks = options.folder || join(scratch, "networks");
const results = [];
let us;
try {
  if (!existsSync(networks))
    execFileSync(options.python, [join(here, "peers/models.py"), networks], { stdio: "inherit" });
  us = new Side(process.execPath, [join(here, "eigenscope_spectral.mjs"), networks]);
  const them = new Side(options.python, [join(here, "peers/spectral.py")]);
  for (const model of list(options.models))
    for (const precision of list(options.precision))
      for (const threads of list(options.threads).map(Number)) {
        console.log(`\n${model}, ${precision}, ${threads} threads\n`);
        console.log(`${tableRow(COLUMNS)}\n${tableRow(COLUMNS.map(() => "---"))}`);
        for (const row of comparisons.filter(({ models }) => models.includes(model))) {
          const setting = { model, precision, threads };
          try {
            const result = await compare(row, setting, us, them, scratch);
            results.push(result);
            console.log(printed(result));
          } catch (error) {
            console.log(tableRow([TITLES[row.task](row), row.peer, error.message]));
          }
        }
      }
  them.end();
} finally {
  us?.end();
  rmSync(scratch, { recursive: true, force: true });
}
if (options.json)
  writeFileSync(
    options.json,
    JSON.stringify({ machine: cpus()[0].model, node: process.version, results }, null, 1),
  );
