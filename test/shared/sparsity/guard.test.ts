import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { GuardConfig } from '../../../shared/config/guard.ts';
import {
  guardState,
  onEvaluation,
  onUpdate,
  owesUpdate,
  sayDecision,
  type GuardDecision,
  type GuardState,
} from '../../../shared/sparsity/guard.ts';

const HOLD: GuardConfig = { metric: 'accuracy', band: 0.02, action: 'hold', patience: 1 };

type Event = { readonly at: number; readonly update: boolean; readonly accuracy: number };
/** `u10`: mask update at step 10; `e10:0.9`: evaluation of step 10. */
const events = (line: string): Event[] =>
  line.split(' ').map((word) => {
    const [at = '', accuracy = '0'] = word.slice(1).split(':');
    return { at: Number(at), update: word.startsWith('u'), accuracy: Number(accuracy) };
  });

interface Played {
  readonly state: GuardState;
  readonly decisions: readonly GuardDecision[];
  /** Steps of the updates that were made. */
  readonly made: readonly number[];
}

function play(config: GuardConfig, line: readonly Event[], from = guardState(), raises = true): Played {
  const decisions: GuardDecision[] = [];
  const made: number[] = [];
  let state = from;
  for (const { at, update, accuracy } of line) {
    if (update) {
      const answer = onUpdate(state, at, raises);
      state = answer.state;
      if (answer.isMade) made.push(at);
    } else {
      const answer = onEvaluation(config, state, { step: at, accuracy, loss: 1 - accuracy });
      state = answer.state;
      if (answer.decision) decisions.push(answer.decision);
    }
  }
  return { state, decisions, made };
}

