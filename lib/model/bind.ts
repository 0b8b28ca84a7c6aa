/** Inputs that are no data: constants that stand in their place from the start. */
import { create } from "@bufbuild/protobuf";
import { withArrays } from "../data/read-arrays";
import { OptionError } from "../errors";
import type { ElementType, ValueDescription } from "../native";
import { describe, typeName } from "../options";
import {
  TensorProto_DataType as DataType,
  type GraphProto,
  type TensorProto,
  TensorProtoSchema,
} from "./onnx_pb";

/** Numbers in arrays of arrays, all of one length on each level. */
export type NestedNumbers = readonly (number | bigint | boolean | NestedNumbers)[];

type TypedNumbers =
  | Float64Array
  | Float32Array
  | Int32Array
  | Uint8Array
  | BigInt64Array
  | Int8Array;

/**
 * A constant for an input: one number for all its elements; numbers in the shape of the input,
 * nested or flat; or a .npy file of them.
 */
export type BindValue = number | bigint | boolean | string | NestedNumbers | TypedNumbers;

/** An input that `bind` made a constant. */
export interface BoundInput {
  readonly name: string;
  readonly type: ElementType;
  /** -1 where a length is free: all elements are the same number then. */
  readonly shape: readonly number[];
  readonly dimNames: readonly string[];
  /** Row-major, or one number for all. */
  readonly values: readonly (number | bigint)[];
}

/** @internal Numbers before it is known what input they are for. */
export interface GivenConstant {
  /** Undefined: as the input declares it. */
  shape?: readonly number[] | undefined;
  values: readonly (number | bigint)[];
  /** One number for all elements. */
  single: boolean;
}

const FORMS = "a number, true or false, numbers in the input's shape, or the path of a .npy file";

function flatten(value: NestedNumbers, name: string): GivenConstant {
  const shape: number[] = [];
  for (let at: unknown = value; Array.isArray(at); at = at[0]) shape.push(at.length);
  const values: (number | bigint)[] = [];
  const walk = (part: unknown, depth: number) => {
    const fits = Array.isArray(part)
      ? part.length === shape[depth]
      : depth === shape.length && isNumber(part);
    if (!fits)
      throw new OptionError(
        `bind.${name}: expected arrays of numbers of equal lengths, got ${describe(part)}`,
      );
    if (Array.isArray(part)) for (const each of part) walk(each, depth + 1);
    else values.push(typeof part === "boolean" ? Number(part) : (part as number | bigint));
  };
  walk(value, 0);
  return { shape, values, single: false };
}

const isNumber = (value: unknown) =>
  typeof value === "bigint" ||
  typeof value === "boolean" ||
  (typeof value === "number" && !Number.isNaN(value));

async function readConstant(name: string, value: unknown): Promise<GivenConstant> {
  if (isNumber(value)) {
    const number = typeof value === "boolean" ? Number(value) : (value as number | bigint);
    return { values: [number], single: true };
  }
  if (Array.isArray(value)) return flatten(value as NestedNumbers, name);
  if (ArrayBuffer.isView(value) && /^(Big)?(Float|U?Int)\d+Array$/.test(typeName(value)))
    return { values: Array.from(value as Float64Array), single: false };
  if (typeof value !== "string")
    throw new OptionError(`bind.${name}: expected ${FORMS}, got ${describe(value)}`);
  return withArrays(value, {}, async (arrays) => {
    if (arrays.length !== 1)
      throw new OptionError(
        `bind.${name}: expected a file of one array, got ${arrays.length} in ${value}`,
      );
    const { shape } = arrays[0]!;
    return { shape, values: Array.from(await arrays[0]!.values()), single: false };
  });
}

/** @internal Reads the files, and checks what needs no model. */
export async function readBind(
  bind: Readonly<Record<string, BindValue>> | undefined,
): Promise<ReadonlyMap<string, GivenConstant>> {
  if (bind === undefined) return new Map();
  if (typeof bind !== "object" || bind === null || Array.isArray(bind))
    throw new OptionError(
      `bind: expected values by the names of inputs, as in { mask: 1 }, got ${describe(bind)}`,
    );
  const read = Object.entries(bind).map(
    async ([name, value]) => [name, await readConstant(name, value)] as const,
  );
  return new Map(await Promise.all(read));
}

