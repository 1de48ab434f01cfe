import assert from 'node:assert/strict';
import { learningRateAt } from '../../../../server/parameter-server/optimizers/learning-rate.ts';

describe('learning rate', () => {
  it('is constant', () => {
    assert.equal(learningRateAt(0.1, { kind: 'constant', warmupSteps: 0 }, 1, 10), 0.1);
    assert.equal(learningRateAt(0.1, { kind: 'constant', warmupSteps: 0 }, 10, 10), 0.1);
  });

  it('is multiplied every so many steps', () => {
    const schedule = { kind: 'step', every: 4, factor: 0.5, warmupSteps: 0 } as const;
    const rates = [1, 4, 5, 8, 9].map((step) => learningRateAt(1, schedule, step, 100));
    assert.deepEqual(rates, [1, 1, 0.5, 0.5, 0.25]);
  });

  it('falls along a line', () => {
    const schedule = { kind: 'linear', finalFactor: 0.2, warmupSteps: 0 } as const;
    // 1 - 0.8 (t - 1) / 4.
    const expected = [1, 0.8, 0.6, 0.4, 0.2];
    expected.forEach((rate, i) => assert.ok(Math.abs(learningRateAt(1, schedule, i + 1, 4) - rate) < 1e-15));
  });

  it('falls along half a cosine', () => {
    const schedule = { kind: 'cosine', finalFactor: 0.1, warmupSteps: 0 } as const;
    // 0.1 + 0.9 (1 + cos(pi (t - 1) / 4)) / 2, with cos 1, sqrt(1/2), 0, -sqrt(1/2), -1.
    const expected = [1, 0.1 + 0.45 * (1 + Math.SQRT1_2), 0.55, 0.1 + 0.45 * (1 - Math.SQRT1_2), 0.1];
    expected.forEach((rate, i) => assert.ok(Math.abs(learningRateAt(1, schedule, i + 1, 4) - rate) < 1e-15));
  });

  it('warms up along a line from 0, in every kind, and goes on from the full rate', () => {
    const kinds = [
      { kind: 'constant' },
      { kind: 'step', every: 100, factor: 0.1 },
      { kind: 'cosine', finalFactor: 0 },
      { kind: 'linear', finalFactor: 0 },
    ] as const;
    for (const kind of kinds) {
      const rates = [1, 2, 3, 4, 5].map((step) => learningRateAt(2, { ...kind, warmupSteps: 4 }, step, 20));
      assert.deepEqual(rates, [0.5, 1, 1.5, 2, 2], kind.kind);
    }
  });

  it('stays finite where the warm-up fills the run', () => {
    assert.equal(learningRateAt(1, { kind: 'cosine', finalFactor: 0, warmupSteps: 5 }, 5, 5), 1);
    assert.ok(Number.isFinite(learningRateAt(1, { kind: 'cosine', finalFactor: 0, warmupSteps: 5 }, 6, 5)));
  });
});
