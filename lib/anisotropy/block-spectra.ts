/** Eigenvalues of many diagonal blocks at once. */
import type { CallOptions } from "../call";
import { blockDiagonal } from "../exact";
import type { Group, GroupBy } from "../groups";
import { type LinearOperator, linearOperator } from "../linear-operator";
import { structuredOperator } from "../structured";

/** Numbers of blocks that are held at once: 256 MiB. */
const MOST_NUMBERS = 2 ** 25;

/**
 * Whether blocks together cost less than one after the other: those of sums over samples come from
 * one pass over the samples' rows, and a product for a unit is a full one anyway. Of Hessians, whole
 * tensors have cheaper products of their own.
 */
export function cheaperTogether(operator: LinearOperator, by: GroupBy): boolean {
  return by === "unit" || operator.native.sumsRows;
}

/** Groups whose blocks fit into memory together. */
function* batches(groups: readonly Group[]): Generator<Group[]> {
  let batch: Group[] = [];
  let numbers = 0;
  for (const group of groups) {
    if (batch.length > 0 && numbers + group.size ** 2 > MOST_NUMBERS) {
      yield batch;
      [batch, numbers] = [[], 0];
    }
    batch.push(group);
    numbers += group.size ** 2;
  }
  if (batch.length > 0) yield batch;
}

/** All eigenvalues of the diagonal block of each group, largest first. */
export async function blockSpectra(
  operator: LinearOperator,
  groups: readonly Group[],
  { signal }: CallOptions,
  onBatch: (done: number) => void,
): Promise<Map<Group, Float64Array>> {
  const spectra = new Map<Group, Float64Array>();
  let done = 0;
  for (const batch of batches(groups)) {
    const blocks = await blockDiagonal(operator, {
      blocks: batch.map(({ name, indices }) => ({ name, indices: indices() })),
      signal,
    });
    // Their eigenvalues as those of an operator of these blocks alone.
    let at = 0;
    const own = blocks.map(({ name, matrix }, i) => {
      const indices = Array.from({ length: batch[i]!.size }, (_, j) => at + j);
      at += indices.length;
      return { name, indices, matrix };
    });
    using like = linearOperator(at, (block) => block);
    using held = structuredOperator(like, own);
    const found = await held.eigenvalues({ signal });
    batch.forEach((group, i) => {
      spectra.set(group, found.blocks[i]!.values);
    });
    done += at;
    onBatch(done);
  }
  return spectra;
}
