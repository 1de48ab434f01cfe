import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { WhittleError } from '../errors.ts';

/** Takes the next bytes of a file. */
export type Sink = (chunk: Uint8Array) => Promise<void>;

/**
 * Writes a file that is either whole and on the disk, or not there at all: temporary name, fsync, rename, fsync of
 * the folder. A file of the same name is replaced at the rename and untouched before. On failure the temporary
 * file is removed and the error is a WhittleError DISK, or what `write` threw itself.
 * @param bytesNeeded expected size, for the message of a full disk
 */
export async function writeDurably<T>(
  path: string,
  bytesNeeded: number,
  write: (sink: Sink) => Promise<T>,
): Promise<T> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const handle = await open(temporary, 'wx');
    let result: T;
    try {
      result = await write(async (chunk) => {
        for (let offset = 0; offset < chunk.length;) {
          offset += (await handle.write(chunk, offset, Math.min(chunk.length - offset, 1 << 20))).bytesWritten;
        }
      });
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return result;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw await diskError(path, bytesNeeded, error);
  }
}

/** Makes a folder (and its parents) and its entry durable. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeParents(path);
    await syncFolder(dirname(path));
  } catch (error) {
    throw await diskError(path, 0, error);
  }
}

/** One folder at a time: Node's recursive mkdir never returns where a file system takes no folders (/proc). */
async function makeParents(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (errorCode(error) === 'EEXIST' && (await stat(path)).isDirectory()) return;
    const parent = dirname(path);
    if (errorCode(error) !== 'ENOENT' || parent === path) throw error;
    if (!(await exists(parent))) await makeParents(parent);
    // The parent is there now, by us or by someone at the same time; ENOENT again means that it takes no folders.
    await mkdir(path).catch((again: unknown) => {
      if (errorCode(again) !== 'EEXIST') throw again;
    });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Makes renames and removals in a folder durable. File systems that cannot (EINVAL, ENOTSUP) do it by themselves. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'EPERM'].includes(errorCode(error))) throw error;
  } finally {
    await handle.close();
  }
}

const CURES: Readonly<Record<string, readonly [what: string, cure: string]>> = {
  ENOSPC: ['no space left on the device', 'free space there, or keep fewer checkpoints (checkpoint.keep)'],
  EDQUOT: ['the disk quota is used up', 'free space, raise the quota, or keep fewer checkpoints (checkpoint.keep)'],
  EFBIG: ['the file would exceed the largest size allowed', 'raise the limit (ulimit -f), or use more servers'],
  EACCES: ['permission denied', 'give the user who runs Whittle write permission there'],
  EPERM: ['operation not permitted', 'give the user who runs Whittle write permission there'],
  EROFS: ['the file system is read-only', 'mount it writable, or use another run directory'],
  ENOENT: ['its folder does not exist', 'create it, or mount the storage that all roles share'],
  EIO: ['the device reports an input/output error', 'check the device and the mount'],
};

/** A system error of writing `path` as WhittleError DISK that names path, bytes and cure; others pass unchanged. */
export async function diskError(path: string, bytesNeeded: number, error: unknown): Promise<Error> {
  if (error instanceof WhittleError) return error;
  const code = errorCode(error);
  if (code === '') return error instanceof Error ? error : new Error(String(error));
  const [what, cure] = CURES[code] ?? [code, 'check the path and its file system'];
  const free = await statfs(dirname(path)).then(
    (stats) => stats.bavail * stats.bsize,
    () => null,
  );
  const needs = bytesNeeded > 0 ? ` (needs ${bytesNeeded} bytes${free === null ? '' : `, ${free} free`})` : '';
  return new WhittleError('DISK', `cannot write ${path}: ${what}${needs}; ${cure}`, {
    cause: error,
    data: { path, bytesNeeded, freeBytes: free, systemCode: code },
  });
}

/** The system's error code (`ENOENT`, ...), or an empty string. */
export function errorCode(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : '';
}
