import assert from 'node:assert/strict';
import { guardProblems, guardSchema } from '../../../shared/config/guard.ts';

const fits = { numRules: 1, evaluateEvery: undefined };

describe('guard in the run file', () => {
  it('is off where absent, and has a default for every key', () => {
    assert.equal(guardSchema.parse(undefined), undefined);
    assert.deepEqual(guardSchema.parse({}), { metric: 'accuracy', band: 0.02, action: 'hold', patience: 1 });
    assert.deepEqual(guardProblems(undefined, { numRules: 0, evaluateEvery: 0 }), []);
    assert.deepEqual(guardProblems(guardSchema.parse({}), fits), []);
  });

  for (const [value, says] of [
    [{ metric: 'f1' }, /must be one of accuracy, loss/],
    [{ band: 0 }, /must be a number > 0/],
    [{ action: 'stop' }, /must be one of hold, restore/],
    [{ patience: 0 }, /must be a whole number from 1 to 1000/],
    [{ bands: 1 }, /metric band action patience/],
  ] as const) {
    it(`refuses ${JSON.stringify(value)}`, () => {
      assert.match(guardSchema.safeParse(value).error?.issues[0]?.message ?? '', says);
    });
  }

  it('is refused where it has nothing to guard or nothing to go by', () => {
    const guard = guardSchema.parse({});
    assert.match(guardProblems(guard, { ...fits, numRules: 0 })[0]?.message ?? '', /add a rule to sparsity/);
    assert.match(guardProblems(guard, { ...fits, evaluateEvery: 0 })[0]?.message ?? '', /evaluateEvery is 0; set it/);
  });
});
