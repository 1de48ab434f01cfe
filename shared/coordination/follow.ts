import { pause } from '../rpc/deadline.ts';

const AFTER_FAILURE_MS = 500;

export interface Followed<T> {
  readonly read: (signal: AbortSignal) => Promise<T>;
  /** Waits until the value may have changed since `last`; may resolve without a change. */
  readonly changed: (last: T, signal: AbortSignal) => Promise<void>;
  /** Two values with the same identity are not told apart. */
  readonly identity: (value: T) => string;
  readonly onChange: (value: T) => void;
}

/** Tells the value of now and every other one that is seen later, until the returned function is called. */
export function follow<T>({ read, changed, identity, onChange }: Followed<T>): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  let told: string | null = null;
  const look = async (): Promise<void> => {
    let value: T;
    try {
      value = await read(signal);
    } catch {
      // Cannot be read now: whoever follows waits for the coordinator's return.
      return pause(AFTER_FAILURE_MS, 'the coordinator', signal);
    }
    if (stopped()) return;
    if (identity(value) !== told) {
      told = identity(value);
      onChange(value);
    }
    if (!stopped()) await changed(value, signal);
  };
  const stopped = (): boolean => signal.aborted;
  void (async () => {
    while (!stopped()) {
      await look().catch((reason: unknown) => {
        if (!stopped()) throw reason;
      });
    }
  })();
  return () => stop.abort();
}
