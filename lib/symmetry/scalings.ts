/**
 * Scalings of parameters that the output does not see: of single units, which are positions of an
 * index that runs through the network, of whole tensors, and by matrices where units are mixed by
 * linear maps only. Also changes of sign.
 */
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import type { AtomLink, AtomPiece, Atoms } from "./atoms";
import { at, Demands, type Form, plus } from "./degrees";
import { follow } from "./follow";
import type { Primals } from "./primals";
import { expand, leaf, strides, type Value } from "./tape";
import { generic } from "./translations";

/** Where the units of an index lie in a parameter, and to which power it scales with them. */
export interface ScaledPlace {
  readonly parameter: number;
  readonly degree: number;
  /** Entry (c, u, r) is at base + contexts[c] + units[u] + rest[r]. */
  readonly base: number;
  readonly contexts: Int32Array;
  readonly units: Int32Array;
  readonly rest: Int32Array;
}

/** A sum with a number that does not scale: what is added to it, for biases to take up. */
export interface Defect {
  readonly node: number;
  readonly operand: number;
  readonly piece: AtomPiece;
  readonly degree: number;
}

export interface Scaling {
  /** scale: by positive numbers; matrix: by invertible matrices; sign: by -1. */
  readonly kind: "scale" | "matrix" | "sign";
  /** Positions of the index; 1 where whole tensors scale. */
  readonly units: number;
  /** Copies of the index that scale on their own, such as heads. */
  readonly contexts: number;
  /** The index in Atoms; undefined of whole tensors. */
  readonly atom: number | undefined;
  readonly places: readonly ScaledPlace[];
  readonly defects: readonly Defect[];
  /** Small numbers that are added before a square root, and make it approximate. */
  readonly epsilons: readonly number[];
}

type Mode = "scale" | "sign";

/** What a primitive demands of the degrees of its operands. */
type Kind = "agree" | "parts" | "product" | "power" | "odd" | "even" | "compare" | "zero";

const KINDS: Record<string, Kind> = {
  Reshape: "agree",
  Permute: "agree",
  Broadcast: "agree",
  Slice: "agree",
  Unslice: "agree",
  Spread: "agree",
  Barrier: "agree",
  StopGradient: "agree",
  Neg: "agree",
  Add: "agree",
  Sub: "agree",
  Select: "agree",
  Sum: "agree",
  WindowSum: "agree",
  WindowSpread: "agree",
  Gather: "agree",
  ReduceMax: "agree",
  Concat: "parts",
  Mul: "product",
  Dot: "product",
  Conv: "product",
  ConvInput: "product",
  Recip: "power",
  Sqrt: "power",
  Pow: "power",
  Tanh: "odd",
  Sin: "odd",
  Erf: "odd",
  Cos: "even",
  Less: "compare",
  LessEqual: "compare",
};

/** Primitives that a matrix along an index passes where its result has the index of one operand. */
const LINEAR = new Set([
  ...["Reshape", "Permute", "Broadcast", "Slice", "Unslice", "Spread", "Barrier", "Neg", "Add"],
  ...["Sub", "Select", "Sum", "WindowSum", "WindowSpread", "Gather", "Concat", "Mul", "Dot"],
  ...["Conv", "ConvInput"],
]);

function power({ op, number }: PrimitiveNode): number {
  return op === "Recip" ? -1 : op === "Sqrt" ? 0.5 : number;
}

/** The scalings of one index, or of whole tensors, with what is known of every value. */
class System {
  readonly forms = new Map<AtomPiece, Form>();
  /** Of whole tensors. */
  readonly wholes: Form[] = [];
  readonly demands: Demands;
  readonly unknowns: { parameter: number; piece: AtomPiece | undefined }[] = [];
  readonly defects: { node: number; operand: number; piece: AtomPiece; form: Form }[] = [];
  readonly epsilons: { node: number; form: Form }[] = [];

