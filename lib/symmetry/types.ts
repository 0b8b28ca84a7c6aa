/** What a symmetry of a network is, as found in its graph. */

/**
 * Where the units of a group lie in one tensor. Along `axis`, unit u takes the positions
 * `start + (o * size + u) * inner + j` for o < outer and j < inner, with `size` of the group.
 */
export interface UnitPlace {
  /** The tensor's name. */
  readonly tensor: string;
  /** A parameter; else a buffer, such as a running mean, that is permuted along. */
  readonly parameter: boolean;
  readonly axis: number;
  readonly start: number;
  readonly outer: number;
  readonly inner: number;
  /**
   * "in": what makes the unit: rows of weights, biases, scale and shift of a normalisation.
   * "out": what reads it. "both": the same axis does both, as in recurrent weights of one unit.
   */
  readonly side: "in" | "out" | "both";
  /**
   * Only there: along other axes, the unit has these positions alone. Absent: all of them. So for
   * one direction of a bidirectional cell, or one of stacked experts.
   */
  readonly where?: readonly { readonly axis: number; readonly positions: readonly number[] }[];
  /**
   * The positions of each unit along `axis`, where start, outer and inner do not tell them; those
   * are then of no meaning.
   */
  readonly positions?: readonly (readonly number[])[];
}

/** Units that can be exchanged: every permutation of them leaves the network's outputs unchanged. */
export interface PermutationGroup {
  /**
   * The first tensor whose rows make the units; where they are a part of it, which part, as NumPy
   * would index it: "qkv.weight[0:24:4]" are blocks of 4.
   */
  readonly name: string;
  /** How many units there are. */
  readonly size: number;
  readonly places: readonly UnitPlace[];
}
