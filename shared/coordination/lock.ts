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
import { constants } from 'node:fs';
import { copyFile, link, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { diskError, errorCode } from '../checkpoint/durable.ts';
import { WhittleError } from '../errors.ts';
import {
  isOver,
  keepPresence,
  newToken,
  presenceFields,
  readPresence,
  STALE_MILLISECONDS,
  type KeptPresence,
  type Presence,
} from './presence.ts';
import { thisProcess, type ProcessIdentity } from './process-identity.ts';

export const LOCK_FILE = 'run.lock';

const holderSchema = z.object({ ...presenceFields, address: z.string(), takenAt: z.string() });

export interface LockHolder extends ProcessIdentity {
  /** Where the holder answers, `host:port`. */
  readonly address: string;
  readonly takenAt: string;
  /** Differs at every taking. */
  readonly token: string;
}

/** `lost`: another process took the lock over, or the file is gone: stop acting as the scheduler. */
export interface RunLock extends KeptPresence {
  readonly holder: LockHolder;
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
    token: newToken(),
  };
  const own = `${path}.${holder.token}.tmp`;
  try {
    await writeFile(own, JSON.stringify(holder) + '\n', { flag: 'wx' });
    // Bounded: each round lost means that another process took, released or succeeded meanwhile.
    for (let round = 0; round < 100; round++) {
      const chain = await readChain(path);
      const last = chain.at(-1);
      if (last === undefined) {
        if (await linkNew(own, path)) return hold(path, holder);
        continue;
      }
      if (!(await isOver(last, own))) throw lockedBy(runDirectory, last);
      const claim = claimPath(path, tokenOf(last));
      if (!(await linkNew(own, claim))) continue;
      // The claim counts only while the lock is still the one whose chain was read: else the claim of an earlier
      // successor may have been cleaned away meanwhile, and the lock is somebody's.
      const now = await readPresence(path, holderSchema);
      if (now === null || tokenOf(now) !== tokenOf(chain[0]!)) {
        await rm(claim, { force: true });
        continue;
      }
      await rename(own, path);
      for (const each of chain) await rm(claimPath(path, tokenOf(each)), { force: true });
      return hold(path, holder);
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
  return last.owner ?? UNREADABLE;
}

type LockState = Presence<LockHolder>;

const UNREADABLE: LockHolder = {
  host: 'unknown',
  pid: 0,
  processStart: '',
  pidSpace: '',
  address: '',
  takenAt: '',
  token: 'unreadable',
};

function tokenOf({ owner }: LockState): string {
  return (owner ?? UNREADABLE).token;
}

/** The lock and the unfinished successions from it; the last is the holder. Empty: free. */
async function readChain(path: string): Promise<LockState[]> {
  const chain: LockState[] = [];
  const seen = new Set<string>();
  for (let next = await readPresence(path, holderSchema); next !== null && !seen.has(tokenOf(next));) {
    chain.push(next);
    seen.add(tokenOf(next));
    next = await readPresence(claimPath(path, tokenOf(next)), holderSchema);
  }
  return chain;
}

function claimPath(path: string, token: string): string {
  return `${path}.${token}.next`;
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

function hold(path: string, holder: LockHolder): RunLock {
  const whenLost = (): WhittleError => new WhittleError('RUN_LOCKED', `another process took ${path} over`);
  return { holder, ...keepPresence(path, holder.token, whenLost) };
}

function lockedBy(runDirectory: string, { owner: holder }: LockState): WhittleError {
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
      `end it with 'whittle stop', or, if that host is gone, try again ${STALE_MILLISECONDS / 1000} s after its end`,
    { data: { holder } },
  );
}
