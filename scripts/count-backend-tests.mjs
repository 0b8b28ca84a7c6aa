// Counts ONNX's backend tests by operator into test/fixtures/backend/operators.json, for
// docs/operators.md. Needs Debian's package libonnx-testdata and dist (npm run build:ts).
// With --check nothing is written: it fails where the file is not what it would write.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const fixtures = join(root, "test", "fixtures", "backend");
const target = join(fixtures, "operators.json");
const { ModelProtoSchema } = createRequire(import.meta.url)(
  join(root, "dist", "model", "onnx_pb.js"),
);

const data = "/usr/share/libonnx-testdata/data";
const suites = ["node", "pytorch-converted", "pytorch-operator", "simple"];
if (!existsSync(data)) {
  console.error(`${data} is not there: install libonnx-testdata`);
  process.exit(2);
}

const skipped = new Set(
  readFileSync(join(fixtures, "skipped.txt"), "utf8")
    .split("\n")
    .map((line) => line.split(": ", 1)[0]),
);

/** Operators of a graph and of the bodies inside. */
function collect({ node }, into) {
  for (const { opType, domain, attribute } of node) {
    into.add(domain === "" || domain === "ai.onnx" ? opType : `${domain}.${opType}`);
    for (const { g, graphs } of attribute)
      for (const body of [...(g ? [g] : []), ...graphs]) collect(body, into);
  }
}

const counts = {};
for (const suite of suites)
  for (const name of readdirSync(join(data, suite))) {
    const file = join(data, suite, name, "model.onnx");
    if (!existsSync(file) || skipped.has(`${suite}/${name}`)) continue;
    const operators = new Set();
    collect(fromBinary(ModelProtoSchema, readFileSync(file)).graph, operators);
    for (const operator of operators) counts[operator] = (counts[operator] ?? 0) + 1;
  }

const sorted = Object.fromEntries(Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)));
const text = `${JSON.stringify(sorted, null, 2)}\n`;
if (!process.argv.includes("--check")) writeFileSync(target, text);
else if (readFileSync(target, "utf8") !== text) {
  console.error(`${target} is out of date. Run: node scripts/count-backend-tests.mjs`);
  process.exit(1);
}