describe('guard', () => {
  it('skips updates while out of the band, goes on when it is back, and owes nothing then', () => {
    const { decisions, made, state } = play(
      HOLD,
      events('e10:0.90 u20 e20:0.89 u30 e30:0.87 u40 e40:0.879 u50 e50:0.885 u60 e60:0.91 u70'),
    );
    assert.deepEqual(made, [20, 30, 60, 70]);
    assert.deepEqual(decisions, [
      { step: 30, kind: 'hold', metric: 0.87, reference: 0.9 },
      { step: 50, kind: 'resume', metric: 0.885, reference: 0.9 },
    ]);
    assert.equal(state.reference, 0.91, 'the best so far, also under pruning');
    assert.equal(owesUpdate(state), false);
  });

  it('owes the update that it skipped, from the resume until one is made', () => {
    const held = play(HOLD, events('e10:0.9 u20 e20:0.8 u30')).state;
    assert.equal(owesUpdate(held), false, 'nothing is made up for while holding');
    const back = play(HOLD, events('e30:0.9'), held).state;
    assert.equal(owesUpdate(back), true);
    assert.equal(owesUpdate(play(HOLD, events('u45'), back).state), false);
  });

  it('lets updates through that do not raise sparsity, and still owes the skipped one', () => {
    const held = play(HOLD, events('e10:0.9 u20 e20:0.8 u30')).state;
    const through = play(HOLD, events('u40'), held, false);
    assert.deepEqual(through.made, [40]);
    assert.equal(owesUpdate(play(HOLD, events('e40:0.9'), through.state).state), true);
  });

  it('waits for `patience` evaluations in a row', () => {
    const patient = { ...HOLD, patience: 2 };
    const { decisions } = play(patient, events('e1:0.9 u2 e2:0.8 u3 e3:0.9 u4 e4:0.8 u5 e5:0.8'));
    assert.deepEqual(
      decisions.map(({ step, kind }) => [step, kind]),
      [[5, 'hold']],
    );
  });

  it('restores the last update whose mask was inside, then holds', () => {
    const { decisions, made, state } = play(
      { ...HOLD, action: 'restore' },
      events('e10:0.90 u20 e20:0.90 u30 e30:0.89 u40 u45 e45:0.7 u50 e50:0.89 u60'),
    );
    assert.deepEqual(decisions, [
      { step: 45, kind: 'restore', metric: 0.7, reference: 0.9, to: 30 },
      { step: 50, kind: 'resume', metric: 0.89, reference: 0.9 },
    ]);
    assert.deepEqual(made, [20, 30, 40, 45, 60]);
    assert.equal(state.lastUpdate, 60);
  });

  it('owes what a restore undid even where no update was skipped', () => {
    const back = play({ ...HOLD, action: 'restore' }, events('u1 e1:0.9 u2 e2:0.7 u3 e3:0.9')).state;
    assert.equal(owesUpdate(back), true);
  });

  it('puts an update back in place of the next one, and decides nothing until then', () => {
    const config = { ...HOLD, action: 'restore' } as const;
    const decided = play(config, events('u1 e1:0.9 u2 e2:0.7 e3:0.9 e4:0.1')).state;
    assert.deepEqual(
      [decided.restoring, decided.lastUpdate, decided.holding, decided.evaluatedAt],
      [1, 2, true, 4],
      'the bad mask is in force until the next mask step',
    );
    for (const raises of [true, false]) {
      const { state, isMade } = onUpdate(decided, 5, raises);
      assert.equal(isMade, false);
      assert.deepEqual([state.restoring, state.lastUpdate, state.owed], [null, 1, true]);
    }
  });

  it('holds where a restore could not heal: no good update yet, or none made since', () => {
    const config = { ...HOLD, action: 'restore' } as const;
    const kinds = (line: string): string[] => play(config, events(line)).decisions.map(({ kind }) => kind);
    assert.deepEqual(kinds('e10:0.9 u20 e20:0.7'), ['hold']);
    assert.deepEqual(kinds('e10:0.9 u20 e20:0.9 e30:0.7'), ['hold']);
    assert.deepEqual(kinds('e10:0.9 u20 e20:0.9 u25 e30:0.7'), ['restore']);
    assert.deepEqual(kinds('e10:0.9 u20 e20:0.9 u25 e30:0.7 e40:0.7 e50:0.7'), ['restore'], 'once');
  });

  it('takes loss relative to the best, downwards', () => {
    const config = { ...HOLD, metric: 'loss', band: 0.1 } as const;
    const losses = [2, 1, 1.1, 1.11, 1.05];
    let state = guardState();
    const kinds = losses.map((loss, step) => {
      const answer = onEvaluation(config, state, { step, accuracy: null, loss });
      state = answer.state;
      return answer.decision?.kind ?? null;
    });
    assert.deepEqual(kinds, [null, null, null, 'hold', 'resume']);
    assert.equal(state.reference, 1);
  });

  it('takes NaN as outside, and never as the reference', () => {
    const { decisions, state } = play(HOLD, events('e1:NaN u2 e2:0.9 u3 e3:NaN'));
    assert.deepEqual(
      decisions.map(({ step, kind }) => [step, kind]),
      [[3, 'hold']],
    );
    assert.equal(state.reference, 0.9);
  });

  it('refuses a metric that is not there, and events out of order', () => {
    assert.throws(
      () => onEvaluation(HOLD, guardState(), { step: 1, accuracy: null, loss: 1 }),
      /RUN_FILE.*guard.metric is accuracy.*use metric: loss/,
    );
    const { state } = play(HOLD, events('u2 e5:0.9'));
    assert.throws(() => onEvaluation(HOLD, state, { step: 5, accuracy: 1, loss: 0 }), /INTERNAL.*out of order/);
    assert.throws(() => onUpdate(state, 5, true), /INTERNAL.*out of order/);
  });

  it('goes on after a resume from its JSON at any point as if nothing had been', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 80, max: 92 })), { maxLength: 40 }),
        fc.nat(40),
        fc.constantFrom('hold', 'restore'),
        fc.integer({ min: 1, max: 3 }),
        (raw, cut, action, patience) => {
          const config: GuardConfig = { ...HOLD, action, patience };
          const line = raw.map(([update, percent], at) => ({ at, update, accuracy: percent / 100 }));
          const whole = play(config, line);
          const first = play(config, line.slice(0, cut));
          const second = play(config, line.slice(cut), JSON.parse(JSON.stringify(first.state)) as GuardState);
          assert.deepEqual(second.state, whole.state);
          assert.deepEqual([...first.decisions, ...second.decisions], whole.decisions);
          assert.deepEqual([...first.made, ...second.made], whole.made);
        },
      ),
    );
  });

  it('makes no raising update between a hold or restore and the next resume, and alternates them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 80, max: 92 })), { maxLength: 60 }),
        fc.constantFrom('hold', 'restore'),
        (raw, action) => {
          const line = raw.map(([update, percent], at) => ({ at, update, accuracy: percent / 100 }));
          const { decisions, made } = play({ ...HOLD, action }, line);
          decisions.forEach(({ step, kind, to }, i) => {
            assert.equal(kind === 'resume', i % 2 === 1);
            const until = decisions[i + 1]?.step ?? Infinity;
            if (kind !== 'resume') assert.ok(!made.some((at) => at > step && at < until));
            if (to !== undefined) assert.ok(to < step && made.includes(to));
          });
          const updates = line.filter(({ update }) => update).map(({ at }) => at);
          if (decisions.length === 0) assert.deepEqual(made, updates, 'without decisions nothing is skipped');
        },
      ),
    );
  });

  it('says what it decided, and by which bound', () => {
    const decision = { step: 1200, metric: 0.961, reference: 0.99 };
    assert.equal(
      sayDecision(HOLD, { ...decision, kind: 'hold' }),
      'guard held at step 1200: accuracy 96.10 % below 97.00 %',
    );
    assert.equal(
      sayDecision(HOLD, { ...decision, kind: 'resume', metric: 0.98 }),
      'guard went on at step 1200: accuracy 98.00 % not below 97.00 %',
    );
    assert.equal(
      sayDecision(
        { ...HOLD, metric: 'loss', band: 0.1 },
        { ...decision, kind: 'restore', metric: 0.2, reference: 0.1, to: 900 },
      ),
      'guard goes back to the mask update of step 900 at step 1200: loss 0.2000 above 0.1100',
    );
  });
});
