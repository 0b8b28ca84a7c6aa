// Bad input: each kind has its exit code and a message with what was expected, what came and what
// to do; standard output stays empty and no file is written, begun or changed.
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DataType, floats, modelBytes, node, tensor, value } from "./10-model-maker";
import { caseFile, caseOf } from "./50-helpers";
import { cli, writeVectors } from "./60-run";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-bad-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MODEL = caseFile("mlp_relu", "model.onnx");
const X = caseFile("mlp_relu", "x.npy");
const Y = caseFile("mlp_relu", "y.npy");

function file(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A .npy file of int64 labels. */
function labels(name: string, values: number[], shape = `${values.length},`): string {
  const head = `{'descr': '<i8', 'fortran_order': False, 'shape': (${shape}), }`.padEnd(117);
  const body = Buffer.alloc(8 * values.length);
  values.forEach((label, i) => void body.writeBigInt64LE(BigInt(label), 8 * i));
  const magic = Buffer.from("\x93NUMPY\x01\x00\x76\x00", "latin1");
  return file(name, Buffer.concat([magic, Buffer.from(`${head}\n`, "latin1"), body]));
}

function rows(name: string, values: number[], shape: number[]): string {
  return writeVectors(join(folder, name), Float64Array.from(values), shape, "<f8");
}

/** A copy of x.npy with one number changed: sample 3, column 5. */
function spoilt(name: string, number: number): string {
  const bytes = Buffer.from(readFileSync(X));
  bytes.writeFloatLE(number, 10 + bytes.readUInt16LE(8) + 4 * (3 * 64 + 5));
  return file(name, bytes);
}

function labelsOfCase(): number[] {
  const bytes = readFileSync(Y);
  const begin = 10 + bytes.readUInt16LE(8);
  return Array.from({ length: 256 }, (_, i) => Number(bytes.readBigInt64LE(begin + 8 * i)));
}

const withLabel = (label: number) => labelsOfCase().map((y, i) => (i === 7 ? label : y));

interface Row {
  what: string;
  exit: number;
  error: string;
  /** All of them occur in the message. */
  says: (string | RegExp)[];
  args: () => string[];
}

const spectrum = (...args: string[]) => ["spectrum", MODEL, ...args];
const given = ["--inputs", X, "--targets", Y];

const ROWS: Row[] = [
  {
    what: "no such model",
    exit: 2,
    error: "ModelFormatError",
    says: ["nope.onnx", "expected an ONNX model", "no such file"],
    args: () => ["inspect", join(folder, "nope.onnx")],
  },
  {
    what: "not an ONNX file",
    exit: 2,
    error: "ModelFormatError",
    says: ["text.onnx", "expected an ONNX model"],
    args: () => ["inspect", file("text.onnx", "this is a text, and no model\n")],
  },
  {
    what: "a truncated model",
    exit: 2,
    error: "ModelFormatError",
    says: ["cut.onnx", "cut off", "copy or export the file again"],
    args: () => {
      const path = file("cut.onnx", readFileSync(MODEL));
      truncateSync(path, 3000);
      return ["inspect", path];
    },
  },
  {
    what: "an opset too old",
    exit: 3,
    error: "UnsupportedOperatorError",
    says: ["MatMul", "opset 5", "export the model again"],
    args: () => ["spectrum", file("old.onnx", modelBytes({ opset: 5 })), ...given],
  },
  {
    what: "unsupported operators, all of them at once",
    exit: 3,
    error: "UnsupportedOperatorError",
    says: ["Det", "first", "StringNormalizer", "second"],
    args: () => {
      const nodes = [
        node("Det", ["x"], ["a"], {}, { name: "first" }),
        node("StringNormalizer", ["a"], ["y"], {}, { name: "second" }),
      ];
      return [
        "spectrum",
        file("odd.onnx", modelBytes({ nodes, initializers: [floats("w", [4, 4])] })),
        ...given,
      ];
    },
  },
  {
    what: "missing external data",
    exit: 2,
    error: "ModelFormatError",
    says: ["weights.bin", /no such file|missing/],
    args: () => {
      const outside = tensor("w", [4, 4], {
        dataType: DataType.FLOAT,
        dataLocation: 1,
        externalData: [{ key: "location", value: "weights.bin" }] as never,
      });
      return ["inspect", file("outside.onnx", modelBytes({ initializers: [outside] }))];
    },
  },
  {
    what: "no data",
    exit: 2,
    error: "OptionError",
    says: ["--data", "--inputs", "--targets"],
    args: () => spectrum(),
  },
  {
    what: "no such data file",
    exit: 2,
    error: "DataMismatchError",
    says: ["nope.npz", /no such file|No such file/],
    args: () => spectrum("--data", join(folder, "nope.npz")),
  },
  {
    what: "truncated data",
    exit: 2,
    error: "DataMismatchError",
    says: ["cut.npy"],
    args: () => {
      const path = file("cut.npy", readFileSync(X));
      truncateSync(path, 1000);
      return spectrum("--inputs", path, "--targets", Y);
    },
  },
  {
    what: "an input of another name",
    exit: 2,
    error: "DataMismatchError",
    says: ["The model wants", "a float32", "b float32", "the data have", "pixels"],
    args: () => {
      const bytes = modelBytes({
        nodes: [node("Add", ["a", "b"], ["s"]), node("MatMul", ["s", "w"], ["y"])],
        inputs: [value("a", ["N", 4]), value("b", ["N", 4])],
      });
      const x = rows("pixels.npy", new Array(8).fill(1), [2, 4]);
      return [
        "spectrum",
        file("two.onnx", bytes),
        ...["--inputs", `a=${x}`, "--inputs", `pixels=${x}`, "--targets", labels("l.npy", [0, 1])],
      ];
    },
  },
  {
    what: "inputs of another shape",
    exit: 2,
    error: "DataMismatchError",
    says: ["expected shape (N, 64) for the model's input x", "got (256, 3)"],
    args: () =>
      spectrum("--inputs", rows("narrow.npy", new Array(768).fill(0), [256, 3]), "--targets", Y),
  },
  {
    what: "inputs of another rank",
    exit: 2,
    error: "DataMismatchError",
    says: ["expected shape (N, 64)", "(256, 8, 8)", "reshape"],
    args: () =>
      spectrum("--inputs", rows("deep.npy", new Array(16384).fill(0), [256, 8, 8]), "--targets", Y),
  },
  {
    what: "inputs of another type",
    exit: 2,
    error: "DataMismatchError",
    says: ["whole numbers", "int64"],
    args: () => [
      "spectrum",
      caseFile("tokens", "model.onnx"),
      ...["--inputs", writeVectors(join(folder, "f.npy"), new Float64Array(64), [8, 8], "<f4")],
      ...["--targets", labels("t.npy", new Array(8).fill(0))],
    ],
  },
  {
    what: "another number of targets",
    exit: 2,
    error: "DataMismatchError",
    says: ["as many samples", "256", "3"],
    args: () => spectrum("--inputs", X, "--targets", labels("three.npy", [0, 1, 2])),
  },
  {
    what: "a label out of range",
    exit: 2,
    error: "DataMismatchError",
    says: ["10", "7", /0 to 9|\[0, 10\)|10 classes/],
    args: () => spectrum("--inputs", X, "--targets", labels("high.npy", withLabel(10))),
  },
  {
    what: "a negative label",
    exit: 2,
    error: "DataMismatchError",
    says: ["-1", "7"],
    args: () => spectrum("--inputs", X, "--targets", labels("low.npy", withLabel(-1))),
  },
  {
    what: "targets of the wrong shape for the loss",
    exit: 2,
    error: "DataMismatchError",
    says: ["(256, 3)", /expected/],
    args: () =>
      spectrum("--inputs", X, "--targets", rows("y3.npy", new Array(768).fill(0.3), [256, 3])),
  },
  {
    what: "labels where the loss wants numbers",
    exit: 2,
    error: "DataMismatchError",
    says: ["[10] a sample for the loss mse", "int64 (256,)"],
    args: () => spectrum(...given, "--loss", "mse"),
  },
  {
    what: "NaN in the data",
    exit: 2,
    error: "DataMismatchError",
    says: ["nan.npy", "[3, 5]", /nan/i],
    args: () => spectrum("--inputs", spoilt("nan.npy", Number.NaN), "--targets", Y),
  },
  {
    what: "infinity in the data",
    exit: 2,
    error: "DataMismatchError",
    says: ["inf.npy", "[3, 5]", /inf/i],
    args: () => spectrum("--inputs", spoilt("inf.npy", Number.POSITIVE_INFINITY), "--targets", Y),
  },
  {
    what: "NaN in a parameter",
    exit: 2,
    error: "DataMismatchError",
    says: ["w", "[1, 2]", /nan/i],
    args: () => {
      const w = Array.from({ length: 16 }, (_, i) => (i === 6 ? Number.NaN : i));
      const bytes = modelBytes({ initializers: [floats("w", [4, 4], w)] });
      const x = rows("four.npy", [1, 2, 3, 4, 5, 6, 7, 8], [2, 4]);
      return [
        "spectrum",
        file("nan.onnx", bytes),
        ...["--inputs", x, "--targets", labels("two.npy", [0, 1])],
      ];
    },
  },
  {
    what: "a loss that is not finite",
    exit: 2,
    error: "DataMismatchError",
    says: [/loss/, /nan|inf|finite/i],
    args: () => {
      const bytes = modelBytes({
        nodes: [node("MatMul", ["x", "w"], ["a"]), node("Exp", ["a"], ["y"])],
        initializers: [floats("w", [4, 4], new Array(16).fill(500))],
      });
      const x = rows("big.npy", new Array(8).fill(1), [2, 4]);
      return [
        "product",
        file("exp.onnx", bytes),
        ...["--inputs", x, "--targets", labels("two.npy", [0, 1])],
        ...["--vector", rows("v16.npy", new Array(16).fill(1), [16])],
      ];
    },
  },
  {
    what: "k out of range",
    exit: 2,
    error: "OptionError",
    says: ["--k", "1 to 17226", "got 17227"],
    args: () => spectrum(...given, "--k", "17227"),
  },
  {
    what: "k of zero",
    exit: 2,
    error: "OptionError",
    says: ["--k", "at least 1", '"0"'],
    args: () => spectrum(...given, "--k", "0"),
  },
  {
    what: "empty data",
    exit: 2,
    error: "DataMismatchError",
    says: [/no samples|at least one sample|empty/],
    args: () =>
      spectrum("--inputs", rows("none.npy", [], [0, 64]), "--targets", labels("none-y.npy", [])),
  },
  {
    what: "a memory need beyond the budget",
    exit: 2,
    error: "MemoryBudgetError",
    says: ["--max-memory", "bytes", "1000"],
    args: () => spectrum(...given, "--max-memory", "1kB"),
  },
  {
    what: "a vector of another length",
    exit: 2,
    error: "DataMismatchError",
    says: ["expected shape (17226,) or (K, 17226)", "got (5)"],
    args: () => ["product", MODEL, ...given, "--vector", rows("v5.npy", [1, 2, 3, 4, 5], [5])],
  },
  {
    what: "a vector with NaN",
    exit: 2,
    error: "DataMismatchError",
    says: ["vector 1", "coordinate 4", /nan/],
    args: () => {
      const P = caseOf("mlp_relu").num_params;
      const v = new Float64Array(2 * P);
      v[P + 4] = Number.NaN;
      const path = writeVectors(join(folder, "nan-v.npy"), v, [2, P], "<f8");
      return ["product", MODEL, ...given, "--vector", path];
    },
  },
  {
    what: "no vector",
    exit: 2,
    error: "OptionError",
    says: ["--vector", "(P,) or (K, P)"],
    args: () => ["product", MODEL, ...given],
  },
  {
    what: "a folder that cannot be written to",
    exit: 2,
    error: "OptionError",
    says: ["--vectors", "expected a file in a folder that can be written to"],
    args: () => spectrum(...given, "--vectors", join(folder, "no", "such", "v.npy")),
  },
  {
    what: "a pattern that matches nothing",
    exit: 2,
    error: "OptionError",
    says: ['"fc*" matches no parameter', "net.0.weight"],
    args: () => spectrum(...given, "--params", "fc*"),
  },
  {
    what: "an operator that the loss does not define",
    exit: 2,
    error: "OptionError",
    says: [/ggn|Gauss-Newton/i, /l1/],
    args: () => [
      "spectrum",
      caseFile("mlp_mse", "model.onnx"),
      ...["--inputs", caseFile("mlp_mse", "x.npy"), "--targets", caseFile("mlp_mse", "y.npy")],
      ...["--loss", "l1", "--operator", "ggn"],
    ],
  },
  {
    what: "nystrom on an indefinite operator",
    exit: 2,
    error: "OptionError",
    says: [/positive semi-definite/, /krylov|lanczos/],
    args: () => spectrum(...given, "--method", "nystrom", "--k", "40"),
  },
  {
    what: "draws for another operator",
    exit: 2,
    error: "OptionError",
    says: ["--draws belongs to --operator fisher-mc, got --operator ggn"],
    args: () => spectrum(...given, "--operator", "ggn", "--draws", "3"),
  },
  {
    what: "a misspelt option",
    exit: 2,
    error: "OptionError",
    says: ["unknown option '--treads'", "--threads"],
    args: () => spectrum(...given, "--treads", "2"),
  },
  {
    what: "a misspelt command",
    exit: 2,
    error: "OptionError",
    says: [
      "inspect, verify, product, spectrum, ",
      'got "spectum"',
      '"spectrum" was probably meant',
    ],
    args: () => ["spectum", MODEL],
  },
  {
    what: "a value that is none of the choices",
    exit: 2,
    error: "OptionError",
    says: ["--loss: expected one of cross-entropy", 'got "crossentropy"'],
    args: () => spectrum(...given, "--loss", "crossentropy"),
  },
  {
    what: "no model",
    exit: 2,
    error: "OptionError",
    says: ["missing required argument 'model'"],
    args: () => ["spectrum"],
  },
];

test.each(ROWS.map((row) => [row.what, row] as const))("%s", (_, { exit, error, says, args }) => {
  const line = args();
  const before = readdirSync(folder).sort();
  const { status, out, err } = cli(...line);
  expect(err).toMatch(/^eigenscope: \w+: /);
  for (const text of says) expect(err).toMatch(text instanceof RegExp ? text : escaped(text));
  expect(err.split("\n")[0]).toMatch(new RegExp(`^eigenscope: ${error}: `));
  expect(err).not.toMatch(/\n {4}at /); // no stack: it is not a defect of ours
  expect(status).toBe(exit);
  expect(out).toBe("");
  expect(readdirSync(folder).sort()).toEqual(before);
});

const escaped = (text: string) => new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));

test("with --json the error is one line of JSON on standard error", () => {
  const { status, out, err } = cli(...spectrum(...given, "--k", "0", "--json"));
  expect(status).toBe(2);
  expect(out).toBe("");
  expect(err.split("\n")).toHaveLength(2);
  expect(JSON.parse(err)).toEqual({
    error: {
      name: "OptionError",
      code: "ERR_OPTION",
      message: expect.stringContaining("--k: expected a whole number of at least 1"),
      exitCode: 2,
    },
  });
});

test("a file that was there is as it was when the command fails after it began", () => {
  const path = file("precious.npy", "what was there");
  const { status } = cli(
    ...spectrum("--inputs", X, "--targets", labels("late.npy", withLabel(11)), "--vectors", path),
  );
  expect(status).toBe(2);
  expect(readFileSync(path, "utf8")).toBe("what was there");
});

test("a model that is not supported can still be inspected", () => {
  const nodes = [node("Det", ["x"], ["y"], {}, { name: "first" })];
  const { status, out } = cli("inspect", file("det.onnx", modelBytes({ nodes })), "--json");
  expect(status).toBe(0);
  expect(JSON.parse(out).unsupported).toEqual([
    { op: "Det", node: "first", reason: expect.any(String) },
  ]);
});
