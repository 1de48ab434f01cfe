import assert from 'node:assert/strict';
import { before, describe, it } from 'mocha';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { describeModel } from '../../../worker/model/describe-model.ts';
import { loadModel } from '../../../worker/model/load-model.ts';
import type { ParameterSpec } from '../../../shared/layout/model-description.ts';

async function parametersOf(
  name: string,
  inputShape: readonly number[],
  classes = 10,
): Promise<readonly ParameterSpec[]> {
  const { model } = await loadModel(tf, name, 1, { inputShape, classes, labels: 'classes', data: 'test' });
  return describeModel(model, { trainExamples: 1, testExamples: 0, notes: [] }).parameters;
}

const count = (parameters: readonly ParameterSpec[]): number =>
  parameters.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
const kernels = (parameters: readonly ParameterSpec[]): readonly ParameterSpec[] =>
  parameters.filter(({ prunable }) => prunable);

describe('built-in models', () => {
  before(() => loadBackend('wasm'));

  it('lenet-300-100 has 266,610 parameters, 266,200 of them in kernels', async () => {
    for (const shape of [[28, 28, 1], [784]]) {
      const parameters = await parametersOf('lenet-300-100', shape);
      assert.equal(count(parameters), 266_610);
      assert.equal(count(kernels(parameters)), 266_200);
      assert.equal(parameters[0]?.name, 'dense_1/kernel');
    }
  });

  it("lenet-5 is Caffe's: 430,500 kernel weights", async () => {
    for (const shape of [[28, 28, 1], [28, 28], [784]]) {
      const parameters = await parametersOf('lenet-5', shape);
      assert.equal(count(kernels(parameters)), 430_500);
      assert.equal(count(parameters), 430_500 + 20 + 50 + 500 + 10);
    }
  });

  it('lenet-5 takes colour images and refuses what is no image', async () => {
    assert.deepEqual((await parametersOf('lenet-5', [32, 32, 3]))[0]?.shape, [5, 5, 3, 20]);
    await assert.rejects(parametersOf('lenet-5', [10]), /needs images of at least 16 x 16 pixels, .* \[10\]/);
    await assert.rejects(parametersOf('lenet-5', [15, 15, 1]), /at least 16 x 16/);
  });

  it('logistic-regression takes the shape and classes of the data', async () => {
    assert.deepEqual(
      (await parametersOf('logistic-regression', [5, 2], 3)).map(({ shape }) => shape),
      [[10, 3], [3]],
    );
  });

  it("draws weights as PyTorch's default does: uniform in +-1/sqrt(fan in)", async () => {
    const { model } = await loadModel(tf, 'lenet-300-100', 3, {
      inputShape: [784],
      classes: 10,
      labels: 'classes',
      data: 'test',
    });
    model.trainableWeights.forEach((variable, k) => {
      const bound = 1 / Math.sqrt([784, 300, 100][k >> 1] as number);
      const values = variable.read().dataSync<'float32'>();
      const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
      // A bias of the last layer has 10 values: all below half the bound once in a thousand seeds.
      assert.ok(largest <= bound && largest > bound / 2, `${variable.name}: ${largest} for bound ${bound}`);
      if (values.length < 10_000) return;
      const variance = values.reduce((sum, value) => sum + value * value, 0) / values.length;
      assert.ok(Math.abs(variance / ((bound * bound) / 3) - 1) < 0.02, `${variable.name}: variance ${variance}`);
    });
  });
});
