import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedCoordinator } from '../../../shared/coordination/embedded.ts';
import { JOURNAL_FILE } from '../../../shared/coordination/journal.ts';
import { LOCK_FILE } from '../../../shared/coordination/lock.ts';
import { describeCoordinator } from './conformance.ts';

const folders: string[] = [];
function newRun(): string {
  const folder = mkdtempSync(join(tmpdir(), 'whittle-coordination-'));
  folders.push(folder);
  return folder;
}

describe('embedded coordinator', () => {
  after(() => {
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  describeCoordinator('embedded', () => {
    const runDirectory = newRun();
    const lock = join(runDirectory, LOCK_FILE);
    return Promise.resolve({
      config: 'embedded' as const,
      runDirectory,
      takeOfficeAway: async () =>
        writeFileSync(lock, readFileSync(lock, 'utf8').replace(/"token":"\w+"/, `"token":"${'f'.repeat(16)}"`)),
    });
  });

  describe('its journal', () => {
    let run = '';
    let path = '';
    beforeEach(async () => {
      run = newRun();
      path = join(run, JOURNAL_FILE);
      const coordinator = await EmbeddedCoordinator.open(run);
      await coordinator.takeGeneration(null);
      await coordinator.commitLatest({ generation: 1, clock: 10, folder: 'step-00000010-g1' });
      await coordinator.commitLatest({ generation: 1, clock: 20, folder: 'step-00000020-g1' });
      await coordinator.close();
    });

    it('is read by those who only look, torn or not, and not changed', async () => {
      appendFileSync(path, '{"op":"latest","gen');
      const before = readFileSync(path);
      const { latest, lineage } = await EmbeddedCoordinator.read(run);
      assert.deepEqual(latest, { generation: 1, clock: 20, folder: 'step-00000020-g1' });
      assert.deepEqual(lineage, [{ generation: 1, from: null }]);
      assert.deepEqual(readFileSync(path), before);
      assert.deepEqual(await EmbeddedCoordinator.read(newRun()), { latest: null, lineage: [] });
    });

    it('torn at any byte of its last line counts without that line, and goes on cleanly', async () => {
      const whole = readFileSync(path);
      const lastLine = whole.lastIndexOf(10, whole.length - 2) + 1;
      for (let size = lastLine; size < whole.length; size++) {
        writeFileSync(path, whole);
        truncateSync(path, size);
        const coordinator = await EmbeddedCoordinator.open(run);
        assert.equal((await coordinator.latest())?.clock, 10);
        assert.equal(await coordinator.takeGeneration({ clock: 10, checkpoint: 'step-00000010-g1' }), 2);
        await coordinator.close();
        const again = await EmbeddedCoordinator.open(run);
        assert.deepEqual(await again.latest(), { generation: 2, clock: 10, folder: 'step-00000010-g1' });
        await again.close();
      }
    });

    it('a last line of zeros, whose bytes never reached the disk, is ignored', async () => {
      appendFileSync(path, `${'\0'.repeat(50)}\n`);
      const coordinator = await EmbeddedCoordinator.open(run);
      assert.equal((await coordinator.latest())?.clock, 20);
      assert.equal(await coordinator.takeGeneration(null), 2);
      await coordinator.close();
    });

    it('damaged before its last line is an error that names the place, never a guess', async () => {
      const text = readFileSync(path, 'utf8');
      writeFileSync(path, text.replace('"clock":10', '"clock":1O'));
      const at = text.indexOf('\n') + 1;
      await assert.rejects(
        EmbeddedCoordinator.open(run),
        new RegExp(`\\[CHECKPOINT\\] .*coordination\\.jsonl is damaged at byte ${at};`),
      );
    });

    it('an entry that lost its race has no effect for any reader', async () => {
      appendFileSync(path, '{"op":"generation","id":"a","generation":2,"from":null}\n');
      appendFileSync(path, '{"op":"generation","id":"b","generation":2,"from":{"clock":10,"checkpoint":"x"}}\n');
      appendFileSync(path, '{"op":"latest","id":"c","generation":1,"clock":30,"folder":"y"}\n');
      const coordinator = await EmbeddedCoordinator.open(run);
      assert.equal((await coordinator.lineage()).length, 2);
      assert.equal(await coordinator.latest(), null);
      await coordinator.close();
    });
  });
});
