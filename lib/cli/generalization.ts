/** eigenscope generalization: what curvature says of generalisation, on several data sets. */
import type { Uncertain } from "../anisotropy/estimated";
import type { CallOptions } from "../call";
import { loadCheckpoint } from "../checkpoints";
import type { DataSet } from "../data/data";
import { OptionError } from "../errors";
import type { Figure } from "../figures/figure";
import {
  type Generalization,
  generalization,
  type SetQuantities,
} from "../generalization/generalization";
import { type LeaveOneOut, leaveOneOut } from "../generalization/influence";
import { type PacBayesResult, pacBayes } from "../generalization/pac-bayes";
import { CURVATURES, type CurvatureName } from "../generalization/quantities";
import { type Sharpness, sharpness } from "../generalization/sharpness";
import { shiftedData } from "../generalization/shift";
import { type AnalysisArguments, analyse, type Findings, type Subject } from "./analysis";
import type { Globals } from "./arguments";
import { csvOf } from "./columns";
import { count, print, short, table } from "./output";
import { printPairs } from "./pairs";
import { type HeldOutArguments, openTest } from "./recipe";
import { openData, runOptions } from "./subject";

/** What can be asked for, in the order in which it is shown. */
export const PARTS = ["spectrum", "sharpness", "leave-one-out", "pac-bayes"] as const;
type Part = (typeof PARTS)[number];

interface GeneralizationArguments extends AnalysisArguments, HeldOutArguments {
  parts?: string[];
  shifted?: string[];
  initial?: string;
  damping?: number;
  exact?: boolean;
  estimate?: boolean;
  probes?: number;
  steps?: number;
  gradients?: number;
  rho?: number;
  adaptiveRho?: number;
  shape?: "ggn" | "fisher-empirical" | "isotropic";
  failure?: number;
  failureEstimate?: number;
  networks?: number;
}

export async function run(
  file: string,
  given: GeneralizationArguments,
  globals: Globals,
): Promise<number> {
  const args = { ...given, operator: given.operator ?? "ggn" } as const;
  const curvature = curvatureOf(args.operator);
  const parts = partsOf(args);
  if (args.exact && args.estimate)
    throw new OptionError("--exact: expected it without --estimate, got both");
  return analyse("generalization", file, args, globals, async (subject, call) => {
    const sets = await setsOf(subject.data, args, call);
    try {
      const all: Findings[] = [];
      for (const part of parts)
        all.push(await FINDERS[part](subject, { args, curvature, sets, call }));
      return together(all);
    } finally {
      for (const set of Object.values(sets)) set.dispose();
    }
  });
}

interface Asked {
  args: GeneralizationArguments;
  curvature: CurvatureName;
  sets: Record<string, DataSet>;
  call: CallOptions;
}

const FINDERS: Record<Part, (subject: Subject, asked: Asked) => Promise<Findings>> = {
  spectrum: ofSpectrum,
  sharpness: ofSharpness,
  "leave-one-out": ofLeaveOneOut,
  "pac-bayes": ofPacBayes,
};

function curvatureOf(operator: string): CurvatureName {
  if (!Object.hasOwn(CURVATURES, operator))
    throw new OptionError(
      `--operator: expected one of ${Object.keys(CURVATURES).join(", ")}, got ${operator}`,
    );
  return operator as CurvatureName;
}

function partsOf({ parts, initial }: GeneralizationArguments): Part[] {
  const chosen = parts ?? ["spectrum", "sharpness", ...(initial ? ["pac-bayes"] : [])];
  for (const name of chosen)
    if (!PARTS.includes(name as Part))
      throw new OptionError(`--parts: expected some of ${PARTS.join(", ")}, got "${name}"`);
  if (chosen.includes("pac-bayes") && initial === undefined)
    throw new OptionError(
      "--initial: expected the parameters that training began with, the mean of the prior of " +
        "--parts pac-bayes (.onnx, .safetensors, .npz, .npy)",
    );
  return PARTS.filter((name) => chosen.includes(name));
}

