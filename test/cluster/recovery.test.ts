import assert from 'node:assert/strict';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { disturbed, EVERY, launched, STEPS, undisturbedDigests } from './disturbed.ts';
import { assertQuiet, digestsOf, lastJson, readStatus, start, until, withFolder } from './support.ts';

/** Real processes lose a member and go on by themselves; the digests are those of the run that nothing disturbed. */
describe('recovery', function () {
  this.timeout(300_000);
  let undisturbed: readonly string[];

  before(async () => {
    undisturbed = await undisturbedDigests();
  });

  it('a killed worker: its slices move, it is replaced, nothing is done twice', async () => {
    const result = await disturbed({}, async (run) => run.kill('worker', 1, 150));
    assert.deepEqual(digestsOf(result), undisturbed);
    assert.equal(result.stepsComputed, STEPS);
    assert.equal(sum(result.slicesByWorker), 2 * STEPS);
  });

  it('a killed server: all go back to the last checkpoint and on', async () => {
    const result = await disturbed({}, async (run) => run.kill('server', 1, 150));
    assert.deepEqual(digestsOf(result), undisturbed);
    const [recovery] = result.recoveries;
    assert.ok(recovery, 'no recovery is told');
    assert.equal(recovery.resumedFrom, EVERY * Math.floor(recovery.step / EVERY));
    assert.equal(result.stepsComputed, STEPS + recovery.step - (recovery.resumedFrom ?? 0));
    assert.equal(result.resumedFrom, null, 'the run itself was launched, not resumed');
  });

  it('a killed scheduler: another takes over, and training did not stop for it', async () => {
    const result = await disturbed({}, async (run) => run.kill('scheduler', 0, 150));
    assert.deepEqual(digestsOf(result), undisturbed);
    assert.equal(result.stepsComputed, STEPS, 'no step was computed again');
    assert.equal(sum(result.slicesByWorker), 2 * STEPS);
    assert.deepEqual(
      result.recoveries.map(({ resumedFrom }) => resumedFrom),
      [null],
    );
  });

  it('worker, server and scheduler, one after the other in one run', async () => {
    const result = await disturbed({}, async (run) => {
      await run.kill('worker', 0, 120);
      await run.kill('server', 0, 230);
      await run.kill('scheduler', 0, 340);
    });
    assert.deepEqual(digestsOf(result), undisturbed);
  });

  it('a server and the scheduler at once', async () => {
    const result = await disturbed({}, async (run) => {
      await run.kill('scheduler', 0, 150);
      await run.kill('server', 0, 150);
    });
    assert.deepEqual(digestsOf(result), undisturbed);
  });

  it('four workers, two killed for good, two others joined: the digests stay, and the new ones computed slices', async () => {
    const cluster = { servers: 2, workers: '2:6', backend: 'wasm', slices: 2 };
    const more = ['--workers', '4', '--max-restarts', '0'];
    const result = await disturbed({ cluster, more }, async (run) => {
      await run.kill('worker', 0, 100);
      await run.kill('worker', 1, 150);
      for (const rank of ['4', '5']) start(['worker', '--run-dir', run.directory, '--rank', rank]);
      // Without them too few would be left.
      await until('worker[4] and worker[5] to join', async () => {
        const { members } = await readStatus(run.directory);
        const joined = members.filter(({ role, rank }) => role === 'worker' && rank >= 4);
        return joined.length === 2 ? joined : null;
      });
      // With two slices only two of four workers compute: the other two must go before the new ones are needed.
      await run.kill('worker', 2, 200);
      await run.kill('worker', 3, 250);
    });
    assert.deepEqual(digestsOf(result), undisturbed);
    assert.ok((result.slicesByWorker['4'] ?? 0) > 0, 'worker[4] computed nothing');
    assert.ok((result.slicesByWorker['5'] ?? 0) > 0, 'worker[5] computed nothing');
  });

  it('a worker told to leave finishes its slice and is not suspected', async () => {
    const result = await disturbed({}, async (run) => run.signal('worker', 1, 150, 'SIGTERM'));
    assert.deepEqual(digestsOf(result), undisturbed);
    assert.deepEqual(result.recoveries, []);
  });

  it('without restarts a killed server fails the run in seconds, with the cause and how to resume', async () => {
    await withFolder(async (folder) => {
      const run = await launched(folder, { more: ['--max-restarts', '0'] });
      await run.kill('server', 0, 150);
      const ended = await run.ended;
      assert.equal(ended.code, 1);
      const result = lastJson<RunResult>(ended);
      assert.equal(result.failure?.code, 'ROLE_LOST');
      assert.match(result.failure.message, /server\[0\] was killed by SIGKILL/);
      assert.match(ended.stderr, /whittle resume/);
      await assertQuiet(run.directory);
    });
  });
});

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((a, b) => a + b, 0);
}
