/** The networks of test/fixtures/graphs, and groups as lines of text. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { DataSet, Model, PermutationGroup, UnitPlace } from "../../lib";
import { loadData } from "../../lib/data/data";
import { loadModel } from "../../lib/model/model";
import { normals } from "./numbers";

const ROOT = join(__dirname, "..", "fixtures", "graphs");

export const graphNames = readdirSync(ROOT)
  .filter((name) => name.endsWith(".onnx"))
  .map((name) => name.slice(0, -".onnx".length))
  .sort();

/** A network with four random samples. */
export async function openGraph(name: string): Promise<{ model: Model; data: DataSet }> {
  const model = await loadModel(join(ROOT, `${name}.onnx`));
  return { model, data: await samplesFor(model) };
}

export async function samplesFor(model: Model, count = 4): Promise<DataSet> {
  const [input] = model.inputs;
  const shape = [count, ...input!.shape!.slice(1).map(Number)];
  const data = normals(
    1,
    shape.reduce((a, b) => a * b, 1),
  );
  return loadData({ [input!.name]: { data, shape } });
}

/** tensor@axis side start:outer:inner, with what else there is. */
function placeText({ tensor, axis, side, start, outer, inner, where, positions }: UnitPlace) {
  const at = positions
    ? positions.map((each) => each.join("+")).join(" ")
    : [start, outer, inner].join(":");
  const only = where?.map((each) => ` where ${each.axis} = ${each.positions.join(" ")}`) ?? [];
  return `${tensor}@${axis} ${side} ${at}${only.join("")}`;
}

/** "name size" and its places, one a line. */
export function groupText({ name, size, places }: PermutationGroup): string {
  return [`${name} ${size}`, ...places.map((place) => `  ${placeText(place)}`)].join("\n");
}