  constructor(
    readonly graph: PrimitiveGraph,
    readonly atoms: Atoms,
    readonly primals: Primals,
    readonly atom: number | undefined,
    readonly mode: Mode,
    readonly mayTakeUp: (node: number, operand: number, piece: AtomPiece) => boolean,
    nodes: readonly number[],
  ) {
    for (const id of nodes) {
      const { op, ints } = graph.nodes[id]!;
      if (op !== "Param" || !primals.isParameter(ints[0]!)) continue;
      for (const piece of this.#piecesOf(id)) this.unknowns.push({ parameter: ints[0]!, piece });
    }
    this.demands = new Demands(this.unknowns.length, mode === "sign");
    if (this.unknowns.length === 0) return;
    for (const id of nodes) this.#visit(id);
    const { output } = graph;
    if (atom === undefined) this.demands.add(this.wholes[output]);
    for (const piece of this.#pieces(output)) this.demands.add(this.forms.get(piece));
  }

  /** Pieces of a value that have the index. */
  #pieces(value: number): AtomPiece[] {
    if (this.atom === undefined) return [];
    return this.atoms.pieces[value]!.filter((piece) => has(piece, this.atom!));
  }

  #piecesOf(value: number): (AtomPiece | undefined)[] {
    return this.atom === undefined ? [undefined] : this.#pieces(value);
  }

