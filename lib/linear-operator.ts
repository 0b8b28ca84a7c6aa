/** Symmetric linear maps, given by their products, and what is composed of them. */
import { CALL_OPTIONS, type CallOptions, run } from "./call";
import { EigenscopeError, OptionError } from "./errors";
import { Mask, type Segment } from "./masks/mask";
import { type Globs, matchGlobs } from "./model/glob";
import {
  type Dtype,
  type NativeOperator,
  type NativeReport,
  native,
  type Respond,
  type Vectors,
} from "./native";
import { type Check, check, checkOptions, describe, typeName } from "./options";

/** What a curvature operator tells of itself. */
export type OperatorReport = NativeReport;
/** What `restrict` takes: patterns of tensor names, a mask, one bit a coordinate, or positions. */
export type Restriction =
  | Globs
  | Mask
  | Uint8Array
  | readonly boolean[]
  | { readonly indices: ArrayLike<number> };

/**
 * A real symmetric linear map of R^dim, given by its products. Two calls on one operator queue: the
 * products of one fall between those of the other.
 *
 * It holds memory that V8 does not see: `dispose()` it, or declare it with `using`. Operators made
 * of others share their memory; disposing of one that was composed frees it until the next product,
 * disposing of an original ends what was made of it as well.
 */
export class LinearOperator {
  readonly dim: number;
  /** What `apply` takes and returns: Float32Array or Float64Array. */
  readonly dtype: Dtype;
  /** Such as "hessian" or "restriction of hessian", for messages. */
  readonly name: string;
  /** The tensors that the coordinates belong to, in order; undefined where they are none. */
  readonly parameters: readonly Segment[] | undefined;
  /** @internal */
  readonly native: NativeOperator;
  /** Positions in the model's parameters, while it acts on whole tensors of one. */
  readonly #tensors: readonly number[] | undefined;

  /** @internal */
  constructor(
    core: NativeOperator,
    name: string,
    parameters?: readonly Segment[],
    tensors?: readonly number[],
  ) {
    this.native = core;
    this.dim = core.dim;
    this.dtype = core.dtype;
    this.name = name;
    this.parameters = parameters;
    this.#tensors = tensors;
  }

  /**
   * Products with a block of K vectors, K = V.length / dim: one pass over the data, cheaper than K
   * passes. V is K x dim, row-major; it is read in place and must not be changed or transferred
   * before the promise settles.
   *
   * @returns A V of the same length and type; costs K products
   * @throws OptionError when V is of another type or length, or the operator was disposed of;
   * DataMismatchError when V, the data or the loss is not finite; AbortError
   */
  async apply(V: Vectors, options?: CallOptions): Promise<Vectors> {
    checkOptions("apply", options, CALL_OPTIONS);
    const count = this.#countOf(V);
    const result = vectors(this.dtype, V.length);
    await run((onProgress) => this.native.apply(V, result, count, onProgress), options);
    return result;
  }

