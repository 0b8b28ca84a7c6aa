/** eigenscope kfac: Kronecker-factored curvature, layer by layer. */

import type { CallOptions } from "../call";
import { OptionError } from "../errors";
import { type KfacOptions, kfac } from "../kfac";
import type { BlockParts, LogDeterminant, StructuredOperator } from "../structured";
import { type AnalysisArguments, type Artefact, analyse, type Findings } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { runOptions } from "./subject";

interface KfacArguments extends Omit<AnalysisArguments, "operator"> {
  type?: NonNullable<KfacOptions["type"]>;
  corrected?: boolean;
  sharing?: NonNullable<KfacOptions["sharing"]>;
  joint?: boolean;
  others?: NonNullable<KfacOptions["others"]>;
  damping?: number;
}

export function run(file: string, args: KfacArguments, globals: Globals): Promise<number> {
  const { type = "type-2", corrected = false, sharing, joint, others, draws, seed } = args;
  if (type !== "mc" && draws !== undefined)
    throw new OptionError(`--draws belongs to --type mc, got --type ${type}`);
  const kind = `${corrected ? "ekfac" : "kfac"} (${type})`;
  return analyse(
    "factors",
    file,
    args,
    globals,
    ({ operator }, call) => findings(operator as StructuredOperator, args, call),
    {
      kind,
      make: (model, data, call) =>
        kfac(model, data, {
          ...runOptions(args),
          ...call,
          type,
          sharing,
          joint,
          others,
          ...(type === "mc" && { draws, seed }),
          eigenvalueCorrected: corrected,
        }),
    },
  );
}

async function findings(
  operator: StructuredOperator,
  args: KfacArguments,
  { signal }: CallOptions,
): Promise<Findings> {
  const { damping, out } = args;
  const spectrum = await operator.eigenvalues({ signal });
  const determinant =
    damping === undefined ? undefined : await operator.logDeterminant(damping, { signal });
  const parts: BlockParts[] = [];
  for (let i = 0; out !== undefined && i < spectrum.blocks.length; i++)
    parts.push(await operator.parts(i, { signal }));
  const stems = fileNames(spectrum.blocks.map(({ name }) => name));
  const blocks = spectrum.blocks.map(({ values, ...block }, i) => ({
    ...block,
    largest: values[0],
    smallest: values.at(-1),
    ...(out !== undefined && { files: stems[i] }),
  }));
  return {
    json: {
      type: args.type ?? "type-2",
      sharing: args.sharing ?? "expand",
      corrected: args.corrected ?? false,
      joint: args.joint ?? false,
      trace: spectrum.trace,
      frobenius: spectrum.frobenius,
      largest: spectrum.values[0],
      smallest: spectrum.values.at(-1),
      ...(determinant && { damping, logDeterminant: determinant.value, sign: determinant.sign }),
      blocks,
    },
    human: () => show(operator.dim, spectrum, damping, determinant),
    arrays: { eigenvalues: { values: spectrum.values }, ...artefacts(stems, parts) },
  };
}

type Spectrum = Awaited<ReturnType<StructuredOperator["eigenvalues"]>>;

function show(
  dim: number,
  { blocks, trace, frobenius, values }: Spectrum,
  damping: number | undefined,
  determinant: LogDeterminant | undefined,
): void {
  const rows = blocks.map(({ name, kind, size, trace: part, values: own }) => [
    name,
    kind,
    count(size),
    short(part),
    `${((100 * part) / trace).toFixed(1)} %`,
    short(own[0]!),
    condition(own[0]!, own.at(-1)!, damping ?? 0),
  ]);
  const last = damping === undefined ? "condition" : "condition, damped";
  const head = ["block", "kind", "size", "trace", "share", "largest", last];
  for (const text of table(head, rows)) print(text);
  print();
  print(`trace ${short(trace)}, Frobenius norm ${short(frobenius)}, largest ${short(values[0]!)}`);
  if (determinant)
    print(
      `log det (A + ${damping} I) = ${short(determinant.value)}, ` +
        `${short(determinant.value / dim)} a parameter`,
    );
}

function condition(largest: number, smallest: number, damping: number): string {
  const ratio = (largest + damping) / (smallest + damping);
  return ratio > 0 && ratio < 1 / Number.EPSILON ? ratio.toExponential(1) : "singular";
}

/** Names of tensors as names of files, each once. */
function fileNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name, i) => {
    const plain = name.replace(/[^\w.-]+/g, "_").replace(/^[._]+|_+$/g, "") || "block";
    const stem = taken.has(plain) ? `${plain}-${i}` : plain;
    taken.add(stem);
    return stem;
  });
}

function artefacts(stems: readonly string[], all: readonly BlockParts[]): Record<string, Artefact> {
  const arrays: Record<string, Artefact> = {};
  all.forEach(({ indices, parts }, i) => {
    arrays[`${stems[i]}.indices`] = { values: indices };
    for (const { name, shape, values } of parts) arrays[`${stems[i]}.${name}`] = { values, shape };
  });
  return arrays;
}
