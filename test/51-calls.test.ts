// Long calls: the event loop stays free, an abort rejects without waiting, progress is reported, and what
// waits behind an aborted call goes on.
import { AbortError, eigsh, hessian, linearOperator, type Progress } from "../lib";
import { hold, openCase, rejection, vector } from "./50-helpers";

const never = () => new Promise<never>(() => {});

/** A product that takes as long as it likes, in steps that leave JavaScript free. */
function slowOperator(dim: number, milliseconds: number) {
  return linearOperator(dim, async (V) => {
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    return V.map((x, i) => x / (1 + (i % dim)));
  });
}

async function longCase() {
  const { model, data } = await openCase("mlp_relu");
  return hessian(model, data, { precision: "float64", threads: 1 });
}

test("timers fire while the core computes", async () => {
  const H = await longCase();
  await H.report(); // compiled
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  const products = 5;
  const block = vector(64 * H.dim);
  for (let i = 0; i < products; i++) await H.apply(block);
  clearInterval(timer);
  // Were the loop blocked, a product would be one tick; here it is many, however busy the machine.
  expect(ticks).toBeGreaterThan(2 * products);
  H.dispose();
});

test("an abort rejects before the core is free again, and frees the operator", async () => {
  const H = await longCase();
  const v = vector(H.dim);
  const controller = new AbortController();
  const order: string[] = [];
  const call = H.apply(vector(512 * H.dim), { signal: controller.signal });
  const next = H.apply(v).then((image) => {
    order.push("next");
    return image;
  });
  hold(30);
  controller.abort(new Error("enough"));
  const error = await rejection(call);
  order.push("rejected");
  expect(error).toBeInstanceOf(AbortError);
  expect(error.name).toBe("AbortError");
  expect(error.code).toBe("ABORT_ERR");
  expect((error.cause as Error).message).toBe("enough");

  expect((await next).length).toBe(H.dim); // the next call is served
  expect(order).toEqual(["rejected", "next"]);
  H.dispose();
});

test("an abort rejects even where a function never answers", async () => {
  const A = linearOperator(4, never);
  const controller = new AbortController();
  const call = eigsh(A, { k: 1, signal: controller.signal });
  setTimeout(() => controller.abort(), 20);
  expect((await rejection(call)).name).toBe("AbortError");
});

test("a call that waits in the queue can be aborted, and those behind it are served", async () => {
  const H = await longCase();
  const controller = new AbortController();
  const v = vector(H.dim);
  const alone = await H.apply(v);
  const first = H.apply(vector(64 * H.dim));
  const second = H.apply(vector(64 * H.dim), { signal: controller.signal });
  const third = H.apply(v);
  controller.abort();
  expect((await rejection(second)).name).toBe("AbortError");
  await first;
  expect(await third).toEqual(alone);
  H.dispose();
});

test("a signal that was aborted before starts nothing", async () => {
  let asked = 0;
  const A = linearOperator(4, (V) => {
    asked++;
    return V;
  });
  const error = await rejection(A.apply(vector(4), { signal: AbortSignal.abort() }));
  expect(error.name).toBe("AbortError");
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(asked).toBe(0);
});

test("a settled call lets go of its signal", async () => {
  const A = linearOperator(4, (V) => V);
  const controller = new AbortController();
  let listeners = 0;
  const { signal } = controller;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = ((...args: Parameters<typeof add>) => {
    listeners++;
    add(...args);
  }) as typeof add;
  signal.removeEventListener = ((...args: Parameters<typeof remove>) => {
    listeners--;
    remove(...args);
  }) as typeof remove;
  for (let i = 0; i < 20; i++) await A.apply(vector(4), { signal });
  expect(listeners).toBe(0);
});

test("progress: products rise, the residual falls, at most ten a second", async () => {
  const seen: Progress[] = [];
  const A = slowOperator(60, 10);
  const begin = performance.now();
  const top = await eigsh(A, { k: 3, tol: 1e-10, onProgress: (progress) => seen.push(progress) });
  const seconds = (performance.now() - begin) / 1000;
  expect(top.converged).toBe(true);
  expect(seen.length).toBeGreaterThan(1);
  expect(seen.length).toBeLessThanOrEqual(2 + 10 * seconds);
  const products = seen.map((progress) => progress.products);
  expect(products).toEqual([...products].sort((a, b) => a - b));
  expect(products.at(-1)!).toBeLessThanOrEqual(top.products);
  for (const { residual, seconds } of seen) {
    expect(seconds).toBeGreaterThan(0);
    if (residual !== undefined) expect(residual).toBeGreaterThanOrEqual(0);
  }
});

test("what onProgress throws ends the call", async () => {
  const mine = new TypeError("mine");
  let asked = 0;
  const A = linearOperator(60, async (V) => {
    asked++;
    await new Promise((resolve) => setTimeout(resolve, 10));
    return V.map((x, i) => x / (1 + i));
  });
  const error = await rejection(
    eigsh(A, {
      k: 3,
      onProgress: () => {
        throw mine;
      },
    }),
  );
  expect(error).toBe(mine);
  const then = asked;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(asked).toBeLessThanOrEqual(then + 1);
});

test("errors of the core carry the stack of the caller", async () => {
  const A = linearOperator(4, () => Float64Array.from([0, Number.NaN, 0, 0]));
  async function whoAsked() {
    return await A.apply(vector(4));
  }
  const error = await rejection(whoAsked());
  expect(error.name).toBe("DataMismatchError");
  expect(error.message).toContain("returned nan for coordinate 1 of vector 0");
  expect(error.stack).toContain("whoAsked");
});

test("two solves on one operator at once are those of each alone", async () => {
  const H = await longCase();
  const options = { k: 3, tol: 1e-9 } as const;
  const alone = await eigsh(H, { ...options, which: "LA" });
  const [a, b] = await Promise.all([
    eigsh(H, { ...options, which: "LA" }),
    eigsh(H, { ...options, which: "SA" }),
  ]);
  expect(a.values).toEqual(alone.values);
  expect(a.vectors).toEqual(alone.vectors);
  expect(b.converged).toBe(true);
  expect(b.values[0]!).toBeLessThan(a.values[2]!);
  H.dispose();
});
