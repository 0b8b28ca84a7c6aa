/** eigenscope prune: a masked network as a model of its own, and what it is worth. */
import { OptionError } from "../errors";
import { type Evaluation, evaluator } from "../evaluator";
import { loadMask } from "../masks/files";
import { type MaskedOptions, maskedParameters } from "../masks/worth";
import { writeModel } from "../model/write";
import type { Globals } from "./arguments";
import { evaluationText, initialOf, type MaskArguments } from "./masks";
import { count, duration, print, printJson, table, warn } from "./output";
import { checkWritable, hasData, openData, openModel, runOptions } from "./subject";

interface PruneArguments extends MaskArguments, Pick<MaskedOptions, "pruned" | "kept"> {
  mask?: string;
}

export async function run(
  file: string,
  args: PruneArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { out, pruned, kept } = args;
  if (args.mask === undefined)
    throw new OptionError(
      "--mask: expected a file of eigenscope masks, .npz or safetensors, got none",
    );
  if (out === undefined && !hasData(args))
    throw new OptionError(
      "expected --out FILE for the pruned model, or data to evaluate it on, got neither",
    );
  await checkWritable("--out", out);
  using model = await openModel(file, args);
  const mask = await loadMask(args.mask, model.parameters, { signal });
  const initial = await initialOf(model, args, signal);
  const parameters = maskedParameters(model, mask, { pruned, kept, initial });
  let before: Evaluation | undefined;
  let after: Evaluation | undefined;
  let samples: number | undefined;
  if (hasData(args)) {
    const data = await openData(args, signal);
    samples = data.samples;
    using worth = evaluator(model, data, { ...runOptions(args), target: args.targetName });
    before = await worth.at(undefined, { signal });
    after = await worth.at(parameters, { signal });
  }
  if (out !== undefined) await writeModel(out, model, { parameters });
  const layers = mask.layers();
  const document = {
    mask: args.mask,
    ...(out !== undefined && { file: out }),
    kept: mask.count,
    size: mask.size,
    sparsity: mask.sparsity,
    collapsed: mask.collapsed(),
    layers,
    ...(before && { dense: before, pruned: after, samples }),
    seconds: (performance.now() - begin) / 1000,
    warnings: model.warnings,
  };
  if (json) printJson(document);
  else {
    const share = (part: number, whole: number) => `${((100 * part) / (whole || 1)).toFixed(1)} %`;
    print(
      `${file} under ${args.mask}: ${count(mask.count)} of ${count(mask.size)} parameters kept\n`,
    );
    const rows = layers.map(({ name, size, kept }) => [name, size, kept, share(kept, size)]);
    for (const line of table(["tensor", "size", "kept", "share"], rows)) print(line);
    for (const name of document.collapsed) print(`nothing is kept of ${name}`);
    if (before && after) {
      print(`\ndense:  ${evaluationText(before)}`);
      print(`pruned: ${evaluationText(after)} (${count(samples!)} samples)`);
    }
    print(`\n${duration(document.seconds)}${out === undefined ? "" : `; written to ${out}`}`);
    warn(model.warnings);
  }
  return 0;
}
