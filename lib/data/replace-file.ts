/** Files that are written whole or not at all. */
import { randomUUID } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { OptionError } from "../errors";

/**
 * Writes a file through a temporary one beside it, which takes its place when `write` is done and
 * all is on the disk. When anything fails, the temporary file is removed, and what was at `path`
 * before is still there.
 *
 * @throws OptionError where the place cannot be written to, and what `write` throws
 */
export async function replaceFile(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, "wx");
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    const { syscall, message } = error as NodeJS.ErrnoException;
    if (syscall === undefined) throw error;
    throw new OptionError(`${path}: cannot be written: ${message}`, { cause: error });
  }
}
