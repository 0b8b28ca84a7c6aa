/**
 * Ranks in closed form. Written: r the rank of the inputs, K' the rank of the loss's curvature in the
 * outputs of a sample, M the sum of hidden widths, L the number of weights, q = min(r, K', hidden
 * widths), s the rank of Omega = sum_i delta_i x_i^T and q' = min(s, hidden widths).
 */
import { sum } from "../vectors";

export interface Formula {
  readonly rank: number;
  readonly formula: string;
}

/** Those that are known; the others hold only under conditions that are not met. */
export interface Formulas {
  readonly ggn?: Formula | undefined;
  readonly functional?: Formula | undefined;
  readonly hessian?: Formula | undefined;
}

export interface LinearChain {
  /** Of all layers, inputs and outputs included. */
  readonly widths: readonly number[];
  /** r. */
  readonly dataRank: number;
  /** K'. */
  readonly curvatureRank: number;
  /** s. */
  readonly residualRank: number;
}

const hidden = (widths: readonly number[]) => widths.slice(1, -1);
/**
 * A deep linear network without biases, at generic weights (Singh, Bachmann and Hofmann 2021,
 * theorems 3, 4 and 5; residuals of any rank by the same argument).
 */
export function linearRanks(chain: LinearChain): Required<Formulas> {
  const { widths, dataRank: r, curvatureRank: k, residualRank: s } = chain;
  const inner = hidden(widths);
  const q = Math.min(r, k, ...inner);
  const outer = { rank: q * (r + k - q), formula: "q (r + K' - q)" };
  if (inner.length === 0 || s === 0) {
    const functional = {
      rank: 0,
      formula: inner.length === 0 ? "0 for a single layer" : "0 without residuals",
    };
    return { ggn: outer, functional, hessian: { ...outer } };
  }
  const [M, L] = [sum(inner), widths.length - 1];
  const low = Math.min(s, ...inner);
  const functional = 2 * low * M + 2 * low * s - L * low * low;
  return {
    ggn: outer,
    functional: { rank: functional, formula: "2 q' M + 2 q' s - L q'^2" },
    hessian: {
      rank: outer.rank + functional + low * (low - 2 * s),
      formula: "rk H_o + rk H_f + q' (q' - 2 s)",
    },
  };
}

/**
 * With a bias in every layer, K outputs all of which the loss sees (K' = K - 1 likewise). `dataRank`
 * is that of the centred inputs, `residualRank` that of Omega, `augmentedRank` that of
 * sum_i delta_i [x_i; 1]^T. What no formula covers is absent.
 */
export function biasedRanks(chain: LinearChain & { readonly augmentedRank: number }): Formulas {
  const { widths, dataRank: r, curvatureRank: k, residualRank: s, augmentedRank } = chain;
  const inner = hidden(widths);
  const q = Math.min(r, k, ...inner);
  const outer = { rank: q * (r + k - q) + k, formula: "q (r + K' - q) + K', r of centred inputs" };
  if (inner.length === 0 || augmentedRank === 0) {
    const formula = inner.length === 0 ? "0 for a single layer" : "0 without residuals";
    return { ggn: outer, functional: { rank: 0, formula }, hessian: { ...outer } };
  }
  const [M, L] = [sum(inner), widths.length - 1];
  const bare = linearRanks(chain);
  // No bottleneck, and residuals that are not degenerate.
  const open = q === k && s === k && augmentedRank === k;
  const functional =
    L === 2
      ? { rank: 2 * M * augmentedRank, formula: "2 M rk(sum delta [x; 1]^T)" }
      : open
        ? { rank: bare.functional.rank + (L - 2) * k, formula: "that without biases + (L - 2) K'" }
        : undefined;
  const hessian = open
    ? { rank: bare.hessian.rank + L * k, formula: "that without biases + L K'" }
    : undefined;
  return { ggn: outer, functional, hessian };
}

/** One hidden layer with a nonlinearity between two dense layers. */
export interface HiddenLayer {
  readonly kind: "homogeneous" | "smooth";
  /** For each unit that is not dead, the rank of the inputs (with 1, where biased) that move it. */
  readonly unitRanks: readonly number[];
  /** How many of them bend on the same samples as one another, group by group, single ones too. */
  readonly alike: readonly number[];
  /** How many are linear on all samples; they are one of the groups. */
  readonly straight: number;
  readonly curvatureRank: number;
  /** Of the residuals of all samples, as vectors of outputs. */
  readonly residualSpan: number;
  readonly hiddenBias: boolean;
  readonly outputBias: boolean;
  /** Samples, positions included. */
  readonly samples: number;
}

/**
 * Of generic weights, and data that are many. A homogeneous unit has a null vector of the
 * Gauss-Newton matrix, its rescaling; t units that bend on the same samples have the general linear
 * group in its place, and the affine one where they do not bend at all and both layers have biases.
 * H_f couples weights into a unit with weights out of it alone, and for smooth units weights into it
 * with each other.
 */
export function hiddenLayerRanks(layer: HiddenLayer): Formulas {
  const { kind, unitRanks, alike, straight, curvatureRank: k, residualSpan, samples } = layer;
  const affine = layer.hiddenBias && layer.outputBias ? straight : 0;
  const seen = sum(unitRanks) + unitRanks.length * k + (layer.outputBias ? k : 0);
  const what = `p' = sum of r_u + K'${layer.outputBias ? ", + K'" : ""}`;
  const group = kind === "smooth" ? 0 : sum(alike.map((t) => t * t)) + affine;
  const most = Math.max(1, ...alike);
  const orbit = most === 1 && affine === 0 ? "units" : `${group} of groups of alike units`;
  const free = seen - group;
  const gram = samples * k;
  // Few samples are all seen by smooth units; those of relu see some of them.
  const outer =
    gram >= (kind === "smooth" ? free : 2 * free)
      ? { rank: free, formula: kind === "smooth" ? `p', ${what}` : `p' - ${orbit}, ${what}` }
      : kind === "smooth"
        ? { rank: gram, formula: "n K'" }
        : undefined;
  if (residualSpan === 0)
    return {
      ggn: outer,
      functional: { rank: 0, formula: "0 without residuals" },
      hessian: outer && { ...outer },
    };
  const span = Math.min(k, residualSpan);
  const coupled = unitRanks.map((r) => (kind === "homogeneous" ? 2 : 1) * Math.min(span, r));
  return {
    ggn: outer,
    functional:
      kind === "homogeneous"
        ? { rank: sum(coupled), formula: "2 sum of min(K', r_u)" }
        : { rank: sum(unitRanks) + sum(coupled), formula: "sum of r_u + min(K', r_u)" },
    // Its groups are in the kernel of H only where the gradient vanishes, or residuals are few.
    hessian:
      outer && outer.rank === free && (kind === "smooth" || span === k)
        ? { rank: seen, formula: `p', ${what}` }
        : undefined,
  };
}
