import assert from 'node:assert/strict';
import fc from 'fast-check';
import { bits, make, of, push, pushStep, refused, SPACE, STATES } from './support.ts';

describe('the shard of a parameter server', () => {
  describe('slices', () => {
    /** For each step: true copies of all slices in some order, and repeats of what was pushed before. */
    const slices = 4;
    const order = fc.tuple(
      fc.shuffledSubarray([0, 1, 2, 3], { minLength: slices, maxLength: slices }),
      fc.array(
        fc.record({
          after: fc.integer({ min: 0, max: slices - 1 }),
          sender: fc.integer({ min: 0, max: 9 }),
          back: fc.integer({ min: 0, max: 2 }),
        }),
        {
          maxLength: 6,
        },
      ),
    );

    it('give the same bits in any order and however often they are repeated, by anyone', () => {
      const straight = make({ slices });
      const steps = 4;
      for (let step = 1; step <= steps; step += 1) pushStep(straight, step, slices);
      const expected = bits(straight);
      const losses = of(straight, 'stepDone').map(({ loss }) => loss);

      fc.assert(
        fc.property(fc.array(order, { minLength: steps, maxLength: steps }), (plan) => {
          const subject = make({ slices });
          plan.forEach(([sequence, repeats], i) => {
            const step = i + 1;
            sequence.forEach((slice, position) => {
              assert.equal(subject.shard.push(push(subject, step, slice)), true);
              for (const { after, sender, back } of repeats) {
                if (after !== position) continue;
                // A repeat may come from another worker, and may be of an earlier step; it counts for nothing, whatever it holds.
                const repeated = push(subject, step - back, slice, { sender, loss: 1e9 });
                repeated.gradient.fill(1e9);
                assert.equal(subject.shard.push(repeated), true);
              }
            });
          });
          assert.deepEqual(bits(subject), expected);
          assert.deepEqual(
            of(subject, 'stepDone').map(({ loss }) => loss),
            losses,
          );
          for (const { sliceWorkers } of of(subject, 'stepDone')) assert.deepEqual(sliceWorkers, [0, 1, 2, 3]);
          const consumed = of(subject, 'consumed').map((event) => event.push);
          assert.equal(new Set(consumed).size, consumed.length, 'every push is given back once');
          assert.equal(
            consumed.length,
            plan.reduce((sum, [sequence, repeats]) => sum + sequence.length + repeats.length, 0),
          );
        }),
      );
    });

    it('are added in slice order in float32, weighted by their examples', () => {
      const subject = make();
      const pushes = [0, 1, 2].map((slice) => push(subject, 1, slice));
      for (const each of [...pushes].reverse()) subject.shard.push(each);
      const expected = new Float32Array(SPACE.size);
      let loss = 0;
      for (const { gradient, examples, loss: own } of pushes) {
        gradient.forEach((value, i) => (expected[i] = (expected[i] ?? 0) + (examples / 32) * value));
        loss += (examples / 32) * own;
      }
      // The first step leaves the gradient itself in the momentum.
      const { slots, state } = subject.shard.snapshot();
      assert.deepEqual(Object.values(slots)[0], expected);
      const states = Float32Array.from({ length: STATES }, () => 0);
      for (const { stateDelta, examples } of pushes)
        stateDelta.forEach((value, i) => (states[i] = (states[i] ?? 0) + (examples / 32) * value));
      assert.deepEqual(state, states);
      assert.deepEqual(of(subject, 'stepDone'), [{ kind: 'stepDone', step: 1, loss, sliceWorkers: [0, 1, 2] }]);
    });

    it('of a step in the future, of no slice or of another length are refused and change nothing', () => {
      const subject = make();
      const { shard } = subject;
      shard.push(push(subject, 1, 0));
      const before = bits(subject);
      refused(() => shard.push(push(subject, 2, 0)), /push for step 2 while the shard is at clock 0/);
      refused(() => shard.push(push(subject, 1, 3)), /push of slice 3 of 3/);
      refused(
        () => shard.push(push(subject, 1, 1, { gradient: new Float32Array(5) })),
        /gradient: 5 values where the shard keeps 136/,
      );
      refused(
        () => shard.push(push(subject, 1, 1, { stateDelta: new Float32Array(1) })),
        /state delta: 1 values where the shard keeps 3/,
      );
      assert.deepEqual(bits(subject), before);
      shard.push(push(subject, 1, 1));
      shard.push(push(subject, 1, 2));
      const straight = make();
      pushStep(straight, 1);
      assert.deepEqual(bits(subject), bits(straight));
    });
  });
});
