/** Pictures of what sub-networks are worth. */
import type { Figure, Series } from "../figures/figure";
import type { CurvePoint, SparsityCurves, Spread } from "./worth";

/**
 * Accuracy over the share of weights kept, or the loss where there is no accuracy: a line for each
 * criterion, and dashed, with their standard deviation, random masks that keep as many.
 */
export function sparsityFigure({ dense, points }: SparsityCurves): Figure {
  const accurate = dense.accuracy !== undefined;
  const worth = (point: CurvePoint) => (accurate ? point.accuracy! : point.loss);
  const byChance = ({ random }: CurvePoint) => (accurate ? random?.accuracy : random?.loss);
  const criteria = [...new Set(points.map(({ criterion }) => criterion))];
  const rowsOf = (criterion: string) => points.filter((point) => point.criterion === criterion);
  const marks: Series[] = criteria.map((criterion) => {
    const rows = rowsOf(criterion);
    return { kind: "line", name: criterion, x: rows.map(({ keep }) => keep), y: rows.map(worth) };
  });
  const shown = new Set<string>();
  for (const criterion of criteria) {
    const rows = rowsOf(criterion).filter((point) => byChance(point) !== undefined);
    const spreads = rows.map((point) => byChance(point) as Spread);
    const key = JSON.stringify(spreads.map(({ mean }) => mean));
    if (rows.length === 0 || shown.has(key)) continue;
    const name = shown.size === 0 ? "random" : `random, as many as ${criterion}`;
    shown.add(key);
    marks.push({
      kind: "line",
      name,
      dashed: true,
      x: rows.map(({ keep }) => keep),
      y: spreads.map(({ mean }) => mean),
      low: spreads.map(({ mean, standardDeviation }) => mean - standardDeviation),
      high: spreads.map(({ mean, standardDeviation }) => mean + standardDeviation),
    });
  }
  return {
    title: "What sub-networks are worth",
    caption: accurate
      ? `accuracy of the whole network ${(100 * dense.accuracy!).toFixed(2)} %; random: mean and ` +
        "standard deviation of masks that keep as many of each tensor"
      : "random: mean and standard deviation of masks that keep as many of each tensor",
    x: { label: "share of weights kept", scale: "log" },
    y: { label: accurate ? "accuracy" : "loss" },
    marks,
  };
}
