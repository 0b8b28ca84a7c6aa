/** Vectors that are given in a file. */
import { run } from "../call";
import { DataMismatchError } from "../errors";
import { vectors } from "../linear-operator";
import { type Dtype, native, type Vectors } from "../native";

/**
 * The one array of a .npy file, or of another that holds one, in the given type.
 *
 * @throws DataMismatchError when the file cannot be read or holds several
 */
export async function readVectors(
  path: string,
  dtype: Dtype,
  signal: AbortSignal,
): Promise<{ shape: number[]; data: Vectors }> {
  const options = { target: "", whole: true };
  const file = await run(() => native().openData([{ name: "", path }], [], options), { signal });
  try {
    const [array, ...others] = file.arrays;
    if (!array || others.length > 0)
      throw new DataMismatchError(`${path}: expected one array, got ${file.description}`);
    const size = array.shape.reduce((product, n) => product * n, 1);
    const data = vectors(dtype, size);
    await run(() => file.read(array.name, data), { signal });
    return { shape: array.shape, data };
  } finally {
    file.dispose();
  }
}
