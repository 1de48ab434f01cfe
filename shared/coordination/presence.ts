import { randomBytes } from 'node:crypto';
import { open, rm, stat } from 'node:fs/promises';
import { z } from 'zod';
import { errorCode } from '../checkpoint/durable.ts';
import type { WhittleError } from '../errors.ts';
import { livenessOf, type ProcessIdentity } from './process-identity.ts';

/*
 * A file that says "this process lives and has this office": who, and where it answers. Its process writes it again
 * every few seconds; others judge by the process itself where they can see it, and by the file's age where not.
 */

export const REFRESH_MILLISECONDS = 2_000;
/** A file of a process that cannot be seen from here counts as alive until it was not refreshed for this long. */
export const STALE_MILLISECONDS = 20_000;

/** Fields of every presence: a ProcessIdentity, and a token that differs at every taking. */
export const presenceFields = {
  host: z.string(),
  pid: z.number().int(),
  processStart: z.string(),
  pidSpace: z.string(),
  token: z.string().regex(/^[0-9a-f]{16}$/),
};

export type PresenceOwner = ProcessIdentity & { readonly token: string };

export interface Presence<T extends PresenceOwner> {
  /** Null: the file could not be understood (half written by a file system without links, or damaged). */
  readonly owner: T | null;
  readonly modified: number;
}

export function newToken(): string {
  return randomBytes(8).toString('hex');
}

/** Null: there is no such file. */
export async function readPresence<T extends PresenceOwner>(
  path: string,
  schema: z.ZodType<T>,
): Promise<Presence<T> | null> {
  try {
    const handle = await open(path, 'r');
    try {
      const { mtimeMs, size } = await handle.stat();
      const text = size > 65_536 ? '' : await handle.readFile('utf8');
      return { owner: schema.safeParse(parseJson(text)).data ?? null, modified: mtimeMs };
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/**
 * Whether an owner's time is over. Both times are the file server's where a file of ours was written just now, so
 * that the clocks of hosts need not agree.
 */
export async function isOver(
  { owner, modified }: Presence<PresenceOwner>,
  justWritten: string | null,
): Promise<boolean> {
  const liveness = owner === null ? 'unknown' : await livenessOf(owner);
  if (liveness !== 'unknown') return liveness === 'dead';
  const now = justWritten === null ? Date.now() : (await stat(justWritten)).mtimeMs;
  return now - modified > STALE_MILLISECONDS;
}

export interface KeptPresence {
  /** Aborted with `whenLost` when the file is another's, or gone. */
  readonly lost: AbortSignal;
  /** Looks now whether the file is still ours. */
  isOurs(): Promise<boolean>;
  /** Removes the file, if it is still ours. Safe to call twice. */
  release(): Promise<void>;
}

/** Keeps a file of ours fresh until it is released or lost. */
export function keepPresence(path: string, token: string, whenLost: () => WhittleError): KeptPresence {
  const lost = new AbortController();
  let isReleased = false;
  const isOurs = async (): Promise<boolean> => {
    if (isReleased || lost.signal.aborted) return false;
    if (await contains(path, token)) return true;
    lost.abort(whenLost());
    return false;
  };
  let busy: Promise<void> = Promise.resolve();
  const refresh = async (): Promise<void> => {
    try {
      if (await isOurs()) await touch(path, token);
    } catch {
      // The storage is away for a moment; the next refresh tries again, and a successor shows then.
    }
  };
  const timer = setInterval(() => {
    busy = busy.then(() => (lost.signal.aborted ? undefined : refresh()));
  }, REFRESH_MILLISECONDS);
  timer.unref();
  return {
    lost: lost.signal,
    isOurs,
    release: async () => {
      clearInterval(timer);
      await busy;
      isReleased = true;
      if (!lost.signal.aborted && (await contains(path, token))) await rm(path, { force: true });
    },
  };
}

async function contains(path: string, token: string): Promise<boolean> {
  const presence = await readPresence(path, z.object(presenceFields));
  return presence?.owner?.token === token;
}

/** Sets the modification time to the file server's now, by writing the same bytes again. */
async function touch(path: string, token: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    // Between the check and the opening a successor may have renamed its file here: its bytes stay.
    const content = await handle.readFile('utf8');
    if (content.includes(token)) await handle.write(content, 0, 'utf8');
  } finally {
    await handle.close();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
