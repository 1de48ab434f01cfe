import assert from 'node:assert/strict';
import { make, of, planned, pushStep, RULE, SPACE, type Subject } from './support.ts';

const decay = {
  groupLasso: 0.3,
  l1: 0.01,
  l2: 0.1,
  schedules: { groupLasso: { kind: 'constant', warmupSteps: 4 } },
} as const;

/** Delivers the parts of `step` of each server to all, the last server's first. */
function exchange(subjects: readonly Subject[], step: number): void {
  for (const [sender, subject] of [...subjects.entries()].reverse()) {
    const nodes = of(subject, 'groups').find((event) => event.step === step)?.nodes;
    assert.ok(nodes, `server ${sender} told nothing of step ${step}`);
    for (const { shard } of subjects) shard.peerGroups(step, sender, nodes);
  }
}

async function weightsOf(cuts: readonly number[], steps: number): Promise<number[]> {
  const subjects = cuts.slice(1).map((_, rank) => make({ decay, cuts, rank, sparsity: [RULE] }));
  for (let step = 1; step <= steps; step += 1) {
    for (const subject of subjects) pushStep(subject, step);
    for (const { shard } of subjects) assert.deepEqual([shard.phase, shard.clock], ['groups', step - 1]);
    exchange(subjects, step);
    if (step < 2 || step > 4) continue;
    const selections = await planned(subjects, step);
    subjects.forEach(({ shard }, rank) => shard.commit(step, shard.maskEpoch + 1, selections[rank] ?? []));
  }
  for (const { shard } of subjects) assert.deepEqual([shard.phase, shard.clock], ['collecting', steps]);
  return subjects.flatMap(({ shard }) => [...shard.snapshot().weights]);
}

describe('the shard of a parameter server', () => {
  describe('group lasso', () => {
    it('gives the same bits on 1, 2 and 3 servers, while a mask prunes', async () => {
      const alone = await weightsOf([0, SPACE.size], 6);
      assert.deepEqual(await weightsOf([0, 64, SPACE.size], 6), alone);
      assert.deepEqual(await weightsOf([0, 64, 128, SPACE.size], 6), alone);
    });

    it('reaches zero by whole output units, whose elements stay survivors', () => {
      const subject = make({ decay: { groupLasso: 5 } });
      for (let step = 1; step <= 3; step += 1) {
        pushStep(subject, step);
        exchange([subject], step);
      }
      const { weights } = subject.shard.snapshot();
      const units = Array.from({ length: 8 }, (_, unit) => weights.filter((_, i) => i < 128 && i % 8 === unit));
      const zero = units.filter((unit) => unit.every((x) => x === 0)).length;
      assert.ok(zero > 0, 'some units are gone');
      assert.equal(weights.length, SPACE.size);
      assert.ok(
        weights.slice(128).every((x) => x !== 0),
        'biases are left alone',
      );
    });

    it('refuses a cut at its clock while norms are under way, and late or repeated parts change nothing', () => {
      const cuts = [0, 64, SPACE.size];
      const [first, second] = [0, 1].map((rank) => make({ decay, cuts, rank }));
      assert.ok(first && second);
      pushStep(first, 1);
      assert.equal(first.shard.phase, 'groups');
      assert.equal(first.shard.cutAt(0, false), false);
      pushStep(second, 1);
      exchange([first, second], 1);
      const before = [...first.shard.snapshot().weights];
      exchange([first, second], 1);
      assert.deepEqual([...first.shard.snapshot().weights], before);
      assert.deepEqual([first.shard.clock, second.shard.clock], [1, 1]);
    });

    it('waits for nobody in steps where its schedule is 0', () => {
      const subject = make({
        decay: { groupLasso: 1, schedules: { groupLasso: { kind: 'step', every: 1, factor: 1e-323, warmupSteps: 0 } } },
      });
      pushStep(subject, 1);
      exchange([subject], 1);
      pushStep(subject, 2);
      pushStep(subject, 3);
      assert.deepEqual([subject.shard.phase, subject.shard.clock], ['collecting', 3]);
    });
  });
});
