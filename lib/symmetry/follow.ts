/**
 * What happens to the network when something is added to a parameter: the change is followed through
 * the primitives until it dies or reaches the output. It dies where a normalisation subtracts the
 * mean, in a softmax, or in another bias, which then takes it up with the opposite sign. A change
 * that depends on parameters only is known in numbers; of one that depends on data it is known along
 * which axes it is constant.
 */
import type { PrimitiveGraph, PrimitiveNode } from "../native";
import {
  Absorbed,
  blocksOf,
  type Change,
  type Known,
  known,
  largest,
  type Opaque,
  type Step,
  Stopped,
} from "./changes";
import { RULES, stop } from "./follow-rules";
import type { Primals } from "./primals";
import { add, expand, multiply, permute, reshape, scale, select, type Value } from "./tape";

/** What became of a change. */
export interface Outcome {
  /** Why it is no symmetry: the first primitive that it does not pass. */
  stopped?: number;
  /** Changes of all parameters that take part, by position, in their shapes or with sizes 1. */
  changes: Map<number, Value>;
  /** Died in the softmax or log-sum-exp of these primitives. */
  softmax: number[];
  /** Cancelled in these sums, as in x - mean(x). */
  cancelled: number[];
  /** Biases that took it up. */
  absorbed: number[];
  /** It went through weights on its way. */
  mixed: boolean;
  /** Weights read it along a direction that a normalisation has taken away. */
  centred: boolean;
  /** It was multiplied by numbers that do not depend on data. */
  scaled: boolean;
  /** It reached the output, constant over classes. */
  output: boolean;
}

export interface WalkOptions {
  /** The loss does not see what is constant along this axis of the output. */
  classAxis?: number | undefined;
  /** Whether biases may take up the change. Default true. */
  absorb?: boolean;
  /** Parameters that may not. */
  avoid?: readonly number[];
}

/** Changes to begin with: of parameters by position, of primitives by their own. */
export interface Seeds {
  parameters?: ReadonlyMap<number, Value>;
  nodes?: ReadonlyMap<number, Value>;
}

/** Follows the changes through the graph; those of parameters are taken at given numbers. */
export function follow(
  primals: Primals,
  seeds: Seeds,
  { classAxis, absorb = true, avoid = [] }: WalkOptions = {},
): Outcome {
  return new Walk(primals, seeds, classAxis, absorb, avoid).run();
}

/** @internal */
export class Walk {
  readonly graph: PrimitiveGraph;
  readonly outcome: Outcome;
  readonly #changes: (Change | undefined)[] = [];
  readonly #absorbedAt = new Set<number>();

  constructor(
    readonly primals: Primals,
    readonly seeds: Seeds,
    readonly classAxis: number | undefined,
    readonly absorb: boolean,
    readonly avoid: readonly number[],
  ) {
    this.graph = primals.graph;
    this.outcome = {
      changes: new Map(seeds.parameters),
      ...{ softmax: [], cancelled: [], absorbed: [] },
      ...{ mixed: false, scaled: false, centred: false, output: false },
    };
  }

  node(id: number): PrimitiveNode {
    return this.graph.nodes[id]!;
  }

  change(id: number): Change | undefined {
    return this.#changes[id];
  }

  run(): Outcome {
    const { outcome, graph } = this;
    // Each restart has one more bias at one more place in it.
    for (let passes = 0; passes <= 64; passes++) {
      outcome.softmax = [];
      outcome.cancelled = [];
      const ended = this.#pass();
      if (ended instanceof Absorbed) continue;
      if (ended) return { ...outcome, stopped: ended.node };
      const last = this.#changes[graph.output];
      if (!last) return outcome;
      const shape = this.node(graph.output).shape;
      const axis = this.classAxis;
      if (axis === undefined || blocksOf(last, shape)[axis] !== shape[axis])
        return { ...outcome, stopped: graph.output };
      return { ...outcome, output: true };
    }
    return { ...outcome, stopped: graph.output };
  }

  #pass(): Stopped | Absorbed | undefined {
    const { nodes } = this.graph;
    this.#changes.length = 0;
    for (let id = 0; id < nodes.length; id++) {
      const node = nodes[id]!;
      let step: Step;
      if (node.op === "Param") {
        const value = this.outcome.changes.get(node.ints[0]!);
        step = value && known(value);
      } else if (node.in.some((each) => this.#changes[each])) {
        step = (RULES[node.op] ?? stop)(this, node, id);
        if (step instanceof Stopped || step instanceof Absorbed) return step;
      }
      const seed = this.seeds.nodes?.get(id);
      const change = step as Change | undefined;
      this.#changes[id] = seed
        ? known(change?.kind === "known" ? add(change.value, seed) : seed)
        : change;
    }
    return undefined;
  }

