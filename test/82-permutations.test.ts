// Permutation groups found in graphs: which units, and where they lie.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { analysePermutations, loadData, loadModel, permutationGroups } from "../lib";
import { PRIMITIVE_ROWS } from "../lib/symmetry/primitives";
import { floats, modelBytes, node, tensor, value } from "./10-model-maker";
import { caseFile } from "./50-helpers";
import { caseNames } from "./support/cases";
import { graphNames, groupText, openGraph } from "./support/graphs";
import { longs } from "./support/networks";

test("every primitive has a row", () => {
  const header = readFileSync(join(__dirname, "..", "native", "ir", "graph.h"), "utf8");
  const names = [...header.matchAll(/^ {2}X\((\w+), \w, \w+\)/gm)].map(([, name]) => name!);
  expect(names.length).toBeGreaterThan(40);
  expect(Object.keys(PRIMITIVE_ROWS).sort()).toEqual(names.sort());
});

const CASE_SIZES: Record<string, number[]> = {
  autoencoder: [5, 8, 5, 4],
  average_pools: [5, 6],
  cnn_small: [16, 32],
  conv1d: [10, 8],
  deep_linear: [8, 6],
  // The residual stream with the embedding; queries and keys of each head, heads, values of each.
  gpt_tied: [8, 4, 2, 4, 4, 4, 16],
  // Channels within groups, and groups through all layers.
  grouped_conv: [2, 3, 2, 2, 3, 3, 3, 2, 2, 2],
  max_pools: [5, 6],
  mlp_3d_folded: [20, 16],
  mlp_mse: [14, 12],
  mlp_relu: [128, 64],
  mlp_tanh: [128, 64],
  // A channel that a depthwise convolution makes two of: these two as well.
  mobilenet: [4, 12, 2, 2, 2, 2, 12],
  resnet_bn: [4, 4, 6, 6],
  sequence_labels: [12, 10],
  sequence_mse: [14],
  smooth_activations: [12, 12],
  tokens: [10, 16],
  // Inputs are the residual stream, which therefore has no group.
  torch_encoder_dynamo: [4, 2, 4, 4, 4, 12, 4, 2, 4, 4, 4, 12],
  torch_encoder_static: [4, 2, 4, 4, 4, 12, 4, 2, 4, 4, 4, 12],
  transformer: [8, 4, 2, 4, 4, 4, 12, 4, 2, 4, 4, 4, 12],
};

test.each(caseNames)("%s has the groups that it should", async (name) => {
  const model = await loadModel(caseFile(name, "model.onnx"));
  const data = await loadData({ x: caseFile(name, "x.npy") });
  expect(permutationGroups(model, data).map(({ size }) => size)).toEqual(CASE_SIZES[name]);
});

test("a residual network ties its stream, running statistics included", async () => {
  const model = await loadModel(caseFile("resnet_bn", "model.onnx"));
  const [stream, inner] = permutationGroups(model);
  expect(groupText(stream!).split("\n")).toEqual([
    "conv.weight 4",
    "  conv.weight@0 in 0:1:1",
    "  bn.weight@0 in 0:1:1",
    "  bn.bias@0 in 0:1:1",
    "  block1.conv1.weight@1 out 0:1:1",
    "  block1.conv2.weight@0 in 0:1:1",
    "  block1.bn2.weight@0 in 0:1:1",
    "  block1.bn2.bias@0 in 0:1:1",
    "  block2.conv1.weight@1 out 0:1:1",
    "  block2.down.0.weight@1 out 0:1:1",
    "  bn.running_mean@0 in 0:1:1",
    "  bn.running_var@0 in 0:1:1",
    "  block1.bn2.running_mean@0 in 0:1:1",
    "  block1.bn2.running_var@0 in 0:1:1",
  ]);
  expect(stream!.places.map(({ parameter }) => parameter)).toEqual([
    ...Array(9).fill(true),
    ...Array(4).fill(false),
  ]);
  expect(inner!.name).toBe("block1.conv1.weight");
});

