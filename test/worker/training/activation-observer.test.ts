import assert from 'node:assert/strict';
import type { SparsityRule } from '../../../shared/config/types.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { statisticsOf } from '../../../worker/training/activation-observer.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { engineConfig } from '../../fixtures/config.ts';

const RULE: SparsityRule = {
  match: 'dense_1/kernel',
  schedule: { kind: 'oneShot', finalSparsity: 0.5, beginStep: 5, endStep: 5 },
  criterion: 'activation',
  granularity: { neuron: { norm: 2 } },
  scope: 'global',
  regrowth: 'none',
  protect: { minSurvivorsPerParameter: 1 },
} as SparsityRule;

describe('what units give out', () => {
  it('is the mean of |x| and the share of zeros over examples and positions', () => {
    const { mean, zeros } = statisticsOf(Float32Array.of(1, 0, -3, -0, 2, 5, 0, 1), 2);
    assert.deepEqual(
      [[...mean], [...zeros]],
      [
        [1.5, 1.5],
        [0.25, 0.5],
      ],
    );
  });

  it('moves averages in training, not in evaluation, and changes no gradient', async () => {
    await loadBackend('wasm');
    const { numTensors } = tf.memory();
    const plain = await Engine.create({ config: engineConfig() });
    const watched = await Engine.create({ config: engineConfig({ sparsity: [RULE] }) });
    try {
      assert.deepEqual(
        watched.description.states.map(({ name, shape }) => [name, shape]),
        [
          ['dense_1/activation_mean', [16]],
          ['dense_1/activation_zeros', [16]],
        ],
      );
      const expected = await plain.gradient(1, 0);
      const { gradient, stateDelta } = await watched.gradient(1, 0);
      assert.deepEqual(gradient, expected.gradient);
      const [means, zeros] = [stateDelta.subarray(0, 16), stateDelta.subarray(16)];
      assert.ok(means.every((mean) => mean > 0));
      // 32 examples, of which a tenth counts at first.
      for (const share of zeros) assert.ok(Math.abs(share * 320 - Math.round(share * 320)) < 1e-3, `${share}`);
      assert.ok(
        zeros.some((share) => share > 0),
        'the layer ends in relu',
      );
      assert.deepEqual((await watched.gradient(1, 0)).stateDelta, stateDelta, 'from the state of the clock each time');

      watched.setWeights(watched.initialWeights(), stateDelta, 1);
      watched.keepForEvaluation(1);
      const before = await watched.gradient(2, 0);
      await watched.evaluateChunk(1, 0);
      assert.deepEqual((await watched.gradient(2, 0)).stateDelta, before.stateDelta);
    } finally {
      plain.dispose();
      watched.dispose();
    }
    assert.equal(tf.memory().numTensors, numTensors);
  });
});
