import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { isOwnState } from '../../../shared/layout/own-states.ts';
import { activationStatistics, observedLayers } from '../../../shared/model-graph/activation-statistics.ts';
import { unitGroupsOf } from '../../../shared/model-graph/unit-groups.ts';
import { descriptionOf, MODELS } from './models.ts';

const RULE = { criterion: 'activation', match: null } as const;

describe('observedLayers', () => {
  before(() => tf.setBackend('cpu'));

  it('looks behind what follows a layer unit by unit', () => {
    assert.deepEqual(
      observedLayers(descriptionOf(MODELS.convolution()), [RULE]).map(({ layer, units, at }) => [layer, units, at]),
      [
        ['conv2d_1', 4, 'batch_normalization_1'],
        ['conv2d_2', 3, 'conv2d_2'],
        ['dense_1', 5, 'dense_1'],
      ],
    );
  });

  it('is about the layers that a rule of this criterion matches, and no others', () => {
    const description = descriptionOf(MODELS.dense());
    assert.deepEqual(observedLayers(description, [{ criterion: 'magnitude', match: null }]), []);
    const some = observedLayers(description, [{ ...RULE, match: 'dense_2/*' }]);
    assert.deepEqual(
      some.map(({ layer }) => layer),
      ['dense_2'],
    );
  });

  it('gives names to states that go with their units and belong to no layer', () => {
    const { mean, zeros } = activationStatistics('dense_1');
    assert.ok([mean, zeros].every((name) => isOwnState({ name })));
    assert.ok(!isOwnState({ name: 'batch_normalization_1/moving_mean' }));
    const description = descriptionOf(MODELS.dense());
    const states = [mean, zeros].map((name) => ({ name, shape: [4] }));
    const { groups, states: places } = unitGroupsOf({ ...description, states });
    const members = groups[0]?.members.filter(({ role }) => role === 'state') ?? [];
    assert.deepEqual(
      members.map(({ parameter, positions }) => [parameter, positions.length]),
      [
        [mean, 4],
        [zeros, 4],
      ],
    );
    assert.deepEqual(places?.get(zeros), [4, 8]);
  });
});