test("an embedding that is the output layer too both makes and reads the stream", async () => {
  const model = await loadModel(caseFile("gpt_tied", "model.onnx"));
  const [stream] = permutationGroups(model);
  expect(stream!.places[0]).toEqual({
    ...{ tensor: "tokens.weight", parameter: true, side: "both" },
    ...{ axis: 1, start: 0, outer: 1, inner: 1 },
  });
});

/** Names and sizes of groups, and the places of some. */
const GRAPHS: Record<string, string[]> = {
  dense: ["conv0.weight 4", "conv1.weight 3", "conv2.weight 3", "conv3.weight 6"],
  // Experts with tensors of their own are not exchanged as wholes.
  experts: ["each.0.0.weight 4", "each.1.0.weight 4", "each.2.0.weight 4"],
  experts_stacked: ["w1 3", "w1[0] 4", "w1[1] 4", "w1[2] 4", "w2 6"],
  group_norms: [
    ...["0.weight[0:2] 2", "0.weight[0:6:2] 3", "0.weight[2:4] 2", "0.weight[4:6] 2"],
    ...["3.weight 4", "6.weight 3"],
  ],
  grouped_queries: [
    ...["q.weight[0:8] 4", "q.weight[0:8:4] 2", "q.weight[0:16:8] 2"],
    ...["q.weight[8:16] 4", "q.weight[8:16:4] 2", "v.weight[0:4] 4", "v.weight[4:8] 4"],
  ],
  gru_bidirectional: ["rnn.weight_ih_l0 4", "rnn.weight_ih_l0_reverse 4"],
  lstm_stacked: [
    ...["rnn.weight_ih_l0 4", "rnn.weight_ih_l0_reverse 4"],
    ...["rnn.weight_ih_l1 4", "rnn.weight_ih_l1_reverse 4"],
  ],
  mixer: ["embed.weight 6", "tokens1.weight 7"],
  // Widths of queries and keys share a scale, so they move alike in all heads.
  normed_queries: [
    ...["scale 4", "q.weight[0:16:4] 4"],
    ...["v.weight[0:4] 4", "v.weight[4:8] 4", "v.weight[8:12] 4", "v.weight[12:16] 4"],
  ],
  odds: [
    ...["low 3", "high 6", "bilinear 5", "maxout.weight[0:3] 3", "maxout.weight[0:12:3] 4"],
    ...["maxout.weight[3:6] 3", "maxout.weight[6:9] 3", "maxout.weight[9:12] 3"],
    ...["mixed.weight[0:3] 3", "mixed.weight[3:7] 4"],
  ],
  resnet_padded: [
    ...["conv.weight 3", "block1.conv1.weight 3"],
    ...["block2.conv1.weight 7", "block2.conv2.weight[0...6] 4"],
  ],
  rnn: ["rnn.weight_ih_l0 4"],
  // Only widths that carry no position are exchanged.
  rotary: [
    ...["q.weight[0:16:4] 4", "q.weight[2:4] 2", "q.weight[6:8] 2", "q.weight[10:12] 2"],
    ...["q.weight[14:16] 2", "v.weight[0:4] 4", "v.weight[4:8] 4", "v.weight[8:12] 4"],
    "v.weight[12:16] 4",
  ],
  shuffle: [
    ...["stem.weight[0:2] 2", "stem.weight[2:4] 2", "stem.weight[4:8] 4"],
    ...["point.weight[0:2] 2", "point.weight[2:4] 2"],
  ],
  squeeze_excite: ["conv1.weight 6", "squeeze.weight 3"],
  unet: ["down1.weight 4", "down2.weight 6", "up.weight 3", "join.weight 5"],
  vit: [
    ...["token 6", "qkv.weight[0:2] 2", "qkv.weight[0:18:2] 3", "qkv.weight[2:4] 2"],
    ...["qkv.weight[4:6] 2", "qkv.weight[12:14] 2", "qkv.weight[14:16] 2", "qkv.weight[16:18] 2"],
    "fc1.weight 8",
  ],
};

