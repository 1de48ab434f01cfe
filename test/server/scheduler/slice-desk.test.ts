import assert from 'node:assert/strict';
import type { Member, Members } from '../../../server/scheduler/members.ts';
import { SliceDesk } from '../../../server/scheduler/slice-desk.ts';

interface Told {
  readonly version: number;
  readonly slices: readonly number[];
  readonly fromStep: number;
}

function desk(slices: number): { desk: SliceDesk; told: Map<number, Told[]> } {
  const told = new Map<number, Told[]>();
  const members = {
    send: ({ rank }: Member, { assignment }: { assignment: Told }) =>
      told.set(rank, [...(told.get(rank) ?? []), assignment]),
  } as unknown as Members;
  return { desk: new SliceDesk({ members, slices, backupWorkers: 0, onAssigned: () => undefined }), told };
}

const worker = (rank: number): Member => ({ role: 'worker', rank }) as unknown as Member;

describe('SliceDesk', () => {
  it('tells everyone of each change, in versions that grow', () => {
    const { desk: it, told } = desk(4);
    it.add([worker(0), worker(1)], 1);
    assert.equal(it.remove(1, 9), true);
    assert.deepEqual(
      told.get(0)?.map(({ slices, fromStep }) => [slices, fromStep]),
      [
        [[0, 2], 1],
        [[0, 1, 2, 3], 9],
      ],
    );
    const versions = told.get(0)?.map(({ version }) => version) ?? [];
    assert.ok((versions[0] ?? 0) < (versions[1] ?? 0), 'late ones on their way are known by it');
    assert.equal(it.remove(1, 10), false, 'it is gone already');
  });

  it('knows a worker from one that was started again under its rank', () => {
    const { desk: it, told } = desk(2);
    const [first, again] = [worker(0), worker(0)];
    it.add([first], 1);
    assert.deepEqual([it.has(first), it.has(again)], [true, false]);
    it.add([again], 5);
    assert.deepEqual([it.has(first), it.has(again), it.workers], [false, true, 1]);
    assert.deepEqual(told.get(0)?.at(-1)?.slices, [0, 1]);
  });
});
