/** If, Loop and Scan: written out when a model is read, and refused with the reason where not. */
import { type DataSet, loadData } from "../lib/data/data";
import { ModelFormatError, UnsupportedOperatorError } from "../lib/errors";
import { decodeModel } from "../lib/model/decode";
import { loadModel } from "../lib/model/model";
import type { NodeProto } from "../lib/model/onnx_pb";
import { forward, gradient, hessian } from "../lib/operators";
import { body, DataType, floats, fn, modelBytes, node, type Parts, tensor } from "./10-model-maker";

const SAMPLES = 3;
const X = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.sin(i + 1));
let data: DataSet;
beforeAll(async () => {
  const y = Float32Array.from({ length: 4 * SAMPLES }, (_, i) => Math.cos(i));
  data = await loadData({
    x: { data: X, shape: [SAMPLES, 4] },
    y: { data: y, shape: [SAMPLES, 4] },
  });
});
afterAll(() => data.dispose());

const int = (name: string, at: number, dims: number[] = []) =>
  tensor(name, dims, { dataType: DataType.INT64, int64Data: [BigInt(at)] });
const bool = (name: string, at: boolean) =>
  tensor(name, [], { dataType: DataType.BOOL, int32Data: [Number(at)] });
const W = floats("w", [4, 4], [2, -1, 0.5, 0, 1, 0.25, -2, 1, 0, 1, 1, -1, 0.5, 0, -1, 1]);
const F64 = { precision: "float64", threads: 1 } as const;

async function outputOf(parts: Parts): Promise<number[]> {
  using model = await loadModel(modelBytes(parts), { loss: "mse" });
  return Array.from((await forward(model, data, F64)).values);
}

/** The same network written without control flow. */
const same = async (parts: Parts, nodes: NodeProto[], initializers = [W]) =>
  expect(await outputOf(parts)).toEqual(await outputOf({ nodes, initializers }));

/** hit is whether x has as many columns as `length`. */
const measured = [
  node("Shape", ["x"], ["shape"]),
  node("Gather", ["shape", "one"], ["columns"]),
  node("Equal", ["columns", "length"], ["hit"]),
];
const branchNode = (then: ReturnType<typeof body>, other: ReturnType<typeof body>, hit = "hit") =>
  node("If", [hit], ["y"], { then_branch: then, else_branch: other }, { name: "choice" });

describe("If", () => {
  const product = body([node("MatMul", ["x", "w"], ["t"])], ["t"]);
  const strange = body([node("Quux", ["x"], ["u"])], ["u"]);
  const misfit = body([node("MatMul", ["w", "x"], ["t"]), node("Quux", ["t"], ["u"])], ["u"]);

  test.each([4, 5])("takes the branch that the shapes choose (%i columns)", async (length) => {
    const branches = length === 4 ? ([product, misfit] as const) : ([misfit, product] as const);
    const parts = {
      nodes: [...measured, branchNode(...branches)],
      initializers: [W, int("one", 1), int("length", length)],
    };
    await same(parts, [node("MatMul", ["x", "w"], ["y"])]);
    using model = await loadModel(modelBytes(parts), { loss: "mse" });
    expect(model.unsupported).toEqual([]);
    expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
  });

  test("within If, with a branch that only hands on a value of outside", async () => {
    const inner = branchNode(body([], ["h"]), misfit, "hit");
    const outer = node("If", ["yes"], ["y"], {
      then_branch: body([node("Relu", ["x"], ["h"]), { ...inner, output: ["y2"] }], ["y2"]),
      else_branch: misfit,
    });
    const parts = {
      nodes: [...measured, outer],
      initializers: [W, int("one", 1), int("length", 4), bool("yes", true)],
    };
    expect(await outputOf(parts)).toEqual(Array.from(X, (v) => Math.max(v, 0)));
  });

  test("a condition on data is refused, and the node that takes what it gives passed over", async () => {
    const parts = {
      nodes: [
        node("ReduceSum", ["x"], ["sum"], { keepdims: 0n }),
        node("Greater", ["sum", "zero"], ["hit"]),
        branchNode(product, body([node("Relu", ["x"], ["t"])], ["t"])),
      ],
      initializers: [W, floats("zero", [], [0])],
    };
    using model = await loadModel(modelBytes(parts), { loss: "mse" });
    const attempt = gradient(model, data);
    await expect(attempt).rejects.toBeInstanceOf(UnsupportedOperatorError);
    await expect(attempt).rejects.toThrow(
      '"choice" (If): its condition ("hit") depends on data or parameters',
    );
  });

  test("an operator of the branch that is taken is refused by its name", async () => {
    const parts = {
      nodes: [...measured, branchNode(strange, product)],
      initializers: [W, int("one", 1), int("length", 4)],
    };
    using model = await loadModel(modelBytes(parts), { loss: "mse" });
    await expect(gradient(model, data)).rejects.toThrow(
      '"choice/then/Quux_u" (Quux): no lowering exists',
    );
  });

  test("in a local function, with what it takes from the function", async () => {
    const inside = [
      node("Relu", ["a"], ["r"]),
      node("If", ["c"], ["b"], {
        then_branch: body([node("MatMul", ["r", "m"], ["t"])], ["t"]),
        else_branch: body([node("Neg", ["r"], ["t"])], ["t"]),
      }),
    ];
    const parts = {
      functions: [fn("F", ["a", "m", "c"], ["b"], inside)],
      nodes: [node("F", ["x", "w", "yes"], ["y"], {}, { domain: "local" })],
      initializers: [W, bool("yes", true)],
    };
    await same(parts, [node("Relu", ["x"], ["r"]), node("MatMul", ["r", "w"], ["y"])]);
  });
});

