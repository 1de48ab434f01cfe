/**
 * Seeded random numbers, the same on every machine. Seeds are lists of whole numbers, so that every use draws
 * from a stream of its own: the first says what for, the others which one.
 */
export const STREAMS = { permutation: 1, slice: 2, rounding: 3, initial: 4 } as const;

export interface Random {
  /** Uniform in 0 .. 2^32-1. */
  uint32(): number;
  /** Uniform in [0, 1), a multiple of 2^-53; what Math.random promises. */
  float(): number;
  /** Uniform in 0 .. n-1, without bias; n from 1 to 2^32. */
  below(n: number): number;
}

/** xoshiro128** (Blackman & Vigna 2018), its state filled by hashing the seeds in their order. */
export function createRandom(...seeds: readonly number[]): Random {
  const key = hashSeeds(seeds);
  let a = mix32(key + 1);
  let b = mix32(key + 2);
  let c = mix32(key + 3);
  // Never all zero, where the generator would stay.
  let d = mix32(key + 4) | 1;
  const uint32 = (): number => {
    const times5 = Math.imul(b, 5);
    const result = Math.imul((times5 << 7) | (times5 >>> 25), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return {
    uint32,
    float: () => ((uint32() >>> 5) * 0x4000000 + (uint32() >>> 6)) / 0x20000000000000,
    below(n) {
      // Draws beyond the last whole multiple of n would favour small numbers.
      const limit = 0x100000000 - (0x100000000 % n);
      for (;;) {
        const drawn = uint32();
        if (drawn < limit) return drawn % n;
      }
    },
  };
}

/** The permutation of 0 .. n-1 of one epoch (Fisher & Yates), each of the n! equally likely. */
export function permutation(n: number, seed: number, epoch: number): Uint32Array {
  const random = createRandom(STREAMS.permutation, seed, epoch);
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const moved = order[i] as number;
    order[i] = order[j] as number;
    order[j] = moved;
  }
  return order;
}

/** One uint32 out of a list of whole numbers of up to 53 bits; order and length count. */
export function hashSeeds(seeds: readonly number[]): number {
  let hash = mix32(seeds.length);
  for (const seed of seeds) {
    hash = mix32(hash ^ (seed >>> 0));
    hash = mix32(hash + Math.floor(seed / 0x100000000));
  }
  return hash;
}

/** Random access: element `index` of the stream with this key (splitmix32: a counter, then a hash of it). */
export function uint32At(key: number, index: number): number {
  return mix32(key + Math.imul(index, 0x9e3779b9));
}

/** Finalizer of splitmix32: a bijection of uint32 in which every input bit reaches every output bit. */
function mix32(value: number): number {
  let z = value | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}
