/**
 * The forward pass of every fixture by another engine: operators as they lie in their files, and
 * whole networks on made-up data.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { forward, loadData, loadModel } from "../lib";
import { CASES, FILES, scattered } from "./21-operator-cases";
import { type EngineInput, type EngineJob, onnxruntime } from "./support/run-onnxruntime";

const FIXTURES = join(__dirname, "fixtures");

/** Of the largest number: onnxruntime computes in float32. */
const TOLERANCE = 2e-5;
/** Cases of forms that onnxruntime does not have, or computes by other rules. */
const MOST_REFUSED = 40;

function errorOf(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [error, size] = [0, 1e-3];
  for (let i = 0; i < want.length; i++) {
    error = Math.max(error, Math.abs(got[i]! - want[i]!));
    size = Math.max(size, Math.abs(want[i]!));
  }
  return error / size;
}

test("every operator case", () => {
  const names = Object.keys(CASES);
  const found = onnxruntime(
    names.map((name) => {
      const inputs = Object.entries(CASES[name]!.inputs);
      const run = inputs.map(([input, { type, shape, data }]) => [
        input,
        { type, dims: shape, values: data },
      ]);
      return { file: join(FIXTURES, "operators", `${name}.onnx`), runs: [Object.fromEntries(run)] };
    }),
  );
  const refused = names.filter((_, i) => typeof found[i] === "string");
  const wrong: Record<string, number> = {};
  names.forEach((name, i) => {
    const numbers = found[i]!;
    const error = typeof numbers === "string" ? 0 : errorOf(numbers, CASES[name]!.output.data);
    if (!(error < TOLERANCE)) wrong[name] = error;
  });
  process.stdout.write(
    `onnxruntime: ${FILES.length - refused.length} operator cases, ${refused.length} it refuses\n`,
  );
  expect(wrong).toEqual({});
  expect(refused.length).toBeLessThanOrEqual(MOST_REFUSED);
});

const networks = ["cases", "graphs", "zoo"].flatMap((folder) =>
  readdirSync(join(FIXTURES, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".onnx"))
    .map((file) => join(folder, file)),
);

test("every network", async () => {
  const jobs: EngineJob[] = [];
  const ours: Float64Array[] = [];
  for (const file of networks) {
    using model = await loadModel(join(FIXTURES, file));
    const run: Record<string, EngineInput> = {};
    const arrays: Record<string, { data: Float32Array | BigInt64Array; shape: number[] }> = {};
    model.inputs.forEach(({ name, type, shape }, i) => {
      const dims = shape!.map((length, axis) =>
        typeof length === "number" ? length : axis === 0 ? 2 : 4,
      );
      const tokens = type === "int64";
      const values = [
        ...scattered(
          dims.reduce((a, b) => a * b, 1),
          i + 1,
        ),
      ].map((x) => (tokens ? Math.floor(2 * (x + 1)) : Math.fround(x)));
      run[name] = { type, dims, values };
      const data = tokens ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
      arrays[name] = { data, shape: dims };
    });
    using data = await loadData(arrays);
    ours.push((await forward(model, data, { precision: "float64", threads: 1 })).values);
    jobs.push({ file: join(FIXTURES, file), output: model.output, runs: [run] });
  }
  const wrong = onnxruntime(jobs).flatMap((numbers, i) => {
    const error = typeof numbers === "string" ? numbers : errorOf(ours[i]!, numbers);
    return typeof error === "number" && error < TOLERANCE ? [] : [`${networks[i]}: ${error}`];
  });
  expect(wrong).toEqual([]);
});
