// The spectrum command beyond the ends of a spectrum: intervals, starts, deflation, checkpoints.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { caseFile, relative } from "./50-helpers";
import { cli, json, readNpy } from "./60-run";

const given = [
  caseFile("mlp_relu", "model.onnx"),
  ...["--inputs", caseFile("mlp_relu", "x.npy"), "--targets", caseFile("mlp_relu", "y.npy")],
];
const spectrum = (...args: string[]) => ["spectrum", ...given, ...args];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-spectrum-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("every value comes with where it lies, and how likely one was missed", () => {
  const document = json(...spectrum("--k", "4"));
  expect(document.intervals).toHaveLength(4);
  for (const [i, { low, high, bound }] of document.intervals.entries()) {
    expect(low).toBeLessThan(document.values[i]);
    expect(high).toBeGreaterThan(document.values[i]);
    expect(bound).toMatch(/residual|gap|cluster/);
  }
  expect(document.missed.probability).toBeLessThan(0.1);
  expect(document.missed.how).toContain("random vector");
});

test("an interval holds what the end of the spectrum shows of it", () => {
  const top = json(...spectrum("--k", "5"));
  const out = join(folder, "inside");
  const inside = json(...spectrum("--interval", "3,20", "--out", out));
  expect(inside.method).toBe("filter");
  expect(relative(inside.values, top.values.slice(0, 4).reverse())).toBeLessThan(1e-5);
  expect(inside.which).toBeUndefined();
  expect(inside.count.exact).toBe(false);
  expect(Math.abs(inside.count.estimate - 4)).toBeLessThan(2);
  expect(JSON.parse(readFileSync(join(out, "result.json"), "utf8")).values).toEqual(inside.values);
  expect(readNpy(join(out, "vectors.npy")).shape).toEqual([4, 17226]);
  const { out: text, status } = cli(...spectrum("--sigma", "5", "--k", "1"));
  expect(status).toBe(0);
  expect(text).toMatch(/1 +4\.62\d+ +\d\.\de-\d +\d\.\de-\d/);
  expect(text).toContain("products by shift-invert");
});

test("vectors of one run start another, or are left out of it", () => {
  const vectors = join(folder, "top.npy");
  const top = json(...spectrum("--k", "4", "--vectors", vectors));
  const again = json(...spectrum("--k", "4", "--start", vectors));
  expect(again.products).toBeLessThan(top.products);
  expect(relative(again.values, top.values)).toBeLessThan(1e-5);
  const rest = json(...spectrum("--k", "2", "--deflate", vectors));
  expect(Math.max(...rest.values)).toBeLessThan(top.values[3]);
  expect(rest.coupling).toBeLessThan(1e-3);
  const wrong = cli(...spectrum("--start", caseFile("mlp_relu", "x.npy")));
  expect(wrong.status).toBe(2);
  expect(wrong.err).toContain("expected vectors of shape (M, 17226), got (256, 64)");
});

test("a solve that was cut off goes on from its state", () => {
  const state = join(folder, "state.bin");
  const args = spectrum("--k", "30", "--which", "SA", "--tol", "1e-4");
  const cut = cli(...args, "--max-products", "100", "--checkpoint", state);
  expect(cut.status).toBe(4);
  expect(existsSync(state)).toBe(true);
  const whole = json(...args);
  const rest = json(...args, "--resume", state);
  expect(rest.converged).toBe(true);
  expect(relative(rest.values, whole.values)).toBeLessThan(1e-2);
  const other = cli(...spectrum("--k", "20", "--which", "SA", "--resume", state));
  expect(other.status).toBe(2);
  expect(other.err).toMatch(/OptionError: resume: .*its k is 30, this one's 20/);
});
