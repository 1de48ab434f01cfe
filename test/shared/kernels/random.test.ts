import assert from 'node:assert/strict';
import fc from 'fast-check';
import { createRandom, hashSeeds, permutation, uint32At } from '../../../shared/kernels/random.ts';

describe('random numbers', () => {
  it('are a function of the seeds, of their order and number', () => {
    const first = (...seeds: number[]): number => createRandom(...seeds).uint32();
    assert.equal(first(1, 2, 3), first(1, 2, 3));
    const others = [first(1, 3, 2), first(1, 2), first(1, 2, 3, 0), first(1, 2, 4), first(1, 2, 3 + 2 ** 32)];
    assert.equal(new Set([first(1, 2, 3), ...others]).size, 6);
  });

  it('have the same bits everywhere', () => {
    const random = createRandom(1, 2, 3);
    assert.deepEqual(
      [random.uint32(), random.uint32(), random.uint32(), uint32At(7, 9), hashSeeds([1, 2])],
      [1667518314, 897883665, 1572913700, 4154598830, 1010155741],
    );
  });

  it('are uniform', () => {
    const random = createRandom(42);
    const n = 20_000;
    let sum = 0;
    let squares = 0;
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < n; i++) {
      const x = random.float();
      assert.ok(x >= 0 && x < 1);
      sum += x;
      squares += x * x;
      const k = random.below(10);
      counts[k] = (counts[k] as number) + 1;
    }
    // Standard deviations: 1/sqrt(12 n) = 0.002 for the mean, and sqrt(0.09 n) = 42 for a count of 2,000.
    assert.ok(Math.abs(sum / n - 0.5) < 0.01);
    assert.ok(Math.abs(squares / n - 1 / 3) < 0.01);
    for (const count of counts) assert.ok(Math.abs(count - n / 10) < 200, `${counts}`);
  });

  it('permute: every element once, all places equally likely', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 200 }), fc.nat(), fc.nat(), (n, seed, epoch) => {
        assert.deepEqual(
          [...permutation(n, seed, epoch)].sort((a, b) => a - b),
          Array.from({ length: n }, (_, i) => i),
        );
      }),
    );
    const places = new Array<number>(16).fill(0);
    for (let epoch = 0; epoch < 4000; epoch++) {
      permutation(4, 1, epoch).forEach(
        (value, place) => (places[4 * value + place] = (places[4 * value + place] as number) + 1),
      );
    }
    for (const count of places) assert.ok(Math.abs(count - 1000) < 150, `${places}`);
  });
});
