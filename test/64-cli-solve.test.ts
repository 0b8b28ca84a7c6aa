// eigenscope solve: documents, files, exit codes, errors and what people read.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ggn, gradient, solve } from "../lib";
import { caseFile, openCase, relative, vector } from "./50-helpers";
import { cli, json, readNpy, writeVectors } from "./60-run";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-solve-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const mlp = [
  caseFile("mlp_relu", "model.onnx"),
  "--inputs",
  caseFile("mlp_relu", "x.npy"),
  "--targets",
  caseFile("mlp_relu", "y.npy"),
  "--precision",
  "float64",
];

test("the damped Gauss-Newton step, as the API gives it", async () => {
  const out = join(folder, "step");
  const document = json("solve", ...mlp, "--operator", "ggn", "--damping", "0.1", "--out", out);
  const { model, data } = await openCase("mlp_relu");
  const risk = await gradient(model, data, { precision: "float64" });
  const G = ggn(model, data, { precision: "float64" });
  const wanted = await solve(G, risk.gradient, { damping: 0.1 });
  const { shape, type, values } = readNpy(join(out, "solution.npy"));
  expect(shape).toEqual([17226]);
  expect(type).toBe("<f8");
  expect(relative(values, wanted.solution)).toBeLessThan(1e-12);
  expect(document).toMatchObject({
    operator: "ggn",
    method: "cg",
    damping: 0.1,
    tol: 1e-8,
    rightHandSide: "gradient",
    converged: true,
    products: wanted.products,
    iterations: wanted.iterations,
    parameterCount: 17226,
    samples: 256,
  });
  expect(JSON.parse(readFileSync(join(out, "result.json"), "utf8"))).toEqual(document);
  expect(document.residuals[0]).toBeLessThanOrEqual(1e-8);
  expect(document.norms[0]).toBeCloseTo(Math.hypot(...values), 10);
  // Angle, error bound and model of the loss, from their definitions.
  const g = risk.gradient;
  const inner = values.reduce((sum, x, i) => sum + x * g[i]!, 0);
  const cosine = inner / (document.norms[0] * risk.norm);
  expect(document.anglesWithGradient[0]).toBeCloseTo((Math.acos(cosine) * 180) / Math.PI, 8);
  expect(document.errorBounds[0]).toBeCloseTo((document.residuals[0] * risk.norm) / 0.1, 15);
  const product = await G.apply(values);
  const quadratic = values.reduce((sum, x, i) => sum + x * product[i]!, 0);
  expect(document.predictedChange).toBeCloseTo(-inner + quadratic / 2, 9);
  expect(document.predictedChange).toBeLessThan(0);
});

test("several right-hand sides of a file, by minres on the Hessian", () => {
  const rhs = writeVectors(join(folder, "b.npy"), vector(2 * 17226), [2, 17226], "<f8");
  const out = join(folder, "two");
  const damping = ["--damping", "20", "--tol", "1e-10"];
  const document = json("solve", ...mlp, "--rhs", rhs, ...damping, "--out", out);
  expect(document).toMatchObject({ operator: "hessian", method: "minres", converged: true });
  expect(document.residuals).toHaveLength(2);
  expect(document).not.toHaveProperty("predictedChange");
  const solution = readNpy(join(out, "solution.npy"));
  expect(solution.shape).toEqual([2, 17226]);
  // (H + 20 I) x, from the command for products.
  const product = join(folder, "hx.npy");
  json("product", ...mlp, "--vector", join(out, "solution.npy"), "--out", product);
  const back = readNpy(product).values.map((y, i) => y + 20 * solution.values[i]!);
  expect(relative(back, vector(2 * 17226))).toBeLessThan(1e-9);
});

test("what people read", () => {
  const args = ["--operator", "ggn", "--damping", "0.1"];
  const { status, out, err } = cli("solve", ...mlp, ...args);
  expect(err).toBe("");
  expect(status).toBe(0);
  expect(out).toContain("(A + 0.1 I) x = gradient by cg\n");
  expect(out).toMatch(/norm of x +residual +error at most +angle with gradient +iterations\n/);
  expect(out).toMatch(/\d\.\d+e?.* deg/);
  expect(out).toMatch(/The step -x changes the loss by -0\.0\d+ in the quadratic model/);
});

test("running out of products writes the results and exits with 4", () => {
  const out = join(folder, "short");
  const args = ["--operator", "ggn", "--damping", "1e-4", "--max-products", "15", "--out", out];
  const { status, err } = cli("solve", ...mlp, ...args);
  expect(status).toBe(4);
  expect(err).toContain("not converged: the products allowed (maxProducts) were not enough");
  expect(existsSync(join(out, "solution.npy"))).toBe(true);
  const document = JSON.parse(readFileSync(join(out, "result.json"), "utf8"));
  expect(document.converged).toBe(false);
  expect(document.products).toBeLessThanOrEqual(15);
});

test.each<[string, string[]]>([
  ["cg needs a positive semi-definite operator", ["--method", "cg"]],
  ["--method", ["--method", "gmres"]],
  ["--damping", ["--damping", "-1"]],
  ["expected shape (17226,) or (K, 17226)", ["--rhs", "SHORT"]],
  ["--rank belongs to --preconditioner nystrom", ["--rank", "5"]],
  ["needs damping above 0", ["--operator", "ggn", "--preconditioner", "nystrom"]],
  ["tikhonov belongs to method lsmr", ["--tikhonov", "1"]],
])("bad input: %s", (message, args) => {
  const short = writeVectors(join(folder, "short.npy"), vector(5), [5], "<f8");
  const given = args.map((arg) => (arg === "SHORT" ? short : arg));
  const { status, out, err } = cli("solve", ...mlp, ...given);
  expect(status).toBe(2);
  expect(out).toBe("");
  expect(err).toContain(message);
});
