/** Points of a sweep on disk, so that a run that was cut off goes on where it was. */
import { createHash } from "node:crypto";
import { appendFile, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { replaceFile } from "../data/replace-file";
import { OptionError } from "../errors";

const FORMAT = "eigenscope sweep 1";

type Point = Record<string, number | null>;
interface Line {
  key: string;
  point: Point;
}

/** Lines of JSON: what the points are of, then one line a point, added as it is computed. */
export class SweepFile {
  readonly #path: string | undefined;
  readonly #points: Map<string, Point>;

  private constructor(path: string | undefined, points: Map<string, Point>) {
    this.#path = path;
    this.#points = points;
  }

  /**
   * @param folder made where there is none; undefined: nothing is kept
   * @param settings everything that a point depends on, but for its key
   * @throws OptionError where the file holds points of another sweep
   */
  static async open(folder: string | undefined, settings: object): Promise<SweepFile> {
    if (folder === undefined) return new SweepFile(undefined, new Map());
    await mkdir(folder, { recursive: true });
    const path = join(folder, "points.jsonl");
    const digest = createHash("sha256").update(JSON.stringify(settings)).digest("hex");
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw error;
    });
    // A line that a crash cut off has no end.
    const [head, ...rest] = text.split("\n").slice(0, -1);
    const points = new Map<string, Point>();
    if (head !== undefined) {
      const found = parsed<{ format: string; digest: string }>(head);
      if (found?.format !== FORMAT)
        throw new OptionError(`${path}: expected points of a sweep, got another file`);
      if (found.digest !== digest)
        throw new OptionError(
          `${path}: holds points of another sweep: data, problem or settings differ; give another ` +
            "folder, or remove the file",
        );
      for (const line of rest) {
        const entry = parsed<Line>(line);
        if (entry) points.set(entry.key, entry.point);
      }
    }
    const lines = [
      JSON.stringify({ format: FORMAT, digest }),
      ...[...points].map(([key, point]) => JSON.stringify({ key, point })),
    ];
    await replaceFile(path, async (file) => {
      await file.writeFile(`${lines.join("\n")}\n`);
    });
    return new SweepFile(path, points);
  }

  get(key: string): Point | undefined {
    return this.#points.get(key);
  }

  async put(key: string, point: Point): Promise<void> {
    this.#points.set(key, point);
    if (this.#path !== undefined)
      await appendFile(this.#path, `${JSON.stringify({ key, point })}\n`);
  }
}

function parsed<T>(line: string): T | undefined {
  try {
    return JSON.parse(line) as T;
  } catch {
    return undefined;
  }
}
