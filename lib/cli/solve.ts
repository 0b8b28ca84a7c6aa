/** eigenscope solve: linear systems with an operator, such as the damped Newton step. */
import { DataMismatchError, OptionError } from "../errors";
import type { Vectors } from "../native";
import { gradient } from "../operators";
import { type Solution, type SystemOptions, solve } from "../solve";
import { type AnalysisArguments, analyse, type Findings, type Subject } from "./analysis";
import type { Globals } from "./arguments";
import { count, print, short, table } from "./output";
import { runOptions } from "./subject";
import { readVectors } from "./vectors";

interface SolveArguments extends AnalysisArguments {
  rhs?: string;
  method?: NonNullable<SystemOptions["method"]>;
  damping?: number;
  tol?: number;
  maxProducts?: number;
  preconditioner?: "nystrom";
  rank?: number;
  tikhonov?: number;
  seriesScale?: number;
}

const DEFINITE = /^(ggn|fisher)/;

export function run(file: string, args: SolveArguments, globals: Globals): Promise<number> {
  return analyse("solve", file, args, globals, async (subject, call) => {
    const { operator = "hessian", rhs = "gradient" } = args;
    if (args.rank !== undefined && args.preconditioner === undefined)
      throw new OptionError("--rank belongs to --preconditioner nystrom, which was not given");
    const given = rhs === "gradient" ? undefined : await rightHandSides(rhs, subject, call.signal!);
    const risk = await gradient(subject.model, subject.data, {
      ...runOptions(args),
      signal: call.signal,
    });
    const result = await solve(subject.operator, given?.data ?? risk.gradient, {
      method: args.method ?? (DEFINITE.test(operator) ? "cg" : "minres"),
      damping: args.damping,
      tol: args.tol,
      maxProducts: args.maxProducts,
      preconditioner: args.preconditioner,
      rank: args.rank,
      tikhonov: args.tikhonov,
      scale: args.seriesScale,
      seed: args.seed,
      ...call,
    });
    const shape = given?.shape ?? [subject.operator.dim];
    return findings(rhs, shape, result, risk);
  });
}

async function rightHandSides(
  path: string,
  { operator }: Subject,
  signal: AbortSignal,
): Promise<{ shape: number[]; data: Vectors }> {
  const read = await readVectors(path, operator.dtype, signal);
  const { shape } = read;
  const rows = shape.length === 2 ? shape[0]! : 1;
  if (shape.length > 2 || shape.at(-1) !== operator.dim || rows === 0)
    throw new DataMismatchError(
      `--rhs ${path}: expected shape (${operator.dim},) or (K, ${operator.dim}), as there are ` +
        `${operator.dim} parameters, got (${shape.join(", ")})`,
    );
  return read;
}

/** Length of a solution, and how it lies to the gradient. */
interface Placed {
  norm: number;
  /** In degrees; NaN where one of them is 0. */
  angle: number;
  inner: number;
}

function place(x: Vectors, g: Float64Array, gradientNorm: number): Placed {
  let squares = 0;
  let inner = 0;
  for (let i = 0; i < x.length; i++) {
    squares += x[i]! * x[i]!;
    inner += x[i]! * g[i]!;
  }
  const norm = Math.sqrt(squares);
  const cosine = Math.max(-1, Math.min(1, inner / (norm * gradientNorm)));
  return { norm, angle: (180 / Math.PI) * Math.acos(cosine), inner };
}

function findings(
  rhs: string,
  shape: number[],
  result: Solution,
  risk: { loss: number; gradient: Float64Array; norm: number },
): Findings {
  const { solution, residuals, iterations, errorBounds, optimality, method, damping } = result;
  const dim = risk.gradient.length;
  const placed = Array.from(residuals, (_, k) =>
    place(solution.subarray(k * dim, (k + 1) * dim), risk.gradient, risk.norm),
  );
  // With (A + damping I) x = g, the quadratic model at -x: -g x + x A x / 2.
  const [step] = placed;
  const predictedChange =
    rhs === "gradient" && residuals[0]! <= result.tol
      ? -(step!.inner + damping * step!.norm ** 2) / 2
      : undefined;
  return {
    json: {
      method,
      damping,
      tol: result.tol,
      rightHandSide: rhs,
      loss: risk.loss,
      gradientNorm: risk.norm,
      norms: placed.map(({ norm }) => norm),
      residuals,
      iterations,
      converged: result.converged,
      anglesWithGradient: placed.map(({ angle }) => angle),
      ...(errorBounds && { errorBounds }),
      ...(optimality && { optimality }),
      ...(result.scale !== undefined && { scale: result.scale }),
      ...(predictedChange !== undefined && { predictedChange }),
      preconditionerProducts: result.preconditionerProducts,
    },
    human() {
      const matrix = damping > 0 ? `(A + ${damping} I)` : "A";
      print(`${matrix} x = ${rhs} by ${method}`);
      print(`loss ${short(risk.loss)}, gradient norm ${short(risk.norm)}\n`);
      const several = placed.length > 1;
      const head = [
        ...(several ? [""] : []),
        "norm of x",
        "residual",
        ...(errorBounds ? ["error at most"] : []),
        ...(optimality ? ["gradient of squares"] : []),
        "angle with gradient",
        "iterations",
      ];
      const rows = placed.map(({ norm, angle }, k) => [
        ...(several ? [k + 1] : []),
        short(norm),
        residuals[k]!.toExponential(1),
        ...(errorBounds ? [errorBounds[k]!.toExponential(1)] : []),
        ...(optimality ? [optimality[k]! < 0 ? "-" : optimality[k]!.toExponential(1)] : []),
        Number.isNaN(angle) ? "-" : `${angle.toFixed(2)} deg`,
        count(iterations[k]!),
      ]);
      for (const line of table(head, rows)) print(line);
      if (errorBounds)
        print(
          "\nThe error is bounded by residual / damping, for a positive semi-definite operator.",
        );
      if (predictedChange !== undefined)
        print(
          `\nThe step -x changes the loss by ${short(predictedChange)} in the quadratic model of ` +
            "the operator.",
        );
    },
    arrays: { solution: { values: solution, shape } },
    products: result.products,
    notConverged: result.converged ? undefined : result.reason,
  };
}
