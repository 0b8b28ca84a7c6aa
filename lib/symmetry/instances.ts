/** One continuous symmetry with its generators, or one index of sign flips. */
import type { Parameter } from "../model/model";
import type { PrimitiveGraph } from "../native";
import type { FamilyName } from "./families";
import { follow, type Outcome } from "./follow";
import { Primals } from "./primals";
import { type ScaledPlace, type Scaling, shifted } from "./scalings";
import { backward, expand, leaf, type Value } from "./tape";
import { spreadPattern, type Translation } from "./translations";

/** Entries of a vector over all parameters, which add up where an index repeats; the others are 0. */
export interface SparseVector {
  readonly indices: Int32Array;
  readonly values: Float64Array;
}

/** Where a symmetry is, what it moves, and what it conserves. */
export interface SymmetryInstance {
  readonly family: FamilyName;
  /** Its first tensor, or the part of it. */
  readonly name: string;
  /** The tensors that take part, with the power to which they scale, or 0 where they are shifted. */
  readonly tensors: readonly { readonly name: string; readonly degree: number }[];
  /** Units, such as neurons or channels, in each of `copies`, such as heads; 1 of whole tensors. */
  readonly units: number;
  readonly copies: number;
  /** Of its generators; 0 of sign flips. */
  readonly dimension: number;
  /** Units whose sign may be flipped, each on its own. */
  readonly flips: number;
  /** Why it holds only approximately; undefined where it is exact. */
  readonly approximate: string | undefined;
  /**
   * The generators' combination at a place: all parameters' numbers.
   *
   * @param parameters all parameters of the model
   * @param coefficients `dimension` numbers
   */
  generator(parameters: Float64Array, coefficients: ArrayLike<number>): Float64Array;
  /** The single generators. */
  generators(parameters: Float64Array): Iterable<SparseVector>;
  /**
   * (dv/dtheta)^T gradient for the same combination v, so that H v + this = 0 where the loss is
   * invariant.
   */
  response(
    parameters: Float64Array,
    coefficients: ArrayLike<number>,
    gradient: Float64Array,
  ): Float64Array;
  /** What gradient flow conserves, in words; "" where it conserves nothing of this family. */
  readonly conserved: string;
  /** The conserved quantities at a place; empty where there are none. */
  charges(parameters: Float64Array): Float64Array;
  /** The parameters with the signs of some units flipped, of sign flips only. */
  flipped(parameters: Float64Array, units: (unit: number) => boolean): Float64Array;
}

/** What instances are made of. */
export interface Subject {
  readonly graph: PrimitiveGraph;
  readonly parameters: readonly Parameter[];
  readonly parameterCount: number;
  readonly classAxis: number | undefined;
}

/** The graph's values at a place. */
function primalsAt({ graph, parameters }: Subject, theta: Float64Array): Primals {
  return new Primals(graph, (index) => {
    const { offset, size } = parameters[index]!;
    return theta.subarray(offset, offset + size);
  });
}

/** Adds changes of tensors to a vector of all parameters. */
function scatter(subject: Subject, changes: ReadonlyMap<number, Value>, into: Float64Array): void {
  for (const [index, value] of changes) {
    const { offset, shape } = subject.parameters[index]!;
    expand(value, shape).data.forEach((x, i) => {
      into[offset + i]! += x;
    });
  }
}

/** Adds <gradient, changes> by every parameter that the changes were computed from. */
function pullBack(
  subject: Subject,
  primals: Primals,
  changes: ReadonlyMap<number, Value>,
  gradient: Float64Array,
  into: Float64Array,
): void {
  const values = [...changes].map(([index, value]) =>
    expand(value, subject.parameters[index]!.shape),
  );
  const seeds = [...changes.keys()].map((index) => {
    const { offset, size } = subject.parameters[index]!;
    return gradient.subarray(offset, offset + size);
  });
  for (const [, value] of primals.leaves) value.gradient = undefined;
  backward(values, seeds);
  for (const [index, value] of primals.leaves) {
    const { offset } = subject.parameters[index]!;
    value.gradient?.forEach((x, i) => {
      into[offset + i]! += x;
    });
  }
}

/** Entries of the changed tensors that are not zero, after others. */
function sparseOf(
  subject: Subject,
  changes: ReadonlyMap<number, Value>,
  { indices, values }: { indices: number[]; values: number[] } = { indices: [], values: [] },
): SparseVector {
  for (const [index, value] of changes) {
    const { offset, shape } = subject.parameters[index]!;
    expand(value, shape).data.forEach((x, i) => {
      if (x === 0) return;
      indices.push(offset + i);
      values.push(x);
    });
  }
  return { indices: Int32Array.from(indices), values: Float64Array.from(values) };
}