/** Data sets beside the training data: held out, and shifted. */
async function setsOf(
  data: DataSet,
  args: GeneralizationArguments,
  { signal }: CallOptions,
): Promise<Record<string, DataSet>> {
  const { shifted = [], data: _data, inputs: _inputs, targets: _targets, ...rest } = args;
  const sets: Record<string, DataSet> = {};
  const test = await openTest(args, signal!);
  if (test) sets.test = test;
  for (const spec of shifted) {
    const [, kind, amount] = /^(noise|rotate):(-?[\d.]+(?:e-?\d+)?)$/.exec(spec) ?? [];
    if (kind === undefined) sets[spec] = await openData({ ...rest, data: spec }, signal!);
    else
      sets[spec] = await shiftedData(sets.test ?? data, {
        [kind]: Number(amount),
        seed: args.seed,
        signal,
        ...(args.targetName !== undefined && { target: args.targetName }),
      });
  }
  return sets;
}

function together(all: readonly Findings[]): Findings {
  const notConverged = all.flatMap((one) => one.notConverged ?? []);
  const products = all.reduce((sum, one) => sum + (one.products ?? 0), 0);
  return {
    json: Object.assign({}, ...all.map(({ json }) => json)),
    ...(products > 0 && { products }),
    arrays: Object.assign({}, ...all.map(({ arrays }) => arrays)),
    files: Object.assign({}, ...all.map(({ files }) => files)),
    figures: Object.assign({}, ...all.map(({ figures }) => figures)),
    warnings: all.flatMap(({ warnings = [] }) => warnings),
    ...(notConverged.length > 0 && { notConverged: notConverged.join("; ") }),
    human: () => {
      all.forEach((one, i) => {
        if (i > 0) print();
        one.human();
      });
    },
  };
}

// ---- spectrum -------------------------------------------------------------------------------

type Row = readonly [name: string, value: (set: SetQuantities) => Uncertain | number | undefined];

/** A row a quantity, a column a data set. */
const ROWS: readonly Row[] = [
  ["loss", (set) => set.loss],
  ["accuracy", (set) => set.accuracy],
  ["gap to train", (set) => set.gap],
  ["lambda max", ({ own }) => own.lambdaMax],
  ["lambda min", ({ own }) => own.lambdaMin],
  ["lambda min+", ({ own }) => own.lambdaMinPlus],
  ["rank", ({ own }) => own.rank],
  ["kept / dropped", ({ own }) => own.gap],
  ["tr A", ({ own }) => own.trace],
  ["tr A^+ / n", ({ own }) => own.traceInverseOverN],
  ["N_eff(z)", ({ own }) => own.effectiveDimension],
  ["tr A (A+z)^-2", ({ own }) => own.dampedTraceInverse],
  ["tr C", ({ transfer }) => transfer.traceC],
  ["tr A^+ C", ({ own }) => own.gradients[0]!.traceInverseC],
  ["TIC", ({ own }) => own.gradients[0]!.tic],
  ["tr A_train^+ C", ({ transfer }) => transfer.traceInverseC],
  ["its TIC", ({ transfer }) => transfer.tic],
  ["C outside A_train", ({ transfer }) => transfer.outside],
  ["TIC with z", ({ transfer }) => transfer.dampedTic],
];

