/** eigenscope inspect: what is in the model, and with data, how its curvature is computed. */

import { EigenscopeError, OptionError } from "../errors";
import type { OperatorReport } from "../linear-operator";
import type { Model } from "../model/model";
import { describeModes } from "../model/modes";
import type { StateDictMatch } from "../model/state-dict";
import { permutationGroups } from "../symmetry/permutations";
import { symmetries } from "../symmetry/symmetries";
import type { Globals, SubjectArguments } from "./arguments";
import { count, print, printJson, size, table, warn } from "./output";
import { hasData, makeOperator, openData, openModel } from "./subject";

export async function run(
  file: string,
  args: SubjectArguments & { plan?: boolean },
  { signal, json }: Globals,
): Promise<number> {
  if (args.plan && !hasData(args))
    throw new OptionError("--plan: expected data as well (--data or --inputs and --targets)");
  using model = await openModel(file, args);
  const document: Record<string, unknown> = {
    parameters: model.parameters.map(({ name, shape, offset, size, stateDict }) => ({
      ...{ name, shape, offset, size },
      ...(model.stateDict && { stateDict }),
    })),
    parameterCount: model.parameterCount,
    inputs: model.inputs,
    outputs: model.outputs,
    modes: model.modes,
    opset: model.opset,
    operators: model.operators,
    unsupported: model.unsupported,
    output: model.output,
    producer: model.producer,
    tensors: model.tensors.filter(({ role }) => role !== "parameter"),
    ...(model.stateDict && { stateDict: model.stateDict }),
    warnings: [...model.warnings],
  };
  const found = symmetryOf(model);
  if (found) Object.assign(document, { symmetries: found });
  let plan: string | undefined;
  if (hasData(args)) {
    using operator = makeOperator(model, await openData(args, signal), args);
    const [report] = await operator.report({ signal });
    Object.assign(document, { report });
    if (args.plan) plan = await operator.plan({ signal });
    if (plan !== undefined) Object.assign(document, { plan });
  }
  if (json) printJson(document);
  else printHuman(file, model, document, plan);
  return 0;
}

/** Networks of more parameters are left to eigenscope symmetry, which takes its time. */
const SMALL = 200_000;

/** Units that can be exchanged, and generators of continuous symmetries, where that is cheap. */
function symmetryOf(
  model: Model,
): { groups: number; units: number; generators: number } | undefined {
  if (model.parameterCount > SMALL || model.parameterCount === 0) return undefined;
  try {
    const groups = permutationGroups(model);
    return {
      groups: groups.length,
      units: groups.reduce((sum, { size: units }) => sum + units, 0),
      generators: symmetries(model).families.reduce((sum, { dimension }) => sum + dimension, 0),
    };
  } catch (error) {
    // Operators that are not supported, and lengths that only data tell.
    if (error instanceof EigenscopeError) return undefined;
    throw error;
  }
}

function shapeText(shape: readonly (number | string)[] | null): string {
  return shape ? `(${shape.join(", ")})` : "(any rank)";
}

/** What a tensor is in the state_dict. */
function origin(match: StateDictMatch | undefined): string {
  if (!match) return "";
  const { rule, names, note } = match;
  const first = names.slice(0, 4).join(rule === "ambiguous" ? " or " : " + ");
  const text = names.length > 4 ? `${first}, ...` : first;
  if (note === "") return text;
  if (rule === "fused") return `${names[0] ?? "a shift"} ${note}`;
  return rule === "rows" ? `${note} ${text}` : `${text} (${note})`;
}

function printHuman(
  file: string,
  model: Model,
  document: Record<string, unknown>,
  plan: string | undefined,
): void {
  print(`${file}: opset ${model.opset}${model.producer ? `, by ${model.producer}` : ""}`);
  for (const [what, values] of [
    ["input", model.inputs],
    ["output", model.outputs],
  ] as const)
    for (const { name, type, shape } of values)
      print(
        `${what} ${name}: ${type} ${shapeText(shape)}` +
          (what === "output" && values.length > 1 && name === model.output ? ", used" : ""),
      );

  for (const line of describeModes(model.modes, model.operators)) print(line);

  print(`\n${count(model.parameterCount)} parameters`);
  const named = model.stateDict !== undefined;
  const rows = model.parameters.map(({ name, shape, offset, size, stateDict }) => [
    ...[name, shapeText(shape), offset, size],
    ...(named ? [stateDict?.rule ?? "", origin(stateDict)] : []),
  ]);
  const headings = ["name", "shape", "offset", "size"];
  for (const line of table([...headings, ...(named ? ["rule", "state_dict"] : [])], rows))
    print(line);

  const others = model.tensors.filter(({ role }) => role !== "parameter");
  if (others.length > 0) {
    print("\nNo parameters");
    const lines = others.map(({ name, shape, role, reason }) => [
      name,
      shapeText(shape),
      role,
      reason,
    ]);
    for (const line of table(["name", "shape", "role", "why"], lines)) print(line);
  }

  print("\nOperators");
  const operators = Object.entries(model.operators).sort(([, a], [, b]) => b - a);
  for (const line of table(["operator", "nodes"], operators)) print(line);
  if (model.unsupported.length > 0) {
    print("\nNot supported");
    const lines = model.unsupported.map(({ op, node, reason }) => [op, node, reason]);
    for (const line of table(["operator", "node", "why"], lines)) print(line);
  }

  const found = document.symmetries as ReturnType<typeof symmetryOf>;
  if (found)
    print(
      `\nSymmetries: ${count(found.units)} units in ${count(found.groups)} groups can be exchanged; ` +
        `${count(found.generators)} continuous generators`,
    );
  const report = document.report as OperatorReport | undefined;
  if (report) {
    print(`\nThe Gauss-Newton split lies ${report.split}.`);
    print(
      `${count(report.microBatches)} micro-batches of ${count(report.batch)}, of which ` +
        `${count(report.cachedMicroBatches)} stay linearised; ${size(report.peakBytes)} on ` +
        `${report.threads} threads`,
    );
  }
  if (plan !== undefined) print(`\n${plan}`);
  warn([...model.warnings, ...(report?.warnings ?? [])]);
}
