/** The parts of eigenscope trajectory, one row each. */
import { join } from "node:path";
import type { CallOptions } from "../call";
import type { DataSet } from "../data/data";
import { EigenscopeError, OptionError } from "../errors";
import type { KeepOptions } from "../masks/keep";
import { requireCriterion } from "../masks/make";
import type { Model } from "../model/model";
import { symmetries } from "../symmetry/symmetries";
import { type Charge, chargeDrift } from "../trajectory/charges";
import { curvatureAlong } from "../trajectory/curvature";
import {
  chargesFigure,
  componentsFigure,
  confinementFigure,
  mapFigure,
  masksFigure,
  overlapFigure,
  pathFigure,
  predictionsFigure,
  sharesFigure,
  sharpnessFigure,
} from "../trajectory/figures";
import { pathGeometry } from "../trajectory/geometry";
import { inPca } from "../trajectory/in-pca";
import { maskStability } from "../trajectory/mask-stability";
import {
  labelPredictions,
  type Predictions,
  predictionsAlong,
  uniformPredictions,
} from "../trajectory/predictions";
import type { RunSettings } from "../trajectory/run-settings";
import { type Trajectory, trajectory } from "../trajectory/trajectory";
import type { AnalysisArguments, Artefact, Findings } from "./analysis";
import { type Columns, csvOf, printRows } from "./columns";
import { count, print } from "./output";
import { lossOf, makeOperator, runOptions } from "./subject";

export interface TrajectoryArguments
  extends AnalysisArguments,
    Pick<KeepOptions, "keep" | "scope" | "structure"> {
  files: string[];
  parts?: string[];
  steps?: number[];
  by?: "layer" | "tensor" | "none";
  components?: number;
  k?: number;
  which?: "LA" | "LM";
  tol?: number;
  maxProducts?: number;
  spectra?: number;
  learningRate?: number;
  momentum?: number;
  weightDecay?: number;
  batchSize?: number;
  noise?: number;
  criterion?: string[];
  threshold?: number;
  run?: string[];
}

/** What a part works with. */
export interface PartContext {
  model: Model;
  data: DataSet | undefined;
  path: Trajectory;
  /** How the run was trained, where `train` left it. */
  settings: RunSettings | undefined;
  args: TrajectoryArguments;
  call: CallOptions;
}

interface Part {
  needsData: boolean;
  /** undefined: there is nothing to say of this model. */
  run: (context: PartContext) => Promise<Findings | undefined>;
}

const percent = (share: number | undefined) => {
  if (share === undefined || Number.isNaN(share)) return "-";
  const value = 100 * share;
  if (value >= 1 || value === 0) return `${value.toFixed(1)} %`;
  return `${value >= 0.01 ? Number(value.toPrecision(2)) : value.toExponential(1)} %`;
};
const number = (x: number | undefined, digits = 4) =>
  x === undefined || !Number.isFinite(x) ? "-" : Number(x.toPrecision(digits)).toString();
const degrees = (angle: number | undefined) =>
  angle === undefined || Number.isNaN(angle) ? "-" : ((180 * angle) / Math.PI).toFixed(1);

// ---- geometry -------------------------------------------------------------------------------

