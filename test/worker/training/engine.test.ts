import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'mocha';
import { createRandom } from '../../../shared/kernels/random.ts';
import { countBits, fullBitmap, clearBit } from '../../../shared/sparsity/bitmap.ts';
import { pack, unpack } from '../../../shared/sparsity/packing.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { EVALUATION_CHUNK } from '../../../worker/training/engine.ts';
import { engineConfig, fixture } from '../../fixtures/config.ts';
import { assertClose, engineTests, TOLERANCE } from './engine-support.ts';

function randomMask(length: number, density: number): Uint8Array {
  const mask = fullBitmap(length);
  const random = createRandom(5);
  for (let i = 0; i < length; i++) if (random.float() >= density) clearBit(mask, i);
  return mask;
}

describe('Engine', () => {
  const { create } = engineTests();
  const BN = fixture('bn-dropout-model.ts');

  it('starts with the loss and the weights of the golden run', async () => {
    const engine = await create(engineConfig());
    const golden = JSON.parse(readFileSync(new URL('../../golden/training.json', import.meta.url), 'utf8')) as {
      losses: number[];
    };
    const { loss, examples, gradient, stateDelta } = await engine.gradient(1, 0);
    assert.ok(Math.abs(loss - (golden.losses[0] as number)) < 1e-6, `${loss}`);
    assert.deepEqual([examples, gradient.length, stateDelta.length], [32, 20 * 16 + 16 + 16 * 4 + 4, 0]);
    assert.deepEqual(
      engine.description.parameters.map(({ name }) => name),
      ['dense_1/kernel', 'dense_1/bias', 'dense_2/kernel', 'dense_2/bias'],
    );
  });

  it('computes the gradient that finite differences give', async () => {
    const engine = await create(engineConfig());
    const weights = engine.initialWeights();
    const { gradient } = await engine.gradient(1, 0);
    for (const index of [0, 17, 319, 330, 340, 399, 400, 403]) {
      const h = 2e-3; // small enough to keep clear of the kinks of relu
      const losses: number[] = [];
      for (const step of [h, -h]) {
        const moved = weights.slice();
        moved[index] = (moved[index] as number) + step;
        engine.setWeights(moved, new Float32Array(0));
        losses.push((await engine.gradient(1, 0)).loss);
      }
      const slope = ((losses[0] as number) - (losses[1] as number)) / (2 * h);
      assert.ok(Math.abs(slope - (gradient[index] as number)) < 2e-4, `${index}: ${slope}, not ${gradient[index]}`);
    }
  });

  it('sums slices, weighted by their examples, to the gradient of the batch', async () => {
    const whole = await (await create(engineConfig())).gradient(3, 0);
    // 32 examples in 5 slices of 6 or 7
    const engine = await create(engineConfig({}, 5));
    const sum = new Float32Array(whole.gradient.length);
    let [loss, total] = [0, 0];
    for (let slice = 0; slice < 5; slice++) {
      const part = await engine.gradient(3, slice);
      part.gradient.forEach((value, i) => (sum[i] = (sum[i] as number) + (value * part.examples) / 32));
      loss += (part.loss * part.examples) / 32;
      total += part.examples;
    }
    assert.equal(total, 32);
    assert.ok(Math.abs(loss - whole.loss) < TOLERANCE);
    assertClose(sum, whole.gradient);
  });

  it('answers an empty slice with zeros', async () => {
    const engine = await create(engineConfig({ data: { ...engineConfig().data, batchSize: 2 } }, 4));
    const { gradient, loss, examples } = await engine.gradient(1, 0);
    assert.deepEqual([loss, examples, gradient.some((value) => value !== 0)], [0, 0, false]);
  });

  for (const density of [0.5, 0.05]) {
    it(`packs the gradient under a mask of density ${density}`, async () => {
      const engine = await create(engineConfig());
      const weights = engine.initialWeights();
      const mask = randomMask(weights.length, density);
      const packed = pack(weights, mask);

      engine.setWeights(unpack(packed, mask, weights.length), new Float32Array(0));
      const dense = await engine.gradient(2, 0);
      engine.setMask(mask);
      engine.setWeights(packed.slice(), new Float32Array(0));
      const sparse = await engine.gradient(2, 0);
      assert.equal(sparse.loss, dense.loss);
      assert.equal(sparse.gradient.length, countBits(mask));
      assert.deepEqual(sparse.gradient, pack(dense.gradient, mask));

      // Back to all: what was dead starts from what it is given.
      engine.setMask(null);
      engine.setWeights(weights.slice(), new Float32Array(0));
      assert.deepEqual(
        (await engine.gradient(2, 0)).gradient,
        (await (await create(engineConfig())).gradient(2, 0)).gradient,
      );
    });
  }

  it('keeps dead elements at +0 from one mask to the next', async () => {
    const engine = await create(engineConfig());
    const { length } = engine.initialWeights();
    const masks = [randomMask(length, 0.6), randomMask(length, 0.3)];
    for (const mask of masks) {
      const ones = new Float32Array(countBits(mask)).fill(1);
      engine.setMask(mask);
      engine.setWeights(ones, new Float32Array(0));
      const fresh = await create(engineConfig());
      fresh.setWeights(unpack(ones, mask, length), new Float32Array(0));
      assert.equal((await engine.gradient(1, 0)).loss, (await fresh.gradient(1, 0)).loss);
    }
  });

  it('refuses weights of another mask', async () => {
    const engine = await create(engineConfig());
    assert.throws(
      () => engine.setWeights(new Float32Array(3), new Float32Array(0)),
      /3 packed weights for 404 survivors/,
    );
    assert.throws(() => engine.setMask(new Uint8Array(3)), /a mask of 3 bytes for 404 parameters/);
  });

  it('draws dropout from the seed, the step and the slice', async () => {
    const data = { ...engineConfig().data, batchSize: 256 };
    const at = async (step: number, slice: number, seed = 1): Promise<number> => {
      const engine = await create(engineConfig({ model: BN, seed, data }, 2));
      const random = Math.random;
      engine.setWeights(
        new Float32Array(engine.initialWeights().length).map((_, i) => ((i % 7) - 3) / 4),
        engine.initialState(),
      );
      const { loss } = await engine.gradient(step, slice);
      assert.equal(Math.random, random);
      return loss;
    };
    const first = await at(1, 0);
    assert.equal(await at(1, 0), first);
    // Step 2 takes the same examples again, as the batch is the whole data set.
    assert.notEqual(await at(2, 0), first);
    assert.notEqual(await at(1, 0, 2), first);
    // Whatever was drawn before
    const engine = await create(engineConfig({ model: BN, data }, 2));
    engine.setWeights(
      new Float32Array(engine.initialWeights().length).map((_, i) => ((i % 7) - 3) / 4),
      engine.initialState(),
    );
    await engine.gradient(2, 1);
    assert.equal((await engine.gradient(1, 0)).loss, first);
  });

  it('returns what a slice does to the moving averages, each slice from the same start', async () => {
    const engine = await create(engineConfig({ model: BN }, 2));
    assert.deepEqual(
      engine.description.states.map(({ name, shape }) => [name, ...shape]),
      [
        ['batch_normalization_1/moving_mean', 16],
        ['batch_normalization_1/moving_variance', 16],
      ],
    );
    const state = engine.initialState();
    assert.deepEqual([...state], [...new Array<number>(16).fill(0), ...new Array<number>(16).fill(1)]);
    const first = await engine.gradient(1, 0);
    const second = await engine.gradient(1, 1);
    assert.notDeepEqual(first.stateDelta, second.stateDelta);
    assert.deepEqual((await engine.gradient(1, 0)).stateDelta, first.stateDelta);

    // momentum 0.9: a tenth of (batch mean - 0)
    const { inputs } = JSON.parse(readFileSync(new URL('../../golden/training.json', import.meta.url), 'utf8')) as {
      inputs: number[];
    };
    const kernel = engine.initialWeights();
    const expected = new Float32Array(16).map((_, unit) => {
      let sum = 0;
      for (let i = 0; i < 16; i++)
        for (let f = 0; f < 20; f++) sum += (inputs[i * 20 + f] as number) * (kernel[f * 16 + unit] as number);
      return (sum / 16) * 0.1;
    });
    assertClose(first.stateDelta.slice(0, 16), expected);

    // A state given is where the next slice starts.
    const other = state.map((value) => value + 1);
    engine.setWeights(kernel, other);
    const moved = await engine.gradient(1, 0);
    assertClose(
      moved.stateDelta.slice(0, 16),
      expected.map((value) => value - 0.1),
    );
  });

  it('evaluates the weights that were kept, without draws, beside training', async () => {
    const engine = await create(engineConfig({ model: BN }));
    assert.equal(engine.numEvaluationChunks, Math.ceil(256 / EVALUATION_CHUNK));
    engine.keepForEvaluation(0);
    const before = await engine.evaluateChunk(0, 0);
    assert.equal(before.examples, 256);
    const gradient = await engine.gradient(1, 0);

    engine.setWeights(new Float32Array(engine.initialWeights().length), engine.initialState());
    engine.keepForEvaluation(1);
    const zeros = await engine.evaluateChunk(1, 0);
    assert.ok(Math.abs(zeros.lossSum / 256 - Math.log(4)) < 1e-5);
    assert.notEqual(zeros.lossSum, before.lossSum);
    assert.deepEqual(await engine.evaluateChunk(0, 0), before);
    // The current weights are back in place.
    assert.notEqual((await engine.gradient(1, 0)).loss, gradient.loss);

    engine.dropEvaluation(0);
    await assert.rejects(engine.evaluateChunk(0, 0), /chunk 0 of clock 0 cannot be evaluated/);
    await assert.rejects(engine.evaluateChunk(1, 1), /chunk 1 of clock 1 cannot be evaluated/);
  });

  it('counts correct answers in whole numbers', async () => {
    // Predicts its first input's column only: class 2 for every example.
    const engine = await create(engineConfig());
    const weights = new Float32Array(404);
    weights[402] = 1;
    engine.setWeights(weights, new Float32Array(0));
    engine.keepForEvaluation(1);
    const { labels } = JSON.parse(readFileSync(new URL('../../golden/training.json', import.meta.url), 'utf8')) as {
      labels: number[];
    };
    assert.equal((await engine.evaluateChunk(1, 0)).correct, labels.filter((label) => label === 2).length);
  });

  it('leaks no tensor in 200 steps with masks and evaluations', async () => {
    const engine = await create(engineConfig({ model: BN }, 2));
    const { length } = engine.initialWeights();
    let expected = 0;
    for (let step = 1; step <= 200; step++) {
      const mask = step % 50 === 0 ? randomMask(length, 1 - step / 400) : null;
      if (mask !== null) engine.setMask(mask);
      if (step === 1 || mask !== null) {
        const packed = mask === null ? engine.initialWeights() : pack(engine.initialWeights(), mask);
        engine.setWeights(packed, engine.initialState());
      }
      await engine.gradient(step, step % 2);
      if (step % 20 === 0) {
        engine.keepForEvaluation(step);
        await engine.evaluateChunk(step, 0);
        engine.dropEvaluation(step);
      }
      expected ||= tf.memory().numTensors;
      assert.equal(tf.memory().numTensors, expected, `step ${step}`);
    }
  });
});