test.each(graphNames)("%s has these groups and no others", async (name) => {
  const { model } = await openGraph(name);
  const found = permutationGroups(model).map((group) => `${group.name} ${group.size}`);
  expect(found).toEqual(GRAPHS[name]);
});

async function groupsOf(name: string): Promise<string[]> {
  const { model } = await openGraph(name);
  return permutationGroups(model).map(groupText);
}

test("what is concatenated lies one after the other in what reads it", async () => {
  const [, second] = await groupsOf("dense");
  expect(second!.split("\n")).toEqual([
    "conv1.weight 3",
    "  conv1.weight@0 in 0:1:1",
    "  conv1.bias@0 in 0:1:1",
    "  bn2.weight@0 in 4:1:1",
    "  bn2.bias@0 in 4:1:1",
    "  conv2.weight@1 out 4:1:1",
    "  bn3.weight@0 in 4:1:1",
    "  bn3.bias@0 in 4:1:1",
    "  conv3.weight@1 out 4:1:1",
    "  bn2.running_mean@0 in 4:1:1",
    "  bn2.running_var@0 in 4:1:1",
    "  bn3.running_mean@0 in 4:1:1",
    "  bn3.running_var@0 in 4:1:1",
  ]);
  const flattened = (await groupsOf("dense"))[3];
  expect(flattened).toContain("fc.weight@1 out 0:1:4");
});

test("the units of a recurrent layer are permuted in all gates, and through time", async () => {
  const [forwards, backwards] = await groupsOf("lstm_stacked");
  expect(forwards!.split("\n")).toEqual([
    "rnn.weight_ih_l0 4",
    "  rnn.weight_ih_l0@0 in 0:4:1",
    "  rnn.weight_hh_l0@0 in 0:4:1",
    "  rnn.weight_hh_l0@1 out 0:1:1",
    "  rnn.bias_ih_l0@0 in 0:4:1",
    "  rnn.bias_hh_l0@0 in 0:4:1",
    "  rnn.weight_ih_l1@1 out 0:1:1",
    "  rnn.weight_ih_l1_reverse@1 out 0:1:1",
  ]);
  expect(backwards).toContain("rnn.weight_ih_l1@1 out 4:1:1");
  const [gru] = await groupsOf("gru_bidirectional");
  expect(gru).toContain("rnn.weight_hh_l0@0 in 0:3:1");
});

test("heads are exchanged as blocks; queries with keys, values with what reads them", async () => {
  const found = await groupsOf("vit");
  expect(found.slice(1, 3)).toEqual([
    [
      "qkv.weight[0:2] 2",
      ...["  qkv.weight@0 in 0:1:1", "  qkv.weight@0 in 6:1:1"],
      ...["  qkv.bias@0 in 0:1:1", "  qkv.bias@0 in 6:1:1"],
    ].join("\n"),
    [
      "qkv.weight[0:18:2] 3",
      ...["  qkv.weight@0 in 0:3:2", "  qkv.bias@0 in 0:3:2", "  project.weight@1 out 0:1:2"],
    ].join("\n"),
  ]);
  expect(found[5]).toBe(
    [
      "qkv.weight[12:14] 2",
      ...["  qkv.weight@0 in 12:1:1", "  qkv.bias@0 in 12:1:1", "  project.weight@1 out 0:1:1"],
    ].join("\n"),
  );
});

test("a head of keys takes its queries along", async () => {
  const found = await groupsOf("grouped_queries");
  expect(found.slice(0, 3)).toEqual([
    "q.weight[0:8] 4\n  q.weight@0 in 0:2:1\n  k.weight@0 in 0:1:1",
    "q.weight[0:8:4] 2\n  q.weight@0 in 0:1:4\n  o.weight@1 out 0:1:4",
    "q.weight[0:16:8] 2\n  q.weight@0 in 0:1:8\n  o.weight@1 out 0:1:8\n" +
      "  k.weight@0 in 0:1:4\n  v.weight@0 in 0:1:4",
  ]);
});

