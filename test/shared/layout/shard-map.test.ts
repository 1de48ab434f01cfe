import assert from 'node:assert/strict';
import fc from 'fast-check';
import { checkCuts, cutEvenly, rangeOf } from '../../../shared/layout/shard-map.ts';

describe('shard map', () => {
  it('cuts LeNet-300-100 in two at a multiple of 64', () => {
    // 266,610 elements are 4,166 blocks of 64 (the last with 50): 2,083 blocks = 133,312 elements first.
    assert.deepEqual(cutEvenly(266_610, 2), [0, 133_312, 266_610]);
  });

  it('covers the space with legal shards whose blocks differ by at most one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 100_000 }), fc.integer({ min: 1, max: 40 }), (size, servers) => {
        const cuts = cutEvenly(size, servers);
        checkCuts(cuts, size);
        assert.equal(cuts.length, servers + 1);
        const blocks = Array.from({ length: servers }, (_, server) => {
          const [start, end] = rangeOf(cuts, server);
          return Math.ceil((end - start) / 64);
        });
        assert.ok(Math.max(...blocks) - Math.min(...blocks) <= 1, `${blocks}`);
      }),
    );
  });

  it('gives empty shards where there are more servers than blocks', () => {
    assert.deepEqual(cutEvenly(100, 4), [0, 0, 64, 64, 100]);
  });

  const illegal: [string, number[]][] = [
    ['first is not 0', [64, 128, 200]],
    ['last is not the size', [0, 64, 128]],
    ['not a multiple of 64', [0, 65, 200]],
    ['descending', [0, 128, 64, 200]],
    ['too short', [0]],
    ['a fraction', [0, 64.5, 200]],
  ];
  for (const [why, cuts] of illegal) {
    it(`refuses cuts: ${why}`, () => assert.throws(() => checkCuts(cuts, 200), { code: 'PROTOCOL' }));
  }

  it('refuses a server that the map does not have', () => {
    assert.throws(() => rangeOf([0, 64], 1), { code: 'PROTOCOL', message: /server\[1\]/ });
  });
});