const show = (shape: readonly number[], names: readonly string[]) =>
  `(${shape.map((length, i) => (length < 0 ? names[i] || "?" : length)).join(", ")})`;

/** The values in the shape that the input declares, checked. */
function fitted(
  { name, type, dims, dimNames }: ValueDescription,
  given: GivenConstant,
): BoundInput {
  const fail = (expected: string, got: string): never => {
    throw new OptionError(`bind.${name}: expected ${expected}, got ${got}`);
  };
  for (const value of given.values) {
    const whole = typeof value === "bigint" || Number.isInteger(value);
    if (type === "bool" && Number(value) !== 0 && Number(value) !== 1)
      fail("true or false", String(value));
    if (!/float/.test(type) && !whole) fail(`whole numbers, as the input is ${type}`, `${value}`);
  }
  const declared = dims ?? given.shape ?? (given.single ? [] : [given.values.length]);
  const names = dims ? dimNames : [];
  const { single, values } = given;
  if (single) return { name, type, shape: declared, dimNames: names, values };
  const free = declared.filter((length) => length < 0).length;
  const fixed = declared.reduce((product, length) => product * Math.abs(length), 1);
  // Flat numbers take the shape of the input where there is no question which.
  const flat = given.shape === undefined || given.shape.length === 1;
  const shape =
    flat && free === 0 && fixed === values.length
      ? declared
      : flat && free === 1 && values.length % fixed === 0
        ? declared.map((length) => (length < 0 ? values.length / fixed : length))
        : (given.shape ?? [values.length]);
  const fits =
    shape.length === declared.length &&
    shape.every((length, i) => declared[i]! < 0 || declared[i] === length);
  if (!fits)
    fail(
      `numbers of the shape ${show(declared, names)} that the input has`,
      `${values.length} of shape ${show(shape, [])}`,
    );
  return { name, type, shape, dimNames: [], values };
}

function tensorOf({ name, type, shape, values }: BoundInput): TensorProto {
  const size = shape.reduce((product, length) => product * length, 1);
  const all = values.length === size ? values : new Array(size).fill(values[0]);
  const dims = shape.map(BigInt);
  if (/float/.test(type))
    return create(TensorProtoSchema, {
      ...{ name, dims, dataType: DataType.DOUBLE, doubleData: all.map(Number) },
    });
  if (type === "int64")
    return create(TensorProtoSchema, {
      ...{ name, dims, dataType: DataType.INT64, int64Data: all.map(BigInt) },
    });
  const dataType = type === "bool" ? DataType.BOOL : DataType.INT32;
  return create(TensorProtoSchema, { name, dims, dataType, int32Data: all.map(Number) });
}

/**
 * @internal Puts constants in the place of inputs of the graph. Those with free lengths are left to
 * the core, which knows the lengths once it has data.
 *
 * @param declared describes an input
 */
export function bindInputs(
  graph: GraphProto,
  given: ReadonlyMap<string, GivenConstant>,
  declared: (input: GraphProto["input"][number]) => ValueDescription,
): BoundInput[] {
  const bound: BoundInput[] = [];
  for (const [name, constant] of given) {
    const input = graph.input.find((value) => value.name === name);
    if (!input) {
      const stored = new Set(graph.initializer.map((tensor) => tensor.name));
      const names = graph.input.map((value) => value.name).filter((each) => !stored.has(each));
      throw new OptionError(
        `bind: expected names of the model's inputs (${names.join(", ")}), got "${name}"`,
      );
    }
    bound.push(fitted(declared(input), constant));
  }
  const names = new Set(bound.map(({ name }) => name));
  graph.input = graph.input.filter(({ name }) => !names.has(name));
  graph.initializer = graph.initializer.filter(({ name }) => !names.has(name));
  for (const each of bound)
    if (each.shape.every((length) => length >= 0)) graph.initializer.push(tensorOf(each));
  if (bound.length > 0 && graph.input.length === 0)
    throw new OptionError(
      "bind: expected at least one input to be left for the data, and all are bound",
    );
  return bound;
}
