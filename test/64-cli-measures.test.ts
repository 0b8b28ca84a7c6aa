// anisotropy, rank and landscape on the command line: documents, artefacts, what people read, errors.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ggn, hessian, loss, numericalRank } from "../lib";
import { caseFile, openCase, relative } from "./50-helpers";
import { cli, json, readNpy, subject } from "./60-run";
import { dense } from "./support/networks";
import { eigenvalues } from "./support/numbers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-measures-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bias = ["--params", "net.4.bias"];
const small = [...subject("mlp_relu"), ...bias];

/** All eigenvalues of the Gauss-Newton matrix of the last bias. */
async function spectrum(): Promise<number[]> {
  const { model, data } = await openCase("mlp_relu");
  using G = ggn(model, data, { precision: "float64", params: "net.4.bias" });
  return eigenvalues(await dense(G));
}

describe("anisotropy", () => {
  test("exact, with the eigenvalues as an artefact", async () => {
    const wanted = await spectrum();
    const document = json(
      "anisotropy",
      ...small,
      ...["--operator", "ggn", "--precision", "float64", "--out", folder],
    );
    expect(document).toMatchObject({ source: "exact", absolute: false, dim: 10, operator: "ggn" });
    const sum = wanted.reduce((a, b) => a + b);
    const squares = wanted.reduce((a, b) => a + b * b, 0);
    expect(document.participationRatio / (sum ** 2 / squares)).toBeCloseTo(1, 12);
    expect(document.trace / sum).toBeCloseTo(1, 12);
    expect(document.decay.power.r2).toBeGreaterThan(0);
    const values = readNpy(join(folder, "values.npy"));
    expect(values.shape).toEqual([10]);
    expect(relative(values.values, wanted)).toBeLessThan(1e-12);
    expect(JSON.parse(readFileSync(join(folder, "result.json"), "utf8"))).toEqual(document);
  });

  test("estimated when the operator is large, and said so", () => {
    const large = ["--operator", "hessian"];
    expect(json("anisotropy", ...subject("mlp_relu"), ...large, "--k", "2").source).toBe(
      "estimated",
    );
    // 2,560 rows of samples, of 17,226 parameters.
    const few = json("anisotropy", ...subject("mlp_relu"), "--operator", "fisher-type2");
    expect(few).toMatchObject({ source: "exact" });
    const args = ["--operator", "fisher-type2", "--estimate", "--k", "10", "--probes", "8"];
    const document = json("anisotropy", ...subject("mlp_relu"), ...args);
    expect(document.source).toBe("estimated");
    expect(document).not.toHaveProperty("effectiveRank");
    const { value, standardError, interval } = document.participationRatio;
    expect(standardError).toBeGreaterThan(0);
    expect(interval[0]).toBeLessThan(value);
    expect(document.products).toBeLessThan(200);
    const { out } = cli("anisotropy", ...subject("mlp_relu"), ...args);
    expect(out).toMatch(/^estimated, \+- one standard error$/m);
    expect(out).toMatch(/^participation ratio +[\d.]+ \+- [\d.]+$/m);
  });

  test("by layer and by class", () => {
    const layers = json(
      "anisotropy",
      ...subject("mlp_relu"),
      ...["--operator", "ggn", "--by", "layer"],
      ...["--probes", "4", "--k", "5", "--out", folder],
    );
    const csv = readFileSync(join(folder, "groups.csv"), "utf8").trim().split("\n");
    expect(csv).toHaveLength(4);
    expect(csv[0]).toMatch(/^name,size,source,absolute,largest,share,participationRatio,/);
    expect(csv[3]).toMatch(/^"net\.4",650,exact,false,/);
    expect(layers.groups.map((group: { name: string }) => group.name)).toEqual([
      "net.0",
      "net.2",
      "net.4",
    ]);
    const shares = layers.groups.map((group: { share: number }) => group.share);
    expect(shares.reduce((a: number, b: number) => a + b)).toBeCloseTo(1, 12);
    expect(layers.groups[2].source).toBe("exact");
    const units = cli("anisotropy", ...subject("mlp_relu"), "--operator", "ggn", "--by", "unit");
    expect(units.out).toContain("and 142 of smaller share: --json and --out have all of them");
    expect(units.out).toMatch(/^net\.4\[9\] +65 +exact /m);
    const classes = json("anisotropy", ...small, "--by", "class");
    expect(classes.groups).toHaveLength(10);
    expect(classes.groups.reduce((sum: number, g: { samples: number }) => sum + g.samples, 0)).toBe(
      256,
    );
    const renamed = json("anisotropy", ...small, "--by", "class", "--target-name", "z");
    expect(renamed.groups).toEqual(
      classes.groups.map((group: object) => ({ ...group, seconds: expect.any(Number) })),
    );
    const { out } = cli("anisotropy", ...small, "--by", "class");
    expect(out).toMatch(/^class +samples +largest +PR/m);
  });

  test("for people", () => {
    const { status, out } = cli("anisotropy", ...small, "--operator", "hessian");
    expect(status).toBe(0);
    expect(out).toMatch(/^exact, from all 10 eigenvalues/m);
    expect(out).toMatch(/^stable rank of its root +[\d.]+$/m);
    expect(out).toMatch(/^power law i\^-s +s [\d.]+ +0\.\d{4}$/m);
  });
});

