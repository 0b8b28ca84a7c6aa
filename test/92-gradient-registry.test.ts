/**
 * A yardstick from outside: every standard operator that ONNX Runtime's training can differentiate
 * (its registry of gradient builders), and the fused ones of its domain that files may hold, is
 * in the table with derivatives. So are the forms that opsets 18 to 24 gave to older operators.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { forward, loadData, loadModel } from "../lib";
import { native } from "../lib/native";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";
import { errorOf, normals } from "./support/numbers";
import { onnxruntime } from "./support/run-onnxruntime";

const REGISTRY = `
  Gemm MatMul Conv BatchNormalization Relu LeakyRelu Clip Sigmoid Tanh Erf Softmax LogSoftmax Add
  Sub Mul Div Pow Sqrt Reciprocal Neg Exp Log Abs ReduceMean ReduceSum MaxPool AveragePool
  GlobalAveragePool Flatten Reshape Transpose Squeeze Unsqueeze Concat Split Slice Gather Expand
  Where Identity Cast Dropout Pad LayerNormalization Gelu LSTM GRU ReduceL2 ReduceLogSumExp Max Min
  Sin Cos Tile GatherElements GatherND ScatterND ScatterElements Trilu TopK
  SoftmaxCrossEntropyLoss Resize Atan GlobalMaxPool ConvTranspose
`;
const FUSED = `
  com.microsoft.FusedMatMul com.microsoft.BiasGelu com.microsoft.FastGelu com.microsoft.QuickGelu
  com.microsoft.Gelu SimplifiedLayerNormalization
`;
/** Known to have no gradient there, and taken here. */
const BEYOND = "Elu HardSigmoid HardSwish InstanceNormalization Softplus";
const names = (text: string) => text.split(/\s+/).filter((name) => name !== "");

describe("ONNX Runtime's gradient registry", () => {
  const rows = native().operatorTable();

  test.each(names(REGISTRY + FUSED + BEYOND))("%s has derivatives", (op) => {
    const grades = rows.filter((row) => row.op === op).map(({ derivative }) => derivative);
    expect(grades.length).toBeGreaterThan(0);
    for (const grade of grades) expect(["smooth", "piecewise"]).toContain(grade);
  });
});

// ---- forms of newer opsets ------------------------------------------------------------------

const int64s = (name: string, values: number[]) =>
  tensor(name, [values.length], { dataType: DataType.INT64, int64Data: values.map(BigInt) });

interface Form {
  opset: number;
  op: string;
  /** Beside x [2, 3, 4, 6], by names of `tensors`; "" for one left out. */
  inputs?: string[];
  tensors?: ReturnType<typeof tensor>[];
  attributes?: Record<string, unknown>;
  /** How many outputs there are, and which is looked at. */
  outputs?: number;
  output?: number;
  /** Shape of x. */
  shape?: number[];
  /** Whether x is, for logarithms. */
  positive?: true;
}

const REDUCTIONS = names(
  "ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum " +
    "ReduceLogSumExp ReduceSum",
);
const reductions = REDUCTIONS.flatMap((op): [string, Form][] => {
  const common = { opset: 18, op, positive: true } as const;
  const axes = (...of: number[]) => ({ inputs: ["axes"], tensors: [int64s("axes", of)] });
  const forms: [string, Form][] = [
    [`${op}-18 axes as input`, { ...common, ...axes(-1, 2) }],
    [`${op}-18 without them`, { ...common, ...axes(1), attributes: { keepdims: 0n } }],
  ];
  // onnxruntime leaves out what these two do to single elements; ONNX does not.
  if (op !== "ReduceSumSquare" && op !== "ReduceLogSum")
    forms.push([`${op}-18 of nothing`, { ...common, attributes: { noop_with_empty_axes: 1n } }]);
  return forms;
});

const resize = (label: string, tensors: Form["tensors"], inputs: string[], more: object) =>
  [`Resize-19 ${label}`, { opset: 19, op: "Resize", tensors, inputs, attributes: more }] as [
    string,
    Form,
  ];

