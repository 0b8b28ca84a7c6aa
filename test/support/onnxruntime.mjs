// An output of a network by onnxruntime, in a process of its own: it takes no arrays of Jest's.
// Standard input: { file, output, runs: [{ NAME: { type, dims, values } }] }; standard output: its
// numbers, those of one run after the other.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

const { file, output, runs } = JSON.parse(readFileSync(0, "utf8"));
const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
const numbers = [];
for (const run of runs) {
  const feeds = {};
  for (const [name, { type, dims, values }] of Object.entries(run)) {
    const numbers = type === "int64" ? values.map(BigInt) : values;
    feeds[name] = new ort.Tensor(type, ARRAYS[type].from(numbers), dims);
  }
  numbers.push(...(await session.run(feeds))[output].data);
}
process.stdout.write(JSON.stringify(numbers));
