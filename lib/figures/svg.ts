/** Figures as pictures. */
import type { Figure } from "./figure";
import { figureToVega } from "./vega";

/**
 * Draws a figure as SVG. Vega is loaded at the first call.
 *
 * ```ts
 * await writeFile("spectrum.svg", await figureToSvg(figure));
 * ```
 */
export async function figureToSvg(figure: Figure): Promise<string> {
  const [vega, { compile }] = await Promise.all([import("vega"), import("vega-lite")]);
  const spec = compile(figureToVega(figure) as never).spec;
  const view = new vega.View(vega.parse(spec), { renderer: "none" });
  try {
    return `${await view.toSVG()}\n`;
  } finally {
    view.finalize();
  }
}
