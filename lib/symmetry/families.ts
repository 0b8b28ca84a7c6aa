/** The families of continuous symmetries and sign flips, one row a family. */
import type { PrimitiveGraph } from "../native";
import type { Scaling } from "./scalings";
import type { Translation } from "./translations";

export type FamilyName =
  | "rescaling"
  | "scale-invariance"
  | "linear-gauge"
  | "stream-rotation"
  | "batchnorm-gauge"
  | "softmax-translation"
  | "normalisation-translation"
  | "key-bias"
  | "normalised-direction"
  | "linear-path-bias"
  | "duplicated-bias"
  | "unused"
  | "sign-flip";

/** What was found in the graph, before it has a name. */
export type Found =
  | { readonly scaling: Scaling; readonly translation?: undefined }
  | { readonly translation: Translation; readonly scaling?: undefined };

interface FamilyRow {
  readonly name: FamilyName;
  /** What may be done to the parameters. */
  readonly summary: string;
  /** Whether what was found is of this family; the first row that says so has it. */
  readonly is: (found: Found, graph: PrimitiveGraph) => boolean;
}

/** Whether one of the softmaxes that a change died in is that of the output. */
function inLastSoftmax({ outcome }: Translation, graph: PrimitiveGraph): boolean {
  if (outcome.output) return true;
  const { logits, nodes } = graph;
  return logits >= 0 && outcome.softmax.some((id) => leadsTo(nodes, nodes[id]!.in[0]!, logits));
}

/** Views of one value. */
function leadsTo(nodes: PrimitiveGraph["nodes"], from: number, to: number): boolean {
  if (from === to) return true;
  const { op, in: operands } = nodes[from]!;
  return ["Reshape", "Permute", "Spread"].includes(op) && leadsTo(nodes, operands[0]!, to);
}

const scales = (found: Found, kind: Scaling["kind"]) => found.scaling?.kind === kind;
const absorbed = ({ translation }: Found) => (translation?.outcome.absorbed.length ?? 0) > 0;

export const FAMILIES: readonly FamilyRow[] = [
  {
    name: "linear-gauge",
    summary: "an invertible matrix after one linear map, its inverse before the next",
    is: (found) => scales(found, "matrix"),
  },
  {
    name: "stream-rotation",
    summary: "a residual stream that only normalisations read turned, and what reads them back",
    is: () => false, // Found on their own: see rotations.ts.
  },
  {
    name: "sign-flip",
    summary: "the sign of a unit with an odd activation, discrete",
    is: (found) => scales(found, "sign"),
  },
  {
    name: "batchnorm-gauge",
    summary: "weights or a bias before stored statistics, against scale and shift after them",
    is: ({ scaling, translation }) =>
      scaling
        ? scaling.defects.length > 0
        : translation.outcome.absorbed.length > 0 &&
          translation.outcome.scaled &&
          !translation.outcome.mixed,
  },
  {
    name: "scale-invariance",
    summary: "weights before a normalisation by a factor",
    is: ({ scaling }) => scaling?.places.every(({ degree }) => degree > 0) === true,
  },
  {
    name: "rescaling",
    summary: "what makes a unit by a factor, what reads it by its inverse",
    is: ({ scaling }) => scaling !== undefined,
  },
  {
    name: "normalised-direction",
    summary: "weights along the mean that a normalisation has taken from what they read",
    is: ({ translation }) => translation?.pattern.reader !== undefined,
  },
  {
    name: "linear-path-bias",
    summary: "a bias or shift against the bias of the linear map after it",
    is: (found) => absorbed(found) && found.translation!.outcome.mixed,
  },
  {
    name: "duplicated-bias",
    summary: "two biases that are added to one value",
    is: absorbed,
  },
  {
    name: "softmax-translation",
    summary: "the same number added to all classes",
    is: ({ translation }, graph) => translation !== undefined && inLastSoftmax(translation, graph),
  },
  {
    name: "key-bias",
    summary: "what is the same for all keys of attention",
    is: ({ translation }) => (translation?.outcome.softmax.length ?? 0) > 0,
  },
  {
    name: "normalisation-translation",
    summary: "what a normalisation subtracts with the mean",
    is: ({ translation }) => (translation?.outcome.cancelled.length ?? 0) > 0,
  },
  {
    name: "unused",
    summary: "entries that the output does not depend on",
    is: () => true,
  },
];

/** The family of what was found. */
export function familyOf(found: Found, graph: PrimitiveGraph): FamilyName {
  return FAMILIES.find((row) => row.is(found, graph))!.name;
}
