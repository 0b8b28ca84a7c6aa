// The error classes: names, codes, exit codes, and that those of the core are the same.
import * as errors from "../lib/errors";
import { native } from "../lib/native";

// Exit codes: 1 internal, 2 bad input, 3 unsupported model, 4 not converged, 130 interrupted.
const TABLE: [new (message: string) => errors.EigenscopeError, string, string, string, number][] = [
  [errors.InternalError, "Internal", "InternalError", "ERR_INTERNAL", 1],
  [errors.OptionError, "Option", "OptionError", "ERR_OPTION", 2],
  [errors.ModelFormatError, "ModelFormat", "ModelFormatError", "ERR_MODEL_FORMAT", 2],
  [errors.DataMismatchError, "DataMismatch", "DataMismatchError", "ERR_DATA_MISMATCH", 2],
  [errors.MemoryBudgetError, "MemoryBudget", "MemoryBudgetError", "ERR_MEMORY_BUDGET", 2],
  [
    errors.UnsupportedOperatorError,
    "UnsupportedOperator",
    "UnsupportedOperatorError",
    "ERR_UNSUPPORTED_OPERATOR",
    3,
  ],
  [errors.NotConvergedError, "NotConverged", "NotConvergedError", "ERR_NOT_CONVERGED", 4],
  [errors.AbortError, "Abort", "AbortError", "ABORT_ERR", 130],
];

test.each(TABLE)("%o", (Class, kind, name, code, exitCode) => {
  const error = new Class("what was expected");
  expect(error).toBeInstanceOf(errors.EigenscopeError);
  expect(error).toBeInstanceOf(Error);
  expect({ ...error }).toMatchObject({ kind, code });
  expect(error.name).toBe(name);
  expect(error.exitCode).toBe(exitCode);
  expect(errors.exitCodeOf(error)).toBe(exitCode);
  expect(error.message).toBe("what was expected");
  expect(error.stack?.startsWith(`${name}: what was expected`)).toBe(true);
  expect(Object.keys(error)).not.toContain("name");
});

test("every kind has its class, and the table above all of them", () => {
  const classes = errors.errorClasses();
  expect(Object.keys(classes).sort()).toEqual(TABLE.map(([, kind]) => kind).sort());
  for (const [Class, kind] of TABLE) expect(classes[kind as errors.ErrorKind]).toBe(Class);
});

test("other errors count as internal, and causes are kept", () => {
  expect(errors.exitCodeOf(new TypeError("x"))).toBe(1);
  expect(errors.exitCodeOf("x")).toBe(1);
  const cause = new Error("below");
  expect(new errors.OptionError("above", { cause }).cause).toBe(cause);
});

test("errors of the core are instances of these classes", () => {
  let error: unknown;
  try {
    native().createModel({} as never, {} as never);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(errors.OptionError);
  expect((error as errors.OptionError).kind).toBe("Option");
  expect((error as Error).message).toContain("model: nodes: expected an array, got undefined");
});

test("the core is loaded once", () => {
  expect(native()).toBe(native());
});
