import assert from 'node:assert/strict';
import fc from 'fast-check';
import { make, of, planned, push, refused, RULE } from './support.ts';

const SSP = { mode: 'ssp', staleness: 2, backupWorkers: 0 } as const;

describe('a shard whose steps overlap (ssp, asp)', () => {
  it('applies every slice once, in whatever order slices of several steps come', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(
          [0, 1, 2, 3, 4, 5, 6, 7, 8].flatMap((n) => [n, n]),
          { minLength: 18 },
        ),
        (order) => {
          const subject = make({ consistency: SSP });
          for (const n of order) assert.equal(subject.shard.push(push(subject, 1 + Math.floor(n / 3), n % 3)), true);
          assert.equal(subject.shard.clock, 3);
          const steps = of(subject, 'stepDone').map(({ step, sliceWorkers }) => [step, ...sliceWorkers]);
          assert.deepEqual(steps, [
            [1, 0, 1, 2],
            [2, 0, 1, 2],
            [3, 0, 1, 2],
          ]);
          assert.equal(of(subject, 'consumed').length, order.length, 'the bytes of every push are free again');
        },
      ),
    );
  });

  it('a clock is the last step whose slices are all applied', () => {
    const subject = make({ consistency: SSP });
    for (const [step, slice] of [
      [2, 0],
      [1, 0],
      [1, 1],
      [2, 1],
      [2, 2],
    ] as const)
      subject.shard.push(push(subject, step, slice));
    assert.deepEqual([subject.shard.clock, subject.shard.newest], [0, 2]);
    subject.shard.push(push(subject, 1, 2));
    assert.equal(subject.shard.clock, 2);
  });

  it('holds slices behind a cut back until all up to the cut are applied', () => {
    const subject = make({ consistency: SSP, every: 2 });
    for (const step of [3, 1, 2]) for (const slice of [0, 1]) subject.shard.push(push(subject, step, slice));
    assert.equal(subject.shard.newest, 2, 'nothing of step 3 is applied');
    subject.shard.push(push(subject, 1, 2));
    subject.shard.push(push(subject, 2, 2));
    assert.deepEqual(
      of(subject, 'snapshot').map(({ clock }) => clock),
      [0, 2],
    );
    assert.equal(subject.shard.newest, 3, 'what waited is applied after the cut');
    assert.equal(subject.shard.cutAt(2, false), false, 'a cut that lies behind is refused');
    assert.equal(subject.shard.cutAt(5, true), true);
  });

  it('cuts late pushes under an older mask down to what is alive, counts the rest, and asks for a newer mask in the end', async () => {
    const subject = make({ consistency: SSP, sparsity: [RULE] });
    const begin = RULE.schedule.beginStep;
    const early = { ...push(subject, begin + 1, 0), maskEpoch: 0 };
    for (let step = 1; step <= begin; step += 1)
      for (const slice of [0, 1, 2]) subject.shard.push(push(subject, step, slice));
    assert.equal(subject.shard.phase, 'hold');
    subject.shard.push(early);
    subject.shard.commit(begin, 1, (await planned([subject], begin))[0] ?? []);
    const alive = subject.shard.pushedSize();
    assert.ok(alive !== null && alive < early.gradient.length, 'something died');
    assert.equal(subject.dropped.length, 1);
    assert.equal(subject.dropped[0], early.gradient.length - alive);
    assert.equal(subject.shard.push({ ...push(subject, begin + 1, 1), maskEpoch: 77 }), false);
  });

  it('refuses steps beyond the run', () => {
    const subject = make({ consistency: SSP });
    refused(() => subject.shard.push(push(subject, 61, 0)), /push for step 61/);
  });
});
