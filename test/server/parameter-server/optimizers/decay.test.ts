import assert from 'node:assert/strict';
import { decayAt } from '../../../../server/parameter-server/optimizers/decay-at.ts';
import { coveredBits, decayLatent } from '../../../../server/parameter-server/optimizers/latent-decay.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import { emptyBitmap, fullBitmap } from '../../../../shared/sparsity/bitmap.ts';

describe('decay', () => {
  it('gives every kind its coefficient times its own schedule', () => {
    const decay = {
      weightDecay: 0.1,
      l2: 0.2,
      l1: 0.4,
      groupLasso: 0.8,
      match: '*',
      schedules: {
        l2: { kind: 'step', every: 10, factor: 0.5, warmupSteps: 0 },
        l1: { kind: 'linear', finalFactor: 0, warmupSteps: 0 },
        groupLasso: { kind: 'constant', warmupSteps: 40 },
      },
    } as const;
    // After 20 of 40 steps: l2 was halved twice, l1 is half gone, groupLasso is at step 21 of its warm-up.
    assert.deepEqual(decayAt(decay, 21, 40), {
      weightDecay: 0.1,
      l2: 0.05,
      l1: 0.2,
      groupLasso: (0.8 * 21) / 40,
      latent: 0,
    });
    const cosine = { kind: 'cosine', finalFactor: 0.1, warmupSteps: 0 } as const;
    const { weightDecay } = decayAt({ ...decay, schedules: { weightDecay: cosine } }, 21, 40);
    assert.ok(Math.abs(weightDecay - 0.1 * (0.1 + 0.9 * 0.5)) < 1e-12, 'half a cosine is half way');
  });
});

describe('decay of latent weights', () => {
  const space = ParameterSpace.of([
    { name: 'a/kernel', shape: [6], layerKind: 'Dense', prunable: true },
    { name: 'b/kernel', shape: [4], layerKind: 'Dense', prunable: true },
  ]);

  it('pulls what is stored and dead, of parameters that match, and nothing else', () => {
    // Elements 1 and 8 are not stored; 0, 2, 4, 6 survive.
    const stored = Uint8Array.of(0b11111101, 0b10);
    const mask = Uint8Array.of(0b01010101, 0);
    const weights = Float32Array.of(10, 12, 13, 14, 15, 16, 17, 19); // elements 0, 2, 3, 4, 5, 6, 7, 9
    const some = weights.slice();
    decayLatent(some, stored, mask, coveredBits(space, 'a/*', 0, 10), 0.5);
    assert.deepEqual([...some], [10, 12, 6.5, 14, 7.5, 16, 17, 19]);
    decayLatent(weights, stored, mask, coveredBits(space, '*', 0, 10), 0.5);
    assert.deepEqual([...weights], [10, 12, 6.5, 14, 7.5, 16, 8.5, 9.5]);
  });

  it('is the SR-STE term: after k steps of lr x lambda a dead weight is (1 - lr lambda)^k of what it was', () => {
    const weights = Float32Array.of(1, -2);
    for (let k = 0; k < 10; k += 1) decayLatent(weights, fullBitmap(2), emptyBitmap(2), fullBitmap(2), 0.1 * 0.2);
    const left = 0.98 ** 10;
    assert.ok(Math.abs((weights[0] ?? 0) - left) < 1e-6 && Math.abs((weights[1] ?? 0) + 2 * left) < 1e-6);
  });

  it('covers by flat index, wherever the shard begins', () => {
    assert.deepEqual([...coveredBits(space, 'b/*', 4, 10)], [0b111100]);
  });
});
