/** Networks with operators that are not supported: one error that lists every such node. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type DataSet, loadData } from "../lib/data/data";
import { type EigenscopeError, OPERATORS_PAGE, UnsupportedOperatorError } from "../lib/errors";
import { loadModel } from "../lib/model/model";
import { forward, ggn, gradient, hessian, loss } from "../lib/operators";
import { modelBytes, node, value } from "./10-model-maker";

let data: DataSet;
beforeAll(async () => {
  data = await loadData({
    x: { data: Float32Array.from({ length: 8 }, (_, i) => i / 8), shape: [2, 4] },
    y: { data: Float32Array.from({ length: 8 }, (_, i) => -i / 8), shape: [2, 4] },
  });
});
afterAll(() => data.dispose());

async function errorOf(attempt: () => unknown): Promise<EigenscopeError> {
  try {
    await attempt();
  } catch (error) {
    return error as EigenscopeError;
  }
  throw new Error("expected an error");
}

/** Refused by name, domain, opset, attribute and output; and two that are not needed. */
const REFUSED = modelBytes({
  opset: 13,
  domains: [{ domain: "org.example", version: 1n }],
  nodes: [
    node("MatMul", ["x", "w"], ["a"]),
    node("NonMaxSuppression", ["a"], ["b"], {}, { name: "head/nms" }),
    node("Relu", ["b"], ["c"]),
    node("Gelu", ["c"], ["d"], {}, { name: "" }),
    node("FusedMatMul", ["d", "w"], ["e"], {}, { domain: "org.example", name: "fused" }),
    node("NonMaxSuppression", ["e"], ["f"], {}, { name: "head/again" }),
    node("Cast", ["f"], ["g"], { to: 8n }, { name: "to string" }),
    node("MaxPool", ["g"], ["h", "places"], { kernel_shape: [1n] }, { name: "pool" }),
    node("Cast", ["places"], ["i"], { to: 1n }),
    node("Add", ["h", "i"], ["out"]),
    node("Quux", ["x"], ["unneeded"], {}, { name: "unneeded" }),
  ],
  outputs: [value("out", ["batch", 4])],
});

const NODES = [
  ["NonMaxSuppression", "head/nms", "no lowering"],
  ["Gelu", "d", "opset 13"],
  ["org.example.FusedMatMul", "fused", "domain org.example"],
  ["NonMaxSuppression", "head/again", "no lowering"],
  ["Cast", "to string", "element type 8"],
  ["MaxPool", "pool", "output 1"],
] as const;

test("loading lists every node that the output needs, in order, and why", async () => {
  using model = await loadModel(REFUSED, { loss: "mse" });
  expect(model.unsupported.map(({ op, node }) => [op, node])).toEqual(
    NODES.map(([op, node]) => [op, node]),
  );
  NODES.forEach(([, , reason], i) => {
    expect(model.unsupported[i]!.reason).toContain(reason);
  });
  // It can still be looked at.
  expect(model.operators.NonMaxSuppression).toBe(2);
  expect(model.outputs.map(({ name }) => name)).toEqual(["out"]);
});

test.each([
  ["hessian", hessian],
  ["ggn", ggn],
  ["gradient", gradient],
  ["loss", loss],
  ["forward", forward],
] as const)("%s throws one error with all of them", async (_, make) => {
  using model = await loadModel(REFUSED, { loss: "mse" });
  const error = await errorOf(() => make(model, data));
  expect(error).toBeInstanceOf(UnsupportedOperatorError);
  expect(error.exitCode).toBe(3);
  expect((error as UnsupportedOperatorError).operators).toEqual(model.unsupported);
  for (const [op, node] of NODES) expect(error.message).toContain(`"${node}" (${op}): `);
  expect(error.message).not.toContain("unneeded");
  expect(error.message.split("\n").at(-1)).toBe(`What is supported: ${OPERATORS_PAGE}`);
});

test("the page that the error names is in the package, and has the operators' limits", () => {
  const root = join(__dirname, "..");
  const { name, files } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const inPackage = OPERATORS_PAGE.replace(`node_modules/${name}/`, "");
  expect(files).toContain(`${inPackage.split("/")[0]}/`);
  const page = readFileSync(join(root, inPackage), "utf8");
  for (const op of ["MaxPool", "Cast", "com.microsoft.FusedMatMul"])
    expect(page).toContain(`\n| ${op} |`);
});

test("what only the shapes show comes with the first product, all of it as well", async () => {
  const bytes = modelBytes({
    nodes: [
      node("MatMul", ["x", "w"], ["a"]),
      node("Cast", ["a"], ["n"], { to: 7n }),
      node("Reshape", ["a", "n"], ["b"], {}, { name: "by data" }),
      node("NonZero", ["a"], ["c"], {}, { name: "places" }),
      node("Add", ["b", "c"], ["d"]),
      node("Tile", ["a", "n"], ["e"], {}, { name: "repeats" }),
      node("Sum", ["d", "e"], ["y"]),
    ],
  });
  using model = await loadModel(bytes, { loss: "mse" });
  expect(model.unsupported).toEqual([]);
  using operator = hessian(model, data);
  const error = await errorOf(() => operator.apply(new Float32Array(operator.dim)));
  expect(error).toBeInstanceOf(UnsupportedOperatorError);
  expect((error as UnsupportedOperatorError).operators.map(({ op, node }) => [op, node])).toEqual([
    ["Reshape", "by data"],
    ["NonZero", "places"],
    ["Tile", "repeats"],
  ]);
  expect(error.message).toContain("depends on data or parameters");
});

test("a path that is not taken does not count", async () => {
  const nodes = [
    node("MatMul", ["x", "w"], ["y"]),
    node("NonMaxSuppression", ["y"], ["boxes"], {}, { name: "nms" }),
  ];
  const outputs = [value("y", ["batch", 4]), value("boxes", ["batch", 4])];
  using model = await loadModel(modelBytes({ nodes, outputs }), { loss: "mse", output: "y" });
  expect(model.unsupported).toEqual([]);
  expect((await forward(model, data, { samples: 1 })).shape).toEqual([1, 4]);
  using other = await loadModel(modelBytes({ nodes, outputs }), { loss: "mse", output: "boxes" });
  expect(other.unsupported.map(({ node }) => node)).toEqual(["nms"]);
});
