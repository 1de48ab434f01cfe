import assert from 'node:assert/strict';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestCheckpoint, locatedAt } from '../../shared/checkpoint/digests.ts';
import { readManifest } from '../../shared/checkpoint/manifest-file.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { tf } from '../../worker/backend/tf.ts';
import { loadBackend } from '../../worker/backend/backend.ts';
import { readTrainedTensors } from '../../worker/model/trained-model.ts';
import { assertRefused, launchArgs } from './failures/support.ts';
import { digestsOf, finish, FIXTURES, lastJson, readMetrics, twoAtOnce, whittle, writeRunFile } from './support.ts';

interface Evaluated {
  readonly testAccuracy: number;
}

const polynomial = { kind: 'polynomial', finalSparsity: 0.8, beginStep: 10, endStep: 40, frequency: 10 };

/** A small network on MNIST, real processes. */
function runFile(steps: number, more: Record<string, unknown> = {}, cluster: Record<string, unknown> = {}) {
  return {
    name: 'mnist',
    model: join(FIXTURES, 'mnist-bn-model.ts'),
    data: { source: 'mnist', batchSize: 64 },
    cluster: { servers: 1, workers: 1, slices: 2, backend: 'wasm', ...cluster },
    training: { steps, optimizer: { kind: 'adam', learningRate: 0.003 }, evaluateEvery: 0 },
    checkpoint: { every: 25, keep: 20 },
    ...more,
  };
}

