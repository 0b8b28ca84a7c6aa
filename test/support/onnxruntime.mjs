// Outputs of networks by onnxruntime, in a process of its own: it takes no arrays of Jest's.
// Standard input: [{ file, output, runs: [{ NAME: { type, dims, values } }] }]; standard output: for
// each the numbers of its output, those of one run after the other, or why there are none.
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array };

function tensorOf({ type, dims, values }) {
  return new ort.Tensor(
    type,
    ARRAYS[type].from(type === "int64" ? values.map(BigInt) : values),
    dims,
  );
}

async function numbersOf({ file, output, runs }) {
  const session = await ort.InferenceSession.create(file, { logSeverityLevel: 3 });
  const numbers = [];
  for (const run of runs) {
    const feeds = Object.entries(run).map(([name, tensor]) => [name, tensorOf(tensor)]);
    numbers.push(...(await session.run(Object.fromEntries(feeds)))[output].data);
  }
  return numbers;
}

const results = [];
for (const job of JSON.parse(readFileSync(0, "utf8")))
  results.push(await numbersOf(job).catch((error) => error.message));
process.stdout.write(JSON.stringify(results));
