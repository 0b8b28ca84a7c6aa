/** The state of a run in a file, from which it goes on as if it had not ended. */
import { open } from "node:fs/promises";
import { join } from "node:path";
import type { CallOptions } from "../call";
import { type NamedArray, writeSafetensors } from "../data/archive";
import { type StoredArray, withArrays } from "../data/read-arrays";
import { DataMismatchError } from "../errors";
import type { TrainingState } from "./session";

/** What a run was asked for, as far as it says what the steps are; to compare with another. */
export type Settings = Readonly<Record<string, string | number | boolean>>;

export interface SavedRun<Point> {
  state: TrainingState;
  settings: Settings;
  /** The loss of each minibatch and the learning rate of each step so far. */
  losses: Float64Array;
  rates: Float64Array;
  history: readonly Point[];
}

/** Without a number, so that it is no checkpoint of a step. */
export function stateFile(folder: string): string {
  return join(folder, "state.safetensors");
}

export async function saveRun<Point>(folder: string, run: SavedRun<Point>): Promise<void> {
  const { state, settings, losses, rates, history } = run;
  const vectors = { theta: state.theta, first: state.first, second: state.second, losses, rates };
  const arrays: NamedArray[] = Object.entries(vectors).flatMap(([name, values]) =>
    values ? [{ name, shape: [values.length], values }] : [],
  );
  await writeSafetensors(stateFile(folder), arrays, {
    step: `${state.step}`,
    updates: `${state.updates}`,
    settings: JSON.stringify(settings),
    history: JSON.stringify(history),
  });
}

/** The texts of a safetensors file. */
async function metadataOf(path: string): Promise<Record<string, string>> {
  const file = await open(path);
  try {
    const length = Buffer.alloc(8);
    await file.read(length, 0, 8, 0);
    const json = Buffer.alloc(Number(length.readBigUInt64LE(0)));
    await file.read(json, 0, json.length, 8);
    return JSON.parse(json.toString("utf8")).__metadata__ ?? {};
  } finally {
    await file.close();
  }
}

/**
 * The run that a folder holds; undefined where it holds none.
 *
 * @throws DataMismatchError for a file that cannot be read or is no state of `size` parameters
 */
export async function loadRun<Point>(
  folder: string,
  size: number,
  { signal }: Pick<CallOptions, "signal">,
): Promise<SavedRun<Point> | undefined> {
  const path = stateFile(folder);
  try {
    await (await open(path)).close();
  } catch {
    return undefined;
  }
  // The core checks the file before its text is read here.
  const arrays = await withArrays(path, { signal }, async (stored: readonly StoredArray[]) => {
    const read = async (array: StoredArray) => [array.name, await array.values()] as const;
    return new Map(await Promise.all(stored.map(read)));
  });
  const { step, updates, settings, history } = await metadataOf(path);
  const [theta, losses, rates] = ["theta", "losses", "rates"].map((name) => arrays.get(name));
  const [first, second] = ["first", "second"].map((name) => arrays.get(name));
  const whole = [theta, first, second].every((x) => x === undefined || x.length === size);
  if (!theta || !losses || !rates || !settings || !history || !whole)
    throw new DataMismatchError(
      `${path}: expected the state of a training run on ${size} parameters, got ` +
        `${[...arrays].map(([name, { length }]) => `${name} (${length},)`).join(", ")}`,
    );
  return {
    state: { step: Number(step), updates: Number(updates), theta, first, second },
    settings: JSON.parse(settings),
    losses,
    rates,
    history: JSON.parse(history),
  };
}
