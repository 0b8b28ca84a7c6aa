// Outputs of networks by onnxruntime, in a process of its own: it takes no arrays of Jest's.
// See run-onnxruntime.ts for what stands on standard input and output.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

function tensorOf({ type, dims, values }) {
  return new ort.Tensor(
    type,
    ARRAYS[type].from(type === "int64" ? values.map(BigInt) : values),
    dims,
  );
}

async function numbersOf({ file, output, runs }) {
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 4 });
  const name = output ?? session.outputNames[0];
  const numbers = [];
  for (const run of runs) {
    const feeds = Object.entries(run).map(([input, tensor]) => [input, tensorOf(tensor)]);
    const { data } = (await session.run(Object.fromEntries(feeds)))[name];
    for (const number of data) numbers.push(Number(number));
  }
  await session.release();
  return numbers;
}

const results = [];
for (const job of JSON.parse(readFileSync(0, "utf8")))
  results.push(await numbersOf(job).catch((error) => error.message));
process.stdout.write(JSON.stringify(results));
