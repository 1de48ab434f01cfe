import assert from 'node:assert/strict';
import { pruneAlone } from '../../../shared/sparsity/prune-alone.ts';
import { bitmap, isSet } from '../checkpoint/fixtures.ts';

describe('pruneAlone', () => {
  const weights = Float32Array.of(3, -1, 0, 2, -1, 0, 1, -4, 5, 6);
  // Elements 2 and 5 are dead.
  const mask = bitmap(10, (i) => i !== 2 && i !== 5);
  const dead = (pruned: Uint8Array): number[] => [...weights.keys()].filter((i) => !isSet(pruned, i));

  it('counts what is dead already, and then takes the smallest magnitudes, ties by index', () => {
    // 0.4 of 10: two more; |w| = 1 at 1, 4 and 6.
    assert.deepEqual(dead(pruneAlone(weights, mask, 0.4)), [1, 2, 4, 5]);
    assert.deepEqual(dead(pruneAlone(weights, mask, 0.6)), [1, 2, 3, 4, 5, 6]);
    // Half up: 4.5 is 5.
    assert.deepEqual(dead(pruneAlone(weights, mask, 0.45)), [1, 2, 4, 5, 6]);
    assert.deepEqual(dead(pruneAlone(weights, mask, 1)).length, 10);
  });

  it('revives nothing and leaves the mask given as it was', () => {
    for (const sparsity of [0, 0.1, 0.2]) assert.deepEqual(pruneAlone(weights, mask, sparsity), mask);
    const before = mask.slice();
    pruneAlone(weights, mask, 0.9);
    assert.deepEqual(mask, before);
  });
});
