// Masks in files: what is written is read again, byte for byte the same, and wrong files are named.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadMask, Mask, mask, saveMask } from "../lib";
import { writeNpz, writeSafetensors } from "../lib/data/archive";
import { openCase, tinyProblem } from "./50-helpers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-masks-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);

test.each(["ticket.npz", "ticket.safetensors"])("%s and back", async (name) => {
  const { model } = await openCase("cnn_small");
  const saved = await mask(model, { criterion: "random", keep: 0.3 });
  await saveMask(at(name), saved);
  const found = await loadMask(at(name), model.parameters);
  expect(found.equals(saved)).toBe(true);
  expect(found.name).toBe("ticket");
  expect(found.parameters).toEqual(saved.parameters);
  const bytes = readFileSync(at(name));
  await saveMask(at(name), found.named("random"));
  expect(readFileSync(at(name)).equals(bytes)).toBe(true);
  // A damaged archive is no mask.
  writeFileSync(at(name), bytes.subarray(0, bytes.length - 30));
  await expect(loadMask(at(name), model.parameters)).rejects.toThrow(at(name));
});

test("the formats, field by field", async () => {
  const m = new Mask(
    [{ name: "/fc/w", offset: 0, size: 6, shape: [2, 3] }],
    [1, 0, 1, 0, 0, 1],
    "m",
  );
  await saveMask(at("m.safetensors"), m);
  const tensors = readFileSync(at("m.safetensors"));
  const end = 8 + Number(tensors.readBigUInt64LE(0));
  expect(end % 8).toBe(0);
  expect(JSON.parse(tensors.toString("utf8", 8, end))).toEqual({
    __metadata__: { mask: "m" },
    "/fc/w": { dtype: "BOOL", shape: [2, 3], data_offsets: [0, 6] },
  });
  expect([...tensors.subarray(end)]).toEqual([1, 0, 1, 0, 0, 1]);

  await saveMask(at("m.npz"), m);
  const zip = readFileSync(at("m.npz"));
  expect(zip.toString("latin1", 0, 4)).toBe("PK\x03\x04");
  expect(zip.toString("latin1", 30, 39)).toBe("/fc/w.npy");
  expect(zip.toString("latin1", 40, 45)).toBe("NUMPY");
  expect(zip.toString("latin1")).toContain(
    "'descr': '|b1', 'fortran_order': False, 'shape': (2, 3)",
  );
});

test("arrays of numbers, and tensors that the file does not have", async () => {
  const { model } = await tinyProblem();
  const w2 = { name: "w2", shape: [2, 4], values: Float32Array.of(1, 0, 0, 1, 1, 1, 0, 0) };
  for (const [name, write] of [
    ["a.npz", writeNpz],
    ["a.safetensors", writeSafetensors],
  ] as const) {
    await write(at(name), [w2]);
    const found = await loadMask(at(name), model.parameters);
    expect(found.layers().map(({ kept }) => kept)).toEqual([12, 4, 4, 2]);
    await write(at(name), [{ ...w2, shape: [4, 2] }]);
    await expect(loadMask(at(name), model.parameters)).rejects.toThrow(
      "w2: expected the shape (2, 4), got (4, 2)",
    );
    await write(at(name), [{ ...w2, values: w2.values.map((x) => x / 2) }]);
    await expect(loadMask(at(name), model.parameters)).rejects.toThrow(
      "w2: expected zeros and ones, got 0.5 at flat index 0",
    );
    await write(at(name), [{ ...w2, name: "w3" }]);
    await expect(loadMask(at(name), model.parameters)).rejects.toThrow(
      "expected arrays by the names of tensors, w1, b1, w2, b2, got w3",
    );
  }
});

test("wrong uses", async () => {
  const { model } = await tinyProblem();
  const m = await mask(model, { criterion: "magnitude", keep: 0.5 });
  await expect(saveMask(at("m.pt"), m)).rejects.toThrow(
    'expected a file that ends in .npz or .safetensors, got "',
  );
  await expect(saveMask(at("none/m.npz"), m)).rejects.toThrow("cannot be written");
  await expect(saveMask(at("m.npz"), [] as never)).rejects.toThrow("expected a Mask, got an array");
  await expect(loadMask(at("m.npz"), model.parameters)).rejects.toThrow("m.npz");
  await expect(loadMask(at("m.npz"), model as never)).rejects.toThrow("expected the parameters");
  const twice = { name: "w", shape: [1], values: Uint8Array.of(1) };
  await expect(writeNpz(at("m.npz"), [twice, twice])).rejects.toThrow("two arrays called w");
  await expect(writeNpz(at("m.npz"), [{ ...twice, shape: [2] }])).rejects.toThrow(
    "w: expected 2 numbers for the shape (2), got 1",
  );
});