  #visit(id: number): void {
    const node = this.graph.nodes[id]!;
    if (node.op === "Param") {
      const parameter = node.ints[0]!;
      this.unknowns.forEach((unknown, i) => {
        if (unknown.parameter !== parameter) return;
        const form = new Float64Array(this.unknowns.length);
        form[i] = 1;
        if (unknown.piece) this.forms.set(unknown.piece, form);
        else this.wholes[id] = form;
      });
      return;
    }
    if (node.in.length === 0) return;
    if (this.atom === undefined) this.#visitWhole(id, node);
    else this.#visitPieces(id, node);
  }

  /** Zeros and infinities scale as one likes. */
  #free(value: number): boolean {
    if (value >= this.graph.nodes.length) return false;
    const splat = this.primals.splat(value);
    return splat === 0 || splat === Number.POSITIVE_INFINITY || splat === Number.NEGATIVE_INFINITY;
  }

  /** The kind of a primitive in this mode. */
  #kind(node: PrimitiveNode): Kind {
    const kind = KINDS[node.op] ?? "zero";
    if (this.mode === "scale") return kind === "odd" || kind === "even" ? "zero" : kind;
    if (kind === "compare" || node.op === "ReduceMax" || node.op === "WindowArgmax") return "zero";
    if (kind === "odd") return "agree";
    if (kind !== "power") return kind;
    return Number.isInteger(power(node)) ? "power" : "zero";
  }

  #powered(form: Form, node: PrimitiveNode): Form {
    return plus(undefined, form, power(node));
  }

  /** All the same; sums with small or stored numbers may be let off. */
  #agree(
    id: number,
    terms: readonly { value: number; form: Form }[],
    piece: AtomPiece | undefined,
    strict: boolean,
  ): Form {
    const bound = terms.filter(({ value }) => !this.#free(value));
    const [first, ...rest] = bound;
    if (!first) return undefined;
    if (rest.length === 1 && this.mode === "scale" && !strict) {
      const [a, b] = [first, rest[0]!];
      const difference = plus(a.form, b.form, -1);
      if (!difference) return a.form;
      for (const [x, y] of [
        [a, b],
        [b, a],
      ] as const) {
        if (y.form) continue;
        if (this.#isEpsilon(id, x.value, y.value)) {
          this.epsilons.push({ node: id, form: x.form });
          return x.form;
        }
        if (y.value >= this.graph.nodes.length) continue;
        if (piece && this.mayTakeUp(id, y.value, piece)) {
          this.defects.push({ node: id, operand: y.value, piece, form: x.form });
          return x.form;
        }
      }
    }
    for (const { form } of rest) this.demands.add(plus(first.form, form, -1));
    return first.form;
  }

  /** A small number that is added below a square root. */
  #isEpsilon(id: number, x: number, y: number): boolean {
    const { nodes } = this.graph;
    const splat = this.primals.splat(y);
    if (nodes[id]!.op !== "Add" || splat === undefined || splat <= 0 || splat > 1e-3) return false;
    if (this.primals.value(x)) return false;
    return nodes.every(
      ({ op, in: operands }) => !operands.includes(id) || ["Sqrt", "Pow", "Recip"].includes(op),
    );
  }

  #visitWhole(id: number, node: PrimitiveNode): void {
    const kind = this.#kind(node);
    const real = node.in.filter((value) => this.graph.nodes[value]!.type === "real");
    const forms = real.map((value) => this.wholes[value]);
    if (forms.every((form) => !form)) return;
    if (node.op === "WindowArgmax" && this.mode === "scale") return;
    if (kind === "agree" || kind === "parts" || kind === "compare") {
      const terms = real.map((value, i) => ({ value, form: forms[i] }));
      const form = this.#agree(id, terms, undefined, kind === "compare");
      if (kind !== "compare") this.wholes[id] = form;
    } else if (kind === "product") {
      this.wholes[id] = forms.reduce((sum, form) => plus(sum, form), undefined);
    } else if (kind === "power") {
      this.wholes[id] = this.#powered(forms[0], node);
    } else if (kind !== "even") for (const form of forms) this.demands.add(form);
  }

  #visitPieces(id: number, node: PrimitiveNode): void {
    const links = this.atoms.links.get(id);
    const held = (value: number) => this.#pieces(value).filter((piece) => this.forms.get(piece));
    if (!links || node.op === "WindowArgmax") {
      const skipped = node.op === "WindowArgmax" ? this.mode === "scale" : !links;
      if (!skipped)
        for (const value of node.in)
          for (const piece of held(value)) this.demands.add(this.forms.get(piece));
      return;
    }
    const pooled = isPooled(node, links);
    const kind = pooled && this.mode === "sign" ? "zero" : this.#kind(node);
    if (kind === "zero" || kind === "even") {
      const operands = new Set([...node.in, ...links.map(operandOf)]);
      for (const value of operands)
        if (kind === "zero")
          for (const piece of held(value)) this.demands.add(this.forms.get(piece));
      return;
    }
    const mapped = new Set<AtomPiece>();
    const done = new Set<number>();
    for (const link of links) {
      const target = resultOf(link);
      if (target !== undefined) {
        if (!done.has(target)) this.#visitTarget(id, node, kind, links, target, mapped);
        done.add(target);
        continue;
      }
      for (const { x, y } of link.contracted) {
        if (!has(x, this.atom!) && !has(y, this.atom!)) continue;
        this.demands.add(plus(this.forms.get(x), this.forms.get(y)));
        mapped.add(x).add(y);
      }
    }
    // What a slice leaves out may scale.
    for (const value of new Set([...node.in, ...links.map(operandOf)]))
      for (const piece of held(value))
        if (!mapped.has(piece) && !(node.op === "Slice" && leavesOut(node, piece)))
          this.demands.add(this.forms.get(piece));
  }

  /** Degrees of a result, of the primitive or in between. */
  #visitTarget(
    id: number,
    node: PrimitiveNode,
    kind: Kind,
    links: readonly AtomLink[],
    target: number,
    mapped: Set<AtomPiece>,
  ): void {
    const into = links.filter((link) => resultOf(link) === target);
    // Indices and masks do not scale.
    const operands = [...new Set(into.map(operandOf))].filter(
      (value) => (this.graph.nodes[value]?.type ?? "real") === "real",
    );
    const between = target >= this.graph.nodes.length;
    const how = between ? (operands.length > 1 ? "product" : "agree") : kind;
    for (const piece of this.#pieces(target)) {
      const terms = operands
        .map((value) => ({
          value,
          ...this.#carried(
            into.filter((link) => operandOf(link) === value),
            piece,
            mapped,
          ),
        }))
        .filter(({ reaches }) => how !== "parts" || reaches);
      let form: Form;
      if (how === "product") {
        form = terms.reduce<Form>((sum, term) => plus(sum, term.form), undefined);
        // A square has one operand.
        if (node.op === "Mul" && node.in[0] === node.in[1]) form = plus(form, form);
      } else if (how === "power") form = this.#powered(terms[0]?.form, node);
      else form = this.#agree(id, terms, piece, how === "compare");
      if (how !== "compare" && form) this.forms.set(piece, form);
    }
  }

  /** What an operand gives to a piece of the result. */
  #carried(
    links: readonly AtomLink[],
    piece: AtomPiece,
    mapped: Set<AtomPiece>,
  ): { form: Form; reaches: boolean } {
    const byAxis = new Map<number, AtomPiece>();
    let form: Form;
    let reaches = false;
    for (const link of links)
      for (const pair of link.pairs) {
        const [from, to] = link.result === "y" ? [pair.x, pair.y] : [pair.y, pair.x];
        if (to !== piece) continue;
        reaches = true;
        if (!has(from, this.atom!)) continue;
        mapped.add(from);
        const before = byAxis.get(from.axis);
        if (before) this.demands.add(plus(this.forms.get(before), this.forms.get(from), -1));
        else {
          byAxis.set(from.axis, from);
          form = plus(form, this.forms.get(from));
        }
      }
    return { form, reaches };
  }
}

