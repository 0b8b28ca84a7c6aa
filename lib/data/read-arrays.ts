/** Files of named arrays, read a whole array at a time. */
import { type CallOptions, run } from "../call";
import { native } from "../native";

/** An array of a file, and how to get its numbers. */
export interface StoredArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** Row-major, converted to float64. */
  values(): Promise<Float64Array>;
}

/**
 * Opens a file of arrays (.npy, .npz, safetensors, IDX), gives them to `use`, and closes it.
 *
 * @throws DataMismatchError when the file cannot be read or is damaged; AbortError
 */
export async function withArrays<T>(
  path: string,
  { signal }: Pick<CallOptions, "signal">,
  use: (arrays: readonly StoredArray[]) => Promise<T>,
): Promise<T> {
  const options = { target: "", whole: true };
  const file = await run(() => native().openData([{ name: "", path }], [], options), { signal });
  try {
    return await use(
      file.arrays.map(({ name, shape }) => ({
        name,
        shape,
        values: async () => {
          const values = new Float64Array(shape.reduce((product, n) => product * n, 1));
          await run(() => file.read(name, values), { signal });
          return values;
        },
      })),
    );
  } finally {
    file.dispose();
  }
}
