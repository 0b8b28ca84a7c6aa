// Values of the addon belong to Node's own realm: here, as in a vm context, instanceof is false for
// them. The library must neither rely on it nor hand out such surprises.
import vm from "node:vm";
import { eigsh, forward, gradient, hessian, linearOperator, loadData, loadModel } from "../lib";
import { native } from "../lib/native";
import { caseFile, openCase, rejection, vector } from "./50-helpers";

const tag = (value: unknown) => Object.prototype.toString.call(value);

test("the addon's arrays are of the other realm, so the premise of this file holds", async () => {
  const { model, data } = await openCase("mlp_relu");
  const { values } = await forward(model, data, { samples: 2 });
  expect(values instanceof Float64Array).toBe(false);
  expect(ArrayBuffer.isView(values)).toBe(true);
});

test("results are typed arrays by their tags, whoever made them", async () => {
  const { model, data } = await openCase("mlp_relu");
  const H = hessian(model, data);
  const top = await eigsh(H, { k: 2 });
  expect(tag(top.values)).toBe("[object Float64Array]");
  expect(tag(top.vectors)).toBe("[object Float32Array]");
  expect(tag((await gradient(model, data)).gradient)).toBe("[object Float64Array]");
  expect(tag(await H.apply(new Float32Array(H.dim)))).toBe("[object Float32Array]");
  expect(Array.isArray(model.parameters)).toBe(true);
});

test("arrays, functions, signals and errors of another realm are taken as they are", async () => {
  const other = vm.createContext({ AbortController, setTimeout });
  const V = vm.runInContext("Float64Array.of(1, 2, 3)", other);
  const twice = linearOperator(3, vm.runInContext("(V) => V.map((x) => 2 * x)", other));
  expect(Array.from(await twice.apply(V))).toEqual([2, 4, 6]);
  const bad = linearOperator(3, vm.runInContext("() => { throw new TypeError('theirs'); }", other));
  const error = await rejection(bad.apply(vector(3)));
  expect(error.name).toBe("TypeError");
  expect(error.message).toBe("theirs");
  const data = await loadData(
    vm.runInContext("({ x: { data: Float32Array.of(1, 2, 3, 4), shape: [2, 2] } })", other),
  );
  expect(data.toString()).toBe("x float32 (2, 2)");
  expect((await loadModel(caseFile("mlp_relu", "model.onnx"))).parameterCount).toBe(17226);
});

test("objects that are none of the core's are refused, not trusted", () => {
  const core = native();
  const nothing = {} as never;
  expect(() => core.scaleOperator(nothing, 2)).toThrow("expected an operator, got an object");
  expect(() => core.scaleOperator(new Map() as never, 2)).toThrow("of class Map");
  expect(() => core.curvatureOperator(nothing, nothing, { name: "mse" }, nothing)).toThrow(
    "expected a model of loadModel",
  );
  const A = linearOperator(3, (V) => V);
  expect(() => A.native.apply.call(nothing, vector(3), vector(3), 1, undefined)).toThrow();
  const NativeOperator = A.native.constructor as new (...args: unknown[]) => unknown;
  expect(() => new NativeOperator()).toThrow("made by hessian and its like");
  expect(() => A.native.apply(vector(3), vector(4), 1, undefined)).toThrow("apply: expected");
  expect(() => core.restrictOperator(A.native, new Uint8Array(2))).toThrow("expected 3 entries");
});
