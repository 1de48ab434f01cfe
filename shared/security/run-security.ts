import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { errorCode } from '../checkpoint/durable.ts';
import { parseRunConfig } from '../config/effective.ts';
import type { SecurityConfig } from '../config/types.ts';
import type { RunCredentials } from '../rpc/credentials.ts';
import { RunDirectory } from '../telemetry/run-directory.ts';
import { readCertificates } from './certificate-folder.ts';
import { TOKEN_FILE, ensureToken, readToken } from './token.ts';

export interface RunSecurity {
  readonly credentials: RunCredentials;
  /** Listen off loopback also without certificates. */
  readonly insecure: boolean;
}

export interface RunSecurityOptions {
  /** Folder of certificates in place of the run file's; where a host keeps them elsewhere. */
  readonly certificates?: string | undefined;
  readonly insecure?: boolean | undefined;
  /** Make the run directory's token where there is none. For roles; others only read. */
  readonly make?: boolean;
}

/**
 * What the roles of a run and those who call them need: the certificates and token of the folder that its run file
 * (or `options`) names, else only the token in the run directory, which keeps other users of one machine out.
 * Errors: SECURITY, RUN_FILE, DISK.
 */
export async function loadRunSecurity(runDirectory: string, options: RunSecurityOptions = {}): Promise<RunSecurity> {
  const configured = await securityOf(runDirectory);
  const insecure = options.insecure === true || configured.insecure;
  const folder = options.certificates ?? configured.certificates;
  if (folder !== null) {
    const { token, ...certificates } = await readCertificates(resolve(folder), { insecure });
    return { credentials: { token, certificates }, insecure };
  }
  const path = join(runDirectory, TOKEN_FILE);
  const token = await (options.make === true ? ensureToken : readToken)(path, { insecure });
  return { credentials: { token, certificates: null }, insecure };
}

/** Checks the certificates that a run file names, before anything is started. Errors: SECURITY. */
export async function checkSecurity({ certificates, insecure }: SecurityConfig): Promise<void> {
  if (certificates !== null) await readCertificates(certificates, { insecure });
}

/** `loadRunSecurity` for one who only asks: nothing where there is no token (the run never started, or is not ours). */
export async function credentialsToAsk(runDirectory: string, certificates?: string): Promise<RunCredentials> {
  try {
    return (await loadRunSecurity(runDirectory, { certificates })).credentials;
  } catch {
    // The scheduler then refuses, and says why.
    return { token: null, certificates: null };
  }
}

async function securityOf(runDirectory: string): Promise<SecurityConfig> {
  const path = new RunDirectory(runDirectory).runFile;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    // Not a run directory: whoever needs it says so better.
    if (errorCode(error) === 'ENOENT') return { certificates: null, insecure: false };
    throw error;
  }
  return parseRunConfig(text, path).security;
}