describe("rank", () => {
  test("in float64 unless told otherwise, with gap and tolerance", async () => {
    const { model, data } = await openCase("mlp_relu");
    using H = hessian(model, data, { precision: "float64", params: "net.4.bias" });
    const wanted = await numericalRank(H);
    const document = json("rank", ...small, "--out", folder);
    // Adding a number to all logits changes nothing.
    expect(document).toMatchObject({ rank: 9, dim: 10, certain: true, precision: "float64" });
    expect(document.tolerance).toBeCloseTo(wanted.tolerance, 20);
    expect(document.smallestKept / wanted.smallestKept).toBeCloseTo(1, 9);
    expect(document.formula).toBe("max |lambda| * dim * 2^-52");
    expect(
      relative(readNpy(join(folder, "magnitudes.npy")).values, wanted.magnitudes),
    ).toBeLessThan(1e-12);
    const { out } = cli("rank", ...small);
    expect(out).toMatch(/^rank +9 of 10$/m);
    expect(out).toMatch(/^gap between them +.* decades$/m);
    expect(json("rank", ...small, "--tol", "0.9").rank).toBe(1);
    expect(json("rank", ...small, "--relative-to", "1e30").rank).toBe(0);
  });

  test("by counting, with an interval", () => {
    const args = ["--params", "net.4.*", "--operator", "ggn"];
    const whole = json("rank", ...subject("mlp_relu"), ...args, "--tol", "1e-4").rank;
    const found = json("rank", ...subject("mlp_relu"), ...args, "--count", "--probes", "8");
    expect(found).toMatchObject({ source: "estimated", dim: 650, products: 512 });
    expect(found.interval[0]).toBeLessThanOrEqual(whole);
    expect(found.interval[1]).toBeGreaterThanOrEqual(whole);
    const { out } = cli("rank", ...small, "--count");
    expect(out).toMatch(/^bounds of the quadrature +[\d.]+ to [\d.]+$/m);
  });

  test("float32 is refused", () => {
    const { status, err } = cli("rank", ...small, "--precision", "float32");
    expect(status).toBe(2);
    expect(err).toContain("--precision: expected float64 for a rank, got float32");
  });
});

