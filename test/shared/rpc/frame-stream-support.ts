import { WhittleError } from '../../../shared/errors.ts';
import type { FrameStream, FrameStreamOptions } from '../../../shared/rpc/frame-stream.ts';
import { stopPair, streamPair } from './support.ts';
import type { Pair } from './support.ts';

export const MiB = 1 << 20;
export const push = { kind: 'PUSH', clock: 7, slice: 3, sender: 1, generation: 2, maskEpoch: 5 } as const;

export function bytes(length: number, seed = 1): Uint8Array {
  const made = new Uint8Array(length);
  for (let index = 0, state = seed; index < length; index++) {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    made[index] = state >>> 16;
  }
  return made;
}

type Connected = Pair & { readonly worker: FrameStream; readonly shard: FrameStream };

type Connect = (atClient?: Partial<FrameStreamOptions>, atServer?: Partial<FrameStreamOptions>) => Promise<Connected>;

/** To be called in a `describe`: connects two ends for a test, which are closed after it. */
export function connections(): Connect {
  let open: Connected | undefined;
  afterEach(async () => {
    if (open === undefined) return;
    open.worker.destroy(new WhittleError('INTERRUPTED', 'the test is over'));
    await stopPair(open);
    open = undefined;
  });
  return async (atClient = {}, atServer = {}) => (open = await streamPair(atClient, atServer));
}
