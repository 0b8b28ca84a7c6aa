/** Optimal transport between two sets of units, all of the same weight in each set. */

/** A plan: rows x columns, its rows add up to 1 / rows, its columns to 1 / columns. */
export interface TransportPlan {
  readonly plan: Float64Array;
  readonly rows: number;
  readonly columns: number;
  /** sum of plan times cost. */
  readonly cost: number;
  readonly iterations: number;
  readonly converged: boolean;
}

function costOf(plan: Float64Array, costs: Float64Array): number {
  return plan.reduce((sum, mass, i) => sum + (mass === 0 ? 0 : mass * costs[i]!), 0);
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/**
 * The cheapest plan, by successive shortest paths (Edmonds and Karp 1972): with whole masses, m / g
 * of each row and n / g of each column for g the greatest common divisor, so that it is exact. For
 * m = n it is a permutation divided by n.
 *
 * @param costs rows x columns
 */
export function exactTransport(costs: Float64Array, rows: number, columns: number): TransportPlan {
  const g = divisor(rows, columns);
  // Masses, and what is not sent yet.
  const [each, most] = [columns / g, rows / g];
  const left = new Int32Array(rows).fill(each);
  const free = new Int32Array(columns).fill(most);
  const flow = new Int32Array(rows * columns);
  // Duals, for costs that are not negative on the residual graph.
  const u = new Float64Array(rows);
  const v = new Float64Array(columns).fill(0);
  const row = new Float64Array(rows);
  const column = new Float64Array(columns);
  const fromRow = new Int32Array(columns);
  const fromColumn = new Int32Array(rows);
  const doneRow = new Uint8Array(rows);
  const doneColumn = new Uint8Array(columns);
  let iterations = 0;
  for (let source = 0; source < rows; source++)
    while (left[source]! > 0) {
      iterations++;
      row.fill(Number.POSITIVE_INFINITY);
      column.fill(Number.POSITIVE_INFINITY);
      doneRow.fill(0);
      doneColumn.fill(0);
      row[source] = 0;
      let sink = -1;
      let low = 0;
      let i = source;
      // Dijkstra over rows and columns in turn: a column leads back to the rows that send to it.
      while (sink < 0) {
        if (i >= 0) {
          doneRow[i] = 1;
          for (let j = 0; j < columns; j++) {
            if (doneColumn[j]) continue;
            const length = row[i]! + Math.max(0, costs[i * columns + j]! - u[i]! - v[j]!);
            if (length < column[j]!) {
              column[j] = length;
              fromRow[j] = i;
            }
          }
        }
        let best = -1;
        for (let j = 0; j < columns; j++)
          if (!doneColumn[j] && (best < 0 || column[j]! < column[best]!)) best = j;
        let next = -1;
        for (let k = 0; k < rows; k++)
          if (
            !doneRow[k] &&
            row[k]! < Number.POSITIVE_INFINITY &&
            (next < 0 || row[k]! < row[next]!)
          )
            next = k;
        if (next >= 0 && row[next]! <= column[best]!) {
          i = next;
          continue;
        }
        low = column[best]!;
        if (free[best]! > 0) sink = best;
        else {
          doneColumn[best] = 1;
          i = -1;
          for (let k = 0; k < rows; k++)
            // Along a flow the reduced cost is 0.
            if (!doneRow[k] && flow[k * columns + best]! > 0 && low < row[k]!) {
              row[k] = low;
              fromColumn[k] = best;
            }
        }
      }
      for (let k = 0; k < rows; k++) if (row[k]! < low) u[k]! += low - row[k]!;
      for (let j = 0; j < columns; j++) if (column[j]! < low) v[j]! -= low - column[j]!;
      let amount = Math.min(left[source]!, free[sink]!);
      for (let j = sink, k = fromRow[j]!; k !== source; j = fromColumn[k]!, k = fromRow[j]!)
        amount = Math.min(amount, flow[k * columns + fromColumn[k]!]!);
      for (let j = sink; ; ) {
        const k = fromRow[j]!;
        flow[k * columns + j]! += amount;
        if (k === source) break;
        j = fromColumn[k]!;
        flow[k * columns + j]! -= amount;
      }
      left[source]! -= amount;
      free[sink]! -= amount;
    }
  const plan = Float64Array.from(flow, (mass) => mass / (rows * each));
  return { plan, rows, columns, cost: costOf(plan, costs), iterations, converged: true };
}

/** Sinkhorn ends where marginals are met to this share of a mass. */
const MARGINALS = 1e-9;
const MAX_ITERATIONS = 20_000;

function logSumExp(terms: Float64Array): number {
  const most = terms.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return most + Math.log(terms.reduce((sum, x) => sum + Math.exp(x - most), 0));
}

/**
 * The plan with the least cost plus entropy (Cuturi 2013), by Sinkhorn's iteration on logarithms:
 * minimises <plan, costs> - r H(plan) with r = `regularisation` times the largest cost.
 *
 * @param regularisation above 0: towards 0 the plan becomes the exact one, and iterations many
 */
export function sinkhorn(
  costs: Float64Array,
  rows: number,
  columns: number,
  regularisation: number,
): TransportPlan {
  const largest = costs.reduce((most, x) => Math.max(most, x), 0);
  const r = regularisation * largest || 1;
  const f = new Float64Array(rows);
  const g = new Float64Array(columns);
  const [perRow, perColumn] = [new Float64Array(columns), new Float64Array(rows)];
  const ends = { row: -Math.log(rows), column: -Math.log(columns) };
  let iterations = 0;
  let error = Number.POSITIVE_INFINITY;
  const plan = new Float64Array(rows * columns);
  while (error > MARGINALS && iterations < MAX_ITERATIONS) {
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) perRow[j] = g[j]! - costs[i * columns + j]! / r;
      f[i] = ends.row - logSumExp(perRow);
    }
    error = 0;
    for (let j = 0; j < columns; j++) {
      for (let i = 0; i < rows; i++) perColumn[i] = f[i]! - costs[i * columns + j]! / r;
      const before = g[j]!;
      g[j] = ends.column - logSumExp(perColumn);
      // What the column held, over what it should hold.
      error = Math.max(error, Math.abs(Math.exp(before - g[j]!) - 1));
    }
    iterations++;
  }
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++)
      plan[i * columns + j] = Math.exp(f[i]! + g[j]! - costs[i * columns + j]! / r);
  const converged = error <= MARGINALS;
  return { plan, rows, columns, cost: costOf(plan, costs), iterations, converged };
}
