/** Points of a landscape on disk, so that a run that was cut off goes on where it was. */
import { createHash } from "node:crypto";
import { appendFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "../data/replace-file";
import { OptionError } from "../errors";

const FORMAT = "eigenscope points 1";

/** A digest of everything that the points depend on. */
export function digestOf(settings: object, arrays: readonly Float64Array[]): string {
  const hash = createHash("sha256").update(JSON.stringify(settings));
  for (const { buffer, byteOffset, byteLength } of arrays)
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
  return hash.digest("hex");
}

/**
 * A file of lines of JSON: what the points are of, then one line a point, added as it is computed. A
 * line that a crash cut off is dropped.
 */
export class PointFile {
  readonly path: string;
  readonly #values: Map<number, number>;

  private constructor(path: string, values: Map<number, number>) {
    this.path = path;
    this.#values = values;
  }

  /**
   * @param name of the file in the folder, which is made where there is none
   * @throws OptionError where the file holds points of something else
   */
  static async open(folder: string, name: string, digest: string): Promise<PointFile> {
    await mkdir(folder, { recursive: true });
    const path = join(folder, name);
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw error;
    });
    const [head, ...rest] = text.split("\n").slice(0, -1);
    const values = new Map<number, number>();
    if (head !== undefined) {
      if (parsed(head)?.format !== FORMAT)
        throw new OptionError(`${path}: expected points of a landscape, got another file`);
      if (parsed(head)?.digest !== digest)
        throw new OptionError(
          `${path}: holds points of another landscape: model, data, loss, directions, steps or ` +
            "precision differ; give another folder, or remove the file",
        );
      for (const line of rest) {
        const { point, loss } = parsed(line) ?? {};
        if (Number.isSafeInteger(point))
          values.set(point as number, loss === null ? Number.NaN : (loss as number));
      }
    }
    const lines = [JSON.stringify({ format: FORMAT, digest })];
    for (const [point, loss] of values) lines.push(JSON.stringify({ point, loss }));
    await replaceFile(path, async (file) => {
      await file.writeFile(`${lines.join("\n")}\n`);
    });
    return new PointFile(path, values);
  }

  get(point: number): number | undefined {
    return this.#values.get(point);
  }

  /** The points that are there. */
  stored(): ReadonlyMap<number, number> {
    return this.#values;
  }

  async put(point: number, loss: number): Promise<void> {
    this.#values.set(point, loss);
    await appendFile(this.path, `${JSON.stringify({ point, loss })}\n`);
  }
}

function parsed(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