async function geometry({ path, args, call }: PartContext): Promise<Findings> {
  const { by, components } = args;
  const found = await pathGeometry(path, { by, components, ...call });
  const { whole, parts, steps } = found;
  const k = whole.pca.variances.length;
  interface Row {
    t: number;
    step: number;
  }
  const rows = Array.from(steps, (step, t): Row => ({ t, step }));
  const columns: Columns<Row> = [
    ["step", ({ step }) => step, count],
    ["norm", ({ t }) => whole.norms[t], number],
    ["displacement", ({ t }) => whole.displacements[t], number],
    ["way to the next", ({ t }) => whole.stepLengths[t], number],
    ["turn", ({ t }) => whole.turns[t - 1], degrees],
    ["component 1", ({ t }) => whole.pca.coordinates[t * k], number],
    ["component 2", ({ t }) => (k > 1 ? whole.pca.coordinates[t * k + 1] : undefined), number],
  ];
  const layers: Columns<(typeof parts)[number]> = [
    ["layer", ({ name }) => name, String],
    ["size", ({ size }) => size, count],
    ["displacement", ({ displacement }) => displacement, number],
    ["over norm", ({ displacement, norms }) => displacement / norms[0]!, number],
    ["straightness", ({ straightness }) => straightness, number],
    ["omega", ({ relativeMap }) => relativeMap.omega, number],
    ["component 1", ({ pca }) => pca.explained[0], percent],
  ];
  const summary = (of: typeof whole) => ({
    ...{ name: of.name, size: of.size, pathLength: of.pathLength, displacement: of.displacement },
    ...{ straightness: of.straightness, radius: of.radius, initialNorm: of.norms[0] },
    ...{ omega: of.relativeMap.omega, rawOmega: of.rawMap.omega, explained: of.pca.explained },
    randomWalk: of.randomWalk,
  });
  const list = (shares: Float64Array) => Array.from(shares.slice(0, 3), percent).join(", ");
  return {
    json: {
      ...summary(whole),
      norms: whole.norms,
      displacements: whole.displacements,
      stepLengths: whole.stepLengths,
      turns: whole.turns,
      apexAtStart: whole.apexAtStart,
      apexAtOrigin: whole.apexAtOrigin,
      layers: parts.map(summary),
    },
    arrays: {
      "map-relative": square(whole.relativeMap.cosines, whole.relativeMap.size),
      "map-raw": square(whole.rawMap.cosines, whole.rawMap.size),
      "path-components": { values: whole.pca.coordinates, shape: [steps.length, k] },
      "path-variances": { values: whole.pca.variances },
    },
    files: {
      "path.csv": csvOf(columns, rows),
      ...(parts.length > 0 && { "layers.csv": csvOf(layers, parts) }),
    },
    figures: {
      path: pathFigure(found),
      components: componentsFigure(found),
      ...(steps.length > 2 && { map: mapFigure(found) }),
    },
    human: () => {
      const walk = whole.randomWalk;
      print("Geometry, and what a random walk with the same steps would have");
      print(
        `displacement ${number(whole.displacement)} of a path of ${number(whole.pathLength)}: ` +
          `straightness ${number(whole.straightness)} (${number(walk.straightness)})`,
      );
      print(
        `mean directional similarity ${number(whole.relativeMap.omega)} from the start ` +
          `(${number(walk.omega)}), ${number(whole.rawMap.omega)} from the origin`,
      );
      print(`components ${list(whole.pca.explained)} of the variance (${list(walk.explained)})\n`);
      printRows(columns, rows);
      if (parts.length > 0) {
        print();
        printRows(layers, parts, 16);
      }
    },
  };
}

const square = (values: Float64Array, n: number): Artefact => ({ values, shape: [n, n] });

// ---- curvature ------------------------------------------------------------------------------

/** n positions from 0 to last, both among them. */
function spread(length: number, n: number | undefined): number[] | undefined {
  if (n === undefined || n >= length) return undefined;
  if (n < 2) throw new OptionError(`--spectra: expected at least 2, got ${n}`);
  return [
    ...new Set(Array.from({ length: n }, (_, i) => Math.round((i * (length - 1)) / (n - 1)))),
  ];
}

