// Networks side by side: numbers against the functions that they come from and closed forms, cells
// that fail alone, and rows that are found again.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  anisotropy,
  type ComparedCell,
  type ComparedRow,
  compare,
  type DataSet,
  exactSpectrum,
  hessian,
  type Model,
  parameterVector,
} from "../lib";
import { dataOf, netModel, randomTheta } from "./support/networks";
import { normals } from "./support/numbers";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-compare-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const numberOf = (cell: ComparedCell | undefined) =>
  cell && "value" in cell ? cell.value : Number.NaN;
const failureOf = (cell: ComparedCell | undefined) => (cell && "failed" in cell ? cell.failed : "");
const numbers = ({ cells }: ComparedRow, keys: string[]) => keys.map((key) => numberOf(cells[key]));

/** A linear network without biases, and one with tanh and more units. */
const linear = () =>
  netModel({ widths: [5, 4, 3], theta: randomTheta(1, [5, 4, 3], false), bias: false });
const wider = () =>
  netModel({ widths: [5, 6, 3], theta: randomTheta(2, [5, 6, 3]), activation: "Tanh" });
const named = async (): Promise<{ name: string; model: Model }[]> => [
  { name: "linear", model: await linear() },
  { name: "wider", model: await wider() },
];
const data = (outputs = 3, seed = 3): Promise<DataSet> =>
  dataOf({
    x: { data: normals(seed, 20 * 5), shape: [5] },
    y: { data: normals(seed + 1, 20 * outputs), shape: [outputs] },
  });
const loss = "mse";

test("ranks of a linear network are those of the theory, and all numbers those of the functions", async () => {
  const models = await named();
  using set = await data();
  const { columns, rows } = await compare(models, set, {
    loss,
    operators: ["hessian", "ggn", "functional"],
    k: 3,
  });
  expect(rows.map(({ name }) => name)).toEqual(["linear", "wider"]);
  const [row] = rows;
  expect(numbers(row!, ["parameters", "groups", "units"])).toEqual([32, 1, 4]);
  // GL(4) between the two layers.
  expect(row!.cells.orbit).toEqual({ value: 16, how: "exact" });
  // 5-4-3, data of rank 5, mse: 15 + 24, and 30 together.
  expect(numbers(row!, ["ggn.rank", "functional.rank", "hessian.rank"])).toEqual([15, 24, 30]);
  expect(numberOf(row!.cells["ggn.redundancy"])).toBeCloseTo(1 - 15 / 32, 14);
  expect(failureOf(row!.cells.accuracy)).toBe("the loss is one of regression");

  const wide = models[1]!.model;
  using H = hessian(wide, set, { loss, precision: "float64" });
  const wanted = await anisotropy(H, { top: [3] });
  const { values } = await exactSpectrum(H);
  if (wanted.source !== "exact") throw new Error("expected an exact result");
  for (const name of [
    "trace",
    "participationRatio",
    "intrinsicDimension",
    "effectiveRank",
  ] as const)
    expect(numberOf(rows[1]!.cells[`hessian.${name}`])).toBeCloseTo(wanted[name], 10);
  expect(numberOf(rows[1]!.cells["hessian.topMass"])).toBeCloseTo(wanted.topMass[0]!.share, 12);
  const spectrum = rows[1]!.spectra.hessian!;
  expect(spectrum.complete).toBe(true);
  expect([...spectrum.values].sort((a, b) => b - a)).toEqual([...values]);
  expect(numberOf(rows[1]!.cells["hessian.largest"])).toBe(spectrum.values[0]);

  expect(columns.map(({ key }) => key).slice(0, 5)).toEqual([
    "parameters",
    "loss",
    "accuracy",
    "groups",
    "units",
  ]);
  for (const { cells } of rows)
    expect(Object.keys(cells).sort()).toEqual(columns.map(({ key }) => key).sort());
});

