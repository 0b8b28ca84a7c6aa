/** NumPy's .npy, version 1: what vectors and other artefacts are written as. */
import type { FileHandle } from "node:fs/promises";
import { AbortError, OptionError } from "../errors";
import { describe, typeName } from "../options";
import { replaceFile } from "./replace-file";

/** Numbers that a .npy file can hold. */
export type NpyValues =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** @internal NumPy's codes of them. */
export const NPY_CODES: Record<string, string> = {
  Float32Array: "<f4",
  Float64Array: "<f8",
  Uint8Array: "|u1",
  Int8Array: "|i1",
  Int16Array: "<i2",
  Uint16Array: "<u2",
  Int32Array: "<i4",
  Uint32Array: "<u4",
  BigInt64Array: "<i8",
  BigUint64Array: "<u8",
};

/** @internal The magic, the version and the header, padded so that data begins at a multiple of 64. */
export function npyHeader(code: string, shape: readonly number[]): Uint8Array {
  const lengths = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const dict = `{'descr': '${code}', 'fortran_order': False, 'shape': (${lengths}), }`;
  const start = 10;
  const length = Math.ceil((start + dict.length + 1) / 64) * 64 - start;
  const bytes = new Uint8Array(start + length).fill(0x20);
  bytes.set([0x93, ...Buffer.from("NUMPY"), 1, 0, length & 0xff, length >> 8]);
  bytes.set(Buffer.from(dict), start);
  bytes[bytes.length - 1] = 0x0a;
  return bytes;
}

/** How much is written between looks at the signal; one write could take 2 GiB. */
const MOST_BYTES = 2 ** 26;

async function writeAll(
  file: FileHandle,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
    const { bytesWritten } = await file.write(
      bytes,
      done,
      Math.min(MOST_BYTES, bytes.length - done),
    );
    done += bytesWritten;
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: NpyValues) =>
  new Uint8Array(buffer, byteOffset, byteLength);

/**
 * Writes a .npy file, whole or not at all: a temporary file beside it takes its place when all is
 * written.
 *
 * @param values all numbers, row-major, or pieces of them in order, all of one type, for arrays
 * that need not be in memory at once
 * @param shape default for one array: its length
 * @param signal stops between pieces of 64 MiB
 * @throws OptionError when the place cannot be written to, or the numbers do not fill the shape
 */
export async function writeNpy(
  path: string,
  values: NpyValues | Iterable<NpyValues> | AsyncIterable<NpyValues>,
  shape?: readonly number[],
  signal?: AbortSignal,
): Promise<void> {
  const pieces = ArrayBuffer.isView(values) ? [values as NpyValues] : values;
  const lengths =
    shape ?? (ArrayBuffer.isView(values) ? [(values as NpyValues).length] : undefined);
  const fail = (message: string): never => {
    throw new OptionError(`${path}: ${message}`);
  };
  if (!lengths?.every((n) => Number.isSafeInteger(n) && n >= 0))
    return fail(`expected a shape of whole numbers, got ${lengths ? `(${lengths})` : "none"}`);
  const size = lengths.reduce((product, n) => product * n, 1);

  await replaceFile(path, async (file) => {
    let type: string | undefined;
    let written = 0;
    for await (const piece of pieces) {
      const name = typeName(piece);
      const code = NPY_CODES[name] ?? fail(`expected a typed array, got ${describe(piece)}`);
      if (type === undefined) await writeAll(file, npyHeader(code, lengths), signal);
      type ??= name;
      if (name !== type) fail(`expected pieces of one type, got ${type} and ${name}`);
      written += piece.length;
      if (written > size) break;
      await writeAll(file, bytesOf(piece), signal);
    }
    if (type === undefined) fail("expected numbers, got none");
    if (written !== size)
      fail(
        `expected ${size} numbers for the shape (${lengths}), got ${written > size ? "more" : written}`,
      );
  });
}