async function ofSpectrum({ model, data }: Subject, asked: Asked): Promise<Findings> {
  const { args, curvature, sets, call } = asked;
  const { damping, probes, steps, gradients: draws, seed } = args;
  const method = args.exact ? "exact" : args.estimate ? "estimated" : "auto";
  const found = await generalization(model, data, {
    ...runOptions(args),
    ...{ sets, curvature, damping, probes, steps, draws, seed, method },
    ...(args.targetName !== undefined && { target: args.targetName }),
    ...call,
  });
  const { seconds: _, products, warnings, ...json } = found;
  const [train] = found.sets;
  return {
    json: { spectrum: json },
    products,
    warnings,
    files: { "sets.csv": setsCsv(found) },
    figures: { gap: gapFigure(found) },
    human: () => {
      const { source, reason, damping: z, effectiveDimensions, samples } = train!.own;
      print(
        `A: ${curvature}, C: second moment of gradients, n = ${count(samples)}, z = ${short(z)}; ` +
          `${source}${source === "estimated" ? " (+-: one standard error)" : ""}`,
      );
      const rows = ROWS.flatMap(([name, value]) => {
        const values = found.sets.map(value);
        return values.every((x) => x === undefined) ? [] : [[name, ...values.map(shown)]];
      });
      for (const line of table(["", ...found.sets.map(({ name }) => name)], rows)) print(line);
      if (effectiveDimensions.length > 0)
        print(
          `\nN_eff of train at z = ${effectiveDimensions
            .map(({ z: at, value }) => `${at.toExponential(1)}: ${value.toFixed(1)}`)
            .join(", ")}`,
        );
      if (reason) print(`\nnot shown: lambda min+, tr A^+: ${reason}`);
    },
  };
}

function shown(value: Uncertain | number | undefined): string {
  if (value === undefined) return "-";
  if (typeof value === "number") return Number.isFinite(value) ? brief(value) : String(value);
  const { value: middle, standardError } = value;
  // Beyond the digits that are shown.
  const seen = standardError > 5e-5 * Math.abs(middle);
  return seen ? `${brief(middle)} +- ${standardError.toPrecision(2)}` : brief(middle);
}

/** Five digits, and whole numbers as they are. */
function brief(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return value.toPrecision(5);
}

function setsCsv({ sets }: Generalization): string {
  const middle = (value: Uncertain | number | undefined) =>
    typeof value === "object" ? value.value : value;
  return csvOf(
    [
      ["quantity", ([name]: Row) => name, String],
      ...sets.map((set) => [set.name, ([, value]: Row) => middle(value(set)), String] as const),
    ],
    ROWS,
  );
}

function gapFigure({ sets }: Generalization): Figure {
  const others = sets.length > 1 ? sets.slice(1) : sets;
  const names = others.map(({ name }) => name);
  const exact = others.every(({ transfer }) => transfer.tic !== undefined);
  return {
    title: "Gap of the loss, measured and predicted",
    caption: exact ? "predicted: tr(A^+ C) / n" : "predicted: tr((A + z)^-1 C) / n",
    x: { label: "data", categories: names },
    y: { label: "loss less training loss" },
    marks: [
      { kind: "bars", name: "measured", x: names, y: others.map(({ gap }) => gap) },
      {
        kind: "bars",
        name: "predicted",
        x: names,
        y: others.map(({ transfer }) => transfer.tic ?? transfer.dampedTic.value),
      },
    ],
  };
}

// ---- sharpness ------------------------------------------------------------------------------

async function ofSharpness({ model, data }: Subject, asked: Asked): Promise<Findings> {
  const { args, curvature, call } = asked;
  const found = await sharpness(model, data, {
    ...runOptions(args),
    ...{ curvature, rho: args.rho, adaptiveRho: args.adaptiveRho, seed: args.seed },
    ...(args.targetName !== undefined && { target: args.targetName }),
    ...call,
  });
  const { seconds: _, warnings, ...json } = found;
  return {
    json: { sharpness: json },
    warnings,
    ...(!found.converged && { notConverged: "an eigenvalue of the sharpness" }),
    human: () => printSharpness(found),
  };
}

