import assert from 'node:assert/strict';
import { afterEach, describe, it } from 'mocha';
import type { RunConfig } from '../../../shared/config/types.ts';
import { sliceIndices } from '../../../shared/layout/slices.ts';
import { Engine } from '../../../worker/training/engine.ts';
import { engineConfig, fixture } from '../../fixtures/config.ts';
import { train } from '../../fixtures/golden-data.ts';
import { tf } from '../../../worker/backend/tf.ts';

const UNITS = 16;
const FEATURES = 20;
const BN = fixture('bn-dropout-model.ts');
const DATA = { ...engineConfig().data, order: 'shuffled' } as const;

/** Mean and variance of each unit of the dense layer before the normalisation, averaged over batches, in float64. */
function measured(kernel: Float32Array, batches: number): { mean: number[]; variance: number[] } {
  const mean = new Array<number>(UNITS).fill(0);
  const variance = new Array<number>(UNITS).fill(0);
  for (let step = 1; step <= batches; step++) {
    const indices = sliceIndices(step, 0, {
      batchSize: 32,
      slices: 1,
      examples: train.size,
      order: 'shuffled',
      seed: 1,
    });
    const { data } = train.batch(indices).inputs;
    for (let unit = 0; unit < UNITS; unit++) {
      const outputs = Array.from(indices, (_, row) => {
        let sum = 0;
        for (let k = 0; k < FEATURES; k++)
          sum += (data[row * FEATURES + k] as number) * (kernel[k * UNITS + unit] as number);
        return sum;
      });
      const own = outputs.reduce((a, b) => a + b, 0) / outputs.length;
      mean[unit] = (mean[unit] as number) + own / batches;
      const spread = outputs.reduce((sum, value) => sum + (value - own) ** 2, 0) / outputs.length;
      variance[unit] = (variance[unit] as number) + spread / batches;
    }
  }
  return { mean, variance };
}

describe('recalibration', () => {
  const engines: Engine[] = [];
  afterEach(() => engines.splice(0).forEach((engine) => engine.dispose()));

  async function create(changes: Partial<RunConfig> = {}, slices = 2): Promise<Engine> {
    const engine = await Engine.create({ config: engineConfig({ model: BN, data: DATA, ...changes }, slices) });
    engines.push(engine);
    return engine;
  }

  it('is the average of the batches, whatever the moving averages were and however steps are sliced', async () => {
    const engine = await create();
    const kernel = engine.initialWeights().slice(0, FEATURES * UNITS);
    engine.setWeights(engine.initialWeights(), new Float32Array(2 * UNITS).fill(7), 0);
    const state = await engine.recalibrate(5);
    const { mean, variance } = measured(kernel, 5);
    [...mean, ...variance].forEach((value, i) =>
      assert.ok(Math.abs(value - (state[i] as number)) < 1e-5, `${i}: ${state[i]}, not ${value}`),
    );
    const other = await create({}, 5);
    assert.deepEqual(await other.recalibrate(5), state);
    assert.notDeepEqual(await other.recalibrate(6), state);
  });

  it('changes nothing of the training that it interrupts, and leaves no tensor', async () => {
    const [engine, alone] = [await create(), await create()];
    const before = tf.memory().numTensors;
    await engine.recalibrate(3);
    assert.equal(tf.memory().numTensors, before);
    assert.deepEqual(await engine.gradient(4, 1), await alone.gradient(4, 1));
  });

  it('is what the last evaluation of a run sees, and no earlier one', async () => {
    const steps = engineConfig().training.steps;
    const [engine, plain] = [await create({ recalibrate: { batches: 4 } }), await create()];
    const state = await plain.recalibrate(4);
    plain.keepForEvaluation(1);
    engine.keepForEvaluation(steps - 1);
    const old = await plain.evaluateChunk(1, 0);
    assert.deepEqual(await engine.evaluateChunk(steps - 1, 0), old);
    // Kept, then asked for when other weights are set.
    engine.keepForEvaluation(steps);
    engine.setWeights(new Float32Array(engine.initialWeights().length), engine.initialState(), 0);
    plain.setWeights(plain.initialWeights(), state, 0);
    plain.keepForEvaluation(2);
    const last = await engine.evaluateChunk(steps, 0);
    assert.deepEqual(last, await plain.evaluateChunk(2, 0));
    assert.notEqual(last.lossSum, old.lossSum);
  });

  it('refuses a model without batch normalisation', async () => {
    const engine = await create({ model: fixture('golden-model.ts') });
    await assert.rejects(engine.recalibrate(2), /\[MODEL\] the model has no batch normalisation/);
  });
});
