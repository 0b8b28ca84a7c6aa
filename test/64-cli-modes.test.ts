// --batch-norm, --dropout-seed and --bind on the command line.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eigsh, ggn, loadData, loadModel } from "../lib";
import { writeNpy } from "../lib/data/npy";
import { DataType, floats, modelBytes, node, value } from "./10-model-maker";
import { cli, json } from "./60-run";
import { normals } from "./support/numbers";

const FIXTURES = join(__dirname, "fixtures", "modes");
const model = join(FIXTURES, "mlp_training.onnx");
const wanted = JSON.parse(readFileSync(join(FIXTURES, "mlp_training.json"), "utf8"));

let folder: string;
let data: string[];
let bindable: string;
let masked: string[];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "eigenscope-modes-"));
  const path = (name: string) => join(folder, name);
  await writeNpy(path("x.npy"), Float64Array.from(wanted.x), wanted.shape);
  await writeNpy(path("y.npy"), Int32Array.from(wanted.y), [wanted.y.length]);
  data = ["--inputs", path("x.npy"), "--targets", path("y.npy")];
  bindable = path("bindable.onnx");
  writeFileSync(
    bindable,
    modelBytes({
      nodes: [
        node("Cast", ["gain"], ["g"], { to: 1n }),
        node("Mul", ["x", "g"], ["a"]),
        node("MatMul", ["a", "w"], ["b"]),
        node("Add", ["b", "h0"], ["c"]),
        node("Mul", ["c", "mask"], ["d"]),
        node("Tanh", ["d"], ["out"]),
      ],
      inputs: [
        value("x", ["batch", 5]),
        value("gain", [], DataType.INT64),
        value("h0", ["batch", 3]),
        value("mask", [3]),
      ],
      outputs: [value("out", ["batch", 3])],
      initializers: [floats("w", [5, 3], [...normals(1, 15)])],
    }),
  );
  await writeNpy(path("mask.npy"), Float32Array.of(1, 0, 2), [3]);
  masked = ["gain=2", "h0=0.5", `mask=${path("mask.npy")}`].flatMap((one) => ["--bind", one]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("--batch-norm batch takes the statistics of --batch samples, and says so", async () => {
  const args = [model, "--batch-norm", "batch", "--batch", "4", "--precision", "float64"];
  const found = json("spectrum", ...args, ...data, "--operator", "ggn", "--k", "2");
  using network = await loadModel(model, { loss: "cross-entropy", batchNorm: { batch: 4 } });
  using samples = await loadData({ x: join(folder, "x.npy"), y: join(folder, "y.npy") });
  using G = ggn(network, samples, { precision: "float64" });
  const { values } = await eigsh(G, { k: 2 });
  expect(found.values).toEqual([...values]);
  expect(found.modes).toMatchObject({ batchNorm: "batch", statisticsBatch: 4 });
  const human = cli("spectrum", ...args, ...data, "--operator", "ggn", "--k", "2");
  expect(human.out).toMatch(/batch norm: statistics of batches of 4\ndropout: off\nThe Gauss/);
  const { out } = cli("inspect", ...args);
  expect(out).toMatch(/batch norm: statistics of batches of 4\ndropout: off\n/);
  const { modes } = json("inspect", ...args, "--dropout-seed", "18446744073709551615");
  expect(modes).toEqual({
    ...{ batchNorm: "batch", statisticsBatch: 4, dropoutSeed: "18446744073709551615" },
    bound: [],
  });
});

test("a file of training mode is unsupported until it is said what is meant", () => {
  const { status, err } = cli("spectrum", model, ...data);
  expect(status).toBe(3);
  expect(err).toMatch(/--batch-norm batch\).*"running"/);
  const running = cli("inspect", model, "--batch-norm", "running", "--dropout-seed", "3");
  expect(running.out).toMatch(/batch norm: stored statistics\ndropout: fixed masks of seed 3\n/);
  const wrong = cli("inspect", model, "--batch-norm", "train");
  expect([wrong.status, wrong.err]).toEqual([2, expect.stringMatching(/running, batch/)]);
  const rows = cli("trace", model, ...data, "--batch-norm", "batch", "--operator", "fisher-mc");
  expect([rows.status, rows.err]).toEqual([2, expect.stringMatching(/depends on all samples/)]);
});

test("verify holds in training mode, where onnxruntime and smaller batches are left out", () => {
  const args = [model, ...data, "--batch-norm", "batch", "--dropout-seed", "1"];
  const { passed, checks } = json("verify", ...args);
  expect(passed).toBe(true);
  const skipped = checks.filter(({ error }: { error: unknown }) => error === null);
  const names = skipped.map(({ identity }: { identity: string }) => identity);
  expect(names).toContain("forward = onnxruntime");
  expect(names).toContain("fisher-mc");
  expect(names).toContain("hessian: same in batches of 4");
  expect(names).not.toContain("hessian: u'Av = v'Au");
});

test("--bind gives constants to inputs: numbers, files, free lengths; verify feeds them on", () => {
  const target = ["--inputs", join(folder, "x.npy"), "--targets", join(folder, "t.npy")];
  const { out, status } = cli("inspect", bindable, ...masked);
  expect(status).toBe(0);
  expect(out).toContain("input gain: bound to 2\n");
  expect(out).toContain("input h0: bound to 0.5 in (?, 3)\n");
  expect(out).toContain("input mask: bound to 1, 0, 2 in (3)\n");
  expect(out).not.toMatch(/^input gain: int64/m);
  return writeNpy(join(folder, "t.npy"), normals(2, 36), [12, 3]).then(() => {
    const { passed, checks } = json("verify", bindable, ...target, "--loss", "mse", ...masked);
    expect(passed).toBe(true);
    expect(checks[0].identity).toBe("forward = onnxruntime");
    expect(checks[0].error === null ? checks[0].note : checks[0].error).toBeLessThan(1e-5);
  });
});

test.each([
  ["gain", /expected NAME=VALUE, such as mask=1 or state=state.npy, got "gain"/],
  ["gain=1.5", /bind.gain: expected whole numbers, as the input is int64, got 1.5/],
  ["gain=1,2", /bind.gain: expected numbers of the shape \(\)/],
  ["volume=1", /names of the model's inputs \(x, gain, h0, mask\), got "volume"/],
])("--bind %s is an error of the options", (given, message) => {
  const { status, err } = cli("inspect", bindable, "--bind", given);
  expect([status, err]).toEqual([2, expect.stringMatching(message)]);
});
