import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { assertQuiet, lastJson, readStatus, start, untilStep, withFolder, writeRunFile } from './support.ts';

describe('asp', function () {
  this.timeout(300_000);

  it('takes over the slices of a worker that hangs, however far the other ran ahead of them', () =>
    withFolder(async (folder) => {
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, {
        name: 'asp',
        model: 'lenet-300-100',
        data: { source: 'mnist', batchSize: 32 },
        cluster: { servers: 1, workers: 2, backend: 'wasm', slices: 2 },
        consistency: { mode: 'asp' },
        training: { steps: 400, optimizer: { kind: 'sgd', learningRate: 0.05 }, evaluateEvery: 0 },
        checkpoint: { every: 30, keep: 2 },
      });
      const { ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json']);
      await untilStep(runDirectory, 10, ended);
      const worker = (await readStatus(runDirectory)).members.find(({ role, rank }) => role === 'worker' && rank === 1);
      process.kill(worker?.pid ?? 0, 'SIGSTOP');
      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      const { state, step, slicesByWorker } = lastJson<RunResult>(end);
      assert.deepEqual([state, step], ['SUCCEEDED', 400]);
      assert.ok((slicesByWorker[0] ?? 0) > 400, 'slices of the other as well');
      await assertQuiet(runDirectory);
    }));
});
