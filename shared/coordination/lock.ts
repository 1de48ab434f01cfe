/**
 * The lock of a run directory, `run.lock`, held by the scheduler.
 *
 * Own code rather than proper-lockfile (4.1.2): that one is a bare folder with a modification time. It cannot say who
 * holds it, a crashed holder blocks its successor until the time runs out (we take over at once where the holder can
 * be seen to be dead, so that a restarted scheduler carries on), its stale check compares the file server's clock with
 * the local one, and two takers of one stale lock can both win (it removes by name what another has just created).
 *
 * The lock narrows who tries; it does not make writes safe. A holder that was only paused notices through `lost`,
 * and the generation in the coordinator refuses what it still sends.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, link, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { diskError, errorCode } from '../checkpoint/durable.ts';
import { WhittleError } from '../errors.ts';
import { commandLine } from '../invocation.ts';
import { livenessOf, thisProcess, type ProcessIdentity } from './process-identity.ts';

export const LOCK_FILE = 'run.lock';
export const REFRESH_MILLISECONDS = 2_000;
/** A lock of a process that cannot be seen from here counts as held until it was not refreshed for this long. */
export const STALE_MILLISECONDS = 20_000;

const holderSchema = z.object({
  host: z.string(),
  pid: z.number().int(),
  processStart: z.string(),
  pidSpace: z.string(),
  address: z.string(),
  takenAt: z.string(),
  token: z.string().regex(/^[0-9a-f]{16}$/),
});

export interface LockHolder extends ProcessIdentity {
  /** Where the holder answers, `host:port`. */
  readonly address: string;
  readonly takenAt: string;
  /** Differs at every taking. */
  readonly token: string;
}

export interface RunLock {
  readonly holder: LockHolder;
  /** Aborted when another process took the lock over, or the file is gone: stop acting as the scheduler. */
  readonly lost: AbortSignal;
  /** Gives the lock back, if it is still ours. Safe to call twice. */
  release(): Promise<void>;
}

/**
 * Takes the lock of an existing run directory, or throws RUN_LOCKED naming its holder. A lock whose holder is dead
 * (its pid gone on this host, or its start time different), or unseen and not refreshed for 20 s, is taken over.
 *
 * Guarantee: of any number of takers at one time at most one succeeds. A free lock is taken by a hard link, which
 * fails if the name exists. A dead holder's lock is never removed: its successor first links `run.lock.<token of the
 * dead>.next`, which only one process can, and then renames its own file over the lock. A successor that died between
 * the two is itself succeeded the same way, so the holder is the last of the chain.
 */
export async function acquireRunLock(runDirectory: string, options: { readonly address: string }): Promise<RunLock> {
  const path = join(resolve(runDirectory), LOCK_FILE);
  const holder: LockHolder = {
    ...(await thisProcess()),
    address: options.address,
    takenAt: new Date().toISOString(),
    token: randomBytes(8).toString('hex'),
  };
  const own = `${path}.${holder.token}.tmp`;
  try {
    await writeFile(own, JSON.stringify(holder) + '\n', { flag: 'wx' });
    // Bounded: each round lost means that another process took, released or succeeded meanwhile.
    for (let round = 0; round < 100; round++) {
      const chain = await readChain(path);
      const last = chain.at(-1);
      if (last === undefined) {
        if (await linkNew(own, path)) return await hold(path, holder);
        continue;
      }
      if (!(await isOver(last, own))) throw lockedBy(runDirectory, last);
      const claim = claimPath(path, last.token);
      if (!(await linkNew(own, claim))) continue;
      // The claim counts only while the lock is still the one whose chain was read: else the claim of an earlier
      // successor may have been cleaned away meanwhile, and the lock is somebody's.
      if ((await readLock(path))?.token !== chain[0]!.token) {
        await rm(claim, { force: true });
        continue;
      }
      await rename(own, path);
      for (const { token } of chain) await rm(claimPath(path, token), { force: true });
      return await hold(path, holder);
    }
    throw new WhittleError('RUN_LOCKED', `too many processes want the lock of ${runDirectory}; try again`, {
      retryable: true,
    });
  } catch (error) {
    throw await diskError(path, 0, error);
  } finally {
    await rm(own, { force: true }).catch(() => undefined);
  }
}

/** Who holds a run directory, or null. A lock left by a dead process counts as null; one that cannot be seen, as held while fresh. */
export async function readRunLock(runDirectory: string): Promise<LockHolder | null> {
  const last = (await readChain(join(resolve(runDirectory), LOCK_FILE))).at(-1);
  if (last === undefined || (await isOver(last, null))) return null;
  return last.holder ?? UNREADABLE;
}

