/** Tensors of a model: element types, typed and raw storage, external and sparse data. */
import { closeSync, openSync, readSync } from "node:fs";
import { ModelFormatError } from "../errors";
import type { ElementType, TensorDescription } from "../native";
import type { ExternalFiles } from "./external";
import {
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type SparseTensorProto,
  type TensorProto,
} from "./onnx_pb";

type TypedField = "floatData" | "doubleData" | "int32Data" | "int64Data" | "uint64Data";
type TypedValues = readonly number[] | readonly bigint[];

interface TypeRow {
  /** As the core stores it. */
  type: ElementType;
  /** Of one element in the file. */
  bytes: number;
  /** Where the elements are when they are not raw. */
  field: TypedField;
  /** Little-endian bytes of the elements of `field`. */
  pack: (values: TypedValues) => ArrayBufferView;
  /** From the file's bytes to those of `type`, where they differ. */
  widen?: (bytes: Uint8Array) => ArrayBufferView;
}

const numbers = (values: TypedValues) => values as readonly number[];
const bigints = (values: TypedValues) => values as readonly bigint[];

function widen32(bytes: Uint8Array): BigInt64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return BigInt64Array.from({ length: bytes.length / 4 }, (_, i) =>
    BigInt(view.getUint32(4 * i, true)),
  );
}

/** The element types that are read, by the number that ONNX gives them. */
const TYPES: Partial<Record<DataType, TypeRow>> = {
  [DataType.FLOAT]: {
    type: "float32",
    bytes: 4,
    field: "floatData",
    pack: (v) => Float32Array.from(numbers(v)),
  },
  [DataType.DOUBLE]: {
    type: "float64",
    bytes: 8,
    field: "doubleData",
    pack: (v) => Float64Array.from(numbers(v)),
  },
  // Half precision is stored by its bits.
  [DataType.FLOAT16]: {
    type: "float16",
    bytes: 2,
    field: "int32Data",
    pack: (v) => Uint16Array.from(numbers(v)),
  },
  [DataType.BFLOAT16]: {
    type: "bfloat16",
    bytes: 2,
    field: "int32Data",
    pack: (v) => Uint16Array.from(numbers(v)),
  },
  [DataType.BOOL]: {
    type: "bool",
    bytes: 1,
    field: "int32Data",
    pack: (v) => Uint8Array.from(numbers(v)),
  },
  [DataType.UINT8]: {
    type: "uint8",
    bytes: 1,
    field: "int32Data",
    pack: (v) => Uint8Array.from(numbers(v)),
  },
  [DataType.INT8]: {
    type: "int8",
    bytes: 1,
    field: "int32Data",
    pack: (v) => Int8Array.from(numbers(v)),
  },
  [DataType.UINT16]: {
    type: "uint16",
    bytes: 2,
    field: "int32Data",
    pack: (v) => Uint16Array.from(numbers(v)),
  },
  [DataType.INT16]: {
    type: "int16",
    bytes: 2,
    field: "int32Data",
    pack: (v) => Int16Array.from(numbers(v)),
  },
  [DataType.INT32]: {
    type: "int32",
    bytes: 4,
    field: "int32Data",
    pack: (v) => Int32Array.from(numbers(v)),
  },
  [DataType.INT64]: {
    type: "int64",
    bytes: 8,
    field: "int64Data",
    pack: (v) => BigInt64Array.from(bigints(v)),
  },
  [DataType.UINT32]: {
    type: "int64",
    bytes: 4,
    field: "uint64Data",
    pack: (v) => Uint32Array.from(bigints(v), Number),
    widen: widen32,
  },
  // Sizes and indices: beyond 2^63 they mean nothing.
  [DataType.UINT64]: {
    type: "int64",
    bytes: 8,
    field: "uint64Data",
    pack: (v) => BigUint64Array.from(bigints(v)),
  },
};

/** Readers of little-endian numbers, by element type. */
const READ: Record<ElementType, (bytes: DataView, at: number) => number> = {
  float64: (bytes, i) => bytes.getFloat64(8 * i, true),
  float32: (bytes, i) => bytes.getFloat32(4 * i, true),
  float16: (bytes, i) => half(bytes.getUint16(2 * i, true)),
  bfloat16: (bytes, i) => float(bytes.getUint16(2 * i, true) << 16),
  int64: (bytes, i) => Number(bytes.getBigInt64(8 * i, true)),
  int32: (bytes, i) => bytes.getInt32(4 * i, true),
  int16: (bytes, i) => bytes.getInt16(2 * i, true),
  uint16: (bytes, i) => bytes.getUint16(2 * i, true),
  int8: (bytes, i) => bytes.getInt8(i),
  uint8: (bytes, i) => bytes.getUint8(i),
  bool: (bytes, i) => bytes.getUint8(i),
};

const float = (bits: number) => new Float32Array(Uint32Array.of(bits >>> 0).buffer)[0]!;

function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / 1024;
  if (exponent === 0) return sign * fraction * 2 ** -14;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction) * 2 ** (exponent - 15);
}

/** Sparse tensors are written out; a larger one is a mistake or an attack. */
const LARGEST_DENSE = 2 ** 30;

const asBytes = (view: ArrayBufferView) =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** "FLOAT16" for 10; the number itself where ONNX has no name for it. */
export function dataTypeName(code: number): string {
  return DataType[code] ?? `number ${code}`;
}

/** The core's name for an ONNX element type, undefined where it is not read. */
export function elementTypeOf(code: number): ElementType | undefined {
  return TYPES[code as DataType]?.type;
}

