import assert from 'node:assert/strict';
import type { ShardSnapshot } from '../../../shared/checkpoint/manifest.ts';
import { clocksNeeded, dueInterventions, interventionCuts } from '../../../shared/interventions/calendar.ts';
import { optimizerStep, rewound, scheduleStep } from '../../../shared/interventions/rewind.ts';

const rewind = [
  { at: 100, to: 20 },
  { at: 200, to: 20 },
];

describe('rewinding', () => {
  it('keeps the mask, brings back the weights and states of then, and begins optimizer slots anew', () => {
    const now: ShardSnapshot = {
      start: 0,
      end: 5,
      stored: Uint8Array.of(0b10110),
      mask: Uint8Array.of(0b10110),
      weights: Float32Array.of(1, 2, 3),
      slots: { m: Float32Array.of(7, 8, 9), 'criterion.saliency': Float32Array.of(4, 5, 6) },
      state: Float32Array.of(1),
    };
    const then: ShardSnapshot = {
      start: 0,
      end: 5,
      // Element 4 was dead then, with a latent weight, and has come to life since.
      stored: Uint8Array.of(0b11111),
      mask: Uint8Array.of(0b01111),
      weights: Float32Array.of(10, 20, 30, 40, 50),
      slots: { m: new Float32Array(5) },
      state: Float32Array.of(2),
    };
    assert.deepEqual(
      rewound(now, then, (name) => (name === 'm' ? 0.5 : 0)),
      {
        ...now,
        weights: Float32Array.of(20, 30, 0),
        slots: { m: Float32Array.of(0.5, 0.5, 0.5), 'criterion.saliency': new Float32Array(3) },
        state: Float32Array.of(2),
      },
    );
  });

  it('takes schedules back and counts optimizer steps anew, from the step after on', () => {
    const at = (step: number): number[] => [scheduleStep(rewind, step), optimizerStep(rewind, step)];
    assert.deepEqual(at(100), [100, 100]);
    assert.deepEqual(at(101), [21, 1]);
    assert.deepEqual(at(200), [120, 100]);
    assert.deepEqual(at(201), [21, 1]);
    assert.deepEqual([scheduleStep(undefined, 7), optimizerStep(undefined, 7)], [7, 7]);
  });

  it('is due at its checkpoint until the checkpoint has been through it', () => {
    const due = (clock: number, interventions?: string[]): string[] =>
      dueInterventions({ rewind }, { clock, ...(interventions ? { interventions } : {}) }).map(({ id }) => id);
    assert.deepEqual(due(99), []);
    assert.deepEqual(due(100), ['rewind@100']);
    assert.deepEqual(due(150, ['rewind@100']), []);
    assert.deepEqual(due(200, ['rewind@100']), ['rewind@200']);
    assert.deepEqual(due(200, ['rewind@100', 'rewind@200']), []);
  });

  it('comes before units leave at the same step, so that the values that come back are of the whole model', () => {
    const both = { rewind, shrink: { atStep: 200 } };
    const due = dueInterventions(both, { clock: 200, interventions: ['rewind@100'] });
    assert.deepEqual(
      due.map(({ id, kind }) => [id, kind]),
      [
        ['rewind@200', 'rewind'],
        ['shrink@200', 'shrink'],
      ],
    );
    assert.deepEqual([...interventionCuts({ shrink: { atStep: 7 } })], [7]);
    assert.deepEqual(dueInterventions({ shrink: { atStep: 7 } }, { clock: 6 }), []);
  });

  it('has checkpoints cut where it acts and whose values it needs, which stay as long as it needs them', () => {
    assert.deepEqual(
      [...interventionCuts({ rewind })].sort((a, b) => a - b),
      [20, 100, 200],
    );
    assert.deepEqual(clocksNeeded({ rewind }, 150), [20]);
    assert.deepEqual(clocksNeeded({ rewind }, 201), []);
  });
});
