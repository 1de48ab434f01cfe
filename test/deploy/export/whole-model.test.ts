import assert from 'node:assert/strict';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-web';
import { decodeModel } from '../../../deploy/export/onnx/proto.ts';
import { exportRun } from '../../../deploy/export/export.ts';
import { bytesOf } from '../../../shared/checkpoint/safetensors.ts';
import { countSurvivors, densify } from '../../../shared/packed/packed-tensor.ts';
import { TensorFile } from '../../../shared/packed/tensor-file.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { images } from './fixtures/image-data.ts';
import { loadByStranger } from './stranger.ts';
import { CONFIG, writeCheckpoint, type Written } from './support.ts';

describe('export of a model with latent, frozen and non-trainable weights', () => {
  let engine: Engine;
  let folder: string;
  let checkpoint: Written;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'whittle-export-'));
    engine = await Engine.create({ config: CONFIG });
    checkpoint = await writeCheckpoint(folder, engine);
  });
  after(async () => {
    engine.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  it('loads in a process that has TensorFlow.js only, which predicts what the engine does', async () => {
    const out = join(folder, 'stranger');
    await exportRun({ folder: checkpoint.folder, format: 'tfjs', out });
    const { outputs, weights } = await loadByStranger(out);
    assert.deepEqual([...weights].sort(), [
      'batch_normalization_1/beta',
      'batch_normalization_1/gamma',
      'batch_normalization_1/moving_mean',
      'batch_normalization_1/moving_variance',
      'conv2d_1/bias',
      'conv2d_1/kernel',
      'dense_1/bias',
      'dense_1/kernel',
      'dense_2/bias',
      'dense_2/kernel',
      'head/bias',
      'head/kernel',
    ]);
    engine.keepForEvaluation(7);
    const { correct, lossSum } = await engine.evaluateChunk(7, 0);
    assert.equal(outputs.length, 160);
    let hits = 0;
    let loss = 0;
    for (let example = 0; example < 40; example++) {
      const logits = outputs.slice(4 * example, 4 * example + 4);
      const label = example % 4;
      if (logits.indexOf(Math.max(...logits)) === label) hits++;
      loss += Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0)) - (logits[label] ?? 0);
    }
    assert.equal(hits, correct);
    // The engine computes in float32 with wasm, the stranger with plain JavaScript.
    assert.ok(Math.abs(loss - lossSum) < 1e-5 * lossSum, `loss ${loss}, the engine has ${lossSum}`);
  });

  it('has the bits of the checkpoint, +0 for latent weights, and the frozen weights as the run built them', async () => {
    const out = join(folder, 'bits');
    const tensors = tf.memory().numTensors;
    await exportRun({ folder: checkpoint.folder, format: 'tfjs', out });
    assert.equal(tf.memory().numTensors, tensors, 'the export leaves no tensors');
    const { weightsManifest } = JSON.parse(await readFile(join(out, 'model.json'), 'utf8')) as {
      weightsManifest: { weights: { name: string; shape: number[] }[] }[];
    };
    const { parameters, states } = checkpoint.manifest.model;
    assert.deepEqual(
      weightsManifest[0]?.weights.map(({ name }) => name),
      [...[...parameters, ...states].map(({ name }) => name), 'dense_1/kernel', 'dense_1/bias'],
    );
    const bytes = await readFile(join(out, 'weights.bin'));
    const trained = Buffer.concat([bytesOf(checkpoint.effective), bytesOf(checkpoint.state)]);
    assert.deepEqual(bytes.subarray(0, trained.length), trained);
    // dense_1: 48 x 8 kernel elements drawn from the seed, 8 biases that are zero.
    const frozen = new Float32Array(new Uint8Array(bytes.subarray(trained.length)).buffer);
    assert.equal(frozen.length, 48 * 8 + 8);
    assert.ok(frozen.subarray(0, 48 * 8).every((weight) => weight !== 0));
    assert.ok(frozen.subarray(48 * 8).every((bias) => bias === 0));
  });

  it('onnx: every weight in the file, and the outputs of the engine', async () => {
    const out = join(folder, 'onnx');
    const tensors = tf.memory().numTensors;
    const notes: string[] = [];
    await exportRun({ folder: checkpoint.folder, format: 'onnx', out, note: (message) => notes.push(message) });
    assert.equal(tf.memory().numTensors, tensors, 'the export leaves no tensors');
    assert.deepEqual(notes, [], 'outputs were compared');
    assert.deepEqual((await readdir(out)).sort(), ['export-manifest.json', 'model.onnx']);
    const file = await readFile(join(out, 'model.onnx'));
    const { graph, metadataProps } = decodeModel(file);
    assert.equal(new Map(metadataProps.map(({ key, value }) => [key, value])).get('runId'), 'images');
    // The kernel of `head` [8, 5] as it is: dense kernels keep their order.
    const { parameters } = checkpoint.manifest.model;
    const index = parameters.findIndex(({ name }) => name === 'head/kernel');
    const offset = parameters.slice(0, index).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const kernel = graph?.initializer.find(({ name }) => name === 'head/kernel')?.rawData;
    assert.deepEqual(
      new Float32Array(new Uint8Array(kernel ?? []).buffer),
      checkpoint.effective.slice(offset, offset + 40),
    );
    engine.keepForEvaluation(8);
    const { correct } = await engine.evaluateChunk(8, 0);
    engine.dropEvaluation(8);
    const session = await InferenceSession.create(file);
    const input = new OnnxTensor('float32', images(Int32Array.from({ length: 40 }, (_, i) => i)), [40, 6, 6, 1]);
    const outputs = await session.run({ [session.inputNames[0] as string]: input });
    const logits = outputs[session.outputNames[0] as string]?.data as Float32Array;
    await session.release();
    const hits = Array.from({ length: 40 }, (_, i) => {
      const own = [...logits.slice(4 * i, 4 * i + 4)];
      return own.indexOf(Math.max(...own)) === i % 4 ? 1 : 0;
    }).reduce((sum: number, hit) => sum + hit, 0);
    assert.equal(hits, correct);
  });

  it('packed: survivors only, the bits of the checkpoint when read, and smaller than dense', async () => {
    const out = join(folder, 'packed');
    const exported = await exportRun({ folder: checkpoint.folder, format: 'safetensors', packed: true, out });
    assert.deepEqual([exported.packed, exported.files.length], [true, 1]);
    const file = await TensorFile.open(join(out, 'model.safetensors'));
    const { parameters, states } = checkpoint.manifest.model;
    assert.deepEqual(
      [...file.tensors.keys()],
      [...parameters, ...states].map(({ name }) => name),
    );
    const read: number[] = [];
    let survivors = 0;
    for (const name of file.tensors.keys()) {
      const tensor = await file.readPacked(name);
      survivors += countSurvivors(tensor);
      read.push(...densify(tensor));
    }
    assert.deepEqual(Float32Array.from(read), Float32Array.of(...checkpoint.effective, ...checkpoint.state));
    assert.equal(file.metadata['weightsDigest'], exported.weightsDigest);
    await file.close();
    // Every third parameter element is dead, latent ones among them; states all count.
    const dead = Math.floor((checkpoint.effective.length + 1) / 3);
    assert.equal(survivors, checkpoint.effective.length - dead + checkpoint.state.length);
    await assert.rejects(exportRun({ folder: checkpoint.folder, format: 'tfjs', packed: true, out: `${out}2` }), {
      code: 'USAGE',
      message: /--packed goes with --format safetensors, not with tfjs/,
    });
  });

  it('refuses a checkpoint of which one bit of one weight has changed, which only its hash tells', async () => {
    const other = join(folder, 'flipped');
    const flipped = await writeCheckpoint(other, engine);
    const shard = join(flipped.folder, flipped.manifest.shards[1]?.file ?? '');
    const bytes = await readFile(shard);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 4) ^ 1, bytes.length - 4);
    await writeFile(shard, bytes);
    for (const format of ['tfjs', 'safetensors'] as const) {
      await assert.rejects(exportRun({ folder: flipped.folder, format, out: join(other, 'out') }), {
        code: 'CHECKPOINT',
        message: /does not match its sha256/,
      });
    }
    assert.deepEqual(await readdir(other), ['checkpoints']);
  });

  it('says what to do where the module is gone that built the frozen weights', async () => {
    const { manifest } = checkpoint;
    const other = join(folder, 'other');
    const config = { ...CONFIG, model: join(folder, 'gone.ts') };
    const moved = await writeCheckpoint(other, engine, { ...manifest, config });
    await assert.rejects(exportRun({ folder: moved.folder, format: 'tfjs', out: join(other, 'out') }), {
      code: 'MODEL',
      message: /gone\.ts/,
    });
    assert.deepEqual(await readdir(other), ['checkpoints']);
    await exportRun({ folder: moved.folder, format: 'safetensors', out: join(other, 'out') });
  });
});
