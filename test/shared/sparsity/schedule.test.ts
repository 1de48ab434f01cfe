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

  const at = (schedule: SparsitySchedule, steps: readonly number[]): string[] =>
    steps.map((step) => sparsityAt(schedule, step).toFixed(4));
  const quarters = [0, 250, 500, 750, 1000];
  const rising = { initialSparsity: 0, finalSparsity: 0.9, beginStep: 0, endStep: 1000, frequency: 1 } as const;

  it('linear, exponential and cosine are the published curves', () => {
    assert.deepEqual(at({ kind: 'linear', ...rising }, quarters), ['0.0000', '0.2250', '0.4500', '0.6750', '0.9000']);
    // 1 - 0.1^x: density falls by the same factor.
    const exponential = ['0.0000', '0.4377', '0.6838', '0.8222', '0.9000'];
    assert.deepEqual(at({ kind: 'exponential', ...rising }, quarters), exponential);
    // 0.9 (1 - cos(pi x / 2)).
    assert.deepEqual(at({ kind: 'cosine', ...rising }, quarters), ['0.0000', '0.0685', '0.2636', '0.5556', '0.9000']);
  });

  it('linear is polynomial of power 1, to the bit', () => {
    const steps = [0, 1, 333, 999, 1000];
    const linear = steps.map((step) => scheduleValue({ kind: 'linear', ...rising }, step));
    assert.deepEqual(
      linear,
      steps.map((step) => scheduleValue(polynomial({ power: 1 }), step)),
    );
  });

  it('one shot is one update', () => {
    const schedule = { kind: 'oneShot', finalSparsity: 0.5, beginStep: 7, endStep: 7, frequency: 1 } as const;
    assert.deepEqual(updateSteps(schedule), [7]);
    assert.deepEqual(at(schedule, [0, 6, 7, 8]), ['0.0000', '0.0000', '0.5000', '0.5000']);
  });

  it('a list of steps holds each until the next, whichever way they go', () => {
    const schedule = {
      kind: 'steps',
      finalSparsity: 0.6,
      beginStep: 2,
      endStep: 9,
      frequency: 1,
      steps: [
        { step: 2, sparsity: 0.5 },
        { step: 4, sparsity: 0.8 },
        { step: 9, sparsity: 0.6 },
      ],
    } as const;
    assert.deepEqual(updateSteps(schedule), [2, 4, 9]);
    assert.deepEqual(
      [0, 1, 2, 3, 4, 8, 9, 10].map((step) => sparsityAt(schedule, step)),
      [0, 0, 0.5, 0.5, 0.8, 0.8, 0.6, 0.6],
    );
    assert.deepEqual(
      [1, 2, 3, 4, 5, 9, 10].map((step) => isUpdateStep(schedule, step)),
      [false, true, false, true, false, true, false],
    );
  });

  it('a cycle is sparse and dense by turns, updates at the borders only, and sparse at the end', () => {
    const schedule = {
      kind: 'cyclic',
      finalSparsity: 0.9,
      beginStep: 10,
      endStep: 27,
      frequency: 1,
      sparseSteps: 4,
      denseSteps: 3,
    } as const;
    // Sparse 10..13, dense 14..16, sparse 17..20, dense 21..23, sparse 24..26 and from 27 on.
    assert.deepEqual(updateSteps(schedule), [10, 14, 17, 21, 24, 27]);
    const values = [9, 10, 13, 14, 16, 17, 20, 21, 23, 24, 26, 27, 1000].map((step) => sparsityAt(schedule, step));
    assert.deepEqual(values, [0, 0.9, 0.9, 0, 0, 0.9, 0.9, 0, 0, 0.9, 0.9, 0.9, 0.9]);
    // It ends sparse also where endStep cuts a dense phase short.
    assert.deepEqual(updateSteps({ ...schedule, endStep: 22 }), [10, 14, 17, 21, 22]);
    assert.equal(sparsityAt({ ...schedule, endStep: 22 }, 22), 0.9);
  });

  /** A schedule of any kind, from a rising polynomial. */
  const anyKind = fc
    .tuple(arbitrary, fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 }), fc.integer({ min: 0, max: 7 }))
    .map(([each, sparseSteps, denseSteps, pick]): SparsitySchedule => {
      const { initialSparsity, finalSparsity, beginStep, endStep } = each;
      const { power: _, ...curve } = each;
      const below = (x: number): number => Math.min(x, 0.99);
      const first = { step: beginStep, sparsity: initialSparsity };
      const last = { step: endStep, sparsity: finalSparsity };
      const all: SparsitySchedule[] = [
        each,
        { ...curve, kind: 'linear' },
        {
          ...curve,
          kind: 'exponential',
          initialSparsity: below(initialSparsity),
          finalSparsity: below(finalSparsity),
        },
        { ...curve, kind: 'cosine' },
        { ...curve, kind: 'constant' },
        { ...curve, kind: 'oneShot', endStep: beginStep },
        { ...curve, kind: 'steps', steps: beginStep === endStep ? [last] : [first, last] },
        { ...curve, kind: 'cyclic', sparseSteps, denseSteps },
      ];
      return all[pick] as SparsitySchedule;
    });

  it('of any kind changes at update steps only, never falls but in a cycle, and ends at finalSparsity', () => {
    fc.assert(
      fc.property(anyKind, (schedule) => {
        const list = updateSteps(schedule);
        const steps = new Set(list);
        assert.equal(steps.size, list.length);
        assert.equal(list[0], schedule.beginStep);
        let previous = 0;
        for (let step = 0; step <= schedule.endStep + 2; step++) {
          const now = sparsityAt(schedule, step);
          assert.equal(isUpdateStep(schedule, step), steps.has(step), `update at ${step}`);
          if (!steps.has(step)) assert.equal(now, previous, `change at ${step}`);
          if (schedule.kind !== 'cyclic') assert.ok(now >= previous - 1e-15, `falls at ${step}`);
          assert.ok(now >= 0 && now <= 1, `${now} at ${step}`);
          previous = now;
        }
        assert.equal(previous, schedule.finalSparsity);
      }),
    );
  });
});
