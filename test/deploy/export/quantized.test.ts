import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exportRun, type ExportManifest } from '../../../deploy/export/export.ts';
import { bytesOf, SafetensorsFile } from '../../../shared/checkpoint/safetensors.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { TensorFile } from '../../../shared/packed/tensor-file.ts';
import { fakeQuantizeWeights } from '../../../shared/quantization/symmetric.ts';
import { getBit } from '../../../shared/sparsity/bitmap.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { images } from './fixtures/image-data.ts';
import { loadByStranger } from './stranger.ts';
import { CONFIG, writeCheckpoint, type Written } from './support.ts';

describe('export --quantize int8', () => {
  let folder: string;
  let checkpoint: Written;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-export-'));
    const engine = await Engine.create({ config: CONFIG });
    checkpoint = await writeCheckpoint(folder, engine);
    engine.dispose();
  });
  after(() => rm(folder, { recursive: true, force: true }));

  const path = (name: string): string => join(folder, name);

  it('tfjs: stock TensorFlow.js makes of its bytes what was measured, and +0 of what is dead', async () => {
    const out = path('tfjs');
    const { quantization, testAccuracy } = await exportRun({
      folder: checkpoint.folder,
      format: 'tfjs',
      quantize: 'int8',
      out,
    });
    const { weightsManifest } = JSON.parse(await readFile(join(out, 'model.json'), 'utf8')) as {
      weightsManifest: { weights: { name: string; quantization?: { dtype: string; scale: number; min: number } }[] }[];
    };
    const weights = weightsManifest[0]?.weights ?? [];
    const bytes = await readFile(join(out, 'weights.bin'));
    const { parameters } = ParameterSpace.of(checkpoint.manifest.model.parameters);
    for (const [k, { name, offset, size }] of parameters.entries()) {
      const entry = weights[k];
      assert.equal(entry?.name, name);
      assert.equal(entry.quantization?.dtype, 'uint8');
      const { scale, min } = entry.quantization;
      for (let i = offset; i < offset + size; i++) {
        const weight = checkpoint.effective[i] as number;
        // What TensorFlow.js computes; parameters come first, so that a flat index is a byte's.
        const read = Math.fround((bytes[i] as number) * scale + min);
        assert.ok(Math.abs(read - weight) <= scale * 0.5001, `${name}: ${read}, not ${weight}`);
        if (weight === 0) assert.ok(Object.is(read, 0), `${name}: ${read}, not +0`);
      }
    }
    // Bytes for parameters, float32 for two states of 3 and the frozen layer of 48 x 8 + 8.
    assert.equal(bytes.length, checkpoint.effective.length + 4 * (6 + 48 * 8 + 8));
    assert.deepEqual(
      weights.filter((each) => each.quantization === undefined).map(({ name }) => name),
      ['batch_normalization_1/moving_mean', 'batch_normalization_1/moving_variance', 'dense_1/kernel', 'dense_1/bias'],
    );
    const { outputs } = await loadByStranger(out);
    let hits = 0;
    for (let example = 0; example < 40; example++) {
      const logits = outputs.slice(4 * example, 4 * example + 4);
      if (logits.indexOf(Math.max(...logits)) === example % 4) hits++;
    }
    assert.equal(quantization?.testAccuracy, hits / 40);
    assert.equal(quantization.activations, 'float32');
    assert.equal(testAccuracy, 0.5, 'that of the run stays beside it');
  });

  it('safetensors: int8 per output channel, scales beside, and ranges of activations from the training data', async () => {
    const out = path('safetensors');
    const { quantization } = await exportRun({
      folder: checkpoint.folder,
      format: 'safetensors',
      quantize: 'int8',
      out,
    });
    const file = await SafetensorsFile.open(join(out, 'model.safetensors'));
    try {
      for (const parameter of ParameterSpace.of(checkpoint.manifest.model.parameters).parameters) {
        const { name, offset, size, shape, prunable } = parameter;
        const effective = checkpoint.effective.subarray(offset, offset + size);
        if (!prunable) {
          assert.deepEqual(await float32(file, name), effective, name);
          continue;
        }
        const scales = await float32(file, `${name}.scales`);
        assert.equal(scales.length, shape.at(-1));
        const whole = new Int8Array(size);
        await file.read(file.tensor(name, 'I8'), 0, bytesOf(whole));
        assert.deepEqual(
          Float32Array.from(whole, (q, i) => q * (scales[i % scales.length] as number)),
          fakeQuantizeWeights(effective, parameter, { bits: 8, perChannel: true }),
        );
        assert.ok(effective.every((weight, i) => weight !== 0 || whole[i] === 0));
      }
      assert.deepEqual(
        [
          ...(await float32(file, 'batch_normalization_1/moving_mean')),
          ...(await float32(file, 'batch_normalization_1/moving_variance')),
        ],
        [...checkpoint.state],
      );
      // Ten batches of 8 see all of the 40 images.
      const largest = Math.max(...images(Int32Array.from({ length: 40 }, (_, i) => i)).map(Math.abs));
      assert.deepEqual([...(await float32(file, 'input_1/activation_range'))], [largest]);
      assert.deepEqual(
        quantization?.ranges.map(({ name }) => name.replace('/activation_range', '')),
        ['input_1', 'conv2d_1', 'batch_normalization_1', 'dense_1', 'head'],
      );
      assert.ok(quantization.ranges.every(({ range }) => range > 0));
      assert.ok((quantization.testAccuracy ?? -1) >= 0);
    } finally {
      await file.close();
    }
  });

  it('packed: the same network as its survivors', async () => {
    const exportAs = (name: string, packed: boolean): Promise<ExportManifest> =>
      exportRun({ folder: checkpoint.folder, format: 'safetensors', quantize: 'int8', packed, out: path(name) });
    const { quantization } = await exportAs('packed', true);
    assert.deepEqual(quantization, (await exportAs('dense', false)).quantization);
    const dense = await SafetensorsFile.open(join(path('dense'), 'model.safetensors'));
    const file = await TensorFile.open(join(path('packed'), 'model.safetensors'));
    try {
      const { parameters, states } = checkpoint.manifest.model;
      assert.deepEqual(
        [...file.tensors.keys()],
        [...parameters, ...states, ...(quantization?.ranges ?? [])].map(({ name }) => name),
      );
      for (const { name, prunable } of parameters) {
        const { values, mask } = await file.readPacked(name);
        assert.ok(mask !== null, 'every parameter has dead elements');
        if (values.kind === 'float32') {
          assert.ok(!prunable);
          assert.deepEqual(await file.read(name), await float32(dense, name));
          continue;
        }
        assert.ok(prunable);
        const info = dense.tensor(name, 'I8');
        const whole = new Int8Array(info.end - info.begin);
        await dense.read(info, 0, bytesOf(whole));
        assert.deepEqual(
          values.data,
          whole.filter((_, i) => getBit(mask, i)),
        );
        assert.deepEqual(values.scales, await float32(dense, `${name}.scales`));
      }
    } finally {
      await file.close();
      await dense.close();
    }
    await assert.rejects(
      exportRun({ folder: checkpoint.folder, format: 'tfjs', quantize: 'int8', packed: true, out: path('never') }),
      { code: 'USAGE' },
    );
  });

  it('keeps what the run trained with: its bits, its names, its ranges', async () => {
    const config = {
      ...CONFIG,
      quantization: {
        weights: { bits: 4, perChannel: false } as const,
        activations: { bits: 8, decay: 0.9 } as const,
        beginStep: 7,
        match: 'head/*',
      },
    };
    const engine = await Engine.create({ config });
    const trained = await writeCheckpoint(path('trained'), engine, { config });
    engine.keepForEvaluation(7);
    const { correct } = await engine.evaluateChunk(7, 0);
    engine.dispose();
    const { quantization } = await exportRun({
      folder: trained.folder,
      format: 'safetensors',
      quantize: 'int8',
      out: path('own'),
    });
    assert.equal(quantization?.weights, 'int4 per tensor, parameters head/*');
    // Exactly the network that the run evaluates.
    assert.equal(quantization.testAccuracy, (correct ?? -1) / 40);
    assert.deepEqual(
      quantization.ranges.map(({ range }) => range),
      [...trained.state.subarray(6)],
    );
    const file = await SafetensorsFile.open(join(path('own'), 'model.safetensors'));
    const tensors = [...file.header.tensors.values()];
    await file.close();
    assert.deepEqual(
      tensors.filter(({ dtype }) => dtype === 'I8').map(({ name }) => name),
      ['head/kernel', 'head/bias'],
    );
    assert.deepEqual(file.header.tensors.get('head/kernel.scales')?.shape, [1]);
    // The float export for TensorFlow.js knows no ranges; its layers have none.
    const plain = await exportRun({ folder: trained.folder, format: 'tfjs', out: path('plain') });
    assert.equal(plain.quantization, undefined);
  });

  it('writes its accuracy into the manifest', async () => {
    const out = path('manifest');
    const exported = await exportRun({ folder: checkpoint.folder, format: 'tfjs', quantize: 'int8', out });
    const read = JSON.parse(await readFile(join(out, 'export-manifest.json'), 'utf8')) as ExportManifest;
    assert.deepEqual(read, exported);
    assert.equal(typeof read.quantization?.testAccuracy, 'number');
  });
});

async function float32(file: SafetensorsFile, name: string): Promise<Float32Array> {
  const info = file.tensor(name, 'F32');
  const values = new Float32Array((info.end - info.begin) / 4);
  await file.read(info, 0, bytesOf(values));
  return values;
}
