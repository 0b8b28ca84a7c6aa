// What operators hold and when it goes: dispose, garbage, workers that end, processes that exit.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { eigsh, hessian } from "../lib";
import { CASES, hold, openCase, rejection, tinyProblem, vector } from "./50-helpers";

const root = join(__dirname, "..");

/** Runs a script that uses the built library, in a process of its own. */
function script(text: string, flags: string[] = []) {
  const head = `
    const es = require(${JSON.stringify(join(root, "dist", "index.js"))});
    const dir = ${JSON.stringify(join(CASES, "mlp_relu"))};
    const open = async () => {
      const model = await es.loadModel(dir + "/model.onnx", { loss: "cross-entropy" });
      const data = await es.loadData({ x: dir + "/x.npy", y: dir + "/y.npy" });
      return { model, data, H: es.hessian(model, data) };
    };`;
  const result = spawnSync(process.execPath, [...flags, "-e", head + text], {
    encoding: "utf8",
    timeout: 50_000,
  });
  return { status: result.status, signal: result.signal, out: result.stdout, err: result.stderr };
}

test("use after dispose is an error that says so", async () => {
  const { model, data } = await tinyProblem();
  const H = hessian(model, data, { precision: "float64" });
  const part = H.restrict("w1").shift(1);
  const rest = H.shift(2);
  await H.apply(vector(H.dim));
  H.dispose();
  H.dispose(); // twice is fine
  for (const gone of [H, rest])
    expect((await rejection(gone.apply(vector(gone.dim)))).message).toMatch(/disposed of/);
  expect((await rejection(eigsh(H, { k: 1 }))).message).toContain("disposed of");
  expect(() => H.scale(2)).toThrow("disposed of");
  // A restriction to whole tensors is an operator of its own.
  expect((await part.apply(vector(part.dim))).length).toBe(12);
  model.dispose();
  data.dispose();
  expect(() => hessian(model, data)).toThrow("disposed");
});

test("disposing of a composition leaves what it was made of", async () => {
  const { model, data } = await tinyProblem();
  const H = hessian(model, data, { precision: "float64" });
  const v = vector(H.dim);
  const before = await H.apply(v);
  const twice = H.scale(2);
  await twice.apply(v);
  twice.dispose();
  expect((await rejection(twice.apply(v))).message).toContain("disposed of");
  expect(await H.apply(v)).toEqual(before);
  H.dispose();
});

test("calls under way finish when their operator is disposed of", async () => {
  const { model, data } = await openCase("mlp_relu");
  const H = hessian(model, data);
  const solving = eigsh(H, { k: 2 });
  H.dispose();
  expect((await solving).converged).toBe(true);
  expect((await rejection(H.apply(new Float32Array(H.dim)))).message).toContain("disposed of");
});

test("models and data may go while an operator of them is used", async () => {
  const { model, data } = await openCase("mlp_relu");
  const H = hessian(model, data);
  model.dispose();
  data.dispose();
  expect((await eigsh(H, { k: 1 })).converged).toBe(true);
  H.dispose();
});

test("a function that nothing else refers to is kept by its operator, and goes with it", () => {
  const { status, out, err } = script(
    `
    const registry = new FinalizationRegistry(() => collected++);
    let collected = 0;
    const make = () => {
      // Refers back to the operator: a cycle through the addon.
      const f = (V) => (A, V);
      const A = es.linearOperator(4, f);
      registry.register(f, 0);
      return A.shift(1);
    };
    (async () => {
      let B = make();
      for (let i = 0; i < 5; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const y = await B.apply(new Float64Array([1, 2, 3, 4]));
      console.log(Array.from(y).join(), collected);
      B = undefined;
      for (let i = 0; i < 20 && !collected; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      console.log(collected);
    })();`,
    ["--expose-gc"],
  );
  expect(err).toBe("");
  expect(out).toBe("2,4,6,8 0\n1\n");
  expect(status).toBe(0);
});

test("load, solve and dispose, a thousand times over, leaves memory flat", () => {
  const { status, out, err } = script(
    `
    const rss = () => { gc(); return process.memoryUsage().rss / 2 ** 20; };
    const round = async () => {
      const { model, data, H } = await open();
      await es.eigsh(H.restrict("net.4.*"), { k: 1, maxProducts: 8 });
      H.dispose(); model.dispose(); data.dispose();
    };
    (async () => {
      for (let i = 0; i < 400; i++) await round();
      const before = rss();
      for (let i = 0; i < 1000; i++) await round();
      console.log(rss() - before);
    })();`,
    ["--expose-gc", "--max-semi-space-size=2"],
  );
  expect(err).toBe("");
  expect(status).toBe(0);
  // The file has 70 kB and the data 66 kB: a leak of either would be 64 MB or more. V8 would grow
  // its young generation by as much, whatever is in it, if it were let.
  expect(Number(out)).toBeLessThan(40);
});

