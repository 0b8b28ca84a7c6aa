/** Masks in files that NumPy and PyTorch read: an array of booleans for each tensor. */
import { basename, extname } from "node:path";
import type { CallOptions } from "../call";
import { type NamedArray, writeNpz, writeSafetensors } from "../data/archive";
import { withArrays } from "../data/read-arrays";
import { DataMismatchError, OptionError } from "../errors";
import type { ShapedTensor } from "../model/units";
import { describe } from "../options";
import { Mask } from "./mask";

/** How masks are written, by the ending of the file. */
const WRITERS: Record<string, (path: string, arrays: NamedArray[], name: string) => Promise<void>> =
  {
    ".npz": (path, arrays) => writeNpz(path, arrays),
    ".safetensors": (path, arrays, mask) => writeSafetensors(path, arrays, { mask }),
  };

/**
 * Writes a mask: for each tensor an array of booleans of its name and shape, true where an entry is
 * kept. NumPy reads .npz, PyTorch's safetensors library the other.
 *
 * @param path ends in .npz or .safetensors
 * @throws OptionError where it cannot be written
 */
export async function saveMask(path: string, mask: Mask): Promise<void> {
  const write = typeof path === "string" ? WRITERS[extname(path)] : undefined;
  if (!write)
    throw new OptionError(
      `saveMask: expected a file that ends in ${Object.keys(WRITERS).join(" or ")}, got ` +
        describe(path),
    );
  if (!(mask instanceof Mask))
    throw new OptionError(`saveMask: expected a Mask, got ${describe(mask)}`);
  const arrays = mask.parameters.map(({ name, offset, size, shape = [size] }) => ({
    name,
    shape,
    values: mask.bits.subarray(offset, offset + size),
    bool: true,
  }));
  await write(path, arrays, mask.name);
}

/**
 * Reads a mask of a model from .npz or safetensors: arrays by the names and in the shapes of its
 * tensors, of booleans or of zeros and ones. Tensors that the file does not have are kept whole.
 *
 * @param parameters `model.parameters`
 * @returns a mask called what the file is called
 * @throws DataMismatchError when the file cannot be read or does not fit; AbortError
 */
export async function loadMask(
  path: string,
  parameters: readonly ShapedTensor[],
  { signal }: Pick<CallOptions, "signal"> = {},
): Promise<Mask> {
  if (!Array.isArray(parameters))
    throw new OptionError(
      `loadMask: expected the parameters of a model, got ${describe(parameters)}`,
    );
  if (typeof path !== "string")
    throw new OptionError(`loadMask: expected a path, got ${describe(path)}`);
  return withArrays(path, { signal }, async (arrays) => {
    const size = parameters.reduce((sum, tensor) => sum + tensor.size, 0);
    const bits = new Uint8Array(size).fill(1);
    const byName = new Map(parameters.map((tensor) => [tensor.name, tensor]));
    for (const { name, shape, values: read } of arrays) {
      const tensor = byName.get(name);
      if (!tensor)
        throw new DataMismatchError(
          `${path}: expected arrays by the names of tensors, ${[...byName.keys()].join(", ")}, got ` +
            name,
        );
      if (shape.join() !== tensor.shape.join())
        throw new DataMismatchError(
          `${path}: ${name}: expected the shape (${tensor.shape.join(", ")}), got ` +
            `(${shape.join(", ")})`,
        );
      const values = await read();
      const bad = values.findIndex((x) => x !== 0 && x !== 1);
      if (bad >= 0)
        throw new DataMismatchError(
          `${path}: ${name}: expected zeros and ones, got ${values[bad]} at flat index ${bad}`,
        );
      bits.set(values, tensor.offset);
    }
    return new Mask(parameters, bits, basename(path, extname(path)));
  });
}
