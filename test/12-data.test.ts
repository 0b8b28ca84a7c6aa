import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DataSource, type LoadDataOptions, loadData } from "../lib/data/data";
import { type NpyValues, writeNpy } from "../lib/data/npy";

const fixture = (name: string) => join(__dirname, "fixtures", "data", name);
const x = Float32Array.from({ length: 24 }, (_, i) => i / 2 - 3);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-data-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, contents: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, contents);
  return path;
}

async function described(source: DataSource, options?: LoadDataOptions): Promise<string> {
  using data = await loadData(source, options);
  return data.toString();
}

describe("loadData", () => {
  test.each(["stored.npz", "deflated.npz", "zip64.npz", "xy.safetensors"])(
    "%s has its arrays, types and shapes",
    async (name) => {
      using data = await loadData(fixture(name));
      expect(data.samples).toBe(4);
      const sorted = [...data.arrays].sort((a, b) => (a.name < b.name ? -1 : 1));
      expect(sorted).toEqual([
        { name: "x", type: "float32", shape: [4, 3, 2], source: fixture(name) },
        { name: "y", type: "int64", shape: [4], source: fixture(name) },
      ]);
    },
  );

  test("files by name, and several that name themselves", async () => {
    const images = fixture("images-idx3-ubyte");
    const labels = fixture("labels-idx1-ubyte");
    expect(await described({ x: images, y: labels })).toBe("x uint8 (4, 2, 3), y uint8 (4,)");
    expect(await described([fixture("v1.npy"), fixture("big.npy")])).toBe(
      "v1 float32 (4, 3, 2), big float32 (4, 3, 2)",
    );
  });

  test("arrays at hand, of every type", async () => {
    const arrays = {
      a: { data: x, shape: [4, 6] },
      b: [1, 2, 3, 4],
      c: new BigInt64Array(4),
      d: { data: Uint8Array.of(0, 1, 1, 0), type: "bool" },
      e: { data: new Uint16Array(8), shape: [4, 2], type: "bfloat16" },
      f: new Uint8ClampedArray(4),
      g: { data: new Int16Array(4) },
    } as const;
    expect(await described(arrays)).toBe(
      "a float32 (4, 6), b float64 (4,), c int64 (4,), d bool (4,), e bfloat16 (4, 2), " +
        "f uint8 (4,), g int16 (4,)",
    );
    expect(await described({ x: fixture("v1.npy"), y: Int32Array.of(0, 1, 2, 3) })).toContain(
      "y int32 (4,)",
    );
  });

  test("a selection of arrays and of samples", async () => {
    const file = fixture("stored.npz");
    expect(await described(file, { samples: 3 })).toBe("x float32 (3, 3, 2), y int64 (3,)");
    expect(await described(file, { samples: [3, 4], select: ["y"] })).toBe("y int64 (1,)");
    expect(await described(file, { normalize: { mean: [1, 2, 3], std: 2 } })).toContain(
      "x float32",
    );
    expect(await described(file, { normalize: { y: { scale: 2 } } })).toContain("y int64");
  });

  test("a table, with the target that it names or that is named", async () => {
    const table = write("table.csv", "a,y,label\n1,0,3\n2,1,4\n");
    expect(await described(table)).toContain("x float64 (2, 2), y float64 (2,)");
    expect(await described(table, { target: "label" })).toContain("label float64 (2,)");
    expect(await described(table, { target: -1 })).toContain("y float64 (2,)");
    expect(await described(table, { target: ["y", 2] })).toContain("y float64 (2, 2)");
    const bare = write("bare.csv", "1,2\n3,4\n");
    expect(await described({ x: bare })).toBe("x float64 (2, 2)");
    expect(await described(bare, { header: true })).toContain("x float64 (1, 2)");
  });

  test("an aborted call rejects, and a disposed set may be disposed of again", async () => {
    const signal = AbortSignal.abort();
    await expect(loadData(fixture("stored.npz"), { signal })).rejects.toMatchObject({
      name: "AbortError",
    });
    const data = await loadData(fixture("stored.npz"));
    data.dispose();
    data.dispose();
    expect(data.samples).toBe(4);
  });
});

