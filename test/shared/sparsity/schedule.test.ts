import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import type { SparsitySchedule } from '../../../shared/config/types.ts';
import { isUpdateStep, scheduleValue, sparsityAt, updateSteps } from '../../../shared/sparsity/schedule/index.ts';

type Polynomial = Extract<SparsitySchedule, { kind: 'polynomial' }>;

const golden = JSON.parse(readFileSync(new URL('../../golden/schedules.json', import.meta.url), 'utf8')) as {
  cases: (Polynomial & { points: [step: number, value: number][] })[];
};

const polynomial = (change: Partial<Polynomial> = {}): Polynomial => ({
  kind: 'polynomial',
  initialSparsity: 0,
  finalSparsity: 0.9,
  beginStep: 0,
  endStep: 1000,
  frequency: 1,
  power: 3,
  ...change,
});

const arbitrary = fc
  .record({
    initial: fc.double({ min: 0, max: 1, noNaN: true }),
    final: fc.double({ min: 0, max: 1, noNaN: true }),
    beginStep: fc.integer({ min: 0, max: 300 }),
    length: fc.integer({ min: 0, max: 300 }),
    frequency: fc.integer({ min: 1, max: 120 }),
    power: fc.constantFrom(1, 2, 3, 4, 0.5, 2.5),
  })
  .map(({ initial, final, beginStep, length, frequency, power }) =>
    polynomial({
      initialSparsity: Math.min(initial, final),
      finalSparsity: Math.max(initial, final),
      beginStep,
      endStep: beginStep + length,
      frequency,
      power,
    }),
  );

describe('sparsity schedule', () => {
  golden.cases.forEach(({ points, ...schedule }, index) => {
    it(`gives the values of golden case ${index}`, () => {
      for (const [step, value] of points) {
        assert.ok(
          Math.abs(scheduleValue(schedule, step) - value) < 1e-15,
          `step ${step}: ${scheduleValue(schedule, step)}`,
        );
        assert.equal(sparsityAt(schedule, step), step < schedule.beginStep ? 0 : scheduleValue(schedule, step));
      }
    });
  });

  it('is that of Zhu and Gupta at every step', () => {
    // 0.9 - 0.9 (1 - t/1000)^3, to six places (0.5203125 lies just below itself in binary).
    const values = [0, 1, 250, 500, 750, 999, 1000].map((t) => scheduleValue(polynomial(), t).toFixed(6));
    assert.deepEqual(values, ['0.000000', '0.002697', '0.520312', '0.787500', '0.885938', '0.900000', '0.900000']);
  });

  it('rises with even and with fractional powers too', () => {
    // At the middle 1 - x = 0.5: 0.8 (1 - 0.25) and 0.8 (1 - sqrt(0.5)).
    assert.equal(sparsityAt(polynomial({ finalSparsity: 0.8, power: 2 }), 500), 0.8 - 0.8 * 0.25);
    const root = sparsityAt(polynomial({ finalSparsity: 0.8, power: 0.5 }), 500);
    assert.ok(Math.abs(root - 0.8 * (1 - Math.SQRT1_2)) < 1e-14);
  });

  it('is 0 before beginStep, whatever initialSparsity is', () => {
    const schedule = polynomial({ initialSparsity: 0.5, beginStep: 10 });
    assert.deepEqual(
      [9, 10].map((step) => sparsityAt(schedule, step)),
      [0, 0.5],
    );
  });

  it('always updates at endStep', () => {
    const schedule = polynomial({ beginStep: 200, endStep: 450, frequency: 100 });
    assert.deepEqual(updateSteps(schedule), [200, 300, 400, 450]);
    assert.equal(sparsityAt(schedule, 450), 0.9);
  });

  it('with beginStep = endStep is one update at finalSparsity, step 0 included', () => {
    for (const at of [0, 7]) {
      const schedule = polynomial({ beginStep: at, endStep: at });
      assert.deepEqual(updateSteps(schedule), [at]);
      assert.equal(sparsityAt(schedule, at), 0.9);
      assert.equal(sparsityAt(schedule, at + 1), 0.9);
    }
  });

  it('is constant from beginStep on, with updates to endStep', () => {
    const schedule = { kind: 'constant', finalSparsity: 0.7, beginStep: 5, endStep: 12, frequency: 3 } as const;
    assert.deepEqual(
      [0, 4, 5, 6, 12, 100].map((step) => sparsityAt(schedule, step)),
      [0, 0, 0.7, 0.7, 0.7, 0.7],
    );
    assert.deepEqual(updateSteps(schedule), [5, 8, 11, 12]);
  });

  it('changes at update steps only, never falls, and ends at finalSparsity', () => {
    fc.assert(
      fc.property(arbitrary, (schedule) => {
        const steps = new Set(updateSteps(schedule));
        let previous = 0;
        for (let step = 0; step <= schedule.endStep + 2; step++) {
          const now = sparsityAt(schedule, step);
          assert.equal(isUpdateStep(schedule, step), steps.has(step), `update at ${step}`);
          if (!steps.has(step)) assert.equal(now, previous, `change at ${step}`);
          assert.ok(now >= previous - 1e-15, `falls at ${step}`);
          previous = now;
        }
        assert.equal(previous, schedule.finalSparsity);
      }),
    );
  });
});