describe('runs that build on trained models, on MNIST', function () {
  this.timeout(300_000);
  let folder: string;
  let dense: RunResult;

  const launch = async (document: unknown, runId: string): Promise<RunResult> =>
    finish(['launch', await writeRunFile(folder, document, runId), '--runs-dir', folder, '--run-id', runId]);
  const evaluate = async (...args: string[]): Promise<Evaluated> =>
    lastJson(await whittle(['evaluate', ...args, '--runs-dir', folder, '--json']));
  const checkpointOf = (runId: string, step: number, generation = 1): string =>
    join(folder, runId, 'checkpoints', `step-${String(step).padStart(8, '0')}-g${generation}`);

  before(async () => {
    await loadBackend('wasm');
    folder = await mkdtemp(join(tmpdir(), 'whittle-trained-'));
    dense = await launch(runFile(150), 'dense');
  });
  after(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));

  it('start from a run by its id, and do not depend on it afterwards', async () => {
    const started = await launch(runFile(50, { initialize: { from: 'dense' } }), 'started');
    const first = checkpointOf('started', 0);
    const { weightsDigest } = await digestCheckpoint(await readManifest(first), locatedAt(first));
    assert.equal(weightsDigest, dense.weightsDigest);
    const [metrics, before] = [await readMetrics(join(folder, 'started')), await readMetrics(join(folder, 'dense'))];
    assert.ok((before[0]?.loss ?? 0) > 2 && (metrics[0]?.loss ?? 9) < 1, `${before[0]?.loss}, ${metrics[0]?.loss}`);
    await rename(join(folder, 'dense'), join(folder, 'elsewhere'));
    try {
      const again = await finish(['resume', join(folder, 'started'), '--step', '25', '--again']);
      assert.equal(again.resumedFrom, 25);
      assert.deepEqual(digestsOf(again), digestsOf(started));
    } finally {
      await rename(join(folder, 'elsewhere'), join(folder, 'dense'));
    }
  });

  it('start from an exported model as from the run', async () => {
    await twoAtOnce(['tfjs', 'safetensors'], async (format) => {
      const out = join(folder, format);
      const { code, stderr } = await whittle([
        'export',
        'dense',
        '--runs-dir',
        folder,
        '--format',
        format,
        '--out',
        out,
      ]);
      assert.equal(code, 0, stderr);
    });
    const digests = await twoAtOnce(['dense', './tfjs', './safetensors'], async (from) =>
      digestsOf(await launch(runFile(3, { initialize: { from } }), `from-${from.replace('./', '')}`)),
    );
    assert.deepEqual([digests[1], digests[2]], [digests[0], digests[0]]);
  });

  it('prune, cluster and learn from a teacher with the same bits for any number of processes, and after a resume', async () => {
    const more = {
      sparsity: [{ schedule: polynomial }],
      distillation: { teacher: 'dense', temperature: 3, weight: 0.7 },
      clustering: { clusters: 8, beginStep: 30 },
    };
    const [one, three] = await Promise.all([
      launch(runFile(60, more), 'one'),
      launch(runFile(60, more, { servers: 3, workers: 2 }), 'three'),
    ]);
    assert.deepEqual(digestsOf(three), digestsOf(one));
    // Step 50 lies where the weights are clustered.
    const [resumed, alone] = await Promise.all([
      finish(['resume', join(folder, 'one'), '--step', '50', '--again', '--servers', '2']),
      launch(runFile(60, { ...more, distillation: undefined }), 'alone'),
    ]);
    assert.equal(resumed.resumedFrom, 50);
    assert.deepEqual(digestsOf(resumed), digestsOf(one));
    assert.notEqual(alone.weightsDigest, one.weightsDigest);

    const out = join(folder, 'clustered');
    const exported = await whittle(['export', 'three', '--runs-dir', folder, '--format', 'safetensors', '--out', out]);
    assert.equal(exported.code, 0, exported.stderr);
    const { tensors } = await readTrainedTensors(tf, join(out, 'model.safetensors'));
    for (const { name, survivors, size } of three.layers.filter((layer) => layer.name.endsWith('/kernel'))) {
      const values = tensors.get(name)?.values ?? new Float32Array(0);
      assert.equal(new Set(values).size, 8, name);
      assert.equal(values.filter((value) => value === 0).length, size - survivors, name);
    }
    // What was trained is latent and has many values more.
    const latent = await readTrainedTensors(tf, checkpointOf('three', 60));
    assert.ok(new Set(latent.tensors.get('dense_1/kernel')?.values).size > 1000);
    assert.equal((await evaluate('three')).testAccuracy, three.testAccuracy);
  });

  it('recalibrate batch normalisation for their last evaluation, evaluate and export alike', async () => {
    // 40 steps of slow moving averages that begin at 0 and 1 are far from the data.
    const document = runFile(
      40,
      { sparsity: [{ schedule: polynomial }], recalibrate: { batches: 20 } },
      { workers: 2 },
    );
    const [recalibrated, plain] = await Promise.all([
      launch(document, 'recalibrated'),
      launch(runFile(40, { sparsity: [{ schedule: polynomial }] }), 'plain'),
    ]);
    // It is no part of training.
    assert.deepEqual(digestsOf(recalibrated), digestsOf(plain));
    assert.ok((recalibrated.testAccuracy ?? 0) > (plain.testAccuracy ?? 1) + 0.01, `${recalibrated.testAccuracy}`);
    const evaluations = [['recalibrated'], ['recalibrated', '--recalibrate', '0'], ['plain', '--recalibrate', '20']];
    assert.deepEqual(
      (await twoAtOnce(evaluations, (args) => evaluate(...args))).map(({ testAccuracy }) => testAccuracy),
      [recalibrated.testAccuracy, plain.testAccuracy, recalibrated.testAccuracy],
    );
    const asked = [['recalibrated'], ['plain', '--recalibrate', '20'], ['plain']];
    const states = await twoAtOnce([...asked.entries()], async ([i, args]) => {
      const out = join(folder, `states-${i}`);
      const end = await whittle(['export', ...args, '--runs-dir', folder, '--format', 'safetensors', '--out', out]);
      assert.equal(end.code, 0, end.stderr);
      const { tensors } = await readTrainedTensors(tf, join(out, 'model.safetensors'));
      return [...(tensors.get('batch_normalization_1/moving_mean')?.values ?? [])];
    });
    assert.deepEqual(states[1], states[0]);
    assert.notDeepEqual(states[2], states[0]);
  });

  it('are refused before anything starts where the trained model does not fit', async () => {
    const refusals: [Record<string, unknown>, (string | RegExp)[]][] = [
      [
        { initialize: { from: 'nobody' } },
        ['[RUN_FILE]', /run\.yaml:\d+:\d+/, 'initialize.from', 'nobody is neither a run'],
      ],
      [
        { initialize: { from: 'dense' }, model: 'lenet-300-100' },
        [
          '[RUN_FILE]',
          'initialize.from',
          'missing: parameter dense_1/bias [300]',
          'shape differs: parameter dense_1/kernel',
        ],
      ],
      [{ distillation: { teacher: './gone' } }, ['[RUN_FILE]', 'distillation.teacher', 'gone is neither a run']],
      [
        { recalibrate: {}, model: 'lenet-300-100' },
        ['[RUN_FILE]', 'recalibrate: the model has no batch normalisation'],
      ],
    ];
    for (const [more, messages] of refusals) {
      const empty = join(folder, 'empty');
      const path = await writeRunFile(folder, runFile(10, more));
      // Runs are looked up where they are written; here there are none but for those that a path names.
      const named = 'initialize' in more && (more['initialize'] as { from: string }).from === 'dense';
      const args = launchArgs(empty, path);
      await assertRefused(
        named ? [...args, '--set', `initialize.from=${join(folder, 'dense')}`] : args,
        empty,
        messages,
      );
    }
  });
});
