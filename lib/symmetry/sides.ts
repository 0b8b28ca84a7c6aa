/** Whether an axis of a parameter makes units or reads them. */
import type { AxisMap, Relations } from "./primitives";

const MAKES = 1;
const READS = 2;

/** Axes of x and of y that a map brings together. */
const ends = (map: AxisMap): [number[], number[]] => [[map.x].flat(), [map.y].flat()];

/**
 * Of each value that depends on parameters alone, by axis: whether it makes units of what it meets
 * ("in"), is summed over with them ("out"), or both.
 */
export class Sides {
  readonly #uses: Uint8Array[];

  constructor({ shapes, links, onData }: Relations) {
    this.#uses = shapes.map(({ length }) => new Uint8Array(length));
    const uses = this.#uses;
    for (const { x, y, maps, result, contracted } of [...links].reverse()) {
      if (!result) {
        for (const map of contracted ?? []) {
          const [left, right] = ends(map);
          if (!onData[x]) this.#contract(x, left, onData[y]!);
          if (!onData[y]) this.#contract(y, right, onData[x]!);
        }
        continue;
      }
      const [from, to] = result === "y" ? [x, y] : [y, x];
      if (onData[from]) continue;
      for (const map of maps) {
        const [left, right] = ends(map);
        const [source, target] = result === "y" ? [left, right] : [right, left];
        const use = onData[to] ? MAKES : target.reduce((all, axis) => all | uses[to]![axis]!, 0);
        for (const axis of source) uses[from]![axis]! |= use;
      }
    }
  }

  /**
   * Of two weights that are multiplied, B A: what reads the result's rows lies before the units
   * between the two, what makes them after.
   */
  #contract(value: number, axes: readonly number[], withData: boolean): void {
    const uses = this.#uses[value]!;
    const others = uses.reduce((all, use, axis) => (axes.includes(axis) ? all : all | use), 0);
    const turned = (others & MAKES ? READS : 0) | (others & READS ? MAKES : 0);
    for (const axis of axes) uses[axis]! |= withData ? READS : turned;
  }

  of(value: number, axis: number): "in" | "out" | "both" {
    const use = this.#uses[value]![axis];
    return use === (MAKES | READS) ? "both" : use === READS ? "out" : "in";
  }
}
