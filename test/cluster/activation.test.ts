import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readManifest } from '../../shared/checkpoint/manifest-file.ts';
import { readState } from '../../shared/checkpoint/reshard.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  FIXTURES,
  killRun,
  latestCheckpoint,
  start,
  untilStep,
  withFolder,
  writeRunFile,
} from './support.ts';

const STEPS = 120;
const EVERY = 40;

function runFile(servers: number, workers: number): Record<string, unknown> {
  return {
    name: 'active',
    model: join(FIXTURES, 'mnist-bn-model.ts'),
    data: { source: 'mnist', batchSize: 64 },
    cluster: { servers, workers, backend: 'wasm', slices: 2 },
    training: { steps: STEPS, optimizer: { kind: 'adam', learningRate: 0.003 }, evaluateEvery: 0 },
    sparsity: [
      {
        criterion: 'activation',
        granularity: { neuron: { norm: 2 } },
        schedule: { kind: 'linear', finalSparsity: 0.5, beginStep: 20, endStep: 90, frequency: 10 },
      },
    ],
    checkpoint: { every: EVERY, keep: 10 },
  };
}

describe('neurons of MNIST pruned by what they give out', function () {
  this.timeout(240_000);

  it('have one digest for any number of servers and workers, killed and resumed or not', () =>
    withFolder(async (folder) => {
      const launch = async (name: string, document: Record<string, unknown>) =>
        finish(['launch', await writeRunFile(folder, document), '--runs-dir', folder, '--run-id', name]);
      const never = await launch('never', runFile(2, 2));
      const hidden = never.layers.find(({ units }) => units === 24);
      assert.equal(hidden?.deadUnits, 12, JSON.stringify(never.layers));
      for (const [servers, workers] of [
        [1, 1],
        [3, 2],
      ] as const) {
        const other = await launch(`on-${servers}-${workers}`, runFile(servers, workers));
        assert.deepEqual(digestsOf(other), digestsOf(never), `${servers} servers, ${workers} workers`);
      }
      const path = await writeRunFile(folder, runFile(2, 2));
      const runDirectory = join(folder, 'killed');
      const { child, ended } = start(['launch', path, '--runs-dir', folder, '--run-id', 'killed', '--json']);
      await untilStep(runDirectory, EVERY + 5, ended);
      await killRun(runDirectory, child);
      await ended;
      const latest = await latestCheckpoint(runDirectory);
      const checkpoint = join(runDirectory, 'checkpoints', latest.folder);
      const manifest = await readManifest(checkpoint);
      const { states } = manifest.model;
      assert.deepEqual(
        states.slice(-2).map(({ name, shape }) => [name, shape]),
        [
          ['dense_1/activation_mean', [24]],
          ['dense_1/activation_zeros', [24]],
        ],
      );
      const zeros = (await readState(checkpoint, manifest)).slice(-24);
      assert.ok(zeros.some((share) => share > 0.2) && zeros.every((share) => share >= 0 && share <= 1), zeros.join());
      const resumed = await finish(['resume', runDirectory, '--servers', '3', '--workers', '1']);
      assert.equal(resumed.resumedFrom, latest.clock);
      assert.deepEqual(digestsOf(resumed), digestsOf(never));
      await assertQuiet(runDirectory);
    }));
});
