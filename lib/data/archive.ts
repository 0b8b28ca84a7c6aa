/** Files of several named arrays: NumPy's .npz, and safetensors. */
import { crc32 } from "node:zlib";
import { OptionError } from "../errors";
import { typeName } from "../options";
import { NPY_CODES, type NpyValues, npyHeader } from "./npy";
import { replaceFile } from "./replace-file";

/** An array to write, row-major. */
export interface NamedArray {
  name: string;
  shape: readonly number[];
  values: NpyValues;
  /** Bytes that stand for false and true. */
  bool?: boolean;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: NpyValues) =>
  new Uint8Array(buffer, byteOffset, byteLength);

function checkArrays(path: string, arrays: readonly NamedArray[]): void {
  const names = new Set<string>();
  for (const { name, shape, values } of arrays) {
    if (names.has(name)) throw new OptionError(`${path}: there are two arrays called ${name}`);
    names.add(name);
    const size = shape.reduce((product, n) => product * n, 1);
    if (size !== values.length)
      throw new OptionError(
        `${path}: ${name}: expected ${size} numbers for the shape (${shape}), got ${values.length}`,
      );
  }
}

/** Where lengths and positions of a zip archive without extensions end. */
const ZIP_LIMIT = 2 ** 32 - 1;

/** The fields that a local header and a directory entry of a stored file share, then its name. */
function zipFields(name: Buffer, checksum: number, size: number): Buffer {
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(20, 0); // version to extract
  fields.writeUInt16LE(0x800, 2); // the name is UTF-8
  fields.writeUInt16LE(0x21, 8); // 1 January 1980: the same bytes each time
  fields.writeUInt32LE(checksum, 10);
  fields.writeUInt32LE(size, 14);
  fields.writeUInt32LE(size, 18);
  fields.writeUInt16LE(name.length, 22);
  return fields;
}

/**
 * Writes a .npz file, a zip archive with a stored .npy file for each array, whole or not at all. The
 * same arrays give the same bytes.
 *
 * @throws OptionError when the place cannot be written to, or the arrays take over 4 GiB
 */
export async function writeNpz(path: string, arrays: readonly NamedArray[]): Promise<void> {
  checkArrays(path, arrays);
  await replaceFile(path, async (file) => {
    const directory: Buffer[] = [];
    let at = 0;
    const write = async (bytes: Uint8Array) => {
      await file.writeFile(bytes);
      at += bytes.length;
    };
    for (const { name, shape, values, bool } of arrays) {
      const header = npyHeader(bool ? "|b1" : NPY_CODES[typeName(values)]!, shape);
      const body = bytesOf(values);
      const entry = Buffer.from(`${name}.npy`);
      const size = header.length + body.length;
      if (at + size > ZIP_LIMIT || arrays.length > 0xfffe)
        throw new OptionError(
          `${path}: expected at most 4 GiB of arrays; write safetensors instead`,
        );
      const fields = zipFields(entry, crc32(body, crc32(header)), size);
      const central = Buffer.alloc(46);
      central.writeUInt32LE(0x02014b50, 0);
      central.writeUInt16LE(20, 4);
      fields.copy(central, 6);
      central.writeUInt32LE(at, 42);
      directory.push(central, entry);
      await write(Buffer.concat([Buffer.from("PK\x03\x04", "latin1"), fields, entry]));
      await write(header);
      await write(body);
    }
    const entries = Buffer.concat(directory);
    const end = Buffer.alloc(22);
    end.writeUInt32LE(0x06054b50, 0);
    end.writeUInt16LE(arrays.length, 8);
    end.writeUInt16LE(arrays.length, 10);
    end.writeUInt32LE(entries.length, 12);
    end.writeUInt32LE(at, 16);
    await write(entries);
    await write(end);
  });
}

/** The names that safetensors has for element types. */
const SAFETENSORS_TYPES: Record<string, string> = {
  Float32Array: "F32",
  Float64Array: "F64",
  Uint8Array: "U8",
  Int8Array: "I8",
  Int16Array: "I16",
  Uint16Array: "U16",
  Int32Array: "I32",
  Uint32Array: "U32",
  BigInt64Array: "I64",
  BigUint64Array: "U64",
};

/**
 * Writes a safetensors file, whole or not at all. The same arrays give the same bytes.
 *
 * @param metadata texts by name, for whoever reads the file
 * @throws OptionError when the place cannot be written to
 */
export async function writeSafetensors(
  path: string,
  arrays: readonly NamedArray[],
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  checkArrays(path, arrays);
  const tensors: Record<string, object> = {};
  if (Object.keys(metadata).length > 0) tensors.__metadata__ = metadata;
  let at = 0;
  for (const { name, shape, values, bool } of arrays) {
    if (name === "__metadata__")
      throw new OptionError(`${path}: expected no array called __metadata__`);
    const begin = at;
    at += values.byteLength;
    const dtype = bool ? "BOOL" : SAFETENSORS_TYPES[typeName(values)]!;
    tensors[name] = { dtype, shape, data_offsets: [begin, at] };
  }
  const json = Buffer.from(JSON.stringify(tensors));
  // Data begin at a multiple of 8.
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, " ");
  header.writeBigUInt64LE(BigInt(header.length - 8), 0);
  json.copy(header, 8);
  await replaceFile(path, async (file) => {
    await file.writeFile(header);
    for (const { values } of arrays) await file.writeFile(bytesOf(values));
  });
}
