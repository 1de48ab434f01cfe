import type { DecayConfig } from '../../shared/config/types.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { matchesGlob } from '../../shared/sparsity/glob.ts';

/** A run of packed values that share one decay; runs cover the packed arrays without gaps. */
export interface DecaySegment {
  readonly begin: number;
  readonly end: number;
  readonly decay: DecayConfig;
}

const NO_DECAY: DecayConfig = { weightDecay: 0, l2: 0, l1: 0, match: '*' };

/** Cuts the packed values of [start, end) where the decay's `match` begins or ends to hold. */
export function decaySegments(
  space: ParameterSpace,
  decay: DecayConfig,
  start: number,
  end: number,
  mask: Uint8Array,
): DecaySegment[] {
  const segments: DecaySegment[] = [];
  let at = 0;
  for (const part of space.overlapping(start, end)) {
    const size = countBits(mask, part.start - start, part.end - start);
    const applied = matchesGlob(decay.match, part.parameter.name) ? decay : NO_DECAY;
    const last = segments.at(-1);
    if (last && last.decay === applied) segments[segments.length - 1] = { ...last, end: at + size };
    else segments.push({ begin: at, end: at + size, decay: applied });
    at += size;
  }
  return segments;
}
