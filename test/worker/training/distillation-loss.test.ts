import assert from 'node:assert/strict';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import { before, describe, it } from 'mocha';
import { createRandom } from '../../../shared/kernels/random.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { distillationLoss, logitsOf } from '../../../worker/training/distillation-loss.ts';

const EXAMPLES = 6;
const CLASSES = 5;

function softmax(logits: readonly number[], temperature: number): number[] {
  const powers = logits.map((logit) => Math.exp(logit / temperature));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function rows(values: Float32Array): number[][] {
  return Array.from({ length: EXAMPLES }, (_, row) => [...values.slice(row * CLASSES, (row + 1) * CLASSES)]);
}

/** The formula in float64. */
function expected(teacher: Float32Array, student: Float32Array, temperature: number): number {
  const divergences = rows(teacher).map((logits, row) => {
    const p = softmax(logits, temperature);
    const q = softmax(rows(student)[row] as number[], temperature);
    return p.reduce((sum, each, k) => sum + each * Math.log(each / (q[k] as number)), 0);
  });
  return (temperature ** 2 * divergences.reduce((a, b) => a + b, 0)) / EXAMPLES;
}

describe('distillationLoss', () => {
  const random = createRandom(4);
  const logits = (): Float32Array => Float32Array.from({ length: EXAMPLES * CLASSES }, () => 8 * random.float() - 4);
  const [teacher, student] = [logits(), logits()];
  const tensor = (values: Float32Array): Tensor => tf.tensor(values.slice(), [EXAMPLES, CLASSES]);
  before(() => loadBackend('wasm'));

  for (const temperature of [1, 4, 20]) {
    it(`is T^2 x KL(teacher || student), T = ${temperature}, and so is its gradient`, () =>
      void tf.tidy(() => {
        const loss = (values: Tensor): Scalar => distillationLoss(tf, tensor(teacher), values, temperature);
        const { value, grad } = tf.valueAndGrad((values) => loss(values))(tensor(student));
        const wanted = expected(teacher, student, temperature);
        assert.ok(Math.abs((value.dataSync()[0] as number) - wanted) < 1e-5 * Math.max(1, wanted));
        const gradient = grad.dataSync();
        for (let i = 0; i < student.length; i++) {
          const slopes = [1e-3, -1e-3].map((h) => {
            const moved = Float64Array.from(student);
            moved[i] = (moved[i] as number) + h;
            return expected(teacher, moved as unknown as Float32Array, temperature);
          });
          const slope = ((slopes[0] as number) - (slopes[1] as number)) / 2e-3;
          assert.ok(Math.abs((gradient[i] as number) - slope) < 1e-4, `${i}: ${gradient[i]}, not ${slope}`);
        }
      }));
  }

  it('is 0 for a student that says the same, whatever is added to its logits', () =>
    void tf.tidy(() => {
      const same = distillationLoss(tf, tensor(teacher), tf.add(tensor(teacher), 3), 4).dataSync()[0] as number;
      assert.ok(Math.abs(same) < 1e-5, `${same}`);
    }));

  it('takes probabilities by their logarithm, certainties included', () =>
    void tf.tidy(() => {
      const found = logitsOf(tf, tf.softmax(tensor(teacher)));
      const [by, plain] = [found, tensor(teacher)].map(
        (each) => distillationLoss(tf, each, tensor(student), 4).dataSync()[0] as number,
      );
      assert.ok(Math.abs((by as number) - (plain as number)) < 1e-4, `${by}, ${plain}`);
      const certain = distillationLoss(tf, logitsOf(tf, tf.tensor([[0, 1]])), tf.tensor([[0, 0]]), 1);
      assert.ok(Math.abs((certain.dataSync()[0] as number) - Math.log(2)) < 1e-6);
    }));
});
