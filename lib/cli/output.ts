/** What commands print: tables, one JSON document, errors, the progress line. */
import type { Progress } from "../call";
import { EigenscopeError, exitCodeOf } from "../errors";

/** The one JSON document of a command. Typed arrays become arrays, and NaN null. */
export function printJson(document: object): void {
  process.stdout.write(`${toJson(document)}\n`);
}

/** The same as text. */
export function toJson(document: object): string {
  return JSON.stringify(document, plain);
}

function plain(_key: string, value: unknown): unknown {
  // Whole numbers that JSON's readers would round are text.
  if (typeof value === "bigint")
    return BigInt.asIntN(53, value) === value ? Number(value) : String(value);
  return ArrayBuffer.isView(value) ? Array.from(value as Float64Array) : value;
}

export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

export function warn(warnings: Iterable<string>): void {
  for (const warning of new Set(warnings)) process.stderr.write(`warning: ${warning}\n`);
}

/** On standard error, whatever the command: a sentence, or with --json one line of JSON. */
export function printError(error: unknown, json: boolean): void {
  const { name, message, stack } = error as Error;
  const exitCode = exitCodeOf(error);
  if (json) {
    const code = error instanceof EigenscopeError ? error.code : "ERR_INTERNAL";
    process.stderr.write(`${JSON.stringify({ error: { name, code, message, exitCode } })}\n`);
    return;
  }
  process.stderr.write(`eigenscope: ${name}: ${message}\n`);
  // A defect of ours: what helps to find it.
  if (exitCode === 1 && stack) process.stderr.write(`${stack.split("\n").slice(1).join("\n")}\n`);
}

export type Cell = string | number;

const NUMERIC = /^(-|-?[\d,.]+(e[+-]?\d+)?( %)?)$/;

/** Columns aligned on the right where all cells are numbers, else on the left. */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string[] {
  const right = head.map((_, column) => rows.every((row) => NUMERIC.test(String(row[column]))));
  const lines = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...lines.map((row) => row[column]!.length)));
  return lines.map((row) =>
    row
      .map((cell, column) =>
        right[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join("  ")
      .trimEnd(),
  );
}

/** Six significant digits, as in 0.00123457 or 1.23457e-9. */
export function short(value: number): string {
  return value.toPrecision(6);
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function size(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let amount = value;
  while (amount >= 1000 && unit < units.length - 1) {
    amount /= 1000;
    unit++;
  }
  return `${unit === 0 ? amount : amount.toPrecision(3)} ${units[unit]}`;
}

export function duration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

/** Where a progress line goes. */
export interface Terminal {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

/** One line on a terminal that is written over; nothing where the stream is no terminal. */
export class ProgressLine {
  readonly #what: string;
  readonly #tol: number;
  readonly #terminal: Terminal;
  #first: { seconds: number; residual: number } | undefined;
  #written = false;

  /** @param tol the residual at which the call ends, for the time that is left */
  constructor(what: string, tol = 0, terminal: Terminal = process.stderr) {
    this.#what = what;
    this.#tol = tol;
    this.#terminal = terminal;
  }

  readonly onProgress = (progress: Progress): void => {
    if (this.#terminal.isTTY !== true) return;
    const parts = [`${this.#what}: ${count(progress.products)} products`];
    if (progress.residual !== undefined)
      parts.push(`residual ${progress.residual.toExponential(1)}`);
    else if (progress.fraction !== undefined)
      parts.push(`${Math.round(100 * progress.fraction)} %`);
    parts.push(duration(progress.seconds));
    const left = this.#left(progress);
    if (left !== undefined) parts.push(`about ${duration(left)} left`);
    this.show(parts);
  };

  /** Writes the line over, on a terminal. */
  show(parts: readonly string[]): void {
    if (this.#terminal.isTTY !== true) return;
    const width = (this.#terminal.columns || 80) - 1;
    this.#terminal.write(`\r\x1b[K${parts.join(", ").slice(0, width)}`);
    this.#written = true;
  }

  /** From the share done, or from the pace at which the residual falls. */
  #left({ seconds, residual, fraction }: Progress): number | undefined {
    if (residual === undefined)
      return fraction !== undefined && fraction > 0.05
        ? (seconds * (1 - fraction)) / fraction
        : undefined;
    this.#first ??= { seconds, residual };
    const fallen = Math.log(this.#first.residual / residual);
    if (!(fallen > 0.5) || this.#tol <= 0 || residual <= 0) return undefined;
    const pace = (seconds - this.#first.seconds) / fallen;
    return Math.max(0, Math.log(residual / this.#tol)) * pace;
  }

  /** Clears the line. */
  end(): void {
    if (this.#written) this.#terminal.write("\r\x1b[K");
    this.#written = false;
  }
}
