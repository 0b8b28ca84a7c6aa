// Checks the C and C++ sources against .clang-format, or rewrites them with --write. The binary
// comes from npm so that everybody has the same version.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folders = ["native", "test/native", "bench", "cmake"];

const files = folders
  .filter((folder) => existsSync(join(root, folder)))
  .flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(cc|h|c)$/.test(name))
      .map((name) => join(folder, name)),
  )
  .sort();

const require = createRequire(import.meta.url);
const home = dirname(require.resolve("clang-format/package.json"));
const binary = join(home, "bin", `${process.platform}_${process.arch}`, "clang-format");
if (!existsSync(binary)) {
  console.log(`clang-format: no binary for ${process.platform}-${process.arch}, check left out`);
  process.exit(0);
}
const write = process.argv.includes("--write");
const { status, stderr, error } = spawnSync(
  binary,
  ["--style=file", ...(write ? ["-i"] : ["--dry-run", "-Werror"]), ...files],
  { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 },
);
if (error) throw error;
// One line a file, where the first difference is.
const places = stderr.matchAll(/^(\S+):(\d+):\d+: error: code should be clang-formatted/gm);
const first = new Map();
for (const [, file, line] of places) if (!first.has(file)) first.set(file, line);
if (status !== 0 && first.size === 0) console.error(stderr);
for (const [file, line] of first) console.error(`${file}:${line}: differs from .clang-format`);
if (status !== 0) console.error("clang-format: run `npm run format`");
else console.log(`clang-format: ${files.length} files`);
process.exit(status ?? 1);
