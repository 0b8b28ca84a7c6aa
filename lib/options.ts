/** Options as callers give them, checked: every error names option, what was expected, what came. */
import { OptionError } from "./errors";

/** What an option must be. */
export interface Check {
  /** Reads after "expected". */
  expected: string;
  fits: (value: unknown) => boolean;
}

const whole = (value: unknown): value is number => Number.isSafeInteger(value);

/** The checks that options use. */
export const check = {
  positiveInteger: {
    expected: "a whole number of at least 1",
    fits: (value) => whole(value) && value >= 1,
  },
  naturalNumber: {
    expected: "a whole number of at least 0",
    fits: (value) => whole(value) && value >= 0,
  },
  notNegative: {
    expected: "a number of at least 0",
    fits: (value) => Number.isFinite(value) && (value as number) >= 0,
  },
  seed: {
    expected: "a whole number from 0 to 2^64 - 1",
    fits: (value) =>
      (whole(value) && value >= 0) ||
      (typeof value === "bigint" && value >= 0n && value < 1n << 64n),
  },
  boolean: { expected: "true or false", fits: (value) => typeof value === "boolean" },
  function: { expected: "a function", fits: (value) => typeof value === "function" },
  signal: {
    expected: "an AbortSignal",
    // Not instanceof, which fails for signals of another realm.
    fits: (value) =>
      typeof (value as AbortSignal)?.aborted === "boolean" &&
      typeof (value as AbortSignal).addEventListener === "function",
  },
  anything: { expected: "anything", fits: () => true },
  oneOf: (...values: readonly string[]): Check => ({
    expected: `one of ${values.map((value) => `"${value}"`).join(", ")}`,
    fits: (value) => values.includes(value as string),
  }),
} satisfies Record<string, Check | ((...values: string[]) => Check)>;

/** A value as messages show it. */
export function describe(value: unknown): string {
  if (typeof value === "string")
    return `"${value.length > 60 ? `${value.slice(0, 60)}...` : value}"`;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (ArrayBuffer.isView(value)) return `a ${typeName(value)} of ${lengthOf(value)} entries`;
  if (Array.isArray(value)) return `an array of ${value.length} entries`;
  if (typeof value === "object" && value !== null)
    return `an object of class ${value.constructor?.name ?? "Object"}`;
  return String(value);
}

function lengthOf(view: ArrayBufferView): number {
  return (view as Uint8Array).length ?? view.byteLength;
}

/** "Float32Array" for one of any realm, where instanceof fails. */
export function typeName(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

/** Edits that turn one name into the other, regardless of case. */
function distance(a: string, b: string): number {
  const [from, to] = [a.toLowerCase(), b.toLowerCase()];
  let row = Array.from({ length: to.length + 1 }, (_, j) => j);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1);
      next[j] = Math.min(replaced, row[j]! + 1, next[j - 1]! + 1);
    }
    row = next;
  }
  return row[to.length]!;
}

/** The known name that was probably meant. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((other) => ({ other, edits: distance(name, other) }))
    .sort((a, b) => a.edits - b.edits);
  return best && best.edits <= Math.max(1, name.length / 3) ? best.other : undefined;
}

/**
 * An object of options, checked against what they must be; those that are undefined count as
 * absent. A name that is not known is an error, as it most often is a slip.
 *
 * @param where stands before the option in messages
 * @throws OptionError
 */
export function checkOptions<T extends object>(
  where: string,
  given: T | undefined,
  table: { [K in keyof Required<T>]: Check },
): T {
  if (given === undefined) return {} as T;
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new OptionError(`${where}: expected an object of options, got ${describe(given)}`);
  const known = Object.keys(table);
  for (const [name, value] of Object.entries(given)) {
    const row = Object.hasOwn(table, name) ? table[name as keyof T] : undefined;
    if (!row) {
      const meant = nearest(name, known);
      throw new OptionError(
        `${where}: there is no option "${name}"${meant ? `; "${meant}" was probably meant` : ""}. ` +
          `Options are ${known.join(", ")}`,
      );
    }
    if (value !== undefined && !row.fits(value))
      throw new OptionError(`${where}: ${name}: expected ${row.expected}, got ${describe(value)}`);
  }
  return given;
}
