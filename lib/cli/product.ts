/** eigenscope product: an operator times given vectors. */

import { writeNpy } from "../data/npy";
import { DataMismatchError, OptionError } from "../errors";
import { chosenModes } from "../model/modes";
import { gradient } from "../operators";
import type { Globals, SubjectArguments } from "./arguments";
import { count, duration, ProgressLine, print, printJson, short, warn } from "./output";
import { checkWritable, makeOperator, openData, openModel, runOptions } from "./subject";
import { readVectors } from "./vectors";

export async function run(
  file: string,
  args: SubjectArguments & { vector?: string; out?: string },
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  if (args.vector === undefined)
    throw new OptionError("--vector: expected a .npy file of shape (P,) or (K, P), got none");
  await checkWritable("--out", args.out);
  using model = await openModel(file, args);
  const { precision = "float32" } = args;
  const vector = await readVectors(args.vector, precision, signal);
  const P = model.parameterCount;
  const rows = vector.shape.length === 2 ? vector.shape[0]! : 1;
  if (vector.shape.length > 2 || vector.shape.at(-1) !== P || rows === 0)
    throw new DataMismatchError(
      `${args.vector}: expected shape (${P},) or (K, ${P}), as ${file} has ${P} parameters` +
        `${args.params || args.exclude ? " by --params and --exclude" : ""}, ` +
        `got (${vector.shape.join(", ")})`,
    );
  const data = await openData(args, signal);
  using operator = makeOperator(model, data, args);

  const line = new ProgressLine("product");
  try {
    const risk = await gradient(model, data, { ...runOptions(args), signal });
    const onProgress = line.onProgress;
    const products = await operator.apply(vector.data, { signal, onProgress });
    if (args.out !== undefined) await writeNpy(args.out, products, vector.shape, signal);
    const [report] = await operator.report();
    line.end();

    const seconds = (performance.now() - begin) / 1000;
    const warnings = [...new Set([...model.warnings, ...report!.warnings])];
    if (json)
      printJson({
        operator: args.operator ?? "hessian",
        precision,
        loss: risk.loss,
        gradientNorm: risk.norm,
        products: rows,
        parameterCount: P,
        split: report!.split,
        ...(chosenModes(model).length > 0 && { modes: model.modes }),
        batch: report!.batch,
        threads: report!.threads,
        peakBytes: process.resourceUsage().maxRSS * 1024,
        seconds,
        warnings,
      });
    else {
      print(`loss ${short(risk.loss)}, gradient norm ${short(risk.norm)}`);
      print(
        `${count(rows)} ${rows === 1 ? "product" : "products"} of ${args.operator ?? "hessian"} ` +
          `in ${duration(seconds)}${args.out === undefined ? "" : `, written to ${args.out}`}`,
      );
      warn(warnings);
    }
    return 0;
  } finally {
    line.end();
  }
}
