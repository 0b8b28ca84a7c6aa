// Generates lib/model/onnx_pb.ts from lib/model/onnx.proto. The result is kept in the repository,
// so this is needed only when the schema changes: node scripts/generate-onnx.mjs
// Needs protoc (apt: protobuf-compiler) on the PATH; protoc-gen-es comes with npm ci.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const { status, error } = spawnSync(
  "protoc",
  [
    "-I",
    "lib/model",
    `--plugin=${join("node_modules", ".bin", "protoc-gen-es")}`,
    "--es_out=lib/model",
    "--es_opt=target=ts,import_extension=none",
    "lib/model/onnx.proto",
  ],
  { cwd: root, stdio: "inherit" },
);
if (error) {
  console.error(`protoc did not run (${error.message}); apt-get install protobuf-compiler`);
  process.exit(1);
}
process.exit(status ?? 1);