interface LockState {
  readonly token: string;
  /** Null: the file could not be understood (half written by a file system without links, or damaged). */
  readonly holder: LockHolder | null;
  readonly modified: number;
}

const UNREADABLE: LockHolder = {
  host: 'unknown',
  pid: 0,
  processStart: '',
  pidSpace: '',
  address: '',
  takenAt: '',
  token: 'unreadable',
};

async function readLock(path: string): Promise<LockState | null> {
  try {
    const handle = await open(path, 'r');
    try {
      const { mtimeMs, size } = await handle.stat();
      const text = size > 65_536 ? '' : await handle.readFile('utf8');
      const parsed = holderSchema.safeParse(parseJson(text));
      return { token: parsed.data?.token ?? UNREADABLE.token, holder: parsed.data ?? null, modified: mtimeMs };
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** The lock and the unfinished successions from it; the last is the holder. Empty: free. */
async function readChain(path: string): Promise<LockState[]> {
  const chain: LockState[] = [];
  let next = await readLock(path);
  while (next !== null && !chain.some(({ token }) => token === next?.token)) {
    chain.push(next);
    next = await readLock(claimPath(path, next.token));
  }
  return chain;
}

function claimPath(path: string, token: string): string {
  return `${path}.${token}.next`;
}

/**
 * Whether a holder's time is over. Both times are the file server's where a file of ours was written just now, so
 * that the clocks of hosts need not agree.
 */
async function isOver({ holder, modified }: LockState, justWritten: string | null): Promise<boolean> {
  const liveness = holder === null ? 'unknown' : await livenessOf(holder);
  if (liveness !== 'unknown') return liveness === 'dead';
  const now = justWritten === null ? Date.now() : (await stat(justWritten)).mtimeMs;
  return now - modified > STALE_MILLISECONDS;
}

/** Gives a file a second name, atomically; false when the name exists. File systems without hard links copy exclusively. */
async function linkNew(file: string, name: string): Promise<boolean> {
  try {
    try {
      await link(file, name);
    } catch (error) {
      if (!['EPERM', 'ENOTSUP', 'ENOSYS', 'EOPNOTSUPP'].includes(errorCode(error))) throw error;
      await copyFile(file, name, constants.COPYFILE_EXCL);
    }
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function hold(path: string, holder: LockHolder): Promise<RunLock> {
  const lost = new AbortController();
  const isOurs = async (): Promise<boolean> => (await readLock(path))?.token === holder.token;
  let busy: Promise<void> = Promise.resolve();
  const refresh = async (): Promise<void> => {
    try {
      if (await isOurs()) await touch(path, holder);
      else lost.abort(new WhittleError('RUN_LOCKED', `another process took ${path} over`));
    } catch {
      // The storage is away for a moment; the next refresh tries again, and a successor shows then.
    }
  };
  const timer = setInterval(() => {
    busy = busy.then(() => (lost.signal.aborted ? undefined : refresh()));
  }, REFRESH_MILLISECONDS);
  timer.unref();
  return {
    holder,
    lost: lost.signal,
    release: async () => {
      clearInterval(timer);
      await busy;
      if (await isOurs()) await rm(path, { force: true });
    },
  };
}

/** Sets the modification time to the file server's now, by writing the same bytes again. */
async function touch(path: string, holder: LockHolder): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    // Between the check and the opening a successor may have renamed its file here: its bytes stay.
    const content = await handle.readFile('utf8');
    if (content.includes(holder.token)) await handle.write(content, 0, 'utf8');
  } finally {
    await handle.close();
  }
}

function lockedBy(runDirectory: string, { holder }: LockState): WhittleError {
  if (holder === null) {
    return new WhittleError(
      'RUN_LOCKED',
      `${join(runDirectory, LOCK_FILE)} is being written by another process; try again in ${STALE_MILLISECONDS / 1000} s`,
      {
        retryable: true,
      },
    );
  }
  const { host, pid, address, takenAt } = holder;
  return new WhittleError(
    'RUN_LOCKED',
    `${runDirectory} is held by the scheduler with pid ${pid} on host ${host} (at ${address}, since ${takenAt}); ` +
      `end it with \`${commandLine('stop', runDirectory)}\`, or, if that host is gone, try again ${STALE_MILLISECONDS / 1000} s after its end`,
    { data: { holder } },
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
