/**
 * Spectral measures of probes: how much of a probe lies on eigenvalues up to x. From Lanczos by
 * Gauss rules, with bounds; from Chebyshev moments by a series.
 */
import { tridiagonalEigen } from "./tridiagonal";

/** The share of a probe on eigenvalues below x, and up to and including x. */
export interface Share {
  below: number;
  upTo: number;
  /** Bounds of both: lower <= share below x, and share up to x <= upper. */
  lower: number;
  upper: number;
}

export interface Measure {
  /** Ascending. */
  nodes: Float64Array;
  weights: Float64Array;
  share(x: number): Share;
}

/** What Lanczos knows of a probe. */
export interface LanczosRule {
  diagonal: Float64Array;
  /** The last entry is the norm of what follows the last step; 0 where `exact`. */
  offDiagonal: Float64Array;
  /** Nothing follows: nodes are eigenvalues, weights the whole measure. */
  exact: boolean;
  nodes: Float64Array;
  weights: Float64Array;
}

const NOTHING: Share = { below: 0, upTo: 0, lower: 0, upper: 0 };
const ALL: Share = { below: 1, upTo: 1, lower: 1, upper: 1 };

/** Beyond this many times the largest node, a node of a rule counts as infinitely far. */
const FAR = 1e10;

/**
 * The rule of m + 1 nodes, one of them x, that is exact for polynomials of degree up to 2 m: Gauss
 * and Radau's where x is at an end of the spectrum (Golub 1973). Its nodes lie one in each gap
 * between the m Gauss nodes, one below and one above them. Undefined where x is a Gauss node up to
 * rounding.
 */
export function ruleThrough(
  { diagonal, offDiagonal }: Pick<LanczosRule, "diagonal" | "offDiagonal">,
  x: number,
  scale: number,
): { nodes: Float64Array; weights: Float64Array } | undefined {
  const m = diagonal.length;
  const tiny = Number.EPSILON * scale;
  let pivot = diagonal[0]! - x;
  for (let k = 1; k < m; k++)
    pivot = diagonal[k]! - x - offDiagonal[k - 1]! ** 2 / (pivot === 0 ? tiny : pivot);
  const entry = x + offDiagonal[m - 1]! ** 2 / pivot;
  if (!(Math.abs(entry) <= FAR * Math.max(scale, Math.abs(x)))) return undefined;
  const { values, rows } = tridiagonalEigen([...diagonal, entry], offDiagonal, [0]);
  return { nodes: values, weights: rows[0]!.map((first) => first * first) };
}

/**
 * The measure that Lanczos saw. Bounds are those of Chebyshev, Markov and Stieltjes: of all measures
 * with the same first 2 m moments, the rule through x has the least and the largest share below x.
 * They allow for rounding of relative size `resolution / scale` in the operator: eigenvalues that
 * near to x count on either side, and by Davis and Kahan's theorem a share of at most
 * resolution / gap of a vector moves across a gap in the spectrum.
 */
export class GaussMeasure implements Measure {
  readonly nodes: Float64Array;
  readonly weights: Float64Array;
  readonly #rule: LanczosRule;
  readonly #scale: number;
  readonly #resolution: number;

  constructor(rule: LanczosRule, scale: number, resolution: number) {
    this.nodes = rule.nodes;
    this.weights = rule.weights;
    this.#rule = rule;
    this.#scale = scale;
    this.#resolution = resolution;
  }

