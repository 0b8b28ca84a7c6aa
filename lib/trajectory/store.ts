/** What was computed at each checkpoint, in memory or in a folder that a later run goes on from. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type NamedArray, writeSafetensors } from "../data/archive";
import { withArrays } from "../data/read-arrays";
import { replaceFile } from "../data/replace-file";
import { OptionError } from "../errors";

const FORMAT = "eigenscope checkpoint 1";

/** Numbers of one checkpoint, and arrays beside them. */
export interface Stored<T extends object> {
  readonly numbers: T;
  readonly arrays: Readonly<Record<string, Float64Array | Float32Array>>;
}

/** Results by checkpoint. Arrays are read from the folder where there is one, and kept else. */
export class ResultStore<T extends object> {
  readonly #folder: string | undefined;
  readonly #kept = new Map<number, Stored<T>>();

  private constructor(folder: string | undefined) {
    this.#folder = folder;
  }

  /** @param folder made where there is none; undefined: in memory */
  static async open<T extends object>(folder: string | undefined): Promise<ResultStore<T>> {
    if (folder !== undefined) await mkdir(folder, { recursive: true });
    return new ResultStore<T>(folder);
  }

  #path(step: number, ending: string): string {
    return join(this.#folder!, `step-${`${step}`.padStart(8, "0")}.${ending}`);
  }

  /**
   * The numbers of a step, where they were computed with the same settings.
   *
   * @throws OptionError where the file holds something else
   */
  async find(step: number, digest: string): Promise<T | undefined> {
    if (this.#folder === undefined) return this.#kept.get(step)?.numbers;
    const path = this.#path(step, "json");
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw error;
    });
    if (text === undefined) return undefined;
    const found = parsed(text);
    if (found?.format !== FORMAT)
      throw new OptionError(`${path}: expected results at a checkpoint, got another file`);
    if (found.digest !== digest)
      throw new OptionError(
        `${path}: holds results of other settings: the checkpoint, data, operator, k, tolerance, ` +
          "seed or precision differ; give another folder, or remove the file",
      );
    return found.numbers as T;
  }

  async put(step: number, digest: string, { numbers, arrays }: Stored<T>): Promise<void> {
    if (this.#folder === undefined) {
      this.#kept.set(step, { numbers, arrays });
      return;
    }
    const named = Object.entries(arrays).map(
      ([name, values]): NamedArray => ({ name, shape: [values.length], values }),
    );
    await writeSafetensors(this.#path(step, "safetensors"), named);
    // Last, so that numbers without arrays are never found.
    await replaceFile(this.#path(step, "json"), async (file) => {
      await file.writeFile(`${JSON.stringify({ format: FORMAT, digest, numbers })}\n`);
    });
  }

  /** One array of a step that was found or put; float32 comes as float64. */
  async array(step: number, name: string): Promise<Float64Array> {
    if (this.#folder === undefined) return Float64Array.from(this.#kept.get(step)!.arrays[name]!);
    const path = this.#path(step, "safetensors");
    return withArrays(path, {}, (arrays) => {
      const array = arrays.find((stored) => stored.name === name);
      if (!array) throw new OptionError(`${path}: expected an array ${name}, got none`);
      return array.values();
    });
  }
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
