// Initial parameters: the rules of PyTorch's layers by what tensors do in the graph, and their sizes.
import { initialParameters, initialRules, loadModel } from "../lib";
import { modelBytes, node, value } from "./10-model-maker";
import { caseFile, rejection, tinyProblem } from "./50-helpers";
import { doubles, longs } from "./support/networks";

const open = (name: string) => loadModel(caseFile(name, "model.onnx"));
const root = (n: number) => 1 / Math.sqrt(n);

async function rulesOf(name: string): Promise<Map<string, string>> {
  return new Map(
    initialRules(await open(name)).map(({ name, role, distribution, size }) => [
      name,
      `${role}: ${distribution} ${Number(size.toPrecision(6))}`,
    ]),
  );
}
const uniform = (fan: number) => `uniform ${Number(root(fan).toPrecision(6))}`;

test("convolutions, normalisations and a linear layer", async () => {
  const rules = await rulesOf("resnet_bn");
  expect(rules.get("conv.weight")).toBe(`weight of Conv: ${uniform(9)}`);
  expect(rules.get("block2.conv1.weight")).toBe(`weight of Conv: ${uniform(36)}`);
  expect(rules.get("bn.weight")).toBe("scale: constant 1");
  expect(rules.get("bn.bias")).toBe("shift: constant 0");
  expect(rules.get("fc.bias")).toBe(`bias of Gemm: ${uniform(6)}`);
});

test("grouped convolutions count the channels of a group", async () => {
  const rules = await rulesOf("mobilenet");
  expect(rules.get("block.3.weight")).toBe(`weight of Conv: ${uniform(9)}`);
  expect(rules.get("pointwise.weight")).toBe(`weight of Conv: ${uniform(8)}`);
  expect(rules.get("pointwise.bias")).toBe(`bias of Conv: ${uniform(8)}`);
});

test("matrices turned in the graph, with their biases added behind, and embeddings", async () => {
  const rules = await rulesOf("transformer");
  expect(rules.get("blocks.0.fc2.weight")).toBe(`weight of MatMul: ${uniform(12)}`);
  expect(rules.get("blocks.0.fc2.bias")).toBe(`bias of MatMul: ${uniform(12)}`);
  expect(rules.get("blocks.1.norm2.weight")).toBe("scale: constant 1");
  expect(rules.get("positions")).toBe("added to the stream: normal 0.02");
  const tokens = await rulesOf("tokens");
  expect(tokens.get("tokens.weight")).toBe("embedding: normal 1");
  expect(tokens.get("positions.weight")).toBe("embedding: normal 1");
});

test("ConvTranspose, PRelu, LSTM, and matrices on either side", async () => {
  const bytes = modelBytes({
    nodes: [
      node("ConvTranspose", ["x", "up"], ["a"]),
      node("PRelu", ["a", "slope"], ["b"]),
      node("Reshape", ["b", "shape"], ["c"]),
      node("LSTM", ["c", "W", "R", "B"], ["d"], { hidden_size: 5n }),
      node("MatMul", ["left", "d"], ["e"]),
      node("Mul", ["e", "gain"], ["out"]),
    ],
    inputs: [value("x", [1, 4, 6, 6], 11)],
    outputs: [value("out", null, 11)],
    initializers: [
      doubles("up", [4, 3, 2, 2], new Array(48).fill(1)),
      longs("shape", [21, 1, 7]),
      doubles("slope", [3, 1, 1], [1, 1, 1]),
      doubles("W", [1, 20, 7], new Array(140).fill(1)),
      doubles("R", [1, 20, 5], new Array(100).fill(1)),
      doubles("B", [1, 40], new Array(40).fill(1)),
      doubles("left", [9, 1], new Array(9).fill(1)),
      doubles("gain", [5], new Array(5).fill(1)),
    ],
  });
  const model = await loadModel(bytes, {
    params: { include: ["up", "slope", "W", "R", "B", "left", "gain"] },
  });
  const rules = new Map(initialRules(model).map(({ name, ...rule }) => [name, rule]));
  expect(rules.get("up")).toEqual({
    role: "weight of ConvTranspose",
    distribution: "uniform",
    size: root(12),
  });
  expect(rules.get("slope")).toEqual({ role: "slope", distribution: "constant", size: 0.25 });
  for (const name of ["W", "R", "B"])
    expect(rules.get(name)).toEqual({ role: "of LSTM", distribution: "uniform", size: root(5) });
  expect(rules.get("left")!.size).toBe(1);
  expect(rules.get("gain")).toEqual({ role: "scale", distribution: "constant", size: 1 });
});

test("numbers have the rule's distribution, and depend on the seed and the tensor alone", async () => {
  const model = await loadModel(caseFile("mlp_relu", "model.onnx"));
  const w = model.parameters[0]!;
  const fan = w.shape[1]!;
  const of = (theta: Float64Array) => theta.subarray(w.offset, w.offset + w.size);
  const theta = initialParameters(model, { seed: 3 });
  expect(theta).toEqual(theta.map(Math.fround));
  expect(initialParameters(model, { seed: 3 })).toEqual(theta);
  expect(initialParameters(model, { seed: 4 })).not.toEqual(theta);
  const moments = (x: Float64Array) => {
    const mean = x.reduce((a, b) => a + b, 0) / x.length;
    return [mean, x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length] as const;
  };
  // Uniform: variance size^2 / 3; the mean of n numbers is within 5 standard errors of 0.
  const [mean, variance] = moments(of(theta));
  expect(Math.abs(mean)).toBeLessThan(5 * Math.sqrt(1 / (3 * fan * w.size)));
  expect(variance).toBeCloseTo(1 / (3 * fan), 3);
  expect(Math.max(...of(theta).map(Math.abs))).toBeLessThanOrEqual(root(fan));
  const he = initialParameters(model, { seed: 3, scheme: "kaiming-normal" });
  expect(moments(of(he))[1] / (2 / fan)).toBeCloseTo(1, 1);
  const b = model.parameters[1]!;
  expect(he.subarray(b.offset, b.offset + b.size).every((x) => x === 0)).toBe(true);
  const [xavier] = initialRules(model, { scheme: "xavier" });
  expect(xavier!.size).toBeCloseTo(Math.sqrt(6 / (w.shape[0]! + fan)), 12);
  // The same tensor of a model without the others.
  const some = await loadModel(caseFile("mlp_relu", "model.onnx"), {
    params: { include: [w.name] },
  });
  expect(initialParameters(some, { seed: 3 })).toEqual(of(theta).slice());
});

test("wrong uses", async () => {
  const { model } = await tinyProblem();
  expect(() => initialParameters(model, { seed: -1 })).toThrow("seed: expected a whole number");
  expect(() => initialParameters(model, { scheme: "he" as never })).toThrow(
    "scheme: expected one of",
  );
  expect(() => initialRules({} as never)).toThrow("expected a model of loadModel");
  const error = await rejection(
    Promise.resolve().then(() => initialParameters(model, { sed: 1 } as never)),
  );
  expect(error.message).toContain('"seed" was probably meant');
});