describe("loadData refuses", () => {
  const npy = () => readFileSync(fixture("v1.npy"));
  test.each<[string, () => DataSource, RegExp]>([
    ["a missing file", () => join(folder, "none.npz"), /none\.npz: cannot be opened: No such file/],
    ["a folder", () => folder, /is not a regular file/],
    ["an empty file", () => write("empty.npy", ""), /is empty \(0 bytes\)/],
    [
      "a truncated file",
      () => write("short.npy", npy().subarray(0, 200)),
      /short\.npy: truncated: expected 96 bytes .* float32 \(4, 3, 2\), got 72/,
    ],
    ["a changed archive", () => write("bad.npz", damaged()), /x\.npy: is damaged: checksum/],
    ["another format", () => write("a.h5", "\x89HDF\r\n\x1a\n"), /HDF5|something else/],
    [
      "differing samples",
      () => ({ x: fixture("v1.npy"), y: [1, 2, 3] }),
      /as many samples .* x float32 \(4, 3, 2\), y float64 \(3,\)/,
    ],
    ["empty data", () => ({ x: new Float32Array(0) }), /x: the data are empty: 0 samples/],
    ["a scalar", () => fixture("scalar.npy"), /scalar: expected one row a sample, got a scalar/],
    [
      "text in a table",
      () => write("text.csv", "a,b\n1,2\n3,oops\n"),
      /line 3, column b: expected a number, got "oops"/,
    ],
    ["two arrays for one name", () => ({ z: fixture("stored.npz") }), /one named z.*it has x, y/],
  ])("%s", async (_, source, message) => {
    const promise = loadData(source());
    await expect(promise).rejects.toThrow(message);
    await expect(promise).rejects.toMatchObject({
      name: "DataMismatchError",
      code: "ERR_DATA_MISMATCH",
    });
  });

  function damaged(): Uint8Array {
    const bytes = readFileSync(fixture("stored.npz"));
    bytes[200]! ^= 1;
    return bytes;
  }

  test.each<[string, unknown, unknown, RegExp]>([
    ["no source", undefined, {}, /expected a path.*got undefined/],
    ["a bare array", x, {}, /expected a path.*Float32Array of 24/],
    ["nothing", {}, {}, /at least one file or array/],
    ["a path that is no string", [3], {}, /array of paths, got 3/],
    ["an unknown option", { x }, { smaples: 3 }, /"samples" was probably meant/],
    ["samples past the end", { x }, { samples: 25 }, /samples: 0 to 25 .* have 24/],
    ["no samples", { x }, { samples: 0 }, /samples: expected a whole number of at least 1/],
    ["a shape of another size", { x: { data: x, shape: [5, 5] } }, {}, /24 numbers.*has 25/],
    ["a type JavaScript has but the core has not", { x: new Uint32Array(3) }, {}, /x: expected/],
    ["bool in floats", { x: { data: x, type: "bool" } }, {}, /expected a Uint8Array for type bool/],
    ["a shared buffer", { x: new Float32Array(new SharedArrayBuffer(8)) }, {}, /x:.*[Ss]hared/],
    ["normalize for no array", { x }, { normalize: { z: {} } }, /no array z/],
    ["normalize by nothing", { x }, { normalize: { std: 0 } }, /std must be finite and not 0/],
    ["a misspelt normalize", { x }, { normalize: { means: 1 } }, /"mean" was probably meant/],
    ["a column that is not there", "table", { target: "z" }, /has no column z; it has a, b/],
  ])("%s", async (_, source, options, message) => {
    const given = source === "table" ? write("ab.csv", "a,b\n1,2\n") : source;
    const promise = loadData(given as DataSource, options as LoadDataOptions);
    await expect(promise).rejects.toThrow(message);
    await expect(promise).rejects.toMatchObject({ name: "OptionError" });
  });
});

describe("writeNpy", () => {
  test("writes what NumPy writes", async () => {
    const path = join(folder, "x.npy");
    await writeNpy(path, x, [4, 3, 2]);
    expect(readFileSync(path).equals(readFileSync(fixture("v1.npy")))).toBe(true);
    await writeNpy(path, Float64Array.of(2.5), []);
    expect(readFileSync(path).equals(readFileSync(fixture("scalar.npy")))).toBe(true);
  });

  test("pieces make one array", async () => {
    const path = join(folder, "pieces.npy");
    async function* pieces() {
      for (let at = 0; at < 24; at += 6) yield x.subarray(at, at + 6);
    }
    await writeNpy(path, pieces(), [4, 3, 2]);
    expect(readFileSync(path).equals(readFileSync(fixture("v1.npy")))).toBe(true);
  });

  test.each<[string, NpyValues]>([
    ["float32", Float32Array.of(1, 2)],
    ["float64", Float64Array.of(1, 2)],
    ["uint8", Uint8Array.of(1, 2)],
    ["int8", Int8Array.of(1, 2)],
    ["int16", Int16Array.of(1, 2)],
    ["uint16", Uint16Array.of(1, 2)],
    ["int32", Int32Array.of(1, 2)],
    ["int64", BigInt64Array.of(1n, 2n)],
  ])("%s is read back as such", async (type, values) => {
    const path = join(folder, `${type}.npy`);
    await writeNpy(path, values);
    expect(await described(path)).toBe(`${type} ${type} (2,)`);
  });

  test("a long header is padded, so that data stay aligned", async () => {
    const path = join(folder, "long.npy");
    await writeNpy(path, new Float32Array(1), new Array(30).fill(1));
    expect((readFileSync(path).length - 4) % 64).toBe(0);
    expect(await described(path)).toContain("float32 (1, 1,");
  });

  test("what fails leaves the old file and nothing else", async () => {
    const path = join(folder, "kept.npy");
    copyFileSync(fixture("v1.npy"), path);
    const before = readdirSync(folder);
    function* failing() {
      yield x;
      throw new Error("disk of thoughts full");
    }
    await expect(writeNpy(path, failing(), [48])).rejects.toThrow("disk of thoughts full");
    await expect(writeNpy(path, x, [4, 4])).rejects.toThrow(/expected 16 numbers.*got more/);
    await expect(writeNpy(path, x, [5, 5])).rejects.toThrow(/expected 25 numbers.*got 24/);
    await expect(writeNpy(path, [x, new Float64Array(1)], [25])).rejects.toThrow(/one type/);
    await expect(writeNpy(path, [x] as never)).rejects.toThrow(/expected a shape.*none/);
    await expect(writeNpy(path, [] as NpyValues[], [0])).rejects.toThrow(/got none/);
    expect(readdirSync(folder)).toEqual(before);
    expect(readFileSync(path).equals(readFileSync(fixture("v1.npy")))).toBe(true);
    const stopped = writeNpy(path, x, [24], AbortSignal.abort());
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
    expect(readdirSync(folder)).toEqual(before);
    const nowhere = writeNpy(join(folder, "no", "x.npy"), x);
    await expect(nowhere).rejects.toThrow(/x\.npy: cannot be written: ENOENT/);
    await expect(nowhere).rejects.toMatchObject({ name: "OptionError" });
  });
});