/** The bytes that a tensor's numbers take in a file. @throws ModelFormatError for unknown types */
export function storedBytes(source: string, { name, dims, dataType }: TensorProto): number {
  const row = TYPES[dataType as DataType];
  if (!row)
    throw new ModelFormatError(
      `${source}: tensor ${name}: expected a number or boolean type, got ${dataTypeName(dataType)}`,
    );
  return dims.reduce((product, length) => product * Number(length), 1) * row.bytes;
}

/** Turns tensors of one model into descriptions. Bytes are views where they can be. */
export class TensorDecoder {
  constructor(
    private readonly source: string,
    private readonly files: ExternalFiles,
  ) {}

  /**
   * @throws ModelFormatError when data is missing, does not fit type and shape, or is of a type
   * that is not read.
   */
  describe(tensor: TensorProto, name: string): TensorDescription {
    const row = TYPES[tensor.dataType as DataType];
    if (!row)
      this.fail(
        name,
        `expected a number or boolean type, got ${dataTypeName(tensor.dataType)}; ` +
          "export the model in float32",
      );
    if (tensor.segment) this.fail(name, "it is stored in segments, which are not read");
    const dims = this.dims(tensor.dims, name);
    const elements = dims.reduce((product, length) => product * length, 1);
    if (!Number.isSafeInteger(elements * row.bytes))
      this.fail(name, `its shape [${dims}] is larger than any memory`);
    const expected = elements * row.bytes;

    if (tensor.dataLocation === DataLocation.EXTERNAL) {
      const range = this.files.locate(tensor, expected);
      // An empty range is never mapped, and what is widened is small.
      const data = row.widen || expected === 0 ? readRange(range) : range;
      return { type: row.type, dims, data: this.widened(row, data) };
    }
    let bytes: Uint8Array;
    if (tensor.rawData !== undefined) {
      bytes = tensor.rawData;
    } else {
      const values = tensor[row.field];
      if (values.length !== elements)
        this.fail(
          name,
          `expected ${elements} numbers for its shape [${dims}], got ${values.length}`,
        );
      bytes = asBytes(row.pack(values));
    }
    if (bytes.length !== expected)
      this.fail(
        name,
        `expected ${expected} bytes for ${row.type} [${dims}], got ${bytes.length}; ` +
          "export the model again",
      );
    return { type: row.type, dims, data: this.widened(row, bytes) as Uint8Array };
  }

  /** A sparse tensor, written out. */
  describeSparse(sparse: SparseTensorProto, name: string): TensorDescription {
    const { values: valueTensor, indices: indexTensor } = sparse;
    if (!valueTensor || !indexTensor) this.fail(name, "its values or indices are missing");
    const values = this.inMemory(valueTensor, name);
    const indices = this.inMemory(indexTensor, name);
    const dims = this.dims(sparse.dims, name);
    const elements = dims.reduce((product, length) => product * length, 1);
    const count = values.dims.reduce((product, length) => product * length, 1);
    const width = count === 0 ? 1 : values.data.length / count;
    if (!(elements * width <= LARGEST_DENSE))
      this.fail(
        name,
        `expected at most ${LARGEST_DENSE} bytes when written out, got shape [${dims}]`,
      );
    if (indices.type !== "int64") this.fail(name, `expected int64 indices, got ${indices.type}`);
    // One flat index a value, or one index an axis.
    const axes = indices.dims.length === 2 ? dims.length : 1;
    const index = new DataView(
      indices.data.buffer,
      indices.data.byteOffset,
      indices.data.byteLength,
    );
    if (indices.data.length !== 8 * count * axes)
      this.fail(name, `expected ${count * axes} indices, got ${indices.data.length / 8}`);
    const data = new Uint8Array(elements * width);
    for (let i = 0; i < count; i++) {
      let flat = 0;
      for (let axis = 0; axis < axes; axis++) {
        const length = axes === 1 ? elements : dims[axis]!;
        const at = Number(index.getBigInt64(8 * (i * axes + axis), true));
        if (!(at >= 0 && at < length))
          this.fail(name, `expected indices from 0 to ${length - 1}, got ${at}`);
        flat = axes === 1 ? at : flat * length + at;
      }
      data.set(values.data.subarray(i * width, (i + 1) * width), flat * width);
    }
    return { type: values.type, dims, data };
  }

  /** The numbers of a tensor, row-major. @throws as `describe` */
  numbers(tensor: TensorProto): Float64Array {
    const { type, dims, data } = this.inMemory(tensor, tensor.name);
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const count = dims.reduce((product, length) => product * length, 1);
    return Float64Array.from({ length: count }, (_, i) => READ[type](view, i));
  }

  private inMemory(tensor: TensorProto, name: string) {
    const { type, dims, data } = this.describe(tensor, name);
    return { type, dims, data: data instanceof Uint8Array ? data : readRange(data) };
  }

  private widened(row: TypeRow, data: TensorDescription["data"]): TensorDescription["data"] {
    return row.widen ? asBytes(row.widen(data as Uint8Array)) : data;
  }

  private dims(dims: readonly bigint[], name: string): number[] {
    return dims.map((length) => {
      const number = Number(length);
      if (number < 0 || !Number.isSafeInteger(number))
        this.fail(name, `expected lengths of at least 0 in its shape, got ${length}`);
      return number;
    });
  }

  private fail(name: string, message: string): never {
    throw new ModelFormatError(`${this.source}: tensor ${name}: ${message}`);
  }
}

function readRange({ path, offset, length }: { path: string; offset: number; length: number }) {
  const bytes = new Uint8Array(length);
  if (length === 0) return bytes;
  const file = openSync(path, "r");
  try {
    for (let done = 0; done < length; ) {
      const count = readSync(file, bytes, done, length - done, offset + done);
      if (count === 0)
        throw new ModelFormatError(`${path}: the file was cut off while it was read`);
      done += count;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}
