// Alignment on the groups that are found in the graph: planted permutations of whole networks.
import { align, forward, type Model, parameterVector, permutationGroups, permute } from "../lib";
import { nestingOf, outerFirst } from "../lib/align/nesting";
import { memberships, Network } from "../lib/align/network";
import { Random } from "../lib/random";
import { openCase, relative } from "./50-helpers";

function shuffled(size: number, random: Random): number[] {
  const order = Array.from({ length: size }, (_, i) => i);
  for (let i = size - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

/** The network with the units of every group in a random order. */
function disordered(model: Model, seed: number): Model {
  const random = new Random(seed);
  return permutationGroups(model).reduce(
    (last, group) => permute(model, last, group, shuffled(group.size, random)),
    model,
  );
}

const precision = "float64";

test.each(["cnn_small", "resnet_bn", "mlp_relu"])(
  "%s: units in any order are found again",
  async (name) => {
    const { model, data } = await openCase(name);
    const other = disordered(model, 5);
    const wanted = (await forward(model, data, { precision, samples: 8 })).values;
    const moved = (await forward(other, data, { precision, samples: 8 })).values;
    expect(relative(moved, wanted)).toBeLessThan(1e-12);
    expect(parameterVector(other)).not.toEqual(parameterVector(model));
    using found = await align(model, other);
    expect(found.converged).toBe(true);
    expect(found.churn).toBeGreaterThan(0.5);
    // Buffers too.
    using a = new Network("test", found.aligned());
    using b = new Network("test", model);
    expect(a.state).toEqual(b.state);
  },
);

test.each(["cnn_small", "resnet_bn"])(
  "%s: by activations and by transport as well",
  async (name) => {
    const { model, data } = await openCase(name);
    const other = disordered(model, 6);
    for (const method of ["activations", "fusion"] as const) {
      using found = await align(model, other, { method, data, samples: 32, precision });
      expect(found.parameters).toEqual(parameterVector(model));
    }
  },
);

test.each(["transformer", "gpt_tied", "torch_encoder_dynamo", "grouped_conv", "mobilenet"])(
  "%s: groups inside the units of others, such as the width of a head, are found again",
  async (name) => {
    const { model, data } = await openCase(name);
    const other = disordered(model, 7);
    const run = { precision, samples: 4 } as const;
    const wanted = (await forward(model, data, run)).values;
    expect(relative((await forward(other, data, run)).values, wanted)).toBeLessThan(1e-12);
    using found = await align(model, other, { seed: 1 });
    expect(found.converged).toBe(true);
    expect(found.parameters).toEqual(parameterVector(model));
    // The orders, applied as they are listed, make the aligned network.
    const again = found.groups.reduce((last, { name: of, order }, g) => {
      const group = outerFirst("test", new Network("test", model), permutationGroups(model))[g]!;
      expect(group.name).toBe(of);
      return permute(model, last, group, order!);
    }, other);
    expect(parameterVector(again)).toEqual(found.parameters);
  },
);

test("heads come before their widths, whatever the list says", async () => {
  const { model } = await openCase("transformer");
  using network = new Network("test", model);
  const groups = permutationGroups(model);
  const reversed = outerFirst("test", network, [...groups].reverse());
  const inner = nestingOf(reversed, memberships("test", network, reversed));
  const nested = inner.flatMap((units, outer) =>
    units ? units.flat().map((g) => [outer, g]) : [],
  );
  expect(nested.length).toBeGreaterThan(0);
  for (const [outer, g] of nested) expect(outer!).toBeLessThan(g!);
});

test("transport is refused for groups inside one another", async () => {
  const { model } = await openCase("transformer");
  await expect(align(model, model, { method: "fusion" })).rejects.toThrow(
    "lie inside one another, as heads of attention and their widths do",
  );
});
