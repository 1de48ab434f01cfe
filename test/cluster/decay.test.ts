import assert from 'node:assert/strict';
import { finish, twoAtOnce, withFolder, writeRunFile } from './support.ts';

const STEPS = 20;

describe('group lasso over several servers', function () {
  this.timeout(300_000);

  it('gives the same digests on 1, 2 and 3 servers, whose cuts go through rows of kernels, and brings units to zero', async () => {
    await withFolder(async (folder) => {
      const runFile = await writeRunFile(folder, {
        name: 'decay',
        model: 'lenet-300-100',
        data: { source: 'mnist', batchSize: 64 },
        cluster: { workers: 1, backend: 'wasm', slices: 2 },
        training: {
          steps: STEPS,
          optimizer: { kind: 'sgd', learningRate: 0.1 },
          // The norm of clipping and those of units are exchanged in one step.
          clipNorm: 1,
          decay: { l1: 0.0001, groupLasso: 0.2, schedules: { groupLasso: { kind: 'linear', warmupSteps: 5 } } },
          evaluateEvery: 0,
        },
        sparsity: [{ schedule: { kind: 'constant', finalSparsity: 0.3, beginStep: 10, endStep: 10 } }],
        checkpoint: { every: STEPS, keep: 1 },
      });
      const digests = await twoAtOnce([1, 2, 3], async (servers) => {
        const result = await finish(['launch', runFile, '--runs-dir', folder, '--set', `cluster.servers=${servers}`]);
        const zeros = result.layers.reduce((sum, layer) => sum + layer.zeroSurvivors, 0);
        assert.ok(zeros > 784, `${zeros} survivors are zero: more than one unit of the first layer`);
        return [result.weightsDigest, result.maskDigest, result.stateDigest];
      });
      assert.deepEqual(digests, [digests[0], digests[0], digests[0]]);
    });
  });
});
