/** Means over probes, and how far they can be trusted. */

/** A quantity averaged over probes, with its two errors apart. */
export interface Estimate {
  value: number;
  /**
   * Bounds of the quadrature error: the mean over these probes, computed without error, lies
   * between them (up to rounding, which they allow for). Where `rigorous` of the result is false
   * they are an indication only.
   */
  lower: number;
  upper: number;
  /**
   * Half width of the 95 % interval (Student's t) for the mean over all possible probes; infinite
   * for a single probe, 0 where the spectrum is known completely.
   */
  sampling: number;
  /** Both errors together: [lower - sampling, upper + sampling], within what is possible. */
  interval: [number, number];
}

/** What one probe says of a quantity. */
export interface Sample {
  value: number;
  lower: number;
  upper: number;
}

/** Quantiles 0.975 of Student's t for 1 to 30 degrees of freedom. */
const STUDENT = [
  12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.306, 2.26216, 2.22814, 2.20099,
  2.17881, 2.16037, 2.14479, 2.13145, 2.11991, 2.10982, 2.10092, 2.09302, 2.08596, 2.07961, 2.07387,
  2.06866, 2.0639, 2.05954, 2.05553, 2.05183, 2.04841, 2.04523, 2.04227,
];

/** The quantile 0.975 of Student's t, by Cornish and Fisher's expansion beyond 30. */
export function student975(degrees: number): number {
  const known = STUDENT[degrees - 1];
  if (known !== undefined) return known;
  const z = 1.959963984540054;
  return (
    z + (z ** 3 + z) / (4 * degrees) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2)
  );
}

export const meanOf = (values: readonly number[]) =>
  values.reduce((sum, x) => sum + x, 0) / values.length;

/** The standard error of the mean; infinite for one value. */
export function standardErrorOf(values: readonly number[]): number {
  if (values.length < 2) return Number.POSITIVE_INFINITY;
  const mean = meanOf(values);
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}

/** Half width of the 95 % interval of the mean. */
export function samplingOf(values: readonly number[], complete = false): number {
  if (complete) return 0;
  const error = standardErrorOf(values);
  return error === 0 || values.length < 2 ? error : error * student975(values.length - 1);
}

/** The mean over probes in units of `unit`, between `least` and `most`. */
export function estimateOf(
  samples: readonly Sample[],
  {
    unit = 1,
    least = 0,
    most = unit,
    complete = false,
  }: { unit?: number; least?: number; most?: number; complete?: boolean } = {},
): Estimate {
  const within = (x: number) => Math.min(most, Math.max(least, x));
  const lower = within(unit * meanOf(samples.map((sample) => sample.lower)));
  const upper = within(unit * meanOf(samples.map((sample) => sample.upper)));
  const values = samples.map((sample) => unit * sample.value);
  const sampling = samplingOf(values, complete);
  return {
    value: within(meanOf(values)),
    lower,
    upper,
    sampling,
    interval: [within(lower - sampling), within(upper + sampling)],
  };
}