async function curvature(context: PartContext): Promise<Findings> {
  const { data, path, args, call, settings, model } = context;
  const { operator = "hessian", k, which, tol, maxProducts, seed, out, noise } = args;
  const plain = settings === undefined || settings.optimizer === "sgd";
  const learningRate = args.learningRate ?? (plain ? settings?.learningRates : undefined);
  const found = await curvatureAlong(path, data!, {
    ...runOptions(args),
    ...call,
    loss: lossOf(args),
    operator: operator === "hessian" ? undefined : (at) => makeOperator(at, data!, args),
    key: args.draws === undefined ? undefined : `${args.draws} draws`,
    ...{ k: k ?? Math.min(10, model.parameterCount), which, tol, maxProducts, seed },
    checkpoints: spread(path.length, args.spectra),
    learningRate,
    momentum: args.momentum ?? settings?.momentum,
    weightDecay: args.weightDecay ?? settings?.weightDecay,
    noiseProbes: noise,
    resume: out === undefined ? undefined : join(out, "curvature"),
  });
  const { points, overlaps, shareByChance, spaceAt: _, ...rest } = found;
  type Point = (typeof points)[number];
  const top = found.k;
  const last = overlaps.at(-1)!;
  const n = points.length;
  const edges = points.some(({ threshold }) => threshold !== undefined);
  const sharp = points.some(({ sharpness }) => sharpness !== undefined);
  const noisy = points.some((point) => point.noise !== undefined);
  const withLast = (point: Point) => last.matrix[points.indexOf(point) * n + n - 1];
  const columns: Columns<Point> = [
    ["step", ({ step }) => step, count],
    ["loss", ({ loss }) => loss, number],
    ["largest", ({ values }) => values[0], number],
    ...(sharp && operator !== "hessian"
      ? ([["sharpness", ({ sharpness }) => sharpness, number]] as Columns<Point>)
      : []),
    ...(edges ? ([["2 / rate", ({ threshold }) => threshold, number]] as Columns<Point>) : []),
    ["gradient", ({ gradientShares }) => gradientShares.at(-1), percent],
    ["update", ({ updateShares }) => updateShares?.at(-1), percent],
    ["displacement", ({ displacementShares }) => displacementShares.at(-1), percent],
    ["in last", ({ confinement }) => confinement.at(-1), percent],
    ["overlap", withLast, percent],
  ];
  const noiseColumns: Columns<Point> = [
    ["step", ({ step }) => step, count],
    ["tr(C)", (point) => point.noise?.trace, number],
    ["tr(C) / |g|^2", (point) => point.noise?.noiseScale, number],
    ["tr(H C)", (point) => point.noise?.inner.value, number],
    ["+-", (point) => point.noise?.inner.standardError, (x) => number(x, 2)],
    ["cos(H, C)", (point) => point.noise?.cosine.value, number],
    ["+- ", (point) => point.noise?.cosine.standardError, (x) => number(x, 2)],
    [`C in the top ${top}`, (point) => point.noise?.topShares.at(-1), percent],
  ];
  const sharpness = sharpnessFigure(found);
  const stack = (get: (point: Point) => Float64Array | undefined): Artefact => {
    const values = new Float64Array(n * top).fill(Number.NaN);
    points.forEach((point, i) => {
      values.set(get(point) ?? [], i * top);
    });
    return { values, shape: [n, top] };
  };
  return {
    json: {
      ...rest,
      points: points.map((point) => point),
      overlaps: overlaps.map(({ k: size, chance, matrix }) => ({
        ...{ k: size, chance },
        withLast: Float64Array.from(points, (_, i) => matrix[i * n + n - 1]!),
      })),
      shareByChance,
    },
    arrays: {
      eigenvalues: stack(({ values }) => values),
      "gradient-shares": stack(({ gradientShares }) => gradientShares),
      "update-shares": stack(({ updateShares }) => updateShares),
      "displacement-shares": stack(({ displacementShares }) => displacementShares),
      confinement: stack(({ confinement }) => confinement),
      ...Object.fromEntries(
        overlaps.map(({ k: size, matrix }) => [`overlap-${size}`, square(matrix, n)]),
      ),
    },
    files: {
      "curvature.csv": csvOf(columns, points),
      ...(noisy && { "noise.csv": csvOf(noiseColumns, points) }),
    },
    figures: {
      overlap: overlapFigure(found),
      shares: sharesFigure(found),
      ...(n > 1 && { confinement: confinementFigure(found) }),
      ...(sharpness && { sharpness }),
    },
    products: found.products,
    notConverged: found.converged ? undefined : found.reason,
    human: () => {
      const chance = shareByChance.at(-1)!.chance;
      const went =
        found.reused > 0 ? `; ${found.reused} were there, ${found.computed} are new` : "";
      print(
        `Curvature: shares in the top ${top} eigenspace of ${found.operator}, by chance ` +
          `${percent(chance.expected)}${went}`,
      );
      print(
        "in last: the displacement in the space of the last checkpoint; overlap: of both spaces",
      );
      printRows(columns, points);
      if (noisy) {
        print("\nNoise of gradients, with covariance C, against H, the operator");
        printRows(noiseColumns, points);
      }
    },
  };
}

// ---- charges --------------------------------------------------------------------------------

