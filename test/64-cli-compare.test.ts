// compare on the command line: tables, files, resuming, errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namesOf, withError } from "../lib/cli/compare";
import { caseFile } from "./50-helpers";
import { cli, json, subject } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-compare-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string) => caseFile(name, "model.onnx");
const [, ...data] = subject("mlp_relu");
const quick = ["--samples", "16", "--operators", "ggn", "--k", "3"];

test("a row a network, files, and rows that are there are not computed again", () => {
  const args = [
    file("mlp_relu"),
    file("mlp_tanh"),
    file("cnn_small"),
    ...data,
    ...quick,
    "--out",
    folder,
  ];
  const document = json("compare", ...args);
  const [relu, tanh, cnn] = document.rows;
  expect(relu.name).toBe("mlp_relu/model");
  expect(relu.cells.parameters).toEqual({ value: 17226, how: "exact" });
  // 16 samples of 10 classes: rank at most 16 * 9.
  for (const { cells } of [relu, tanh]) {
    expect(cells["ggn.rank"].how).toBe("exact");
    expect(cells["ggn.rank"].value).toBeLessThanOrEqual(144);
    expect(cells["ggn.rank"].value).toBeGreaterThan(100);
  }
  const { values, zeros, complete } = relu.spectra.ggn;
  expect(values.length + zeros).toBe(17226);
  expect(values.length).toBeLessThanOrEqual(160);
  expect(complete).toBe(true);
  expect(cnn.cells["ggn.rank"].failed).toContain("expected shape (N, 1, 8, 8)");
  expect(readdirSync(folder).sort()).toEqual([
    "comparison.csv",
    "redundancy-ggn.svg",
    "redundancy-ggn.vl.json",
    "result.json",
    "rows",
    "spectra-ggn.svg",
    "spectra-ggn.vl.json",
  ]);
  const lines = readFileSync(join(folder, "comparison.csv"), "utf8").trim().split("\n");
  expect(lines).toHaveLength(4);
  expect(lines[0]).toMatch(/^name,source,parameters,parameters\.error,parameters\.how,loss,/);
  expect(lines[3]).toContain('"failed: ');

  const { status, out } = cli("compare", ...args);
  expect(status).toBe(0);
  expect(out).toContain("3 of 3 networks were there");
  expect(out).toMatch(/^network +parameters +loss +accuracy +groups +units +orbit dimension$/m);
  expect(out).toMatch(/^mlp_relu\/model +1\d\d +99\.2 %/m);
  expect(out).toMatch(/^cnn_small\/model +- +-/m);
  expect(out).toMatch(
    /cnn_small\/model: loss, accuracy: .*expected shape|cnn_small\/model: loss to /,
  );
});

test("larger networks get estimates with their errors", () => {
  const args = [file("mlp_relu"), file("mlp_tanh"), ...data, ...quick, "--max-exact", "10"];
  const { status, out } = cli("compare", ...args, "--probes", "4");
  expect(status).toBe(0);
  expect(out).toMatch(/^mlp_relu\/model +[\d,]+ \+- [\d,]+ +[\d.]+ \+- [\d.]+ %/m);
  expect(out).toContain("+-: estimated");
  expect(out).toContain("needs the whole spectrum");
});

test("what does not fit is refused", () => {
  const missing = cli("compare", file("mlp_relu"), ...data);
  expect(missing.status).toBe(2);
  expect(missing.err).toContain("missing required argument 'others'");
  const twice = cli("compare", file("mlp_relu"), file("mlp_relu"), ...data);
  expect(twice.status).toBe(2);
  expect(twice.err).toContain("compare: expected names that differ");
  const wrong = cli(
    "compare",
    file("mlp_relu"),
    file("mlp_tanh"),
    ...data,
    "--operators",
    "fisher",
  );
  expect(wrong.err).toContain("operators: expected some of hessian, ggn, functional, each once");
});

test("names are what paths do not share", () => {
  expect(namesOf(["a/mlp.onnx", "b/lenet.onnx"])).toEqual(["mlp", "lenet"]);
  expect(namesOf(["a/model.onnx", "b/model.onnx"])).toEqual(["a/model", "b/model"]);
  expect(namesOf(["x/a/m.onnx", "y/a/m.onnx"])).toEqual(["x/a/m", "y/a/m"]);
});

test("numbers are shown to the digits that are known", () => {
  expect(withError(34.8012, 0.359)).toBe("34.8 +- 0.4");
  expect(withError(6407.2, 5568)).toBe("6,000 +- 6,000");
  expect(withError(0.012345, 0.00021)).toBe("0.0123 +- 0.0002");
  expect(withError(25.04, 3.1)).toBe("25 +- 3");
});
