import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'mocha';
import { exportRun } from '../../../deploy/export/export.ts';
import { writeSafetensors } from '../../../shared/checkpoint/safetensors.ts';
import { locateTrained } from '../../../shared/checkpoint/trained-source.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { readInitialValues } from '../../../worker/model/initial-values.ts';
import { loadTrainedModel, readTrainedTensors } from '../../../worker/model/trained-model.ts';
import { disposeJob, type Job, prepareJob } from '../../../worker/training/job.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { CONFIG, type Written, writeCheckpoint } from '../../deploy/export/support.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

describe('a run that starts from a trained model', () => {
  const folder = temporaryFolder();
  const at = (name: string): string => join(folder.path, name);
  const jobs: Job[] = [];
  let checkpoint: Written;
  let job: Job;

  /** The same model as the checkpoint's, built anew; another seed gives other initial values and frozen weights. */
  async function jobOf(seed: number, model = CONFIG.model): Promise<Job> {
    const built = await prepareJob({ backend: 'wasm', source: CONFIG.data.source, model, seed });
    jobs.push(built);
    return built;
  }

  before(async () => {
    const engine = await Engine.create({ config: CONFIG });
    checkpoint = await writeCheckpoint(at('run'), engine);
    engine.dispose();
    folder.write('run/run.yaml', '');
    for (const format of ['tfjs', 'safetensors'] as const)
      await exportRun({ folder: checkpoint.folder, format, out: at(format) });
    job = await jobOf(CONFIG.seed);
  });
  after(() => jobs.splice(0).forEach(disposeJob));

  for (const [what, source] of [
    ['the newest checkpoint of a run, by its id', 'run'],
    ['a folder with model.json', 'tfjs'],
    ['model.json', 'tfjs/model.json'],
    ['a folder with safetensors', 'safetensors'],
    ['a safetensors file', 'safetensors/model.safetensors'],
  ] as const) {
    it(`takes effective weights and states of ${what}, and leaves no tensor`, async () => {
      const { path } = await locateTrained(source === 'run' ? source : at(source), folder.path);
      if (source === 'run') assert.equal(path, checkpoint.folder);
      const before = tf.memory().numTensors;
      const { weights, state, notes } = await readInitialValues(tf, path, job.description, job.variables);
      assert.equal(tf.memory().numTensors, before);
      assert.deepEqual(weights, checkpoint.effective);
      assert.deepEqual(state, checkpoint.state);
      // Only a checkpoint has no frozen weights.
      assert.equal(notes.length, source === 'run' ? 1 : 0, notes.join('\n'));
    });
  }

  it('reads half precision as the numbers it stands for', async () => {
    // 1.5 and -2 in bfloat16, 0.5 in float16.
    const specs = [
      { name: 'b', dtype: 'BF16', shape: [2] },
      { name: 'h', dtype: 'F16', shape: [1] },
    ] as const;
    await writeSafetensors(at('half.safetensors'), specs, {}, [Uint8Array.of(0xc0, 0x3f, 0, 0xc0, 0, 0x38)]);
    const { tensors } = await readTrainedTensors(tf, at('half.safetensors'));
    assert.deepEqual([...(tensors.get('b')?.values ?? [])], [1.5, -2]);
    assert.deepEqual([...(tensors.get('h')?.values ?? [])], [0.5]);
  });

  it('starts ranges of activations at 0 where the source observed none, and leaves out those the model has not', async () => {
    const { source } = CONFIG.data;
    const activations = { bits: 8, decay: 0.99 } as const;
    const ranged = await prepareJob({ backend: 'wasm', source, model: CONFIG.model, seed: CONFIG.seed, activations });
    jobs.push(ranged);
    const { state } = await readInitialValues(tf, checkpoint.folder, ranged.description, ranged.variables);
    const ranges = ranged.description.states.filter(({ name }) => name.endsWith('/activation_range')).length;
    assert.ok(ranges > 0);
    assert.deepEqual([...state], [...checkpoint.state, ...new Array<number>(ranges).fill(0)]);
    await writeSafetensors(at('ranged.safetensors'), [{ name: 'x/activation_range', dtype: 'F32', shape: [] }], {}, [
      new Uint8Array(4),
    ]);
    await assert.rejects(
      readInitialValues(tf, at('ranged.safetensors'), job.description, job.variables),
      (error: Error) => !error.message.includes('activation_range'),
    );
  });

  it('names every tensor that is missing, too much or of another shape', async () => {
    const model = folder.write(
      'other.mjs',
      `export const model = (tf) => tf.sequential({ layers: [
        tf.layers.flatten({ inputShape: [6, 6, 1] }),
        tf.layers.dense({ units: 7, name: 'head' }),
        tf.layers.dense({ units: 4, name: 'last' }) ] });`,
    );
    const { description, variables } = await jobOf(1, model);
    await assert.rejects(readInitialValues(tf, at('safetensors'), description, variables), (error: Error) => {
      for (const line of [
        'missing: parameter last/kernel [7, 4]',
        'shape differs: parameter head/kernel is [8, 5] there, [36, 7] in the model',
        'not in the model: conv2d_1/kernel [3, 3, 1, 3]',
        'not in the model: batch_normalization_1/moving_mean [3]',
      ])
        assert.ok(error.message.includes(line), `${line} in\n${error.message}`);
      return /\[CHECKPOINT\]/.test(error.message);
    });
  });

  it('says which layers compute otherwise than they did there', async () => {
    const text = `import { model as base } from ${JSON.stringify(CONFIG.model)};
      export const model = (tf) => { const built = base(tf); built.layers[4].activation = tf.layers.activation({ activation: 'tanh' }).activation; return built; };`;
    const { description, variables } = await jobOf(1, folder.write('tanh.ts', text));
    const { notes } = await readInitialValues(tf, at('tfjs'), description, variables);
    assert.match(notes.join('\n'), /layer head: activation was "relu", is "tanh"/);
  });

  it('refuses frozen weights that the model module does not give', async () => {
    const { description, variables } = await jobOf(2);
    await assert.rejects(
      readInitialValues(tf, at('tfjs'), description, variables),
      /frozen: dense_1\/kernel has other values .* let the module load them/s,
    );
  });

  it('says what it looked for', async () => {
    await assert.rejects(locateTrained('nothing', folder.path), /nothing is neither a run in .* nor a run directory/);
    folder.write('two/a.safetensors', '');
    folder.write('two/b.safetensors', '');
    await assert.rejects(locateTrained(at('two'), folder.path), /holds 2 safetensors files/);
    await rm(at('two'), { recursive: true });
  });

  it('rebuilds a whole model, unless a weight of it was frozen and is in no checkpoint', async () => {
    const before = tf.memory().numTensors;
    await assert.rejects(loadTrainedModel(tf, checkpoint.folder), /does not hold dense_1\/kernel.*--format tfjs/);
    await assert.rejects(loadTrainedModel(tf, at('safetensors')), /holds tensors and no model/);
    assert.equal(tf.memory().numTensors, before);
    const model = await loadTrainedModel(tf, at('tfjs'));
    const kernel = model.weights.find(({ originalName }) => originalName === 'conv2d_1/kernel');
    assert.deepEqual(Float32Array.from(kernel?.read().dataSync() ?? []), checkpoint.effective.slice(0, 27));
    model.weights.forEach((weight) => weight.dispose());
  });
});