/** Whether a slice takes no position of a piece. */
function leavesOut({ ints, shape }: PrimitiveNode, { axis, start, factors }: AtomPiece): boolean {
  const [first, step] = [ints[axis]!, ints[shape.length + axis]!];
  let positions = [start];
  for (const { size, stride } of factors)
    positions = positions.flatMap((at) => Array.from({ length: size }, (_, i) => at + i * stride));
  return positions.every((at) => {
    const index = (at - first) / step;
    return !Number.isInteger(index) || index < 0 || index >= shape[axis]!;
  });
}

const has = (piece: AtomPiece, atom: number) => piece.factors.some((each) => each.atom === atom);
const resultOf = ({ result, x, y }: AtomLink) =>
  result === undefined ? undefined : result === "x" ? x : y;
const operandOf = ({ result, x, y }: AtomLink) => (result === "x" ? y : x);

const isPooled = (node: PrimitiveNode, links: readonly AtomLink[]) =>
  node.op === "Gather" && !links.some((link) => operandOf(link) === node.in[0]);

/** Finds all scalings of a network. */
export function findScalings(
  graph: PrimitiveGraph,
  atoms: Atoms,
  primals: Primals,
  classAxis: number | undefined,
): Scaling[] {
  const found: Scaling[] = [];
  const takenUp = takeUps(graph, primals, classAxis);
  // Whole tensors first scale as sums over the units of an index; what is left is new.
  const uniform = new Demands(parameterCount(graph, primals), false);
  for (const [atom, nodes] of nodesByAtom(graph, atoms, primals)) {
    const system = new System(graph, atoms, primals, atom, "scale", takenUp, nodes);
    const matrices: string[] = [];
    for (const solution of sparse(system.demands.solutions())) {
      const degrees = new Float64Array(uniform.unknowns);
      system.unknowns.forEach(({ parameter }, i) => {
        degrees[parameter]! += solution[i]!;
      });
      uniform.add(degrees);
      const signed = oriented(solution);
      const kind = isMatrix(system, signed) ? "matrix" : "scale";
      if (kind === "matrix") matrices.push(support(signed));
      found.push(scalingOf(system, signed, kind));
    }
    const signs = new System(graph, atoms, primals, atom, "sign", takenUp, nodes);
    for (const solution of signs.demands.solutions())
      if (!matrices.includes(support(solution))) found.push(scalingOf(signs, solution, "sign"));
  }
  const all = [...graph.nodes.keys()];
  const wholes = new System(graph, atoms, primals, undefined, "scale", takenUp, all);
  for (const solution of wholes.demands.solutions()) {
    const degrees = new Float64Array(uniform.unknowns);
    wholes.unknowns.forEach(({ parameter }, i) => {
      degrees[parameter]! += solution[i]!;
    });
    const before = uniform.solutions().length;
    uniform.add(degrees);
    if (uniform.solutions().length < before)
      found.push(scalingOf(wholes, oriented(solution), "scale"));
  }
  return distinct(found);
}

