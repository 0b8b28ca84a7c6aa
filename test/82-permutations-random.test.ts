// Permutation groups of random networks: never a wrong one, and of units that are exchanged alone
// exactly those that the function allows.
import { forward, loadData, loadModel, permutationGroups, verifyPermutations } from "../lib";
import { unitPositions } from "../lib/symmetry/places";
import { floats, modelBytes, node, value } from "./10-model-maker";
import { samplesFor } from "./support/graphs";
import { longs } from "./support/networks";
import { normals, uniform } from "./support/numbers";

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** A value of a network under way, and what it is made of. */
class Chain {
  readonly nodes: ReturnType<typeof node>[] = [];
  readonly constants: ReturnType<typeof floats>[] = [];
  readonly next: () => number;
  readonly before: { name: string; shape: number[] }[] = [];
  at = "h";
  shape: number[];

  constructor(seed: number, size: number) {
    this.next = uniform(seed);
    this.shape = [size];
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.next() * items.length)]!;
  }

  add(op: string, inputs: string[], attributes: Record<string, unknown> = {}): string {
    const name = `v${this.nodes.length}`;
    this.nodes.push(node(op, inputs, [name], attributes));
    return name;
  }

  store(shape: number[]): string {
    const name = `p${this.constants.length}`;
    this.constants.push(floats(name, shape, [...normals(this.constants.length, product(shape))]));
    return name;
  }

  whole(numbers: number[]): string {
    const name = `i${this.constants.length}`;
    this.constants.push(longs(name, numbers));
    return name;
  }

  slice(axis: number, from: number, to: number): string {
    return this.add("Slice", [
      this.at,
      this.whole([from]),
      this.whole([to]),
      this.whole([axis + 1]),
    ]);
  }
}

/** Steps by name; each takes the chain and an axis, and may leave it as it is. */
const FREE: Record<string, (c: Chain, axis: number) => void> = {
  unary: (c) => {
    c.at = c.add(c.pick(["Relu", "Tanh", "Sigmoid"]), [c.at]);
  },
  reshape: (c) => {
    const n = product(c.shape);
    const divisors = Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);
    const first = c.pick(divisors);
    c.shape = [first, n / first].filter((d) => d > 1);
    if (c.shape.length === 0) c.shape = [1];
    c.at = c.add("Reshape", [c.at, c.whole([-1, ...c.shape])]);
  },
  transpose: (c) => {
    if (c.shape.length !== 2) return;
    c.shape = [c.shape[1]!, c.shape[0]!];
    c.at = c.add("Transpose", [c.at], { perm: [0n, 2n, 1n] });
  },
  crossed: (c, axis) => {
    const n = c.shape[axis]!;
    const cut = 1 + Math.floor(c.next() * (n - 1));
    if (n === 1) return;
    const parts = [c.slice(axis, 0, cut), c.add("Sin", [c.slice(axis, cut, n)])];
    if (c.next() < 0.5) parts.reverse();
    c.at = c.add("Concat", parts, { axis: BigInt(axis + 1) });
  },
  sum: (c, axis) => {
    if (c.shape.length === 1) return;
    c.at = c.add("ReduceSum", [c.at, c.whole([axis + 1])], { keepdims: 0n });
    c.shape = c.shape.filter((_, i) => i !== axis);
  },
  most: (c, axis) => {
    if (c.shape.length === 1) return;
    c.at = c.add("ReduceMax", [c.at], { axes: [BigInt(axis + 1)], keepdims: 0n });
    c.shape = c.shape.filter((_, i) => i !== axis);
  },
  softmax: (c, axis) => {
    c.at = c.add("Softmax", [c.at], { axis: BigInt(axis + 1) });
  },
  constant: (c, axis) => {
    const numbers = Array.from({ length: c.shape[axis]! }, () => c.pick([1, 2]) + c.nodes.length);
    const shape = c.shape.map((n, i) => (i === axis ? n : 1));
    const constant = c.add("Constant", [], { value: floats("", shape, numbers) });
    c.at = c.add("Mul", [c.at, constant]);
  },
  doubled: (c, axis) => {
    if (product(c.shape) > 16) return;
    c.at = c.add("Concat", [c.at, c.add("Sin", [c.at])], { axis: BigInt(axis + 1) });
    c.shape = c.shape.map((n, i) => (i === axis ? 2 * n : n));
  },
};

const WITH_PARAMETERS: typeof FREE = {
  ...FREE,
  matmul: (c) => {
    const width = 1 + Math.floor(c.next() * 6);
    c.at = c.add("MatMul", [c.at, c.store([c.shape.at(-1)!, width])]);
    c.shape = [...c.shape.slice(0, -1), width];
  },
  scaled: (c) => {
    const shape = c.shape.map((n) => (c.next() < 0.6 ? n : 1));
    c.at = c.add(c.pick(["Add", "Mul"]), [c.at, c.store(shape)]);
  },
  residual: (c) => {
    const alike = c.before.filter(({ shape }) => shape.join() === c.shape.join());
    if (alike.length > 0) c.at = c.add(c.pick(["Add", "Mul"]), [c.at, c.pick(alike).name]);
  },
  stacked: (c) => {
    if (c.shape.length !== 2) return;
    c.at = c.add("Einsum", [c.at, c.store([...c.shape, 3])], { equation: "nab,abc->nac" });
    c.shape = [c.shape[0]!, 3];
  },
  attention: (c) => {
    if (c.shape.length !== 2) return;
    const turned = c.add("Transpose", [c.at], { perm: [0n, 2n, 1n] });
    const weights = c.add("Softmax", [c.add("MatMul", [c.at, turned])], { axis: 2n });
    c.at = c.add("MatMul", [weights, c.at]);
  },
};

