import assert from 'node:assert/strict';
import { diffModels, requireSameModel } from '../../../shared/checkpoint/compatibility.ts';
import { model } from './fixtures.ts';

describe('diffModels', () => {
  const old = model();
  const [kernel, bias] = old.parameters;

  it('is empty for the same tensors, whatever else differs', () => {
    assert.deepEqual(diffModels(old, { ...old, topology: null, layers: [], trainExamples: 1, notes: ['x'] }), []);
    requireSameModel(old, old, 'checkpoint');
  });

  it('names what is missing, added and reshaped', () => {
    const now = {
      ...old,
      parameters: [
        { ...kernel!, shape: [10, 20] },
        { ...bias!, name: 'dense_2/bias' },
      ],
      states: [],
    };
    assert.deepEqual(diffModels(old, now), [
      'shape changed: parameter dense_1/kernel was [10, 10], is [10, 20]',
      'missing: parameter dense_1/bias [200]',
      'added: parameter dense_2/bias [200]',
      'missing: state batch_normalization_1/moving_mean [3]',
    ]);
    assert.throws(
      () => requireSameModel(old, now, 'step-1'),
      /\[CHECKPOINT\] step-1 was written by another model:\n {2}shape changed/,
    );
  });

  it('sees another order, which other flat indices follow from', () => {
    assert.deepEqual(diffModels(old, { ...old, parameters: [bias!, kernel!] }), [
      'order changed: parameter 0 was dense_1/kernel, is dense_1/bias',
    ]);
  });
});
