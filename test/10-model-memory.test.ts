// What loading holds, and that it is given back.
import { loadModel } from "../lib/model/model";
import { native } from "../lib/native";
import { floats, modelBytes } from "./10-model-maker";

test("load and dispose, over and over, leaves memory flat", async () => {
  // 1 MiB of weights each: a leak of one in five would show.
  const bytes = modelBytes({ initializers: [floats("w", [4, 65536])] });
  const once = async () => {
    const model = await loadModel(bytes);
    expect(model.native.heldBytes).toBe(4 * 4 * 65536);
    model.dispose();
    expect(model.native.heldBytes).toBe(0);
  };
  for (let i = 0; i < 50; i++) await once();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < 500; i++) await once();
  const growth = (process.memoryUsage().rss - before) / 2 ** 20;
  expect(growth).toBeLessThan(100);
});

test("a choice of parameters keeps the tensors when the whole is disposed of", async () => {
  const bytes = modelBytes({ initializers: [floats("w", [4, 4]), floats("v", [4])] });
  const model = await loadModel(bytes, { params: { include: "w" } });
  expect(Array.from(model.parameters[0]!.values())).toEqual([...Array(16).keys()]);
  model.dispose();
});

test("only the core makes its models", async () => {
  const model = await loadModel(modelBytes({}));
  const NativeModel = model.native.constructor as new (...args: unknown[]) => unknown;
  expect(() => new NativeModel()).toThrow("made by loadModel");
  expect(() => new NativeModel({})).toThrow("made by loadModel");
  expect(() => native().selectParameters({} as never, [0])).toThrow(
    "expected a model of loadModel",
  );
  expect(() => native().selectParameters(new Map() as never, [0])).toThrow(
    "an object of class Map",
  );
  expect(() => native().selectParameters(null as never, [0])).toThrow("got null");
  const values = model.native.values;
  expect(() => values.call({} as never, 0)).toThrow();
  expect(() => model.native.values(9)).toThrow("position of a parameter, got 9");
  expect(() => model.native.values("0" as never)).toThrow('expected a whole number, got "0"');
  model.dispose();
  expect(() => native().selectParameters(model.native, [0])).toThrow("the model was disposed");
});
