import { WhittleError } from '../errors.ts';

/**
 * Waits for `promise`, at most `milliseconds`. `what` completes "waited 3 s for ...": it names whom
 * and what is waited for. Rejects with DEADLINE, or INTERRUPTED when `signal` aborts (its reason, if
 * that is a WhittleError). The timer keeps the process alive, so that the deadline comes even when
 * nothing else does, and is cleared as soon as the wait is over.
 */
export function withDeadline<T>(
  promise: PromiseLike<T>,
  milliseconds: number,
  what: string,
  signal?: AbortSignal,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const onAbort = (): void => {
      end();
      reject(interrupted(signal, what));
    };
    const timer = setTimeout(() => {
      end();
      reject(deadlineError(milliseconds, what));
    }, milliseconds);
    promise.then(
      (value) => {
        end();
        resolve(value);
      },
      (reason: unknown) => {
        end();
        reject(reason);
      },
    );
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Resolves after `milliseconds`; rejects with INTERRUPTED when `signal` aborts. */
export function pause(milliseconds: number, what: string, signal?: AbortSignal): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(interrupted(signal, what));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, milliseconds);
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

export interface RetryOptions {
  /** Total time for all attempts and the pauses between them. */
  readonly deadlineMilliseconds: number;
  /** Completes "waited 3 s for ...". */
  readonly what: string;
  readonly signal?: AbortSignal | undefined;
  /** First pause; doubles up to 1 s. Default 50. */
  readonly pauseMilliseconds?: number;
}

/**
 * Calls `attempt` until it succeeds, fails with an error that is not retryable, or the deadline
 * passes; then the DEADLINE error has the last failure as its cause. `attempt` is given the time left.
 */
export async function retry<T>(attempt: (millisecondsLeft: number) => Promise<T>, options: RetryOptions): Promise<T> {
  const { deadlineMilliseconds, what, signal } = options;
  const end = performance.now() + deadlineMilliseconds;
  for (let wait = options.pauseMilliseconds ?? 50; ; wait = Math.min(2 * wait, 1000)) {
    if (signal?.aborted === true) throw interrupted(signal, what);
    try {
      return await attempt(Math.max(1, end - performance.now()));
    } catch (reason) {
      if (!(reason instanceof WhittleError) || !reason.retryable) throw reason;
      if (performance.now() + wait >= end) throw deadlineError(deadlineMilliseconds, what, reason);
    }
    await pause(wait, what, signal);
  }
}

function deadlineError(milliseconds: number, what: string, cause?: WhittleError): WhittleError {
  const last = cause === undefined ? '' : `; the last attempt said: ${cause.rawMessage}`;
  return new WhittleError('DEADLINE', `waited ${milliseconds / 1000} s for ${what}${last}`, {
    cause,
    data: { milliseconds, what },
    retryable: true,
  });
}

/** The error of a wait that `signal` ended: its reason if that says more, else INTERRUPTED. */
export function interrupted(signal: AbortSignal | undefined, what: string): WhittleError {
  const reason: unknown = signal?.reason;
  if (reason instanceof WhittleError) return reason;
  return new WhittleError('INTERRUPTED', `stopped while waiting for ${what}`, { cause: reason, data: { what } });
}