  share(x: number): Share {
    if (x === Number.NEGATIVE_INFINITY) return NOTHING;
    if (x === Number.POSITIVE_INFINITY) return ALL;
    const rule = this.#rule.exact ? undefined : ruleThrough(this.#rule, x, this.#scale);
    // Where x is a Gauss node, the Gauss rule is the rule through it.
    const { nodes, weights } = rule ?? this.#rule;
    const last = this.#rule.nodes.length;
    const smaller = this.#rule.nodes.filter((node) => node < x).length;
    const through = rule ? smaller : nearest(nodes, x);
    let below = 0;
    let at = 0;
    let middle = 0;
    for (let i = 0; i < nodes.length; i++) {
      if ((rule && i === through) || Math.abs(nodes[i]! - x) <= this.#resolution) at += weights[i]!;
      else if (nodes[i]! < x) below += weights[i]!;
      if (i <= through) middle += i < through ? weights[i]! : weights[i]! / 2;
    }
    const { lower, upper } = this.#withRounding(nodes, weights, x, below, below + at);
    if (this.#rule.exact) return { below, upTo: below + at, lower, upper };
    // Midway between the bounds; beyond the Gauss nodes, which lie inside the spectrum, nothing.
    if (smaller === 0) middle = 0;
    if (smaller === last) middle = 1;
    return { below: middle, upTo: middle, lower, upper };
  }

  #withRounding(
    nodes: Float64Array,
    weights: Float64Array,
    x: number,
    below: number,
    upTo: number,
  ): { lower: number; upper: number } {
    const near = this.#resolution;
    // The most that a share can be where rounding moves at most near / gap of a unit vector.
    const moved = (share: number, gap: number) => {
      const inside = Math.min(1, share);
      const part = near > 0 ? near / gap : 0;
      const more = (Math.sqrt(inside) + part) ** 2;
      const rest = Math.max(0, Math.sqrt(1 - inside) - part) ** 2;
      return Math.min(more, 1 - rest) + nodes.length * Number.EPSILON;
    };
    // Any gap from x to a node gives a bound; far ones let little across and have more between.
    let upper = 1;
    let sum = 0;
    for (let i = 0; i < nodes.length; i++) {
      const gap = nodes[i]! - x;
      if (gap > near) upper = Math.min(upper, moved(Math.max(sum, upTo), gap));
      sum += weights[i]!;
    }
    let above = 1;
    sum = 0;
    for (let i = nodes.length - 1; i >= 0; i--) {
      const gap = x - nodes[i]!;
      if (gap > near) above = Math.min(above, moved(Math.max(sum, 1 - below), gap));
      sum += weights[i]!;
    }
    return { lower: Math.max(0, 1 - above), upper: Math.min(1, upper) };
  }
}

/** The index of the node nearest to x. */
function nearest(nodes: Float64Array, x: number): number {
  return nodes.reduce(
    (best, node, i) => (Math.abs(node - x) < Math.abs(nodes[best]! - x) ? i : best),
    0,
  );
}

/** Jackson's factors for n = 0 .. count - 1, which keep truncated series positive. */
export function jackson(count: number): Float64Array {
  const q = Math.PI / (count + 1);
  return Float64Array.from(
    { length: count },
    (_, n) => ((count - n + 1) * Math.cos(q * n) + Math.sin(q * n) / Math.tan(q)) / (count + 1),
  );
}

/**
 * The measure by the kernel polynomial method with Jackson's kernel (Weisse et al. 2006). Nodes are
 * Chebyshev points with what the damped series integrates to there. Bounds are the shares up to a
 * kernel width to either side of x; they are no proof.
 */
export class ChebyshevMeasure implements Measure {
  readonly nodes: Float64Array;
  readonly weights: Float64Array;
  readonly #damped: Float64Array;
  readonly #center: number;
  readonly #half: number;

  constructor(moments: Float64Array, center: number, half: number) {
    const count = moments.length;
    this.#center = center;
    this.#half = half;
    this.#damped = jackson(count).map((factor, n) => factor * moments[n]!);
    const angle = (k: number) => (Math.PI * (count - k - 0.5)) / count;
    this.nodes = Float64Array.from({ length: count }, (_, k) => center + half * Math.cos(angle(k)));
    this.weights = this.nodes.map((_, k) => {
      let sum = this.#damped[0]!;
      for (let n = 1; n < count; n++) sum += 2 * this.#damped[n]! * Math.cos(n * angle(k));
      return Math.max(0, sum / count);
    });
  }

  /** The kernel's standard deviation at the centre. */
  get width(): number {
    return (Math.PI / this.#damped.length) * this.#half;
  }

  #upTo(x: number): number {
    const t = (x - this.#center) / this.#half;
    if (t <= -1) return 0;
    if (t >= 1) return 1;
    const angle = Math.acos(t);
    let sum = angle * this.#damped[0]!;
    for (let n = 1; n < this.#damped.length; n++)
      sum += (2 * this.#damped[n]! * Math.sin(n * angle)) / n;
    return Math.min(1, Math.max(0, 1 - sum / Math.PI));
  }

  share(x: number): Share {
    if (Math.abs(x) === Number.POSITIVE_INFINITY) return x > 0 ? ALL : NOTHING;
    const upTo = this.#upTo(x);
    return {
      below: upTo,
      upTo,
      lower: this.#upTo(x - this.width),
      upper: this.#upTo(x + this.width),
    };
  }
}