async function charges(context: PartContext): Promise<Findings | undefined> {
  const { model, path, data, args, call, settings } = context;
  const loss = lossOf(args);
  const asked = args.parts?.includes("charges");
  let kept: Charge[];
  try {
    kept = symmetries(model, { data, loss }).charges();
  } catch (error) {
    if (asked || !(error instanceof EigenscopeError)) throw error;
    const warnings = [`charges are left out: ${error.message}`];
    return { json: { charges: [] }, warnings, human: () => print("Charges are left out.") };
  }
  if (kept.length === 0) {
    if (asked)
      throw new OptionError(
        "--parts charges: expected a network with symmetries that conserve something, and its graph " +
          "shows none",
      );
    return undefined;
  }
  const plain = (settings?.optimizer ?? "sgd") === "sgd";
  const momentum = args.momentum ?? settings?.momentum ?? 0;
  const rate = args.learningRate ?? (plain ? settings?.learningRates : undefined);
  // Of descent with momentum the drift is another.
  const predicts = rate !== undefined && momentum === 0;
  const batchSize = args.batchSize ?? settings?.batchSize;
  const found = await chargeDrift(path, kept, {
    ...runOptions(args),
    ...{ loss, signal: call.signal },
    ...(predicts && {
      learningRate: rate,
      weightDecay: args.weightDecay ?? settings?.weightDecay,
      data,
      batchSize: data && batchSize ? batchSize : undefined,
    }),
  });
  type Row = (typeof found)[number];
  const end = path.length - 1;
  const predicted = found.some(({ predictionError, degree }) => predictionError && degree === 2);
  const decays = found.some(({ decayed }) => decayed);
  const columns: Columns<Row> = [
    ["charge", ({ name }) => name, String],
    ["number", ({ size }) => size, count],
    ["norm", ({ norms }) => norms[0], number],
    ["at the end", ({ norms }) => norms[end], number],
    ...(decays ? ([["decayed", ({ decayed }) => decayed?.[end], number]] as Columns<Row>) : []),
    ["drift", ({ relativeDrift }) => relativeDrift[end], percent],
    ...(predicted
      ? ([
          [
            "not predicted",
            ({ predictionError, degree }) => (degree === 2 ? predictionError?.[end] : undefined),
            percent,
          ],
        ] as Columns<Row>)
      : []),
  ];
  const rows = Array.from(path.steps, (step, t) => ({ step, t }));
  const courses: Columns<(typeof rows)[number]> = [
    ["step", ({ step }) => step, count],
    ...found.map((row): Columns<(typeof rows)[number]>[number] => [
      row.name,
      ({ t }) => row.drift[t],
      number,
    ]),
  ];
  return {
    json: {
      charges: found.map(({ values: _, predicted: __, ...rest }) => rest),
    },
    arrays: Object.fromEntries(
      found.map(({ name, values, size }) => [
        `charges-${name.replaceAll(/[^\w.-]+/g, "-")}`,
        { values, shape: [path.length, size] },
      ]),
    ),
    files: { "charges.csv": csvOf(columns, found), "charge-drift.csv": csvOf(courses, rows) },
    figures: { charges: chargesFigure(found, path.steps) },
    human: () => {
      print("Charges that gradient flow conserves, and their drift over the norm at the start");
      if (predicted)
        print(
          `not predicted: the rest beside what discrete steps of ${
            batchSize ? `${batchSize}` : "all"
          } samples make of them, over the drift`,
        );
      printRows(columns, found, 16);
    },
  };
}

// ---- masks ----------------------------------------------------------------------------------

async function masks({ path, data, args, call }: PartContext): Promise<Findings> {
  const { keep = 0.1, scope, structure, threshold, seed } = args;
  const criteria = (args.criterion ?? ["magnitude", "movement"]).map((name) =>
    requireCriterion("--criterion", name),
  );
  const found = await maskStability(path, {
    ...{ criteria, keep, scope, structure, threshold, seed, data, loss: lossOf(args) },
    ...runOptions(args),
    ...call,
  });
  const steps = path.steps;
  const rows = Array.from(steps, (step, t) => ({ step, t }));
  const columns: Columns<(typeof rows)[number]> = [
    ["step", ({ step }) => step, count],
    ...found.flatMap(
      ({ name, iou, chance }): Columns<(typeof rows)[number]> => [
        [name, ({ t }) => iou[t], (x) => number(x, 3)],
        [`${name} by chance`, ({ t }) => chance[t], (x) => number(x, 3)],
      ],
    ),
  ];
  const shown = columns.filter((_, i) => i % 2 === 1 || i === 0);
  const levels = found.map(({ chance }) => number(chance.at(-1), 3));
  const layers = found.flatMap(({ criterion, layers: of }) =>
    of.map((layer) => ({ criterion, ...layer })),
  );
  const layerColumns: Columns<(typeof layers)[number]> = [
    ["criterion", ({ criterion }) => criterion, String],
    ["tensor", ({ name }) => name, String],
    ...Array.from(steps, (step, t): Columns<(typeof layers)[number]>[number] => [
      `${step}`,
      ({ iou }) => iou[t],
      (x) => number(x, 3),
    ]),
  ];
  return {
    json: {
      keep,
      criteria: found.map(({ final, steps: _, ...rest }) => ({ ...rest, kept: final.count })),
    },
    files: { "masks.csv": csvOf(columns, rows), "mask-layers.csv": csvOf(layerColumns, layers) },
    figures: { masks: masksFigure(found) },
    human: () => {
      print(
        `Masks that keep ${keep}, against the last ones: intersection over union, by chance ` +
          [...new Set(levels)].join(" or "),
      );
      printRows(shown, rows);
      for (const { name, settled, threshold: least } of found)
        print(
          settled.checkpoint === steps.length - 1
            ? `${name} comes to ${least} at the last checkpoint only`
            : `${name} stays at ${least} or above from step ${count(settled.step)} on`,
        );
    },
  };
}