const unitVector = (length: number, at: number) => {
  const vector = new Float64Array(length);
  vector[at] = 1;
  return vector;
};

abstract class Instance {
  readonly flips: number = 0;

  constructor(
    readonly subject: Subject,
    readonly family: FamilyName,
  ) {}

  flipped(parameters: Float64Array, _: (unit: number) => boolean): Float64Array {
    return parameters.slice();
  }
}

/** Scalings of units or of whole tensors, by numbers, matrices or signs. */
export class ScalingInstance extends Instance implements SymmetryInstance {
  readonly dimension: number;
  readonly units: number;
  readonly copies: number;
  readonly tensors: readonly { name: string; degree: number }[];
  readonly approximate: string | undefined;
  readonly conserved: string;
  override readonly flips: number;

  constructor(
    subject: Subject,
    family: FamilyName,
    readonly scaling: Scaling,
  ) {
    super(subject, family);
    const { kind, units, contexts, places, defects, epsilons } = scaling;
    this.units = units;
    this.copies = contexts;
    this.dimension =
      kind === "sign" ? 0 : kind === "matrix" ? contexts * units ** 2 : contexts * units;
    this.flips = kind === "sign" ? contexts * units : 0;
    this.tensors = places.map(({ parameter, base, degree }) => ({
      name: partName(subject.parameters[parameter]!, base),
      degree,
    }));
    this.approximate =
      epsilons.length > 0
        ? `a normalisation adds ${epsilons
            .map((id) => epsilonOf(subject.graph, id))
            .filter((x, i, all) => all.indexOf(x) === i)
            .join(", ")} to the variance`
        : undefined;
    this.conserved =
      kind === "sign" || defects.length > 0
        ? ""
        : kind === "matrix"
          ? "W W^T - W'^T W'"
          : "the squared norms, times their powers, summed";
  }

  get name(): string {
    return this.tensors[0]!.name;
  }