describe("landscape", () => {
  const points = ["--points", "5"];

  test("along an eigenvector, kept and gone on with", async () => {
    const args = [...small, ...points, "--range", "-0.1,0.1", "--precision", "float64"];
    const document = json("landscape", ...args, "--out", folder);
    expect(document).toMatchObject({ kind: "line", evaluated: 5, reused: 0 });
    expect(document.steps).toEqual([-0.1, -0.05, 0, 0.05, 0.1]);
    const { model, data } = await openCase("mlp_relu");
    expect(document.losses[2] / (await loss(model, data, { precision: "float64" }))).toBeCloseTo(
      1,
      12,
    );
    const lambda = Number(/lambda ([\d.e-]+)/.exec(document.directions[0])![1]);
    expect(document.quadratic.curvature / lambda).toBeCloseTo(1, 4);
    const again = json("landscape", ...args, "--out", folder);
    expect(again).toMatchObject({ evaluated: 0, reused: 5 });
    expect(again.losses).toEqual(document.losses);
    expect(readFileSync(join(folder, "line.csv"), "utf8")).toMatch(/^step,loss,quadratic\n-0\.1,/);
    const other = cli("landscape", ...args, "--out", folder, "--points", "7");
    expect(other.status).toBe(2);
    expect(other.err).toContain("holds points of another landscape");
  });

  test("over a random plane", () => {
    const args = ["--direction", "random", "--plane", "--biases", "--out", folder];
    const document = json("landscape", ...subject("cnn_small"), ...args, "--points", "3");
    expect(document.kind).toBe("plane");
    expect(document.directions).toEqual(["random (seed 0)", "random (seed 1)"]);
    expect(document.losses).toHaveLength(9);
    expect(readNpy(join(folder, "losses.npy")).shape).toEqual([3, 3]);
    const rows = readFileSync(join(folder, "plane.csv"), "utf8").trim().split("\n");
    expect(rows).toHaveLength(10);
    expect(rows[6]!.split(",").slice(0, 3).map(Number)).toEqual([0, 1, document.losses[5]]);
    const { out } = cli("landscape", ...subject("cnn_small"), ...args, "--points", "3");
    expect(out).toContain("9 points were there, 0 are new");
    expect(out).toMatch(/^ 0 \|.{6}\|$/m);
  });

  test("to a checkpoint: the barrier", () => {
    const model = caseFile("mlp_relu", "model.onnx");
    const to = ["--direction", caseFile("mlp_tanh", "model.onnx"), "--no-quadratic", ...points];
    const document = json("landscape", ...subject("mlp_relu"), ...to);
    expect(document.kind).toBe("interpolation");
    expect(document.steps).toEqual([0, 0.25, 0.5, 0.75, 1]);
    const above = document.losses.map(
      (value: number, i: number) =>
        value - (1 - i / 4) * document.losses[0] - (i / 4) * document.losses[4],
    );
    expect(document.barrier).toBeCloseTo(Math.max(0, ...above), 12);
    const self = cli("landscape", ...subject("mlp_relu"), "--direction", model, ...points);
    expect(self.out).toContain("no barrier: the loss is nowhere above the chord");
  });

  test("along vectors of a file", () => {
    const vectors = caseFile("mlp_tanh", "v.npy");
    const args = ["--direction", vectors, "--points", "2", "--range", "-1e-3,1e-3"];
    const document = json("landscape", ...subject("mlp_tanh"), ...args);
    expect(document.directions).toEqual([`${vectors} row 0`]);
    const refused = cli("landscape", ...small, "--direction", vectors);
    expect(refused.status).toBe(2);
    expect(refused.err).toMatch(
      /expected .*v.npy to have the shape \(10,\) or \(K, 10\), got \(3, /,
    );
  });
});

test.each([
  [["landscape", ...small, "--direction", "up"], "expected eigenvectors, random, a checkpoint"],
  [
    ["landscape", ...small, "--direction", "random", "--direction", "random"],
    "expected one direction; with --plane two, got 2",
  ],
  [["landscape", ...small, "--range", "1,0"], "--range: expected FIRST,LAST with FIRST < LAST"],
  [["landscape", ...small, "--eigenvector", "11"], "--eigenvector: expected 1 to 10, got 11"],
  [["landscape", ...small, "--points", "1"], "--points: expected a whole number of at least 2"],
  [["anisotropy", ...small, "--exact", "--estimate"], "expected one of them, got both"],
  [["anisotropy", ...small, "--by", "row"], "--by: expected one of tensor, layer, unit, class"],
  [["rank", ...small, "--probes", "4"], "--probes: expected it with --count only"],
  [
    ["rank", ...small, "--count", "--relative-to", "1"],
    "--relative-to: expected it without --count",
  ],
  [["rank", ...small, "--tol", "-1"], "--tol: expected a number of at least 0"],
])("%p is refused", (args, text) => {
  const { status, err } = cli(...args);
  expect(err).toContain(text);
  expect(status).toBe(2);
});
