// Writes docs/operators.md from the table of operators in the core and the cases that test them.
// Needs the built addon: npm run build:native && node scripts/generate-operators.mjs
// With --check nothing is written: it fails where the file is not what it would write.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const target = join(root, "docs", "operators.md");

const rows = createRequire(import.meta.url)("node-gyp-build")(root).operatorTable();
const cases = Object.values(
  JSON.parse(readFileSync(join(root, "test", "fixtures", "operators", "cases.json"), "utf8")),
);

const onnxTests = JSON.parse(
  readFileSync(join(root, "test", "fixtures", "backend", "operators.json"), "utf8"),
);

const oldest = Math.min(...rows.map(({ since }) => since));
const newest = Math.max(...rows.map(({ until }) => until));

const DERIVATIVES = {
  smooth: "1, 2",
  piecewise: "1, 2 beside kinks",
  zero: "0",
  fold: "constants only",
};

function opsets({ since, until }) {
  if (since === oldest && until === newest) return "all";
  return until === newest ? `from ${since}` : `${since} to ${until}`;
}

function tests({ op, since, until }) {
  const own = cases.filter((one) => one.op === op && one.opset >= since && one.opset <= until);
  const tested = [...new Set(own.map(({ opset }) => opset))].sort((a, b) => a - b);
  const others = onnxTests[op] ?? 0;
  const onnx = others === 0 ? "" : `; ${others} of ONNX`;
  return `${own.length} (opset ${tested.join(", ")})${onnx}`;
}

const lines = rows.map((row) =>
  ["", row.op, opsets(row), DERIVATIVES[row.derivative], row.limits, tests(row), ""]
    .join(" | ")
    .trim(),
);

const text = `# Operators

<!-- Written by scripts/generate-operators.mjs. Change native/onnx instead, then run it. -->

The operators that a network may have, in opsets ${oldest} to ${newest}: ${rows.length} of them. Those of
\`com.microsoft\` are what ONNX Runtime's optimiser writes into files. Local functions are written out
before, so they may call these. A network with others fails with one
\`UnsupportedOperatorError\`, which lists every node that is not supported; \`eigenscope inspect\` lists
them too. [CONTRIBUTING.md](../CONTRIBUTING.md) says how to add one.

*Derivatives*: which orders are taken; 2 is what Hessian products need. "beside kinks" means
piecewise: at a kink, the [conventions](conventions.md) decide. 0 means that they are zero wherever
there are any. Operators for "constants only" are evaluated while the network is read, and must not
depend on data or parameters (Shape and Size may: shapes are known). So are all the others where
their inputs are known, such as the integers that shapes are made from.

*Not supported*: what of ONNX's definition is not taken, attributes among it.

*Tested by*: how many models of [test/fixtures/operators](../test/fixtures/operators/README.md), and
in which opsets; each is held against other engines in its value, and against differences in its
first and second derivatives. "of ONNX": how many of ONNX's own backend tests, as far as they pass
(test/fixtures/backend/skipped.txt has the rest, with reasons), have the operator in their graph; their
values are compared, and first and second derivatives checked where there are any.

| Operator | Opsets | Derivatives | Not supported | Tested by |
| --- | --- | --- | --- | --- |
${lines.join("\n")}
`;

if (process.argv.includes("--check")) {
  let written = "";
  try {
    written = readFileSync(target, "utf8");
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
  }
  if (written !== text) {
    console.error("docs/operators.md is out of date. Run: node scripts/generate-operators.mjs");
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
  console.log(`docs/operators.md: ${rows.length} operators, ${cases.length} cases`);
}
