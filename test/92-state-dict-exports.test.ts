// Files of PyTorch's exporters against their state_dict: what the exporters merge, fuse, untie and
// rename is found, and the Hessian is PyTorch's or a warning says what differs.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  fromStateDict,
  gradient,
  hessian,
  loadCheckpoint,
  loadData,
  loadModel,
  type Model,
  parameterVector,
} from "../lib";
import { withArrays } from "../lib/data/read-arrays";
import { relative } from "./50-helpers";

const ZOO = join(__dirname, "fixtures", "zoo");
const PARAMETERS: Record<string, { parameters: { name: string; offset: number; size: number }[] }> =
  JSON.parse(readFileSync(join(ZOO, "parameters.json"), "utf8"));

const open = (network: string, setting: string, ties?: [string, string][]) =>
  loadModel(join(ZOO, network, `${setting}.onnx`), {
    loss: "cross-entropy",
    stateDict: join(ZOO, network, "state_dict.safetensors"),
    ...(ties && { ties }),
  });

const mappingOf = (model: Model) => model.warnings.filter((text) => text.startsWith("state_dict"));

/** Gradient and Hessian products against PyTorch's, vectors placed by the mapping. */
async function errors(network: string, model: Model): Promise<Record<string, number>> {
  const read = (file: string) =>
    withArrays(join(ZOO, network, file), {}, async ([array]) => ({
      rows: array!.shape.length > 1 ? array!.shape[0]! : 1,
      values: await array!.values(),
    }));
  const { parameters } = PARAMETERS[network]!;
  const place = async (file: string) => {
    const { rows, values } = await read(file);
    const P = values.length / rows;
    return Array.from({ length: rows }, (_, k) =>
      fromStateDict(
        model,
        Object.fromEntries(
          parameters.map(({ name, offset, size }) => [
            name,
            values.subarray(k * P + offset, k * P + offset + size),
          ]),
        ),
      ),
    );
  };
  using data = await loadData({
    x: join(ZOO, network, "x.npy"),
    y: join(ZOO, network, "y.npy"),
  });
  const found = await gradient(model, data, { precision: "float64" });
  using H = hessian(model, data, { precision: "float64" });
  const products = await H.apply(Float64Array.from((await place("v.npy")).flatMap((v) => [...v])));
  return {
    gradient: relative(found.gradient, (await place("grad.npy"))[0]!),
    products: relative(
      products,
      (await place("hv.npy")).flatMap((v) => [...v]),
    ),
  };
}

async function expectPyTorchs(network: string, model: Model): Promise<void> {
  for (const error of Object.values(await errors(network, model))) expect(error).toBeLessThan(1e-9);
}

test.each([
  ["gpt", "recipe"],
  ["gpt", "dynamo"],
  ["vgg_bn", "recipe"],
  ["bilstm", "default"],
  ["bilstm", "dynamo-optimized"],
])("%s by %s has PyTorch's Hessian, and no warning of the mapping", async (network, setting) => {
  using model = await open(network, setting);
  expect(mappingOf(model)).toEqual([]);
  await expectPyTorchs(network, model);
});

test("gates, directions and both biases of recurrent layers are found packed", async () => {
  using model = await open("bilstm", "default");
  const packed = model.stateDict!.matches.filter(({ rule }) => rule === "packed");
  expect(packed).toHaveLength(6);
  expect(packed.map(({ names }) => names.join(" "))).toContain(
    "rnn.bias_ih_l0 rnn.bias_hh_l0 rnn.bias_ih_l0_reverse rnn.bias_hh_l0_reverse",
  );
  // A checkpoint of PyTorch's names is read through the mapping.
  const theta = await loadCheckpoint(model, join(ZOO, "bilstm", "state_dict.safetensors"));
  expect([...theta]).toEqual([...parameterVector(model)]);
});

