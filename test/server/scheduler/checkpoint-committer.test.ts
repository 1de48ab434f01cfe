import assert from 'node:assert/strict';
import { CheckpointCommitter, type CommitterOptions } from '../../../server/scheduler/checkpoint-committer.ts';
import type { Manifest, ShardEntry } from '../../../shared/checkpoint/manifest.ts';
import { WhittleError } from '../../../shared/errors.ts';

/** A committer whose storage only remembers what became the latest checkpoint. */
function committer(after = -1): { committer: CheckpointCommitter; latest: number[]; failed: number[] } {
  const latest: number[] = [];
  const failed: number[] = [];
  const options = {
    store: {
      folderName: (clock: number) => `step-${clock}`,
      publish: () => Promise.resolve(),
      retain: () => Promise.resolve([]),
    },
    coordinator: {
      commitLatest: ({ clock }: { clock: number }) => Promise.resolve(latest.push(clock)),
      lineage: () => Promise.resolve([]),
    },
    generation: 1,
    servers: 2,
    keep: 3,
    after,
    describe: () => ({}) as Omit<Manifest, 'version' | 'clock' | 'maskEpoch' | 'shards' | 'generation' | 'writtenAt'>,
    beforeCommit: () => Promise.resolve(),
    onCommitted: () => undefined,
    warn: () => undefined,
    onFailed: (clock: number) => failed.push(clock),
  };
  return { committer: new CheckpointCommitter(options as unknown as CommitterOptions), latest, failed };
}

const part = (start: number): ShardEntry => ({ start, end: start + 8 }) as ShardEntry;

describe('CheckpointCommitter', () => {
  it('makes a checkpoint the latest when every server wrote its part', async () => {
    const { committer: c, latest } = committer();
    c.shardWritten(0, 5, 0, part(0));
    await c.idle();
    assert.deepEqual(latest, []);
    c.shardWritten(1, 5, 0, part(8));
    await c.idle();
    assert.deepEqual(latest, [5]);
  });

  it('never goes back to a checkpoint that became whole after a newer one', async () => {
    const { committer: c, latest, failed } = committer();
    c.shardWritten(0, 5, 0, part(0));
    for (const server of [0, 1]) c.shardWritten(server, 10, 0, part(8 * server));
    c.shardWritten(1, 5, 0, part(8));
    await c.idle();
    c.shardFailed(5, new WhittleError('CHECKPOINT', 'gone'));
    assert.deepEqual([latest, failed], [[10], []]);
    c.shardFailed(15, new WhittleError('CHECKPOINT', 'disk full'));
    assert.deepEqual(failed, [15]);
  });

  it('takes what was committed before it took over as done', async () => {
    const { committer: c, latest } = committer(10);
    for (const server of [0, 1]) c.shardWritten(server, 10, 0, part(8 * server));
    for (const server of [0, 1]) c.shardWritten(server, 15, 0, part(8 * server));
    await c.idle();
    assert.deepEqual(latest, [15]);
  });
});