test("without dispose, garbage collection returns what operators hold", () => {
  const { status, out, err } = script(
    `
    const settle = async () => {
      for (let i = 0; i < 3; i++) {
        gc();
        await new Promise((resolve) => setTimeout(resolve, 20)); // finalizers run in between
      }
      return process.memoryUsage().rss / 2 ** 20;
    };
    const round = async () => {
      const { H } = await open();
      await H.apply(new Float32Array(H.dim));
    };
    (async () => {
      for (let i = 0; i < 100; i++) await round();
      const before = await settle();
      for (let i = 0; i < 500; i++) await round();
      console.log((await settle()) - before);
    })();`,
    ["--expose-gc"],
  );
  expect(err).toBe("");
  expect(status).toBe(0);
  // An operator of this case holds 2 MB: 500 of them would show.
  expect(Number(out)).toBeLessThan(200);
});

test("a process that has nothing else to do waits for its calls, and then ends", () => {
  const { status, out } = script(`
    open().then(({ H }) => H.apply(new Float32Array(H.dim))).then((y) => console.log(y.length));`);
  expect(out).toBe("17226\n");
  expect(status).toBe(0);
});

test("an aborted call does not keep the process", () => {
  const { status, out } = script(`
    const A = es.linearOperator(4, () => new Promise(() => {}));
    const controller = new AbortController();
    es.eigsh(A, { k: 1, signal: controller.signal }).catch((e) => console.log(e.name));
    setTimeout(() => controller.abort(), 20);`);
  expect(out).toBe("AbortError\n");
  expect(status).toBe(0);
});

test.each([
  ["process.exit", "process.exit(7)", 7],
  ["an uncaught exception", "throw new Error('mine')", 1],
])("%s in the middle of calls ends the process with its status", (_, end, expected) => {
  const { status, signal } = script(`
    const slow = es.linearOperator(4, () => new Promise(() => {}));
    es.eigsh(slow, { k: 1 }).catch(() => {});
    open().then(({ H }) => {
      H.apply(new Float32Array(2000 * H.dim).fill(1)).catch(() => {});
      es.eigsh(H, { k: 20, which: "SA", tol: 1e-14 }).catch(() => {});
      setTimeout(() => { ${end} }, 50);
    });`);
  expect(signal).toBeNull();
  expect(status).toBe(expected);
});

test("workers compute at once, and one may be terminated in the middle of a call", () => {
  const { status, out, err } = script(`
    const { Worker, isMainThread } = require("node:worker_threads");
    const code = (body) => ${"`"}
      const { parentPort } = require("node:worker_threads");
      const es = require(${JSON.stringify(join(root, "dist", "index.js"))});
      const dir = "\${dir}";
      (async () => {
        const model = await es.loadModel(dir + "/model.onnx", { loss: "cross-entropy" });
        const data = await es.loadData({ x: dir + "/x.npy", y: dir + "/y.npy" });
        const H = es.hessian(model, data);
        \${body}
      })();${"`"};
    const solve = "parentPort.postMessage((await es.eigsh(H, { k: 2 })).values);";
    const stuck = \`
      es.eigsh(es.linearOperator(4, () => new Promise(() => {})), { k: 1 });
      H.apply(new Float32Array(2000 * H.dim).fill(1));
      setTimeout(() => parentPort.postMessage("busy"), 50);\`;
    const first = (body) => new Promise((resolve, reject) => {
      const worker = new Worker(code(body), { eval: true });
      worker.once("message", (value) => resolve({ worker, value }));
      worker.once("error", reject);
    });
    (async () => {
      const { H } = await open();
      const [a, b, c] = await Promise.all([
        first(solve), first(solve), es.eigsh(H, { k: 2 }),
      ]);
      console.log(a.value.join() === b.value.join() && b.value.join() === c.values.join());
      const { worker, value } = await first(stuck);
      console.log(value, await worker.terminate());
      console.log((await es.eigsh(H, { k: 2 })).values.join() === c.values.join());
    })();`);
  expect(err).toBe("");
  expect(out).toBe("true\nbusy 1\ntrue\n");
  expect(status).toBe(0);
});

test("a call that was given up holds its vectors until its thread is done", async () => {
  const { model, data } = await openCase("mlp_relu");
  const H = hessian(model, data);
  for (let i = 0; i < 5; i++) {
    const controller = new AbortController();
    const call = H.apply(new Float32Array(256 * H.dim).fill(1), { signal: controller.signal });
    hold(5);
    controller.abort();
    expect((await rejection(call)).name).toBe("AbortError");
  }
  expect((await H.apply(new Float32Array(H.dim))).length).toBe(H.dim);
});
