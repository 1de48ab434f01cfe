import type { ShardSnapshot } from '../checkpoint/manifest.ts';
import type { RewindConfig } from '../config/rewind.ts';
import { getBit, setPositions } from '../sparsity/bitmap.ts';
import { unpack } from '../sparsity/packing.ts';

/**
 * Lottery-ticket rewinding (Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis"): the
 * mask of `now` with the weights and the non-trainable state of `then`. Both cover the same range. Optimizer slots
 * begin anew at `freshSlot`; an element that was dead then begins at 0.
 */
export function rewound(now: ShardSnapshot, then: ShardSnapshot, freshSlot: (name: string) => number): ShardSnapshot {
  const length = now.end - now.start;
  const before = unpack(then.weights, then.stored, length);
  const stored = setPositions(now.stored);
  const weights = Float32Array.from(stored, (i) => (getBit(then.mask, i) ? (before[i] as number) : 0));
  const slots = Object.fromEntries(
    Object.keys(now.slots).map((name) => [name, new Float32Array(stored.length).fill(freshSlot(name))]),
  );
  return { ...now, weights, slots, state: then.state };
}

/** The rewind that a step after it counts from; null before the first. */
export function rewindBefore(rewinds: readonly RewindConfig[] | undefined, step: number): RewindConfig | null {
  return rewinds?.findLast(({ at }) => at < step) ?? null;
}

/** Where learning-rate schedules are at a step: rewinding takes them back with the weights, while the clock goes on. */
export function scheduleStep(rewinds: readonly RewindConfig[] | undefined, step: number): number {
  const last = rewindBefore(rewinds, step);
  return last === null ? step : last.to + step - last.at;
}

/** Steps of the optimizer since its slots began, for bias correction. */
export function optimizerStep(rewinds: readonly RewindConfig[] | undefined, step: number): number {
  return step - (rewindBefore(rewinds, step)?.at ?? 0);
}
