/** The table of operators: a row without a case, or without its line in the documentation, fails. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { OPSETS } from "../lib/model/decode";
import { native } from "../lib/native";
import { CASES, FILES } from "./21-operator-cases";

const rows = native().operatorTable();

test.each(rows.map((row) => [row.op, row] as const))("%s has a case", (op, row) => {
  const own = Object.values(CASES).filter(
    (one) => one.op === op && one.opset >= row.since && one.opset <= row.until,
  );
  // CONTRIBUTING.md says how to add one.
  expect(own.length).toBeGreaterThan(0);
});

test("every case is of an operator in the table, and every file a case", () => {
  const strangers = Object.entries(CASES).filter(
    ([, { op, opset }]) =>
      !rows.some((row) => row.op === op && row.since <= opset && opset <= row.until),
  );
  expect(strangers.map(([name]) => name)).toEqual([]);
  expect(FILES.sort()).toEqual(
    Object.keys(CASES)
      .map((name) => `${name}.onnx`)
      .sort(),
  );
});

test("the table covers the opsets that files may have", () => {
  expect(Math.min(...rows.map(({ since }) => since))).toBe(OPSETS.oldest);
  expect(Math.max(...rows.map(({ until }) => until))).toBe(OPSETS.newest);
  const opsets = Object.values(CASES).map(({ opset }) => opset);
  // Nothing that puts a parameter before an operator has kept its form since opset 1; ONNX's own
  // tests of the few that have are in 90-conformance.
  expect(Math.min(...opsets)).toBe(6);
  expect(Math.max(...opsets)).toBe(OPSETS.newest);
});

test("docs/operators.md is what the table says", () => {
  const root = join(__dirname, "..");
  const { status, stderr } = spawnSync(
    process.execPath,
    ["scripts/generate-operators.mjs", "--check"],
    { cwd: root, encoding: "utf8" },
  );
  expect(stderr).toBe("");
  expect(status).toBe(0);
});
