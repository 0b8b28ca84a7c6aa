/** eigenscope subnetworks: curvature of sub-networks, symmetry breaking of layers, and their link. */
import { OptionError } from "../errors";
import { nearest } from "../options";
import { analyse, type Findings } from "./analysis";
import type { Globals } from "./arguments";
import { print } from "./output";
import { PARTS, type PartName, type SubnetworksArguments } from "./subnetworks-parts";

const NAMES = Object.keys(PARTS) as PartName[];

/** Those that were asked for; by default all, the course only with checkpoints. */
function partsOf({ parts, checkpoints }: SubnetworksArguments): PartName[] {
  for (const name of parts ?? [])
    if (!NAMES.includes(name as PartName)) {
      const meant = nearest(name, NAMES);
      throw new OptionError(
        `--parts: expected some of ${NAMES.join(", ")}, got "${name}"` +
          (meant ? `; "${meant}" was probably meant` : ""),
      );
    }
  return NAMES.filter((name) =>
    parts ? parts.includes(name) : name !== "course" || checkpoints !== undefined,
  );
}

export function run(file: string, given: SubnetworksArguments, globals: Globals): Promise<number> {
  const args = { ...given, operator: given.operator ?? ("ggn" as const) };
  const names = partsOf(args);
  return analyse("subnetworks", file, args, globals, async (subject, call) => {
    const found: [PartName, Findings][] = [];
    for (const name of names)
      found.push([name, await PARTS[name]({ ...subject, file, args, call })]);
    const all = found.map(([, findings]) => findings);
    const reasons = all.flatMap(({ notConverged }) => notConverged ?? []);
    return {
      json: Object.fromEntries(found.map(([name, { json }]) => [name, json])),
      human: () =>
        all.forEach(({ human }, i) => {
          if (i > 0) print();
          human();
        }),
      files: Object.assign({}, ...all.map(({ files }) => files)),
      figures: Object.assign({}, ...all.map(({ figures }) => figures)),
      products: all.reduce((sum, { products = 0 }) => sum + products, 0) || undefined,
      warnings: all.flatMap(({ warnings }) => warnings ?? []),
      ...(reasons.length > 0 && { notConverged: reasons.join("; ") }),
    };
  });
}
