import { readFileSync } from 'node:fs';
import { circuitBreaker, ConsecutiveBreaker, handleWhen, noop } from 'cockatiel';
import {
  ClientClosedError,
  Etcd3,
  EtcdAuthenticationFailedError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCFailedPreconditionError,
  GRPCGenericError,
  GRPCInvalidArgumentError,
  GRPCNotImplementedError,
  GRPCUnauthenticatedError,
  isRecoverableError,
  type IKeyValue,
  type IOptions,
} from 'etcd3';
import type { EtcdConfig } from '../config/types.ts';
import { WhittleError } from '../errors.ts';
import { interrupted, retry } from '../rpc/deadline.ts';

/*
 * The few things asked of etcd, with deadlines and retries. The only file that knows the package etcd3, of which it
 * uses the connection pool, the generated calls and the transaction builder. Not used, each for a reason: its lease
 * (tells a loss after twice the time to live, by the wall clock), its election (more than one leader, fixed last in
 * 1.1.2), its watcher (throws out of stream events, which ends the process), its retries (know no deadline).
 */

/** One attempt at one call. A member of etcd that does not answer for so long is left for another. */
const ATTEMPT_MS = 3_000;
/** A member that failed is not asked again for so long. */
const HOST_PAUSE_MS = 1_000;
/** A wait is reported after so long (the election of a new etcd leader takes 1 to 2 s), and then every so often. */
const REPORT_AFTER_MS = 2_500;
const REPORT_EVERY_MS = 10_000;

export interface Stored {
  readonly value: string;
  /** Rises with every creation of any key; the same for as long as the key is there. */
  readonly createRevision: string;
  readonly modRevision: string;
  /** '0': none. */
  readonly lease: string;
}

/** A key's revision is what we saw; '0': the key is not there. */
export interface Condition {
  readonly key: string;
  readonly column: 'Create' | 'Mod';
  readonly is: string;
}

export type Change =
  { readonly put: string; readonly value: string; readonly lease?: string } | { readonly remove: string };

export interface EtcdClientOptions {
  readonly config: EtcdConfig;
  /** Before every key. */
  readonly prefix: string;
  /** Told when etcd has not answered for a while, again while it does not, and when it is back. */
  readonly onWaiting?: (message: string) => void;
}

export class EtcdClient {
  readonly #etcd: Etcd3;
  readonly #endpoints: string;
  readonly #prefix: string;
  readonly #deadlineMs: number;
  readonly #onWaiting: (message: string) => void;
  readonly #closing = new AbortController();

  /** Connects to nothing yet. Errors: RUN_FILE for certificates that cannot be read. */
  constructor({ config, prefix, onWaiting }: EtcdClientOptions) {
    this.#etcd = new Etcd3(optionsOf(config));
    this.#endpoints = config.endpoints.join(', ');
    this.#prefix = prefix;
    this.#deadlineMs = 1000 * config.deadlineSeconds;
    this.#onWaiting = onWaiting ?? (() => undefined);
  }

