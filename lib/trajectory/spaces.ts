/** Shares of vectors in leading eigenspaces, for all leading dimensions at once. */

import { OptionError } from "../errors";
import type { LinearOperator } from "../linear-operator";
import type { Model } from "../model/model";
import type { Rows } from "../subspaces/orthonormal";
import { dotOf, dots } from "./pairs";

/** ||V_j V_j^T x||^2 / ||x||^2 for the first j = 1 .. k rows of an orthonormal basis; NaN for x = 0. */
export function nestedShares(basis: Rows, x: Float64Array): Float64Array {
  const whole = dotOf(x, x);
  let inside = 0;
  return dots(basis, x).map((part) => {
    inside += part * part;
    return Math.min(1, inside / whole);
  });
}

/** ||V_j^T W_j||_F^2 / j for the first j = 1 .. k rows of two orthonormal bases. */
export function nestedOverlaps(V: Rows, W: Rows): Float64Array {
  const k = Math.min(V.length, W.length);
  const rows = V.map((row) => dots(W, row));
  let inside = 0;
  return Float64Array.from({ length: k }, (_, j) => {
    for (let i = 0; i <= j; i++) inside += rows[i]![j]! ** 2 + (i < j ? rows[j]![i]! ** 2 : 0);
    return Math.min(1, inside / (j + 1));
  });
}

/** The coordinates of an operator, as runs of the model's parameters. */
export interface Coordinates {
  readonly dim: number;
  pick(x: Float64Array): Float64Array;
}

/**
 * @throws OptionError where the operator acts on parts of tensors, whose places it does not tell
 */
export function coordinatesOf(where: string, model: Model, operator: LinearOperator): Coordinates {
  const { dim } = operator;
  if (dim === model.parameterCount) return { dim, pick: (x) => x };
  const runs = (operator.parameters ?? []).map(({ name, offset, size }) => {
    const tensor = model.parameters.find((parameter) => parameter.name === name);
    return { from: tensor?.size === size ? tensor.offset : -1, offset, size };
  });
  if (runs.length === 0 || runs.some(({ from }) => from < 0))
    throw new OptionError(
      `${where}: operator: expected one over all ${model.parameterCount} parameters or over whole ` +
        `tensors, got ${operator.name} of dimension ${dim}`,
    );
  return {
    dim,
    pick: (x) => {
      const part = new Float64Array(dim);
      for (const { from, offset, size } of runs) part.set(x.subarray(from, from + size), offset);
      return part;
    },
  };
}
