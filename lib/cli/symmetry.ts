/** eigenscope symmetry: permutations, continuous symmetries, identities, charges. */
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { Model } from "../model/model";
import { analysePermutations } from "../symmetry/permutations";
import { type Symmetries, symmetries } from "../symmetry/symmetries";
import type { PermutationGroup } from "../symmetry/types";
import { type VerifiedGroup, verifyPermutations } from "../symmetry/verify-permutations";
import { type SymmetryVerification, verifySymmetries } from "../symmetry/verify-symmetries";
import { type KernelShare, kernelShare } from "../symmetry/without";
import { type ChargeDrift, chargeDrift } from "../trajectory/charges";
import { chargesFigure } from "../trajectory/figures";
import { type Trajectory, trajectory } from "../trajectory/trajectory";
import { type AnalysisArguments, type Findings, prepareFolder, writeArtefacts } from "./analysis";
import type { Globals } from "./arguments";
import { count, duration, ProgressLine, print, printJson, short, table, warn } from "./output";
import { hasData, lossOf, makeOperator, openData, openModel, runOptions } from "./subject";

interface SymmetryArguments extends AnalysisArguments {
  verify?: boolean;
  kernel?: boolean;
  checkpoints?: string[];
  combinations?: number;
  tol?: number;
  details?: boolean;
}

/** What was found, as far as it was asked for. */
interface Found {
  groups: readonly PermutationGroup[];
  fixed: readonly { tensor: string; axis: number; why: string }[];
  found: Symmetries;
  orbit: { dimension: number; decomposed: boolean };
  permutations: readonly VerifiedGroup[] | undefined;
  verified: SymmetryVerification | undefined;
  kernel: KernelShare | undefined;
  path: Trajectory | undefined;
  drift: ChargeDrift[] | undefined;
}

/** Outputs of permuted networks agree to this. */
const PERMUTED = 1e-9;

export async function run(
  file: string,
  args: SymmetryArguments,
  { signal, json }: Globals,
): Promise<number> {
  const begin = performance.now();
  const { out, checkpoints } = args;
  for (const name of ["verify", "kernel"] as const)
    if (args[name] && !hasData(args))
      throw new OptionError(`--${name}: expected data as well (--data or --inputs and --targets)`);
  for (const name of ["combinations", "tol"] as const)
    if (args[name] !== undefined && !args.verify)
      throw new OptionError(`--${name}: expected --verify as well`);
  if (args.precision === "float32")
    throw new OptionError(
      "--precision: expected float64 for symmetries, got float32, whose rounding hides them",
    );
  await prepareFolder(out);
  using model = await openModel(file, args);
  const data = hasData(args) ? await openData(args, signal) : undefined;
  const line = new ProgressLine("symmetry");
  const call = { signal, onProgress: line.onProgress };
  try {
    const all = await analysed(model, data, args, checkpoints, call);
    const failures = failuresOf(all);
    const findings = { ...findingsOf(model, all, args), human: () => {} };
    const document = {
      ...findings.json,
      ...(args.verify && { passed: failures.length === 0, failures }),
      parameterCount: model.parameterCount,
      ...(data && { samples: data.samples }),
      seconds: (performance.now() - begin) / 1000,
      warnings: model.warnings,
    };
    if (out !== undefined) await writeArtefacts(out, document, findings, signal);
    line.end();
    if (json) printJson(document);
    else {
      printHuman(file, model, all, args);
      print(`\n${duration(document.seconds)}${out === undefined ? "" : `; written to ${out}`}`);
      warn(model.warnings);
      for (const failure of failures) process.stderr.write(`failed: ${failure}\n`);
    }
    return failures.length === 0 ? 0 : 1;
  } finally {
    line.end();
  }
}

async function analysed(
  model: Model,
  data: DataSet | undefined,
  args: SymmetryArguments,
  checkpoints: string[] | undefined,
  call: CallOptions,
): Promise<Found> {
  const loss = lossOf(args);
  const { groups, fixed } = analysePermutations(model, data);
  const found = symmetries(model, { data, loss });
  const orbit = await found.orbitDimension(undefined, { signal: call.signal });
  const { threads, maxMemory } = runOptions(args);
  const { combinations, tol, seed } = args;
  const permutations =
    args.verify && groups.length > 0
      ? await verifyPermutations(model, data!, groups, { seed, places: false, signal: call.signal })
      : undefined;
  const verified = args.verify
    ? await verifySymmetries(model, data!, {
        ...{ loss, threads, maxMemory, combinations, tol, seed, symmetries: found },
        ...call,
      })
    : undefined;
  const kernel = args.kernel ? await kernelOf(model, data!, found, args, call) : undefined;
  const path = checkpoints
    ? await trajectory(model, checkpoints.length === 1 ? checkpoints[0]! : checkpoints)
    : undefined;
  const charges = found.charges("family");
  const drift =
    path && charges.length > 0
      ? await chargeDrift(path, charges, { signal: call.signal })
      : undefined;
  return { groups, fixed, found, orbit, permutations, verified, kernel, path, drift };
}

