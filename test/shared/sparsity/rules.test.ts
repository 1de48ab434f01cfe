import assert from 'node:assert/strict';
import type { SparsityRule } from '../../../shared/config/types.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import {
  allUpdateSteps,
  isTargetExact,
  matchedParameters,
  matches,
  planHasWork,
  targetSparsityAt,
} from '../../../shared/sparsity/rules.ts';

const space = ParameterSpace.of([
  { name: 'dense_1/kernel', shape: [10, 10], layerKind: 'Dense', prunable: true },
  { name: 'dense_1/bias', shape: [10], layerKind: 'Dense', prunable: false },
  { name: 'dense_2/kernel', shape: [10, 30], layerKind: 'Dense', prunable: true },
]);

const rule = (match: string | null, finalSparsity: number, beginStep: number, endStep: number): SparsityRule => ({
  match,
  schedule: { kind: 'constant', finalSparsity, beginStep, endStep, frequency: 10 },
  criterion: 'magnitude',
  granularity: 'element',
  scope: 'global',
  regrowth: 'none',
  protect: { minSurvivorsPerParameter: 1 },
});

describe('sparsity rules', () => {
  it('cover the prunable parameters, or those a glob matches', () => {
    const names = (match: string | null): string[] => matches(rule(match, 0.5, 0, 0), space).map(({ name }) => name);
    assert.deepEqual(names(null), ['dense_1/kernel', 'dense_2/kernel']);
    assert.deepEqual(names('dense_1/*'), ['dense_1/kernel', 'dense_1/bias']);
    assert.deepEqual(names('*/gamma'), []);
  });

  it('have work where any schedule has an update', () => {
    const rules = [rule(null, 0.5, 5, 5), rule(null, 0.5, 0, 12)];
    assert.deepEqual(allUpdateSteps(rules, 20), [0, 5, 10, 12]);
    assert.equal(planHasWork(rules, 5), true);
    assert.equal(planHasWork(rules, 6), false);
    assert.equal(planHasWork([], 0), false);
  });

  it('ask together for the sum of what each asks for', () => {
    // 50 of 100 from step 5, 30 of 300 from step 8: 80 of 400.
    const rules = [rule('dense_1/kernel', 0.5, 5, 5), rule('dense_2/kernel', 0.1, 8, 8)];
    assert.deepEqual(
      [4, 5, 8].map((step) => targetSparsityAt(rules, space, step)),
      [0, 0.125, 0.2],
    );
    assert.deepEqual(
      matchedParameters(rules, space).map(({ name }) => name),
      ['dense_1/kernel', 'dense_2/kernel'],
    );
    assert.equal(targetSparsityAt([], space, 5), 0);
  });

  it('are exact but for units, which take others along, and for overlaps', () => {
    const [first, second] = [rule('dense_1/kernel', 0.5, 5, 5), rule('dense_2/kernel', 0.1, 8, 8)];
    assert.equal(isTargetExact([first, second], space), true);
    assert.equal(isTargetExact([{ ...first, granularity: { nm: [2, 4] } }, second], space), true);
    assert.equal(isTargetExact([first, rule(null, 0.1, 8, 8)], space), false);
    assert.equal(isTargetExact([{ ...first, granularity: { neuron: { norm: 2 } } }, second], space), false);
  });

  it('count an element that two rules match once', () => {
    assert.equal(targetSparsityAt([rule(null, 0.5, 5, 5), rule(null, 0.25, 5, 5)], space, 5), 0.5);
    assert.equal(targetSparsityAt([rule(null, 0.25, 5, 5), rule(null, 0.5, 5, 5)], space, 5), 0.5);
  });
});
