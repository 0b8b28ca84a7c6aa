/** eigenscope landscape: the loss along a line or over a plane. */
import type { CallOptions } from "../call";
import { CHECKPOINT_FILES, isCheckpointFile, loadCheckpoint } from "../checkpoints";
import { OptionError } from "../errors";
import { directionTo, randomDirection } from "../landscape/directions";
import {
  type Interpolation,
  interpolate,
  type LandscapeOptions,
  type LossLine,
  type LossPlane,
  lossLine,
  lossPlane,
} from "../landscape/landscape";
import { eigsh } from "../spectra";
import { type AnalysisArguments, analyse, type Findings, type Subject } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { runOptions } from "./subject";
import { readVectors } from "./vectors";

interface LandscapeArguments extends AnalysisArguments {
  direction?: string[];
  eigenvector?: number;
  plane?: boolean;
  range?: [number, number];
  points?: number;
  scaling?: "filter" | "layer" | "none";
  biases?: boolean;
  quadratic?: boolean;
}

/** Directions with what they are called, and whether a single one leads to a checkpoint. */
interface Directions {
  names: string[];
  vectors: Float64Array[];
  checkpoint: boolean;
  products: number;
}

export function run(file: string, args: LandscapeArguments, globals: Globals): Promise<number> {
  return analyse("landscape", file, args, globals, async (subject, call) => {
    const { model, data } = subject;
    const wanted = args.plane ? 2 : 1;
    const directions = await directionsOf(subject, args, wanted, call);
    const options: LandscapeOptions = {
      ...runOptions(args),
      ...call,
      range: args.range,
      points: args.points ?? (args.plane ? 11 : undefined),
      quadratic: args.quadratic,
      resume: args.out,
    };
    const { names, vectors, products } = directions;
    const [first, second] = vectors;
    if (args.plane) {
      const plane = await lossPlane(model, data, [first!, second!], options);
      return planeFindings(plane, names, products);
    }
    if (directions.checkpoint) {
      const found = await interpolate(model, data, first!, options);
      return lineFindings("interpolation", found, names, products, () => printBarrier(found));
    }
    const line = await lossLine(model, data, first!, options);
    return lineFindings("line", line, names, products);
  });
}

async function directionsOf(
  { model, operator }: Subject,
  args: LandscapeArguments,
  wanted: number,
  call: CallOptions,
): Promise<Directions> {
  const { direction: given = ["eigenvectors"], seed = 0n, eigenvector: from = 1 } = args;
  const found: Directions = { names: [], vectors: [], checkpoint: false, products: 0 };
  const add = (name: string, vector: Float64Array) => {
    found.names.push(name);
    found.vectors.push(vector);
  };
  for (const name of given) {
    // One that stands for several gives as many as are missing.
    const missing = wanted - found.vectors.length;
    const many = name === given.at(-1) ? Math.max(1, missing) : 1;
    if (name === "random")
      for (let i = 0; i < many; i++) {
        const number = seed + BigInt(found.vectors.length);
        const { scaling, biases } = args;
        add(`random (seed ${number})`, randomDirection(model, { seed: number, scaling, biases }));
      }
    else if (name === "eigenvectors") {
      const k = from + many - 1;
      if (k > operator.dim)
        throw new OptionError(`--eigenvector: expected 1 to ${operator.dim}, got ${k}`);
      const top = await eigsh(operator, { k, seed, ...call });
      if (!top.converged)
        throw new OptionError(`--direction eigenvectors: not converged: ${top.reason}`);
      for (let i = from - 1; i < k; i++)
        add(
          `eigenvector ${i + 1}, lambda ${short(top.values[i]!)}`,
          Float64Array.from(top.vector(i)),
        );
      found.products += top.products;
    } else if (isCheckpointFile(name)) {
      add(
        `to ${name}`,
        directionTo(model, await loadCheckpoint(model, name, { signal: call.signal })),
      );
      found.checkpoint = true;
    } else if (name.endsWith(".npy")) {
      const { shape, data } = await readVectors(name, "float64", call.signal!);
      const P = model.parameterCount;
      const rows = shape.length === 1 ? 1 : shape[0]!;
      if (shape.at(-1) !== P || shape.length > 2)
        throw new OptionError(
          `--direction: expected ${name} to have the shape (${P},) or (K, ${P}), got ` +
            `(${shape.join(", ")})`,
        );
      for (let i = 0; i < Math.min(rows, many); i++)
        add(
          `${name}${rows > 1 ? ` row ${i}` : ""}`,
          data.slice(i * P, (i + 1) * P) as Float64Array,
        );
    } else
      throw new OptionError(
        `--direction: expected eigenvectors, random, a checkpoint (${CHECKPOINT_FILES}) or vectors ` +
          `(.npy), got "${name}"`,
      );
  }
  if (found.vectors.length !== wanted)
    throw new OptionError(
      `--direction: expected ${wanted === 1 ? "one direction; with --plane two" : "two directions for --plane"}, ` +
        `got ${found.vectors.length}: ${found.names.join(", ")}`,
    );
  return found;
}

