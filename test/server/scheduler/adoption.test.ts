import assert from 'node:assert/strict';
import { adoptionOf } from '../../../server/scheduler/adoption.ts';
import { StepLedger } from '../../../server/scheduler/step-ledger.ts';
import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import type { HeldShard } from '../../../shared/rpc/held-shard.ts';

const LATEST = { clock: 100, generation: 3 } as Manifest;
const commit = (maskEpoch: number, survivors = 10): HeldShard['commits'][number] => ({
  step: 10 * maskEpoch,
  maskEpoch,
  survivors,
  record: JSON.stringify({ step: 10 * maskEpoch, maskEpoch, generation: 3, selections: [], reports: [] }),
});
const server = (rank: number, change: Partial<HeldShard> = {}) => ({
  rank,
  heldGeneration: 3,
  heldShard: JSON.stringify({ generation: 3, clock: 120, maskEpoch: 2, stopAt: null, commits: [], ...change }),
});

describe('adoptionOf', () => {
  it('carries on where all servers hold the generation, from the lowest clock', () => {
    const adoption = adoptionOf([server(0), server(1, { clock: 121 })], 3, LATEST);
    assert.equal(adoption?.clock, 120);
    assert.equal(adoption.unfinished, null);
    assert.equal(adoption.stopAt, null);
  });

  it('gives up where one holds nothing, another generation or no sense, or no checkpoint tells the model', () => {
    for (const other of [
      { rank: 1, heldGeneration: 0, heldShard: '' },
      { ...server(1), heldGeneration: 2 },
      server(1, { generation: 2 }),
      { rank: 1, heldGeneration: 3, heldShard: '{"clock": "many"}' },
    ])
      assert.equal(adoptionOf([server(0), other], 3, LATEST), null);
    assert.equal(adoptionOf([server(0), server(1)], 3, null), null);
  });

  it('finishes the newest commit where it is missing, unchanged, and tells the survivors of the others', () => {
    const [first, second] = [commit(1, 40), commit(2, 30)];
    const adoption = adoptionOf(
      [server(0, { commits: [first, second] }), server(1, { commits: [commit(1, 44)] })],
      3,
      LATEST,
    );
    assert.ok(adoption);
    assert.deepEqual(adoption.unfinished, JSON.parse(second.record));
    assert.deepEqual(
      adoption.commits.map(({ record, survivors }) => [record.maskEpoch, survivors]),
      [[1, [40, 44]]],
    );
  });

  it('knows of a stop that was under way', () => {
    assert.equal(adoptionOf([server(0), server(1, { stopAt: 130 })], 3, LATEST)?.stopAt, 130);
    // The one before was proposed again where a server was past it already.
    assert.equal(adoptionOf([server(0, { stopAt: 127 }), server(1, { stopAt: 130 })], 3, LATEST)?.stopAt, 130);
  });
});

describe('StepLedger', () => {
  const record = (step: number, pushed: number) => ({
    step,
    loss: 1,
    pushedBytes: pushed,
    pulledBytes: 0,
    maskBytes: 0,
    at: 10 * step,
    sliceWorkers: [0],
    sliceMilliseconds: [],
  });

  it('counts what servers report again to another scheduler once', () => {
    const ledger = new StepLedger(2, 5);
    ledger.add(0, record(5, 100));
    for (const again of [1, 2]) {
      ledger.add(0, record(6, 10));
      assert.deepEqual(ledger.takeCompleted(), [], `report ${again} of one server completes nothing`);
    }
    ledger.add(1, record(6, 20));
    assert.deepEqual(
      ledger.takeCompleted().map(({ step, bytesPushed }) => [step, bytesPushed]),
      [[6, 30]],
    );
    ledger.add(1, record(6, 20));
    assert.deepEqual(ledger.takeCompleted(), []);
  });
});
