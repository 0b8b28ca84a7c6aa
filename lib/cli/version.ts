/** eigenscope --version --verbose: what runs below. */
import { native } from "../native";
import { print, table } from "./output";

export function printVersions(version: string): void {
  const { compiler, blas, blasCore, onednn, onednnRefusal } = native().runtime();
  const rows = [
    ["eigenscope", version],
    ["Node.js", `${process.version}, ${process.platform} ${process.arch}`],
    ["core", `compiled by GCC ${compiler}`],
    ["BLAS", `${blas}; kernels for ${blasCore}`],
    ["oneDNN", onednn || `not used: ${onednnRefusal}`],
    ["onnxruntime", onnxruntime()],
  ];
  for (const line of table(["", ""], rows).slice(1)) print(line);
}

function onnxruntime(): string {
  try {
    return (require("onnxruntime-node/package.json") as { version: string }).version;
  } catch {
    return "not installed; only `eigenscope verify` uses it";
  }
}
