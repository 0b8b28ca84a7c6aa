/** How a run was trained, read from the state that `train` leaves beside its checkpoints. */
import { dirname } from "node:path";
import { loadRun } from "../training/state-file";
import type { Trajectory } from "./trajectory";

export interface RunSettings {
  readonly optimizer: string;
  /** At each checkpoint, of the step that leaves it; of the last, of the step that reached it. */
  readonly learningRates: Float64Array;
  readonly momentum: number;
  readonly weightDecay: number;
  readonly batchSize: number;
}

/**
 * Settings of the run that a trajectory is of; undefined where its checkpoints do not lie in one folder
 * with the state of a run of `train`, or are not of its steps.
 */
export async function runSettings(path: Trajectory): Promise<RunSettings | undefined> {
  const folders = new Set(
    Array.from({ length: path.length }, (_, i) => path.file(i)).map((file) =>
      file === undefined ? undefined : dirname(file),
    ),
  );
  const [folder] = folders;
  if (folders.size !== 1 || folder === undefined) return undefined;
  const run = await loadRun(folder, path.model.parameterCount, {});
  if (!run || run.rates.length === 0) return undefined;
  const { settings, rates } = run;
  const first = Number(settings.firstStep ?? 0);
  const places = Array.from(path.steps, (step) => Math.min(step - first, rates.length - 1));
  if (places.some((place) => !Number.isInteger(place) || place < 0)) return undefined;
  return {
    optimizer: String(settings.optimizer ?? "sgd"),
    learningRates: Float64Array.from(places, (place) => rates[place]!),
    momentum: Number(settings.momentum ?? 0),
    weightDecay: Number(settings.weightDecay ?? 0),
    batchSize: Number(settings.batchSize ?? Number.NaN),
  };
}
