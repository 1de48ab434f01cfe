import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NO_HISTORY, openHistory } from '../../../shared/telemetry/history.ts';
import { readHistories } from '../../../shared/telemetry/history-files.ts';
import type { HistoryEvent } from '../../../shared/telemetry/history-records.ts';
import { withFolder } from '../../cluster/support.ts';

const EVENT: HistoryEvent = { kind: 'ended', generation: 1, state: 'SUCCEEDED', clock: 9 };

describe('the recorded history', () => {
  it('is on disk when record returns, in the order of the records of all who opened it', () =>
    withFolder(async (folder) => {
      const options = { runDirectory: folder, role: 'server', rank: 1, enabled: true } as const;
      const [one, other] = [openHistory(options), openHistory(options)];
      one.record({ ...EVENT, clock: 1 });
      other.record({ ...EVENT, clock: 2 });
      one.record({ ...EVENT, clock: 3 });
      const [file, ...more] = await readHistories(folder);
      assert.deepEqual(more, []);
      assert.deepEqual([file?.role, file?.rank, file?.pid], ['server', 1, process.pid]);
      assert.deepEqual(
        file?.records.map((record) => record.kind === 'ended' && record.clock),
        [1, 2, 3],
      );
      one.close();
      other.close();
      other.record(EVENT);
      assert.equal((await readHistories(folder))[0]?.records.length, 3);
    }));

  it('leaves out a line that was torn by the end of its process', () =>
    withFolder(async (folder) => {
      const history = openHistory({ runDirectory: folder, role: 'scheduler', rank: 0, enabled: true });
      history.record(EVENT);
      history.close();
      await appendFile(join(folder, 'history', `scheduler-0-${process.pid}.jsonl`), '{"kind":"en');
      assert.equal((await readHistories(folder))[0]?.records.length, 1);
    }));

  it('is not there where it is off', () =>
    withFolder(async (folder) => {
      const history = openHistory({ runDirectory: folder, role: 'server', rank: 0, enabled: false });
      history.record(EVENT);
      assert.equal(history, NO_HISTORY);
      assert.deepEqual(await readHistories(folder), []);
    }));
});
