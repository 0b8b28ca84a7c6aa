// The command line as a contract: what each command prints for machines, writes, and exits with.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { caseFile, caseOf, relative } from "./50-helpers";
import { cli, json, readNpy, subject, writeVectors } from "./60-run";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("inspect --json", () => {
  const document = json("inspect", caseFile("mlp_relu", "model.onnx"));
  const { parameters } = caseOf("mlp_relu");
  expect(document.parameters).toEqual(
    parameters.map(({ name, shape, offset, size }) => ({ name, shape, offset, size })),
  );
  expect(document.parameterCount).toBe(17226);
  expect(document.inputs).toEqual([{ name: "x", type: "float32", shape: ["batch", 64] }]);
  expect(document.outputs).toEqual([{ name: "out", type: "float32", shape: ["batch", 10] }]);
  expect(document.opset).toBe(13);
  expect(document.operators).toEqual({ Gemm: 3, Relu: 2, Flatten: 1 });
  expect(document.unsupported).toEqual([]);
  expect(document).not.toHaveProperty("report");
});

test("inspect with data tells where the split lies, and prints the plan", () => {
  const document = json("inspect", ...subject("mlp_relu"), "--plan");
  expect(document.report).toMatchObject({ split: expect.stringContaining("output") });
  expect(document.plan).toContain("primal");
});

test("inspect for people", () => {
  const { status, out } = cli("inspect", caseFile("mlp_relu", "model.onnx"));
  expect(status).toBe(0);
  expect(out).toContain("17,226 parameters");
  expect(out).toMatch(/net\.2\.weight +\(64, 128\) +8320 +8192/);
  expect(out).toMatch(/Gemm +3/);
});

// Each operator, and the file of what PyTorch computed in float64.
const PRODUCTS = [
  ["hessian", "hv.npy"],
  ["ggn", "ggnv.npy"],
  ["fisher-empirical", "efv.npy"],
  ["fisher-type2", "fisherv.npy"],
] as const;

test.each(PRODUCTS)("product --operator %s", (operator, file) => {
  for (const [precision, bar] of [
    ["float64", 1e-10],
    ["float32", 5e-5],
  ] as const) {
    const out = join(folder, `${operator}-${precision}.npy`);
    const document = json(
      "product",
      ...subject("mlp_tanh"),
      ...["--operator", operator, "--precision", precision],
      ...["--vector", caseFile("mlp_tanh", "v.npy"), "--out", out],
    );
    const { loss_value, grad_norm, num_params } = caseOf("mlp_tanh");
    expect(document.loss / loss_value).toBeCloseTo(1, precision === "float64" ? 12 : 4);
    expect(document.gradientNorm / grad_norm).toBeCloseTo(1, precision === "float64" ? 12 : 4);
    expect(document.seconds).toBeGreaterThan(0);
    expect(document.products).toBe(3);
    const got = readNpy(out);
    expect(got.shape).toEqual([3, num_params]);
    expect(got.type).toBe(precision === "float64" ? "<f8" : "<f4");
    const wanted = readNpy(caseFile("mlp_tanh", file));
    for (let k = 0; k < wanted.shape[0]!; k++) {
      const row = (values: Float64Array) => values.subarray(k * num_params, (k + 1) * num_params);
      expect(relative(row(got.values), row(wanted.values))).toBeLessThan(bar);
    }
  }
});

test("a product of one vector has its shape; any float type is read", () => {
  const P = caseOf("cnn_small").num_params;
  const v = readNpy(caseFile("cnn_small", "v.npy")).values.subarray(0, P);
  const wanted = readNpy(caseFile("cnn_small", "hv.npy")).values.subarray(0, P);
  for (const type of ["<f4", "<f8", ">f8"] as const) {
    const vector = writeVectors(join(folder, "one.npy"), v, [P], type);
    const out = join(folder, "one-out.npy");
    json(
      "product",
      ...subject("cnn_small"),
      ...["--vector", vector, "--out", out, "--precision", "float64"],
    );
    const got = readNpy(out);
    expect(got.shape).toEqual([P]);
    expect(relative(got.values, wanted)).toBeLessThan(1e-10);
  }
});

