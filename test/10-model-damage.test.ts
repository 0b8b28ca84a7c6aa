// Damaged files: whatever the bytes are, loading ends soon, in a model or in a typed error.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { EigenscopeError } from "../lib/errors";
import { loadModel } from "../lib/model/model";
import { floats, fn, modelBytes, node, referring, tensor, value } from "./10-model-maker";

/** xorshift32: the same damage every time. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const small = modelBytes({
  initializers: [floats("w", [4, 4]), tensor("b", [4], { dataType: 1, floatData: [1, 2, 3, 4] })],
  functions: [
    fn("F", ["a"], ["b"], [referring(node("LeakyRelu", ["a"], ["b"]), { alpha: "slope" })], {
      defaults: { slope: 0.5 },
    }),
  ],
  nodes: [
    node("Gemm", ["x", "w", "b"], ["h"], { transB: 1n, alpha: 1 }),
    node("F", ["h"], ["i"], { slope: 0.5 }, { domain: "local" }),
    node("Reshape", ["i", "s"], ["y"]),
    node("Constant", [], ["s"], {
      value: tensor("", [2], { dataType: 7, int64Data: [-1n, 4n] }),
      other: [1n, 2n],
    }),
  ],
  inputs: [value("x", ["batch", 4])],
});

const folders = ["fixtures/cases", "../examples/models"].map((f) => join(__dirname, f));
const files = folders
  .filter(existsSync)
  .flatMap((folder) =>
    readdirSync(folder).map((name) =>
      name.endsWith(".onnx") ? join(folder, name) : join(folder, name, "model.onnx"),
    ),
  )
  .filter(existsSync);

/** True where the bytes were taken for a model. Anything but a typed error fails the test. */
async function taken(bytes: Uint8Array): Promise<boolean> {
  try {
    const model = await loadModel(bytes);
    model.dispose();
    return true;
  } catch (error) {
    if (!(error instanceof EigenscopeError) || error.kind === "Internal") throw error;
    expect(["ModelFormat", "MemoryBudget"]).toContain(error.kind);
    expect(error.message.length).toBeGreaterThan(10);
    return false;
  }
}

test("the undamaged models are read", async () => {
  expect(files.length).toBeGreaterThan(3);
  expect(await taken(small)).toBe(true);
  for (const file of files) expect(await taken(readFileSync(file))).toBe(true);
});

test("a file cut off anywhere is refused", async () => {
  const whole = modelBytes({});
  for (let length = 0; length < whole.length; length++)
    expect(await taken(whole.subarray(0, length))).toBe(false);
  for (let length = 0; length < small.length; length++) await taken(small.subarray(0, length));
  for (const file of files) {
    const bytes = readFileSync(file);
    const random = randomNumbers(bytes.length);
    for (let i = 0; i < 20; i++) {
      const length = random(bytes.length);
      await taken(bytes.subarray(0, length));
    }
  }
});

test.each([1, 2, 3, 4])("bytes changed at random, round %i", async (round) => {
  const random = randomNumbers(977 * round);
  let refused = 0;
  const damage = async (original: Uint8Array, times: number, head: number) => {
    for (let i = 0; i < times; i++) {
      const bytes = Uint8Array.from(original);
      for (let hits = 1 + random(4); hits > 0; hits--)
        bytes[random(Math.min(head, bytes.length))] = random(4) ? random(256) : 0xff;
      if (!(await taken(bytes))) refused++;
    }
  };
  await damage(small, 400, small.length);
  // In large files most bytes are weights: the structure is at the beginning.
  for (const file of files) await damage(readFileSync(file), 12, 2000);
  expect(refused).toBeGreaterThan(100);
});

test("pieces left out, doubled and swapped", async () => {
  const random = randomNumbers(5);
  for (let i = 0; i < 600; i++) {
    const a = random(small.length);
    const b = Math.min(small.length, a + 1 + random(40));
    const pieces = [
      [small.subarray(0, a), small.subarray(b)],
      [small.subarray(0, b), small.subarray(a)],
      [small.subarray(b), small.subarray(0, b)],
    ][i % 3]!;
    await taken(Uint8Array.from(Buffer.concat(pieces)));
  }
});

test("noise", async () => {
  const random = randomNumbers(11);
  for (let i = 0; i < 300; i++) {
    const bytes = Uint8Array.from({ length: 1 + random(200) }, () => random(256));
    // As if it began like a model.
    if (i % 2) bytes.set([8, 8, 0x3a].slice(0, bytes.length));
    await taken(bytes);
  }
});

test("messages inside messages without end", async () => {
  // A graph in an attribute of a node of a graph, and so on; lengths written from the inside out.
  let inner = Uint8Array.of();
  const wrap = (tag: number, body: Uint8Array) => {
    const head = [tag];
    let length = body.length;
    for (; length > 127; length >>>= 7) head.push((length & 127) | 128);
    head.push(length);
    return Uint8Array.from(Buffer.concat([Uint8Array.from(head), body]));
  };
  for (let i = 0; i < 2000; i++) inner = wrap(0x0a, wrap(0x2a, wrap(0x32, inner)));
  expect(await taken(wrap(0x3a, inner))).toBe(false);
});
