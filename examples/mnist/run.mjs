// Both research programmes on MNIST, from training to figures, by the command line alone: every
// command is printed before it runs, so that each can be repeated by itself.
//
//   node examples/mnist/run.mjs [--out FOLDER] [--only NAME,NAME] [--figures FOLDER]
//
// What a command prints goes to FOLDER/NAME/output.txt, its results beside it. A step whose
// result is there is not run again. docs/subnetworks.md and docs/structure.md read the results.
import { spawn } from "node:child_process";
import {
  copyFileSync,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { resolve as absolute, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { SMALL_NETWORKS, smallNetworks } from "./networks.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const { values: given } = parseArgs({
  options: { out: { type: "string" }, only: { type: "string" }, figures: { type: "string" } },
});
for (const name of ["out", "figures"]) if (given[name]) given[name] = absolute(given[name]);
process.chdir(root); // so that commands are as one would type them there
const out = given.out ?? join("eigenscope-out", "mnist");
const mnist = join("examples", "data", "mnist");
const model = (name) => join("examples", "models", `${name}.onnx`);
const result = (...path) => join(out, ...path);

const part = (images, labels, samples, prefix = "") => [
  `--${prefix}inputs`,
  join(mnist, images),
  `--${prefix}targets`,
  join(mnist, labels),
  ...(samples ? [`--${prefix}samples`, String(samples)] : []),
];
const train = (samples) => [
  ...part("train-images-idx3-ubyte", "train-labels-idx1-ubyte", samples),
  "--scale",
  "1/255",
];
const test = (samples) =>
  part("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", samples, "test-");
const held = (samples) => [
  ...part("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", samples),
  "--scale",
  "1/255",
];
const small = (name) => result("small", name);
const digits = ["--inputs", small("images.idx"), "--targets", small("labels.idx")];
digits.push("--scale", "1/255", "--precision", "float64");

const SEEDS = [0, 1, 2];
const NETWORKS = ["lenet", "mlp"];
const trained = (network, seed) => result(`train-${network}-${seed}`, "trained.onnx");
const path = (network, seed) => result(`path-${network}-${seed}`);
const first = (network, seed) => join(path(network, seed), "step-00000000.safetensors");
const others = [1, 2].map((seed) => ["lenet", seed]).concat(SEEDS.map((seed) => ["mlp", seed]));

