/**
 * Math.random while user code and TensorFlow.js run: a generator of the seed, the step and the slice, so that
 * unseeded initializers, dropout and noise draw the same in every process that computes the same. One at a time:
 * two that overlap would restore each other's generator.
 */
import { createRandom, STREAMS } from '../../shared/kernels/random.ts';

export interface DrawPlace {
  readonly seed: number;
  /** 0: building the model. */
  readonly step: number;
  readonly slice: number;
}

/** Who draws: each has a stream of its own, so that augmentation does not change dropout. */
export type Stream = 'model' | 'data';

/** Runs `work` with Math.random seeded; the old one is back when it returns, throws, or its promise settles. */
export async function withSeed<T>(place: DrawPlace, stream: Stream, work: () => Promise<T> | T): Promise<T> {
  const restore = replaceMathRandom(generatorAt(place, stream));
  try {
    return await work();
  } finally {
    restore();
  }
}

/** The same for work that does not wait. */
export function withSeedSync<T>(place: DrawPlace, stream: Stream, work: () => T): T {
  const restore = replaceMathRandom(generatorAt(place, stream));
  try {
    return work();
  } finally {
    restore();
  }
}

/** Uniform in [0, 1); the draws of one stream at one place, from the beginning. */
export function generatorAt({ seed, step, slice }: DrawPlace, stream: Stream): () => number {
  const random = createRandom(STREAMS.slice, seed, step, slice, stream === 'model' ? 0 : 1);
  return () => random.float();
}

function replaceMathRandom(next: () => number): () => void {
  const before = Math.random;
  Math.random = next;
  return () => {
    Math.random = before;
  };
}
