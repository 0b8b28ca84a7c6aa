// Networks small enough for exact ranks, trained on digits of 7 x 7 pixels.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const SIDE = 7;
const SAMPLES = 400;
const POOL = 28 / SIDE;

/** What is compared: depth, bias and activation, at 49 inputs and 10 outputs. */
export const SMALL_NETWORKS = {
  linear: { widths: [49, 8, 10], bias: false },
  "linear-deep": { widths: [49, 8, 8, 10], bias: false },
  "linear-bias": { widths: [49, 8, 10] },
  relu: { widths: [49, 8, 10], activation: "relu" },
  tanh: { widths: [49, 8, 10], activation: "tanh" },
};

/** Means over squares of pixels, as bytes. */
function digits(mnist, file) {
  const pixels = readFileSync(join(mnist, `${file}-images-idx3-ubyte`)).subarray(16);
  const sums = new Float64Array(SAMPLES * SIDE * SIDE);
  for (let n = 0; n < SAMPLES; n++)
    for (let i = 0; i < 28; i++)
      for (let j = 0; j < 28; j++) {
        const cell = Math.floor(i / POOL) * SIDE + Math.floor(j / POOL);
        sums[n * SIDE * SIDE + cell] += pixels[n * 784 + i * 28 + j];
      }
  return Uint8Array.from(sums, (sum) => Math.round(sum / (POOL * POOL)));
}

/** An IDX file of bytes. */
function idx(path, shape, bytes) {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.set([0, 0, 8, shape.length]);
  shape.forEach((length, i) => {
    header.writeUInt32BE(length, 4 + 4 * i);
  });
  writeFileSync(path, Buffer.concat([header, bytes]));
}

/** Writes digits and, where it is not there yet, a trained network a row into `folder`. */
export async function smallNetworks(eigenscope, mnist, folder) {
  mkdirSync(folder, { recursive: true });
  const images = join(folder, "images.idx");
  const labels = join(folder, "labels.idx");
  for (const [file, prefix] of [
    ["train", ""],
    ["t10k", "test-"],
  ]) {
    idx(join(folder, `${prefix}images.idx`), [SAMPLES, SIDE * SIDE], digits(mnist, file));
    const all = readFileSync(join(mnist, `${file}-labels-idx1-ubyte`)).subarray(8);
    idx(join(folder, `${prefix}labels.idx`), [SAMPLES], all.subarray(0, SAMPLES));
  }
  const { loadData, loadModel, mlp, train, writeModel } = eigenscope;
  const data = await loadData({ x: images, y: labels }, { normalize: { scale: 1 / 255 } });
  for (const [name, options] of Object.entries(SMALL_NETWORKS)) {
    const file = join(folder, `${name}.onnx`);
    if (existsSync(file)) continue;
    const bytes = mlp(options);
    const model = await loadModel(bytes, { loss: "cross-entropy" });
    const { parameters } = await train(model, data, {
      learningRate: 0.5,
      epochs: 60,
      precision: "float64",
    });
    await writeModel(file, model, { parameters, from: bytes });
    model.dispose();
  }
  data.dispose();
}