/** x -> Gemm with the identity -> steps -> Gemm with the identity. */
function network(seed: number, kinds: typeof FREE, steps: number) {
  const size = [4, 6, 8][seed % 3]!;
  const c = new Chain(seed, size);
  for (let i = 0; i < steps; i++) {
    c.before.push({ name: c.at, shape: c.shape });
    kinds[c.pick(Object.keys(kinds))]!(c, Math.floor(c.next() * c.shape.length));
  }
  const width = product(c.shape);
  const identity = (n: number) => Array.from({ length: n * n }, (_, i) => (i % (n + 1) ? 0 : 1));
  const flat = c.add("Reshape", [c.at, c.whole([-1, width])]);
  const bytes = modelBytes({
    nodes: [
      node("Gemm", ["x", "w1", "b1"], ["h"], { transB: 1n }),
      ...c.nodes,
      node("Gemm", [flat, "w2"], ["out"], { transB: 1n }),
    ],
    inputs: [value("x", ["N", size])],
    outputs: [value("out", ["N", width])],
    initializers: [
      ...[floats("w1", [size, size], identity(size)), floats("b1", [size], Array(size).fill(0))],
      ...[floats("w2", [width, width], identity(width)), ...c.constants],
    ],
  });
  return { bytes, size, width };
}

test("what is found holds, in 80 networks", async () => {
  let count = 0;
  for (let seed = 1; seed <= 80; seed++) {
    const model = await loadModel(network(seed, WITH_PARAMETERS, 2 + (seed % 8)).bytes);
    const groups = permutationGroups(model);
    count += groups.length;
    const verified = await verifyPermutations(model, await samplesFor(model), groups, {
      places: false,
    });
    expect({ seed, wrong: verified.filter(({ residual }) => residual > 1e-9) }).toEqual({
      ...{ seed, wrong: [] },
    });
    model.dispose();
  }
  expect(count).toBeGreaterThan(80);
});

const SAMPLES = 4;

/**
 * The pairs of inputs that can be exchanged: the outputs are then the same ones in another order,
 * which the weights that read them can undo.
 */
async function allowedPairs({ bytes, size, width }: ReturnType<typeof network>) {
  const pairs = Array.from({ length: size }, (_, i) => i).flatMap((i) =>
    Array.from({ length: i }, (_, j) => [j, i] as const),
  );
  const samples = normals(7, SAMPLES * size);
  const rows = [...samples];
  for (const [i, j] of pairs)
    for (let s = 0; s < SAMPLES; s++) {
      const row = [...samples.slice(s * size, (s + 1) * size)];
      [row[i], row[j]] = [row[j]!, row[i]!];
      rows.push(...row);
    }
  const model = await loadModel(bytes);
  const x = { data: Float64Array.from(rows), shape: [rows.length / size, size] };
  const { values } = await forward(model, await loadData({ x }), { precision: "float64" });
  model.dispose();
  const outputs = (block: number) =>
    Array.from({ length: width }, (_, a) =>
      Array.from({ length: SAMPLES }, (_, s) => values[(block * SAMPLES + s) * width + a]!),
    );
  const here = outputs(0);
  const close = (a: number[], b: number[]) =>
    a.every((x, i) => Math.abs(x - b[i]!) < 1e-9 * (1 + Math.abs(x)));
  return pairs.filter((_, k) => {
    const left = [...here];
    return outputs(k + 1).every((each) => {
      const at = left.findIndex((other) => close(each, other));
      return at >= 0 && left.splice(at, 1).length === 1;
    });
  });
}

test("units that are exchanged alone are those that outputs allow, in 60 networks", async () => {
  let [right, exact] = [0, 0];
  for (let seed = 1; seed <= 60; seed++) {
    const made = network(seed, FREE, 2 + (seed % 3));
    const model = await loadModel(made.bytes);
    const found = permutationGroups(model).flatMap(({ size, places }) => {
      const own = places.filter(({ tensor, axis }) => tensor === "w1" && axis === 0);
      const units = Array.from({ length: size }, (_, u) =>
        own.flatMap((place) => [...unitPositions(place, size, u)]),
      );
      if (units[0]?.length !== 1) return [];
      const positions = units.map(([at]) => at!).sort((a, b) => a - b);
      return positions.flatMap((j, n) => positions.slice(0, n).map((i) => `${i},${j}`));
    });
    model.dispose();
    const allowed = (await allowedPairs(made)).map((pair) => pair.join());
    const wrong = found.filter((pair) => !allowed.includes(pair));
    expect({ seed, wrong }).toEqual({ seed, wrong: [] });
    right += found.length;
    exact += Number(found.length === allowed.length);
  }
  expect(right).toBeGreaterThan(100);
  // The rest: cuts that no blocks fit, which are reported as such, and accidents of the functions.
  expect(exact).toBeGreaterThanOrEqual(50);
});