async function kernelOf(
  model: Model,
  data: DataSet,
  found: Symmetries,
  args: SymmetryArguments,
  call: CallOptions,
): Promise<KernelShare | undefined> {
  const basis = await found.basis(undefined, { signal: call.signal });
  if (basis.rank === 0) return undefined;
  const { operator = "ggn" } = args;
  using curvature = makeOperator(model, data, { ...args, operator, precision: "float64" });
  return await kernelShare(curvature, basis, call);
}

/** What did not hold, in words. */
function failuresOf({ permutations = [], verified }: Found): string[] {
  return [
    ...permutations
      .filter(({ residual }) => !(residual <= PERMUTED))
      .map(
        ({ group, residual }) =>
          `permutations of ${group.name}: outputs change by ${short(residual)}`,
      ),
    ...(verified?.instances ?? [])
      .filter(({ passed }) => !passed)
      .map(
        ({ instance, residual }) => `${instance.family} of ${instance.name}: ${short(residual)}`,
      ),
  ];
}

/** log10 of the number of permutations of so many units. */
function log10Permutations(size: number): number {
  let sum = 0;
  for (let k = 2; k <= size; k++) sum += Math.log10(k);
  return sum;
}

function findingsOf(
  model: Model,
  all: Found,
  args: SymmetryArguments,
): Pick<Findings, "json" | "arrays" | "figures" | "files"> {
  const { groups, fixed, found, orbit, permutations, verified, kernel, path, drift } = all;
  const residuals = new Map(permutations?.map(({ group, residual }) => [group, residual]));
  const families = found.families.map(({ instances, ...family }) => {
    const checked = verified?.families.find(({ family: name }) => name === family.name);
    return {
      ...family,
      ...(checked && {
        residual: checked.residual,
        approximateResidual: checked.approximateResidual,
      }),
      instances: instances.map((instance) => {
        const { name, tensors, units, copies, dimension, flips, approximate, conserved } = instance;
        const own = verified?.instances.find((each) => each.instance === instance);
        const { instance: _, ...rest } = own ?? { instance };
        return { name, tensors, units, copies, dimension, flips, approximate, conserved, ...rest };
      }),
    };
  });
  const charges = found.charges("family");
  return {
    json: {
      groups: groups.map((group) => ({ ...group, residual: residuals.get(group) })),
      log10Permutations: groups.reduce((sum, { size }) => sum + log10Permutations(size), 0),
      fixed,
      families,
      orbitDimension: orbit.dimension,
      orbitDecomposed: orbit.decomposed,
      orbitShare: orbit.dimension / model.parameterCount,
      ...(kernel && { kernel: { operator: args.operator ?? "ggn", ...kernel } }),
      ...(path && { steps: path.steps }),
      ...(drift && {
        drift: drift.map(({ name, degree, size, drift: absolute, relativeDrift }) => ({
          ...{ name, degree, size, drift: absolute, relativeDrift },
        })),
      }),
    },
    arrays: Object.fromEntries([
      ...(drift
        ? drift.map(({ name, values, size }) => [
            `charges-${name}`,
            { values, shape: [values.length / size, size] },
          ])
        : charges.map(({ name, of }) => {
            const values = Float64Array.from(of(parametersOfModel(model)));
            return [`charges-${name}`, { values }];
          })),
      ...(kernel
        ? [
            ["eigenvalues", { values: kernel.values }],
            ["eigenvalues-without", { values: kernel.without }],
          ]
        : []),
    ]),
    figures: {
      ...(drift && path && { drift: chargesFigure(drift, path.steps) }),
      ...(kernel && { spectrum: spectrumFigure(kernel, args.operator ?? "ggn") }),
    },
  };
}

function parametersOfModel(model: Model): Float64Array {
  const theta = new Float64Array(model.parameterCount);
  for (const parameter of model.parameters) theta.set(parameter.values(), parameter.offset);
  return theta;
}

function spectrumFigure({ values, without }: KernelShare, operator: string) {
  const series = (name: string, of: Float64Array, dashed: boolean) => {
    const sorted = of.map(Math.abs).sort().reverse();
    const shown = sorted.filter((x) => x > 0);
    return {
      kind: "line" as const,
      name,
      x: Float64Array.from(shown.keys(), (i) => i + 1),
      y: shown,
      dashed,
    };
  };
  return {
    title: `Eigenvalues of the ${operator} with and without directions of symmetries`,
    x: { label: "rank by magnitude" },
    y: { label: "|lambda|", scale: "log" as const },
    marks: [series("all", values, false), series("without symmetries", without, true)],
  };
}

