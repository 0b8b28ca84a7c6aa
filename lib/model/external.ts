/** Tensors that lie in files beside the model. */
import { realpathSync, type Stats, statSync } from "node:fs";
import { isAbsolute, join, resolve, sep, win32 } from "node:path";
import { ModelFormatError } from "../errors";
import type { FileRange } from "../native";
import type { TensorProto } from "./onnx_pb";

interface KnownFile {
  path: string;
  size: number;
}

/** Finds external data. Nothing outside the model's folder is ever opened. */
export class ExternalFiles {
  private readonly known = new Map<string, KnownFile>();

  /**
   * @param source the model, for messages
   * @param folder where its external data lies; undefined for a model that came as bytes
   */
  constructor(
    private readonly source: string,
    private readonly folder: string | undefined,
  ) {}

  /** The bytes of a tensor whose data is external. `bytes` is what type and shape ask for. */
  locate(tensor: TensorProto, bytes: number): FileRange {
    const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
    const location = entries.get("location");
    if (!location) this.fail(tensor, "its data is external, but no file is named");
    const { path, size } = this.find(tensor, location);
    const offset = this.number(tensor, "offset", entries.get("offset"), 0);
    const length = this.number(tensor, "length", entries.get("length"), bytes);
    if (length !== bytes)
      this.fail(
        tensor,
        `expected ${bytes} bytes of ${path} for its type and shape, got a length of ${length}`,
      );
    if (offset + length > size)
      this.fail(
        tensor,
        `expected bytes ${offset} to ${offset + length} of ${path}, which has only ${size}; ` +
          "copy the whole file again",
      );
    return { path, offset, length };
  }

  private fail(tensor: TensorProto, message: string): never {
    throw new ModelFormatError(`${this.source}: tensor ${tensor.name}: ${message}`);
  }

  private number(
    tensor: TensorProto,
    key: string,
    text: string | undefined,
    fallback: number,
  ): number {
    if (text === undefined || text === "") return fallback;
    const value = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
      this.fail(tensor, `expected a number of bytes as ${key} of its external data, got "${text}"`);
    return value;
  }

  private find(tensor: TensorProto, location: string): KnownFile {
    const known = this.known.get(location);
    if (known) return known;
    if (this.folder === undefined)
      this.fail(
        tensor,
        `its data lies in ${location}, but the model came as bytes; pass its path, or the folder ` +
          "of that file as option `folder`",
      );
    const steps = location.split(/[\\/]/);
    if (isAbsolute(location) || win32.isAbsolute(location) || steps.includes(".."))
      this.fail(
        tensor,
        `expected its data in the model's folder, got "${location}"; put the file there and save ` +
          "the model with a relative location",
      );
    if (location.includes("\0")) this.fail(tensor, "the name of its data file is damaged");
    const path = join(this.folder, location);
    let info: Stats;
    let real: string;
    let home: string;
    try {
      real = realpathSync(path);
      home = realpathSync(resolve(this.folder));
      info = statSync(real);
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      this.fail(
        tensor,
        code === "ENOENT"
          ? `its data lies in ${path}, and there is no such file; copy it beside the model`
          : `its data lies in ${path}, which cannot be read: ${message}`,
      );
    }
    if (!real.startsWith(home.endsWith(sep) ? home : home + sep))
      this.fail(
        tensor,
        `expected its data in the model's folder, but ${path} is a link to ${real}; copy the file ` +
          "there",
      );
    if (!info.isFile()) this.fail(tensor, `expected its data in ${path}, found no regular file`);
    const file = { path: real, size: info.size };
    this.known.set(location, file);
    return file;
  }
}
