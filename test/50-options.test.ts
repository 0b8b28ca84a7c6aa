// Options: every error names the option, what was expected and what came, and guesses at slips.
import {
  eigsh,
  fisher,
  ggn,
  gradient,
  hessian,
  linearOperator,
  loadModel,
  loss,
  magnitudeMask,
  OptionError,
} from "../lib";
import { checkOptions, nearest } from "../lib/options";
import { caseFile, openCase, rejection, tinyProblem } from "./50-helpers";

const A = linearOperator(5, (V) => V);

// What is asked of eigsh, and what its error says.
const EIGSH: [object, string][] = [
  [{ k: 0 }, "eigsh: k: expected a whole number of at least 1, got 0"],
  [{ k: 2.5 }, "eigsh: k: expected a whole number of at least 1, got 2.5"],
  [{ k: 6 }, "eigsh: k: expected at most 5, the dimension of linearOperator, got 6"],
  [{ which: "lm" }, 'eigsh: which: expected one of "LM", "LA", "SA", "BE", got "lm"'],
  [{ method: "arpack" }, 'method: expected one of "lanczos", "krylov", "subspace", "nystrom"'],
  [{ tol: -1 }, "eigsh: tol: expected a number of at least 0, got -1"],
  [{ tol: "1e-3" }, 'eigsh: tol: expected a number of at least 0, got "1e-3"'],
  [{ seed: -1 }, "eigsh: seed: expected a whole number from 0 to 2^64 - 1, got -1"],
  [{ seed: 1n << 64n }, "eigsh: seed: expected a whole number from 0 to 2^64 - 1"],
  [{ maxProducts: 0 }, "eigsh: maxProducts: expected a whole number of at least 1, got 0"],
  [{ signal: {} }, "eigsh: signal: expected an AbortSignal, got an object of class Object"],
  [{ onProgress: true }, "eigsh: onProgress: expected a function, got true"],
  [{ maxproducts: 9 }, 'there is no option "maxproducts"; "maxProducts" was probably meant'],
  [{ tolerance: 1 }, 'there is no option "tolerance"'],
];

test.each(EIGSH)("eigsh %p", async (options, message) => {
  const error = await rejection(eigsh(A, options));
  expect(error).toBeInstanceOf(OptionError);
  expect(error.message).toContain(message);
});

test("eigsh wants an operator", async () => {
  const error = await rejection(eigsh([[1]] as never));
  expect(error.message).toBe("eigsh: expected an operator, got an array of 1 entries");
});

test("options that belong to another operator, or to none", async () => {
  const { model, data } = await tinyProblem();
  const message = (make: () => unknown) => {
    try {
      make();
    } catch (error) {
      expect(error).toBeInstanceOf(OptionError);
      return (error as Error).message;
    }
    return "nothing was thrown";
  };
  expect(message(() => hessian(model, data, { precison: "float64" } as never))).toContain(
    'hessian: there is no option "precison"; "precision" was probably meant',
  );
  expect(message(() => hessian(model, data, { precision: "double" as never }))).toContain(
    'hessian: precision: expected one of "float32", "float64", got "double"',
  );
  expect(message(() => ggn(model, data, { threads: 0 }))).toContain("threads: expected a whole");
  expect(message(() => ggn(model, data, { params: "nope*" }))).toContain(
    'params: "nope*" matches no parameter; names are w1, b1, w2, b2',
  );
  expect(message(() => ggn(model, data, { exclude: "*" }))).toContain("leave none");
  expect(message(() => fisher(model, data, {} as never))).toContain(
    'fisher: type: expected one of "type-2", "mc", "empirical", got undefined',
  );
  expect(message(() => fisher(model, data, { type: "type-2", draws: 3 }))).toContain(
    'draws and seed belong to type "mc", got type "type-2"',
  );
  expect(message(() => hessian({} as never, data))).toContain("expected a model of loadModel");
  expect(message(() => hessian(model, {} as never))).toContain("expected data of loadData");
  expect(message(() => hessian(model, data, { loss: "crossentropy" as never }))).toContain(
    "loss: expected one of cross-entropy, nll, nll-probabilities, mse",
  );
});