test("larger networks are estimated, with errors that hold the exact numbers", async () => {
  const models = [{ name: "wider", model: await wider() }];
  using set = await data();
  const options = { loss, operators: ["ggn"], precision: "float64" } as const;
  const [exact] = (await compare(models, set, options)).rows;
  const { rows } = await compare(models, set, {
    ...options,
    ...{ maxExact: 8, k: 4, probes: 200, tol: 1e-3 },
  });
  const { cells, spectra } = rows[0]!;
  expect(cells["ggn.rank"]).toMatchObject({ how: "estimated" });
  const magnitudes = exact!.spectra.ggn!.values.map(Math.abs);
  const above = magnitudes.filter((x) => x > 1e-3 * magnitudes[0]!).length;
  const { value, error } = cells["ggn.rank"] as { value: number; error: number };
  expect(Math.abs(value - above)).toBeLessThan(2 * error + 0.5);
  const trace = cells["ggn.trace"] as { value: number; error: number };
  expect(trace.error).toBeGreaterThan(0);
  expect(Math.abs(trace.value - numberOf(exact!.cells["ggn.trace"]))).toBeLessThan(2 * trace.error);
  expect(numberOf(cells["ggn.largest"])).toBeCloseTo(numberOf(exact!.cells["ggn.largest"]), 8);
  expect(spectra.ggn).toMatchObject({ complete: false });
  expect(spectra.ggn!.values).toHaveLength(4);
  expect(failureOf(cells["ggn.effectiveRank"])).toContain("maxExact");
});

test("what fails for one network fails in its cells, and the others go on", async () => {
  const other = await netModel({ widths: [4, 2], theta: randomTheta(4, [4, 2]) });
  const models = [{ name: "misfit", model: other }, ...(await named())];
  using set = await data();
  const { rows } = await compare(models, set, { loss, operators: ["ggn"] });
  const [misfit, row] = rows;
  expect(numberOf(misfit!.cells.parameters)).toBe(10);
  for (const key of ["loss", "ggn.rank", "ggn.trace"])
    expect(failureOf(misfit!.cells[key])).toMatch(/expected/);
  expect(misfit!.spectra).toEqual({});
  expect(numberOf(row!.cells["ggn.rank"])).toBe(15);
});

test("rows are found again for the same network, data and options alone", async () => {
  using set = await data();
  const options = { loss, operators: ["ggn"], resume: folder } as const;
  const models = await named();
  const first = await compare(models, set, options);
  expect(first.rows.map(({ reused }) => reused)).toEqual([false, false]);
  expect(readdirSync(folder).sort()).toEqual(["linear.json", "wider.json"]);
  const again = await compare(models, set, options);
  expect(again.rows).toEqual(first.rows.map((row) => ({ ...row, reused: true })));

  // Another network of that name, another option, other numbers in data of the same description.
  const moved = models[0]!.model.withParameters(
    parameterVector(models[0]!.model).map((x) => 2 * x),
  );
  const third = await compare([{ name: "linear", model: moved }, models[1]!], set, options);
  expect(third.rows.map(({ reused }) => reused)).toEqual([false, true]);
  const fourth = await compare(models, set, { ...options, k: 2 });
  expect(fourth.rows.map(({ reused }) => reused)).toEqual([false, false]);
  using others = await data(3, 9);
  expect(others.toString()).toBe(set.toString());
  const fifth = await compare(models, others, { ...options, k: 2 });
  expect(fifth.rows.map(({ reused }) => reused)).toEqual([false, false]);
  expect(numberOf(fifth.rows[0]!.cells.loss)).not.toBe(numberOf(fourth.rows[0]!.cells.loss));
  // A file that was cut off is done again.
  const file = join(folder, "linear.json");
  writeFileSync(file, readFileSync(file, "utf8").slice(0, 100));
  const sixth = await compare(models, others, { ...options, k: 2 });
  expect(sixth.rows.map(({ reused }) => reused)).toEqual([false, true]);
});

test("an abort ends it, and what was done stays", async () => {
  using set = await data();
  const models = await named();
  const options = { loss, operators: ["ggn"], resume: folder } as const;
  await compare([models[0]!], set, options);
  const signal = AbortSignal.abort();
  await expect(compare(models, set, { ...options, signal })).rejects.toMatchObject({
    name: "AbortError",
  });
  expect(readdirSync(folder)).toEqual(["linear.json"]);
  const { rows } = await compare(models, set, options);
  expect(rows.map(({ reused }) => reused)).toEqual([true, false]);
});

test("what does not fit is refused", async () => {
  using set = await data();
  const model = await linear();
  await expect(compare([], set)).rejects.toThrow(
    "compare: expected an array of networks, got an array of 0",
  );
  await expect(compare([model, model], set)).rejects.toThrow(
    'names that differ, got "model" twice',
  );
  await expect(compare([model], set, { operators: ["fisher" as never] })).rejects.toThrow(
    "compare: operators: expected some of hessian, ggn, functional, each once",
  );
  await expect(compare([model], {} as DataSet)).rejects.toThrow("expected data of loadData");
  await expect(compare(["linear.onnx" as never], set)).rejects.toThrow(
    "expected models of loadModel",
  );
});
