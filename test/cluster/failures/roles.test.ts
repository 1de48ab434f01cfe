import assert from 'node:assert/strict';
import { join } from 'node:path';
import { parseCheckpointName } from '../../../shared/checkpoint/manifest-file.ts';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  latestCheckpoint,
  lastJson,
  processesOf,
  readMetrics,
  readStatus,
  smallRunFile,
  start,
  until,
  untilStep,
  whittle,
  withFolder,
  writeRunFile,
} from '../support.ts';
import { assertFailed, ENDLESS, launchArgs, resumable } from './support.ts';

describe('a role that dies', function () {
  this.timeout(300_000);

  for (const victim of ['worker[1]', 'server[1]', 'scheduler[0]']) {
    it(`ends a run without restarts with its cause: ${victim}`, () =>
      withFolder(async (folder) => {
        const runDirectory = join(folder, 'run');
        const runFile = await writeRunFile(folder, smallRunFile({ steps: ENDLESS, every: 20 }));
        const { ended } = start([...launchArgs(folder, runFile), '--max-restarts', '0']);
        await untilStep(runDirectory, 45, ended);
        const status = await readStatus(runDirectory);
        const member = status.members.find(({ role, rank }) => `${role}[${rank}]` === victim);
        process.kill(member?.pid ?? status.scheduler.pid, 'SIGKILL');
        const end = await ended;
        const result = await assertFailed(end, runDirectory, 'ROLE_LOST');
        assert.equal(`${result.failure?.role}[${result.failure?.rank}]`, victim);
        assert.ok(end.stderr.includes(`${victim} was killed by SIGKILL`), end.stderr);
        assert.ok(!/^ {4}at /m.test(end.stderr), `no stack:\n${end.stderr}`);
        assert.deepEqual((await readStatus(runDirectory)).failure, result.failure, 'status tells the same');
        assert.equal((await readStatus(runDirectory)).state, 'FAILED');
        const { clock } = await latestCheckpoint(runDirectory);
        assert.ok(clock >= 20, `checkpoint ${clock} is kept`);
        assert.equal(await resumable(runDirectory), clock);
        assert.equal(parseCheckpointName(result.checkpoint ?? '')?.clock, clock);
        assert.ok(result.step >= 45 && result.stepsComputed === result.step, JSON.stringify(result));
        assert.equal(result.layers.length > 0, true);
        const shown = await whittle(['status', runDirectory]);
        assert.match(shown.stdout, /^resume .*whittle resume \S+\/run$/m);
      }));
  }

  it('is killed with all others by a second Ctrl-C, which says what is left and how to go on', () =>
    withFolder(async (folder) => {
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, smallRunFile({ steps: ENDLESS, every: 20 }));
      const { child, ended } = start(launchArgs(folder, runFile));
      await untilStep(runDirectory, 45, ended);
      // It cannot checkpoint and stop, so the first Ctrl-C does not end the run.
      process.kill((await readStatus(runDirectory)).scheduler.pid, 'SIGSTOP');
      let told = '';
      child.stderr?.on('data', (chunk: Buffer) => (told += chunk.toString()));
      child.kill('SIGINT');
      await until('the first Ctrl-C to be heard', () => (/Ctrl-C again kills it/.test(told) ? true : null));
      child.kill('SIGINT');
      const end = await ended;
      assert.equal(end.code, 130, end.stderr);
      const result = lastJson<RunResult>(end);
      const { clock } = await latestCheckpoint(runDirectory);
      assert.deepEqual([result.state, result.failure], ['STOPPED', null]);
      assert.equal(parseCheckpointName(result.checkpoint ?? '')?.clock, clock);
      assert.ok(end.stderr.includes(`its last checkpoint is that of step ${clock}: `), end.stderr);
      assert.ok(end.stderr.includes(`whittle resume ${runDirectory}`), end.stderr);
      const { state, step } = await readStatus(runDirectory);
      assert.deepEqual([state, step], ['STOPPED', result.step]);
      await assertQuiet(runDirectory);
      assert.equal(await resumable(runDirectory), clock);
    }));

  it('is missed by nobody but the launcher: the run checkpoints and stops by itself', () =>
    withFolder(async (folder) => {
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, smallRunFile({ steps: ENDLESS, every: 20 }));
      const { child, ended } = start(launchArgs(folder, runFile));
      await untilStep(runDirectory, 5, ended);

      // Meanwhile nobody else gets at the run.
      const second = await whittle(launchArgs(folder, runFile));
      assert.equal(second.code, 2, second.stderr);
      assert.match(second.stderr, /\[RUN_EXISTS\] run run exists .*whittle resume \S+\/run`/);
      const resumed = await whittle(['resume', runDirectory]);
      assert.equal(resumed.code, 2, resumed.stderr);
      assert.match(resumed.stderr, /\[RUN_LOCKED\] .*is held by the scheduler with pid \d+/);

      const seen = (await readMetrics(runDirectory)).length;
      await untilStep(runDirectory, seen + 1, ended);
      child.kill('SIGKILL');
      await until('the orphaned roles to leave', async () =>
        (await processesOf(runDirectory)).length === 0 ? true : null,
      );
      const status = await readStatus(runDirectory);
      assert.equal(status.state, 'STOPPED');
      assert.equal((await latestCheckpoint(runDirectory)).clock, status.step);
      await assertQuiet(runDirectory);
    }));
});
