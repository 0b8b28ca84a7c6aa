/**
 * Rotations of a residual stream that only normalisations read: the norm that they divide by does not
 * change, and what reads the normalised stream turns back.
 */
import type { Parameter } from "../model/model";
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import { Atoms } from "./atoms";
import type { SparseVector, Subject, SymmetryInstance } from "./instances";
import type { Primals } from "./primals";
import { findScalings } from "./scalings";
import { add, backward, contract, leaf, map, multiply, reshape, sizeOf, type Value } from "./tape";
import { genericPrimals } from "./translations";

/** Where the stream lies in a parameter. */
interface TurnedPlace {
  readonly parameter: number;
  readonly axis: number;
  /** 1 of what is added to the stream or shifts it, -1 of what reads it. */
  readonly side: 1 | -1;
  /** The parameter that the normalised stream is multiplied by before. */
  readonly gain: number | undefined;
}

export interface Rotation {
  readonly width: number;
  /** Whether a mean is subtracted: rotations then keep the vector of ones. */
  readonly centred: boolean;
  readonly places: readonly TurnedPlace[];
}

/** The parameter that a value is a view of along its last axes. */
function parameterOf({ nodes }: PrimitiveGraph, primals: Primals, id: number): number | undefined {
  const { op, ints, in: operands } = nodes[id]!;
  if (op === "Param") return primals.isParameter(ints[0]!) ? ints[0] : undefined;
  return ["Spread", "Barrier", "Reshape"].includes(op)
    ? parameterOf({ nodes } as PrimitiveGraph, primals, operands[0]!)
    : undefined;
}

/** What x is the normalised form of: Mul(x or x - mean, 1 / sqrt(mean square + epsilon)). */
function normalised(
  { nodes }: PrimitiveGraph,
  node: PrimitiveNode,
): { from: number; centred: boolean; axis: number } | undefined {
  if (node.op !== "Mul") return undefined;
  const [a, b] = node.in as [number, number];
  for (const [x, r] of [
    [a, b],
    [b, a],
  ] as const) {
    const recip = nodes[r]!;
    const root = recip.op === "Recip" ? nodes[recip.in[0]!]! : undefined;
    const shifted = root?.op === "Sqrt" ? nodes[root.in[0]!]! : undefined;
    if (shifted?.op !== "Add") continue;
    for (const mean of shifted.in) {
      const { op, in: factors } = nodes[mean]!;
      const sum =
        op === "Mul" ? factors.map((id) => nodes[id]!).find((n) => n.op === "Sum") : undefined;
      if (sum?.ints.length !== 1) continue;
      const square = nodes[sum.in[0]!]!;
      if (square.op !== "Mul" || square.in[0] !== x || square.in[1] !== x) continue;
      const axis = sum.ints[0]!;
      const inner = nodes[x]!;
      const average = inner.op === "Sub" ? nodes[inner.in[1]!]! : undefined;
      const total = average?.in.map((id) => nodes[id]!).find((n) => n.op === "Sum");
      const subtracts = total?.in[0] === inner.in[0] && total?.ints.join() === `${axis}`;
      return subtracts
        ? { from: inner.in[0]!, centred: true, axis }
        : { from: x, centred: false, axis };
    }
  }
  return undefined;
}

