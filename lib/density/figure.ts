/** A picture of a spectral density. */
import type { SpectralDensity } from "../density";
import type { Figure } from "../figures/figure";

/** What is less than so many eigenvalues a cell of the grid is not shown. */
const LEAST = 1e-3;

/** Eigenvalues a cell of the grid, with the band of sampling. */
export function densityFigure(found: SpectralDensity): Figure {
  const { grid, density, mass, band, axis, threshold, nodes, method } = found;
  const shown = (values: Float64Array) =>
    values.map((value, i) =>
      Math.max(LEAST, density[i]! > 0 ? (mass[i]! * value) / density[i]! : 0),
    );
  const high = shown(band.upper);
  const most = Math.max(...mass, ...high.filter(Number.isFinite));
  return {
    title: "Spectral density",
    caption: `${method}, ${nodes.length} random vectors; the band is that of sampling, 95 %`,
    x: {
      label: "eigenvalue",
      scale: axis,
      threshold,
      ...(axis === "symlog" && { ticks: decades(grid, threshold!) }),
    },
    y: {
      label: `eigenvalues in each of ${grid.length} cells`,
      scale: "log",
      domain: [LEAST, 2 * Math.max(most, 10 * LEAST)],
    },
    marks: [{ kind: "line", x: grid, y: shown(density), low: shown(band.lower), high }],
  };
}

/** 0, and powers of ten of both signs beyond the linear part. */
function decades(grid: Float64Array, threshold: number): number[] {
  const side = (end: number) => {
    const powers: number[] = [];
    const first = Math.ceil(Math.log10(threshold));
    for (let power = first; 10 ** power <= end; power++) powers.push(10 ** power);
    return powers;
  };
  return [...side(-grid[0]!).map((x) => -x), 0, ...side(grid.at(-1)!)];
}
