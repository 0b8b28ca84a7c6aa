// Runs the command line as a user does, and reads and writes .npy files by means of its own.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { caseFile } from "./50-helpers";

export const BIN = join(__dirname, "..", "bin", "eigenscope.js");

export interface Result {
  status: number | null;
  out: string;
  err: string;
}

function run(command: string, args: readonly string[], env: Record<string, string>): Result {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env },
  });
  return { status, out: stdout, err: stderr };
}

/** One command line, with its status and what it printed. */
export const cli = Object.assign((...args: string[]) => run(process.execPath, [BIN, ...args], {}), {
  in:
    (env: Record<string, string>) =>
    (...args: string[]) =>
      run(process.execPath, [BIN, ...args], env),
  shell: (line: string) => run("sh", ["-c", line], { NODE: process.execPath, BIN }),
});

/** Model and data of a reference case, as arguments. */
export const subject = (name: string): string[] => [
  caseFile(name, "model.onnx"),
  ...["--inputs", caseFile(name, "x.npy"), "--targets", caseFile(name, "y.npy")],
];

/** A command with --json that must succeed: its document, which is all of standard output. */
// biome-ignore lint/suspicious/noExplicitAny: documents are checked by the tests, not by types
export function json(...args: string[]): any {
  const { status, out, err } = cli(...args, "--json");
  if (status !== 0) throw new Error(`eigenscope ${args.join(" ")}: exit ${status}: ${err}`);
  if (out.split("\n").length !== 2) throw new Error(`expected one line, got ${out}`);
  return JSON.parse(out);
}

export function readNpy(path: string): { shape: number[]; type: string; values: Float64Array } {
  const bytes = readFileSync(path);
  const end = 10 + bytes.readUInt16LE(8);
  const head = bytes.toString("latin1", 10, end);
  const type = /'descr': '([^']+)'/.exec(head)![1]!;
  const shape = (/'shape': \(([^)]*)\)/.exec(head)![1]!.match(/\d+/g) ?? []).map(Number);
  const raw = bytes.buffer.slice(bytes.byteOffset + end, bytes.byteOffset + bytes.length);
  const values = type === "<f4" ? Float64Array.from(new Float32Array(raw)) : new Float64Array(raw);
  return { shape, type, values };
}

/** Writes numbers in the given type, and gives the path. */
export function writeVectors(
  path: string,
  values: Float64Array,
  shape: number[],
  type: "<f4" | "<f8" | ">f8",
): string {
  const dims = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${dims}), }`;
  const head = Buffer.alloc(128, " ");
  head.write("\x93NUMPY\x01\x00", "latin1");
  head.writeUInt16LE(118, 8);
  head.write(text, 10, "latin1");
  head.write("\n", 127);
  const wide = type !== "<f4";
  const body = Buffer.alloc(values.length * (wide ? 8 : 4));
  values.forEach((value, i) => {
    if (type === "<f4") body.writeFloatLE(value, 4 * i);
    else if (type === "<f8") body.writeDoubleLE(value, 8 * i);
    else body.writeDoubleBE(value, 8 * i);
  });
  writeFileSync(path, Buffer.concat([head, body]));
  return path;
}