  /** Aborted by `close`. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /**
   * Does `operation`, again for as long as etcd cannot be reached. It may have been done though its answer was lost:
   * `operation` must find out, or do no harm twice. `what` completes "waited 60 s for etcd to ...".
   * Errors: DEADLINE; INTERRUPTED; RUN_FILE where etcd refuses the user.
   */
  async run<T>(
    what: string,
    operation: () => Promise<T>,
    options: { readonly signal?: AbortSignal; readonly deadlineMilliseconds?: number } = {},
  ): Promise<T> {
    const { signal, deadlineMilliseconds = this.#deadlineMs } = options;
    const started = performance.now();
    let reportAt = started + REPORT_AFTER_MS;
    let hasReported = false;
    const seconds = (): string => ((performance.now() - started) / 1000).toFixed(0);
    const result = await retry(
      async () => {
        try {
          return await operation();
        } catch (reason) {
          const error = this.#explain(reason);
          if (error.retryable && performance.now() >= reportAt) {
            hasReported = true;
            reportAt = performance.now() + REPORT_EVERY_MS;
            this.#onWaiting(`waiting for etcd to ${what}, for ${seconds()} s now: ${error.rawMessage}`);
          }
          throw error;
        }
      },
      {
        deadlineMilliseconds,
        what: `etcd to ${what}`,
        signal: signal === undefined ? this.closing : AbortSignal.any([signal, this.closing]),
      },
    );
    if (hasReported) this.#onWaiting(`etcd answers again after ${seconds()} s`);
    return result;
  }

  /** Several keys as they are at one moment. */
  async read<const K extends readonly string[]>(
    ...keys: K
  ): Promise<{ readonly found: { [I in keyof K]: Stored | null }; readonly revision: string }> {
    const { header, responses } = await this.#etcd.kv.txn({
      success: keys.map((key) => ({ request_range: { key: this.#key(key) } })),
    });
    const found = responses.map(({ response_range }) => stored(response_range.kvs[0]));
    return { found: found as { [I in keyof K]: Stored | null }, revision: header.revision };
  }

  /** All values whose keys begin so, in the order of keys. */
  async readAll(start: string): Promise<readonly Stored[]> {
    const { kvs } = await this.#etcd.getAll().prefix(this.#key(start)).sort('Key', 'Ascend').exec();
    return kvs.map((each) => stored(each)!);
  }

  /** Atomic: makes all changes if all conditions hold, else none. Answers whether they held. */
  async transact(conditions: readonly Condition[], changes: readonly Change[]): Promise<boolean> {
    const { succeeded } = await this.#etcd.kv.txn({
      compare: conditions.map(({ key, column, is }) => ({
        key: this.#key(key),
        result: 'Equal',
        target: column,
        ...(column === 'Create' ? { create_revision: is } : { mod_revision: is }),
      })),
      success: changes.map((change) =>
        'put' in change
          ? {
              request_put: {
                key: this.#key(change.put),
                value: Buffer.from(change.value),
                ...(change.lease === undefined ? {} : { lease: change.lease }),
              },
            }
          : { request_delete_range: { key: this.#key(change.remove) } },
      ),
    });
    return succeeded;
  }

  /** Answers the id of a lease that ends unless it is renewed. */
  async grantLease(seconds: number): Promise<string> {
    return (await this.#etcd.leaseClient.leaseGrant({ TTL: seconds })).ID;
  }

  /** False: the lease has ended, and with it its keys. */
  async renewLease(lease: string): Promise<boolean> {
    const stream = await this.#etcd.leaseClient.leaseKeepAlive({ deadline: Date.now() + ATTEMPT_MS });
    try {
      return await new Promise<boolean>((resolve, reject) => {
        stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0));
        stream.on('error', reject);
        stream.on('end', () => reject(new GRPCGenericError('the stream of lease renewals ended')));
        stream.write({ ID: lease });
      });
    } finally {
      stream.end();
    }
  }

  /** Ends a lease and removes its keys; one that has ended stays so. */
  async revokeLease(lease: string): Promise<void> {
    try {
      await this.#etcd.leaseClient.leaseRevoke({ ID: lease });
    } catch (reason) {
      if (!(reason instanceof EtcdLeaseInvalidError)) throw reason;
    }
  }

  /**
   * Resolves when the key has changed after `revision`, or after `milliseconds`: a watch can fall silent (a member of
   * etcd cut off from the others keeps it open), so that whoever waits looks again. Rejects only when `signal` aborts.
   */
  async changed(key: string, revision: string, milliseconds: number, signal: AbortSignal): Promise<void> {
    const what = `a change of ${key}`;
    if (signal.aborted) throw interrupted(signal, what);
    const end = new AbortController();
    const over = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(resolve, milliseconds);
      const onAbort = (): void => reject(interrupted(signal, what));
      signal.addEventListener('abort', onAbort, { once: true });
      end.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
    });
    this.#watch(key, revision, end);
    try {
      await over;
    } finally {
      end.abort();
    }
  }