function printSharpness({ scaled, fisherRao, gradientNorm, curvature }: Sharpness): void {
  print(`Sharpness (${curvature}; T A T with the scaling T), gradient norm ${short(gradientNorm)}`);
  const rows = (["none", "weights", "filters"] as const).map((name) => {
    const { lambdaMax, trace, meanCurvature, ball } = scaled[name];
    return [
      name,
      ...[lambdaMax, trace, meanCurvature].map(shown),
      String(ball.rho),
      ...[ball.firstOrder, ball.secondOrder, ball.measured, ball.largest].map(brief),
    ];
  });
  const head = ["T", "lambda max", "trace", "trace/P", "rho", "1st order", "2nd order"];
  for (const line of table([...head, "SAM step", "largest"], rows)) print(line);
  for (const name of ["none", "weights", "filters"] as const)
    print(`${name}: invariant under ${scaled[name].invariance}`);
  const { value, degree, residual, identity } = fisherRao;
  print(
    `Fisher-Rao norm theta^T F theta ${short(value)}` +
      (degree === undefined
        ? ""
        : `; J theta = ${degree.toFixed(3)} f up to ${(100 * residual!).toFixed(1)} %, which would ` +
          `make it ${short(identity!)}`),
  );
}

// ---- leave-one-out --------------------------------------------------------------------------

async function ofLeaveOneOut({ model, data }: Subject, asked: Asked): Promise<Findings> {
  const { args, curvature, call } = asked;
  if (curvature !== "ggn" && curvature !== "hessian")
    throw new OptionError(
      `--parts leave-one-out: expected --operator ggn or hessian, got ${curvature}`,
    );
  const { threads, batch, maxMemory } = runOptions(args);
  const found = await leaveOneOut(model, data, {
    ...{ threads, batch, maxMemory, curvature, damping: args.damping },
    ...(args.targetName !== undefined && { target: args.targetName }),
    ...call,
  });
  const { seconds: _, warnings, outputs: _o, blocks: _b, residuals: _r, ...rest } = found;
  const { newton, infinitesimal, leverage, losses, selfInfluence, ...json } = rest;
  const n = found.samples;
  return {
    json: {
      leaveOneOut: { ...json, newton: newton.mean, infinitesimal: infinitesimal.mean, leverage },
    },
    warnings,
    arrays: {
      leverage: { values: leverage },
      "loo-losses": { values: newton.losses },
      losses: { values: losses },
      "self-influence": { values: selfInfluence },
    },
    figures: { leverage: leverageFigure(found) },
    human: () => {
      print(`Leave-one-out (${curvature}, z = ${found.damping}): ${found.exactness}`);
      printPairs([
        ["training loss", short(found.loss)],
        ["by Newton steps", short(newton.mean)],
        ["to first order", short(infinitesimal.mean)],
        ["sum of leverages", `${short(found.leverageSum)} of ${count(n * found.width)}`],
        ["largest leverage", short(leverage.reduce((a, b) => Math.max(a, b), 0))],
        ["gradient norm", `${short(found.gradientNorm)} (0 at the optimum that this supposes)`],
      ]);
      const order = Array.from(leverage.keys()).sort((a, b) => leverage[b]! - leverage[a]!);
      print("\nhighest leverage");
      const rows = order
        .slice(0, 5)
        .map((i) => [i, ...[leverage[i]!, losses[i]!, newton.losses[i]!].map(brief)]);
      for (const line of table(["sample", "leverage", "loss", "left out"], rows)) print(line);
    },
  };
}

function leverageFigure({ leverage, newton, curvature }: LeaveOneOut): Figure {
  const finite = Array.from(leverage.keys()).filter((i) => Number.isFinite(newton.losses[i]!));
  return {
    title: "Leverage and loss of samples left out",
    caption: `${curvature}, a Newton step for each sample`,
    x: { label: "leverage" },
    y: { label: "loss when left out" },
    marks: [
      {
        kind: "dots",
        x: finite.map((i) => leverage[i]!),
        y: finite.map((i) => newton.losses[i]!),
      },
    ],
  };
}

