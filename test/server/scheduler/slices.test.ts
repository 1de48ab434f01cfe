import assert from 'node:assert/strict';
import fc from 'fast-check';
import { backupSlices, reassignSlices } from '../../../server/scheduler/slices.ts';

const history = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 8 }), {
  minLength: 1,
  maxLength: 6,
});

describe('reassignSlices', () => {
  it('gives every slice to one living worker, evenly, whoever came and went', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 24 }), history, (slices, memberships) => {
        let assignment: ReadonlyMap<number, readonly number[]> = new Map();
        for (const workers of memberships) {
          assignment = reassignSlices(slices, workers, assignment);
          assert.deepEqual([...assignment.keys()].sort(), [...workers].sort());
          const all = [...assignment.values()].flat().sort((a, b) => a - b);
          assert.deepEqual(
            all,
            Array.from({ length: slices }, (_, i) => i),
          );
          const sizes = [...assignment.values()].map(({ length }) => length);
          assert.ok(Math.max(...sizes) - Math.min(...sizes) <= 1);
        }
      }),
    );
  });

  it('leaves those who stay what they have, as far as an even share allows', () => {
    const before = reassignSlices(8, [0, 1, 2, 3], new Map());
    const after = reassignSlices(8, [0, 1, 3], before);
    for (const worker of [0, 1, 3]) {
      for (const slice of before.get(worker) ?? [])
        assert.ok(after.get(worker)?.includes(slice), `${worker} keeps ${slice}`);
    }
  });

  it('waits with all slices where nobody is left', () => {
    assert.equal(reassignSlices(4, [], new Map([[0, [0, 1, 2, 3]]])).size, 0);
  });
});

describe('backupSlices', () => {
  it('lets others compute the slices of some once more, nobody its own', () => {
    const assignment = reassignSlices(6, [0, 1, 2], new Map());
    const backups = backupSlices(assignment, 1, [2, 1, 0]);
    assert.deepEqual([...backups.keys()], [0]);
    assert.deepEqual([...(backups.get(0) ?? [])].sort(), [...(assignment.get(2) ?? [])].sort());
    assert.equal(backupSlices(assignment, 0, [2, 1, 0]).size, 0);
    assert.equal(backupSlices(new Map([[0, [0]]]), 1, [0]).size, 0);
  });
});