/** Rotations of every index that normalisations alone look at. */
export function findRotations(graph: PrimitiveGraph): Rotation[] {
  const primals = genericPrimals(graph);
  // The same network without normalisations and their gains: rotations are matrices there.
  const nodes = graph.nodes.map((node) => ({ ...node }));
  const gains = new Map<number, number | undefined>();
  const kinds = new Map<number, boolean>();
  nodes.forEach((node, id) => {
    const found = normalised(graph, graph.nodes[id]!);
    if (found && node.shape.length - 1 === found.axis) {
      gains.set(id, undefined);
      kinds.set(id, found.centred);
      nodes[id] = { ...node, op: "Spread", in: [found.from] };
      return;
    }
    for (const [x, y] of [node.in, [...node.in].reverse()] as [number, number][]) {
      if (!gains.has(x) || !["Mul", "Add", "Reshape", "Spread"].includes(node.op)) continue;
      const parameter = y === undefined ? undefined : parameterOf(graph, primals, y);
      if (node.op === "Mul" && gains.get(x) === undefined && parameter !== undefined) {
        gains.set(id, parameter);
        kinds.set(id, kinds.get(x)!);
        nodes[id] = { ...node, op: "Spread", in: [x] };
        return;
      }
      if (node.op === "Add" && parameter === undefined) continue;
      if (node.op === "Mul" && primals.splat(y) === undefined) continue;
      gains.set(id, gains.get(x));
      kinds.set(id, kinds.get(x)!);
      return;
    }
    // Means over positions and the like keep the gain.
    const [x] = node.in;
    if (["Sum", "Reshape", "Spread", "Slice", "Permute"].includes(node.op) && gains.has(x!)) {
      gains.set(id, gains.get(x!));
      kinds.set(id, kinds.get(x!)!);
    }
  });
  if (gains.size === 0) return [];
  const plain = reachable({ ...graph, nodes });
  const found: Rotation[] = [];
  for (const { kind, units, contexts, places } of findScalings(
    plain,
    new Atoms(plain),
    genericPrimals(plain),
    undefined,
  )) {
    if (kind !== "matrix" || contexts !== 1) continue;
    const turned: TurnedPlace[] = [];
    let centred: boolean | undefined;
    let fits = true;
    for (const { parameter, degree, units: steps, base, rest } of places) {
      const { shape } = graph.nodes.find(
        ({ op, ints }) => op === "Param" && ints[0] === parameter,
      )!;
      const stride = steps[1]! - steps[0]!;
      const axis = shape.findIndex(
        (size, at) => size === units && stride === sizeOf(shape.slice(at + 1)),
      );
      if (axis < 0 || base !== 0 || rest.length * units !== sizeOf(shape)) fits = false;
      const readers = graph.nodes.filter(({ in: operands }) =>
        operands.some((each) => views(graph, each) === parameter),
      );
      const norms = readers.flatMap(({ in: operands }) => operands.filter((id) => gains.has(id)));
      const gain = norms.length > 0 ? gains.get(norms[0]!) : undefined;
      if (norms.some((each) => gains.get(each) !== gain)) fits = false;
      for (const each of norms) centred = centred || kinds.get(each);
      turned.push({ parameter, axis, side: degree > 0 ? 1 : -1, gain });
    }
    if (fits && centred !== undefined && units > 2)
      found.push({ width: units, centred, places: turned });
  }
  return found;
}

/** The parameter behind transpositions too. */
function views({ nodes }: PrimitiveGraph, id: number): number | undefined {
  const { op, ints, in: operands } = nodes[id]!;
  if (op === "Param") return ints[0];
  return ["Spread", "Barrier", "Reshape", "Permute"].includes(op)
    ? views({ nodes } as PrimitiveGraph, operands[0]!)
    : undefined;
}

/** Only what the output needs. */
function reachable(graph: PrimitiveGraph): PrimitiveGraph {
  const needed = new Set<number>([graph.output]);
  for (let id = graph.nodes.length - 1; id >= 0; id--)
    if (needed.has(id)) for (const each of graph.nodes[id]!.in) needed.add(each);
  const place = new Map<number, number>();
  const nodes: PrimitiveNode[] = [];
  graph.nodes.forEach((node, id) => {
    if (!needed.has(id)) return;
    place.set(id, nodes.length);
    nodes.push({ ...node, in: node.in.map((each) => place.get(each)!) });
  });
  return { ...graph, nodes, output: place.get(graph.output)!, logits: -1 };
}

/** Orthonormal rows that are orthogonal to the vector of ones (Helmert), or all unit vectors. */
function frame(width: number, centred: boolean): Float64Array[] {
  return Array.from({ length: centred ? width - 1 : width }, (_, k) => {
    const row = new Float64Array(width);
    if (!centred) row[k] = 1;
    else {
      const size = Math.sqrt((k + 1) * (k + 2));
      row.fill(1 / size, 0, k + 1);
      row[k + 1] = -(k + 1) / size;
    }
    return row;
  });
}

/** The rotations of one stream. */
export class RotationInstance implements SymmetryInstance {
  readonly family = "stream-rotation";
  readonly units = 1;
  readonly copies = 1;
  readonly flips = 0;
  readonly approximate = undefined;
  readonly conserved = "";
  readonly dimension: number;
  readonly tensors: readonly { name: string; degree: number }[];
  readonly #frame: Float64Array[];

