import assert from 'node:assert/strict';
import { bits, make, noise, of, planned, push, pushStep, refused, RULE, SPACE } from './support.ts';

describe('the shard of a parameter server', () => {
  describe('mask commits', () => {
    it('hold the shard, apply once, and are acknowledged again', async () => {
      const subject = make({ sparsity: [RULE] });
      const { shard } = subject;
      refused(
        () =>
          shard.histogram({
            scoring: { criterion: 'magnitude', seed: 0 },
            population: 'alive',
            groups: [],
            prior: [],
            round: 0,
            prefixes: [],
          }),
        /not holding/,
      );
      pushStep(subject, 1);
      assert.equal(shard.phase, 'collecting');
      pushStep(subject, 2);
      assert.equal(shard.phase, 'hold');
      assert.deepEqual(of(subject, 'hold'), [{ kind: 'hold', step: 2 }]);
      assert.equal(of(subject, 'published').at(-1)?.clock, 1, 'nothing is answered before the mask is known');
      const [selections] = await planned([subject], 2);
      assert.ok(selections);

      const before = bits(subject);
      refused(() => shard.commit(2, 2, selections), /does not follow epoch 0/);
      refused(() => shard.commit(1, 1, selections), /at step 1 does not follow/);
      assert.deepEqual(bits(subject), before);

      // 25 % of 128 kernel elements go; the 8 of the bias stay.
      assert.equal(shard.commit(2, 1, selections), 136 - 32);
      const once = bits(subject);
      const published = of(subject, 'published').length;
      assert.deepEqual(of(subject, 'published').at(-1), { kind: 'published', clock: 2, maskEpoch: 1, hasMask: true });
      assert.equal(shard.commit(2, 1, selections), 136 - 32);
      assert.equal(shard.commit(2, 1, []), 136 - 32);
      assert.deepEqual(bits(subject), once);
      assert.equal(of(subject, 'published').length, published);
    });

    it('of a guard put an earlier mask update back, whole, at the clock that the shard has reached', async () => {
      const guard = { metric: 'accuracy', band: 0.02, action: 'restore', patience: 1 } as const;
      for (const rule of [RULE, { ...RULE, straightThrough: true }]) {
        const subject = make({ sparsity: [rule], guard });
        const { shard } = subject;
        const pushAll = (step: number): void => {
          const size = shard.pushedSize() ?? 0;
          for (let slice = 0; slice < 3; slice += 1) {
            const gradient = Float32Array.from({ length: size }, (_, i) => noise(step, slice, i));
            shard.push(push(subject, step, slice, { gradient }));
          }
        };
        for (let step = 1; step <= 4; step += 1) {
          pushAll(step);
          if (step === 2 || step === 3) shard.commit(step, step - 1, (await planned([subject], step))[0] ?? []);
        }
        assert.deepEqual(
          of(subject, 'snapshot').map(({ clock }) => clock),
          [0, 2, 3],
          'every update is kept',
        );
        const saved = of(subject, 'snapshot')[1]?.snapshot;
        assert.ok(saved);
        assert.equal(shard.phase, 'hold');
        assert.equal(shard.commit(4, 3, [], saved), 136 - 32);
        const { mask, weights, slots, state, stored } = shard.snapshot();
        assert.deepEqual([mask, state, shard.clock, shard.maskEpoch], [saved.mask, saved.state, 4, 3]);
        // Nothing is latent from the end of the rule on.
        assert.deepEqual(stored, mask);
        if (rule === RULE) assert.deepEqual([weights, slots], [saved.weights, saved.slots]);
        else assert.ok(weights.length < saved.weights.length);
        const once = bits(subject);
        assert.equal(shard.commit(4, 3, [], saved), 136 - 32);
        assert.deepEqual(bits(subject), once);
        pushAll(5);
        assert.equal(shard.clock, 5);
      }
    });

    it('make pushes under an older epoch void', async () => {
      const subject = make({ sparsity: [RULE] });
      const { shard } = subject;
      pushStep(subject, 1);
      pushStep(subject, 2);
      const old = push(subject, 3, 0);
      shard.commit(2, 1, (await planned([subject], 2))[0] ?? []);
      const before = bits(subject);
      assert.equal(shard.push(old), false, 'answered NEED_MASK');
      assert.equal(of(subject, 'consumed').at(-1)?.push, old);
      assert.deepEqual(bits(subject), before);
      pushStep(subject, 3);
      assert.equal(shard.clock, 3);
    });

    it('and pushes give the same bits on two shards as on one', async () => {
      const one = [make({ sparsity: [RULE] })];
      const two = [0, 1].map((rank) => make({ sparsity: [RULE], cuts: [0, 64, SPACE.size], rank }));
      for (const subjects of [one, two]) {
        for (let step = 1; step <= 5; step += 1) {
          for (const subject of subjects) pushStep(subject, step);
          if (step < 2 || step > 4) continue;
          const selections = await planned(subjects, step);
          subjects.forEach(({ shard }, i) => shard.commit(step, step - 1, selections[i] ?? []));
        }
      }
      const joined = two.flatMap(({ shard }) => [...shard.snapshot().weights]);
      assert.deepEqual(joined, [...(one[0]?.shard.snapshot().weights ?? [])]);
      assert.equal(joined.length, 136 - 64);
    });
  });
});