// ---- predictions ----------------------------------------------------------------------------

/** NAME=FOLDER, or a folder that names itself. */
function runOf(given: string): { name: string; folder: string } {
  const [, name, folder] = /^([^=/]+)=(.+)$/.exec(given) ?? [];
  return { name: name ?? given, folder: folder ?? given };
}

async function predictions(context: PartContext): Promise<Findings | undefined> {
  const { model, path, data, args, call } = context;
  const loss = lossOf(args);
  if (!/^(cross-entropy|nll|bce)/.test(loss.name)) {
    if (args.parts?.includes("predictions"))
      throw new OptionError(
        `--parts predictions: expected a loss of classification, got ${loss.name}`,
      );
    return undefined;
  }
  const options = { ...runOptions(args), ...call, loss };
  const seen: Predictions[] = await predictionsAlong(path, data!, options);
  for (const given of args.run ?? []) {
    const { name, folder } = runOf(given);
    const other = await trajectory(model, folder, { name, maxMemory: args.maxMemory });
    seen.push(...(await predictionsAlong(other, data!, options)));
  }
  const { samples, classes } = seen[0]!;
  const labels = await labelsOf(data!, args.targetName ?? "y", samples);
  const all = [...seen, uniformPredictions(samples, classes)];
  if (labels) all.push(labelPredictions(labels, classes));
  const found = await inPca(all, call);
  const k = found.eigenvalues.length;
  const m = found.names.length;
  const rows = found.names.map((name, i) => ({ name, i }));
  const truth = labels ? m - 1 : undefined;
  const columns: Columns<(typeof rows)[number]> = [
    ["run", ({ name, i }) => found.runs[i] ?? name, String],
    ["step", ({ i }) => found.steps[i], (x) => (x === undefined ? "" : count(x))],
    ["component 1", ({ i }) => found.coordinates[i * k], number],
    ["component 2", ({ i }) => found.coordinates[i * k + 1], number],
    ...(truth === undefined
      ? []
      : ([["distance to the truth", ({ i }) => found.distances[i * m + truth], number]] as Columns<
          (typeof rows)[number]
        >)),
  ];
  return {
    json: {
      names: found.names,
      runs: found.runs,
      steps: found.steps,
      eigenvalues: found.eigenvalues,
      explainedStress: found.explainedStress,
      negativeShare: found.negativeShare,
    },
    arrays: {
      "prediction-distances": square(found.distances, m),
      "prediction-components": { values: found.coordinates, shape: [m, k] },
    },
    files: { "predictions.csv": csvOf(columns, rows) },
    figures: { predictions: predictionsFigure(found) },
    human: () => {
      print(
        `Models by what they predict (InPCA): explained stress ` +
          `${Array.from(found.explainedStress.slice(0, 3), (x) => x.toFixed(3)).join(", ")}; ` +
          `${percent(found.negativeShare)} of the eigenvalues is negative`,
      );
      printRows(columns, rows);
    },
  };
}

/** Where targets are labels, one a prediction. */
async function labelsOf(
  data: DataSet,
  target: string,
  samples: number,
): Promise<Float64Array | undefined> {
  const array = data.arrays.find(({ name }) => name === target);
  const size = array?.shape.reduce((product, n) => product * n, 1);
  if (!array || size !== samples) return undefined;
  const values = new Float64Array(samples);
  await data.native.read(target, values).promise;
  return values.every((label) => Number.isInteger(label) && label >= 0) ? values : undefined;
}

export const PARTS = {
  geometry: { needsData: false, run: geometry },
  curvature: { needsData: true, run: curvature },
  charges: { needsData: false, run: charges },
  masks: { needsData: false, run: masks },
  predictions: { needsData: true, run: predictions },
} satisfies Record<string, Part>;

export type PartName = keyof typeof PARTS;
