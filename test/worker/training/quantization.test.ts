import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'mocha';
import type { QuantizationConfig } from '../../../shared/config/quantization.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { fakeQuantize } from '../../../shared/quantization/fake-quantize.ts';
import { fakeQuantizeWeights, symmetricLimits } from '../../../shared/quantization/symmetric.ts';
import { clearBit, fullBitmap } from '../../../shared/sparsity/bitmap.ts';
import { pack } from '../../../shared/sparsity/packing.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { fakeQuantizeTensor } from '../../../worker/training/activation-quantizer.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { engineConfig, fixture } from '../../fixtures/config.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

const golden = JSON.parse(readFileSync(new URL('../../golden/training.json', import.meta.url), 'utf8')) as {
  readonly inputs: number[];
  readonly labels: number[];
};

function quantization(changes: Partial<QuantizationConfig> = {}): Partial<RunConfig> {
  return {
    quantization: {
      weights: { bits: 8, perChannel: true },
      activations: null,
      beginStep: 0,
      match: null,
      ...changes,
    },
  };
}
const ACTIVATIONS = quantization({ weights: null, activations: { bits: 8, decay: 0.99 } });
const NONE = new Float32Array(0);

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    const [a, b] = [actual[i] as number, expected[i] as number];
    assert.ok(Math.abs(a - b) <= tolerance, `element ${i}: ${a}, not ${b}`);
  }
}