  #eachEntry(
    place: ScaledPlace,
    visit: (entry: number, copy: number, unit: number, rest: number) => void,
  ): void {
    const { base, contexts, units, rest, parameter } = place;
    const begin = this.subject.parameters[parameter]!.offset + base;
    contexts.forEach((c, copy) => {
      units.forEach((u, unit) => {
        for (let r = 0; r < rest.length; r++) visit(begin + c + u + rest[r]!, copy, unit, r);
      });
    });
  }

  /** The map that the generator is, theta -> A theta, or its transpose, without what defects add. */
  #apply(x: Float64Array, coefficients: ArrayLike<number>, transposed: boolean): Float64Array {
    const out = new Float64Array(this.subject.parameterCount);
    const { kind, units: n, places } = this.scaling;
    if (kind === "sign") return out;
    for (const place of places) {
      const { degree, units, rest } = place;
      if (kind !== "matrix") {
        this.#eachEntry(place, (entry, copy, unit) => {
          out[entry]! += degree * coefficients[copy * n + unit]! * x[entry]!;
        });
        continue;
      }
      // theta -> M theta or -M^T theta along the units.
      const turned = degree < 0 !== transposed;
      const sign = degree < 0 ? -1 : 1;
      const begin = this.subject.parameters[place.parameter]!.offset + place.base;
      place.contexts.forEach((c, copy) => {
        for (let i = 0; i < n; i++)
          for (let j = 0; j < n; j++) {
            const at = copy * n * n + (turned ? j * n + i : i * n + j);
            const factor = sign * coefficients[at]!;
            if (factor === 0) continue;
            const [to, from] = [begin + c + units[i]!, begin + c + units[j]!];
            for (let r = 0; r < rest.length; r++)
              out[to + rest[r]!]! += factor * x[from + rest[r]!]!;
          }
      });
    }
    return out;
  }

  /** What sums with stored numbers leave, and biases take up. */
  #defects(
    parameters: Float64Array,
    coefficients: ArrayLike<number>,
    primals = primalsAt(this.subject, parameters),
  ): { primals: Primals; outcome: Outcome } | undefined {
    const { defects, places } = this.scaling;
    if (defects.length === 0) return undefined;
    const { graph } = this.subject;
    const seeds = new Map<number, Value>();
    const n = places[0]!.units.length;
    for (const { node, operand, piece, degree } of defects) {
      const size = graph.nodes[node]!.shape[piece.axis]!;
      const factors = new Float64Array(size);
      positionsOf(piece.start, piece.factors, n, this.scaling.atom).forEach((unit, position) => {
        if (unit >= 0) factors[position] = degree * coefficients[unit]!;
      });
      seeds.set(node, shifted(graph, node, operand, primals.value(operand)!, piece, factors));
    }
    const { classAxis } = this.subject;
    return { primals, outcome: follow(primals, { nodes: seeds }, { classAxis }) };
  }

  generator(parameters: Float64Array, coefficients: ArrayLike<number>): Float64Array {
    const out = this.#apply(parameters, coefficients, false);
    const added = this.#defects(parameters, coefficients);
    if (added) scatter(this.subject, added.outcome.changes, out);
    return out;
  }

  response(
    parameters: Float64Array,
    coefficients: ArrayLike<number>,
    gradient: Float64Array,
  ): Float64Array {
    const out = this.#apply(gradient, coefficients, true);
    const added = this.#defects(parameters, coefficients);
    if (added) pullBack(this.subject, added.primals, added.outcome.changes, gradient, out);
    return out;
  }

  *generators(parameters: Float64Array): Iterable<SparseVector> {
    const primals = primalsAt(this.subject, parameters);
    const { kind, units: n, contexts, places } = this.scaling;
    if (kind === "sign") return;
    for (let copy = 0; copy < contexts; copy++)
      for (let i = 0; i < n; i++)
        for (let j = kind === "matrix" ? 0 : i; j < (kind === "matrix" ? n : i + 1); j++) {
          const [indices, values]: [number[], number[]] = [[], []];
          for (const { degree, parameter, base, contexts: c, units, rest } of places) {
            const begin = this.subject.parameters[parameter]!.offset + base + c[copy]!;
            const [to, from] = degree > 0 || kind !== "matrix" ? [i, j] : [j, i];
            for (const r of rest) {
              indices.push(begin + units[to]! + r);
              values.push(degree * parameters[begin + units[from]! + r]!);
            }
          }
          const added = this.#defects(
            parameters,
            unitVector(this.dimension, copy * n + i),
            primals,
          );
          yield sparseOf(this.subject, added?.outcome.changes ?? new Map(), { indices, values });
        }
  }

  charges(parameters: Float64Array): Float64Array {
    if (this.conserved === "") return new Float64Array(0);
    const { kind, units: n, contexts, places } = this.scaling;
    if (kind === "scale") {
      const out = new Float64Array(contexts * n);
      for (const place of places)
        this.#eachEntry(place, (entry, copy, unit) => {
          out[copy * n + unit]! += place.degree * parameters[entry]! ** 2;
        });
      return out;
    }
    const out: number[] = [];
    for (let copy = 0; copy < contexts; copy++)
      for (let i = 0; i < n; i++)
        for (let j = i; j < n; j++) {
          let total = 0;
          for (const { degree, parameter, base, contexts: c, units, rest } of places) {
            const begin = this.subject.parameters[parameter]!.offset + base + c[copy]!;
            for (const r of rest)
              total +=
                degree * parameters[begin + units[i]! + r]! * parameters[begin + units[j]! + r]!;
          }
          out.push(total);
        }
    return Float64Array.from(out);
  }

  override flipped(parameters: Float64Array, units: (unit: number) => boolean): Float64Array {
    const out = parameters.slice();
    if (this.scaling.kind !== "sign") return out;
    for (const place of this.scaling.places)
      this.#eachEntry(place, (entry, copy, unit) => {
        if (units(copy * this.units + unit)) out[entry]! *= -1;
      });
    return out;
  }
}

/** Which unit each position of a piece is; -1 outside. */
function positionsOf(
  start: number,
  factors: readonly { atom: number; size: number; stride: number }[],
  units: number,
  atom: number | undefined,
): Map<number, number> {
  let all: [position: number, unit: number][] = [[start, 0]];
  for (const { atom: own, size, stride } of factors)
    all = all.flatMap(([position, unit]) =>
      Array.from({ length: size }, (_, i): [number, number] => [
        position + i * stride,
        own === atom ? unit * size + i : unit,
      ]),
    );
  return new Map(all.filter(([, unit]) => unit < units));
}

function epsilonOf(graph: PrimitiveGraph, id: number): number {
  const node = graph.nodes[id]!;
  const constant = node.in.map((each) => graph.nodes[each]!).find(({ values }) => values);
  return constant?.values?.[0] ?? 0;
}