  /** A change under a name of its own. */
  opaque(id: number, blocks: readonly number[]): Opaque {
    return { kind: "opaque", id: `${id}`, coef: 1, blocks };
  }

  /** Lets the parameters behind `other` take up the change of a sum. */
  takeUp(id: number, other: number, change: Known, sign: number): boolean {
    if (!this.absorb || this.#absorbedAt.has(id)) return false;
    const taken = this.#pullBack(other, scale(change.value, -sign));
    if (!taken || taken.length === 0) return false;
    const { changes, absorbed } = this.outcome;
    for (const { parameter, value, part } of taken) {
      if (this.avoid.includes(parameter) || (changes.has(parameter) && !part)) return false;
      // What the walk began with is given.
      const seed = this.seeds.parameters?.get(parameter);
      if (seed && multiply(seed, value).data.some((x) => x !== 0)) return false;
    }
    this.#absorbedAt.add(id);
    for (const { parameter, value } of taken) {
      const before = changes.get(parameter);
      changes.set(parameter, before ? add(before, value) : value);
      if (!absorbed.includes(parameter)) absorbed.push(parameter);
    }
    return true;
  }

  /** What has to be added to the parameters that `id` is a view of, for `value` to be added there. */
  #pullBack(id: number, value: Value): Taken[] | undefined {
    const node = this.node(id);
    if (node.shape.some((size, axis) => size === 1 && value.shape[axis] !== 1)) return undefined;
    const inner = node.in[0] === undefined ? undefined : this.node(node.in[0]);
    const full = () => expand(value, node.shape);
    switch (node.op) {
      case "Param": {
        const parameter = node.ints[0]!;
        return this.primals.isParameter(parameter)
          ? [{ parameter, value, part: false }]
          : undefined;
      }
      case "Spread":
      case "Barrier":
        return this.#pullBack(node.in[0]!, value);
      case "Reshape":
        return this.#pullBack(node.in[0]!, reshape(full(), inner!.shape));
      case "Permute": {
        const back = node.ints.map((_, axis) => node.ints.indexOf(axis));
        return this.#pullBack(node.in[0]!, permute(value, back));
      }
      case "Broadcast": {
        const lead = node.shape.length - inner!.shape.length;
        const wide = node.shape.map((_, axis) => axis < lead || inner!.shape[axis - lead] === 1);
        if (wide.some((is, axis) => is && value.shape[axis] !== 1)) return undefined;
        return this.#pullBack(node.in[0]!, reshape(value, value.shape.slice(lead)));
      }
      case "Gather": {
        // Rows of a table: only what is the same for all rows can be taken up.
        const axis = node.ints[0]!;
        const count = this.node(node.in[1]!).shape.length;
        if (value.shape.slice(axis, axis + count).some((size) => size !== 1)) return undefined;
        const shape = [...value.shape.slice(0, axis), 1, ...value.shape.slice(axis + count)];
        return this.#pullBack(node.in[0]!, reshape(value, shape));
      }
      case "Slice": {
        const rank = node.shape.length;
        const positions = inner!.shape.map((size, axis) => {
          const [start, step] = [node.ints[axis]!, node.ints[rank + axis]!];
          const from = new Int32Array(size).fill(-1);
          for (let i = 0; i < node.shape[axis]!; i++) from[start + i * step] = i;
          return from;
        });
        const taken = this.#pullBack(node.in[0]!, select(full(), positions));
        return taken?.map((each) => ({ ...each, part: true }));
      }
      case "Concat": {
        const axis = node.ints[0]!;
        const whole = full();
        const all: Taken[] = [];
        let begin = 0;
        for (const each of node.in) {
          const start = begin;
          const size = this.node(each).shape[axis]!;
          begin += size;
          const part = select(
            whole,
            node.shape.map((_, at) =>
              at === axis ? Int32Array.from({ length: size }, (_, i) => start + i) : undefined,
            ),
          );
          if (largest(part) === 0) continue;
          const taken = this.#pullBack(each, part);
          if (!taken) return undefined;
          all.push(...taken);
        }
        return all;
      }
      default:
        return undefined;
    }
  }
}

/** What a parameter takes up; `part` where the view shows a part of it. */
interface Taken {
  readonly parameter: number;
  readonly value: Value;
  readonly part: boolean;
}