/** One row a step: its name, its command, and its arguments. Later ones read what earlier ones made. */
const STEPS = [
  // ---- sub-networks and spectral anisotropy
  ...NETWORKS.flatMap((network) =>
    SEEDS.map((seed) => [
      `train-${network}-${seed}`,
      ["train", model(network), "--initial", "random", "--seed", String(seed)],
      ["--learning-rate", "0.1", "--epochs", "6", "--checkpoints", path(network, seed)],
      ["--every", "47", ...train(10000), ...test(2000)],
    ]),
  ),
  [
    "masks",
    ["masks", trained("lenet", 0), "--initial", first("lenet", 0)],
    ["--criterion", "magnitude,movement,snip,fisher", "--curve", "0.5,0.3,0.2,0.1,0.05,0.03"],
    held(2000),
  ],
  [
    "subnetworks",
    ["subnetworks", trained("lenet", 0), "--initial", first("lenet", 0)],
    others.flatMap(([network, seed]) => [
      ...["--models", trained(network, seed)],
      ...["--initial", first(network, seed)],
    ]),
    ["--checkpoints", path("lenet", 0), ...train(1000)],
  ],
  [
    "fisher",
    ["anisotropy", trained("lenet", 0), "--operator", "fisher-type2", "--by", "layer"],
    train(500),
  ],
  [
    "spectrum",
    ["spectrum", trained("lenet", 0), "--operator", "fisher-type2", "--k", "40", "--trace", "32"],
    train(1000),
  ],
  ["density", ["density", trained("lenet", 0), "--operator", "hessian"], train(2000)],
  [
    "trajectory",
    ["trajectory", trained("lenet", 0), path("lenet", 0), "--parts"],
    ["geometry,curvature,charges,masks", "--operator", "fisher-type2", "--k", "10"],
    ["--spectra", "8", ...train(1000)],
  ],
  // ---- structure of the Hessian
  [
    "ranks",
    ["rank", small("linear.onnx"), "--parts", ...digits],
    ["linear-deep", "linear-bias", "relu", "tanh"].flatMap((name) => [
      "--models",
      small(`${name}.onnx`),
    ]),
  ],
  ["redundancy", ["rank", small("relu.onnx"), "--redundancy", "--operator", "ggn"], digits],
  ["symmetry", ["symmetry", model("lenet"), "--verify"], held(256)],
  [
    "align",
    ["align", trained("mlp", 0), trained("mlp", 1)],
    ["--test-inputs", join(mnist, "t10k-images-idx3-ubyte")],
    ["--test-targets", join(mnist, "t10k-labels-idx1-ubyte"), ...train(2000)],
  ],
  [
    "generalization",
    ["generalization", small("tanh.onnx"), "--shifted", "noise:0.1", ...digits],
    ["--test-inputs", small("test-images.idx"), "--test-targets", small("test-labels.idx")],
  ],
  [
    "double-descent",
    ["double-descent", "random-features", "--label-noise", "0.2", "--pool", "2"],
    ["--sizes", "50,100,200,350,450,500,550,700,1000,2000,5000"],
    [...train(500), ...test(2000)],
  ],
  [
    "compare",
    ["compare", ...Object.keys(SMALL_NETWORKS).map((name) => small(`${name}.onnx`)), ...digits],
  ],
].map(([name, ...args]) => ({ name, args: args.flat() }));

function run({ name, args }) {
  const folder = result(name);
  mkdirSync(folder, { recursive: true });
  const command = `eigenscope ${args.join(" ")} --out ${folder}`;
  console.log(`\n$ ${command}\n`);
  const log = createWriteStream(join(folder, "output.txt"));
  log.write(`$ ${command}\n\n`);
  return new Promise((resolve) => {
    const child = spawn(
      process.execPath,
      [join("bin", "eigenscope.js"), ...args, "--out", folder],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    child.stdout.on("data", (text) => {
      process.stdout.write(text);
      log.write(text);
    });
    child.on("close", (code) => log.end(() => resolve(code)));
  });
}

const chosen = given.only?.split(",");
const begin = performance.now();
if (!existsSync(join(mnist, "train-images-idx3-ubyte"))) await import("../../scripts/mnist.mjs");
await smallNetworks(createRequire(import.meta.url)(root), mnist, small(""));
const failed = [];
for (const step of STEPS) {
  if (chosen && !chosen.includes(step.name)) continue;
  if (!chosen && existsSync(result(step.name, "result.json"))) {
    console.log(`${step.name}: its result is in ${result(step.name)}`);
    continue;
  }
  const from = performance.now();
  const code = await run(step);
  console.log(`(${step.name}: ${((performance.now() - from) / 1000).toFixed(0)} s)`);
  if (code !== 0 && code !== 4) failed.push(`${step.name} (exit code ${code})`);
}
// The figures that the two pages show.
if (given.figures) {
  mkdirSync(given.figures, { recursive: true });
  const pages = ["subnetworks", "structure"].map((page) => readFileSync(`docs/${page}.md`, "utf8"));
  for (const { name } of STEPS)
    for (const file of readdirSync(result(name)))
      if (pages.some((text) => text.includes(`figures/${name}-${file}`)))
        copyFileSync(result(name, file), join(given.figures, `${name}-${file}`));
}
console.log(`\nEverything took ${((performance.now() - begin) / 60000).toFixed(1)} minutes.`);
if (failed.length > 0) {
  console.error(`Failed: ${failed.join(", ")}`);
  process.exitCode = 1;
}