test("places along one of stacked layers, and at positions without a pattern", async () => {
  const experts = await groupsOf("experts_stacked");
  expect(experts[2]).toBe(
    "w1[1] 4\n  w1@2 in 0:1:1 where 0 = 1\n  b1@1 in 0:1:1 where 0 = 1\n" +
      "  w2@1 out 0:1:1 where 0 = 1",
  );
  const padded = await groupsOf("resnet_padded");
  expect(padded[3]).toContain("block2.conv2.weight@0 in 0 1 5 6\n  fc.weight@1 out 0 1 5 6");
});

// ---- why there is none -------------------------------------------------------------------------

/** x [N, 3] -> Gemm 6 -> steps -> Gemm 2. */
function between(steps: ReturnType<typeof node>[], constants = [] as ReturnType<typeof floats>[]) {
  return modelBytes({
    nodes: [
      node("Gemm", ["x", "w1", "b1"], ["h"], { transB: 1n }),
      ...steps,
      node("Gemm", ["y", "w2", "b2"], ["out"], { transB: 1n }),
    ],
    inputs: [value("x", ["N", 3])],
    outputs: [value("out", ["N", 2])],
    initializers: [
      ...[floats("w1", [6, 3]), floats("b1", [6]), floats("w2", [2, 6]), floats("b2", [2])],
      ...constants,
    ],
  });
}

const whysOf = async (bytes: Uint8Array, params?: { exclude: string }) => {
  const model = await loadModel(bytes, params && { params });
  const { groups, fixed } = analysePermutations(model);
  return {
    sizes: groups.map(({ size }) => size),
    why: fixed.find(({ tensor }) => tensor === "w1"),
  };
};

test("reasons are given for axes without a group", async () => {
  const { groups, fixed } = analysePermutations(
    await loadModel(between([node("Tanh", ["h"], ["y"])])),
  );
  expect(groups.map(groupText)).toEqual([
    "w1 6\n  w1@0 in 0:1:1\n  b1@0 in 0:1:1\n  w2@1 out 0:1:1",
  ]);
  expect(fixed).toEqual([
    { tensor: "w1", axis: 1, why: "an axis of the input" },
    { tensor: "w2", axis: 0, why: "an axis of the output" },
    { tensor: "b2", axis: 0, why: "an axis of the output" },
  ]);
});

test("experts of their own leave a reason at the gate", async () => {
  const { model } = await openGraph("experts");
  const { fixed } = analysePermutations(model);
  expect(fixed.filter(({ tensor }) => tensor.startsWith("gate"))).toEqual([
    { tensor: "gate.weight", axis: 0, why: "single positions of it are taken apart" },
    { tensor: "gate.weight", axis: 1, why: "an axis of the input" },
    { tensor: "gate.bias", axis: 0, why: "single positions of it are taken apart" },
  ]);
});

test("constants fix what they differ along, and no more", async () => {
  const times = (values: number[]) =>
    whysOf(
      between([
        node("Constant", [], ["c"], { value: floats("", [6], values) }),
        node("Mul", ["h", "c"], ["y"]),
      ]),
    );
  expect((await times([2, 2, 2, 2, 2, 2])).sizes).toEqual([6]);
  expect((await times([1, 1, 2, 2, 2, 2])).sizes).toEqual([2, 4]);
  expect(await times([1, 2, 3, 4, 5, 6])).toEqual({
    sizes: [],
    why: { tensor: "w1", axis: 0, why: "constant numbers differ along it" },
  });
});

test("stretches of a constant with the same number are one group", async () => {
  const bytes = between([
    node("Constant", [], ["c"], { value: floats("", [6], [1, 2, 2, 2, 1, 1]) }),
    node("Mul", ["h", "c"], ["y"]),
  ]);
  const groups = permutationGroups(await loadModel(bytes));
  expect(groups.map(groupText)).toEqual([
    "w1[0...5] 3\n  w1@0 in 0 4 5\n  b1@0 in 0 4 5\n  w2@1 out 0 4 5",
    "w1[1:4] 3\n  w1@0 in 1:1:1\n  b1@0 in 1:1:1\n  w2@1 out 1:1:1",
  ]);
});

