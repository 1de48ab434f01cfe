import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { EXPORT_MANIFEST, exportRun } from '../../../deploy/export/export.ts';
import { SafetensorsFile } from '../../../shared/checkpoint/safetensors.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { pack } from '../../../shared/sparsity/packing.ts';
import type { FlatModel } from '../../../shared/shrink/flat-model.ts';
import { useFolder, writeCheckpoint } from '../../shared/checkpoint/fixtures.ts';
import { descriptionOf, MODELS } from '../../shared/model-graph/models.ts';
import { distance, inputFor, killed, outputsOf, OWN, trained } from '../../shared/shrink/support.ts';

describe('export --shrink', () => {
  before(() => tf.setBackend('cpu'));
  const run = useFolder();

  /** A checkpoint in whose first layer every other filter is dead, and whose last neuron but one nothing reads. */
  async function train(): Promise<{ model: FlatModel; folder: string }> {
    const model = killed(
      trained(descriptionOf(MODELS.convolution()), 3),
      (producers, unit) => producers[0] === 'conv2d_1/kernel' && unit % 2 === 0,
      OWN,
    );
    const weights = model.weights.slice();
    // dense_2/kernel [5, 2] and its bias are the last 12 elements: row 4.
    weights.fill(0, weights.length - 4, weights.length - 2);
    const store = new CheckpointStore(run());
    const { mask, stored, slots, state } = model;
    const packed = (values: Float32Array): Float32Array => pack(values, stored);
    const whole = {
      start: 0,
      end: weights.length,
      stored,
      mask,
      weights: packed(weights),
      slots: { m: packed(slots['m']!) },
      state,
    };
    const manifest = await writeCheckpoint(store, { whole, description: model.description });
    return { model: { ...model, weights }, folder: store.folderOf({ ...manifest }) };
  }

  it('tfjs: stock TensorFlow.js loads a smaller model that computes the same', async () => {
    const { model, folder } = await train();
    const out = join(run(), 'small');
    const manifest = await exportRun({ folder, format: 'tfjs', out, shrink: true });
    assert.deepEqual(readdirSync(run()).sort(), ['checkpoints', 'small'], 'nothing is left beside it');
    assert.deepEqual(manifest.shrunk, {
      units: [
        { producers: ['conv2d_1/kernel'], before: 4, after: 2 },
        { producers: ['conv2d_2/kernel'], before: 3, after: 3 },
        { producers: ['dense_1/kernel'], before: 5, after: 4 },
      ],
      refused: [],
    });
    assert.deepEqual(JSON.parse(readFileSync(join(out, EXPORT_MANIFEST), 'utf8')), manifest);
    assert.deepEqual(
      manifest.layers.map(({ name, size, sparsity }) => [name, size, sparsity]).slice(0, 2),
      // [3, 3, 1, 2] and [2] are left of them.
      [
        ['conv2d_1/kernel', 36, 0.5],
        ['conv2d_1/bias', 4, 0.5],
      ],
    );
    assert.equal(manifest.testAccuracy, 0.75);
    const { modelTopology, weightsManifest } = JSON.parse(
      readFileSync(join(out, 'model.json'), 'utf8'),
    ) as tf.io.ModelJSON;
    const loaded = await tfl.loadLayersModel(
      tf.io.fromMemory({
        modelTopology,
        weightSpecs: weightsManifest[0]!.weights,
        weightData: new Uint8Array(readFileSync(join(out, 'weights.bin'))).buffer,
      }),
    );
    const outputs = (loaded.predict(inputFor(loaded)) as tf.Tensor).dataSync<'float32'>();
    assert.ok(distance(await outputsOf(model), outputs) < 1e-5);
  });

  it('safetensors: tensors of the smaller shapes', async () => {
    const { folder } = await train();
    const out = join(run(), 'small');
    await exportRun({ folder, format: 'safetensors', out, shrink: true });
    const file = await SafetensorsFile.open(join(out, 'model.safetensors'));
    assert.deepEqual(
      [...file.header.tensors.values()].map(({ shape }) => shape),
      [[3, 3, 1, 2], [2], [2], [2], [2, 2, 2, 3], [3], [12, 4], [4], [4, 2], [2], [2], [2]],
    );
    await file.close();
  });

  it('leaves nothing behind where it fails', async () => {
    const { folder } = await train();
    await exportRun({ folder, format: 'tfjs', out: join(run(), 'small') });
    await assert.rejects(
      exportRun({ folder, format: 'tfjs', out: join(run(), 'small'), shrink: true }),
      /\[USAGE\] .*small exists/,
    );
    await assert.rejects(
      exportRun({ folder: join(folder, 'none'), format: 'tfjs', out: join(run(), 'other'), shrink: true }),
      /\[CHECKPOINT\]/,
    );
    assert.deepEqual(readdirSync(run()).sort(), ['checkpoints', 'small']);
  });
});
