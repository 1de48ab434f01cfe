import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { denseChunks } from '../../../shared/checkpoint/digests.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import {
  FIXTURES,
  finish,
  goldenRunFile,
  latestCheckpoint,
  readMetrics,
  whittle,
  withFolder,
  writeRunFile,
} from '../support.ts';
import { assertFailed, launchArgs } from './support.ts';

describe('a number that is not finite', function () {
  this.timeout(300_000);

  it('stops the run at its step and keeps the last checkpoint: one example is NaN', () =>
    withFolder(async (folder) => {
      const module = join(folder, 'data.ts');
      // Example 70 of 256, in batches of 32 in order: step 3.
      await writeFile(
        module,
        `import { train as all } from ${JSON.stringify(join(FIXTURES, 'golden-data.ts'))};
export const train = { size: all.size, batch: (indices) => {
  const batch = all.batch(indices);
  indices.forEach((index, i) => { if (index === 70) batch.inputs.data[20 * i] = NaN; });
  return batch;
} };`,
      );
      const base = goldenRunFile({ servers: 2, workers: 2 });
      const document = {
        ...base,
        data: { source: module, batchSize: 32, order: 'sequential' },
        checkpoint: { every: 1, keep: 5 },
      };
      const runDirectory = join(folder, 'run');
      const end = await whittle(launchArgs(folder, await writeRunFile(folder, document)));
      const result = await assertFailed(end, runDirectory, 'NOT_FINITE');
      assert.match(result.failure?.message ?? '', / of step 3, slice 0 /);
      assert.match(end.stderr, /worker\[0\] failed at step 2: \[NOT_FINITE\] the loss of step 3, slice 0 is NaN/);
      assert.equal(result.failure?.step, 2);
      const { clock, folder: name } = await latestCheckpoint(runDirectory);
      assert.ok(clock === 1 || clock === 2, `checkpoint ${clock}`);
      const store = new CheckpointStore(runDirectory);
      for await (const { weights } of denseChunks(await store.verify(name), store))
        assert.ok(weights.every(Number.isFinite));
    }));

  it('stops a run that diverges, which then goes on with a lower learning rate', () =>
    withFolder(async (folder) => {
      const base = goldenRunFile({ servers: 1, workers: 1 });
      const training = { steps: 60, optimizer: { kind: 'sgd', learningRate: 1e30 } };
      const runFile = await writeRunFile(folder, { ...base, training });
      const end = await whittle(launchArgs(folder, runFile));
      const result = await assertFailed(end, join(folder, 'run'), 'NOT_FINITE');
      const step = Number(/ of step (\d+), /.exec(result.failure?.message ?? '')?.[1]);
      assert.equal(step, (result.failure?.step ?? 0) + 1, 'the step after the last one that was applied');
      assert.ok(step <= 3, `step ${step}`);
      const again = await finish(['resume', join(folder, 'run'), '--set', 'training.optimizer.learningRate=0.1']);
      assert.equal(again.resumedFrom, 0);
      assert.equal(again.state, 'SUCCEEDED');
      assert.deepEqual(
        (await readMetrics(join(folder, 'run'))).map(({ step }) => step),
        Array.from({ length: 60 }, (_, i) => i + 1),
      );
    }));

  it('stops a run whose loss is finite and whose gradient is not', () =>
    withFolder(async (folder) => {
      const model = join(folder, 'model.ts');
      await writeFile(
        model,
        `export const model = (tf) => tf.sequential({ layers: [tf.layers.dense({ units: 4, inputShape: [20] })] });
export const loss = (tf, labels, outputs) => tf.mean(tf.sqrt(tf.relu(tf.mul(outputs, 0))));`,
      );
      const document = { ...goldenRunFile({ servers: 1, workers: 1 }), model };
      const end = await whittle(launchArgs(folder, await writeRunFile(folder, document)));
      const { failure } = await assertFailed(end, join(folder, 'run'), 'NOT_FINITE');
      assert.match(failure?.message ?? '', /the gradient of step 1, slice 0 /);
    }));
});
