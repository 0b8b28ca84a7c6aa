/**
 * The errors that eigenscope throws. Every message says what was expected, for which name, what
 * came, and what to do. None of them ends the process.
 */

/** The kind of an error as the core names it; one class each. */
export type ErrorKind =
  | "Internal"
  | "Option"
  | "ModelFormat"
  | "UnsupportedOperator"
  | "DataMismatch"
  | "MemoryBudget"
  | "NotConverged"
  | "Abort";

/** The base of every error that eigenscope throws on purpose. */
export class EigenscopeError extends Error {
  /** Stable across releases, for programs: "ERR_MODEL_FORMAT" and so on. */
  readonly code: string;
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
    this.code = KINDS[kind].code;
  }

  /** The exit code of the command line for this error. */
  get exitCode(): number {
    return KINDS[this.kind].exitCode;
  }
}

/** A defect of eigenscope itself. */
export class InternalError extends EigenscopeError {
  constructor(message: string, options?: ErrorOptions) {
    super("Internal", message, options);
  }
}

/** An option or argument that is not what it must be. */
export class OptionError extends EigenscopeError {
  constructor(message: string, options?: ErrorOptions) {
    super("Option", message, options);
  }
}

/** A model file that cannot be read: no ONNX, truncated, of another opset, data missing. */
export class ModelFormatError extends EigenscopeError {
  constructor(message: string, options?: ErrorOptions) {
    super("ModelFormat", message, options);
  }
}

/** One node that eigenscope has no rule for. */
export interface UnsupportedNode {
  /** The operator, with its domain where that is not ONNX's own: "com.microsoft.FusedMatMul". */
  op: string;
  /** The node's name, or that of its first output where it has none. */
  node: string;
  /** What about it is not supported. */
  reason: string;
}

/** Where the package says which operators, and which forms of them, there are rules for. */
export const OPERATORS_PAGE = "node_modules/eigenscope/docs/operators.md";
const WHAT_IS = `\nWhat is supported: ${OPERATORS_PAGE}`;

/** A model with operators that eigenscope has no rule for; it names all of them. */
export class UnsupportedOperatorError extends EigenscopeError {
  /** Every unsupported node, in the order of the file. */
  readonly operators: readonly UnsupportedNode[];

  constructor(
    message: string,
    options?: ErrorOptions & { operators?: readonly UnsupportedNode[] },
  ) {
    const operators = options?.operators ?? nodesIn(message);
    super("UnsupportedOperator", operators.length > 0 ? message + WHAT_IS : message, options);
    this.operators = operators;
  }
}

/** The nodes that a message of the core lists, a line each: `  "name" (Op): reason`. */
function nodesIn(message: string): UnsupportedNode[] {
  const lines = message.matchAll(/^ {2}"(.*)" \((\S+)\): (.*)$/gm);
  return Array.from(lines, ([, node, op, reason]) => ({ op: op!, node: node!, reason: reason! }));
}

/** Data that does not fit the model or the loss, or that holds NaN or infinity. */
export class DataMismatchError extends EigenscopeError {
  constructor(message: string, options?: ErrorOptions) {
    super("DataMismatch", message, options);
  }
}

/** Work that needs more memory than it may have. */
export class MemoryBudgetError extends EigenscopeError {
  constructor(message: string, options?: ErrorOptions) {
    super("MemoryBudget", message, options);
  }
}

/** A solver that stopped before it reached the tolerance asked for. */
export class NotConvergedError extends EigenscopeError {
  constructor(message: string, options?: ErrorOptions) {
    super("NotConverged", message, options);
  }
}

/** A call that was stopped by its AbortSignal; its name and code are those of Node's own. */
export class AbortError extends EigenscopeError {
  constructor(message = "The operation was aborted", options?: ErrorOptions) {
    super("Abort", message, options);
  }
}

type ErrorClass = new (message: string) => EigenscopeError;

interface KindRow {
  name: string;
  code: string;
  /** 1 internal, 2 bad input, 3 unsupported model, 4 not converged, 130 interrupted. */
  exitCode: number;
  create: ErrorClass;
}

const KINDS: Record<ErrorKind, KindRow> = {
  Internal: {
    name: "InternalError",
    code: "ERR_INTERNAL",
    exitCode: 1,
    create: InternalError,
  },
  Option: {
    name: "OptionError",
    code: "ERR_OPTION",
    exitCode: 2,
    create: OptionError,
  },
  ModelFormat: {
    name: "ModelFormatError",
    code: "ERR_MODEL_FORMAT",
    exitCode: 2,
    create: ModelFormatError,
  },
  UnsupportedOperator: {
    name: "UnsupportedOperatorError",
    code: "ERR_UNSUPPORTED_OPERATOR",
    exitCode: 3,
    create: UnsupportedOperatorError,
  },
  DataMismatch: {
    name: "DataMismatchError",
    code: "ERR_DATA_MISMATCH",
    exitCode: 2,
    create: DataMismatchError,
  },
  MemoryBudget: {
    name: "MemoryBudgetError",
    code: "ERR_MEMORY_BUDGET",
    exitCode: 2,
    create: MemoryBudgetError,
  },
  NotConverged: {
    name: "NotConvergedError",
    code: "ERR_NOT_CONVERGED",
    exitCode: 4,
    create: NotConvergedError,
  },
  Abort: {
    name: "AbortError",
    code: "ABORT_ERR",
    exitCode: 130,
    create: AbortError,
  },
};

// On the prototypes, so that stack traces begin with the name and no error shows it as a field.
for (const row of Object.values(KINDS))
  Object.defineProperty(row.create.prototype, "name", {
    value: row.name,
    writable: true,
    configurable: true,
  });

/** The class of each kind, as the core is given them. */
export function errorClasses(): Record<ErrorKind, ErrorClass> {
  return Object.fromEntries(
    Object.entries(KINDS).map(([kind, row]) => [kind, row.create]),
  ) as Record<ErrorKind, ErrorClass>;
}

/** The exit code for anything that was thrown: an error that is not ours counts as internal. */
export function exitCodeOf(error: unknown): number {
  return error instanceof EigenscopeError ? error.exitCode : 1;
}
