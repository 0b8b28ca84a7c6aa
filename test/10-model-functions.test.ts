// Local functions: calls are written out, with names, attributes and nesting as ONNX defines them.
import { ModelFormatError } from "../lib/errors";
import { decodeModel } from "../lib/model/decode";
import { loadModel } from "../lib/model/model";
import type { NodeDescription } from "../lib/native";
import { floats, fn, modelBytes, node, type Parts, referring, value } from "./10-model-maker";

const decode = (parts: Parts) => decodeModel(modelBytes(parts), "model", undefined).description;
const call = (op: string, input: string[], output: string[], attributes = {}, fields = {}) =>
  node(op, input, output, attributes, { domain: "local", ...fields });

/** Follows a value back to the graph's inputs and initializers: "MatMul(Relu(x), w)". */
function expression(nodes: NodeDescription[], name: string): string {
  const maker = nodes.find(({ outputs }) => outputs.includes(name));
  if (!maker) return name || "-";
  const at = maker.outputs.indexOf(name);
  const inputs = maker.inputs.map((input) => expression(nodes, input)).join(", ");
  return `${maker.op}${at > 0 ? `#${at}` : ""}(${inputs})`;
}

test("a call is replaced by the function's nodes, names kept apart", () => {
  const { nodes } = decode({
    functions: [
      fn(
        "Block",
        ["a", "b"],
        ["out"],
        [node("MatMul", ["a", "b"], ["h"]), node("Relu", ["h"], ["out"])],
      ),
    ],
    nodes: [call("Block", ["x", "w"], ["h"]), call("Block", ["h", "w"], ["y"])],
  });
  expect(nodes.map(({ op }) => op)).toEqual(["MatMul", "Relu", "MatMul", "Relu"]);
  expect(expression(nodes, "y")).toBe("Relu(MatMul(Relu(MatMul(x, w)), w))");
  // The graph's own h and the functions' two are three values.
  const outputs = nodes.flatMap((n) => n.outputs);
  expect(new Set(outputs).size).toBe(4);
  expect(outputs).toContain("h");
});

test("a made-up name that the graph has already is not taken", () => {
  const { nodes } = decode({
    functions: [fn("F", ["a"], ["b"], [node("Relu", ["a"], ["t"]), node("Tanh", ["t"], ["b"])])],
    nodes: [
      call("F", ["x"], ["m"], {}, { name: "f" }),
      node("Exp", ["m"], ["f/t"]),
      node("MatMul", ["f/t", "w"], ["y"]),
    ],
  });
  expect(expression(nodes, "y")).toBe("MatMul(Exp(Tanh(Relu(x))), w)");
});

test("functions call functions", async () => {
  const parts: Parts = {
    functions: [
      fn(
        "Outer",
        ["a", "b"],
        ["c"],
        [call("Inner", ["a"], ["t"]), node("MatMul", ["t", "b"], ["c"])],
      ),
      fn("Inner", ["a"], ["c"], [node("Relu", ["a"], ["t"]), node("Tanh", ["t"], ["c"])]),
    ],
    nodes: [call("Outer", ["x", "w"], ["t"]), call("Inner", ["t"], ["y"])],
  };
  const { nodes } = decode(parts);
  expect(expression(nodes, "y")).toBe("Tanh(Relu(MatMul(Tanh(Relu(x)), w)))");
  const model = await loadModel(modelBytes(parts));
  expect(model.operators).toEqual({ Relu: 2, Tanh: 2, MatMul: 1 });
  expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
  expect(model.unsupported).toEqual([]);
  model.dispose();
});

test("attributes: the call's, the function's default, or none", () => {
  const body = () => [
    referring(node("LeakyRelu", ["a"], ["t"]), { alpha: "slope" }),
    referring(node("Elu", ["t"], ["b"], {}), { alpha: "other" }),
  ];
  const { nodes } = decode({
    functions: [fn("F", ["a"], ["b"], body(), { defaults: { slope: 0.25 } })],
    nodes: [
      call("F", ["x"], ["h"], { slope: 0.5, other: 2 }),
      call("F", ["h"], ["i"]),
      node("MatMul", ["i", "w"], ["y"]),
    ],
  });
  const alpha = (i: number) => nodes[i]!.attributes.alpha?.floats?.[0];
  expect([alpha(0), alpha(1), alpha(2), alpha(3)]).toEqual([0.5, 2, 0.25, undefined]);
});

test("references pass through nested calls", () => {
  const { nodes } = decode({
    functions: [
      fn("Outer", ["a"], ["b"], [referring(call("Inner", ["a"], ["b"]), { slope: "outer" })]),
      fn("Inner", ["a"], ["b"], [referring(node("LeakyRelu", ["a"], ["b"]), { alpha: "slope" })]),
    ],
    nodes: [call("Outer", ["x"], ["h"], { outer: 0.125 }), node("MatMul", ["h", "w"], ["y"])],
  });
  expect(nodes[0]!.attributes).toEqual({ alpha: { floats: Float64Array.of(0.125) } });
});

