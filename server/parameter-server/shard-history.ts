import { createHash } from 'node:crypto';
import type { ShardEntry, ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { type History, openHistory } from '../../shared/telemetry/history.ts';
import type { PushEvent } from '../../shared/telemetry/history-records.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Push } from './push.ts';
import type { Shard } from './shard.ts';

/** Whose history it is. */
export interface ShardOrigin {
  readonly generation: number;
  readonly rank: number;
  readonly start: number;
  readonly end: number;
  readonly config: RunConfig;
  readonly runDirectory: string;
  readonly restoreFrom: string | null;
}

type PushHeader = Pick<Push, 'step' | 'slice' | 'maskEpoch' | 'sender' | 'examples'>;

/** What one shard writes down of one generation; it knows of pushes what the shard does not tell. */
export class ShardHistory {
  readonly #history: History;
  readonly #options: ShardOrigin;
  /** Slices accepted and not yet applied, by step. */
  readonly #accepted = new Map<number, Set<number>>();
  #mask: Uint8Array | null = null;
  #maskEpoch = 0;

  constructor(options: ShardOrigin) {
    this.#options = options;
    const { runDirectory, rank, config } = options;
    this.#history = openHistory({ runDirectory, role: 'server', rank, enabled: config.history === true });
  }

  /** Before the shard has anything of it. */
  taken({ start, end }: Shard, { clock, maskEpoch }: { readonly clock: number; readonly maskEpoch: number }): void {
    this.#history.record({
      kind: 'shard-taken',
      ...this.#who(),
      start,
      end,
      clock,
      maskEpoch,
      folder: this.#options.restoreFrom,
    });
  }

  /** Before the shard has it; the verdict is the one that the shard's rules give. */
  push(shard: Shard, { step, slice, maskEpoch, sender, examples }: PushHeader): void {
    if (!this.#history.isOn) return;
    const verdict = this.#verdict(shard, step, slice, maskEpoch);
    if (verdict === 'accepted') this.#accepted.set(step, (this.#accepted.get(step) ?? new Set<number>()).add(slice));
    this.#history.record({ kind: 'push', ...this.#who(), step, slice, maskEpoch, sender, examples, verdict });
  }

  applied(step: number, senders: readonly number[], maskEpoch: number): void {
    this.#accepted.delete(step);
    const slices = senders.map((_, slice) => slice);
    this.#history.record({ kind: 'applied', ...this.#who(), step, slices, senders, maskEpoch, clock: step });
  }

  /** The shard's bitmap, which it gives where its epoch is new. */
  published(step: number, maskEpoch: number, mask: Uint8Array | null): void {
    if (!this.#history.isOn || mask === null) return;
    const before = this.#mask;
    const isCommit = before !== null && maskEpoch > this.#maskEpoch;
    this.#mask = mask.slice();
    this.#maskEpoch = maskEpoch;
    // An update at step 0 comes before anything is published: all elements were alive then.
    if (!isCommit && !(before === null && this.#options.restoreFrom === null && maskEpoch > 0)) return;
    const size = this.#options.end - this.#options.start;
    const wasDead = (byte: number): number => (before === null ? 0 : ~before[byte]!);
    this.#history.record({
      kind: 'mask',
      ...this.#who(),
      step,
      maskEpoch,
      removed: countWhere(mask, size, (byte) => ~mask[byte]! & ~wasDead(byte)),
      regrown: countWhere(mask, size, (byte) => mask[byte]! & wasDead(byte)),
      dead: size - countBits(mask, 0, size),
      digest: digestOf(mask),
    });
  }

  written(clock: number, maskEpoch: number, snapshot: ShardSnapshot, { sha256, start, end }: ShardEntry): void {
    if (!this.#history.isOn) return;
    const maskDigest = digestOf(snapshot.mask);
    this.#history.record({ kind: 'shard-written', ...this.#who(), clock, maskEpoch, start, end, sha256, maskDigest });
  }

  close(): void {
    this.#history.close();
  }

  #verdict(shard: Shard, step: number, slice: number, maskEpoch: number): PushEvent['verdict'] {
    if (step <= shard.clock) return 'duplicate';
    if (this.#accepted.get(step)?.has(slice)) return 'duplicate';
    // Late pushes of older masks are projected where steps overlap.
    if (this.#options.config.consistency.mode !== 'bsp')
      return shard.pushedSize(step, maskEpoch) === null ? 'refused' : 'accepted';
    if (step !== shard.clock + 1 || maskEpoch !== shard.maskEpoch) return 'refused';
    return shard.phase === 'collecting' ? 'accepted' : 'duplicate';
  }

  #who(): { shard: number; generation: number } {
    return { shard: this.#options.rank, generation: this.#options.generation };
  }
}

/** Set bits among the first `size` of a bitmap made byte by byte. */
function countWhere(like: Uint8Array, size: number, byteAt: (byte: number) => number): number {
  return countBits(
    Uint8Array.from(like, (_, byte) => byteAt(byte) & 0xff),
    0,
    size,
  );
}

function digestOf(bits: Uint8Array): string {
  return createHash('sha256').update(bits).digest('hex');
}