  #countOf(V: Vectors): number {
    const wanted = arrayName(this.dtype);
    const came = ArrayBuffer.isView(V) ? `a ${typeName(V)}` : describe(V);
    if (!ArrayBuffer.isView(V) || typeName(V) !== wanted)
      throw new OptionError(
        `apply: V: expected a ${wanted}, as ${this.name} computes in ${this.dtype}, got ${came}` +
          (/^a Float/.test(came) ? `; convert it with ${wanted}.from(V)` : ""),
      );
    const count = V.length / this.dim;
    if (!Number.isInteger(count) || count < 1)
      throw new OptionError(
        `apply: V: expected K times ${this.dim} numbers, the dimension of ${this.name}, ` +
          `got ${V.length}`,
      );
    return count;
  }

  /** This plus another of the same dimension, precision and parameters. */
  add(other: LinearOperator): LinearOperator {
    const sum = native().sumOperators(this.native, nativeOf(other, "add"));
    return new LinearOperator(sum, `${this.name} + ${other.name}`, this.parameters);
  }

  /** `factor` times this. */
  scale(factor: number): LinearOperator {
    checkFinite("scale: factor", factor);
    const scaled = native().scaleOperator(this.native, factor);
    return new LinearOperator(scaled, `${factor} (${this.name})`, this.parameters);
  }

  /** This plus `amount` times the identity: what weight decay of `amount` adds to a Hessian. */
  shift(amount: number): LinearOperator {
    checkFinite("shift: amount", amount);
    const shifted = native().shiftOperator(this.native, amount);
    return new LinearOperator(shifted, `${this.name} + ${amount} I`, this.parameters);
  }

  /**
   * The compressed operator: rows and columns of the chosen coordinates only, in their order. Whole
   * tensors of a model cost less than the full product; other choices cost a full product.
   *
   * @param choice patterns of tensor names, a Mask, one bit a coordinate, or `{ indices }`
   * @throws OptionError when nothing matches or lengths differ
   */
  restrict(choice: Restriction): LinearOperator {
    const name = `restriction of ${this.name}`;
    if (isGlobs(choice)) {
      const segments = this.#segments();
      const matched = matchGlobs(
        segments.map((segment) => segment.name),
        choice,
        "restrict",
      );
      const chosen = [...segments.keys()].filter((i) => matched[i]);
      const kept = packed(chosen.map((i) => segments[i]!));
      if (this.#tensors) {
        const tensors = chosen.map((i) => this.#tensors![i]!);
        return new LinearOperator(this.native.restrictTensors(tensors), name, kept, tensors);
      }
      const bits = this.#bits(choice);
      return new LinearOperator(native().restrictOperator(this.native, bits), name, kept);
    }
    const bits = this.#bits(choice);
    const kept = this.parameters?.map((segment) => ({
      ...segment,
      size: bits
        .subarray(segment.offset, segment.offset + segment.size)
        .reduce((sum, bit) => sum + bit, 0),
    }));
    const part = native().restrictOperator(this.native, bits);
    return new LinearOperator(part, name, kept && packed(kept.filter(({ size }) => size > 0)));
  }

  /**
   * P A P in the full dimension, where P zeroes the coordinates that are not chosen.
   *
   * @throws OptionError when nothing matches or lengths differ
   */
  project(choice: Restriction): LinearOperator {
    const projected = native().projectOperator(this.native, this.#bits(choice));
    return new LinearOperator(projected, `projection of ${this.name}`, this.parameters);
  }

  #segments(): readonly Segment[] {
    if (!this.parameters)
      throw new OptionError(
        `${this.name} has no named parameters; choose coordinates by a mask instead`,
      );
    return this.parameters;
  }

  #bits(choice: Restriction): Uint8Array {
    if (isGlobs(choice)) {
      const segments = this.#segments();
      const names = segments.map((segment) => segment.name);
      const bits = new Uint8Array(this.dim);
      matchGlobs(names, choice, "restrict").forEach((matches, i) => {
        const { offset, size } = segments[i]!;
        if (matches) bits.fill(1, offset, offset + size);
      });
      return bits;
    }
    if (choice instanceof Mask) return this.#checkedBits(choice.bits);
    if (Array.isArray(choice) || typeName(choice) === "Uint8Array")
      return this.#checkedBits(
        Uint8Array.from(choice as ArrayLike<number>, (bit) => (bit ? 1 : 0)),
      );
    const indices = (choice as { indices?: ArrayLike<number> } | undefined)?.indices;
    if (typeof indices?.length !== "number")
      throw new OptionError(
        "restrict: expected patterns of names, a Mask, one boolean a coordinate, or { indices }, " +
          `got ${describe(choice)}`,
      );
    const bits = new Uint8Array(this.dim);
    for (const index of Array.from(indices)) {
      if (!Number.isInteger(index) || index < 0 || index >= this.dim)
        throw new OptionError(
          `restrict: expected indices from 0 to ${this.dim - 1}, got ${describe(index)}`,
        );
      bits[index] = 1;
    }
    return bits;
  }

  #checkedBits(bits: Uint8Array): Uint8Array {
    if (bits.length !== this.dim)
      throw new OptionError(
        `restrict: expected a mask of ${this.dim} entries, the dimension of ${this.name}, ` +
          `got ${bits.length}`,
      );
    return bits;
  }

  /**
   * What the curvature operators in it tell of themselves, one entry each: where the Gauss-Newton
   * split lies, micro-batches, memory, warnings. Compiles those that were not used yet.
   */
  report(options?: CallOptions): Promise<OperatorReport[]> {
    checkOptions("report", options, CALL_OPTIONS);
    return run(() => this.native.report(), options);
  }

  /** The compiled programs, as text. */
  plan(options?: CallOptions): Promise<string> {
    checkOptions("plan", options, CALL_OPTIONS);
    return run(() => this.native.plan(), options);
  }

  /**
   * Frees what the operator holds. Calls under way finish first; new ones throw an OptionError.
   */
  dispose(): void {
    this.native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function isGlobs(choice: Restriction): choice is Globs {
  return (
    typeof choice === "string" ||
    (Array.isArray(choice) && choice.length > 0 && typeof choice[0] === "string")
  );
}

/** @internal The segments one after the other. */
export function packed(segments: readonly Segment[]): Segment[] {
  let offset = 0;
  return segments.map(({ name, size }) => {
    offset += size;
    return { name, offset: offset - size, size };
  });
}

function checkFinite(where: string, value: unknown): void {
  if (typeof value !== "number" || !Number.isFinite(value))
    throw new OptionError(`${where}: expected a finite number, got ${describe(value)}`);
}

function nativeOf(operator: LinearOperator, where: string): NativeOperator {
  if (!(operator instanceof LinearOperator))
    throw new OptionError(`${where}: expected an operator, got ${describe(operator)}`);
  return operator.native;
}

/** "Float64Array" for "float64". */
function arrayName(dtype: Dtype): "Float32Array" | "Float64Array" {
  return dtype === "float32" ? "Float32Array" : "Float64Array";
}

/** @internal Room for `length` numbers of an operator. */
export function vectors(dtype: Dtype, length: number): Vectors {
  return dtype === "float32" ? new Float32Array(length) : new Float64Array(length);
}

/**
 * Computes the products of an operator with a block of `count` vectors, count x dim, row-major. The
 * block is a copy, and may be changed and returned.
 */
export type Apply = (block: Vectors, count: number) => Vectors | PromiseLike<Vectors>;

export interface LinearOperatorOptions {
  /** What `apply` gets and must return. Default "float64". */
  dtype?: Dtype | undefined;
  /** For messages. */
  name?: string | undefined;
}

const LINEAR_OPERATOR_OPTIONS: { [K in keyof Required<LinearOperatorOptions>]: Check } = {
  dtype: check.oneOf("float32", "float64"),
  name: { expected: "a string", fits: (value) => typeof value === "string" },
};

/**
 * An operator whose products a function computes; it works in every solver and composition. The
 * function runs on the JavaScript thread, the solver waits on its own. Solvers assume that it is
 * linear and symmetric. What it throws, or a promise of it rejects with, rejects the call
 * unchanged.
 *
 * @param apply may be async
 * @throws OptionError; calls reject with an OptionError or a DataMismatchError where the result is
 * of another type or length, or not finite
 */
export function linearOperator(
  dim: number,
  apply: Apply,
  options?: LinearOperatorOptions,
): LinearOperator {
  const checked = checkOptions("linearOperator", options, LINEAR_OPERATOR_OPTIONS);
  const { dtype = "float64", name = "linearOperator" } = checked;
  if (!Number.isSafeInteger(dim) || dim < 1)
    throw new OptionError(
      `linearOperator: dim: expected ${check.positiveInteger.expected}, got ${describe(dim)}`,
    );
  if (typeof apply !== "function")
    throw new OptionError(`linearOperator: apply: expected a function, got ${describe(apply)}`);
  return new LinearOperator(native().functionOperator(dim, dtype, responder(apply, dtype)), name);
}

function responder(apply: Apply, dtype: Dtype): Respond {
  return (block, count, answer) => {
    const fail = (error: unknown) => answer(asError(error));
    const give = (result: unknown) => {
      const wanted = arrayName(dtype);
      if (typeName(result) !== wanted)
        fail(
          new OptionError(
            `linearOperator: expected apply to return a ${wanted}, got ${describe(result)}`,
          ),
        );
      else if ((result as Vectors).length !== block.length)
        fail(
          new OptionError(
            `linearOperator: expected apply to return ${block.length} numbers, ${count} vectors ` +
              `of ${block.length / count}, got ${(result as Vectors).length}`,
          ),
        );
      else answer(undefined, result as Vectors);
    };
    try {
      const result = apply(block, count);
      if (typeof (result as PromiseLike<Vectors>)?.then === "function")
        (result as PromiseLike<Vectors>).then(give, fail);
      else give(result);
    } catch (error) {
      fail(error);
    }
  };
}

/** Errors of any realm as they are; what else was thrown as the cause of one. */
function asError(error: unknown): Error {
  const isError = error instanceof Error || typeName(error) === "Error";
  return isError
    ? (error as Error)
    : new EigenscopeError("Internal", `linearOperator: apply threw ${describe(error)}`, {
        cause: error,
      });
}
