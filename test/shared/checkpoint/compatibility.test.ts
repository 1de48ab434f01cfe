import assert from 'node:assert/strict';
import { changedBehaviour, diffModels, requireSameModel } from '../../../shared/checkpoint/compatibility.ts';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';
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

  it('takes a model that units have left for what it was before, where the files build it whole', () => {
    const { parameters, states } = old;
    const small = { ...old, parameters: [{ ...kernel!, shape: [10, 7] }, bias!], shrunkFrom: { parameters, states } };
    assert.deepEqual(diffModels(small, old), []);
    assert.deepEqual(diffModels(small, { ...old, parameters: [{ ...kernel!, shape: [10, 11] }, bias!] }), [
      'shape changed: parameter dense_1/kernel was [10, 10], is [10, 11]',
    ]);
    // Two checkpoints, each as it is.
    assert.deepEqual(diffModels(small, small), []);
    const smaller = { ...small, parameters: [{ ...kernel!, shape: [10, 6] }, bias!] };
    assert.deepEqual(diffModels(small, smaller), ['shape changed: parameter dense_1/kernel was [10, 7], is [10, 6]']);
  });

  it('sees another order, which other flat indices follow from', () => {
    assert.deepEqual(diffModels(old, { ...old, parameters: [bias!, kernel!] }), [
      'order changed: parameter 0 was dense_1/kernel, is dense_1/bias',
    ]);
  });
});

describe('changedBehaviour', () => {
  const layered = (units: number, activation: string): ModelDescription => ({
    ...model(),
    topology: {
      class_name: 'Sequential',
      config: {
        name: 'sequential',
        layers: [{ class_name: 'Dense', config: { name: 'dense_1', units, activation } }],
      },
    },
  });

  it('does not count sizes of a model that units have left, and counts all else', () => {
    const { parameters, states } = model();
    const small = { ...layered(7, 'relu'), shrunkFrom: { parameters, states } };
    assert.equal(changedBehaviour(small, layered(10, 'relu'), 'step-1'), null);
    assert.match(changedBehaviour(small, layered(10, 'tanh'), 'step-1')!, /activation was "relu", is "tanh"/);
    assert.match(changedBehaviour(layered(7, 'relu'), layered(10, 'relu'), 'step-1')!, /units was 7, is 10/);
  });
});