  /** Aborts `end` at the first change of the key after `revision`, and the watch when `end` aborts. */
  #watch(key: string, revision: string, end: AbortController): void {
    this.#etcd.watchClient.watch().then(
      (stream) => {
        // What it says about its end does not matter: whoever waits looks again in a while.
        stream.on('error', () => undefined);
        stream.on('data', ({ events, canceled }) => {
          // Cancelled: the revision is not kept any more, so there may have been changes.
          if (events.length > 0 || canceled) end.abort();
        });
        const stop = (): void => {
          // Ended first: the pool takes a cancelled stream that is still writable for a failure of its host.
          stream.end();
          stream.cancel();
        };
        if (end.signal.aborted) return stop();
        end.signal.addEventListener('abort', stop);
        const start_revision = String(BigInt(revision) + 1n);
        stream.write({ create_request: { key: this.#key(key), start_revision } });
      },
      () => undefined,
    );
  }

  close(): void {
    this.#closing.abort(new WhittleError('INTERRUPTED', 'the coordinator was closed'));
    this.#etcd.close();
  }

  #key(key: string): Buffer {
    return Buffer.from(this.#prefix + key);
  }

  #explain(reason: unknown): WhittleError {
    if (reason instanceof WhittleError) return reason;
    if (this.closing.aborted) return interrupted(this.closing, 'etcd');
    const message = reason instanceof Error ? reason.message.replace(/^\w*Error: /, '') : String(reason);
    const where = `etcd at ${this.#endpoints}`;
    const isRefused = reason instanceof EtcdAuthenticationFailedError || reason instanceof EtcdPermissionDeniedError;
    if (isRefused || message.includes('user name is empty')) {
      return new WhittleError(
        'RUN_FILE',
        `${where} refuses the user (${message}); see coordination.etcd.username and password, or WHITTLE_ETCD_PASSWORD`,
        { cause: reason },
      );
    }
    if (PERMANENT.some((each) => reason instanceof each))
      return new WhittleError('INTERNAL', `${where} refuses a call: ${message}`, { cause: reason });
    // A defect of ours is not waited for.
    if (reason instanceof TypeError || reason instanceof RangeError) return WhittleError.from(reason);
    return new WhittleError('DEADLINE', `${where} does not answer: ${message}`, { cause: reason, retryable: true });
  }
}

const PERMANENT = [
  GRPCInvalidArgumentError,
  GRPCUnauthenticatedError,
  GRPCFailedPreconditionError,
  GRPCNotImplementedError,
  ClientClosedError,
];

function stored(found: IKeyValue | undefined): Stored | null {
  if (found === undefined) return null;
  const { value, create_revision, mod_revision, lease } = found;
  return { value: value.toString('utf8'), createRevision: create_revision, modRevision: mod_revision, lease };
}

function optionsOf({ endpoints, username, password, certificates }: EtcdConfig): IOptions {
  const deadline = (): { deadline: number } => ({ deadline: Date.now() + ATTEMPT_MS });
  const secret = password ?? process.env['WHITTLE_ETCD_PASSWORD'];
  if (username !== undefined && secret === undefined) {
    throw new WhittleError(
      'RUN_FILE',
      `coordination.etcd.username is ${JSON.stringify(username)} and there is no password; set WHITTLE_ETCD_PASSWORD`,
    );
  }
  return {
    hosts: [...endpoints],
    ...(username === undefined ? {} : { auth: { username, password: secret!, callOptions: deadline } }),
    ...(certificates === undefined
      ? {}
      : {
          credentials: {
            rootCertificate: readPem('ca', certificates.ca),
            ...(certificates.certificate === undefined || certificates.key === undefined
              ? {}
              : {
                  certChain: readPem('certificate', certificates.certificate),
                  privateKey: readPem('key', certificates.key),
                }),
          },
        }),
    defaultCallOptions: ({ isStream }) => (isStream ? {} : deadline()),
    grpcOptions: {
      'grpc.enable_http_proxy': 0,
      // Finds a member whose machine vanished. etcd closes connections that ping more often than every 5 s.
      'grpc.keepalive_time_ms': 10_000,
      'grpc.keepalive_timeout_ms': 5_000,
    },
    faultHandling: {
      global: noop,
      host: () =>
        circuitBreaker(handleWhen(isRecoverableError), {
          halfOpenAfter: HOST_PAUSE_MS,
          breaker: new ConsecutiveBreaker(1),
        }),
    },
  };
}

function readPem(name: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const told = cause instanceof Error ? cause.message : String(cause);
    throw new WhittleError('RUN_FILE', `coordination.etcd.certificates.${name} ${path} cannot be read: ${told}`, {
      cause,
    });
  }
}
