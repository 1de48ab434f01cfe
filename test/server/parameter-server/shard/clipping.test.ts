import assert from 'node:assert/strict';
import { bits, make, of, pushStep, SPACE } from './support.ts';

describe('the shard of a parameter server', () => {
  describe('clipping by global norm', () => {
    const cuts = [0, 64, SPACE.size];

    it('waits for the sums of all servers, early or late, and clips as one shard does', () => {
      const alone = make({ clipNorm: 0.5 });
      const pair = [0, 1].map((rank) => make({ clipNorm: 0.5, cuts, rank }));
      const [first, second] = pair;
      assert.ok(first && second);
      for (let step = 1; step <= 3; step += 1) {
        pushStep(alone, step);
        alone.shard.peerNorm(step, 0, of(alone, 'norm').at(-1)?.nodes ?? []);
        pushStep(first, step);
        const own = of(first, 'norm').at(-1);
        assert.equal(own?.step, step);
        first.shard.peerNorm(step, 0, own.nodes);
        assert.equal(first.shard.phase, 'norm');
        assert.equal(first.shard.clock, step - 1, 'waits for the other');
        // The other hears of the first before it has its slices.
        second.shard.peerNorm(step, 0, own.nodes);
        assert.equal(second.shard.clock, step - 1);
        pushStep(second, step);
        const other = of(second, 'norm').at(-1)?.nodes ?? [];
        second.shard.peerNorm(step, 1, other);
        first.shard.peerNorm(step, 1, other);
        assert.deepEqual([first.shard.clock, second.shard.clock, alone.shard.clock], [step, step, step]);
        const before = bits(first);
        first.shard.peerNorm(step, 1, other);
        assert.deepEqual(bits(first), before, 'a late repeat changes nothing');
      }
      const joined = pair.flatMap(({ shard }) => [...shard.snapshot().weights]);
      assert.deepEqual(joined, [...alone.shard.snapshot().weights]);
      const free = make();
      for (let step = 1; step <= 3; step += 1) pushStep(free, step);
      assert.notDeepEqual(joined, [...free.shard.snapshot().weights], 'the limit was below the norm');
    });
  });
});
