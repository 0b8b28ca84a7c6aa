/**
 * ONNX's own tests of its operators and of converted models (Debian's package libonnx-testdata):
 * every one of them passes, or stands in the list of those that do not, each with its reason.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import {
  agrees,
  backendTests,
  numbersOf,
  oneSample,
  openNetwork,
  readCase,
  skippedTests,
} from "./support/backend";

const TESTS = backendTests(["node", "pytorch-converted", "pytorch-operator", "simple"]);
const SKIPPED = skippedTests();
/** The list may get shorter. */
const MOST_SKIPPED = 142;

/** Whether all outputs of a test are as they should be. @throws what the model is refused with */
async function passes(test: (typeof TESTS)[number]): Promise<boolean> {
  const which = readCase(test);
  using data = await oneSample();
  for (const output of which.outputs) {
    const { model, value } = await openNetwork(which, output, data);
    model.dispose();
    if (!agrees(value, numbersOf(output))) return false;
  }
  return which.outputs.length > 0;
}

if (TESTS.length === 0) {
  process.stdout.write("ONNX's backend tests are not here: install libonnx-testdata to run them\n");
  test.skip("ONNX's backend tests", () => {});
} else {
  const taken = TESTS.filter(({ name }) => !SKIPPED.has(name));
  const refused = TESTS.filter(({ name }) => SKIPPED.has(name));

  test.each(taken.map((one) => [one.name, one] as const))("%s", async (_, one) => {
    expect(await passes(one)).toBe(true);
  });

  test("the list of skipped tests does not grow, and holds none that passes", async () => {
    expect(SKIPPED.size).toBeLessThanOrEqual(MOST_SKIPPED);
    const known = new Set(TESTS.map(({ name }) => name));
    expect([...SKIPPED.keys()].filter((name) => !known.has(name))).toEqual([]);
    const passing: string[] = [];
    for (const one of refused) if (await passes(one).catch(() => false)) passing.push(one.name);
    expect(passing).toEqual([]);
  });

  const debian = process.env.EIGENSCOPE_ONNX_TESTDATA === undefined;
  (debian ? test : test.skip)("what docs/operators.md counts is what there is", () => {
    const { status, stderr } = spawnSync(
      process.execPath,
      [join(__dirname, "../scripts/count-backend-tests.mjs"), "--check"],
      { encoding: "utf8" },
    );
    expect(stderr).toBe("");
    expect(status).toBe(0);
  });

  test("what ONNX's tests of operators in use are: all of them pass", () => {
    // 554 is how many use only operators that exporters of networks write.
    process.stdout.write(
      `ONNX backend tests: ${taken.length} of ${TESTS.length} run forward, ` +
        `${refused.length} are skipped with a reason\n`,
    );
    expect(taken.length).toBeGreaterThanOrEqual(554);
  });
}