describe("Loop", () => {
  const step = (inner: NodeProto[] = [], stored: ReturnType<typeof floats>[] = []) =>
    body(
      [
        ...inner,
        node("MatMul", ["h", "w"], ["m"]),
        node("Tanh", ["m"], ["next"]),
        node("Identity", ["going"], ["goes"]),
      ],
      ["goes", "next"],
      ["round", "going", "h"],
      stored,
    );
  const loop = (graph: ReturnType<typeof body>, inputs = ["times", "", "x"]) =>
    node("Loop", inputs, ["y"], { body: graph }, { name: "repeat" });
  const twice = [
    node("MatMul", ["x", "w"], ["a"]),
    node("Tanh", ["a"], ["b"]),
    node("MatMul", ["b", "w"], ["c"]),
    node("Tanh", ["c"], ["y"]),
  ];

  test("of a stored number of rounds, with a weight of outside or of its own", async () => {
    await same({ nodes: [loop(step())], initializers: [W, int("times", 2)] }, twice);
    const own = { nodes: [loop(step([], [W]))], initializers: [int("times", 2, [1])] };
    await same(own, twice);
    using model = await loadModel(modelBytes(own), { loss: "mse" });
    expect(model.parameters.map(({ name }) => name)).toEqual(["w"]);
    using whole = await loadModel(modelBytes({ nodes: twice, initializers: [W] }), {
      loss: "mse",
    });
    using H = hessian(model, data, F64);
    using wanted = hessian(whole, data, F64);
    const v = Float64Array.from({ length: 16 }, (_, i) => Math.sin(i));
    expect(Array.from(await H.apply(v))).toEqual(Array.from(await wanted.apply(v)));
  });

  test("no round, a condition that is false, a trip count behind casts", async () => {
    const nothing = { nodes: [loop(step())], initializers: [W, int("times", 0)] };
    expect(await outputOf(nothing)).toEqual(Array.from(X));
    const off = {
      nodes: [loop(step(), ["times", "off", "x"])],
      initializers: [W, int("times", 2), bool("off", false)],
    };
    expect(await outputOf(off)).toEqual(Array.from(X));
    const cast = {
      nodes: [node("Cast", ["number"], ["times"], { to: 7n }), loop(step())],
      initializers: [W, tensor("number", [], { dataType: DataType.INT32, int32Data: [2] })],
    };
    await same(cast, twice);
  });

  test("around an If on the number of the round", async () => {
    const choice = node("If", ["first"], ["k"], {
      then_branch: body([node("Neg", ["h"], ["t"])], ["t"]),
      else_branch: body([node("Relu", ["h"], ["t"])], ["t"]),
    });
    const graph = body(
      [node("Equal", ["round", "zero"], ["first"]), choice, node("Identity", ["going"], ["goes"])],
      ["goes", "k"],
      ["round", "going", "h"],
      [int("zero", 0)],
    );
    const parts = { nodes: [loop(graph)], initializers: [int("times", 2)] };
    expect(await outputOf(parts)).toEqual(Array.from(X, (v) => Math.max(-v, 0)));
  });

  test.each<[string, Parts, string]>([
    [
      "a trip count from data",
      {
        nodes: [node("Shape", ["x"], ["s"]), node("ReduceMax", ["s"], ["times"]), loop(step())],
        initializers: [W],
      },
      "its trip count (times) is no constant of the file",
    ],
    [
      "no trip count",
      { nodes: [loop(step(), ["", "yes", "x"])], initializers: [W, bool("yes", true)] },
      "it has no trip count",
    ],
    [
      "too many rounds",
      { nodes: [loop(step())], initializers: [W, int("times", 5000)] },
      "it runs 5000 rounds; at most 4096",
    ],
    [
      "a condition that the body computes",
      {
        nodes: [
          loop(
            body(
              [node("Neg", ["h"], ["next"]), node("Less", ["round", "limit"], ["goes"])],
              ["goes", "next"],
              ["round", "going", "h"],
            ),
          ),
        ],
        initializers: [int("times", 3), int("limit", 1)],
      },
      "its condition changes",
    ],
  ])("%s is refused when the model is loaded", async (_, parts, reason) => {
    using model = await loadModel(modelBytes(parts), { loss: "mse" });
    expect(model.unsupported.map(({ op, node }) => [op, node])).toEqual([["Loop", "repeat"]]);
    expect(model.unsupported[0]!.reason).toContain(reason);
  });
});

