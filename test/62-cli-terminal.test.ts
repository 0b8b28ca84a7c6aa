// On a terminal: Ctrl-C, and the line that tells how far a command is.
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { duration, ProgressLine, short, size, table } from "../lib/cli/output";
import { BIN } from "./60-run";

const examples = join(__dirname, "..", "examples");

// A job of many minutes.
const LONG = [
  "spectrum",
  join(examples, "models", "mlp.onnx"),
  ...["--inputs", join(examples, "data", "t10k-2048-images.idx3-ubyte"), "--scale", "1/255"],
  ...["--targets", join(examples, "data", "t10k-2048-labels.idx1-ubyte")],
  ...["--precision", "float64", "--k", "500", "--which", "SA", "--tol", "1e-9"],
];

test.each(["SIGINT", "SIGTERM"] as const)("%s: exit 130, nothing written", async (signal) => {
  const folder = mkdtempSync(join(tmpdir(), "eigenscope-stop-"));
  const child = spawn(process.execPath, [BIN, ...LONG, "--vectors", join(folder, "v.npy")]);
  let out = "";
  let err = "";
  child.stdout.on("data", (text) => {
    out += text;
  });
  child.stderr.on("data", (text) => {
    err += text;
  });
  const ended = new Promise<[number | null, string | null]>((resolve) =>
    child.on("close", (code, by) => resolve([code, by])),
  );
  await new Promise((resolve) => setTimeout(resolve, 2500));
  expect(child.exitCode).toBeNull(); // in the middle of it
  child.kill(signal);
  expect(await ended).toEqual([130, null]);
  expect(out).toBe("");
  expect(err).toBe("eigenscope: AbortError: The operation was aborted\n");
  expect(readdirSync(folder)).toEqual([]);
  rmSync(folder, { recursive: true });
});

describe("the progress line", () => {
  function terminal(isTTY: boolean, columns = 80) {
    const written: string[] = [];
    return { isTTY, columns, written, write: (text: string) => written.push(text) };
  }

  test("one line that is written over, and cleared at the end", () => {
    const to = terminal(true);
    const line = new ProgressLine("hessian", 1e-9, to);
    line.onProgress({ products: 1, seconds: 0.2 });
    line.onProgress({ products: 40, residual: 1e-1, seconds: 2 });
    line.onProgress({ products: 1234, residual: 1e-5, seconds: 4 });
    line.end();
    line.end();
    expect(to.written).toEqual([
      "\r\x1b[Khessian: 1 products, 200 ms",
      "\r\x1b[Khessian: 40 products, residual 1.0e-1, 2.0 s",
      // Four decades in two seconds, four to go.
      "\r\x1b[Khessian: 1,234 products, residual 1.0e-5, 4.0 s, about 2.0 s left",
      "\r\x1b[K",
    ]);
  });

  test("by the share done where there is no residual", () => {
    const to = terminal(true);
    new ProgressLine("product", 0, to).onProgress({ products: 0, fraction: 0.25, seconds: 3 });
    expect(to.written[0]).toContain("25 %, 3.0 s, about 9.0 s left");
  });

  test("no wider than the terminal, and nothing where there is none", () => {
    const narrow = terminal(true, 20);
    new ProgressLine("hessian", 0, narrow).onProgress({ products: 1e9, seconds: 1 });
    expect(narrow.written[0]!.length).toBeLessThan("\r\x1b[K".length + 20);
    const file = terminal(false);
    const line = new ProgressLine("hessian", 0, file);
    line.onProgress({ products: 1, seconds: 1 });
    line.end();
    expect(file.written).toEqual([]);
  });
});

test("tables, numbers, sizes and times", () => {
  expect(
    table(
      ["name", "size"],
      [
        ["a", 5],
        ["long", 1200],
      ],
    ),
  ).toEqual(["name  size", "a        5", "long  1200"]);
  expect([1.5, 1e-9, -12345678].map(short)).toEqual(["1.50000", "1.00000e-9", "-1.23457e+7"]);
  expect([999, 1000, 1.5e6, 3e9].map(size)).toEqual(["999 B", "1.00 kB", "1.50 MB", "3.00 GB"]);
  expect([0.02, 5, 200, 36000].map(duration)).toEqual(["20 ms", "5.0 s", "3 min", "10.0 h"]);
});