test("products of some tensors are those of all with zeros elsewhere", () => {
  const { parameters } = json(
    "inspect",
    caseFile("mlp_relu", "model.onnx"),
    ...["--params", "*.weight", "--params", "net.4.bias", "--exclude", "net.0.*"],
  );
  expect(parameters.map(({ name }: { name: string }) => name)).toEqual([
    "net.2.weight",
    "net.4.weight",
    "net.4.bias",
  ]);
  const P = parameters.reduce((sum: number, { size }: { size: number }) => sum + size, 0);
  const v = Float64Array.from({ length: P }, (_, i) => Math.sin(i));
  const vector = writeVectors(join(folder, "part.npy"), v, [P], "<f8");
  const out = join(folder, "part-out.npy");
  const document = json(
    "product",
    ...subject("mlp_relu"),
    ...["--params", "*.weight", "--params", "net.4.bias", "--exclude", "net.0.*"],
    ...["--vector", vector, "--out", out, "--precision", "float64"],
  );
  expect(document.parameterCount).toBe(P);
  // Within the whole.
  const all = caseOf("mlp_relu");
  const whole = new Float64Array(all.num_params);
  const place = (from: Float64Array, to: Float64Array, back: boolean) => {
    let at = 0;
    for (const { name, size } of parameters) {
      const { offset } = all.parameters.find((parameter) => parameter.name === name)!;
      if (back) to.set(from.subarray(offset, offset + size), at);
      else to.set(from.subarray(at, at + size), offset);
      at += size;
    }
  };
  place(v, whole, false);
  const wholeOut = join(folder, "whole-out.npy");
  json(
    "product",
    ...subject("mlp_relu"),
    ...["--vector", writeVectors(join(folder, "w.npy"), whole, [all.num_params], "<f8")],
    ...["--out", wholeOut, "--precision", "float64"],
  );
  const wanted = new Float64Array(P);
  place(readNpy(wholeOut).values, wanted, true);
  expect(relative(readNpy(out).values, wanted)).toBeLessThan(1e-12);
});

test.each(["LM", "LA", "SA", "BE"])("spectrum --which %s comes in its order", (which) => {
  const document = json(
    "spectrum",
    ...subject("mlp_relu"),
    ...["--which", which, "--k", "5", "--precision", "float64"],
  );
  const values: number[] = document.values;
  const key = { LM: (x: number) => -Math.abs(x), SA: (x: number) => x }[which] ?? ((x) => -x);
  expect(values).toEqual([...values].sort((a, b) => key(a) - key(b)));
  expect(document.converged).toBe(true);
  expect(document.residuals).toHaveLength(5);
  expect(Math.max(...document.residuals)).toBeLessThanOrEqual(1.0001e-9 * 10.04);
  expect(document.products).toBeGreaterThan(5);
  expect(document.parameterCount).toBe(17226);
  expect(document.seconds).toBeGreaterThan(0);
  expect(document.peakBytes).toBeGreaterThan(1e7);
  if (which === "LA") {
    const wanted = caseOf("mlp_relu").hessian_top_eigs.values.slice(0, 5);
    expect(relative(values, wanted)).toBeLessThan(1e-8);
  }
});

test.each(["lanczos", "krylov", "nystrom"])("spectrum --method %s --vectors", (method) => {
  const vectors = join(folder, `${method}.npy`);
  const document = json(
    "spectrum",
    ...subject("mlp_relu"),
    ...["--operator", "ggn", "--method", method, "--k", "3", "--tol", "1e-4"],
    ...["--vectors", vectors, "--precision", "float64"],
  );
  expect(document.method).toBe(method);
  const { shape, values } = readNpy(vectors);
  expect(shape).toEqual([3, 17226]);
  // A v = lambda v, by a product of its own.
  const out = join(folder, "Av.npy");
  json(
    "product",
    ...subject("mlp_relu"),
    ...["--operator", "ggn", "--vector", vectors, "--out", out, "--precision", "float64"],
  );
  const products = readNpy(out).values;
  for (let k = 0; k < 3; k++) {
    let square = 0;
    for (let i = k * 17226; i < (k + 1) * 17226; i++)
      square += (products[i]! - document.values[k] * values[i]!) ** 2;
    expect(Math.abs(Math.sqrt(square) - document.residuals[k])).toBeLessThan(1e-10);
  }
});

test("spectrum for people: values, residuals, the trace, and where the split lies", () => {
  const { status, out, err } = cli(
    "spectrum",
    ...subject("mlp_relu"),
    ...["--k", "4", "--trace", "8"],
  );
  expect(status).toBe(0);
  expect(err).toBe("");
  expect(out).toContain("17,226 parameters, 256 samples, float32");
  expect(out).toContain("The Gauss-Newton split lies");
  expect(out).toMatch(/eigenvalue +\+- +residual +share of trace/);
  expect(out).toMatch(/1 +10\.030\d +\d\.\de-\d+ +\d\.\de-\d+ +\d+\.\d %/);
  expect(out).toMatch(/trace \S+, standard error \S+, from 8 random products/);
});

test("not converged: exit 4, and the results are there all the same", () => {
  const vectors = join(folder, "unfinished.npy");
  const { status, out } = cli(
    "spectrum",
    ...subject("mlp_relu"),
    ...["--k", "8", "--which", "SA", "--tol", "1e-12", "--max-products", "30"],
    ...["--precision", "float64", "--vectors", vectors, "--json"],
  );
  expect(status).toBe(4);
  const document = JSON.parse(out);
  expect(document.converged).toBe(false);
  expect(document.reason).not.toBe("");
  expect(document.values).toHaveLength(8);
  expect(document.products).toBeLessThanOrEqual(30);
  expect(readNpy(vectors).shape).toEqual([8, 17226]);
});

