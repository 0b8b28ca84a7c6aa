// Figures: what of the data reaches the picture. Drawing itself is run by tests of commands, in a
// process of their own, as Vega is made of ES modules.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type Figure, figureToVega } from "../lib";

// biome-ignore lint/suspicious/noExplicitAny: a specification is any JSON
type Json = any;

const line: Figure = {
  title: "decay",
  x: { label: "index", scale: "log" },
  y: { label: "eigenvalue", scale: "log" },
  marks: [
    {
      kind: "line",
      name: "a",
      x: [0, 1, 2, 3],
      y: [1, 2, -1, 4],
      low: [0, 0, 0, 3],
      high: [2, 3, 4, 5],
    },
    { kind: "dots", name: "b", x: [1, 2], y: [Number.NaN, 1] },
  ],
};

test("what a logarithmic axis cannot show is left out, and the ends of a band stay on it", () => {
  const spec: Json = figureToVega(line);
  const [area, path, dots] = spec.layer;
  expect(path.data.values.map(({ x, y }: Json) => [x, y])).toEqual([
    [1, 2],
    [3, 4],
  ]);
  expect(area.data.values.map(({ low, high }: Json) => [low, high])).toEqual([
    [2, 3], // no lower end above zero: the line itself
    [3, 5],
  ]);
  expect(dots.data.values).toHaveLength(1);
  expect(path.encoding.color.scale.domain).toEqual(["a", "b"]);
  expect(path.encoding.x.scale.type).toBe("log");
});

test("bars of several series stand side by side, in the order of the categories", () => {
  const layers = ["conv", "fc"];
  const bars = (name: string) => ({ kind: "bars" as const, name, x: layers, y: [1, 2] });
  const spec: Json = figureToVega({
    title: "share",
    x: { label: "layer", categories: layers },
    y: { label: "share" },
    marks: [bars("first"), bars("second")],
  });
  expect(spec.layer[1].encoding.xOffset.sort).toEqual(["first", "second"]);
  expect(spec.layer[0].encoding.x.sort).toEqual(layers);
  expect(spec.layer[0].encoding.y.scale.zero).toBe(true);
});

test("a matrix: a row a cell, a diverging scale where signs differ", () => {
  const spec: Json = figureToVega({
    title: "correlation",
    x: { label: "column" },
    y: { label: "row" },
    marks: [
      { kind: "heat", label: "r", rows: ["a", "b"], columns: [1, 2], values: [1, -1, NaN, 0] },
    ],
  });
  const [heat] = spec.layer;
  expect(heat.data.values).toContainEqual({ row: "a", column: "2", value: -1 });
  expect(heat.data.values).toContainEqual({ row: "b", column: "1", value: null });
  expect(heat.encoding.color.scale.domainMid).toBe(0);
});

test("figureToSvg draws it: labels, legend, and a path for the line", () => {
  const root = join(__dirname, "..");
  const program = `require(${JSON.stringify(root)}).figureToSvg(${JSON.stringify(line)})
    .then((svg) => process.stdout.write(svg));`;
  const svg = execFileSync(process.execPath, ["-e", program], { encoding: "utf8" });
  expect(svg).toMatch(/^<svg/);
  for (const text of ["decay", "index", "eigenvalue", ">a<", ">b<"]) expect(svg).toContain(text);
  expect(svg.match(/aria-roledescription="line mark"/g)).toHaveLength(1);
});