const FORMS: [string, Form][] = [
  ...reductions,
  ["Split-18 num_outputs", split(3n, 0)],
  ["Split-18 num_outputs, the last is smaller", { ...split(3n, 2), shape: [2, 3, 4, 7] }],
  ["Split-18 sizes as input", { ...split(undefined, 1), inputs: ["sizes"] }],
  ["Pad-18 axes", pad("constant", [1, 0, 2, 1], ["amount", "axes"])],
  ["Pad-18 axes, edge", pad("edge", [1, 0, 2, 1], ["", "axes"])],
  ["Pad-18 axes, reflect", pad("reflect", [1, 0, 2, 1], ["", "axes"])],
  ["Pad-19 wrap", { ...pad("wrap", [1, 0, 2, 1], ["", "axes"]), opset: 19 }],
  resize("scales with axes", [floats("scales", [2], [2, 1.5])], ["", "scales"], {
    axes: [2n, 3n],
    mode: "linear",
  }),
  resize("sizes not larger than", [int64s("sizes", [7, 8])], ["", "", "sizes"], {
    axes: [2n, 3n],
    mode: "linear",
    keep_aspect_ratio_policy: "not_larger",
  }),
  resize("sizes not smaller than", [int64s("sizes", [7, 8])], ["", "", "sizes"], {
    axes: [2n, 3n],
    mode: "nearest",
    keep_aspect_ratio_policy: "not_smaller",
  }),
  resize("smaller with antialias", [floats("scales", [4], [1, 1, 0.5, 0.5])], ["", "scales"], {
    mode: "linear",
    antialias: 1n,
  }),
  resize("half_pixel_symmetric", [floats("scales", [4], [1, 1, 1.3, 0.8])], ["", "scales"], {
    mode: "linear",
    coordinate_transformation_mode: "half_pixel_symmetric",
  }),
  resize("cubic", [floats("scales", [4], [1, 1, 2, 2])], ["", "scales"], {
    mode: "cubic",
    cubic_coeff_a: -0.5,
  }),
  ["Reshape-19 allowzero", reshape(19, [2, -1, 6])],
  ["Reshape-21", reshape(21, [0, 12, -1])],
  ["Cast-19", { opset: 19, op: "Cast", attributes: { to: 11n } }],
  ["Identity-21", { opset: 21, op: "Identity" }],
  ["Transpose-23", { opset: 23, op: "Transpose", attributes: { perm: [0n, 3n, 1n, 2n] } }],
  ["Flatten-23", { opset: 23, op: "Flatten", attributes: { axis: 2n } }],
  axesForm("Squeeze-23", 23, "Squeeze", [1], [2, 1, 4, 6]),
  axesForm("Unsqueeze-23", 23, "Unsqueeze", [1, -1]),
  ["Gelu-20", { opset: 20, op: "Gelu" }],
  ["Gelu-20 tanh", { opset: 20, op: "Gelu", attributes: { approximate: "tanh" } }],
  ["Mish-22", { opset: 22, op: "Mish" }],
  ["HardSwish-22", { opset: 22, op: "HardSwish" }],
  ["ThresholdedRelu-22", { opset: 22, op: "ThresholdedRelu", attributes: { alpha: 0.25 } }],
  window("AveragePool-19 dilations", 19, "AveragePool", { dilations: [1n, 2n] }),
  window("AveragePool-22 ceil", 22, "AveragePool", { ceil_mode: 1n, strides: [2n, 2n] }),
  window("MaxPool-22", 22, "MaxPool", { pads: [1n, 0n, 0n, 1n] }),
  window("LpPool-18 dilations, ceil", 18, "LpPool", { dilations: [2n, 1n], ceil_mode: 1n }),
  ["GlobalMaxPool-22", { opset: 22, op: "GlobalMaxPool" }],
  [
    "LayerNormalization-17 in a file of 21",
    {
      opset: 21,
      op: "LayerNormalization",
      inputs: ["scale"],
      tensors: [floats("scale", [6], [1, 2, 0.5, -1, 1, 3])],
    },
  ],
  [
    "GroupNormalization-21",
    {
      opset: 21,
      op: "GroupNormalization",
      shape: [2, 4, 3, 2],
      inputs: ["scale", "bias"],
      tensors: [floats("scale", [4], [1, 2, 0.5, -1]), floats("bias", [4])],
      attributes: { num_groups: 2n },
    },
  ],
  [
    "RMSNormalization-23",
    {
      opset: 23,
      op: "RMSNormalization",
      inputs: ["scale"],
      tensors: [floats("scale", [6], [1, 2, 0.5, -1, 1, 3])],
    },
  ],
  [
    "InstanceNormalization-22",
    {
      opset: 22,
      op: "InstanceNormalization",
      inputs: ["scale", "bias"],
      tensors: [floats("scale", [3], [1, 2, 0.5]), floats("bias", [3])],
    },
  ],
  scatter("ScatterElements-18 max", 18, "max"),
  scatter("ScatterElements-18 add", 18, "add"),
  scatter("ScatterElements-18 mul", 18, "mul"),
  ["DepthToSpace-13 in a file of 23", blocks("DepthToSpace", [2, 8, 2, 3])],
  ["SpaceToDepth-13 in a file of 23", blocks("SpaceToDepth", [2, 2, 4, 6])],
];

