/** Block-diagonal operators whose blocks are held: inverse, trace, determinant and spectrum. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { OptionError } from "./errors";
import { LinearOperator, type OperatorReport } from "./linear-operator";
import type { Segment } from "./masks/mask";
import { type NativeCalls, type NativeOperator, native } from "./native";
import { type Check, check, checkOptions, describe, typeName } from "./options";

/** One block, without what costs a decomposition. */
export interface StructuredBlock {
  /** Of the tensors it belongs to. */
  readonly name: string;
  /**
   * "kronecker": a product of two factors; "eigen": eigenvalues in a Kronecker-factored basis;
   * "dense", "diagonal", "identity".
   */
  readonly kind: "kronecker" | "eigen" | "dense" | "diagonal" | "identity";
  /** How many coordinates it has. */
  readonly size: number;
  readonly trace: number;
  /** Its Frobenius norm. */
  readonly frobenius: number;
}

/** The spectrum of a structured operator, exact up to rounding. */
export interface StructuredSpectrum {
  /** All dim eigenvalues, largest first. */
  readonly values: Float64Array;
  readonly trace: number;
  readonly frobenius: number;
  readonly blocks: readonly (StructuredBlock & {
    /** The eigenvalues of the block, largest first. */
    readonly values: Float64Array;
  })[];
}

/** log |det (A + damping I)|. */
export interface LogDeterminant {
  /** Natural logarithm; -Infinity for a singular operator. */
  readonly value: number;
  /** Of the determinant: 1, -1, or 0 for a singular operator. */
  readonly sign: number;
}

export interface InverseOptions extends CallOptions {
  /**
   * "exact" (default): (A + damping I)^-1. "heuristic": for a Kronecker product A x B,
   * (A + p sqrt(damping) I)^-1 x (B + sqrt(damping) / p I)^-1 with p^2 the ratio of the factors'
   * mean eigenvalues (Martens and Grosse 2015, section 6.3); dense and diagonal blocks are damped
   * exactly.
   */
  how?: "exact" | "heuristic" | undefined;
}

/** What a block is made of, for export. */
export interface BlockParts {
  /** Coordinates of the operator, in the order of the block: row-major for a factored one. */
  readonly indices: Int32Array;
  /**
   * kronecker: B (outputs) and A (inputs); eigen: leftBasis, rightBasis (eigenvectors are rows) and
   * values (outputs x inputs); dense: matrix; diagonal: diagonal. Row-major.
   */
  readonly parts: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly values: Float64Array;
  }[];
}

const INVERSE_OPTIONS: { [K in keyof Required<InverseOptions>]: Check } = {
  ...CALL_OPTIONS,
  how: check.oneOf("exact", "heuristic"),
};

/**
 * A block-diagonal operator: a LinearOperator that knows more of itself than its products. Made by
 * `kfac` and `structuredOperator`. What is composed of one (`restrict`, `add`, ...) is an ordinary
 * operator.
 */
export class StructuredOperator extends LinearOperator {
  readonly #report: OperatorReport | undefined;

  /** @internal */
  constructor(
    core: NativeOperator,
    name: string,
    parameters: readonly Segment[] | undefined,
    report?: OperatorReport,
  ) {
    super(core, name, parameters);
    this.#report = report;
  }

  /** What the pass over the data told, for operators of `kfac`; else nothing. */
  override async report(options?: CallOptions): Promise<OperatorReport[]> {
    checkOptions("report", options, CALL_OPTIONS);
    return this.#report ? [this.#report] : [];
  }

  /** The blocks in the order of their coordinates. Costs no decomposition. Throws AbortError. */
  async blocks(options?: CallOptions): Promise<StructuredBlock[]> {
    checkOptions("blocks", options, CALL_OPTIONS);
    const { blocks } = await this.#call("structuredBlocks", {}, options);
    return blocks as StructuredBlock[];
  }

  /** What block `i` of `blocks` is made of. Throws OptionError where there is no such block. */
  async parts(i: number, options?: CallOptions): Promise<BlockParts> {
    checkOptions("parts", options, CALL_OPTIONS);
    if (!check.naturalNumber.fits(i))
      throw new OptionError(`parts: expected ${check.naturalNumber.expected}, got ${describe(i)}`);
    const { coordinates, parts } = await this.#call("structuredParts", { block: i }, options);
    return { indices: Int32Array.from(coordinates), parts };
  }