function lineFindings(
  kind: "line" | "interpolation",
  found: LossLine | Interpolation,
  names: string[],
  products: number,
  below?: () => void,
): Findings {
  const { seconds: _, ...rest } = found;
  const { steps, losses, quadratic } = found;
  const columns: [string, Float64Array][] = [
    ["step", steps],
    ["loss", losses],
    ...(quadratic ? ([["quadratic", quadratic.losses]] as [string, Float64Array][]) : []),
  ];
  return {
    json: { kind, directions: names, ...rest },
    products: products + (quadratic ? 1 : 0),
    arrays: { steps: { values: steps }, losses: { values: losses } },
    files: { "line.csv": csv(columns) },
    human: () => {
      print(`${names[0]}${reusedText(found)}\n`);
      const bar = bars(losses);
      const head = ["step", "loss", ...(quadratic ? ["quadratic"] : []), ""];
      const lines = table(
        head,
        Array.from(steps, (t, i) => [
          Number(t.toPrecision(6)),
          short(losses[i]!),
          ...(quadratic ? [short(quadratic.losses[i]!)] : []),
          bar[i]!,
        ]),
      );
      for (const line of lines) print(line);
      if (quadratic)
        print(
          `\nat step 0: slope ${short(quadratic.slope)}, curvature ${short(quadratic.curvature)}`,
        );
      below?.();
    },
  };
}

function reusedText({ evaluated, reused }: { evaluated: number; reused: number }): string {
  return reused === 0 ? "" : `; ${count(reused)} points were there, ${count(evaluated)} are new`;
}

function printBarrier({ barrier, at, quadratic }: Interpolation): void {
  print(
    barrier === 0
      ? "no barrier: the loss is nowhere above the chord"
      : `barrier ${short(barrier)} above the chord, at step ${Number(at.toPrecision(6))}` +
          (quadratic ? `; the Hessian at step 0 predicts ${short(quadratic.barrier)}` : ""),
  );
}

function csv(columns: readonly (readonly [string, Float64Array])[]): string {
  const rows = Array.from(columns[0]![1], (_, i) => columns.map(([, values]) => values[i]));
  return `${[columns.map(([name]) => name), ...rows].map((row) => row.join(",")).join("\n")}\n`;
}

/** Bars between the least and the largest loss. */
function bars(losses: Float64Array, width = 32): string[] {
  const finite = losses.filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return Array.from(losses, (loss) =>
    Number.isFinite(loss)
      ? "#".repeat(1 + Math.round(((width - 1) * (loss - low)) / (high - low || 1)))
      : "not finite",
  );
}

function planeFindings(plane: LossPlane, names: string[], products: number): Findings {
  const { seconds: _, ...rest } = plane;
  const { steps, losses, quadratic } = plane;
  const n = steps.length;
  const of = (i: number) =>
    Float64Array.from(losses, (_, at) => steps[i ? at % n : Math.floor(at / n)]!);
  const columns: [string, Float64Array][] = [
    ["step1", of(0)],
    ["step2", of(1)],
    ["loss", losses],
    ...(quadratic ? ([["quadratic", quadratic.losses]] as [string, Float64Array][]) : []),
  ];
  return {
    json: { kind: "plane", directions: names, ...rest },
    products: products + (quadratic ? 2 : 0),
    arrays: { steps: { values: steps }, losses: { values: losses, shape: [n, n] } },
    files: { "plane.csv": csv(columns) },
    human: () => printPlane(plane, names),
  };
}

/** From the least loss to the largest. */
const SHADES = " .:-=+*#%@";

/** A map with the first direction upwards and the second to the right. */
function printPlane(plane: LossPlane, names: string[]): void {
  const { steps, losses, quadratic } = plane;
  const n = steps.length;
  const finite = losses.filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const high = finite.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  print(`up: ${names[0]}\nright: ${names[1]}${reusedText(plane)}\n`);
  const label = (t: number) => Number(t.toPrecision(3)).toString();
  const width = Math.max(...Array.from(steps, (t) => label(t).length));
  for (let i = n - 1; i >= 0; i--) {
    const cells = Array.from(losses.subarray(i * n, (i + 1) * n), (loss) => {
      if (!Number.isFinite(loss)) return "!!";
      const share = high > low ? (loss - low) / (high - low) : 0;
      return SHADES[Math.min(SHADES.length - 1, Math.floor(share * SHADES.length))]!.repeat(2);
    });
    print(`${label(steps[i]!).padStart(width)} |${cells.join("")}|`);
  }
  const [left, right] = [label(steps[0]!), label(steps[n - 1]!)];
  print(`${" ".repeat(width + 2)}${left}${right.padStart(2 * n - left.length)}`);
  print(`\nloss from ${short(low)} ("${SHADES[0]}") to ${short(high)} ("${SHADES.at(-1)}")`);
  if (!quadratic) return;
  const [a, b, c] = quadratic.curvature;
  print(
    `at step 0 of both: loss ${short(quadratic.loss)}, curvature ${short(a)}, ${short(c)}, mixed ${short(b)}`,
  );
}