// ---- PAC-Bayes ------------------------------------------------------------------------------

async function ofPacBayes({ model, data }: Subject, asked: Asked): Promise<Findings> {
  const { args, sets, call } = asked;
  const initial = await loadCheckpoint(model, args.initial!, { signal: call.signal });
  const { shape, failure: delta, failureEstimate: deltaMonteCarlo, networks: draws, seed } = args;
  const found = await pacBayes(model, data, {
    ...runOptions(args),
    ...{ initial, shape, delta, deltaMonteCarlo, draws, seed, test: sets },
    ...(args.targetName !== undefined && { target: args.targetName }),
    ...call,
  });
  const { seconds: _, candidates, ...json } = found;
  const columns = ["j", "lambda", "beta", "kl", "error", "bound"] as const;
  return {
    json: { pacBayes: { ...json, candidates } },
    files: {
      "pac-bayes.csv": csvOf(
        columns.map((name) => [name, (row: (typeof candidates)[number]) => row[name], String]),
        candidates,
      ),
    },
    figures: { "pac-bayes": pacBayesFigure(found) },
    human: () => printPacBayes(found),
  };
}

const percent = (share: number) => `${(100 * share).toFixed(2)} %`;

function printPacBayes(found: PacBayesResult): void {
  const { prior, posterior } = found;
  print(
    `PAC-Bayes: the error of the randomised network is at most ${percent(found.bound)} with ` +
      `probability ${found.confidence}` +
      (found.nonVacuous ? "" : " (vacuous)"),
  );
  printPairs([
    [
      "error on the data",
      `${percent(found.empiricalRisk)}, below ${percent(found.empiricalRiskUpper)}`,
    ],
    [
      "",
      `(${count(found.draws)} draws of ${count(found.drawSamples)} samples, delta ${found.deltaMonteCarlo})`,
    ],
    ["error of the network", percent(found.meanError)],
    ["KL", `${short(found.kl)} nats, ${short(found.klMeans)} of it from the distance of the means`],
    [
      "KL budget",
      `${short(found.budget)} = (KL + ln(2 sqrt(n) / delta_j)) / n, n = ${count(found.samples)}`,
    ],
    ["delta", `${found.delta}, of which the prior's ${prior.deltaJ.toPrecision(3)}`],
    [
      "prior",
      `N(initial, ${short(prior.lambda)} I), j = ${prior.j} of ${prior.c} exp(-j / ${prior.b})`,
    ],
    [
      "posterior",
      `N(theta, s), s = 1 / (n beta h + 1 / lambda), ${posterior.shape}, beta ${posterior.beta}`,
    ],
    [
      "its variances",
      `${short(posterior.smallestVariance)} to ${short(posterior.largestVariance)}`,
    ],
    ["|theta - initial|", short(posterior.distance)],
    ...Object.entries(found.test).map(
      ([name, { error, meanError }]) =>
        [
          `on ${name}`,
          `${percent(error)}, of the network ${percent(meanError)} (measured)`,
        ] as const,
    ),
  ]);
  print(`It supposes that ${found.supposes.join("; ")}.`);
}

function pacBayesFigure({ candidates, bound }: PacBayesResult): Figure {
  const betas = [...new Set(candidates.map(({ beta }) => beta))].sort((a, b) => a - b);
  return {
    title: "PAC-Bayes bounds over prior variance and curvature",
    caption: `by few draws each; with all of them the best gives ${percent(bound)}`,
    x: { label: "prior variance", scale: "log" },
    y: { label: "bound of the error", domain: [0, 1] },
    marks: betas.map((beta) => {
      const own = candidates
        .filter((candidate) => candidate.beta === beta)
        .sort((a, b) => a.lambda - b.lambda);
      return {
        kind: "line",
        name: `beta ${beta}`,
        x: own.map(({ lambda }) => lambda),
        y: own.map((one) => one.bound),
      };
    }),
  };
}
