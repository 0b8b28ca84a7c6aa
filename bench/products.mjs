// How long a product takes beside PyTorch and curvlinops: one model, precision and number of
// threads after the other, all sides interleaved in one run, each in a process of its own. A cell
// is the median over rounds of our time divided by the peer's in the same round; below 1 we are
// faster.
//   node bench/products.mjs [--models mlp,lenet] [--precision float32] [--threads 1,2]
//                           [--rounds 7] [--python .venv/bin/python] [--json]
// The Python needs bench/peers/requirements.txt.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { list, median, Side } from "./side.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    models: { type: "string", default: "mlp,lenet,resnet20,gpt" },
    precision: { type: "string", default: "float32,float64" },
    threads: { type: "string", default: "1,2" },
    rounds: { type: "string", default: "7" },
    python: { type: "string", default: ".venv/bin/python" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});

// One row a comparison: our operation, the peer's, and what it says.
const comparisons = [
  { name: "gradient", ours: "gradient", peer: "torch", theirs: "gradient" },
  { name: "HVP cold / fresh double backward", ours: "hvp", peer: "torch", theirs: "hvp" },
  {
    name: "HVP warm / retained graph",
    ours: "hvp-retained",
    peer: "torch",
    theirs: "hvp-retained",
  },
  { name: "HVP warm / curvlinops", ours: "hvp-retained", peer: "curvlinops", theirs: "hvp" },
  { name: "GGN cold / fresh", ours: "ggn", peer: "torch", theirs: "ggn" },
  {
    name: "GGN warm / retained graph",
    ours: "ggn-retained",
    peer: "torch",
    theirs: "ggn-retained",
  },
  { name: "GGN warm / curvlinops", ours: "ggn-retained", peer: "curvlinops", theirs: "ggn" },
].filter((c) => !values.only || c.name.includes(values.only));

const models = mkdtempSync(join(tmpdir(), "eigenscope-bench-"));
const results = [];
try {
  execFileSync(values.python, [join(here, "peers/models.py"), models], { stdio: "inherit" });
  for (const model of list(values.models))
    for (const precision of list(values.precision))
      for (const threads of list(values.threads).map(Number))
        for (const { name, ours, peer, theirs } of comparisons) {
          const us = new Side(process.execPath, [join(here, "eigenscope_products.mjs"), models]);
          const them = new Side(values.python, [join(here, `peers/${peer}_products.py`)]);
          const title = (await them.next()).peer;
          await us.next();
          const pairs = [];
          for (let round = 0; round < Number(values.rounds); ++round) {
            const ask = async (side, op) =>
              (await side.ask({ model, op, precision, threads, reps: 1 })).median;
            pairs.push([await ask(us, ours), await ask(them, theirs)]);
          }
          us.end();
          them.end();
          const ratio = median(pairs.map(([a, b]) => a / b));
          const row = {
            model,
            precision,
            threads,
            comparison: name,
            peer: title,
            milliseconds: 1000 * median(pairs.map(([a]) => a)),
            peerMilliseconds: 1000 * median(pairs.map(([, b]) => b)),
            ratio,
          };
          results.push(row);
          if (!values.json)
            console.log(
              `${model.padEnd(9)} ${precision} ${threads}T  ${name.padEnd(34)} ` +
                `${row.milliseconds.toFixed(1).padStart(8)} ms ${row.peerMilliseconds.toFixed(1).padStart(8)} ms ` +
                `${ratio.toFixed(2).padStart(6)}  ${title}`,
            );
        }
} finally {
  rmSync(models, { recursive: true, force: true });
}
if (values.json)
  console.log(
    JSON.stringify({ machine: cpus()[0].model, node: process.version, results }, null, 1),
  );
