// Weights stored as integers with a scale: they become parameters of the numbers they stand for.
import { loadModel, ModelFormatError } from "../lib";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";

const integers = (name: string, dims: number[], values: number[], unsigned = false) =>
  tensor(name, dims, {
    dataType: unsigned ? DataType.UINT8 : DataType.INT8,
    rawData: new Uint8Array(Int8Array.from(values).buffer),
  });

function quantized(fields: {
  scale: number[];
  zero?: number[];
  axis?: number;
  name?: string;
  unsigned?: boolean;
}) {
  const { scale, zero, axis, name = "fc.weight_quantized", unsigned = false } = fields;
  const shape = (of: number[]) => (of.length === 1 ? [] : [of.length]);
  return modelBytes({
    opset: 19,
    inputs: [value("x", ["n", 2])],
    outputs: [value("y", ["n", 3])],
    initializers: [
      integers(name, [2, 3], [1, -2, 3, 127, -128, 0], unsigned),
      floats("scale", shape(scale), scale),
      ...(zero ? [integers("zero", shape(zero), zero, unsigned)] : []),
    ],
    nodes: [
      node("DequantizeLinear", [name, "scale", ...(zero ? ["zero"] : [])], ["w"], {
        ...(axis !== undefined && { axis: BigInt(axis) }),
      }),
      node("MatMul", ["x", "w"], ["y"]),
    ],
  });
}

test("one scale for all, under the name of the weight, with a warning", async () => {
  using model = await loadModel(quantized({ scale: [0.5] }));
  const [weight, ...more] = model.parameters;
  expect(more).toEqual([]);
  expect(weight!.name).toBe("fc.weight");
  expect(Array.from(weight!.values())).toEqual([0.5, -1, 1.5, 63.5, -64, 0]);
  expect(model.warnings.join()).toContain("stored as integers and widened: fc.weight;");
});

test.each([
  ["columns", 1, [1, 10, 100], [1, 0, -1], [0, -20, 400, 126, -1280, 100]],
  ["rows", -2, [1, 10], [0, 7], [1, -2, 3, 1200, -1350, -70]],
])("scales and zero points along %s", async (_, axis, scale, zero, expected) => {
  using model = await loadModel(quantized({ scale, zero, axis }));
  expect(Array.from(model.parameters[0]!.values())).toEqual(expected);
});

test("unsigned integers; the node's name where the integers' is taken", async () => {
  using model = await loadModel(
    quantized({ scale: [1], zero: [127], unsigned: true, name: "y_q" }),
  );
  expect(model.parameters[0]!.name).toBe("w"); // "y" is the output
  expect(Array.from(model.parameters[0]!.values())).toEqual([-126, 127, -124, 0, 1, -127]);
});

test("a scale that does not fit is an error that names the node", async () => {
  const refused = loadModel(quantized({ scale: [1, 2] }));
  await expect(refused).rejects.toThrow(ModelFormatError);
  await expect(refused).rejects.toThrow(/DequantizeLinear.*expected a scale of one number or of 3/);
});
