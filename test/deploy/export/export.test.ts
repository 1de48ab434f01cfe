import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import * as core from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { requireSameBytes } from '../../../deploy/export/dense-tensors.ts';
import { EXPORT_MANIFEST, exportRun } from '../../../deploy/export/export.ts';
import { SafetensorsFile } from '../../../shared/checkpoint/safetensors.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { describeModel } from '../../../worker/model/describe-model.ts';
import { bitmap, useFolder, writeCheckpoint } from '../../shared/checkpoint/fixtures.ts';

/** Convolution, normalisation (two states) and two dense layers, one of them named by the user. */
function build(): tfl.LayersModel {
  return tfl.sequential({
    layers: [
      tfl.layers.conv2d({ inputShape: [6, 6, 1], filters: 3, kernelSize: 3, activation: 'relu' }),
      tfl.layers.batchNormalization(),
      tfl.layers.flatten(),
      tfl.layers.dense({ units: 5, activation: 'tanh' }),
      tfl.layers.dense({ units: 4, name: 'logits' }),
    ],
  });
}

describe('exportRun', () => {
  const run = useFolder();
  let previous: string | undefined;
  before(async () => {
    previous = core.getBackend();
    core.enableProdMode();
    await import('@tensorflow/tfjs-backend-cpu');
    await core.setBackend('cpu');
  });
  after(async () => {
    if (previous !== undefined) await core.setBackend(previous);
  });

  /** A checkpoint of a model in which every third element of the parameter space is dead, and what a user's model then has. */
  async function train(flatten = 'Flatten'): Promise<{
    folder: string;
    expected: Map<string, Float32Array>;
    predict: (x: core.Tensor) => Float32Array;
    done: () => void;
  }> {
    const model = build();
    const built = describeModel(model, { trainExamples: 8, testExamples: 0, notes: [] });
    const topology: unknown = JSON.parse(JSON.stringify(built.topology).replace('"Flatten"', `"${flatten}"`));
    const description = { ...built, topology };
    const variables = [...model.trainableWeights, ...model.nonTrainableWeights];
    const expected = new Map<string, Float32Array>();
    const size = description.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const survives = (i: number): boolean => i % 3 !== 1;
    const weights: number[] = [];
    let flat = 0;
    let state: number[] = [];
    for (const [index, { name }] of [...description.parameters, ...description.states].entries()) {
      const variable = variables[index]!;
      const isState = index >= description.parameters.length;
      const values = Float32Array.from(variable.read().dataSync(), (value, i) =>
        isState ? 1 + i / 8 : value + 0.01 * i,
      );
      if (isState) state = [...state, ...values];
      else {
        values.forEach((value, i) => {
          if (survives(flat + i)) weights.push(value);
          else values[i] = 0;
        });
        flat += values.length;
      }
      expected.set(name, values);
      variable.write(core.tensor(values, variable.shape as number[]));
    }
    const bits = bitmap(size, survives);
    const whole = {
      start: 0,
      end: size,
      stored: bits,
      mask: bits,
      weights: Float32Array.from(weights),
      slots: {},
      state: Float32Array.from(state),
    };
    const store = new CheckpointStore(run());
    const manifest = await writeCheckpoint(store, { whole, description, cuts: [0, 64, 128, size] });
    return {
      folder: store.folderOf(manifest),
      expected,
      predict: (x) => core.tidy(() => (model.predict(x) as core.Tensor).dataSync() as Float32Array),
      done: () => model.dispose(),
    };
  }

  it('tfjs: stock loadLayersModel over HTTP gives the same weights and predictions', async () => {
    const { folder, expected, predict, done } = await train();
    const out = join(run(), 'exports', 'model');
    const before = core.memory().numTensors;
    const manifest = await exportRun({ folder, format: 'tfjs', out });
    assert.equal(core.memory().numTensors, before, 'the export leaves no tensors');
    assert.deepEqual(readdirSync(out).sort(), [EXPORT_MANIFEST, 'model.json', 'weights.bin']);
    const server = createServer((request, response) => response.end(readFileSync(join(out, request.url!)))).listen(
      0,
      '127.0.0.1',
    );
    try {
      await new Promise((resolve) => server.once('listening', resolve));
      const loaded = await tfl.loadLayersModel(`http://127.0.0.1:${(server.address() as AddressInfo).port}/model.json`);
      assert.deepEqual(
        new Map(loaded.weights.map((weight) => [weight.originalName, Float32Array.from(weight.read().dataSync())])),
        new Map(loaded.weights.map(({ originalName }) => [originalName, expected.get(originalName)])),
      );
      assert.equal(loaded.weights.length, expected.size);
      const x = core.tensor(
        Float32Array.from({ length: 72 }, (_, i) => ((i * 7) % 11) / 11),
        [2, 6, 6, 1],
      );
      assert.deepEqual(
        core.tidy(() => (loaded.predict(x) as core.Tensor).dataSync()),
        predict(x),
      );
      core.dispose(x);
      loaded.dispose();
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
    assert.equal(manifest.testAccuracy, 0.75);
    // conv2d_1/kernel: 27 elements 0..26, of which i % 3 = 1 are dead: 9.
    assert.deepEqual(manifest.layers[0], {
      name: 'conv2d_1/kernel',
      size: 27,
      survivors: 18,
      zeroSurvivors: 0,
      prunable: true,
      // Filters of 9 neighbours, of which a third is dead.
      units: 3,
      deadUnits: 1,
      bytes: 72,
      churn: null,
      sparsity: 1 - 18 / 27,
    });
    for (const { file, bytes, sha256 } of manifest.files) {
      const content = readFileSync(join(out, file));
      assert.deepEqual([bytes, sha256], [content.length, createHash('sha256').update(content).digest('hex')]);
    }
    assert.deepEqual(JSON.parse(readFileSync(join(out, EXPORT_MANIFEST), 'utf8')), manifest);
    done();
  });

  it('safetensors: dense tensors under their names, with metadata', async () => {
    const { folder, expected, done } = await train();
    const out = join(run(), 'safe');
    const manifest = await exportRun({ folder, format: 'safetensors', out });
    const file = await SafetensorsFile.open(join(out, 'model.safetensors'));
    for (const [name, values] of expected) {
      const info = file.tensor(name, 'F32');
      const read = new Float32Array(values.length);
      await file.read(info, 0, new Uint8Array(read.buffer));
      assert.deepEqual(read, values, name);
    }
    assert.equal(file.header.tensors.size, expected.size);
    assert.equal(file.header.metadata['format'], 'tf');
    assert.equal(file.header.metadata['weightsDigest'], manifest.weightsDigest);
    await file.close();
    done();
  });

  it('overwrites only an earlier export, and only with force', async () => {
    const { folder, done } = await train();
    const out = join(run(), 'out');
    await exportRun({ folder, format: 'tfjs', out });
    await assert.rejects(exportRun({ folder, format: 'safetensors', out }), /\[USAGE\] .*out exists.*--force/);
    await exportRun({ folder, format: 'safetensors', out, force: true });
    assert.deepEqual(readdirSync(out).sort(), [EXPORT_MANIFEST, 'model.safetensors']);
    const precious = join(run(), 'precious');
    mkdirSync(precious);
    writeFileSync(join(precious, 'thesis.tex'), '');
    await assert.rejects(exportRun({ folder, format: 'tfjs', out: precious, force: true }), /not an earlier export/);
    assert.deepEqual(readdirSync(run()).sort(), ['checkpoints', 'out', 'precious']);
    done();
  });

  it('leaves nothing behind of a model that TensorFlow.js cannot rebuild', async () => {
    const { folder, done } = await train('MyFlatten');
    await assert.rejects(
      exportRun({ folder, format: 'tfjs', out: join(run(), 'out') }),
      /\[UNSUPPORTED\] .*MyFlatten.*--format safetensors/s,
    );
    assert.deepEqual(readdirSync(run()), ['checkpoints']);
    done();
  });

  it('refuses a damaged checkpoint', async () => {
    const { folder, done } = await train();
    writeFileSync(join(folder, 'shard-1.safetensors'), readFileSync(join(folder, 'shard-1.safetensors')).fill(9, 400));
    await assert.rejects(
      exportRun({ folder, format: 'safetensors', out: join(run(), 'out') }),
      /\[CHECKPOINT\] .*shard-1/,
    );
    done();
  });
});

describe('requireSameBytes', () => {
  async function* stream(...chunks: number[][]): AsyncGenerator<Uint8Array> {
    for (const chunk of chunks) yield Uint8Array.from(chunk);
  }
  it('compares streams whatever their chunks', async () => {
    await requireSameBytes('f', stream([1, 2], [3], [], [4, 5, 6]), stream([1], [2, 3, 4, 5], [6]));
    for (const other of [[[1, 2, 3, 4, 5, 7]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5, 6], [7]], []]) {
      await assert.rejects(
        requireSameBytes('f', stream([1, 2], [3], [4, 5, 6]), stream(...other)),
        /\[DISK\] f, read back, differs/,
      );
    }
  });
});
