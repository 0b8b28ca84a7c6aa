// eigenscope kfac: documents, artefacts, what people read, errors.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kfac } from "../lib";
import { openCase, relative } from "./50-helpers";
import { cli, json, readNpy, subject } from "./60-run";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-kfac-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("the document agrees with the API, and the artefacts make the operator", async () => {
  const document = json(
    "kfac",
    ...subject("mlp_relu"),
    ...["--precision", "float64", "--damping", "1e-3", "--out", folder],
  );
  const { model, data } = await openCase("mlp_relu");
  using op = await kfac(model, data, { precision: "float64" });
  expect(document).toMatchObject({
    operator: "kfac (type-2)",
    type: "type-2",
    sharing: "expand",
    corrected: false,
    parameterCount: model.parameterCount,
    samples: 256,
    split: "at the output",
    damping: 1e-3,
    sign: 1,
  });
  expect(document.trace).toBeCloseTo(await op.trace(), 12);
  expect(document.logDeterminant).toBeCloseTo((await op.logDeterminant(1e-3)).value, 6);
  const blocks = document.blocks as { name: string; files: string; trace: number }[];
  expect(blocks.map(({ name }) => name)).toEqual(model.parameters.map(({ name }) => name));

  const values = readNpy(join(folder, "eigenvalues.npy"));
  expect(values.shape).toEqual([model.parameterCount]);
  expect(relative(values.values, (await op.eigenvalues()).values)).toBeLessThan(1e-10);
  const of = (matrix: string) => readNpy(join(folder, `net.4.weight.${matrix}.npy`));
  const [A, B] = [of("A"), of("B")];
  expect([A.shape, B.shape]).toEqual([
    [64, 64],
    [10, 10],
  ]);
  const trace = ({ shape, values }: typeof A) =>
    Array.from({ length: shape[0]! }, (_, i) => values[i * (shape[0]! + 1)]!).reduce(
      (sum, x) => sum + x,
    );
  const last = blocks.find(({ name }) => name === "net.4.weight")!;
  expect((trace(A) * trace(B)) / last.trace).toBeCloseTo(1, 10);
  expect(readdirSync(folder)).toContain("net.0.bias.matrix.npy");
});

test("corrected and joint: bases and eigenvalues of a layer, under a name that a file can have", () => {
  const { blocks } = json(
    "kfac",
    ...subject("cnn_small"),
    ...["--corrected", "--joint", "--type", "mc", "--draws", "2", "--samples", "50"],
    ...["--out", folder],
  );
  expect(blocks[1]).toMatchObject({
    name: "conv2.weight + conv2.bias",
    kind: "eigen",
    size: 32 * 145,
    files: "conv2.weight_conv2.bias",
  });
  const { shape } = readNpy(join(folder, `${blocks[1].files}.values.npy`));
  expect(shape).toEqual([32, 145]);
});

test("people read a row a block", () => {
  const { status, out } = cli("kfac", ...subject("mlp_relu"), "--damping", "0.01");
  expect(status).toBe(0);
  expect(out).toMatch(/^kfac \(type-2\) of .*model.onnx: 17,226 parameters, 256 samples, float32/);
  expect(out).toMatch(/net\.0\.weight {2}kronecker {2}8,192/);
  expect(out).toMatch(/net\.4\.bias {4}dense/);
  expect(out).toMatch(/log det \(A \+ 0\.01 I\) = -\d+/);
});

test("tensors without a layer: an error that names them, exit code 2, and the way out", () => {
  const failed = cli("kfac", ...subject("resnet_bn"));
  expect(failed.status).toBe(2);
  expect(failed.err).toMatch(/bn\.weight: it scales other values/);
  const { blocks } = json("kfac", ...subject("resnet_bn"), "--others", "diagonal");
  expect(blocks.find(({ name }: { name: string }) => name === "bn.weight").kind).toBe("diagonal");
});

test("options that do not fit", () => {
  const draws = cli("kfac", ...subject("mlp_relu"), "--draws", "3");
  expect(draws.status).toBe(2);
  expect(draws.err).toMatch(/--draws belongs to --type mc, got --type type-2/);
  expect(cli("kfac", ...subject("mlp_relu"), "--sharing", "all").err).toMatch(/expand, reduce/);
});
