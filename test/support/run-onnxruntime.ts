/** onnxruntime in a process of its own: it takes no arrays of Jest's realm. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

export interface EngineInput {
  readonly type: string;
  readonly dims: readonly number[];
  readonly values: readonly number[];
}

export interface EngineJob {
  readonly file: string;
  /** Default: the first. */
  readonly output?: string;
  /** Inputs by name, for one run after the other. */
  readonly runs: readonly Readonly<Record<string, EngineInput>>[];
}

/** For each job the numbers of its output, those of one run after the other, or why there are none. */
export function onnxruntime(jobs: readonly EngineJob[]): (number[] | string)[] {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(__dirname, "onnxruntime.mjs")],
    { input: JSON.stringify(jobs), encoding: "utf8", maxBuffer: 2 ** 28 },
  );
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}
