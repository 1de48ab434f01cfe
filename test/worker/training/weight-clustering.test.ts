import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'mocha';
import { exportRun } from '../../../deploy/export/export.ts';
import { writeManifest } from '../../../shared/checkpoint/manifest-file.ts';
import { readWhole, writeWhole } from '../../../shared/checkpoint/whole.ts';
import { clusterValues } from '../../../shared/clustering/k-means.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { TensorFile } from '../../../shared/packed/tensor-file.ts';
import { pack, unpack } from '../../../shared/sparsity/packing.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { readTrainedTensors } from '../../../worker/model/trained-model.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { transformAt, weightTransforms } from '../../../worker/training/weight-transforms.ts';
import { writeCheckpoint } from '../../deploy/export/support.ts';
import { engineConfig, fixture } from '../../fixtures/config.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

const BN = fixture('bn-dropout-model.ts');
const CLUSTERING = { clusters: 5, match: null, beginStep: 7, initialization: 'linear' } as const;
/** dense_1/kernel, gamma, beta, dense_2/kernel, dense_2/bias: the kernels are what is clustered. */
const KERNELS = [
  [0, 320],
  [352, 416],
] as const;

describe('weight clustering in workers', () => {
  const folder = temporaryFolder();
  const engines: Engine[] = [];
  afterEach(() => engines.splice(0).forEach((engine) => engine.dispose()));

  async function create(changes: Partial<RunConfig> = {}): Promise<Engine> {
    const engine = await Engine.create({ config: engineConfig({ model: BN, ...changes }) });
    engines.push(engine);
    return engine;
  }

  function clustered(weights: Float32Array): Float32Array {
    const all = weights.slice();
    for (const [from, to] of KERNELS) all.set(clusterValues(all.slice(from, to), 5, 'linear'), from);
    return all;
  }

  it('computes gradients with the centroids of kernels from beginStep on', async () => {
    const [engine, plain] = [await create({ clustering: CLUSTERING }), await create()];
    const [weights, state] = [plain.initialWeights(), plain.initialState()];
    engine.setWeights(weights, state, 6);
    plain.setWeights(weights, state, 6);
    const before = await plain.gradient(7, 0);
    assert.deepEqual(await engine.gradient(7, 0), before);
    engine.setWeights(weights, state, 7);
    plain.setWeights(clustered(weights), state, 7);
    const after = await engine.gradient(7, 0);
    assert.notEqual(after.loss, before.loss);
    assert.deepEqual(after, await plain.gradient(7, 0));
  });

  for (const format of ['tfjs', 'safetensors'] as const) {
    it(`exports the values that the run computes with: ${format}`, async () => {
      const clustering = { ...CLUSTERING, beginStep: 7 };
      const engine = await create();
      const config = engineConfig({ model: BN, clustering });
      const { folder: checkpoint, effective } = await writeCheckpoint(join(folder.path, format), engine, { config });
      const out = join(folder.path, `${format}-out`);
      await exportRun({ folder: checkpoint, format, out });
      const { tensors } = await readTrainedTensors(
        tf,
        join(out, format === 'tfjs' ? 'model.json' : 'model.safetensors'),
      );
      const expected = clustered(effective);
      assert.deepEqual(tensors.get('dense_1/kernel')?.values, expected.slice(0, 320));
      assert.deepEqual(tensors.get('dense_2/kernel')?.values, expected.slice(352, 416));
      assert.deepEqual(tensors.get('dense_2/bias')?.values, effective.slice(416));
      assert.equal(new Set(tensors.get('dense_1/kernel')?.values).size, 5);
      const zeros = effective.slice(0, 320).filter((value) => value === 0).length;
      assert.equal(tensors.get('dense_1/kernel')?.values.filter((value) => Object.is(value, 0)).length, zeros);
    });
  }

  it('leaves as few values where weights are quantized as well, all of them on the grid', () => {
    const weights = Float32Array.from({ length: 64 }, (_, i) => (i % 5 === 0 ? 0 : i / 50 - 0.61));
    const quantization = {
      weights: { bits: 8, perChannel: false },
      activations: null,
      beginStep: 0,
      match: null,
    } as const;
    const config = engineConfig({ clustering: { ...CLUSTERING, clusters: 4 }, quantization });
    const kernel = { name: 'dense_1/kernel', shape: [16, 4], layerKind: 'Dense', prunable: true };
    const values = transformAt(weightTransforms(config), 7)?.(weights, kernel) ?? weights;
    const clustered = clusterValues(weights, 4, 'linear');
    const step = Math.max(...clustered.map(Math.abs)) / 127;
    assert.equal(new Set(values).size, 4);
    values.forEach((value, i) => {
      assert.ok(Math.abs(value - (clustered[i] as number)) <= step / 2 + 1e-6);
      assert.ok(Math.abs(value / step - Math.round(value / step)) < 1e-3);
    });
  });

  it('packs centroids and recalibrated states as the dense export has them', async () => {
    const engine = await create();
    const config = engineConfig({ model: BN, clustering: CLUSTERING, recalibrate: { batches: 2 } });
    const { folder: checkpoint } = await writeCheckpoint(join(folder.path, 'packed'), engine, { config });
    const [dense, packed] = ['dense', 'survivors'].map((name) => join(folder.path, name)) as [string, string];
    await exportRun({ folder: checkpoint, format: 'safetensors', out: dense });
    await exportRun({ folder: checkpoint, format: 'safetensors', packed: true, out: packed });
    const { tensors } = await readTrainedTensors(tf, join(dense, 'model.safetensors'));
    const file = await TensorFile.open(join(packed, 'model.safetensors'));
    for (const [name, { values }] of tensors) assert.deepEqual(await file.read(name), values, name);
    await file.close();
  });

  it('recalibrates the whole model before it is shrunk', async () => {
    const engine = await create();
    const config = engineConfig({ model: BN });
    const { folder: whole, manifest } = await writeCheckpoint(join(folder.path, 'unread'), engine, { config });
    // Nothing reads unit 3: row 3 of dense_2/kernel [16, 4], among the stored.
    const content = await readWhole(whole, manifest);
    const dense = unpack(content.weights, content.stored, 420).fill(0, 352 + 12, 352 + 16);
    const weights = pack(dense, content.stored);
    const unread = join(folder.path, 'unread-3');
    mkdirSync(unread);
    await writeManifest(unread, { ...manifest, shards: await writeWhole(unread, { ...content, weights }, [0, 420]) });
    const means: number[][] = [];
    for (const shrink of [false, true]) {
      const out = join(folder.path, `shrink-${shrink}`);
      await exportRun({ folder: unread, format: 'safetensors', out, recalibrate: 3, shrink });
      const { tensors } = await readTrainedTensors(tf, join(out, 'model.safetensors'));
      means.push([...(tensors.get('batch_normalization_1/moving_mean')?.values ?? [])]);
    }
    const [before = [], after] = means;
    assert.equal(before.length, 16);
    assert.deepEqual(
      after,
      before.filter((_, unit) => unit !== 3),
    );
  });

  it('exports recalibrated states beside them, as asked or as the run says', async () => {
    const engine = await create();
    const config = engineConfig({ model: BN, clustering: CLUSTERING, recalibrate: { batches: 3 } });
    const written = await writeCheckpoint(join(folder.path, 'both'), engine, { config });
    const computed = await create({ clustering: CLUSTERING });
    computed.setWeights(written.effective, written.state, 7);
    for (const [recalibrate, state, accuracy] of [
      // Clock 7 is not the run's last: it was evaluated without.
      [undefined, await computed.recalibrate(3), null],
      [2, await computed.recalibrate(2), null],
      [0, written.state, 0.5],
    ] as const) {
      const out = join(folder.path, `state-${recalibrate}`);
      const asked = recalibrate === undefined ? {} : { recalibrate };
      const manifest = await exportRun({ folder: written.folder, format: 'safetensors', out, ...asked });
      const { tensors } = await readTrainedTensors(tf, join(out, 'model.safetensors'));
      const found = ['moving_mean', 'moving_variance'].flatMap((name) => [
        ...(tensors.get(`batch_normalization_1/${name}`)?.values ?? []),
      ]);
      assert.deepEqual(found, [...state]);
      assert.equal(manifest.testAccuracy, accuracy);
    }
  });
});
