import assert from 'node:assert/strict';
import type { Tensor as TfTensor } from '@tensorflow/tfjs-core';
import type { LayersModel, SymbolicTensor, layers as tflLayers } from '@tensorflow/tfjs-layers';
import { InferenceSession, Tensor } from 'onnxruntime-web';
import { convertModel } from '../../../../deploy/export/onnx/convert.ts';
import { decodeModel, encodeModel } from '../../../../deploy/export/onnx/proto.ts';
import { transposed } from '../../../../deploy/export/onnx/transpose.ts';
import { lenet300100 } from '../../../../worker/model/built-in/lenet-300-100.ts';
import { lenet5 } from '../../../../worker/model/built-in/lenet-5.ts';
import { loadBackend } from '../../../../worker/backend/backend.ts';
import { assertSupported } from '../../../../worker/backend/supported.ts';
import { tf } from '../../../../worker/backend/tf.ts';
import { gaussian, uniform } from '../../../shared/packed/draws.ts';

const { layers } = tf;
const BATCH = 3;

describe('convertModel', function () {
  this.timeout(20_000);
  // The oracle is what Whittle trains with: the plain JavaScript backend normalises along other axes wrongly.
  before(() => loadBackend('wasm'));

  /** Both sides on the same inputs; weights are random, those of normalisations too. Answers the operators used. */
  async function compare(model: LayersModel, tolerance = 1e-4): Promise<string[]> {
    assertSupported(model);
    const random = uniform(7);
    const normal = gaussian(random);
    for (const weight of model.weights) {
      const isVariance = weight.originalName.endsWith('variance');
      const size = weight.shape.reduce<number>((product, each) => product * (each ?? 1), 1);
      const values = new Float32Array(size).map(() => (isVariance ? 0.5 + random() : 0.3 * normal()));
      weight.write(tf.tensor(values, weight.shape as number[]));
    }
    const bytes = encodeModel(convertModel(model, { runId: 'mine' }).model);
    const session = await InferenceSession.create(bytes);
    const feeds = model.inputs.map((input) => {
      const shape = [BATCH, ...input.shape.slice(1).map((size) => size ?? 5)];
      return tf.tensor(
        new Float32Array(shape.reduce((a, b) => a * b, 1)).map(() => normal()),
        shape,
      );
    });
    const expected: TfTensor[] = [model.predict(feeds)].flat();
    const given = Object.fromEntries(
      feeds.map((feed, k) => [
        model.inputNames[k] as string,
        new Tensor('float32', feed.dataSync<'float32'>(), feed.shape),
      ]),
    );
    const outputs = await session.run(given);
    assert.deepEqual(Object.keys(outputs), model.outputNames);
    for (const [k, name] of model.outputNames.entries()) {
      const output = outputs[name] as Tensor;
      const wanted = (expected[k] as TfTensor).dataSync<'float32'>();
      assert.deepEqual([...output.dims], (expected[k] as TfTensor).shape, name);
      const data = output.data as Float32Array;
      assert.ok(
        wanted.some((value) => Math.abs(value) > 1e-3),
        'the outputs say something',
      );
      wanted.forEach((value, i) => {
        const difference = Math.abs(value - (data[i] as number));
        assert.ok(difference <= tolerance * Math.max(1, Math.abs(value)), `${name}[${i}]: ${value}, ONNX ${data[i]}`);
      });
    }
    await session.release();
    return (decodeModel(bytes).graph?.node ?? []).map(({ opType }) => opType);
  }

  it('LeNet-300-100 gives the outputs of Whittle', async () => {
    const model = lenet300100(tf, { inputShape: [28, 28, 1], classes: 10 });
    const operators = await compare(model);
    assert.deepEqual(
      operators.filter((each) => each === 'MatMul'),
      ['MatMul', 'MatMul', 'MatMul'],
    );
  });

  it('LeNet-5 gives the outputs of Whittle, with two transposes in all', async () => {
    const operators = await compare(lenet5(tf, { inputShape: [28, 28, 1], classes: 10 }));
    assert.equal(operators.filter((each) => each === 'Transpose').length, 2, operators.join(' '));
  });

  it('batch normalisation, depthwise convolution, addition and concatenation', async () => {
    const input = tf.input({ shape: [9, 8, 3] });
    const first = layers
      .conv2d({ filters: 4, kernelSize: 3, strides: 2, padding: 'same', useBias: false })
      .apply(input);
    const normal = layers.batchNormalization({ epsilon: 0.01 }).apply(first);
    const active = layers.reLU({ maxValue: 6 }).apply(normal);
    const deep = layers
      .depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, padding: 'same', activation: 'swish' })
      .apply(active);
    const back = layers.conv2d({ filters: 4, kernelSize: 1, activation: 'tanh' }).apply(deep) as SymbolicTensor;
    const sum = layers.add().apply([active as SymbolicTensor, back, active as SymbolicTensor]);
    const both = layers.concatenate().apply([sum as SymbolicTensor, deep as SymbolicTensor]);
    const dropped = layers.dropout({ rate: 0.5 }).apply(both);
    const pooled = layers.globalAveragePooling2d({}).apply(dropped);
    const flat = layers.flatten().apply(layers.averagePooling2d({ poolSize: 2, padding: 'same' }).apply(both));
    const head = layers
      .dense({ units: 5, activation: 'softmax' })
      .apply(layers.concatenate({ axis: -1 }).apply([pooled as SymbolicTensor, flat as SymbolicTensor]));
    await compare(tf.model({ inputs: input, outputs: head as SymbolicTensor }));
  });

  const single: Record<string, () => tflLayers.Layer[]> = {
    'convolution with dilation, same': () => [
      layers.conv2d({ inputShape: [9, 7, 2], filters: 3, kernelSize: [3, 2], dilationRate: 2, padding: 'same' }),
    ],
    'convolution with stride, valid': () => [
      layers.conv2d({ inputShape: [9, 7, 2], filters: 3, kernelSize: 3, strides: [2, 1] }),
    ],
    'convolution over images of any size, same': () => [
      layers.conv2d({
        inputShape: [null, null, 2],
        filters: 3,
        kernelSize: 3,
        padding: 'same',
        strides: 2,
      }),
    ],
    'convolution with softmax over channels': () => [
      layers.conv2d({ inputShape: [5, 5, 2], filters: 3, kernelSize: 2, activation: 'softmax' }),
    ],
    'convolution with channels first': () => [
      layers.conv2d({ inputShape: [2, 6, 5], filters: 3, kernelSize: 2, dataFormat: 'channelsFirst' }),
      layers.maxPooling2d({ poolSize: 2, dataFormat: 'channelsFirst' }),
      layers.flatten({ dataFormat: 'channelsFirst' }),
    ],
    'one dimension': () => [
      layers.conv1d({ inputShape: [11, 2], filters: 4, kernelSize: 3, padding: 'same', activation: 'elu' }),
      layers.maxPooling1d({ poolSize: 2 }),
      layers.averagePooling1d({ poolSize: 2, padding: 'same' }),
      layers.globalMaxPooling1d({}),
    ],
    'pooling with padding and overlap': () => [
      layers.averagePooling2d({ inputShape: [7, 6, 2], poolSize: 3, strides: 2, padding: 'same' }),
      layers.maxPooling2d({ poolSize: 3, strides: 1, padding: 'same' }),
      layers.globalMaxPooling2d({}),
    ],
    'normalisation of features and of the first axis': () => [
      layers.dense({ inputShape: [6], units: 8, activation: 'selu' }),
      layers.batchNormalization({ center: false }),
      layers.reshape({ targetShape: [2, 4] }),
      layers.batchNormalization({ axis: 1, scale: false }),
      layers.softmax({ axis: -1 }),
    ],
    'layers of activations': () => [
      layers.dense({ inputShape: [6], units: 9, activation: 'softplus' }),
      layers.activation({ activation: 'softsign' }),
      layers.leakyReLU({ alpha: 0.2 }),
      layers.elu({ alpha: 1 }),
      layers.gaussianNoise({ stddev: 1 }),
      layers.activation({ activation: 'hardSigmoid' }),
      layers.thresholdedReLU({ theta: 0.4 }),
      layers.activation({ activation: 'mish' }),
      layers.reLU(),
      layers.activation({ activation: 'sigmoid' }),
      layers.activation({ activation: 'relu6' }),
      layers.dense({ units: 3, useBias: false, activation: 'logSoftmax' as 'softmax' }),
    ],
    'dense over the last of three axes': () => [layers.dense({ inputShape: [4, 5], units: 2, activation: 'relu' })],
  };
  for (const [name, make] of Object.entries(single)) {
    it(name, async () => {
      await compare(tf.sequential({ layers: make() }));
    });
  }

  it('nested and shared parts, several inputs and outputs', async () => {
    const tower = tf.sequential({
      name: 'tower',
      layers: [layers.dense({ inputShape: [4], units: 3, activation: 'relu' }), layers.dense({ units: 3 })],
    });
    const [a, b] = [tf.input({ shape: [4], name: 'a' }), tf.input({ shape: [4], name: 'b' })];
    const [left, right] = [tower.apply(a) as SymbolicTensor, tower.apply(b) as SymbolicTensor];
    const joined = layers.add({ name: 'joined' }).apply([left, right]) as SymbolicTensor;
    const model = tf.model({ inputs: [a, b], outputs: [joined, left] });
    const { model: written } = convertModel(model, {});
    // Two layers of kernel and bias, stored once although used twice.
    assert.equal(written.graph?.initializer?.length, 4);
    const operators = await compare(model);
    assert.equal(operators.filter((each) => each === 'MatMul').length, 4);
  });

  it('refuses other layers and activations by name', () => {
    const lstm = tf.sequential({
      layers: [layers.lstm({ inputShape: [3, 2], units: 2, name: 'memory', recurrentInitializer: 'zeros' })],
    });
    assert.throws(
      () => convertModel(lstm, {}),
      /\[UNSUPPORTED\] layer memory \(LSTM\) cannot be exported as ONNX.*--format tfjs/,
    );
    const gelu = tf.sequential({
      layers: [layers.dense({ inputShape: [3], units: 2, activation: 'gelu', name: 'head' })],
    });
    assert.throws(
      () => convertModel(gelu, {}),
      /\[UNSUPPORTED\] layer head \(Dense\) .*activation gelu is not among linear/,
    );
  });
});

describe('transposed', () => {
  it('moves each element to its place', () => {
    // [2, 3] to [3, 2]: rows become columns.
    assert.deepEqual(transposed(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 3], [1, 0]), Float32Array.of(1, 4, 2, 5, 3, 6));
    // [2, 1, 3] with axes 2, 0, 1: element [i, 0, j] goes to [j, i, 0].
    assert.deepEqual(
      transposed(Float32Array.of(1, 2, 3, 4, 5, 6), [2, 1, 3], [2, 0, 1]),
      Float32Array.of(1, 4, 2, 5, 3, 6),
    );
    assert.deepEqual(transposed(Float32Array.of(7), [], []), Float32Array.of(7));
  });
});
