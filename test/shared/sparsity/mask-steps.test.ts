import assert from 'node:assert/strict';
import type { RunConfig } from '../../../shared/config/types.ts';
import {
  hasMaskStepAfter,
  isMaskStep,
  isRestorePoint,
  lastUpdate,
  maskStepBefore,
} from '../../../shared/sparsity/mask-steps.ts';
import { engineConfig } from '../../fixtures/config.ts';

const { training } = engineConfig();
const schedule = { kind: 'constant', finalSparsity: 0.5, beginStep: 4, endStep: 12, frequency: 4 };
const guard = { metric: 'accuracy', band: 0.02, action: 'hold', patience: 1 } as const;
const plan = {
  training: { ...training, steps: 30, evaluateEvery: 5 },
  sparsity: [{ schedule }, { schedule: { ...schedule, endStep: 8 } }],
} as unknown as RunConfig;
const stepsOf = (config: RunConfig): number[] =>
  Array.from({ length: 31 }, (_, i) => i).filter((i) => isMaskStep(config, i));

describe('mask steps', () => {
  it('are the updates of the plan', () => {
    assert.deepEqual(stepsOf(plan), [4, 8, 12]);
    assert.equal(lastUpdate(plan), 12);
  });

  it('are under a guard also the evaluations after them, without the last step', () => {
    assert.deepEqual(stepsOf({ ...plan, guard }), [4, 8, 12, 15, 20, 25]);
  });

  it('come one after the other', () => {
    const guarded = { ...plan, guard };
    assert.deepEqual(
      [4, 5, 15, 31].map((step) => maskStepBefore(guarded, step)),
      [-1, 4, 12, 25],
    );
    assert.deepEqual(
      [3, 12, 24, 25].map((step) => hasMaskStepAfter(guarded, step)),
      [true, true, true, false],
    );
    assert.equal(hasMaskStepAfter(plan, 12), false);
  });

  it('are restore points only where the guard restores', () => {
    const restoring = { ...plan, guard: { ...guard, action: 'restore' as const } };
    assert.deepEqual(
      [4, 5, 15].map((clock) => isRestorePoint(restoring, clock)),
      [true, false, true],
    );
    assert.equal(isRestorePoint({ ...plan, guard }, 4), false);
    assert.equal(isRestorePoint(plan, 4), false);
  });
});
