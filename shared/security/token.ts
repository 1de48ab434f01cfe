import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { open, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { diskError, errorCode } from '../checkpoint/durable.ts';
import { WhittleError } from '../errors.ts';

/** Name of the token's file, in a run directory and in a folder of certificates. */
export const TOKEN_FILE = 'token';

/** 256 bits as base64url. */
const TOKEN_PATTERN = /^[A-Za-z0-9_-]{43}$/;
/** How long a token that another process is just writing may take to be whole, in milliseconds. */
const WRITING = 2_000;

export function newToken(): string {
  return randomBytes(32).toString('base64url');
}

/** True when both are the same, in a time that tells nothing of where they differ. */
export function sameToken(given: string, expected: string): boolean {
  // Hashes have one length, which timingSafeEqual asks for.
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/**
 * Writes a file that only its owner may read. Errors: DISK; SECURITY where it exists, since who holds the old one
 * would be locked out.
 */
export async function writePrivate(path: string, text: string): Promise<void> {
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errorCode(error) === 'EEXIST') {
      throw new WhittleError('SECURITY', `${path} exists and is not overwritten; name another folder, or remove it`, {
        cause: error,
        data: { path },
      });
    }
    throw await diskError(path, text.length, error);
  }
}

export interface ReadTokenOptions {
  /** Take it also where everybody may read it: some file systems know no modes. */
  readonly insecure?: boolean;
}

/** The token in `path`, made now if there is none: of several processes that make it at once, one wins. */
export async function ensureToken(path: string, options: ReadTokenOptions = {}): Promise<string> {
  try {
    await writePrivate(path, `${newToken()}\n`);
  } catch (error) {
    if (!(error instanceof WhittleError) || error.code !== 'SECURITY') throw error;
  }
  return readToken(path, options);
}

/** Errors: SECURITY where it cannot be read, is no token, or may be read by everybody. */
export async function readToken(path: string, options: ReadTokenOptions = {}): Promise<string> {
  if (options.insecure !== true) await requirePrivate(path);
  for (const end = Date.now() + WRITING; ; await sleep(20)) {
    const token = (await readSecret(path)).trim();
    if (TOKEN_PATTERN.test(token)) return token;
    if (Date.now() > end) {
      throw new WhittleError(
        'SECURITY',
        `${path} holds no run token (43 letters and digits); remove it to have one made`,
        {
          data: { path },
        },
      );
    }
  }
}

function cureOf(code: string): string {
  return code === 'ENOENT'
    ? 'it does not exist: `whittle certs` makes a folder of certificates, and a run its token'
    : 'only the user who started the run may';
}

/** Errors: SECURITY, naming the file and why it cannot be read. */
export async function readSecret(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new WhittleError('SECURITY', `${path} cannot be read (${errorCode(cause)}); ${cureOf(errorCode(cause))}`, {
      cause,
      data: { path },
    });
  }
}

/** Refuses a secret that everybody on the machine may read. */
export async function requirePrivate(path: string): Promise<void> {
  const mode = await stat(path).then(
    (stats) => stats.mode & 0o777,
    () => 0,
  );
  if ((mode & 0o004) === 0) return;
  throw new WhittleError(
    'SECURITY',
    `${path} may be read by everybody on this machine (mode ${mode.toString(8)}); chmod 600 it, or insist with --insecure`,
    { data: { path, mode } },
  );
}
