/** Minimum-norm least squares on Gaussian inputs: double descent with a known answer. */
import { matrixProduct, singularVectors } from "../dense";
import type { LeastSquaresOptions, Problem } from "./double-descent";
import { Normals } from "./normals";

const SIZES = [25, 40, 50, 60, 100, 200];
/** Streams of one seed: one a point and repeat, from here. */
const STREAM = 1000;

export function leastSquares({
  parameters: p = 50,
  sizes = SIZES,
  noise = 0.5,
  weightNorm: length = 1,
  repeats = 50,
  seed = 0,
}: LeastSquaresOptions): Problem {
  return {
    sizes,
    sizeName: "samples",
    repeats,
    threshold: p,
    settings: {
      problem: "least-squares",
      parameters: p,
      noise,
      weightNorm: length,
      seed: `${seed}`,
    },
    at: (n) => ({ parameters: p, samples: n, ratio: p / n, theory: theory(n, p, noise, length) }),
    measure: async (n, repeat, { signal }) => {
      const random = new Normals(seed, STREAM + 100_000 * n + repeat);
      const X = random.fill(new Float64Array(n * p));
      const w = random.fill(new Float64Array(p));
      const size = Math.sqrt(w.reduce((sum, x) => sum + x * x, 0));
      for (let i = 0; i < p; i++) w[i]! *= length / size;
      const clean = await matrixProduct(X, w, n, p, 1, { signal });
      const y = clean.map((value) => value + noise * random.next());
      const { coefficients, values } = await leastNorm(X, y, n, p, 1, signal);
      const fitted = await matrixProduct(X, coefficients, n, p, 1, { signal });
      const square = (a: Float64Array, b: Float64Array) =>
        a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0);
      return {
        trainLoss: square(fitted, y) / n,
        // E (x (w' - w))^2 over x, and the noise of new targets.
        testLoss: square(coefficients, w) + noise ** 2,
        ...spectrumOf(values, n),
      };
    },
  };
}

/** Exact means over the data, of minimum-norm least squares with isotropic Gaussian inputs. */
function theory(n: number, p: number, noise: number, length: number) {
  const [least, most] = [Math.min(n, p), Math.max(n, p)];
  const edge = (1 - Math.sqrt(p / n)) ** 2;
  const traceInverseOverN =
    most > least + 1 ? least / (most - least - 1) : Number.POSITIVE_INFINITY;
  const bias = n < p ? length ** 2 * (1 - n / p) : 0;
  return { edge, traceInverseOverN, testLoss: noise ** 2 * (1 + traceInverseOverN) + bias };
}

/** Singular values below it, relative to the largest and the longer side, are rounding. */
const ROUNDING = 2 ** -52;

/**
 * The solution of least norm of X C = Y in least squares, for `outputs` columns of Y.
 *
 * @returns C, p x outputs, and the nonzero singular values of X, largest first
 */
export async function leastNorm(
  X: Float64Array,
  Y: Float64Array,
  n: number,
  p: number,
  outputs: number,
  signal: AbortSignal | undefined,
): Promise<{ coefficients: Float64Array; values: Float64Array }> {
  const { values: all, left, right } = await singularVectors(X, n, p, { signal });
  const least = Math.max(n, p) * ROUNDING * (all[0] ?? 0);
  const values = all.filter((value) => value > least);
  const r = values.length;
  const onLeft = await matrixProduct(left.slice(0, r * n), Y, r, n, outputs, { signal });
  for (let i = 0; i < onLeft.length; i++) onLeft[i]! /= values[Math.floor(i / outputs)]!;
  const turned = new Float64Array(p * r);
  for (let i = 0; i < r; i++) for (let j = 0; j < p; j++) turned[j * r + i] = right[i * p + j]!;
  return { coefficients: await matrixProduct(turned, onLeft, p, r, outputs, { signal }), values };
}

/** Of H = X^T X / n, from the nonzero singular values of X. */
export function spectrumOf(values: Float64Array, n: number) {
  return {
    lambdaMinPlus: values.at(-1)! ** 2 / n,
    lambdaMax: values[0]! ** 2 / n,
    traceInverseOverN: values.reduce((sum, value) => sum + 1 / value ** 2, 0),
    rank: values.length,
  };
}
