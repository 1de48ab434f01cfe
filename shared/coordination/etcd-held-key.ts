import type { WhittleError } from '../errors.ts';
import { pause } from '../rpc/deadline.ts';
import type { EtcdClient } from './etcd-client.ts';

const RELEASE_MS = 5_000;

export interface HeldKey {
  /** Aborted when etcd says that the key, or its lease, is not ours any more. Not while etcd does not answer. */
  readonly lost: AbortSignal;
  /** Removes the key, if it is still ours. Safe to call twice; an etcd that is away lets the lease end by itself. */
  release(): Promise<void>;
}

export interface HoldKeyOptions {
  readonly client: EtcdClient;
  /** A key of ours, bound to `lease`. */
  readonly key: string;
  readonly lease: string;
  readonly leaseSeconds: number;
  readonly whenLost: () => WhittleError;
}

/**
 * Renews the lease of a key of ours until it is released or lost. An etcd that cannot be reached is waited for, not
 * taken for a loss: it may be away for everybody, and then its leases go on when it is back. Where others reach it,
 * they take the key when the lease has ended, and we hear of it once we reach it again; until then the conditions of
 * our transactions refuse what we do.
 */
export function holdKey({ client, key, lease, leaseSeconds, whenLost }: HoldKeyOptions): HeldKey {
  const lost = new AbortController();
  const stop = new AbortController();
  const ended = AbortSignal.any([stop.signal, client.closing]);
  const isOurs = async (): Promise<boolean> => {
    if (!(await client.renewLease(lease))) return false;
    const [found] = (await client.read(key)).found;
    return found?.lease === lease;
  };
  const renew = async (): Promise<void> => {
    for (;;) {
      await pause((1000 * leaseSeconds) / 3, 'the next renewal', ended);
      const kept = await client.run('renew a lease', isOurs, { signal: ended, deadlineMilliseconds: Infinity });
      if (!kept) return lost.abort(whenLost());
    }
  };
  const renewing = renew().catch((reason: unknown) => {
    // A call that etcd refuses for good (its user was removed, say) ends the renewals, and so what we hold.
    if (!ended.aborted) lost.abort(reason);
  });
  let released: Promise<void> | null = null;
  const release = async (): Promise<void> => {
    stop.abort();
    await renewing;
    if (lost.signal.aborted || client.closing.aborted) return;
    await client
      .run('give back a lease', () => client.revokeLease(lease), { deadlineMilliseconds: RELEASE_MS })
      .catch(() => undefined);
  };
  return { lost: lost.signal, release: () => (released ??= release()) };
}
