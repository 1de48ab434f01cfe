import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { conclude } from '../../../deploy/launchers/conclude.ts';
import type { LaunchPlan, RoleExit, RunEnd } from '../../../deploy/launchers/launcher.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { runConfigToYaml } from '../../../shared/config/effective.ts';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import type { RunFailure, StepMetrics } from '../../../shared/telemetry/run-status.ts';
import { engineConfig } from '../../fixtures/config.ts';
import { useFolder, writeCheckpoint } from '../../shared/checkpoint/fixtures.ts';
import { resultOf, statusOf } from './fixtures/statuses.ts';

const SIGKILL: RoleExit = { code: null, signal: 'SIGKILL' };
const KILLED = 'was killed by SIGKILL (by hand, or by the system for want of memory)';

function end(role: 'scheduler' | 'server' | 'worker', exit: RoleExit, output: readonly string[] = []): RunEnd {
  return {
    schedulerExit: role === 'scheduler' ? exit : { code: 1, signal: null },
    loss: { role, rank: role === 'scheduler' ? 0 : 1, exit, output, schedulerEnded: true },
  };
}

describe('conclude', () => {
  const folder = useFolder();
  let directory: RunDirectory;
  let plan: LaunchPlan;
  beforeEach(async () => {
    directory = await RunDirectory.create(
      folder(),
      'mine',
      runConfigToYaml(engineConfig({ checkpoint: { every: 10, keep: 1 } })),
    );
    const runDirectory = directory.path;
    plan = {
      runId: 'mine',
      runDirectory,
      servers: 2,
      workers: 2,
      minWorkers: 2,
      standbys: 0,
      maxRestarts: 0,
      host: '127.0.0.1',
      port: 0,
      resume: null,
    };
  });

  const record = (step: number): StepMetrics => ({
    step,
    loss: 1 / step,
    sparsity: step / 100,
    maskEpoch: step,
    seconds: 0.01,
    bytesPushed: 100,
    bytesPulled: 10 * step,
    workers: [0, 1],
  });
  const steps = async (...numbers: number[]): Promise<void> => {
    directory.metrics.append(numbers.map(record));
    await directory.metrics.flush();
  };

  describe('without a word of the scheduler', () => {
    it('reads step, loss, sparsity and bytes of one step from metrics.jsonl, layers from the newest checkpoint', async () => {
      await writeCheckpoint(new CheckpointStore(directory.path), { clock: 2 });
      await steps(1, 2, 3);
      const { totals } = statusOf();
      const told = { testAccuracy: 0.8, evaluatedAt: 1, testLoss: 0.4, totals: { ...totals, stepsComputed: 2 } };
      const last = statusOf({ step: 2, loss: 9, sparsity: 0.9, ...told });
      const result = await conclude(directory, plan, end('scheduler', SIGKILL), { interrupted: false, last });
      assert.deepEqual([result.state, result.failure?.message], ['FAILED', `scheduler[0] ${KILLED}`]);
      const { step, loss, sparsity, maskEpoch, stepsComputed, bytes, bytesPerStep } = result;
      assert.deepEqual([step, loss, sparsity, maskEpoch, stepsComputed], [3, 1 / 3, 0.03, 3, 3]);
      assert.deepEqual(bytes, { pushed: 300, pulled: 60, masks: null, control: null });
      assert.equal(bytesPerStep, 130);
      assert.deepEqual([result.testAccuracy, result.evaluatedAt, result.testLoss], [0.8, 1, 0.4]);
      assert.equal(basename(result.checkpoint ?? ''), 'step-00000002-g1');
      assert.deepEqual(
        result.layers.map(({ name, size }) => [name, size]),
        [
          ['dense_1/kernel', 100],
          ['dense_1/bias', 200],
        ],
      );
      const survivors = result.layers.reduce((sum, each) => sum + each.survivors, 0);
      // Of 300 elements 200 are no 3k + 1, and 3 in 15 of them are 5k + 2: fixtures.ts.
      assert.equal(survivors, 160);
    });

    it('takes the status whole where it came further than what was written', async () => {
      await steps(1);
      const last = statusOf({ step: 2, loss: 9, sparsity: 0.9, maskEpoch: 7 });
      const result = await conclude(directory, plan, end('scheduler', SIGKILL), { interrupted: false, last });
      assert.deepEqual([result.step, result.loss, result.sparsity, result.maskEpoch], [2, 9, 0.9, 7]);
    });

    it('counts from the checkpoint that was resumed, and knows the length of a run that never told', async () => {
      await steps(1, 2, 3, 4);
      const resume = { folder: join(directory.checkpointsFolder, 'step-00000003-g1') };
      const seen = { interrupted: false, last: null };
      const result = await conclude(directory, { ...plan, resume }, end('scheduler', SIGKILL), seen);
      assert.deepEqual([result.resumedFrom, result.stepsComputed, result.bytes.pushed], [3, 1, 100]);
      assert.deepEqual([result.totalSteps, result.checkpoint, result.layers], [60, null, []]);
    });

    it('is STOPPED where the user killed it, in result and status alike', async () => {
      await steps(1, 2);
      await directory.writeStatus(statusOf({ step: 1 }));
      const result = await conclude(directory, plan, end('scheduler', SIGKILL), { interrupted: true, last: null });
      assert.deepEqual([result.state, result.failure, result.step], ['STOPPED', null, 2]);
      const status = await directory.readStatus();
      assert.deepEqual(
        [status?.state, status?.step, status?.activity, status?.failure],
        ['STOPPED', 2, 'killed by the user', null],
      );
    });

    it('passes over a damaged checkpoint', async () => {
      const store = new CheckpointStore(directory.path);
      await writeCheckpoint(store, { clock: 2 });
      await writeCheckpoint(store, { clock: 4 });
      await writeFile(join(store.folder, 'step-00000004-g1', 'shard-0.safetensors'), 'x');
      const seen = { interrupted: false, last: null };
      const { checkpoint } = await conclude(directory, plan, end('scheduler', SIGKILL), seen);
      assert.equal(basename(checkpoint ?? ''), 'step-00000002-g1');
    });
  });

  describe('where a role was lost', () => {
    const stack = 'WhittleError: [ROLE_LOST] the connection ended\n    at file.ts:1:2';
    const word = (change: Partial<RunFailure>): RunFailure => ({
      role: 'server',
      rank: 1,
      code: 'ROLE_LOST',
      message: 'the connection ended',
      stack,
      step: 3,
      ...change,
    });
    async function told(failure: RunFailure, how: RunEnd): Promise<RunFailure | null> {
      await directory.writeResult(resultOf({ state: 'FAILED', failure }));
      await directory.writeStatus(statusOf({ state: 'FAILED', failure }));
      const result = await conclude(directory, plan, how, { interrupted: false, last: null });
      assert.deepEqual((await directory.readResult())?.failure, result.failure, 'result.json');
      assert.deepEqual((await directory.readStatus())?.failure, result.failure, 'status.json');
      return result.failure;
    }

    it('tells how its process ended, without the stack of who noticed', async () => {
      const failure = await told(word({}), end('server', SIGKILL, ['Error: old news', '    at x.ts:1:2']));
      assert.deepEqual(failure, word({ message: `server[1] ${KILLED} (the connection ended)`, stack: '' }));
    });

    it('names the one that a signal ended, and who told of it', async () => {
      const failure = await told(word({ role: 'worker', rank: 0 }), end('server', SIGKILL));
      assert.deepEqual(failure, word({ message: `server[1] ${KILLED} (worker[0]: the connection ended)`, stack: '' }));
    });

    it('keeps what a crash printed', async () => {
      const crash = end('server', { code: 134, signal: null }, ['FATAL ERROR', 'heap out of memory']);
      assert.equal((await told(word({}), crash))?.stack, 'FATAL ERROR\nheap out of memory');
    });

    it('shows no stack either where no process was seen to end', async () => {
      const alone: RunEnd = { schedulerExit: { code: 1, signal: null }, loss: null };
      assert.deepEqual(await told(word({}), alone), word({ stack: '' }));
    });

    it('leaves an error of a role’s own as it is', async () => {
      const own = word({ code: 'NOT_FINITE', message: 'NaN' });
      assert.deepEqual(await told(own, end('server', { code: 1, signal: null })), own);
    });
  });
});
