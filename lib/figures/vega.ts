/** Figures as specifications of Vega-Lite, which draws them and in which users can change them. */
import type { Axis, Coordinates, Figure, Heat, Series } from "./figure";

/** Okabe and Ito's colours, which people with any kind of colour vision can tell apart. */
const COLOURS = [
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
  "#000000",
  "#8C6D00",
];

type Spec = Record<string, unknown>;

/** A Vega-Lite specification, version 6: a value for JSON. */
export function figureToVega(figure: Figure): Spec {
  const { title, caption, marks, width = 460, height = 300 } = figure;
  const series = marks.filter((mark): mark is Series => mark.kind !== "heat");
  const names = [...new Set(series.flatMap(({ name }) => name ?? []))];
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: {
      text: title,
      ...(caption !== undefined && { subtitle: caption }),
      anchor: "start",
      subtitleColor: "#555",
      offset: 12,
    },
    width,
    height,
    background: "white",
    padding: 12,
    config: { font: "sans-serif", view: { stroke: "#ccc" }, axis: { gridColor: "#eee" } },
    layer: marks.flatMap((mark) =>
      mark.kind === "heat" ? [heatLayer(mark, figure)] : seriesLayers(mark, figure, names),
    ),
    // Layers of series share one legend; a matrix has a scale of its own.
    resolve: { scale: { color: series.length < marks.length ? "independent" : "shared" } },
  };
}

/** In the legend: strokes where there are lines alone, which have no filling. */
function symbols({ marks }: Figure): Spec {
  const lines = marks.every((mark) => mark.kind === "line" && !mark.low);
  return lines
    ? { symbolType: "stroke", symbolStrokeWidth: 2 }
    : { symbolType: "square", symbolOpacity: 1 };
}

type Row = Record<string, number | string | null>;

function seriesLayers(series: Series, figure: Figure, names: readonly string[]): Spec[] {
  const { kind, name, dashed } = series;
  const data = { values: rowsOf(series, figure) };
  const x = channel(figure.x, "x");
  const y = channel(figure.y, "y", kind === "bars");
  const colour =
    name === undefined
      ? { value: COLOURS[0] }
      : {
          field: "name",
          type: "nominal",
          title: null,
          scale: { domain: names, range: names.map((_, i) => COLOURS[i % COLOURS.length]) },
          legend: names.length > 1 ? symbols(figure) : null,
        };
  const beside = kind === "bars" && figure.x.categories && names.length > 1;
  const encoding = {
    x,
    y,
    color: colour,
    ...(beside && { xOffset: { field: "name", sort: names } }),
  };
  const span = series.low && series.high;
  const ends = { ...encoding, y: { ...y, field: "low" }, y2: { field: "high" } };
  const line = { type: "line", ...(dashed && { strokeDash: [5, 4] }) };
  switch (kind) {
    case "line":
      return [
        ...(span ? [{ data, mark: { type: "area", opacity: 0.18 }, encoding: ends }] : []),
        { data, mark: line, encoding: { ...encoding, order: { field: "order" } } },
      ];
    case "dots":
      return [
        ...(span ? [{ data, mark: "rule", encoding: ends }] : []),
        { data, mark: { type: "point", filled: true, size: 40 }, encoding },
      ];
    case "bars":
      return [
        { data, mark: { type: "bar", opacity: 0.85 }, encoding },
        ...(span
          ? [{ data, mark: "rule", encoding: { ...ends, color: { value: "#000000" } } }]
          : []),
      ];
  }
}

/** One row a point; what an axis cannot show is left out. */
function rowsOf({ name = "", x, y, low, high }: Series, figure: Figure): Row[] {
  const rows: Row[] = [];
  for (let i = 0; i < x.length; i++) {
    const at = shown(x[i]!, figure.x);
    const value = shown(y[i]!, figure.y);
    if (at === undefined || value === undefined) continue;
    const row: Row = { x: at, y: value, name, order: i };
    if (low && high) {
      row.low = shown(low[i]!, figure.y) ?? value;
      row.high = shown(high[i]!, figure.y) ?? value;
    }
    rows.push(row);
  }
  return rows;
}

function shown(value: number | string, { scale }: Axis): number | string | undefined {
  if (typeof value === "string") return value;
  return Number.isFinite(value) && (scale !== "log" || value > 0) ? value : undefined;
}

function channel(
  { label, scale, threshold, ticks, categories, domain }: Axis,
  field: string,
  zero = false,
): Spec {
  if (categories)
    return { field, type: "nominal", title: label, sort: categories, axis: { labelAngle: -35 } };
  return {
    field,
    type: "quantitative",
    title: label,
    axis: {
      ...(scale && scale !== "linear" && { format: "~g", labelOverlap: true }),
      ...(ticks && { values: ticks }),
    },
    scale: {
      ...(scale && scale !== "linear" && { type: scale }),
      ...(scale === "symlog" && threshold !== undefined && { constant: threshold }),
      ...(domain && { domain, clamp: true }),
      ...(scale !== "log" && { zero }),
    },
  };
}

/** Room that a name takes along an axis. */
const NAME = 14;

function heatLayer({ values, rows, columns, label, domain }: Heat, figure: Figure): Spec {
  const { x, y, width = 460, height = 300 } = figure;
  const cells: Row[] = [];
  rows.forEach((row, i) => {
    columns.forEach((column, j) => {
      const value = values[i * columns.length + j]!;
      cells.push({
        row: String(row),
        column: String(column),
        value: Number.isFinite(value) ? value : null,
      });
    });
  });
  const [least, most] = domain ?? extent(values);
  const axis = (field: string, names: readonly (number | string)[], title: string) => ({
    field,
    type: "ordinal",
    title,
    sort: names.map(String),
    axis: {
      // Names that are turned take less room than the boxes around them.
      labelOverlap: names.length * NAME > (field === "column" ? width : height) ? "greedy" : false,
      ...(field === "column" && { labelAngle: -35 }),
    },
  });
  return {
    data: { values: cells },
    mark: "rect",
    encoding: {
      x: axis("column", columns, x.label),
      y: axis("row", rows, y.label),
      color: {
        field: "value",
        type: "quantitative",
        title: label,
        scale:
          least < 0 && most > 0
            ? { scheme: "blueorange", domainMid: 0, ...(domain && { domain }) }
            : { scheme: "viridis", ...(domain && { domain }) },
      },
    },
  };
}

function extent(values: Coordinates): [number, number] {
  const numbers = Array.from(values as ArrayLike<number>).filter(Number.isFinite);
  return [Math.min(...numbers), Math.max(...numbers)];
}
