/** Divergences and their inverses, as PAC-Bayes bounds use them. */
import { OptionError } from "../errors";
import { describe } from "../options";

/**
 * kl(q || p) = q ln(q/p) + (1 - q) ln((1 - q)/(1 - p)) in nats: the divergence of two coins.
 *
 * @throws OptionError for numbers that are no probabilities
 */
export function bernoulliKl(q: number, p: number): number {
  requireShare("bernoulliKl: q", q);
  requireShare("bernoulliKl: p", p);
  // From the difference, which loses nothing where both are small.
  const left = q === 0 ? 0 : q * Math.log1p((q - p) / p);
  const right = q === 1 ? 0 : (1 - q) * Math.log1p((p - q) / (1 - p));
  if (q === p) return 0;
  return Math.max(0, left + right);
}

/**
 * The largest p with kl(q || p) <= budget, by bisection to the last bit: an upper confidence bound of
 * a mean whose estimate is q. 1 where the budget is infinite.
 *
 * @throws OptionError for a q that is no probability, or a negative budget
 */
export function inverseBernoulliKl(q: number, budget: number): number {
  requireShare("inverseBernoulliKl: q", q);
  if (typeof budget !== "number" || !(budget >= 0))
    throw new OptionError(
      `inverseBernoulliKl: budget: expected a number of at least 0, got ${describe(budget)}`,
    );
  let [low, high] = [q, 1];
  if (bernoulliKl(q, high) <= budget) return high;
  for (;;) {
    const middle = low + (high - low) / 2;
    // The upper end, so that the result is never below the bound.
    if (middle <= low || middle >= high) return high;
    if (bernoulliKl(q, middle) <= budget) low = middle;
    else high = middle;
  }
}

/**
 * KL(N(mean, diag(variances)) || N(priorMean, priorVariance I)) in nats:
 * (1/2) sum of s/l + (m - m0)^2/l - 1 - ln(s/l).
 *
 * @throws OptionError where lengths differ or a variance is not over 0
 */
export function gaussianKl(
  mean: ArrayLike<number>,
  variances: ArrayLike<number>,
  priorMean: ArrayLike<number>,
  priorVariance: number,
): number {
  const n = mean.length;
  if (variances.length !== n || priorMean.length !== n)
    throw new OptionError(
      `gaussianKl: expected three arrays of one length, got ${n}, ${variances.length} and ` +
        `${priorMean.length}`,
    );
  if (!(priorVariance > 0))
    throw new OptionError(`gaussianKl: expected a prior variance over 0, got ${priorVariance}`);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const ratio = variances[i]! / priorVariance;
    if (!(ratio > 0))
      throw new OptionError(`gaussianKl: expected variances over 0, got ${variances[i]} at ${i}`);
    const excess = ratio - 1;
    // x - ln(1 + x), which cancels where the variances are near.
    const spread =
      Math.abs(excess) < 1e-4 ? excess * excess * (0.5 - excess / 3) : excess - Math.log(ratio);
    sum += spread + (mean[i]! - priorMean[i]!) ** 2 / priorVariance;
  }
  return sum / 2;
}

/** What the bound of a mean is about. */
export interface PacBayesTerms {
  /** Of the randomised classifier on the sample, from 0 to 1. */
  empiricalRisk: number;
  /** KL of posterior and prior, in nats. */
  kl: number;
  /** Samples of the bound. */
  samples: number;
  /** Probability that it fails. */
  delta: number;
}

/**
 * The bound of Seeger (2002) with the constant of Maurer (2004): with probability 1 - delta over the
 * sample, for all posteriors at once, kl(empirical risk || risk) <= (KL + ln(2 sqrt(n) / delta)) / n
 * for losses in [0, 1] and n >= 8. `bound` is the largest risk that allows.
 *
 * @throws OptionError
 */
export function pacBayesBound({ empiricalRisk, kl, samples, delta }: PacBayesTerms): {
  bound: number;
  budget: number;
} {
  if (!Number.isSafeInteger(samples) || samples < 8)
    throw new OptionError(
      `pacBayesBound: samples: expected a whole number of at least 8, got ${describe(samples)}`,
    );
  if (!(delta > 0 && delta < 1))
    throw new OptionError(
      `pacBayesBound: delta: expected a number between 0 and 1, got ${describe(delta)}`,
    );
  if (!(kl >= 0))
    throw new OptionError(
      `pacBayesBound: kl: expected a number of at least 0, got ${describe(kl)}`,
    );
  const budget = (kl + Math.log((2 * Math.sqrt(samples)) / delta)) / samples;
  return { bound: inverseBernoulliKl(empiricalRisk, budget), budget };
}

function requireShare(name: string, value: number): void {
  if (!(value >= 0 && value <= 1))
    throw new OptionError(`${name}: expected a number from 0 to 1, got ${describe(value)}`);
}