describe("new ResNet-18: equal tensors", () => {
  const network = "resnet18_untrained";

  test("stored once by the recipe are separate parameters with PyTorch's derivatives", async () => {
    using model = await open(network, "recipe");
    expect(model.warnings.join()).toMatch(/were stored once, as their values were equal/);
    expect(model.parameterCount).toBe(
      PARAMETERS[network]!.parameters.reduce((sum, { size }) => sum + size, 0),
    );
    // Merged statistics equal scales and shifts, and are none.
    expect(model.tensors.filter(({ role }) => role === "buffer")).toHaveLength(40);
    await expectPyTorchs(network, model);
  });

  test("fused by the default export keep a bias each", async () => {
    using model = await open(network, "default");
    const biases = model.parameters.filter(({ shape }) => shape.length === 1);
    expect(biases).toHaveLength(21);
    expect(mappingOf(model)).toHaveLength(1);
    expect(mappingOf(model)[0]).toMatch(
      /batch norm was fused into .*with one of 5 equal batch norms.*spectrum is another/,
    );
  });

  test("dropped by the dynamo optimiser, as they are zero, are said to be", async () => {
    using model = await open(network, "dynamo-optimized");
    expect(mappingOf(model)).toEqual([
      expect.stringMatching(
        /fused into conv1\.weight with one of 5 equal batch norms, its shift left out/,
      ),
    ]);
  });
});

describe("tied GPT", () => {
  test.each([
    ["default", ["tokens.weight", "head.weight"]],
    ["dynamo-optimized", ["tokens.weight", "head.weight"]],
  ])("%s breaks the tie, and the warning names both", async (setting, names) => {
    using model = await open("gpt", setting);
    const { untied } = model.stateDict!;
    expect(untied).toHaveLength(1);
    expect(untied[0]!.certain).toBe(true);
    expect([...untied[0]!.names].sort()).toEqual([...names].sort());
    expect(mappingOf(model)).toHaveLength(1);
    expect(mappingOf(model)[0]).toMatch(/the network shares tensors that the file stores apart/);
    expect(model.parameterCount).toBe(824 + 128);
  });
});

describe("VGG with batch norm", () => {
  test("weights that the dynamo optimiser changed under their names are fused, not trusted", async () => {
    using model = await open("vgg_bn", "dynamo-optimized");
    const first = model.parameters.find(({ name }) => name === "0.weight")!;
    expect(first.stateDict).toEqual({
      tensor: "0.weight",
      rule: "fused",
      names: ["0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"],
      note: "with the batch norm 1",
    });
    expect(first.stateDictName).toBeUndefined();
    expect(mappingOf(model)).toHaveLength(1);
    expect(mappingOf(model)[0]).toMatch(/fused into 0\.weight with the batch norm 1/);
    expect(() => fromStateDict(model, {})).toThrow(/got 0\.weight \(fused\)/);
  });

  test("a state_dict of another moment is stale", async () => {
    using model = await loadModel(join(ZOO, "vgg_bn", "recipe.onnx"), {
      loss: "cross-entropy",
      stateDict: join(ZOO, "gpt", "state_dict.safetensors"),
    });
    expect(new Set(model.parameters.map(({ stateDict }) => stateDict!.rule))).toEqual(
      new Set(["unknown"]),
    );
    expect(mappingOf(model).join("\n")).toMatch(/nothing in the state_dict makes 0\.weight/);
  });
});

test("npm run test:torch says loudly where it has no PyTorch", () => {
  const script = join(__dirname, "..", "scripts", "test-torch.mjs");
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, "--offline"], {
    encoding: "utf8",
    env: { ...process.env, EIGENSCOPE_PYTHON: join(ZOO, "no-python") },
  });
  expect(status).toBe(3);
  expect(stdout).toBe("");
  expect(stderr).toMatch(/NO PYTORCH: EIGENSCOPE_PYTHON=.*no-python cannot import torch/);
  expect(stderr).toMatch(/were NOT compared/);
});