test("absent inputs and outputs", () => {
  const { nodes } = decode({
    functions: [
      fn(
        "F",
        ["a", "low", "high"],
        ["first", "second"],
        [node("Clip", ["a", "low", "high"], ["first"]), node("Relu", ["first"], ["second"])],
      ),
    ],
    nodes: [call("F", ["x"], ["", "h"]), node("MatMul", ["h", "w"], ["y"])],
  });
  expect(expression(nodes, "y")).toBe("MatMul(Relu(Clip(x, -, -)), w)");
});

test("an output that is an input, and one that is named twice", () => {
  const { nodes } = decode({
    functions: [
      fn("Same", ["a"], ["a"], []),
      fn("Twice", ["a"], ["b", "b"], [node("Relu", ["a"], ["b"])]),
    ],
    nodes: [
      call("Same", ["x"], ["h"]),
      call("Twice", ["h"], ["i", "j"]),
      node("Add", ["i", "j"], ["k"]),
      node("MatMul", ["k", "w"], ["y"]),
    ],
  });
  expect(expression(nodes, "y")).toBe(
    "MatMul(Add(Relu(Identity(x)), Identity(Relu(Identity(x)))), w)",
  );
});

test("overloads and domains tell functions apart", () => {
  const { nodes } = decode({
    functions: [
      fn("F", ["a"], ["b"], [node("Relu", ["a"], ["b"])]),
      fn("F", ["a"], ["b"], [node("Tanh", ["a"], ["b"])], { overload: "tanh" }),
      fn("F", ["a"], ["b"], [node("Exp", ["a"], ["b"])], { domain: "other" }),
    ],
    nodes: [
      call("F", ["x"], ["h"]),
      call("F", ["h"], ["i"], {}, { overload: "tanh" }),
      call("F", ["i"], ["j"], {}, { domain: "other" }),
      node("MatMul", ["j", "w"], ["y"]),
    ],
  });
  expect(expression(nodes, "y")).toBe("MatMul(Exp(Tanh(Relu(x))), w)");
});

test("weights inside a function are parameters under names of their own", async () => {
  const weight = node("Constant", [], ["weight"], { value: floats("", [4, 4]) });
  const model = await loadModel(
    modelBytes({
      initializers: [],
      functions: [fn("F", ["a"], ["b"], [weight, node("MatMul", ["a", "weight"], ["b"])])],
      nodes: [
        call("F", ["x"], ["h"], {}, { name: "one" }),
        call("F", ["h"], ["y"], {}, { name: "two" }),
      ],
    }),
  );
  expect(model.parameters.map(({ name }) => name)).toEqual(["one/weight", "two/weight"]);
  expect(model.parameterCount).toBe(32);
  model.dispose();
});

test("a function that is not there is an operator that is not supported", async () => {
  const model = await loadModel(modelBytes({ nodes: [call("Missing", ["x", "w"], ["y"])] }));
  expect(model.unsupported.map(({ node }) => node)).toEqual(["Missing_y"]);
  model.dispose();
});

describe("functions that cannot be written out", () => {
  const relu = (a: string, b: string) => node("Relu", [a], [b]);
  // Each calls the next twice: 2^40 nodes.
  const bomb = Array.from({ length: 40 }, (_, i) =>
    fn(`F${i}`, ["a"], ["b"], [call(`F${i + 1}`, ["a"], ["t"]), call(`F${i + 1}`, ["t"], ["b"])]),
  );
  const chain = Array.from({ length: 150 }, (_, i) =>
    fn(`F${i}`, ["a"], ["b"], [call(`F${i + 1}`, ["a"], ["b"])]),
  );
  test.each([
    [
      "one calls itself",
      [fn("F0", ["a"], ["b"], [call("F0", ["a"], ["b"])])],
      "function local.F0 calls itself",
    ],
    [
      "two call each other",
      [
        fn("F0", ["a"], ["b"], [call("F1", ["a"], ["b"])]),
        fn("F1", ["a"], ["b"], [call("F0", ["a"], ["b"])]),
      ],
      "calls itself",
    ],
    [
      "an output is not produced",
      [fn("F0", ["a"], ["b"], [relu("a", "c")])],
      "does not produce its output b",
    ],
    [
      "a value comes from nowhere",
      [fn("F0", ["a"], ["b"], [relu("z", "b")])],
      "which nothing produces",
    ],
    [
      "another version of ONNX",
      [fn("F0", ["a"], ["b"], [relu("a", "b")], { opset: 12 })],
      "is written for version 12 of the ONNX operators, the model for 17",
    ],
    [
      "growth without bound",
      [...bomb, fn("F40", ["a"], ["b"], [relu("a", "b")])],
      "more than 1000000 nodes",
    ],
    ["a very deep chain", [...chain, fn("F150", ["a"], ["b"], [relu("a", "b")])], "100 deep"],
  ])("%s", (_, functions, message) => {
    const bytes = modelBytes({
      functions,
      nodes: [call("F0", ["x"], ["y"])],
      outputs: [value("y", null)],
    });
    expect(() => decodeModel(bytes, "model", undefined)).toThrow(ModelFormatError);
    expect(() => decodeModel(bytes, "model", undefined)).toThrow(message);
  });
});