/** The name of a tensor, with where in it a part begins. */
function partName({ name, shape }: Parameter, base: number): string {
  if (base === 0) return name;
  const index = shape.map((_, axis) => {
    const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    return Math.floor(base / inner) % shape[axis]!;
  });
  const last = index.findLastIndex((i) => i !== 0);
  return `${name}[${index
    .slice(0, last + 1)
    .map((i) => (i === 0 ? ":" : `${i}:`))
    .join(", ")}]`;
}

/** Numbers that are added to a tensor, and what takes them up. */
export class TranslationInstance extends Instance implements SymmetryInstance {
  readonly units = 1;
  readonly copies = 1;
  readonly approximate = undefined;
  readonly dimension: number;
  readonly tensors: readonly { name: string; degree: number }[];

  constructor(
    subject: Subject,
    family: FamilyName,
    readonly translation: Translation,
  ) {
    super(subject, family);
    this.dimension = translation.dimension;
    const { parameter, outcome } = translation;
    this.tensors = [parameter, ...outcome.absorbed.filter((index) => index !== parameter)].map(
      (index) => ({ name: subject.parameters[index]!.name, degree: 0 }),
    );
  }

  get name(): string {
    const { parameter, pattern } = this.translation;
    const { name, shape } = this.subject.parameters[parameter]!;
    const { segment, alike, reader } = pattern;
    if (!segment && !alike) return name;
    const parts = shape.map((size, axis) => {
      const from = segment?.axis === axis ? segment.start : 0;
      const to = segment?.axis === axis ? from + segment.length : size;
      const range = from === 0 && to === size ? ":" : `${from}:${to}`;
      if (alike?.axis !== axis) return range;
      if (reader) return ": as 1 / scale";
      return alike.block === to - from ? `${range} alike` : `${range} by ${alike.block}`;
    });
    return `${name}[${parts.join(", ")}]`;
  }

  /** Of what is the same at all places, the sum that the change adds to. */
  get conserved(): string {
    const { outcome, pattern } = this.translation;
    const { absorbed, mixed, scaled, centred } = outcome;
    const moves = absorbed.length > 0 && (mixed || scaled || centred);
    return moves || pattern.reader ? "" : "the sum of what changes";
  }

  #walk(
    parameters: Float64Array,
    coefficients: ArrayLike<number>,
    primals = primalsAt(this.subject, parameters),
  ) {
    const { parameter, shape, pattern, free, classAxis, absorb, avoid } = this.translation;
    const values = leaf(free, Float64Array.from(coefficients));
    const seeds = new Map([[parameter, spreadPattern(primals, shape, pattern, values)]]);
    // Without biases that take it up the change is what it began with.
    if (this.translation.outcome.absorbed.length === 0)
      return { primals, values, changes: seeds as Map<number, Value> };
    const { changes } = follow(primals, { parameters: seeds }, { classAxis, absorb, avoid });
    return { primals, values, changes };
  }

  generator(parameters: Float64Array, coefficients: ArrayLike<number>): Float64Array {
    const out = new Float64Array(this.subject.parameterCount);
    scatter(this.subject, this.#walk(parameters, coefficients).changes, out);
    return out;
  }

  *generators(parameters: Float64Array): Iterable<SparseVector> {
    const primals = primalsAt(this.subject, parameters);
    for (let i = 0; i < this.dimension; i++) {
      const { changes } = this.#walk(parameters, unitVector(this.dimension, i), primals);
      yield sparseOf(this.subject, changes);
    }
  }

  response(
    parameters: Float64Array,
    coefficients: ArrayLike<number>,
    gradient: Float64Array,
  ): Float64Array {
    const out = new Float64Array(this.subject.parameterCount);
    const { primals, changes } = this.#walk(parameters, coefficients);
    pullBack(this.subject, primals, changes, gradient, out);
    return out;
  }

  charges(parameters: Float64Array): Float64Array {
    if (this.conserved === "") return new Float64Array(0);
    // <theta, v> for every generator v at once.
    const numbers = new Float64Array(this.dimension).fill(1);
    const { values, changes } = this.#walk(parameters, numbers);
    const all = [...changes];
    backward(
      all.map(([index, value]) => expand(value, this.subject.parameters[index]!.shape)),
      all.map(([index]) => {
        const { offset, size } = this.subject.parameters[index]!;
        return parameters.subarray(offset, offset + size);
      }),
    );
    return values.gradient ?? new Float64Array(this.dimension);
  }
}
