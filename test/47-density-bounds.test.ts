// Bounds of distribution functions against the measures of the probes themselves, on spectra that
// solvers find hard.
import { spectralDensity } from "../lib";
import { range, reflected, SPECTRA } from "./support/reflected";

const total = (values: ArrayLike<number>) => Array.from(values).reduce((sum, x) => sum + x, 0);

describe.each(Object.entries(SPECTRA))("%s", (_, values) => {
  const sorted = Float64Array.from(values).sort();
  const scale = Math.max(...values.map(Math.abs));

  test.each([5, 20, 45])("bounds hold the share of each probe after %d steps", async (steps) => {
    for (const probeType of ["rademacher", "gaussian"] as const) {
      const { operator, share } = reflected(values);
      const found = await spectralDensity(operator, { probes: 2, steps, probeType, points: 64 });
      const low = sorted[0]!;
      const width = sorted.at(-1)! - low;
      const broken: number[][] = [];
      const places = [
        ...range(40, (i) => low - 0.1 * width + (1.2 * width * (i + 0.37)) / 40),
        ...range(20, (i) => scale * 10 ** (-i + 0.3)),
        ...sorted.filter((_, i) => i % 9 === 0),
        ...found.nodes[0]!.filter((_, i) => i % 5 === 0),
      ];
      for (let k = 0; k < 2; k++)
        for (const x of places) {
          const { lower, upper, value } = found.probeCdf(k, x);
          // A place at an eigenvalue counts on either side.
          const least = share(k, x - 4 * found.resolution);
          const most = share(k, x + 4 * found.resolution);
          if (!(lower <= most + 1e-12 && upper >= least - 1e-12)) broken.push([x, least, most]);
          if (!(value >= lower - 1e-12 && value <= upper + 1e-12)) broken.push([x, value]);
        }
      expect(broken).toEqual([]);
      // Bounds that say something: not 0 and 1 all over.
      const middle = found.probeCdf(0, sorted[75]! + 1e-3 * scale);
      if (steps === 45) expect(middle.upper - middle.lower).toBeLessThan(0.4);
    }
  });

  test("nodes and weights: inside the spectrum, positive, residuals true", async () => {
    const found = await spectralDensity(reflected(values).operator, { probes: 2, steps: 25 });
    for (let k = 0; k < 2; k++) {
      expect(total(found.weights[k]!)).toBeCloseTo(1, 12);
      found.nodes[k]!.forEach((node, j) => {
        expect(node).toBeGreaterThanOrEqual(sorted[0]! - 1e-13 * scale);
        expect(node).toBeLessThanOrEqual(sorted.at(-1)! + 1e-13 * scale);
        const nearest = Math.min(...values.map((x) => Math.abs(x - node)));
        expect(nearest).toBeLessThanOrEqual(found.residuals[k]![j]! + 1e-13 * scale);
        if (j > 0) expect(node).toBeGreaterThan(found.nodes[k]![j - 1]!);
      });
    }
  });
});