test("seed, draws, threads and batch reach the core", () => {
  const run = (...args: string[]) =>
    json(
      "spectrum",
      ...subject("mlp_relu"),
      ...["--operator", "fisher-mc", "--k", "2", "--precision", "float64", ...args],
    );
  const one = run("--seed", "1");
  const two = run("--seed", "2");
  expect(relative(one.values, two.values)).toBeGreaterThan(1e-4);
  const threads = run("--seed", "1", "--threads", "1", "--batch", "128");
  expect(threads.threads).toBe(1);
  expect(threads.batch).toBe(128);
  expect(relative(threads.values, one.values)).toBeLessThan(1e-10);
  expect(relative(run("--seed", "1", "--draws", "9").values, one.values)).toBeGreaterThan(1e-4);
});

test("scale, normalisation and samples reach the data", () => {
  const loss = (...args: string[]) => {
    const vector = writeVectors(join(folder, "z.npy"), new Float64Array(17226), [17226], "<f8");
    return json("product", ...subject("mlp_relu"), "--vector", vector, ...args).loss;
  };
  const plain = loss();
  expect(loss("--scale", "2/2")).toBe(plain);
  expect(loss("--normalize", "0/1")).toBe(plain);
  expect(Math.abs(loss("--scale", "1/2") - plain)).toBeGreaterThan(1e-3);
  expect(Math.abs(loss("--scale", "1/2") - loss("--normalize", "0/2"))).toBeLessThan(1e-6);
  expect(loss("--samples", "100")).not.toBe(plain);
});

test("losses and their options reach the core", () => {
  const vector = writeVectors(join(folder, "z.npy"), new Float64Array(17226), [17226], "<f8");
  const loss = (...args: string[]): number =>
    json(
      "product",
      ...subject("mlp_relu"),
      ...["--vector", vector, "--precision", "float64", ...args],
    ).loss;
  const mean = loss();
  expect(loss("--reduction", "sum") / mean).toBeCloseTo(256, 9);
  const weights = Array.from({ length: 10 }, (_, i) => i + 1).join(",");
  expect(Math.abs(loss("--class-weights", weights) - mean)).toBeGreaterThan(1e-6);
  expect(loss("--label-smoothing", "0.1")).toBeGreaterThan(mean);
  expect(Math.abs(loss("--ignore-index", "3") - mean)).toBeGreaterThan(1e-6);
});

test("verify passes on networks that are right, and says what it did", () => {
  for (const [name, loss] of [
    ["mlp_tanh", "cross-entropy"],
    ["cnn_small", "cross-entropy"],
    ["mlp_mse", "mse"],
    ["resnet_bn", "cross-entropy"],
  ] as const) {
    const document = json("verify", ...subject(name), "--loss", loss, "--samples", "24");
    expect(document.passed).toBe(true);
    expect(document.samples).toBe(24);
    const checks: { identity: string; error: number | null; bar: number; passed: boolean }[] =
      document.checks;
    const done = checks.filter(({ error }) => error !== null).map(({ identity }) => identity);
    expect(done).toEqual(
      expect.arrayContaining([
        "forward = onnxruntime",
        "gradient = differences",
        "H v = differences",
        "hessian: u'Av = v'Au",
        "ggn: A(au + bv) = aAu + bAv",
        "fisher-empirical: same in batches of 8",
        "hessian = ggn + functional",
      ]),
    );
    for (const { error, bar } of checks) if (error !== null) expect(error).toBeLessThan(bar);
  }
});

test("--version, and what runs below", () => {
  const { version } = JSON.parse(readFileSync(join(__dirname, "..", "package.json"), "utf8"));
  expect(cli("--version").out).toBe(`${version}\n`);
  const { out, status } = cli("--version", "--verbose");
  expect(status).toBe(0);
  expect(out).toContain(`eigenscope   ${version}`);
  expect(out).toContain(process.version);
  expect(out).toContain("OpenBLAS");
  expect(out).toMatch(/oneDNN +\S/);
  const hidden = cli.in({ EIGENSCOPE_NO_ONEDNN: "1" })("--version", "--verbose");
  expect(hidden.out).toMatch(/oneDNN +not used: \S/);
});

test.each(["inspect", "product", "spectrum", "verify"])("%s --help has an example", (command) => {
  const { status, out } = cli(command, "--help");
  expect(status).toBe(0);
  expect(out).toContain(`Example:\n  eigenscope ${command} model.onnx`);
});

test("numbers go through a pipe that closes early without a fuss", () => {
  const { err } = cli.shell(
    `"$NODE" "$BIN" inspect ${caseFile("transformer", "model.onnx")} --json | head -c 10`,
  );
  expect(err).toBe("");
});

test("no temporary file is left", () => {
  expect(readdirSync(folder).filter((name) => !/^[\w-]+\.npy$/.test(name))).toEqual([]);
});
