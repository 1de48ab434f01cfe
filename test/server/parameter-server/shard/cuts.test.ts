import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Shard } from '../../../../server/parameter-server/shard.ts';
import { engineConfig } from '../../../fixtures/config.ts';
import { bits, make, of, push, pushStep, refused, SPACE, STATES, type Subject } from './support.ts';

describe('the shard of a parameter server', () => {
  describe('a cut', () => {
    it('is taken once, at its clock, with exactly the steps up to it', () => {
      const subject = make({ every: 2 });
      const clocks = (): number[] => of(subject, 'snapshot').map(({ clock }) => clock);
      assert.deepEqual(clocks(), [0], 'checkpoint 0 precedes step 1');
      assert.equal(subject.shard.cutAt(3, false), true);
      assert.equal(subject.shard.cutAt(3, false), true);
      for (let step = 1; step <= 4; step += 1) pushStep(subject, step);
      assert.deepEqual(clocks(), [0, 2, 3, 4]);
      const straight = make();
      for (let step = 1; step <= 3; step += 1) pushStep(straight, step);
      assert.deepEqual(of(subject, 'snapshot')[2]?.snapshot, straight.shard.snapshot());
      assert.equal(subject.shard.cutAt(3, true), false, 'already past it');
      assert.equal(subject.shard.cutAt(4, false), true);
      assert.deepEqual(clocks(), [0, 2, 3, 4], 'of the clock it is at there is one already');
      pushStep(subject, 5);
      assert.equal(subject.shard.cutAt(5, false), true);
      assert.deepEqual(clocks(), [0, 2, 3, 4, 5]);
    });

    it('that stops applies nothing later, and keeps what comes for a later stop', () => {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 }), (early, late) => {
          const subject = make();
          pushStep(subject, 1);
          // Some slices of step 2 come before the order to stop, some after.
          for (let slice = 0; slice < Math.min(early, 2); slice += 1) subject.shard.push(push(subject, 2, slice));
          assert.equal(subject.shard.cutAt(1, true), true);
          for (let slice = Math.min(early, 2); slice < late; slice += 1) subject.shard.push(push(subject, 2, slice));
          assert.equal(subject.shard.clock, 1);
          assert.equal(of(subject, 'snapshot').at(-1)?.clock, 1);
          // Another server was past it: a later clock is proposed, and every slice is sent once only.
          assert.equal(subject.shard.cutAt(3, true), true);
          for (let slice = Math.max(Math.min(early, 2), late); slice < 3; slice += 1)
            subject.shard.push(push(subject, 2, slice));
          pushStep(subject, 3);
          pushStep(subject, 4);
          assert.equal(subject.shard.clock, 3);
          assert.equal(of(subject, 'snapshot').at(-1)?.clock, 3);
          const straight = make();
          for (let step = 1; step <= 3; step += 1) pushStep(straight, step);
          assert.deepEqual(bits(subject), bits(straight));
        }),
      );
    });

    it('is refused where only the norms of the peers are missing for the next step', () => {
      const subject = make({ clipNorm: 1, cuts: [0, 64, SPACE.size] });
      pushStep(subject, 1);
      assert.equal(subject.shard.phase, 'norm');
      assert.equal(subject.shard.cutAt(0, true), false);
      assert.equal(subject.shard.cutAt(1, true), true);
    });
  });

  it('goes on from a checkpoint with the bits of a shard that never stopped', () => {
    const straight = make();
    for (let step = 1; step <= 2; step += 1) pushStep(straight, step);
    const snapshot = straight.shard.snapshot();
    const base = engineConfig({}, 3);
    const subject: Subject = {
      events: [],
      dropped: [],
      shard: new Shard({
        config: base,
        space: SPACE,
        start: 0,
        end: SPACE.size,
        servers: 1,
        stateSize: STATES,
        events: {
          published: () => undefined,
          hold: () => undefined,
          norm: () => undefined,
          snapshot: () => undefined,
          consumed: () => undefined,
          stepDone: () => undefined,
        },
      }),
    };
    refused(() => subject.shard.push(push(straight, 1, 0)), /at clock 0/);
    subject.shard.restore(2, 0, snapshot);
    subject.shard.restore(1, 0, snapshot);
    subject.shard.initialize(new Float32Array(SPACE.size), new Float32Array(STATES));
    for (const each of [subject, straight]) pushStep(each, 3);
    assert.deepEqual(bits(subject), bits(straight));
  });
});