describe('quantization-aware training', () => {
  const folder = temporaryFolder();
  const engines: Engine[] = [];
  let numTensors = 0;
  let numModels = 0;
  beforeEach(async () => {
    await loadBackend('wasm');
    numTensors = tf.memory().numTensors;
  });
  afterEach(() => {
    engines.splice(0).forEach((engine) => engine.dispose());
    assert.equal(tf.memory().numTensors, numTensors);
  });

  async function create(changes: Partial<RunConfig> = {}, slices = 1): Promise<Engine> {
    const engine = await Engine.create({ config: engineConfig(changes, slices) });
    engines.push(engine);
    return engine;
  }

  async function withModel(body: string, changes: Partial<RunConfig>): Promise<Engine> {
    return await create({ model: folder.write(`model-${++numModels}.ts`, body), ...changes });
  }

  /** The weights of an engine, its kernels fake-quantized. */
  function quantized({ description }: Engine, weights: Float32Array, bits: 8 | 4): Float32Array {
    const values = weights.slice();
    for (const parameter of ParameterSpace.of(description.parameters).parameters) {
      if (!parameter.prunable) continue;
      const { offset, size } = parameter;
      values.set(
        fakeQuantizeWeights(weights.subarray(offset, offset + size), parameter, { bits, perChannel: true }),
        offset,
      );
    }
    return values;
  }

  for (const bits of [8, 4] as const) {
    it(`computes the gradient at the int${bits} weights, and pushes it as it is`, async () => {
      const engine = await create(quantization({ weights: { bits, perChannel: true } }));
      const plain = await create();
      const weights = engine.initialWeights();
      const mask = fullBitmap(weights.length);
      for (let i = 0; i < weights.length; i += 3) clearBit(mask, i);
      const sparse = weights.map((x, i) => (i % 3 === 0 ? 0 : x));
      for (const each of [engine, plain]) each.setMask(mask);
      engine.setWeights(pack(weights, mask), NONE, 5);
      plain.setWeights(pack(quantized(engine, sparse, bits), mask), NONE, 5);
      assert.deepEqual(await engine.gradient(6, 0), await plain.gradient(6, 0));
      for (const each of [engine, plain]) each.keepForEvaluation(5);
      assert.deepEqual(await engine.evaluateChunk(5, 0), await plain.evaluateChunk(5, 0));
    });
  }

  it('begins with the weights of clock beginStep', async () => {
    const engine = await create(quantization({ beginStep: 3 }));
    const plain = await (await create()).gradient(1, 0);
    engine.setWeights(engine.initialWeights(), NONE, 2);
    assert.deepEqual(await engine.gradient(1, 0), plain);
    engine.setWeights(engine.initialWeights(), NONE, 3);
    assert.notDeepEqual(await engine.gradient(1, 0), plain);
  });

  it('quantizes what match names', async () => {
    const engine = await create(quantization({ weights: { bits: 4, perChannel: false }, match: 'dense_2/*' }));
    const plain = await create();
    const weights = engine.initialWeights().map((x, i) => x + (i % 7) / 50);
    const expected = weights.slice();
    for (const parameter of ParameterSpace.of(engine.description.parameters).parameters.slice(2)) {
      const { offset, size } = parameter;
      const part = weights.subarray(offset, offset + size);
      expected.set(fakeQuantizeWeights(part, parameter, { bits: 4, perChannel: false }), offset);
    }
    engine.setWeights(weights, NONE, 1);
    plain.setWeights(expected, NONE, 1);
    assert.deepEqual(await engine.gradient(1, 0), await plain.gradient(1, 0));
  });

  describe('of activations', () => {
    it('gives what whole numbers stand for, with gradient 1 within the range and 0 beyond', () => {
      const range = 1.27;
      const xs = Float32Array.from({ length: 401 }, (_, i) => (i - 200) * 0.0101);
      const { value, grad } = tf.tidy(() => {
        const { value, grad } = tf.valueAndGrad((x) => tf.sum(fakeQuantizeTensor(tf, x, range)))(tf.tensor1d(xs));
        return { value: value.dataSync()[0] as number, grad: grad.dataSync() };
      });
      const scale = Math.fround(range / 127);
      const faked = fakeQuantize(xs, { scale, zeroPoint: 0, ...symmetricLimits(8) });
      assert.deepEqual(
        tf.tidy(() => Float32Array.from(fakeQuantizeTensor(tf, tf.tensor1d(xs), range).dataSync())),
        faked,
      );
      assert.ok(Math.abs(value - faked.reduce((a, b) => a + b)) < 1e-3);
      // torch: 1 where round(x / scale) is one of the whole numbers, which is up to 127.5 x scale.
      assert.deepEqual(
        [...grad],
        [...xs].map((x) => (Math.abs(x) < 127.5 * scale ? 1 : 0)),
      );
      // Differences over many steps of the grid, away from the ends of the range, see a line.
      const f = (x: number): number =>
        fakeQuantize(Float32Array.of(x), { scale, zeroPoint: 0, ...symmetricLimits(8) })[0] as number;
      const h = 20 * scale;
      for (const x of [-2, -1.7, -0.9, 0, 0.31, 0.8, 1.6, 2]) {
        const slope = (f(x + h) - f(x - h)) / (2 * h);
        assert.ok(Math.abs(slope - (Math.abs(x) < range ? 1 : 0)) < 0.03, `slope ${slope} at ${x}`);
      }
    });

    it('tells ranges as states: the input and every layer that computes, but the last', async () => {
      const names = ({ description }: Engine): unknown => description.states.map(({ name, shape }) => [name, ...shape]);
      assert.deepEqual(names(await create(ACTIVATIONS)), [['input_1/activation_range'], ['dense_1/activation_range']]);
      assert.deepEqual(names(await create({ ...ACTIVATIONS, model: fixture('bn-dropout-model.ts') })), [
        ['batch_normalization_1/moving_mean', 16],
        ['batch_normalization_1/moving_variance', 16],
        ['input_1/activation_range'],
        ['dense_1/activation_range'],
        ['batch_normalization_1/activation_range'],
        ['activation_1/activation_range'],
      ]);
    });

    it('only observes before beginStep: the first time whole, then a moving average', async () => {
      const engine = await create({
        ...quantization({ weights: null, activations: { bits: 8, decay: 0.75 }, beginStep: 5 }),
      });
      const plain = await (await create()).gradient(1, 0);
      const state = engine.initialState();
      assert.deepEqual([...state], [0, 0]);
      engine.setWeights(engine.initialWeights(), state, 0);
      const { stateDelta, ...first } = await engine.gradient(1, 0);
      assert.deepEqual({ ...first, stateDelta: NONE }, plain);
      const largest = Math.max(...golden.inputs.slice(0, 32 * 20).map(Math.abs));
      assert.equal(stateDelta[0], Math.fround(largest));
      engine.setWeights(engine.initialWeights(), Float32Array.of(8, 8), 4);
      assert.ok(Math.abs(((await engine.gradient(1, 0)).stateDelta[0] as number) - (largest - 8) / 4) < 1e-6);
    });

    it('computes loss and gradient of the quantized network', async () => {
      const engine = await create(ACTIVATIONS);
      const weights = engine.initialWeights().map((x, i) => x + Math.sin(i) / 4);
      // Smaller than what comes, so that some of it is cut off.
      const state = Float32Array.of(1.5, 1);
      engine.setWeights(weights, state, 0);
      const { loss, gradient, stateDelta } = await engine.gradient(1, 0);
      const after = state.map((range, i) => range + (stateDelta[i] as number));
      const expected = reference(weights, after);
      assert.ok(expected.cutOff > 10 && expected.cutOff < 400, `${expected.cutOff} activations are cut off`);
      assert.ok(Math.abs(loss - expected.loss) < 1e-5, `${loss}, not ${expected.loss}`);
      assertClose(gradient, expected.gradient, 1e-5);
      // Evaluation leaves the ranges alone, and uses them.
      engine.setWeights(weights, after, 1);
      engine.keepForEvaluation(1);
      const { lossSum } = await engine.evaluateChunk(1, 0);
      assert.ok(Math.abs(lossSum / 256 - reference(weights, after, 256).loss) < 1e-5);
      assert.deepEqual((await engine.evaluateChunk(1, 0)).lossSum, lossSum);
    });

    it('gives the same for a slice whatever was computed before it', async () => {
      const engine = await create(ACTIVATIONS, 2);
      const first = await engine.gradient(1, 0);
      const second = await engine.gradient(1, 1);
      assert.notDeepEqual(first.stateDelta, second.stateDelta);
      assert.deepEqual(await engine.gradient(1, 0), first);
    });

    it('leaves numbers of words as they are, and passes shared layers twice', async () => {
      const engine = await withModel(
        `export const model = (tf: any) => {
          const words = tf.input({ shape: [20] });
          const shared = tf.layers.dense({ units: 5, activation: 'relu' });
          const first = shared.apply(tf.layers.reshape({ targetShape: [20] }).apply(words));
          const index = tf.layers.embedding({ inputDim: 9, outputDim: 20 })
            .apply(tf.layers.reshape({ targetShape: [20] }).apply(words));
          const second = shared.apply(tf.layers.globalAveragePooling1d().apply(index));
          return tf.model({ inputs: words, outputs:
            tf.layers.dense({ units: 4 }).apply(tf.layers.concatenate().apply([first, second])) }); };`,
        {
          ...ACTIVATIONS,
          data: {
            source: folder.write(
              'words.ts',
              `export const classes = 4;
               export const train = { size: 32, batch: (indices) => ({
                 inputs: { data: Float32Array.from({ length: 20 * indices.length }, (_, i) => i % 9), shape: [indices.length, 20] },
                 labels: { data: Int32Array.from(indices, (i) => i % 4), shape: [indices.length] } }) };`,
            ),
            batchSize: 32,
            order: 'sequential',
          },
        },
      );
      assert.deepEqual(
        engine.description.states.map(({ name }) => name.replace('/activation_range', '')),
        ['embedding_1', 'global_average_pooling1d_1', 'dense_1', 'concatenate_1'],
      );
      const { stateDelta, loss } = await engine.gradient(1, 0);
      assert.ok(Number.isFinite(loss) && stateDelta.every((range) => range > 0), `${stateDelta.join()}`);
    });

    it('shows activations that are not finite, though ranges would cut them off', async () => {
      const engine = await create(ACTIVATIONS);
      const weights = engine.initialWeights();
      weights.fill(3e38, 0, 320);
      engine.setWeights(weights, Float32Array.of(1, 1), 1);
      await assert.rejects(engine.gradient(2, 0), { code: 'NOT_FINITE' });
    });
  });
});

