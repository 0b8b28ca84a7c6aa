// eigenscope trace and diagonal: documents, artefacts, tables, exit codes.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { caseOf } from "./50-helpers";
import { cli, json, readNpy, subject } from "./60-run";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-trace-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("trace --json is the exact trace up to its error, by every method", () => {
  const ggn = [...subject("mlp_relu"), "--operator", "ggn"];
  const exact = json("trace", ...ggn, "--method", "exact");
  expect(exact).toMatchObject({ method: "samples", standardError: 0, products: 0 });
  for (const method of ["xtrace", "hutchinson", "hutch++", "xnystrace"]) {
    const found = json("trace", ...ggn, "--method", method, "--products", "60");
    expect(found).toMatchObject({
      operator: "ggn",
      method,
      products: 60,
      converged: true,
      parameterCount: caseOf("mlp_relu").num_params,
    });
    const [low, high] = found.interval;
    expect(low).toBeLessThan(found.value);
    expect(high).toBeGreaterThan(found.value);
    expect(Math.abs(found.value - exact.value)).toBeLessThan(4 * found.standardError);
    expect(found).not.toHaveProperty("reason");
  }
});

test("an error that was not reached is exit code 4, and what there is is written", () => {
  const out = join(folder, "poor");
  const { status, err } = cli(
    ...["trace", ...subject("mlp_relu"), "--tol", "1e-4", "--max-products", "40", "--out", out],
  );
  expect(status).toBe(4);
  expect(err).toContain("not converged: 40 products (maxProducts) were not enough");
  const document = JSON.parse(readFileSync(join(out, "result.json"), "utf8"));
  expect(document).toMatchObject({ converged: false, products: 40, method: "xtrace" });
  expect(document.reason).toContain("40 products");
});

test("trace for people", () => {
  const { status, out } = cli("trace", ...subject("mlp_relu"), "--tol", "0.05");
  expect(status).toBe(0);
  expect(out).toMatch(/^trace +3\d\.\d+$/m);
  expect(out).toMatch(/^standard error +[\d.]+, [\d.]+ % of it$/m);
  expect(out).toMatch(/^95 % interval +3\d\.\d+ to 3\d\.\d+$/m);
  expect(out).toMatch(/^method +xtrace with \d+ samples$/m);
  expect(out).toMatch(/^\d+ products, /m);
});

test("spectrum --trace is the trace beside what eigsh found", () => {
  const exact = json("trace", ...subject("mlp_relu"), "--operator", "ggn", "--method", "exact");
  const { trace } = json(
    ...["spectrum", ...subject("mlp_relu"), "--operator", "ggn", "--k", "10", "--trace", "32"],
  );
  expect(trace.products).toBe(32);
  expect(Math.abs(trace.value - exact.value)).toBeLessThan(4 * trace.standardError);
  expect(trace.standardError).toBeLessThan(0.05 * exact.value);
});

test("diagonal writes entries and their errors, and sums them by tensor", () => {
  const ggn = [...subject("cnn_small"), "--operator", "ggn", "--precision", "float64"];
  const [all, some] = [join(folder, "exact"), join(folder, "sampled")];
  const exact = json("diagonal", ...ggn, "--method", "exact", "--out", all);
  const found = json("diagonal", ...ggn, "--products", "100", "--out", some);
  const { num_params, parameters } = caseOf("cnn_small");
  const truth = readNpy(join(all, "diagonal.npy"));
  const diagonal = readNpy(join(some, "diagonal.npy"));
  const errors = readNpy(join(some, "standard-error.npy"));
  expect([diagonal.shape, errors.shape]).toEqual([[num_params], [num_params]]);
  expect(diagonal.type).toBe("<f8");
  let [squares, stated] = [0, 0];
  for (let i = 0; i < num_params; i++) {
    squares += (diagonal.values[i]! - truth.values[i]!) ** 2;
    stated += errors.values[i]! ** 2;
  }
  expect(Math.sqrt(squares / stated)).toBeGreaterThan(0.6);
  expect(Math.sqrt(squares / stated)).toBeLessThan(1.5);
  expect(
    exact.tensors.map(({ name, size }: { name: string; size: number }) => [name, size]),
  ).toEqual(parameters.map(({ name, size }) => [name, size]));
  for (const { name, offset, size } of parameters) {
    const part = truth.values.subarray(offset, offset + size);
    const row = exact.tensors.find((tensor: { name: string }) => tensor.name === name);
    expect(row.sum / part.reduce((sum, x) => sum + x, 0)).toBeCloseTo(1, 10);
    expect(row.largest).toBe(part.reduce((max, x) => Math.max(max, x)));
    expect(row.standardError).toBe(0);
  }
  expect(found).toMatchObject({ method: "xdiag", products: 100, draws: 50 });
  expect(Math.abs(found.trace / exact.trace - 1)).toBeLessThan(0.1);
});

test("diagonal for people", () => {
  const { status, out } = cli("diagonal", ...subject("mlp_relu"), "--products", "32");
  expect(status).toBe(0);
  expect(out).toMatch(/tensor +entries +sum +share of trace +largest entry +error an entry/);
  expect(out).toMatch(/net\.2\.weight +8,192 +[\d.]+ +[\d.]+ % /);
  expect(out).toMatch(
    /^sum [\d.]+; errors are \d+ % of the diagonal in norm; xdiag with 16 samples/m,
  );
});

test.each<[string[], string]>([
  [["trace", "--method", "xnystrace"], "xnystrace needs a positive semi-definite operator"],
  [["trace", "--method", "xdiag"], "--method: expected one of exact, xtrace, hutchinson"],
  [["trace", "--products", "20", "--tol", "0.1"], "products says what to spend"],
  [["trace", "--products", "1"], "products: expected at least 4 for method xtrace"],
  [["trace", "--tol", "-1"], "--tol: expected a number of at least 0"],
  [["diagonal", "--method", "xtrace"], "--method: expected one of exact, xdiag, hutchinson"],
])("wrong use: %p", (args, message) => {
  const [command, ...options] = args;
  const { status, err, out } = cli(command!, ...subject("mlp_relu"), ...options);
  expect(status).toBe(2);
  expect(err).toContain(message);
  expect(out).toBe("");
});
