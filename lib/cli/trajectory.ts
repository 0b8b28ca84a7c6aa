/** eigenscope trajectory: what can be measured along the checkpoints of a run. */
import { basename } from "node:path";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import { nearest } from "../options";
import { runSettings } from "../trajectory/run-settings";
import type { Trajectory } from "../trajectory/trajectory";
import { trajectory } from "../trajectory/trajectory";
import { type Findings, prepareFolder, writeArtefacts } from "./analysis";
import type { Globals } from "./arguments";
import { count, duration, ProgressLine, print, printJson, warn } from "./output";
import { hasData, openData, openModel } from "./subject";
import { PARTS, type PartName, type TrajectoryArguments } from "./trajectory-parts";

const NAMES = Object.keys(PARTS) as PartName[];

/** Those that were asked for; by default all that the data allow. */
function partsOf({ parts, ...args }: TrajectoryArguments, hasTargets: boolean): PartName[] {
  for (const name of parts ?? [])
    if (!NAMES.includes(name as PartName)) {
      const meant = nearest(name, NAMES);
      throw new OptionError(
        `--parts: expected some of ${NAMES.join(", ")}, got "${name}"` +
          (meant ? `; "${meant}" was probably meant` : ""),
      );
    }
  if (!parts) return NAMES.filter((name) => hasTargets || !PARTS[name].needsData);
  const wanting = parts.filter((name) => PARTS[name as PartName].needsData);
  if (wanting.length > 0 && !hasData(args))
    throw new OptionError(
      `--parts ${wanting.join(",")}: expected data as well (--data or --inputs and --targets)`,
    );
  return NAMES.filter((name) => parts.includes(name));
}

export async function run(
  file: string,
  args: TrajectoryArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const parts = partsOf(args, hasData(args));
  const { out, files: checkpoints } = args;
  await prepareFolder(out);
  using model = await openModel(file, args);
  const data: DataSet | undefined = hasData(args) ? await openData(args, signal) : undefined;
  const { maxMemory } = args;
  const path: Trajectory = await trajectory(model, checkpoints, {
    ...{ steps: args.steps, maxMemory, name: nameOf(checkpoints) },
  });
  const settings = await runSettings(path);
  const found: [PartName, Findings][] = [];
  for (const name of parts) {
    const line = new ProgressLine(`trajectory, ${name}`);
    try {
      const call = { signal, onProgress: line.onProgress };
      const part = await PARTS[name].run({ model, data, path, settings, args, call });
      if (part) found.push([name, part]);
    } finally {
      line.end();
    }
  }
  const all = found.map(([, findings]) => findings);
  const warnings = [...new Set([...model.warnings, ...all.flatMap((part) => part.warnings ?? [])])];
  const notConverged = all.flatMap((part) => part.notConverged ?? []).join("; ");
  const document = {
    checkpoints: path.length,
    steps: path.steps,
    parameterCount: model.parameterCount,
    ...(data && { samples: data.samples }),
    ...Object.fromEntries(found.map(([name, { json: fields }]) => [name, fields])),
    ...(notConverged && { reason: notConverged }),
    products: all.reduce((sum, { products = 0 }) => sum + products, 0),
    seconds: (performance.now() - begin) / 1000,
    warnings,
  };
  if (out !== undefined) {
    const merged: Findings = { json: document, human: () => {} };
    merged.arrays = Object.assign({ steps: { values: path.steps } }, ...all.map((a) => a.arrays));
    merged.files = Object.assign({}, ...all.map((a) => a.files));
    merged.figures = Object.assign({}, ...all.map((a) => a.figures));
    await writeArtefacts(out, document, merged, signal);
  }
  if (json) printJson(document);
  else {
    const [first, last] = [path.steps[0]!, path.steps.at(-1)!];
    print(
      `path of ${file}: ${count(path.length)} checkpoints, steps ${count(first)} to ` +
        `${count(last)}, ${count(model.parameterCount)} parameters` +
        (data ? `, ${count(data.samples)} samples` : ""),
    );
    for (const [, part] of found) {
      print();
      part.human();
    }
    const { products, seconds } = document;
    print(
      `\n${products > 0 ? `${count(products)} products, ` : ""}${duration(seconds)}` +
        (out === undefined ? "" : `; written to ${out}`),
    );
    warn(warnings);
    if (notConverged) process.stderr.write(`not converged: ${notConverged}\n`);
  }
  return notConverged ? 4 : 0;
}

/** A run is called like its folder. */
function nameOf(checkpoints: readonly string[]): string {
  return checkpoints.length === 1 ? basename(checkpoints[0]!) || "run" : "run";
}