const residualText = (x: number | undefined) =>
  x === undefined || Number.isNaN(x) ? "-" : x.toExponential(1);

function printHuman(file: string, model: Model, all: Found, args: SymmetryArguments): void {
  const { groups, fixed, found, orbit, permutations, verified, kernel, path, drift } = all;
  print(`${file}: ${count(model.parameterCount)} parameters\n`);
  if (groups.length === 0) print("No units can be exchanged.");
  else {
    const rows = groups.map((group, i) => [
      group.name,
      count(group.size),
      count(group.places.length),
      ...(permutations ? [residualText(permutations[i]!.residual)] : []),
    ]);
    const head = ["units that can be exchanged", "units", "places"];
    for (const text of table(permutations ? [...head, "change of outputs"] : head, rows))
      print(text);
    const total = groups.reduce((sum, { size }) => sum + log10Permutations(size), 0);
    print(`\n10^${total.toFixed(1)} permutations leave the outputs as they are.`);
  }
  print();
  if (found.families.length === 0) print("No continuous symmetries and no sign flips.");
  else printFamilies(all);
  const share = ((100 * orbit.dimension) / model.parameterCount).toPrecision(3);
  print(
    `\norbit: ${count(orbit.dimension)} of ${count(model.parameterCount)} dimensions, ${share} %` +
      (orbit.decomposed ? "" : "; large parts are counted, not decomposed"),
  );
  if (verified) {
    const { tol, passed, products } = verified;
    print(
      passed
        ? `All identities hold to ${tol} (${count(products)} products).`
        : "Not all identities hold.",
    );
  }
  if (args.details) {
    print();
    const rows = found.instances.map(({ family, name, tensors, dimension, flips }) => [
      ...[family, name, dimension > 0 ? count(dimension) : `${count(flips)} flips`],
      tensors.map((each) => `${each.name}${each.degree ? ` ^${each.degree}` : ""}`).join(", "),
    ]);
    for (const text of table(["family", "of", "dimension", "tensors"], rows)) print(text);
    if (fixed.length > 0) {
      print();
      const whys = fixed.map(({ tensor, axis, why }) => [tensor, axis, why]);
      for (const text of table(["keeps its places", "axis", "why"], whys)) print(text);
    }
  }
  if (kernel) printKernel(kernel, args.operator ?? "ggn");
  if (path && !drift) print("\nNothing is conserved: no charges along the checkpoints.");
  if (drift && path) {
    print();
    const rows = drift.map(({ name, size, relativeDrift, drift: absolute }) => [
      ...[name, count(size)],
      ...[residualText(absolute.at(-1)), residualText(relativeDrift.at(-1))],
      residualText(Math.max(...relativeDrift)),
    ]);
    const last = `at step ${path.steps.at(-1)}`;
    const head = ["charges", "number", `drift ${last}`, "relative", "at most"];
    for (const text of table(head, rows)) print(text);
  }
}

function printFamilies({ found, verified }: Found): void {
  const rows = found.families.map(({ name, instances, dimension, flips }) => {
    const checked = verified?.families.find(({ family }) => family === name);
    const approximate = instances.filter((each) => each.approximate !== undefined).length;
    return [
      name,
      count(instances.length),
      dimension > 0 ? count(dimension) : flips > 0 ? `${count(flips)} flips` : "0",
      approximate === 0
        ? "exact"
        : approximate === instances.length
          ? "approximate"
          : `${approximate} approximate`,
      ...(checked ? [residualText(checked.residual)] : []),
      ...(checked ? [residualText(checked.approximateResidual)] : []),
    ];
  });
  const head = ["symmetry", "instances", "dimension", "holds"];
  const full = verified ? [...head, "residual", "of approximate"] : head;
  for (const text of table(full, rows)) print(text);
}

function printKernel(found: KernelShare, operator: string): void {
  const { kernel, directions, surplus, residual, tolerance, dim, without, values } = found;
  const least = (of: Float64Array) => short(of.map(Math.abs).sort()[0] ?? Number.NaN);
  print();
  const rows = [
    [`zero eigenvalues of the ${operator}`, `${count(kernel)} of ${count(dim)}`],
    ["below, of the largest", short(tolerance)],
    ["directions of exact symmetries", count(directions)],
    ["largest |A v| of those, of the largest eigenvalue", residualText(residual)],
    ["zero eigenvalues without them", count(surplus)],
    ["smallest |lambda|", least(values)],
    ["smallest |lambda| without them", least(without)],
  ];
  for (const text of table(["kernel", ""], rows)) print(text);
}
