/** Figures as values: what is shown, not how it is drawn. `figureToSvg` draws them. */

export interface Axis {
  readonly label: string;
  readonly scale?: "linear" | "log" | "symlog" | undefined;
  /** Of a symmetric logarithm: within plus and minus this it is linear. Default 1. */
  readonly threshold?: number | undefined;
  /** Where marks are; default: chosen. */
  readonly ticks?: readonly number[] | undefined;
  /** Categories, in order, where the axis has names instead of numbers. */
  readonly categories?: readonly string[] | undefined;
  readonly domain?: readonly [number, number] | undefined;
}

/** Numbers, or names where the axis has categories. */
export type Coordinates = readonly (number | string)[] | Float64Array;

/** One series: all arrays have the same length. */
export interface Series {
  readonly kind: "line" | "dots" | "bars";
  /** In the legend; series of one name share a colour. */
  readonly name?: string | undefined;
  readonly x: Coordinates;
  readonly y: Coordinates;
  /** A band around a line, whiskers on dots and bars. */
  readonly low?: Coordinates | undefined;
  readonly high?: Coordinates | undefined;
  readonly dashed?: boolean | undefined;
}

/** A matrix in colours: values[i * columns + j] at row i, column j. */
export interface Heat {
  readonly kind: "heat";
  readonly values: Coordinates;
  readonly rows: readonly (number | string)[];
  readonly columns: readonly (number | string)[];
  readonly label: string;
  /** Ends of the colour scale; a diverging one where they have opposite signs. */
  readonly domain?: readonly [number, number] | undefined;
}

export interface Figure {
  readonly title: string;
  /** A line below the title: what, on which data, how many seeds. */
  readonly caption?: string | undefined;
  readonly x: Axis;
  readonly y: Axis;
  readonly marks: readonly (Series | Heat)[];
  readonly width?: number | undefined;
  readonly height?: number | undefined;
}
