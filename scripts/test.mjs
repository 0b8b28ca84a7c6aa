// npm test: builds what is out of date, then lint, format, types, C++ tests, TypeScript tests, and
// networks exported by PyTorch where there is one.
// Every step runs even when one before it failed. `npm test -- cpp ts` runs only those named.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const jestReport = join(root, "build", "jest.json");
const counts = { passed: 0, failed: 0 };

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error) throw result.error;
  return result;
}

const binary = (name, ...args) => run(join(root, "node_modules", ".bin", name), args);

function build() {
  for (const target of ["eigenscope", "eigenscope_tests"]) {
    const { status } = binary("cmake-js", "--log-level", "warn", "build", "--target", target);
    if (status !== 0) return false;
  }
  return binary("tsc", "-p", "tsconfig.build.json").status === 0;
}

// oneDNN is used where it can be loaded, so everything in C++ is tested with it and without.
function cpp() {
  let passed = true;
  for (const hidden of ["", "1"]) {
    const { status, stdout } = run(join(root, "build", "eigenscope_tests"), [], {
      stdio: ["ignore", "pipe", "inherit"],
      encoding: "utf8",
      env: { ...process.env, EIGENSCOPE_NO_ONEDNN: hidden },
    });
    process.stdout.write(stdout);
    const tally = stdout.match(/test cases:.*?(\d+) passed \| *(\d+) failed/);
    counts.passed += Number(tally?.[1] ?? 0);
    counts.failed += Number(tally?.[2] ?? 1);
    passed &&= status === 0 && tally !== null;
  }
  return passed;
}

function ts() {
  mkdirSync(dirname(jestReport), { recursive: true });
  rmSync(jestReport, { force: true });
  const { status } = binary("jest", "--json", `--outputFile=${jestReport}`, "--reporters=default");
  if (existsSync(jestReport)) {
    const report = JSON.parse(readFileSync(jestReport, "utf8"));
    counts.passed += report.numPassedTests;
    counts.failed += report.numFailedTests + report.numRuntimeErrorTestSuites;
  } else {
    counts.failed += 1;
  }
  return status === 0;
}

// Networks that PyTorch exports, where there is a PyTorch: it is never installed from here.
function torch() {
  const { status } = run(process.execPath, ["scripts/test-torch.mjs", "--offline"]);
  if (status === 3) console.log("Skipped: no PyTorch here");
  return status === 0 || (status === 3 && !process.env.EIGENSCOPE_PYTHON);
}

const steps = {
  build,
  lint: () => binary("biome", "ci", "--error-on-warnings", ".").status === 0,
  format: () => run(process.execPath, ["scripts/clang-format.mjs"]).status === 0,
  types: () => binary("tsc", "-p", "tsconfig.json").status === 0,
  cpp,
  ts,
  torch,
};

if (!existsSync(join(root, "node_modules", ".bin", "cmake-js"))) {
  console.error("The npm packages are not installed. Run: sh scripts/setup.sh");
  process.exit(1);
}
const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(steps);
const failed = [];
for (const name of chosen) {
  if (!(name in steps)) {
    console.error(`No step "${name}"; there are ${Object.keys(steps).join(", ")}`);
    process.exit(2);
  }
  console.log(`\n== ${name}`);
  if (!steps[name]()) {
    failed.push(name);
    if (name === "build") break;
  }
}
console.log(failed.length > 0 ? `\nFailed: ${failed.join(", ")}` : "\nEvery step passed");
console.log(
  `${counts.passed} passed, ${counts.failed + (counts.failed === 0 ? failed.length : 0)} failed`,
);
process.exitCode = failed.length > 0 ? 1 : 0;