/** The golden model, 20 -> 16 relu -> 4, by hand in float64, its activations quantized within the two ranges. */
function reference(
  weights: Float32Array,
  ranges: Float32Array,
  examples = 32,
): { readonly loss: number; readonly gradient: Float64Array; readonly cutOff: number } {
  const gradient = new Float64Array(weights.length);
  const [w1, b1, w2, b2] = [0, 320, 336, 400];
  let [loss, cutOff] = [0, 0];
  const faked = (values: Float32Array, k: number): Float32Array =>
    fakeQuantize(values, { scale: Math.fround((ranges[k] as number) / 127), zeroPoint: 0, ...symmetricLimits(8) });
  for (let n = 0; n < examples; n++) {
    const inputs = Float32Array.from(golden.inputs.slice(20 * n, 20 * n + 20));
    const x = faked(inputs, 0);
    const hidden = new Float32Array(16).map((_, j) => {
      let sum = weights[b1 + j] as number;
      for (let i = 0; i < 20; i++) sum += (x[i] as number) * (weights[w1 + i * 16 + j] as number);
      return Math.max(0, sum);
    });
    const h = faked(hidden, 1);
    const logits = Array.from({ length: 4 }, (_, c) => {
      let sum = weights[b2 + c] as number;
      for (let j = 0; j < 16; j++) sum += (h[j] as number) * (weights[w2 + j * 4 + c] as number);
      return sum;
    });
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
    const label = golden.labels[n] as number;
    loss += (Math.log(total) - (logits[label] as number)) / examples;
    const slopes = logits.map((logit, c) => (Math.exp(logit) / total - (c === label ? 1 : 0)) / examples);
    slopes.forEach((slope, c) => (gradient[b2 + c]! += slope));
    for (let j = 0; j < 16; j++) {
      let back = 0;
      slopes.forEach((slope, c) => {
        gradient[w2 + j * 4 + c]! += slope * (h[j] as number);
        back += slope * (weights[w2 + j * 4 + c] as number);
      });
      const isCut = (hidden[j] as number) >= (127.5 / 127) * (ranges[1] as number);
      if (isCut) cutOff++;
      if (isCut || hidden[j] === 0) continue;
      gradient[b1 + j]! += back;
      for (let i = 0; i < 20; i++) gradient[w1 + i * 16 + j]! += back * (x[i] as number);
    }
  }
  return { loss, gradient, cutOff };
}