test("a loss must be named somewhere", async () => {
  const { data } = await openCase("mlp_relu");
  const model = await loadModel(caseFile("mlp_relu", "model.onnx"));
  expect(() => hessian(model, data)).toThrow("hessian: expected a loss, of the model or of the");
  const { message } = await rejection(loss(model, data));
  expect(message).toContain("loss: expected a loss");
  const named = await gradient(model, data, { loss: "cross-entropy" });
  expect(named.loss).toBeGreaterThan(0);
});

test("linearOperator and what it is composed with", () => {
  expect(() => linearOperator(0, (V) => V)).toThrow("dim: expected a whole number of at least 1");
  expect(() => linearOperator(3, 7 as never)).toThrow("apply: expected a function, got 7");
  expect(() => linearOperator(3, (V) => V, { dtype: "float16" as never })).toThrow(
    'linearOperator: dtype: expected one of "float32", "float64", got "float16"',
  );
  expect(() => A.scale(Number.NaN)).toThrow("scale: factor: expected a finite number, got NaN");
  expect(() => A.shift("1" as never)).toThrow('shift: amount: expected a finite number, got "1"');
  expect(() => A.add({} as never)).toThrow("add: expected an operator, got an object of class");
  expect(() => A.add(linearOperator(4, (V) => V))).toThrow("dimension 4");
  expect(() => A.add(linearOperator(5, (V) => V, { dtype: "float32" }))).toThrow("float32");
  expect(() => A.restrict("w*")).toThrow("linearOperator has no named parameters");
  expect(() => A.restrict([true])).toThrow("expected a mask of 5 entries");
  expect(() => A.restrict({ indices: [5] })).toThrow("expected indices from 0 to 4, got 5");
  expect(() => A.restrict([false, false, false, false, false])).toThrow(OptionError);
  expect(() => A.restrict(3 as never)).toThrow("expected patterns of names, a Mask");
});

test("magnitudeMask", () => {
  expect(() => magnitudeMask([], { keep: 0 })).toThrow("keep: expected a share over 0 and at most");
  expect(() => magnitudeMask([], {} as never)).toThrow("keep: expected a share");
  expect(() => magnitudeMask([], { keep: 0.5, scope: "tensor" as never })).toThrow("scope");
  expect(() => magnitudeMask({} as never, { keep: 0.5 })).toThrow("expected the parameters");
});

test("apply takes whole vectors of its own type", async () => {
  const message = async (V: unknown) => (await rejection(A.apply(V as never))).message;
  expect(await message(new Float32Array(5))).toContain(
    "apply: V: expected a Float64Array, as linearOperator computes in float64, got a Float32Array; " +
      "convert it with Float64Array.from(V)",
  );
  expect(await message([1, 2, 3, 4, 5])).toContain("got an array of 5 entries");
  expect(await message(new Float64Array(7))).toContain("expected K times 5 numbers");
  expect(await message(new Float64Array(0))).toContain("expected K times 5 numbers");
  const withNaN = Float64Array.from([0, 0, 0, 0, 0, 0, Number.NaN, 0, 0, 0]);
  expect(await message(withNaN)).toContain("apply: vector 1 has nan at coordinate 1");
});

test("buffers that may change or vanish are refused", async () => {
  const message = async (V: Float64Array) => (await rejection(A.apply(V))).message;
  expect(await message(new Float64Array(new SharedArrayBuffer(40)) as never)).toContain("shared");
  const resizable = new (ArrayBuffer as unknown as new (n: number, o: object) => ArrayBuffer)(40, {
    maxByteLength: 80,
  });
  expect(await message(new Float64Array(resizable))).toContain("resizable");
  const gone = new Float64Array(5);
  structuredClone(gone, { transfer: [gone.buffer] });
  expect(await message(gone)).toContain("expected K times 5 numbers");
});

test("the nearest known name", () => {
  expect(nearest("treads", ["threads", "batch"])).toBe("threads");
  expect(nearest("maxmemory", ["threads", "maxMemory"])).toBe("maxMemory");
  expect(nearest("entirely-else", ["threads", "batch"])).toBeUndefined();
  expect(() => checkOptions("f", [] as object, {})).toThrow("f: expected an object of options");
});