function split(parts: bigint | undefined, output: number): Form {
  const attributes = { axis: 3n, ...(parts !== undefined && { num_outputs: parts }) };
  const outputs = parts === undefined ? 2 : Number(parts);
  return {
    opset: 18,
    op: "Split",
    attributes,
    outputs,
    output,
    tensors: [int64s("sizes", [2, 4])],
  };
}

function pad(mode: string, pads: number[], rest: string[]): Form {
  const tensors = [int64s("pads", pads), int64s("axes", [3, 2]), floats("amount", [], [0.5])];
  return { opset: 18, op: "Pad", inputs: ["pads", ...rest], tensors, attributes: { mode } };
}

function reshape(opset: number, to: number[]): Form {
  return { opset, op: "Reshape", inputs: ["to"], tensors: [int64s("to", to)] };
}

function axesForm(
  label: string,
  opset: number,
  op: string,
  axes: number[],
  shape?: number[],
): [string, Form] {
  const form = { opset, op, inputs: ["axes"], tensors: [int64s("axes", axes)] };
  return [label, shape ? { ...form, shape } : form];
}

function window(label: string, opset: number, op: string, more: object): [string, Form] {
  return [label, { opset, op, attributes: { kernel_shape: [2n, 2n], ...more } }];
}

function scatter(label: string, opset: number, reduction: string): [string, Form] {
  const indices = tensor("indices", [1, 1, 1, 2], {
    dataType: DataType.INT64,
    int64Data: [1n, 1n],
  });
  const updates = floats("updates", [1, 1, 1, 2], [0.25, 0.75]);
  const attributes = { axis: 3n, reduction };
  const inputs = ["indices", "updates"];
  return [label, { opset, op: "ScatterElements", inputs, tensors: [indices, updates], attributes }];
}

function blocks(op: string, shape: number[]): Form {
  return { opset: 23, op, shape, attributes: { blocksize: 2n } };
}

/** x plus a parameter, through the operator, to one row a sample. */
function bytesOf(form: Form): Uint8Array {
  const shape = form.shape ?? [2, 3, 4, 6];
  const results = Array.from({ length: form.outputs ?? 1 }, (_, i) => `out${i}`);
  const used = new Set(form.inputs);
  return modelBytes({
    opset: form.opset,
    nodes: [
      node("Add", ["x", "w"], ["moved"]),
      node(form.op, ["moved", ...(form.inputs ?? [])], results, form.attributes ?? {}),
      node("Cast", [results[form.output ?? 0]!], ["y"], { to: 1n }),
    ],
    initializers: [
      floats("w", shape.slice(1), [
        ...normals(
          3,
          shape.slice(1).reduce((a, b) => a * b, 1),
          0.1,
        ),
      ]),
      ...(form.tensors ?? []).filter(({ name }) => used.has(name)),
    ],
    inputs: [value("x", ["batch", ...shape.slice(1)])],
    outputs: [value("y", null)],
  });
}

function inputOf({ shape = [2, 3, 4, 6], positive }: Form): Float32Array {
  const x = normals(
    7,
    shape.reduce((a, b) => a * b, 1),
  );
  return Float32Array.from(x, (v) => (positive ? Math.abs(v) + 0.5 : v));
}

describe("forms of newer opsets give onnxruntime's output", () => {
  let folder: string;
  let theirs: (number[] | string)[];
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "forms-"));
    const jobs = FORMS.map(([, form], i) => {
      const file = join(folder, `${i}.onnx`);
      writeFileSync(file, bytesOf(form));
      const x = { type: "float32", dims: form.shape ?? [2, 3, 4, 6], values: [...inputOf(form)] };
      return { file, output: "y", runs: [{ x }] };
    });
    theirs = onnxruntime(jobs);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test.each(FORMS.map(([label, form], i) => [label, form, i] as const))(
    "%s",
    async (_, form, i) => {
      const want = theirs[i]!;
      if (typeof want === "string") throw new Error(`onnxruntime: ${want}`);
      using data = await loadData({
        x: { data: inputOf(form), shape: form.shape ?? [2, 3, 4, 6] },
      });
      using model = await loadModel(bytesOf(form), { loss: "mse" });
      expect(model.unsupported).toEqual([]);
      const { values } = await forward(model, data, { precision: "float64" });
      expect(errorOf(values, want)).toBeLessThan(1e-5);
    },
  );
});
