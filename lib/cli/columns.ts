/** Tables whose columns are said once, for people and as CSV. */
import { type Cell, print, table } from "./output";

/** What a column is called, its value, and how people see it. */
export type Column<Row> = readonly [
  name: string,
  value: (row: Row) => number | string | undefined,
  shown: (value: never) => string,
];
export type Columns<Row> = readonly Column<Row>[];

/** Rows beyond that are left out on a terminal, evenly. */
const MOST_ROWS = 24;

/** Prints a table; of many rows a part, with both ends. */
export function printRows<Row>(
  columns: Columns<Row>,
  rows: readonly Row[],
  most = MOST_ROWS,
): void {
  const shown =
    rows.length <= most
      ? rows
      : Array.from(
          { length: most },
          (_, i) => rows[Math.round((i * (rows.length - 1)) / (most - 1))]!,
        );
  const lines = table(
    columns.map(([name]) => name),
    shown.map((row) => columns.map(([, value, text]): Cell => text(value(row) as never))),
  );
  for (const line of lines) print(line);
  if (shown.length < rows.length)
    print(`and ${rows.length - shown.length} between them: --json and --out have all`);
}

/** All rows, as CSV; what is not defined is empty. */
export function csvOf<Row>(columns: Columns<Row>, rows: readonly Row[]): string {
  const defined = (value: number | string | undefined) =>
    value === undefined || Number.isNaN(value) ? "" : value;
  return csvText([
    columns.map(([name]) => name),
    ...rows.map((row) => columns.map(([, value]) => defined(value(row)))),
  ]);
}

/** Cells as CSV; texts with commas, quotes or spaces in them are quoted. */
export function csvText(rows: readonly (readonly (number | string)[])[]): string {
  const cell = (value: number | string) =>
    typeof value === "string" && /[",\s]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  return `${rows.map((row) => row.map(cell).join(",")).join("\n")}\n`;
}
