import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { LAUNCHER_PIPE } from './role-process.ts';

/** Milliseconds. */
const PROBE_EVERY = 500;
const PROBE_DEADLINE = 2_000;
/** How long a role that was told to leave may take before it is ended: a scheduler writes a checkpoint first. */
const LEAVE_DEADLINE = 120_000;

export interface RoleSignalOptions {
  /** The command line's own signal: SIGTERM, SIGINT. */
  readonly signal: AbortSignal;
  /** Where the scheduler is now, if anywhere; null in the scheduler itself. */
  readonly scheduler: (() => Promise<string | null>) | null;
  readonly stdin?: NodeJS.ReadStream;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly probe?: (address: string) => Promise<boolean>;
  readonly exit?: (code: number) => void;
}

/**
 * The signal that tells a role to leave. Besides SIGTERM and SIGINT it is aborted in a scheduler when its
 * launcher is gone (the scheduler then checkpoints and stops), and in a server or worker when launcher and
 * scheduler are both gone. A role that does not leave in time is ended: nobody else is left to do it.
 */
export function roleSignal(options: RoleSignalOptions): { readonly signal: AbortSignal; dispose(): void } {
  const {
    scheduler,
    stdin = process.stdin,
    env = process.env,
    probe = isListening,
    exit = (code) => process.exit(code),
  } = options;
  const orphaned = new AbortController();
  const disposed = new AbortController();
  const signal = AbortSignal.any([options.signal, orphaned.signal]);

  let hardEnd: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    hardEnd = setTimeout(() => exit(1), LEAVE_DEADLINE);
    hardEnd.unref();
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });

  const isThere = async (): Promise<boolean> => {
    const address = scheduler === null ? null : await scheduler().catch(() => null);
    return address !== null && (await probe(address));
  };
  const launcherGone = async (): Promise<void> => {
    while (!disposed.signal.aborted && (await isThere())) {
      await sleep(PROBE_EVERY, undefined, { ref: false, signal: disposed.signal }).catch(() => undefined);
    }
    if (!disposed.signal.aborted)
      orphaned.abort(new Error(scheduler === null ? 'the launcher is gone' : 'launcher and scheduler are gone'));
  };
  const onEnd = (): void => void launcherGone();
  const piped = env[LAUNCHER_PIPE] === '1';
  if (piped) {
    stdin.once('end', onEnd);
    stdin.resume();
    // The pipe must not keep a finished role alive. Files and ttys have no unref; pipes do.
    if ('unref' in stdin) stdin.unref();
  }

  return {
    signal,
    dispose: () => {
      disposed.abort();
      clearTimeout(hardEnd);
      signal.removeEventListener('abort', onAbort);
      if (piped) {
        stdin.off('end', onEnd);
        stdin.pause();
      }
    },
  };
}

/** How long a role may live on after its work is done, in milliseconds. */
const LINGER = 1_500;

/**
 * To be called when a role's work is done: it must now end by itself. One that holds a handle would keep its launcher
 * waiting, and SIGTERM does nothing any more; so it says what it holds and is ended.
 */
export function endLingering(): void {
  if (process.env[LAUNCHER_PIPE] !== '1') return;
  setTimeout(() => {
    process.stderr.write(`ended with open handles: ${process.getActiveResourcesInfo().join(', ')}\n`);
    process.exit();
  }, LINGER).unref();
}

/** True when something accepts connections at host:port. */
export async function isListening(address: string): Promise<boolean> {
  const colon = address.lastIndexOf(':');
  return new Promise((resolve) => {
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) });
    const done = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(PROBE_DEADLINE, done(false));
    socket.once('connect', done(true));
    socket.once('error', done(false));
  });
}