/** Without those that are the same units in another order, or the diagonal of matrices. */
function distinct(scalings: readonly Scaling[]): Scaling[] {
  const keyOf = ({ units, contexts, places }: Scaling) =>
    [
      units * contexts,
      ...places.map(
        ({ parameter, degree, base, rest }) =>
          `${parameter}:${places[0]!.degree * degree}:${base}:${rest.length}`,
      ),
    ].join(" ");
  const seen = new Set<string>();
  const order = ["matrix", "scale", "sign"];
  const sorted = scalings
    .map((scaling, i) => ({ scaling, i }))
    .sort((a, b) => order.indexOf(a.scaling.kind) - order.indexOf(b.scaling.kind) || a.i - b.i);
  const kept = sorted.filter(({ scaling }) => {
    const key = `${scaling.kind === "sign" ? "sign" : ""} ${keyOf(scaling)}`;
    if (scaling.kind !== "matrix" && seen.has(key)) return false;
    seen.add(key);
    return true;
  });
  return kept.sort((a, b) => a.i - b.i).map(({ scaling }) => scaling);
}

/** The same scalings with fewer tensors in each, as far as differences of pairs go. */
function sparse(solutions: Float64Array[]): Float64Array[] {
  const count = (row: Float64Array) => row.reduce((n, x) => n + (x !== 0 ? 1 : 0), 0);
  for (let again = true; again; ) {
    again = false;
    solutions.forEach((row, i) => {
      for (const [j, other] of solutions.entries())
        for (const sign of i === j ? [] : [1, -1]) {
          const next = solutions[i]!.map((x, at) => x - sign * other[at]!);
          if (count(next) < count(solutions[i]!)) {
            solutions[i] = next;
            again = true;
          }
        }
      void row;
    });
  }
  return solutions;
}

const support = (solution: ArrayLike<number>) =>
  Array.from(solution, (x) => (x !== 0 ? 1 : 0)).join("");

/** The first that scales does so with a positive power. */
function oriented(solution: Float64Array): Float64Array {
  const first = solution.find((x) => x !== 0) ?? 1;
  return first > 0 ? solution : solution.map((x) => (x === 0 ? 0 : -x));
}

function parameterCount(graph: PrimitiveGraph, primals: Primals): number {
  return graph.leaves.filter((_, i) => primals.isParameter(i)).length;
}

/** The primitives that an index runs through, for each that parameters have. */
function nodesByAtom(graph: PrimitiveGraph, atoms: Atoms, primals: Primals): Map<number, number[]> {
  const wanted = new Set<number>();
  graph.nodes.forEach(({ op, ints }, id) => {
    if (op !== "Param" || !primals.isParameter(ints[0]!)) return;
    for (const { factors } of atoms.pieces[id]!) for (const { atom } of factors) wanted.add(atom);
  });
  const byAtom = new Map([...wanted].map((atom) => [atom, [] as number[]]));
  const own = (value: number) =>
    atoms.pieces[value]!.flatMap(({ factors }) => factors.map(({ atom }) => atom));
  graph.nodes.forEach(({ in: operands }, id) => {
    const touched = new Set([id, ...operands].flatMap(own));
    for (const link of atoms.links.get(id) ?? [])
      for (const value of [link.x, link.y]) for (const atom of own(value)) touched.add(atom);
    for (const atom of touched) byAtom.get(atom)?.push(id);
  });
  return byAtom;
}

