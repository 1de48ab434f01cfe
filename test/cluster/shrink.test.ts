import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../../shared/checkpoint/manifest-file.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  launchAndKillAt,
  lastJson,
  readMetrics,
  whittle,
  withFolder,
  writeRunFile,
} from './support.ts';

const STEPS = 60;
const SHRINKS = 30;

/** Half of the neurons until step 24, then single elements of what is left until step 50; ranges of activations are states. */
const runFile = {
  name: 'shrink',
  model: 'lenet-300-100',
  data: { source: 'mnist', batchSize: 60 },
  cluster: { servers: 2, workers: 2, backend: 'wasm', slices: 2 },
  training: { steps: STEPS, optimizer: { kind: 'sgd', learningRate: 0.05, momentum: 0.9 }, evaluateEvery: STEPS },
  sparsity: [
    {
      schedule: { kind: 'linear', finalSparsity: 0.5, beginStep: 8, endStep: 24, frequency: 8 },
      granularity: { neuron: { norm: 2 } },
      scope: 'layer',
    },
    { schedule: { kind: 'polynomial', finalSparsity: 0.9, beginStep: 10, endStep: 50, frequency: 10 } },
  ],
  quantization: { activations: { bits: 8 }, beginStep: 40 },
  shrink: { atStep: SHRINKS },
  checkpoint: { every: 20, keep: 9 },
};

function countsOf({ layers }: RunResult): unknown[] {
  return layers.map(({ name, size, survivors, deadUnits }) => [name, size, survivors, deadUnits]);
}

describe('shrinking the model while it is trained', function () {
  this.timeout(300_000);

  it('changes what a step costs and nothing of what the run computes, on any cluster, killed or not', async () => {
    await withFolder(async (folder) => {
      const { shrink: _, ...withoutShrinking } = runFile;
      const path = await writeRunFile(folder, withoutShrinking);
      const launch = (id: string): string[] => ['launch', path, '--runs-dir', folder, '--run-id', id];
      const whole = await finish(launch('whole'));
      await writeRunFile(folder, runFile);
      const shrunk = await finish(launch('shrunk'));

      const [before, after] = [await readMetrics(whole.runDirectory), await readMetrics(shrunk.runDirectory)];
      for (const [i, { step, loss, sparsity, maskEpoch }] of after.entries()) {
        const other = before[i]!;
        const tolerance = step <= SHRINKS ? 0 : 1e-3;
        assert.ok(Math.abs(loss - other.loss) <= tolerance, `step ${step}: ${loss}, ${other.loss} of the whole model`);
        assert.equal(sparsity, other.sparsity, `sparsity of step ${step}`);
        assert.equal(maskEpoch, other.maskEpoch + (step > SHRINKS ? 1 : 0));
      }
      assert.deepEqual(countsOf(shrunk), countsOf(whole));
      const { model, interventions } = await readManifest(shrunk.checkpoint!);
      assert.deepEqual(interventions, [`shrink@${SHRINKS}`]);
      assert.deepEqual(
        model.parameters.map(({ name, shape }) => [name, ...shape]),
        [
          ['dense_1/kernel', 784, 150],
          ['dense_1/bias', 150],
          ['dense_2/kernel', 150, 50],
          ['dense_2/bias', 50],
          ['dense_3/kernel', 50, 10],
          ['dense_3/bias', 10],
        ],
      );
      assert.equal(shrunk.layers[0]!.left, 784 * 150);

      const runDirectory = join(folder, 'killed');
      // While all servers hold for the last mask update.
      await launchAndKillAt('hold.reached@50', launch('killed'), runDirectory);
      const resumed = await finish(['resume', 'killed', '--runs-dir', folder, '--servers', '3', '--workers', '1']);
      assert.equal(resumed.resumedFrom, 40);
      assert.deepEqual(digestsOf(resumed), digestsOf(shrunk));
      await assertQuiet(runDirectory);

      // Back before it: the workers have the whole model again, and it shrinks anew.
      const again = await finish(['resume', 'shrunk', '--runs-dir', folder, '--step', '20', '--again']);
      assert.deepEqual(digestsOf(again), digestsOf(shrunk));

      const evaluated = lastJson<{ testAccuracy: number }>(
        await whittle(['evaluate', 'killed', '--runs-dir', folder, '--json']),
      );
      assert.equal(evaluated.testAccuracy, resumed.testAccuracy);
      const out = join(folder, 'exported');
      const exported = await whittle(['export', 'killed', '--runs-dir', folder, '--out', out, '--quantize', 'int8']);
      assert.equal(exported.code, 0, exported.stderr);
      const { weightsManifest } = JSON.parse(await readFile(join(out, 'model.json'), 'utf8')) as {
        weightsManifest: { weights: { shape: number[] }[] }[];
      };
      assert.deepEqual(weightsManifest[0]!.weights[0]!.shape, [784, 150]);
    });
  });
});
