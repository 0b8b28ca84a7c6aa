/** Names and what they are, a line each. */
import { print } from "./output";

export function printPairs(rows: readonly (readonly [name: string, text: string])[]): void {
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  for (const [name, text] of rows) print(`${name.padEnd(width)}${text}`);
}
