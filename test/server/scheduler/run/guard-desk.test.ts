import assert from 'node:assert/strict';
import { GuardDesk } from '../../../../server/scheduler/run/guard-desk.ts';
import type { Manifest } from '../../../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../../../shared/config/types.ts';
import { engineConfig } from '../../../fixtures/config.ts';

const guard = { metric: 'accuracy', band: 0.02, action: 'restore', patience: 1 } as const;
const base = engineConfig();
/** Updates of the plan at 10, 20, 30, 40, 50; then 60, 70, 80, 90 to catch up at; evaluations every 10. */
const config = {
  ...base,
  training: { ...base.training, steps: 100, evaluateEvery: 10 },
  checkpoint: { every: 100, keep: 2 },
  sparsity: [
    { schedule: { kind: 'linear', initialSparsity: 0, finalSparsity: 0.9, beginStep: 10, endStep: 50, frequency: 10 } },
  ],
  guard,
} as unknown as RunConfig;

function open(start: Manifest | null = null): {
  desk: GuardDesk;
  said: string[];
  see: (clock: number, accuracy: number) => void;
} {
  const said: string[] = [];
  const desk = new GuardDesk({
    ...{ config, guard, start },
    onChanged: () => undefined,
    onDecided: (decision) => said.push(decision.said),
  });
  return { desk, said, see: (clock, accuracy) => desk.evaluated({ clock, accuracy, loss: 1 }) };
}

const never = new AbortController().signal;

describe('GuardDesk', () => {
  it('waits for the evaluations below a step, in whatever order they come', async () => {
    const { desk, see } = open();
    let seen = false;
    const waiting = desk.seenBelow(25, never).then(() => (seen = true));
    see(20, 0.9);
    await Promise.resolve();
    assert.equal(seen, false, 'that of step 10 is still to come');
    see(10, 0.95);
    await waiting;
    await desk.seenBelow(30, never);
    assert.equal(desk.recordAt(30).state.reference, 0.95);
  });

  it('gives up waiting when the generation ends', async () => {
    const { desk } = open();
    const abort = new AbortController();
    const waiting = desk.seenBelow(15, abort.signal);
    abort.abort();
    await assert.rejects(waiting);
  });

  it('settles a step once, however often it is asked', () => {
    const { desk, see } = open();
    desk.settle(10, true);
    see(10, 0.9);
    desk.settle(20, true);
    see(20, 0.5);
    const leave = desk.leaveAt(30);
    assert.deepEqual(leave, { kind: 'restore', to: 10 });
    const note = desk.settle(30, false);
    assert.equal(note.action, 'restored');
    assert.deepEqual(
      note.decisions.map(({ kind, step, to }) => [kind, step, to]),
      [['restore', 20, 10]],
    );
    assert.deepEqual(desk.leaveAt(30), leave, 'after a server did not answer');
    assert.equal(desk.settle(30, false), note);
  });

  it('holds, goes on, and catches up after the plan; what it decides is in the note of the next mask step', () => {
    const { desk, see, said } = open();
    const actions: string[] = [];
    const step = (at: number, accuracy: number): void => {
      const leave = desk.leaveAt(at);
      const { action, decisions } = desk.settle(at, leave.kind === 'update');
      actions.push([at, leave.kind, action, ...decisions.map(({ kind }) => kind)].join(' '));
      see(at, accuracy);
    };
    [0.9, 0.95, 0.95, 0.9, 0.9, 0.95, 0.95, 0.9, 0.1].forEach((accuracy, i) => step(10 * (i + 1), accuracy));
    assert.deepEqual(actions, [
      '10 update updated',
      '20 update updated',
      '30 update updated',
      '40 update updated',
      '50 restore restored restore',
      '60 idle held',
      '70 update caughtUp resume',
      '80 idle idle',
      '90 idle idle',
    ]);
    assert.equal(said.length, 2, 'once all is pruned and found good, no evaluation could have an effect');
  });

  it('says nothing where nothing is left to hold', () => {
    const { desk, see, said } = open();
    for (const at of [10, 20, 30, 40, 50, 60]) {
      desk.settle(at, true);
      see(at, at === 60 ? 0.1 : 0.9);
    }
    assert.deepEqual(said, []);
  });

  it('keeps with a checkpoint what was known at its clock, and goes on from it as if it had never stopped', () => {
    const { desk, see } = open();
    desk.settle(10, true);
    see(10, 0.9);
    desk.settle(20, true);
    const kept = desk.recordAt(20);
    see(20, 0.5);
    desk.settle(30, true);
    assert.deepEqual(desk.recordAt(20), kept, 'written late');
    assert.deepEqual([kept.state.evaluatedAt, kept.state.lastUpdate, kept.decisions.length], [10, 20, 0]);
    const json = JSON.parse(JSON.stringify({ clock: 20, guard: kept })) as Manifest;
    const again = open(json);
    again.see(20, 0.5);
    again.desk.settle(30, true);
    assert.deepEqual(again.desk.recordAt(30), desk.recordAt(30));
  });

  it('needs the checkpoints that any kept one may go back to', () => {
    const { desk, see } = open();
    for (const clock of [10, 20, 30, 40]) {
      desk.settle(clock, true);
      desk.written(clock);
      see(clock, 0.9);
    }
    assert.deepEqual([...new Set(desk.clocksNeeded)].sort(), [20, 30, 40], 'kept are those of 30 and 40');
  });
});
