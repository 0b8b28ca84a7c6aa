// KFAC and EKFAC against curvlinops, closed forms and identities.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  type DataSet,
  exactDiagonal,
  fisher,
  type KfacOptions,
  kfac,
  loadData,
  loadModel,
  type Model,
  type StructuredOperator,
} from "../lib";
import { openCase, relative } from "./50-helpers";
import { Case, caseNames } from "./support/cases";

interface Row {
  corrected: boolean;
  type: "type-2" | "empirical";
  sharing: "expand" | "reduce";
  joint: boolean;
  trace: number;
  frobenius: number;
  damping: number;
  products: number[];
  inverse: number[];
  heuristic?: number[];
}
const REFERENCE: { case: string; rows: Row[] }[] = JSON.parse(
  readFileSync(join(__dirname, "fixtures", "kfac", "kfac.json"), "utf8"),
);

const wave = (n: number, f: (x: number) => number, a: number, b: number) =>
  Float64Array.from({ length: n }, (_, i) => f(a * i + b));

async function inner(op: StructuredOperator, sizes: number[]): Promise<number[]> {
  const v = wave(op.dim, Math.sin, 0.7, 0.3);
  const w = wave(op.dim, Math.cos, 1.3, 0.1);
  const y = await op.apply(v);
  let at = 0;
  return sizes.map((size) => {
    let sum = 0;
    for (let i = at; i < at + size; i++) sum += y[i]! * w[i]!;
    at += size;
    return sum;
  });
}

describe.each(REFERENCE)("$case beside curvlinops", ({ case: name, rows }) => {
  let model: Model;
  let data: DataSet;
  beforeAll(async () => {
    ({ model, data } = await openCase(name));
  });

  test.each(rows)(
    "corrected $corrected, $type, $sharing, joint $joint",
    async ({ corrected, type, sharing, joint, ...wanted }) => {
      const options: KfacOptions = { type, sharing, joint, precision: "float64" };
      using op = await kfac(model, data, { ...options, eigenvalueCorrected: corrected });
      const sizes = model.parameters.map(({ size }) => size);
      expect(await op.trace()).toBeCloseTo(wanted.trace, 10);
      expect(relative(await inner(op, sizes), wanted.products)).toBeLessThan(1e-10);
      expect((await op.eigenvalues()).frobenius / wanted.frobenius - 1).toBeCloseTo(0, 10);
      using inverse = await op.inverse(wanted.damping);
      expect(relative(await inner(inverse, sizes), wanted.inverse)).toBeLessThan(1e-7);
      if (wanted.heuristic) {
        using heuristic = await op.inverse(wanted.damping, { how: "heuristic" });
        // curvlinops damps B for a bias of its own as for the weight beside it; we, as it stands.
        const weights = (_: number, i: number) => joint || i % 2 === 0;
        const got = (await inner(heuristic, sizes)).filter(weights);
        expect(relative(got, wanted.heuristic.filter(weights))).toBeLessThan(1e-8);
      }
    },
  );
});

const TYPES = [
  { type: "type-2" },
  { type: "mc", draws: 3, seed: 7 },
  { type: "empirical" },
] as const;

// With corrected eigenvalues the trace of a block is that of the matrix it stands for, whatever the
// layer: the samples' own gradients against those that the layers' rows make.
describe("corrected eigenvalues keep the trace of every tensor", () => {
  test.each(caseNames.flatMap((name) => TYPES.map((fisher) => ({ name, ...fisher }))))(
    "$name, $type",
    async ({ name, ...type }) => {
      const { model, data } = await openReference(name, 6);
      const options = { ...type, precision: "float64" } as const;
      using exact = fisher(model, data, options);
      const { diagonal } = await exactDiagonal(exact);
      using op = await kfac(model, data, {
        ...options,
        eigenvalueCorrected: true,
        others: "diagonal",
      });
      const found = await tracesOf(op);
      for (const { name: tensor, offset, size } of model.parameters) {
        const wanted = diagonal.subarray(offset, offset + size).reduce((a, b) => a + b, 0);
        expect([tensor, found.get(tensor)! / wanted]).toEqual([tensor, expect.closeTo(1, 9)]);
      }
    },
  );
});

async function openReference(name: string, samples: number) {
  const reference = new Case(name);
  const model = await loadModel(reference.path("model.onnx"), { loss: reference.loss });
  const data = await loadData(
    { x: reference.path("x.npy"), y: reference.path("y.npy") },
    { samples },
  );
  return { model, data };
}

/** By tensor, over the groups of a convolution. */
async function tracesOf(op: StructuredOperator): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const { name, trace } of await op.blocks()) {
    const tensor = name.replace(/\[\d+\]$/, "");
    found.set(tensor, (found.get(tensor) ?? 0) + trace);
  }
  return found;
}
