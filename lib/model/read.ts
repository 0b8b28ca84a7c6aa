/** Bytes of a model file, and the ONNX message in them. */
import { constants } from "node:buffer";
import { open, stat } from "node:fs/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { ModelFormatError } from "../errors";
import { type ModelProto, ModelProtoSchema } from "./onnx_pb";

const EXPECTED = "expected an ONNX model";

/** What files are that people pass instead of a model, told by their first bytes. */
const OTHER_FORMATS: { magic: string; at?: number; what: string; cure: string }[] = [
  {
    magic: "version https://git-lfs",
    what: "a Git LFS pointer, not the file it stands for",
    cure: "run `git lfs pull`",
  },
  {
    magic: "PK\x03\x04",
    what: "a zip archive, as PyTorch's .pt and .pth and NumPy's .npz are",
    cure: "export the model with torch.onnx.export",
  },
  {
    magic: "\x80\x02",
    what: "a Python pickle, as PyTorch writes",
    cure: "export the model with torch.onnx.export",
  },
  { magic: "\x93NUMPY", what: "a NumPy array", cure: "pass it as data" },
  {
    magic: "\x89HDF\r\n",
    what: "an HDF5 file, as Keras writes",
    cure: "convert the model with tf2onnx",
  },
  { magic: "TFL3", at: 4, what: "a TensorFlow Lite model", cure: "convert it with tf2onnx" },
  {
    magic: "ORTM",
    at: 4,
    what: "a model in onnxruntime's own format",
    cure: "pass its .onnx file",
  },
  { magic: "\x1f\x8b", what: "gzip-compressed", cure: "unpack it first" },
  { magic: "<", what: "HTML or XML, perhaps an error page", cure: "download it again" },
  {
    magic: "{",
    at: 8,
    what: "a safetensors file",
    cure: "export the model with torch.onnx.export",
  },
];

/**
 * Reads a whole file.
 *
 * @throws ModelFormatError when there is no such file, or it is empty or too large.
 */
export async function readFileBytes(path: string): Promise<Uint8Array> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new ModelFormatError(`${path}: ${EXPECTED}, found no regular file`);
    if (info.size > constants.MAX_LENGTH)
      throw new ModelFormatError(
        `${path}: expected at most ${constants.MAX_LENGTH} bytes, got ${info.size}; ` +
          "export the model with external data",
      );
    const bytes = Buffer.allocUnsafeSlow(info.size);
    const file = await open(path, "r");
    try {
      // One read takes at most 2 GiB.
      const most = 2 ** 30;
      let done = 0;
      while (done < bytes.length) {
        const { bytesRead } = await file.read(
          bytes,
          done,
          Math.min(most, bytes.length - done),
          done,
        );
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return bytes.subarray(0, done);
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof ModelFormatError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    const came = code === "ENOENT" ? "there is no such file" : message;
    throw new ModelFormatError(`${path}: ${EXPECTED}, but ${came}`, { cause });
  }
}

function startsWith(bytes: Uint8Array, magic: string, at: number): boolean {
  if (bytes.length < at + magic.length) return false;
  for (let i = 0; i < magic.length; i++) {
    if (bytes[at + i] !== magic.charCodeAt(i)) return false;
  }
  return true;
}

/** Field numbers of ModelProto by wire type; what begins otherwise is no ONNX model. */
const TOP_FIELDS: Record<number, WireType> = {
  1: WireType.Varint,
  2: WireType.LengthDelimited,
  3: WireType.LengthDelimited,
  4: WireType.LengthDelimited,
  5: WireType.Varint,
  6: WireType.LengthDelimited,
  7: WireType.LengthDelimited,
  8: WireType.LengthDelimited,
  14: WireType.LengthDelimited,
  20: WireType.LengthDelimited,
  25: WireType.LengthDelimited,
  26: WireType.LengthDelimited,
};

/**
 * Walks the outermost fields: undefined where they are well formed, else why not. Tells a file that
 * was cut off, by how much, from one that never was a model.
 */
function outermostFault(bytes: Uint8Array): string | undefined {
  const reader = new BinaryReader(bytes);
  let fields = 0;
  try {
    while (reader.pos < reader.len) {
      const [field, wireType] = reader.tag();
      if (TOP_FIELDS[field] !== wireType)
        return fields === 0 ? "not-onnx" : `damaged after byte ${reader.pos}`;
      if (wireType === WireType.LengthDelimited) {
        const end = reader.uint32() + reader.pos;
        if (end > reader.len)
          return fields === 0
            ? "not-onnx"
            : `cut off: it has ${reader.len} bytes of at least ${end}`;
        reader.pos = end;
      } else {
        reader.skip(wireType, field);
      }
      fields++;
    }
  } catch {
    return fields === 0 ? "not-onnx" : `cut off after ${reader.len} bytes`;
  }
  return undefined;
}

function otherFormat(bytes: Uint8Array): string | undefined {
  const row = OTHER_FORMATS.find(({ magic, at }) => startsWith(bytes, magic, at ?? 0));
  return row && `${row.what}: ${row.cure}`;
}

/**
 * The message in the bytes of an .onnx file. Tensor data stays where it is: `rawData` are views.
 *
 * @param whole whether fields that eigenscope does not know are kept, to be written again
 * @throws ModelFormatError when the bytes are no ONNX model, are cut off or damaged.
 */
export function parseModel(bytes: Uint8Array, source: string, whole = false): ModelProto {
  if (bytes.length === 0) throw new ModelFormatError(`${source}: ${EXPECTED}, got an empty file`);
  const fault = outermostFault(bytes);
  if (fault === "not-onnx") {
    const what = otherFormat(bytes) ?? "something else";
    throw new ModelFormatError(`${source}: ${EXPECTED}, but the file is ${what}`);
  }
  if (fault)
    throw new ModelFormatError(
      `${source}: the ONNX model is ${fault}; copy or export the file again`,
    );
  let model: ModelProto;
  try {
    model = fromBinary(ModelProtoSchema, bytes, { readUnknownFields: whole });
  } catch (cause) {
    const { message } = cause as Error;
    throw new ModelFormatError(
      `${source}: the ONNX model is damaged (${message}); copy or export the file again`,
      { cause },
    );
  }
  if (!model.graph)
    throw new ModelFormatError(
      `${source}: ${EXPECTED}, but there is no graph in it; export the model again`,
    );
  return model;
}
