// npm run test:torch: exports the networks of examples/pytorch/zoo.py with PyTorch, in every setting
// of its two exporters, and compares gradients, Hessian and Gauss-Newton products in float64 with
// PyTorch's, parameters mapped to the state_dict by --state-dict.
//
//   npm run test:torch [-- network ...]
//   --offline    makes no environment: exit code 3 where there is none
//   --keep       compares what build/zoo has from before
//
// PyTorch comes from a virtual environment in build/torch, made here when there is none, or from the
// Python that EIGENSCOPE_PYTHON names.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const require = createRequire(import.meta.url);
const PACKAGES = ["torch==2.13.0", "onnx", "onnxscript", "numpy"];
const WHEELS = "https://download.pytorch.org/whl/cpu";
const TOLERANCE = 1e-9;
const NO_PYTORCH = 3;

// PyTorch makes a thread a core otherwise, which gains nothing on networks of this size.
const ENV = { ...process.env, OMP_NUM_THREADS: "1", OMP_WAIT_POLICY: "passive" };

function stop(text) {
  console.error(`\nNO PYTORCH: ${text}`);
  console.error("The networks that PyTorch exports were NOT compared.");
  console.error(
    `Set EIGENSCOPE_PYTHON to a Python that has ${PACKAGES.join(", ")}, or give this machine access ` +
      "to a package index.",
  );
  process.exit(NO_PYTORCH);
}

const works = (python) =>
  spawnSync(python, ["-c", "import torch, onnx, onnxscript, numpy"], { env: ENV }).status === 0;

function pythonPath(offline) {
  const given = process.env.EIGENSCOPE_PYTHON;
  if (given) {
    if (works(given)) return given;
    stop(`EIGENSCOPE_PYTHON=${given} cannot import torch, onnx, onnxscript and numpy.`);
  }
  const folder = join(root, "build", "torch");
  const python = join(folder, process.platform === "win32" ? "Scripts/python.exe" : "bin/python");
  if (existsSync(python) && works(python)) return python;
  if (offline) stop("there is no virtual environment in build/torch; npm run test:torch makes it.");
  console.log(`Making a virtual environment with ${PACKAGES.join(", ")} in build/torch`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(dirname(folder), { recursive: true });
  const run = (command, args) =>
    spawnSync(command, args, { stdio: "inherit", env: ENV }).status === 0;
  const made = ["python3", "python"].some((name) => run(name, ["-m", "venv", folder]));
  if (!made) stop("python3 -m venv failed (Debian: apt install python3-venv).");
  const install = [...["-m", "pip", "install", "--extra-index-url", WHEELS], ...PACKAGES];
  if (!run(python, install)) {
    rmSync(folder, { recursive: true, force: true });
    stop(`pip could not install ${PACKAGES.join(", ")}.`);
  }
  return python;
}

// ---- comparison

const { withArrays } = require("../dist/data/read-arrays.js");
const { fromStateDict, ggn, gradient, hessian, loadData, loadModel } = require("../dist/index.js");

async function readNpy(file) {
  return withArrays(file, {}, async ([array]) => ({
    shape: array.shape,
    values: await array.values(),
  }));
}

function relative(got, wanted) {
  let error = 0;
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) {
    error = Math.max(error, Math.abs(got[i] - wanted[i]));
    scale = Math.max(scale, Math.abs(wanted[i]));
  }
  return got.length === wanted.length ? error / scale : Number.POSITIVE_INFINITY;
}

/** Vectors in PyTorch's order of parameters as the model has them. */
function layout(model, parameters, isOwn) {
  if (!isOwn)
    return (v) => {
      const part = ({ name, offset, size }) => [name, v.subarray(offset, offset + size)];
      return fromStateDict(model, Object.fromEntries(parameters.map(part)));
    };
  // The reference is in the parameters of the file, each under its name there.
  const rows = new Map(parameters.map((row) => [row.onnx_initializer, row]));
  return (v) => {
    const vector = new Float64Array(model.parameterCount);
    for (const { name, offset, size } of model.parameters) {
      const row = rows.get(name);
      if (!row) throw new Error(`the reference has no parameter ${name}`);
      const part = v.subarray(row.offset, row.offset + size);
      const [height, width] = row.shape;
      for (let i = 0; i < size; i++) {
        const from = row.onnx_is_transposed ? (i % height) * width + Math.floor(i / height) : i;
        vector[offset + i] = part[from];
      }
    }
    return vector;
  };
}