  constructor(
    readonly subject: Subject,
    readonly rotation: Rotation,
  ) {
    this.#frame = frame(rotation.width, rotation.centred);
    const n = this.#frame.length;
    this.dimension = (n * (n - 1)) / 2;
    this.tensors = rotation.places.map(({ parameter, side }) => ({
      name: subject.parameters[parameter]!.name,
      degree: side,
    }));
  }

  get name(): string {
    return this.tensors[0]!.name;
  }

  /** The antisymmetric matrix of the coefficients. */
  #matrix(coefficients: ArrayLike<number>): Float64Array {
    const { width } = this.rotation;
    const out = new Float64Array(width * width);
    const rows = this.#frame;
    let at = 0;
    for (let p = 0; p < rows.length; p++)
      for (let q = p + 1; q < rows.length; q++) {
        const c = coefficients[at++]!;
        if (c === 0) continue;
        for (let i = 0; i < width; i++)
          for (let j = 0; j < width; j++)
            out[i * width + j]! += c * (rows[p]![i]! * rows[q]![j]! - rows[q]![i]! * rows[p]![j]!);
      }
    return out;
  }

  #changes(theta: Float64Array, coefficients: ArrayLike<number>) {
    const { width, places } = this.rotation;
    const A = leaf([width, width], this.#matrix(coefficients));
    const leaves = new Map<number, Value>();
    const at = (index: number) => {
      const { offset, size, shape } = this.subject.parameters[index] as Parameter;
      if (!leaves.has(index)) leaves.set(index, leaf(shape, theta.subarray(offset, offset + size)));
      return leaves.get(index)!;
    };
    const changes = new Map<number, Value>();
    for (const { parameter, axis, side, gain } of places) {
      let M: Value = A;
      if (gain !== undefined) {
        const inverse = map(
          at(gain),
          (x) => 1 / x,
          (x) => -1 / (x * x),
        );
        M = multiply(multiply(A, reshape(at(gain), [width, 1])), reshape(inverse, [1, width]));
      }
      const value = at(parameter);
      const names = value.shape.map((_, i) => String.fromCharCode(97 + i));
      const from = names.map((name, i) => (i === axis ? "z" : name)).join("");
      const to = names.map((name, i) => (i === axis ? "y" : name)).join("");
      // M x for what is added, -M^T x for what reads.
      const turned = contract(value, M, `${from},${side > 0 ? "yz" : "zy"}->${to}`);
      const change =
        side > 0
          ? turned
          : map(
              turned,
              (x) => -x,
              () => -1,
            );
      const before = changes.get(parameter);
      changes.set(parameter, before ? add(before, change) : change);
    }
    return { changes, leaves };
  }

  generator(parameters: Float64Array, coefficients: ArrayLike<number>): Float64Array {
    const out = new Float64Array(this.subject.parameterCount);
    for (const [index, { data }] of this.#changes(parameters, coefficients).changes)
      out.set(data, this.subject.parameters[index]!.offset);
    return out;
  }

  *generators(parameters: Float64Array): Iterable<SparseVector> {
    for (let i = 0; i < this.dimension; i++) {
      const unit = new Float64Array(this.dimension);
      unit[i] = 1;
      const [indices, values]: [number[], number[]] = [[], []];
      for (const [index, { data }] of this.#changes(parameters, unit).changes)
        data.forEach((x, at) => {
          if (x === 0) return;
          indices.push(this.subject.parameters[index]!.offset + at);
          values.push(x);
        });
      yield { indices: Int32Array.from(indices), values: Float64Array.from(values) };
    }
  }

  response(
    parameters: Float64Array,
    coefficients: ArrayLike<number>,
    gradient: Float64Array,
  ): Float64Array {
    const out = new Float64Array(this.subject.parameterCount);
    const { changes, leaves } = this.#changes(parameters, coefficients);
    backward(
      [...changes.values()],
      [...changes.keys()].map((index) => {
        const { offset, size } = this.subject.parameters[index]!;
        return gradient.subarray(offset, offset + size);
      }),
    );
    for (const [index, value] of leaves)
      if (value.gradient) out.set(value.gradient, this.subject.parameters[index]!.offset);
    return out;
  }

  charges(): Float64Array {
    return new Float64Array(0);
  }

  flipped(parameters: Float64Array): Float64Array {
    return parameters.slice();
  }
}
