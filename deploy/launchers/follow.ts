import { setTimeout as sleep } from 'node:timers/promises';
import { schedulerClient } from '../../shared/rpc/client.ts';
import type { RunStatus } from '../../shared/telemetry/run-status.ts';

/** Milliseconds between looks at status.json where the scheduler cannot be watched. */
const POLL_EVERY = 500;

export interface FollowOptions {
  /** host:port of the scheduler now, or null while there is none: one that takes over listens elsewhere. */
  readonly locate: () => Promise<string | null>;
  /** The end of following. */
  readonly signal: AbortSignal;
  /** status.json, or null while there is none. */
  readonly readStatus: () => Promise<RunStatus | null>;
  readonly onStatus: (status: RunStatus) => void;
}

/**
 * Hands on a run's statuses until `signal` is aborted or the run has ended: from the scheduler's Watch rpc,
 * and from status.json while that is broken. Never rejects for want of a scheduler.
 */
export async function followRun(options: FollowOptions): Promise<void> {
  let seen = '';
  while (!options.signal.aborted) {
    const address = await options.locate();
    if (address !== null && (await watchScheduler(address, options))) return;
    if (options.signal.aborted) return;
    const status = await options.readStatus();
    if (status !== null && status.updatedAt !== seen) {
      seen = status.updatedAt;
      options.onStatus(status);
      if (hasEnded(status)) return;
    }
    await sleep(POLL_EVERY, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

/** Resolves to true when the run's last status came, false when the stream ended before. */
async function watchScheduler(address: string, { signal, onStatus }: FollowOptions): Promise<boolean> {
  const client = schedulerClient(address);
  const stream = client.watch({});
  const cancel = (): void => stream.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  if (signal.aborted) cancel();
  let ended = false;
  try {
    await new Promise<void>((resolve, reject) => {
      stream.on('data', (reply: { json: string }) => {
        try {
          const status = JSON.parse(reply.json) as RunStatus;
          ended ||= hasEnded(status);
          onStatus(status);
        } catch (error) {
          reject(error);
        }
      });
      stream.once('end', resolve);
      // Whoever follows learns of a dead scheduler elsewhere; here it only means: look at the file.
      stream.on('error', () => resolve());
    });
  } finally {
    signal.removeEventListener('abort', cancel);
    stream.cancel();
    client.close();
  }
  return ended;
}

export function hasEnded(status: RunStatus): boolean {
  return status.state !== 'PENDING' && status.state !== 'RUNNING';
}