/** What the report says that differs from the network, in short. */
function differences({ stateDict, warnings }) {
  const count = (rule) => stateDict.matches.filter((match) => match.rule === rule).length;
  const counts = {
    fused: count("fused"),
    stale: count("stale"),
    ambiguous: count("ambiguous"),
    unknown: count("unknown"),
    rows: count("rows"),
    untied: stateDict.untied.filter(({ certain }) => certain).length,
    equal: stateDict.untied.filter(({ certain }) => !certain).length,
    merged: stateDict.merged.length,
    absent: stateDict.absent.length,
  };
  const found = Object.entries(counts).filter(([, n]) => n > 0);
  if (found.length > 0 && !warnings.some((text) => text.startsWith("state_dict: ")))
    throw new Error("differences without a warning");
  return { ...counts, text: found.map(([key, n]) => `${n} ${key}`).join(", ") };
}

async function compare(out, network, row) {
  const at = (folder, file) => join(out, folder, file);
  const stateDict = at(network.name, "state_dict.safetensors");
  const model = await loadModel(join(out, row.file), { loss: network.loss, stateDict });
  const data = await loadData({ x: at(network.name, "x.npy"), y: at(network.name, "y.npy") });
  try {
    const found = differences(model);
    const isOwn = row.parameters !== undefined;
    if ((isOwn || row.unmatched !== undefined) !== (found.fused > 0 || found.untied > 0))
      throw new Error(`fused or untied, and the report says: ${found.text || "nothing"}`);
    const all = await gradient(model, data, { precision: "float64" });
    // One tensor for several of the network: a Hessian of another size, which the warning says. In
    // new networks equal numbers leave open which fused tensor is which.
    if (found.merged > 0 || (found.fused > 0 && !network.trained))
      return { ok: true, text: `warned: ${found.text}` };
    const place = layout(model, row.parameters ?? network.parameters, isOwn);
    const read = async (name) => readNpy(at(row.reference, `${name}.npy`));
    const errors = { grad: relative(all.gradient, place((await read("grad")).values)) };
    for (const [name, make] of [
      ["hv", hessian],
      ["ggnv", ggn],
    ])
      errors[name] = await productError(
        make,
        model,
        data,
        place,
        await read("v"),
        await read(name),
      );
    const ok = Object.values(errors).every((error) => error <= TOLERANCE);
    const numbers = Object.entries(errors).map(([key, e]) => `${key} ${e.toExponential(1)}`);
    return { ok, text: numbers.join("  ") + (found.text ? `; warned: ${found.text}` : "") };
  } finally {
    model.dispose();
    data.dispose();
  }
}

async function productError(make, model, data, place, v, wanted) {
  const [K, P] = v.shape;
  const rowsOf = ({ values }) =>
    Array.from({ length: K }, (_, k) => place(values.subarray(k * P, (k + 1) * P)));
  const operator = make(model, data, { precision: "float64" });
  try {
    const got = await operator.apply(Float64Array.from(rowsOf(v).flatMap((each) => [...each])));
    const size = model.parameterCount;
    const rows = rowsOf(wanted);
    return Math.max(...rows.map((row, k) => relative(got.subarray(k * size, (k + 1) * size), row)));
  } finally {
    operator.dispose();
  }
}

// ---- all of it

const args = process.argv.slice(2);
const names = args.filter((arg) => !arg.startsWith("--"));
const out = join(root, "build", "zoo");
if (!args.includes("--keep")) {
  const python = pythonPath(args.includes("--offline"));
  const script = join(root, "examples", "pytorch", "export_zoo.py");
  rmSync(out, { recursive: true, force: true });
  const { status } = spawnSync(
    python,
    ["-W", "ignore", script, "--out", out, "--reference", ...names],
    {
      stdio: "inherit",
      env: ENV,
    },
  );
  if (status !== 0) {
    console.error("export_zoo.py failed");
    process.exit(1);
  }
}
const tally = { passed: 0, failed: 0, "not exported": 0 };
const zoo = JSON.parse(readFileSync(join(out, "zoo.json"), "utf8"));
for (const network of zoo) {
  if (names.length > 0 && !names.includes(network.name)) continue;
  for (const row of network.settings) {
    let result;
    if (row.error) {
      result = { word: "not exported", text: row.error };
    } else {
      try {
        const { ok, text } = await compare(out, network, row);
        result = { word: ok ? "passed" : "failed", text };
      } catch (error) {
        result = { word: "failed", text: error.message };
      }
    }
    tally[result.word] += 1;
    const mark = { passed: "ok", failed: "FAILED", "not exported": "not exported" }[result.word];
    console.log(
      `${network.name.padEnd(30)} ${row.setting.padEnd(17)} ${mark.padEnd(7)} ${result.text}`,
    );
  }
}
const counts = Object.entries(tally).map(([word, n]) => `${n} ${word}`);
console.log(`\n${counts.join(", ")}`);
process.exitCode = tally.failed > 0 ? 1 : 0;
