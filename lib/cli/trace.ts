/** The trace of an operator from random products, where eigenpairs are known already. */
import type { CallOptions } from "../call";
import { type LinearOperator, vectors } from "../linear-operator";
import type { Eigenpairs } from "../spectra";
import { Random } from "./random";

export interface TraceEstimate {
  value: number;
  /** One standard deviation of the value. */
  standardError: number;
  products: number;
}

/**
 * The known eigenvalues plus Hutchinson's estimate (1990) of what is left: the mean of z^T A z over
 * random signs z made orthogonal to the known eigenvectors. Costs `probes` products.
 */
export async function estimateTrace(
  operator: LinearOperator,
  known: Eigenpairs,
  probes: number,
  seed: bigint,
  options: CallOptions,
): Promise<TraceEstimate> {
  const { dim, dtype } = operator;
  const random = new Random(seed);
  const samples: number[] = [];
  const width = Math.max(1, Math.min(probes, 8, Math.floor(2 ** 27 / dim)));
  while (samples.length < probes) {
    const count = Math.min(width, probes - samples.length);
    const block = vectors(dtype, count * dim);
    for (let j = 0; j < count; j++) {
      const z = block.subarray(j * dim, (j + 1) * dim);
      for (let i = 0; i < dim; i++) z[i] = random.sign();
      deflate(z, known);
    }
    const product = await operator.apply(block, options);
    for (let j = 0; j < count; j++) {
      let quadratic = 0;
      for (let i = j * dim; i < (j + 1) * dim; i++) quadratic += block[i]! * product[i]!;
      samples.push(quadratic);
    }
  }
  const mean = samples.reduce((sum, x) => sum + x, 0) / probes;
  const variance = samples.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (probes - 1);
  return {
    value: known.values.reduce((sum, value) => sum + value, mean),
    standardError: Math.sqrt(variance / probes),
    products: probes,
  };
}

function deflate(z: Float32Array | Float64Array, known: Eigenpairs): void {
  for (let k = 0; k < known.values.length; k++) {
    const v = known.vector(k);
    let inner = 0;
    for (let i = 0; i < z.length; i++) inner += v[i]! * z[i]!;
    for (let i = 0; i < z.length; i++) z[i]! -= inner * v[i]!;
  }
}