test("so are positions in turn", async () => {
  const bytes = between([
    node("Constant", [], ["c"], { value: floats("", [6], [1, 2, 1, 2, 1, 2]) }),
    node("Mul", ["h", "c"], ["y"]),
  ]);
  const groups = permutationGroups(await loadModel(bytes));
  expect(groups.map(groupText)).toEqual([
    "w1[0...4] 3\n  w1@0 in 0 2 4\n  b1@0 in 0 2 4\n  w2@1 out 0 2 4",
    "w1[1...5] 3\n  w1@0 in 1 3 5\n  b1@0 in 1 3 5\n  w2@1 out 1 3 5",
  ]);
});

test("an order of units fixes them: running sums, flips", async () => {
  const sums = [
    node("Constant", [], ["axis"], { value: tensor("", [], longs("", [1])) }),
    node("CumSum", ["h", "axis"], ["y"]),
  ];
  expect((await whysOf(between(sums))).sizes).toEqual([]);
  const flip = [
    node("Slice", ["h", "from", "to", "axes", "steps"], ["back"]),
    node("Add", ["h", "back"], ["y"]),
  ];
  const ends = [longs("from", [5]), longs("to", [-7]), longs("axes", [1]), longs("steps", [-1])];
  expect(await whysOf(between(flip, ends))).toEqual({
    sizes: [],
    why: { tensor: "w1", axis: 0, why: "a slice or concatenation crosses its blocks" },
  });
});

test("parts in another order are tied crosswise", async () => {
  const cross = [
    node("Split", ["h"], ["a", "b"], { axis: 1n }),
    node("Concat", ["b", "a"], ["turned"], { axis: 1n }),
    node("Gemm", ["x", "w3"], ["g"], { transB: 1n }),
    node("Add", ["turned", "g"], ["sum"]),
    node("Tanh", ["sum"], ["y"]),
  ];
  const model = await loadModel(between(cross, [floats("w3", [6, 3])]));
  expect(permutationGroups(model).map(groupText)).toEqual([
    "w1[0:3] 3\n  w1@0 in 0:1:1\n  b1@0 in 0:1:1\n  w2@1 out 3:1:1\n  w3@0 in 3:1:1",
    "w1[3:6] 3\n  w1@0 in 3:1:1\n  b1@0 in 3:1:1\n  w2@1 out 0:1:1\n  w3@0 in 0:1:1",
  ]);
});

test("a reshape that nothing needs splits no group", async () => {
  const steps = [
    node("Reshape", ["h", "by3"], ["table"]),
    node("Relu", ["table"], ["positive"]),
    node("Reshape", ["positive", "by6"], ["y"]),
  ];
  const shapes = [longs("by3", [-1, 2, 3]), longs("by6", [-1, 6])];
  expect((await whysOf(between(steps, shapes))).sizes).toEqual([6]);
});

test("parameters that are left out keep their numbers, and so their places", async () => {
  const bytes = between([node("Tanh", ["h"], ["y"])], []);
  expect((await whysOf(bytes)).sizes).toEqual([6]);
  expect(await whysOf(bytes, { exclude: "b1" })).toEqual({
    sizes: [],
    why: { tensor: "w1", axis: 0, why: "constant numbers differ along it" },
  });
});

test("data are needed where lengths are free", async () => {
  const model = await loadModel(
    modelBytes({ inputs: [value("x", ["N", "T", 4])], outputs: [value("y", ["N", "T", 4])] }),
  );
  expect(() => permutationGroups(model)).toThrow("leaves lengths of the input");
  const data = await loadData({ x: { data: new Float64Array(24), shape: [2, 3, 4] } });
  expect(permutationGroups(model, data)).toEqual([]);
});