describe("Scan", () => {
  const graph = body(
    [node("Add", ["h", "row"], ["next"]), node("Neg", ["next"], ["each"])],
    ["next", "each"],
    ["h", "row"],
  );
  const scan = (source: string) =>
    node("Scan", ["start", source], ["last", "all"], { body: graph, num_scan_inputs: 1n });
  const start = floats("start", [4], [0, 0, 0, 0]);

  test("runs over the rows of a stored tensor", async () => {
    const parts = {
      nodes: [scan("w"), node("MatMul", ["x", "all"], ["m"]), node("Add", ["m", "last"], ["y"])],
      initializers: [W, start],
    };
    const rows = [...new Float32Array(Uint8Array.from(W.rawData!).buffer)];
    const sums = [0, 1, 2, 3].map((r) =>
      [0, 1, 2, 3].map((c) => [...Array(r + 1).keys()].reduce((s, k) => s + rows[4 * k + c]!, 0)),
    );
    const wanted = Array.from({ length: 4 * SAMPLES }, (_, i) => {
      const c = i % 4;
      const n = Math.floor(i / 4);
      return sums[3]![c]! - sums.reduce((total, row, r) => total + X[4 * n + r]! * row[c]!, 0);
    });
    (await outputOf(parts)).forEach((v, i) => {
      expect(v).toBeCloseTo(wanted[i]!, 12);
    });
  });

  test("the form of opset 8 is refused", async () => {
    const parts = { nodes: [scan("w"), node("Add", ["all", "last"], ["y"])], opset: 8 };
    using model = await loadModel(modelBytes({ ...parts, initializers: [W, start] }), {
      loss: "mse",
    });
    expect(model.unsupported[0]!.reason).toBe("its form before opset 9 is not supported");
  });

  test("a length that the file leaves free is refused", async () => {
    const parts = {
      nodes: [scan("x"), node("Add", ["all", "last"], ["y"])],
      initializers: [start],
    };
    using model = await loadModel(modelBytes(parts), { loss: "mse" });
    expect(model.unsupported[0]!.reason).toContain(
      "the length of its input x along axis 0 is not fixed in the file",
    );
  });
});

test.each<[string, NodeProto, string]>([
  ["a body of too few inputs", node("Loop", ["n", "", "x"], ["y"], { body: body([], []) }), "body"],
  ["no branch", node("If", ["c"], ["y"]), "has no then_branch"],
  [
    "a branch without outputs",
    node("If", ["c"], ["y"], { then_branch: body([], []), else_branch: body([], []) }),
    "then_branch of node If_y has too few outputs",
  ],
  [
    "a Scan whose body does not fit",
    node("Scan", ["x"], ["y"], { body: body([], []), num_scan_inputs: 1n }),
    "does not fit its inputs",
  ],
])("%s is no model", (_, wrong, message) => {
  const parts = { nodes: [wrong], initializers: [int("n", 1), bool("c", true)] };
  const attempt = () => decodeModel(modelBytes(parts), "model", undefined);
  expect(attempt).toThrow(ModelFormatError);
  expect(attempt).toThrow(message);
});
