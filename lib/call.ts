/** Long calls: a promise that an AbortSignal rejects at once, and that reports how far it is. */
import { AbortError, EigenscopeError } from "./errors";
import type { NativeCall, NativeProgress } from "./native";
import { type Check, check } from "./options";

/** How far a long call is. */
export interface Progress {
  /** Products of the operator with one vector so far. */
  products: number;
  /** Worst residual of the wanted pairs over the largest Ritz value, where known. */
  residual?: number;
  /** Done share of the call, from 0 to 1, where known. */
  fraction?: number;
  /** Since the call. */
  seconds: number;
}

export interface CallOptions {
  /**
   * Rejects the promise with an AbortError at once. The core stops at its next boundary, usually
   * within milliseconds, and keeps what it was given until then.
   */
  signal?: AbortSignal | undefined;
  /** Called up to ten times a second. What it throws rejects the promise and ends the call. */
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** The checks of CallOptions, for tables of options. */
export const CALL_OPTIONS: { [K in keyof Required<CallOptions>]: Check } = {
  signal: check.signal,
  onProgress: check.function,
};

type Start<T> = (onProgress: ((progress: NativeProgress) => void) | undefined) => NativeCall<T>;

/**
 * Starts a call of the core and gives its promise. Errors of the core carry the stack of whoever
 * made the call.
 */
export function run<T>(start: Start<T>, options: CallOptions = {}): Promise<T> {
  const { signal, onProgress } = options;
  const site = new Error();
  const begin = performance.now();
  return new Promise<T>((resolve, reject) => {
    const aborted = () =>
      reject(takeStack(new AbortError(undefined, { cause: signal?.reason }), site));
    if (signal?.aborted) {
      aborted();
      return;
    }
    const call = start(
      onProgress &&
        (({ products, residual, fraction }) => {
          const progress: Progress = { products, seconds: (performance.now() - begin) / 1000 };
          if (residual >= 0) progress.residual = residual;
          if (fraction >= 0) progress.fraction = fraction;
          try {
            onProgress(progress);
          } catch (error) {
            call.cancel();
            reject(error);
          }
        }),
    );
    const onAbort = () => {
      call.cancel();
      aborted();
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    const settled = () => signal?.removeEventListener("abort", onAbort);
    call.promise.then(
      (value) => {
        settled();
        resolve(value);
      },
      (error) => {
        settled();
        reject(placed(error, site));
      },
    );
  });
}

/** An error from a thread of the core has no frames: it gets those of `site`. */
function placed(error: unknown, site: Error): unknown {
  if (error instanceof EigenscopeError && !/\n\s+at /.test(error.stack ?? ""))
    takeStack(error, site);
  return error;
}

function takeStack(error: Error, site: Error): Error {
  // Without the first line, the message, and the second, the frame of `run`.
  const frames = (site.stack ?? "").split("\n").slice(2);
  error.stack = [`${error.name}: ${error.message}`, ...frames].join("\n");
  return error;
}
