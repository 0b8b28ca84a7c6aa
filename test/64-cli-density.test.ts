// eigenscope density: its document, artefacts, chart and errors.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { linearOperator, spectralDensity } from "../lib";
import { chart } from "../lib/cli/density";
import { caseFile, caseOf } from "./50-helpers";
import { cli, json, readNpy } from "./60-run";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-density-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const subject = [
  caseFile("cnn_small", "model.onnx"),
  ...["--inputs", caseFile("cnn_small", "x.npy"), "--targets", caseFile("cnn_small", "y.npy")],
  ...["--samples", "16", "--precision", "float64", "--probes", "3", "--steps", "12"],
];
const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);

test("--json and --out: nodes, weights, grid, density, counts with their errors", () => {
  const out = join(folder, "all");
  const document = json(
    "density",
    ...subject,
    ...["--operator", "ggn", "--out", out, "--count", "-1,1e-3", "--count", "1e-3,inf"],
    ...["--below", "1e-3", "--points", "256"],
  );
  const P = caseOf("cnn_small").num_params;
  expect(document).toMatchObject({ operator: "ggn", method: "slq", probes: 3, steps: 12 });
  expect(document.products).toBe(36);
  expect(document.rigorous).toBe(true);
  expect(readdirSync(out).sort()).toEqual(
    ["density", "grid", "lower", "nodes", "upper", "weights"]
      .map((name) => `${name}.npy`)
      .concat("result.json", "density.svg", "density.vl.json")
      .sort(),
  );
  const [nodes, weights] = [readNpy(join(out, "nodes.npy")), readNpy(join(out, "weights.npy"))];
  expect(nodes.shape).toEqual([3, 12]);
  expect(weights.shape).toEqual([3, 12]);
  expect(sum(weights.values)).toBeCloseTo(3, 10);
  expect(Array.from(nodes.values.subarray(12, 24))).toEqual(document.nodes[1]);
  const [grid, density] = [readNpy(join(out, "grid.npy")), readNpy(join(out, "density.npy"))];
  expect(Array.from(density.values)).toEqual(document.density);
  // Eigenvalues per decade, over the axis.
  const at = Array.from(grid.values, (x) => Math.asinh(x / (2 * document.threshold)) / Math.LN10);
  expect((sum(density.values) * (at[255]! - at[0]!)) / 255 / P).toBeCloseTo(1, 6);
  expect(document.counts).toHaveLength(2);
  const [first, second] = document.counts;
  expect([first.low, first.high, second.low, second.high]).toEqual([-1, 1e-3, 1e-3, null]);
  for (const count of document.counts) {
    expect(count.lower).toBeLessThanOrEqual(count.value);
    expect(count.upper).toBeGreaterThanOrEqual(count.value);
    expect(count.interval[0]).toBeLessThanOrEqual(count.lower);
  }
  expect(first.value + second.value).toBeCloseTo(P, 6);
  expect(document.below[0].threshold).toBe(1e-3);
  expect(document.below[0].fraction.value).toBeCloseTo(first.value / P, 6);
  expect(JSON.parse(readFileSync(join(out, "result.json"), "utf8")).density).toEqual(
    document.density,
  );
});

test("for people: a chart within 80 columns, and tables", () => {
  const { status, out, err } = cli(
    "density",
    ...subject,
    ...["--count", "-inf,inf", "--below", "0.01"],
  );
  expect(err).toBe("");
  expect(status).toBe(0);
  const lines = out.split("\n");
  for (const line of lines.slice(2)) expect(line.length).toBeLessThanOrEqual(80);
  expect(out).toContain("eigenvalues a column");
  expect(out).toMatch(/0\.1 \|.*#/);
  expect(out).toMatch(/\++-+\+-+\+-+\+-+\+/);
  expect(out).toMatch(/method +slq, 3 probes of 12 nodes/);
  expect(out).toMatch(/kernel +[\d.]+ decades, [\d.]+ % of the range/);
  expect(out).toMatch(/-inf to inf +6,090 +6,090 to 6,090 +\+-0\.0 +6,090 to 6,090/);
  expect(out).toMatch(/\|lambda\| <= 0\.01 +[\d.]+ %/);
});

test("the chart shows where eigenvalues are", async () => {
  // 1,000 at 0, 100 between 1 and 2 and one at 10.
  const values = Float64Array.from({ length: 1101 }, (_, i) =>
    i < 1000 ? 0 : i < 1100 ? 1 + (i - 1000) / 100 : 10,
  );
  const A = linearOperator(1101, (V) => V.map((x, i) => x * values[i % 1101]!));
  const found = await spectralDensity(A, { steps: 40, axis: "linear", normalisation: "dim" });
  const lines = chart(found);
  expect(lines).toHaveLength(13);
  const bottom = lines[10]!.slice(10).padEnd(64);
  expect(lines[10]).toContain("0.1 |");
  const column = (x: number) =>
    Math.floor((64 * (x - found.edges[0]!)) / (found.edges.at(-1)! - found.edges[0]!));
  for (const x of [0, 1.3, 1.7, 10]) expect(bottom[column(x)]).toBe("#");
  for (const x of [3.5, 5, 8]) expect(bottom[column(x)]).toBe(" ");
  // Only the zeros reach the top.
  expect(lines[2]!.slice(10)[column(0)]).toMatch(/[#:.]/);
  expect(lines[2]!.slice(10)[column(10)] ?? " ").toBe(" ");
});

test("kpm, and axes", () => {
  const document = json("density", ...subject, "--method", "kpm", "--axis", "linear");
  expect(document).toMatchObject({ method: "kpm", axis: "linear", rigorous: false });
  expect(document.products).toBe(3 * 12 + 20);
  expect(document.threshold).toBeUndefined();
});

const WRONG: [string, string[], string][] = [
  ["a log axis", ["--axis", "log"], 'axis: expected "linear" or "symlog", as hessian has negative'],
  ["one end", ["--count", "3"], "--count: expected A,B with A <= B, such as 0.1,inf, got"],
  ["ends in disorder", ["--count", "3,1"], "--count: expected A,B with A <= B"],
  ["a word", ["--count", "a,b"], "--count: expected a number or a fraction"],
  ["a kernel of 0", ["--kernel-width", "0"], "--kernel-width: expected a number above 0"],
  ["below 0", ["--below", "-1"], "--below: expected a number of at least 0"],
  ["little memory", ["--max-memory", "400kB"], "emory"],
];

test.each(WRONG)("%s is refused", (_, args, text) => {
  const { status, out, err } = cli("density", ...subject, ...args);
  expect(status).toBe(2);
  expect(out).toBe("");
  expect(err).toContain(text);
});