/** Whether a sum with stored numbers leaves what biases take up. */
function takeUps(graph: PrimitiveGraph, primals: Primals, classAxis: number | undefined) {
  const known = new Map<string, boolean>();
  return (node: number, operand: number, piece: AtomPiece): boolean => {
    const key = `${node} ${operand} ${piece.axis} ${piece.start}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    let fits = false;
    const value = primals.value(operand);
    if (value && isStored(graph, primals, operand)) {
      const size = graph.nodes[node]!.shape[piece.axis]!;
      const seed = shifted(graph, node, operand, value, piece, generic(size, node));
      const outcome = follow(primals, { nodes: new Map([[node, seed]]) }, { classAxis });
      fits = outcome.stopped === undefined;
    }
    known.set(key, fits);
    return fits;
  };
}

/** Depends on buffers and constants only. */
function isStored(graph: PrimitiveGraph, primals: Primals, id: number): boolean {
  const { op, ints, in: operands } = graph.nodes[id]!;
  if (op === "Param") return !primals.isParameter(ints[0]!);
  return operands.every((each) => isStored(graph, primals, each));
}

/** factors * value along the axis of a piece, as it enters the sum. */
export function shifted(
  graph: PrimitiveGraph,
  node: number,
  operand: number,
  value: Value,
  piece: AtomPiece,
  factors: Float64Array,
): Value {
  const size = graph.nodes[node]!.shape[piece.axis]!;
  const shape = value.shape.map((length, axis) => (axis === piece.axis ? size : length));
  const wide = expand(value, shape);
  const step = strides(shape)[piece.axis]!;
  const { op, in: operands } = graph.nodes[node]!;
  const sign = op === "Sub" && operands[1] === operand ? -1 : 1;
  const data = wide.data.map((x, i) => sign * x * factors[Math.floor(i / step) % size]!);
  return leaf(shape, data);
}

/** Whether matrices may take the place of scale factors: all primitives on the way mix units alike. */
function isMatrix(system: System, solution: Float64Array): boolean {
  const { graph, atoms, forms } = system;
  if (system.atom === undefined) return false;
  const degree = (piece: AtomPiece) => at(forms.get(piece), solution);
  for (const form of forms.values()) {
    const value = at(form, solution);
    if (value !== 0 && Math.abs(value) !== 1) return false;
  }
  if (system.defects.some(({ form }) => at(form, solution) !== 0)) return false;
  if (system.epsilons.some(({ form }) => at(form, solution) !== 0)) return false;
  for (const [id, links] of atoms.links) {
    const node = graph.nodes[id]!;
    const touched = links.some(({ pairs }) => pairs.some(({ x, y }) => degree(x) || degree(y)));
    if (!touched) continue;
    if (!LINEAR.has(node.op) || isPooled(node, links)) return false;
    if ((node.op === "Mul" || node.op === "Dot") && node.in[0] === node.in[1]) return false;
    const alike = ["Add", "Sub", "Select", "Concat"].includes(node.op);
    const sources = new Map<AtomPiece, { operands: Set<number>; scaled: boolean }>();
    for (const link of links) {
      if (link.result === undefined) {
        // Operands that share the index without a sum over it.
        for (const pair of link.pairs)
          if (!link.contracted.includes(pair) && (degree(pair.x) || degree(pair.y))) return false;
        continue;
      }
      for (const pair of link.pairs) {
        const [from, to] = link.result === "y" ? [pair.x, pair.y] : [pair.y, pair.x];
        const known = sources.get(to) ?? { operands: new Set(), scaled: degree(to) !== 0 };
        known.operands.add(operandOf(link));
        known.scaled ||= degree(from) !== 0;
        sources.set(to, known);
      }
    }
    for (const { operands, scaled } of sources.values()) {
      if (!scaled) continue;
      if (!alike && operands.size > 1) return false;
      if (node.op === "Select" && operands.has(node.in[0]!)) return false;
    }
  }
  return true;
}

function scalingOf(system: System, solution: Float64Array, kind: Scaling["kind"]): Scaling {
  const { graph, atom } = system;
  const contexts = atom === undefined || kind === "sign" ? [] : contextsOf(system, solution);
  let [units, copies] = [1, 1];
  const places: ScaledPlace[] = [];
  system.unknowns.forEach(({ parameter, piece }, i) => {
    if (solution[i] === 0) return;
    const id = graph.nodes.findIndex(({ op, ints }) => op === "Param" && ints[0] === parameter);
    const place = placeOf(system, id, piece, contexts);
    places.push({ parameter, degree: solution[i]!, ...place });
    units = place.units.length;
    copies = place.contexts.length;
  });
  const nonzero = <T extends { form: Form }>(all: readonly T[]) =>
    all.filter(({ form }) => at(form, solution) !== 0);
  return {
    ...{ kind, units, contexts: copies, places, atom },
    defects: nonzero(system.defects).map(({ node, operand, piece, form }) => ({
      ...{ node, operand, piece },
      degree: -at(form, solution),
    })),
    epsilons: nonzero(system.epsilons).map(({ node }) => node),
  };
}

/** Other indices that everything that scales has, and that nothing mixes: each value scales alone. */
function contextsOf(system: System, solution: Float64Array): number[] {
  const { atoms, forms, graph } = system;
  if (system.defects.some(({ form }) => at(form, solution) !== 0)) return [];
  const scaled = new Set<AtomPiece>();
  for (const [piece, form] of forms) if (at(form, solution) !== 0) scaled.add(piece);
  const valuesOf: { value: number; piece: AtomPiece }[] = [];
  for (let value = 0; value < atoms.values; value++)
    for (const piece of atoms.pieces[value]!)
      if (scaled.has(piece)) valuesOf.push({ value, piece });
  const first = valuesOf[0];
  if (!first) return [];
  const others = ({ value, piece }: (typeof valuesOf)[number]) => [
    ...piece.factors,
    ...atoms.pieces[value]!.filter(({ axis }) => axis !== piece.axis).flatMap(
      ({ factors }) => factors,
    ),
  ];
  const candidates = new Set(others(first).map(({ atom }) => atom));
  candidates.delete(system.atom!);
  return [...candidates].filter((context) => {
    const once = valuesOf.every(
      (each) => others(each).filter(({ atom }) => atom === context).length === 1,
    );
    if (!once) return false;
    // From operand to result, and between operands that are multiplied, it stays the same index.
    const kept = (link: AtomLink) =>
      link.pairs.some(({ x, y }) => has(x, context) && has(y, context));
    for (const id of graph.nodes.keys())
      for (const link of atoms.links.get(id) ?? []) {
        const carries = link.pairs.some(({ x, y }) => scaled.has(x) && scaled.has(y));
        if (carries && !kept(link)) return false;
      }
    return true;
  });
}

function placeOf(
  { graph, atom, atoms }: System,
  id: number,
  piece: AtomPiece | undefined,
  contexts: readonly number[],
): Omit<ScaledPlace, "parameter" | "degree"> {
  const { shape } = graph.nodes[id]!;
  const step = strides(shape);
  const one = Int32Array.of(0);
  const size = shape.reduce((a, b) => a * b, 1);
  if (!piece)
    return {
      base: 0,
      contexts: one,
      units: one,
      rest: Int32Array.from({ length: size }, (_, i) => i),
    };
  const spread = (offsets: Int32Array, count: number, stride: number) => {
    const out = new Int32Array(offsets.length * count);
    for (let i = 0; i < offsets.length; i++)
      for (let k = 0; k < count; k++) out[i * count + k] = offsets[i]! + k * stride;
    return out;
  };
  let [units, copies, rest] = [one, one, one];
  const take = ({ axis, factors }: AtomPiece, scaled: boolean) => {
    for (const factor of factors) {
      const stride = factor.stride * step[axis]!;
      if (scaled && factor.atom === atom) units = spread(units, factor.size, stride);
      else if (contexts.includes(factor.atom)) copies = spread(copies, factor.size, stride);
      else rest = spread(rest, factor.size, stride);
    }
  };
  shape.forEach((length, axis) => {
    if (axis === piece.axis) return;
    const others = atoms.pieces[id]!.filter((each) => each.axis === axis);
    if (others.length === 1) take(others[0]!, false);
    else rest = spread(rest, length, step[axis]!);
  });
  take(piece, true);
  return { base: piece.start * step[piece.axis]!, contexts: copies, units, rest };
}
