// What binding.gyp runs: the build is CMake's. It gets a folder of its own, because node-gyp keeps
// its Makefiles in build/.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const cmakeJs = join(root, "node_modules", "cmake-js", "bin", "cmake-js");
const { status, error } = spawnSync(
  process.execPath,
  [cmakeJs, "build", "--target", "eigenscope", "--out", "build-cmake"],
  { cwd: root, stdio: "inherit" },
);
if (error) throw error;
if (status !== 0) process.exit(status ?? 1);
const release = join(root, "build", "Release");
mkdirSync(release, { recursive: true });
copyFileSync(
  join(root, "build-cmake", "Release", "eigenscope.node"),
  join(release, "eigenscope.node"),
);
