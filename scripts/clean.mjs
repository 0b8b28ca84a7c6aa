// Removes everything that can be built again.
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
for (const folder of ["build", "build-cmake", "dist", "prebuilds", "coverage"]) {
  rmSync(join(root, folder), { recursive: true, force: true });
}