  /** The sum of the eigenvalues. Costs no decomposition. Throws AbortError. */
  async trace(options?: CallOptions): Promise<number> {
    checkOptions("trace", options, CALL_OPTIONS);
    return (await this.#call("structuredBlocks", {}, options)).trace;
  }

  /**
   * All eigenvalues, from those of the factors: n^3 operations for each factor of order n, once for
   * the operator, and a sort. Throws AbortError; a decomposition itself cannot be interrupted.
   */
  async eigenvalues(options?: CallOptions): Promise<StructuredSpectrum> {
    checkOptions("eigenvalues", options, CALL_OPTIONS);
    const { trace, frobenius, blocks } = await this.#call("structuredBlocks", {}, options);
    const { values } = await this.#call("structuredEigenvalues", {}, options);
    let end = 0;
    const own = (blocks as StructuredBlock[]).map((block) => {
      end += block.size;
      return { ...block, values: values.slice(end - block.size, end) };
    });
    return { values: values.sort().reverse(), trace, frobenius, blocks: own };
  }

  /**
   * log |det (A + damping I)| and the sign of the determinant. Costs as `eigenvalues`.
   *
   * @throws OptionError for a damping that is no number of at least 0; AbortError
   */
  async logDeterminant(damping = 0, options?: CallOptions): Promise<LogDeterminant> {
    checkOptions("logDeterminant", options, CALL_OPTIONS);
    checkDamping("logDeterminant", damping);
    const { logAbs, sign } = await this.#call("structuredDeterminant", { damping }, options);
    return { value: logAbs, sign };
  }

  /**
   * The inverse of this plus `damping` times the identity, an operator of the same kind. Costs as
   * `eigenvalues`; a product costs twice that of this operator.
   *
   * @throws OptionError when a damped block is singular to rounding, or for a heuristic damping of
   * corrected eigenvalues; AbortError
   */
  async inverse(damping: number, options: InverseOptions = {}): Promise<StructuredOperator> {
    const { how = "exact", ...call } = checkOptions("inverse", options, INVERSE_OPTIONS);
    checkDamping("inverse", damping);
    const core = await run(
      (onProgress) => native().structuredInverse(this.native, { damping, how }, onProgress),
      call,
    );
    const name = `inverse of ${this.name} + ${damping} I`;
    return new StructuredOperator(core, name, this.parameters, this.#report);
  }

  #call<N extends keyof NativeCalls>(
    name: N,
    given: NativeCalls[N][0],
    options: CallOptions | undefined,
  ): Promise<NativeCalls[N][1]> {
    return run((onProgress) => this.native.call(name, given, onProgress), options);
  }
}

function checkDamping(where: string, damping: unknown): void {
  if (!check.notNegative.fits(damping))
    throw new OptionError(
      `${where}: damping: expected ${check.notNegative.expected}, got ${describe(damping)}`,
    );
}

/** A block of numbers at hand, such as those of `blockDiagonal`. */
export type BlockNumbers = {
  readonly name: string;
  /** Coordinates of the operator, each in one block. */
  readonly indices: ArrayLike<number>;
} & (
  | {
      /** indices.length squared, row-major, symmetric. */
      readonly matrix: Float64Array;
      /** Negative eigenvalues are rounding and count as 0. Default false. */
      readonly semiDefinite?: boolean;
    }
  | { readonly diagonal: Float64Array }
);

/**
 * A block-diagonal operator of given numbers, which are copied: with the dimension, precision and
 * parameters of another operator, such as the one whose diagonal or blocks they are.
 *
 * @param blocks dense and diagonal blocks, or one diagonal for all coordinates
 * @throws OptionError when blocks overlap, leave a coordinate out, or have the wrong size
 */
export function structuredOperator(
  like: LinearOperator,
  blocks: readonly BlockNumbers[] | Float64Array,
): StructuredOperator {
  if (!(like instanceof LinearOperator))
    throw new OptionError(`structuredOperator: expected an operator, got ${describe(like)}`);
  if (!Array.isArray(blocks) && typeName(blocks) !== "Float64Array")
    throw new OptionError(
      "structuredOperator: blocks: expected an array of blocks or a Float64Array, " +
        `got ${describe(blocks)}`,
    );
  const list: readonly BlockNumbers[] = Array.isArray(blocks)
    ? blocks
    : [{ name: "diagonal", indices: [...blocks.keys()], diagonal: blocks as Float64Array }];
  const given = list.map((block) => ({ ...block, indices: Array.from(block.indices) }));
  const core = native().structuredOperator(like.native, given);
  return new StructuredOperator(core, `blocks of ${like.name}`, like.parameters);
}
