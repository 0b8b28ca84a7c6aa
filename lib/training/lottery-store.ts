/** Finished runs of a lottery in a folder, by seed, level and kind of ticket. */
import { mkdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { loadCheckpoint, saveCheckpoint } from "../checkpoints";
import { replaceFile } from "../data/replace-file";
import { DataMismatchError, OptionError } from "../errors";
import { loadMask, saveMask } from "../masks/files";
import type { Mask } from "../masks/mask";
import type { Model } from "../model/model";
import { describe } from "../options";
import type { Settings } from "./state-file";

/** What a run came to. */
export interface TicketRun {
  readonly loss: number | null;
  readonly accuracy: number | null;
  /** Loss of the last minibatches, on average. */
  readonly trainingLoss: number | null;
  readonly steps: number;
  readonly seconds: number;
}

async function textOf(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new DataMismatchError(`${path}: cannot be read: ${error.message}`, { cause: error });
  });
}

function parsed<T>(path: string, text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new DataMismatchError(`${path}: expected JSON, as lottery wrote it; remove the file`, {
      cause,
    });
  }
}

async function write(path: string, value: object): Promise<void> {
  await replaceFile(path, async (file) => {
    await file.writeFile(`${JSON.stringify(value)}\n`);
  });
}

/** Without a folder nothing is kept and nothing found. */
export class LotteryStore {
  readonly #folder: string | undefined;
  readonly #model: Model;

  private constructor(folder: string | undefined, model: Model) {
    this.#folder = folder;
    this.#model = model;
  }

  /** @throws OptionError where the folder holds another lottery, or cannot be written to */
  static async open(
    folder: string | undefined,
    model: Model,
    settings: Settings,
  ): Promise<LotteryStore> {
    const store = new LotteryStore(folder, model);
    if (folder === undefined) return store;
    await mkdir(folder, { recursive: true }).catch((cause: Error) => {
      throw new OptionError(
        `lottery: folder: expected one that can be written to, got ${folder}: ${cause.message}`,
        { cause },
      );
    });
    const path = join(folder, "lottery.json");
    const text = await textOf(path);
    if (text === undefined) {
      await write(path, settings);
      return store;
    }
    const saved = parsed<Settings>(path, text);
    for (const name of new Set([...Object.keys(saved), ...Object.keys(settings)]))
      if (saved[name] !== settings[name])
        throw new OptionError(
          `lottery: expected the lottery that ${folder} holds, with ${name} ` +
            `${describe(saved[name])}, got ${describe(settings[name])}; use another folder`,
        );
    return store;
  }

  #path(key: string): string | undefined {
    return this.#folder === undefined ? undefined : join(this.#folder, key);
  }

  /** The same, in a folder that is there. */
  async #place(key: string): Promise<string | undefined> {
    const path = this.#path(key);
    if (path !== undefined) await mkdir(dirname(path), { recursive: true });
    return path;
  }

  /** The result of a run that is finished. */
  async found(key: string): Promise<TicketRun | undefined> {
    const path = this.#path(`${key}.json`);
    const text = path && (await textOf(path));
    return text === undefined || text === "" ? undefined : parsed<TicketRun>(path!, text);
  }

  /** Last, as it says that the run is finished. */
  async finish(key: string, run: TicketRun): Promise<void> {
    const path = await this.#place(`${key}.json`);
    if (path) await write(path, run);
  }

  async saveParameters(key: string, theta: Float64Array): Promise<void> {
    const path = await this.#place(`${key}.safetensors`);
    if (path) await saveCheckpoint(path, this.#model, theta);
  }

  async parameters(key: string, signal: AbortSignal | undefined): Promise<Float64Array> {
    return loadCheckpoint(this.#model, this.#path(`${key}.safetensors`)!, { signal });
  }

  async saveMask(key: string, mask: Mask): Promise<void> {
    const path = await this.#place(`${key}.safetensors`);
    if (path) await saveMask(path, mask);
  }

  async mask(key: string, signal: AbortSignal | undefined): Promise<Mask> {
    const path = this.#path(`${key}.safetensors`)!;
    return loadMask(path, this.#model.parameters, { signal });
  }
}
