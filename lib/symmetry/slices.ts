/**
 * Slices moved before the reshapes and transpositions that they read, as far as they can be: parts of
 * an axis that a reshape first makes an axis of, as query, key and value often are, are then apart.
 */
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import { regroup } from "./regroup";

/** The same network with its slices early. */
export function slicesFirst(graph: PrimitiveGraph): PrimitiveGraph {
  const nodes: PrimitiveNode[] = [];
  const known = new Map<string, number>();
  const emit = (node: PrimitiveNode): number => {
    const { values: _, ...rest } = node;
    const key = node.op === "Const" ? undefined : JSON.stringify(rest);
    const before = key === undefined ? undefined : known.get(key);
    if (before !== undefined) return before;
    const id = nodes.push(node) - 1;
    if (key !== undefined) known.set(key, id);
    return id;
  };
  const place: number[] = [];
  for (const node of graph.nodes) {
    const moved = { ...node, in: node.in.map((id) => place[id]!) };
    const rank = node.shape.length;
    const steps = node.ints.slice(rank);
    if (node.op === "Slice" && steps.every((step) => step === 1))
      place.push(slice(moved.in[0]!, node.ints.slice(0, rank), node.shape));
    else place.push(emit(moved));
  }

  /** A stretch of each axis of a value. */
  function slice(id: number, starts: readonly number[], sizes: readonly number[]): number {
    const node = nodes[id]!;
    if (node.shape.every((size, axis) => size === sizes[axis])) return id;
    const through = (next: readonly number[], shape: readonly number[]) =>
      emit({ ...node, in: [slice(node.in[0]!, next, shape)], shape: [...sizes] });
    if (node.op === "Spread" || node.op === "Barrier") return through(starts, sizes);
    if (node.op === "Permute") {
      const back = node.ints.map((_, axis) => node.ints.indexOf(axis));
      return through(
        back.map((axis) => starts[axis]!),
        back.map((axis) => sizes[axis]!),
      );
    }
    if (node.op === "Reshape") {
      const before = stretches(nodes[node.in[0]!]!.shape, node.shape, starts, sizes);
      if (before) return through(before.starts, before.sizes);
    }
    return emit({
      op: "Slice",
      type: node.type,
      shape: [...sizes],
      in: [id],
      ints: [...starts, ...starts.map(() => 1)],
      labels: "",
      number: 0,
    });
  }

  const output = place[graph.output]!;
  return { ...graph, nodes, output, logits: graph.logits < 0 ? -1 : place[graph.logits]! };
}

/** What stretches of the axes after a reshape are before it, if they are such. */
function stretches(
  from: readonly number[],
  to: readonly number[],
  starts: readonly number[],
  sizes: readonly number[],
): { starts: number[]; sizes: number[] } | undefined {
  const out = { starts: from.map(() => 0), sizes: [...from] };
  for (const [before, after] of regroup(from, to)) {
    const cut = after.filter((axis) => sizes[axis] !== to[axis]);
    if (cut.length === 0) continue;
    const wide = before.filter((axis) => from[axis]! > 1);
    const first = after.find((axis) => to[axis]! > 1);
    if (wide.length !== 1 || cut.length !== 1 || cut[0] !== first) return undefined;
    const inner = from[wide[0]!]! / to[first]!;
    out.starts[wide[0]!] = starts[first]! * inner;
    out.sizes[wide[0]!] = sizes[first]! * inner;
  }
  return out;
}
