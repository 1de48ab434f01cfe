/** Kernels beyond what layers reach: checked against loops written out in float64. */
import assert from 'node:assert/strict';
import type { Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';

type ExplicitPadding = [[number, number], [number, number], [number, number], [number, number]];

/** Padding that is wider than small windows. */
const UNEVEN: ExplicitPadding = [
  [0, 0],
  [2, 1],
  [1, 3],
  [0, 0],
];

/** Distinct values, half of them negative. */
function tensor(shape: number[], offset = 0): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, k) => (((k * 7919 + offset) % 997) - 498) / 499),
    shape,
  );
}

function close(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  assert.equal(actual.length, expected.length);
  for (let k = 0; k < expected.length; k++) {
    const value = expected[k] as number;
    assert.ok(
      Math.abs((actual[k] as number) - value) <= 1e-4 * (1 + Math.abs(value)),
      `element ${k}: ${actual[k]} instead of ${value}`,
    );
  }
}

function productOf(a: Tensor, b: Tensor, transposeA: boolean, transposeB: boolean): number[] {
  const [x, y] = [a.dataSync(), b.dataSync()];
  const [a1, a2] = a.shape.slice(-2) as [number, number];
  const [b1, b2] = b.shape.slice(-2) as [number, number];
  const [m, inner, n] = [transposeA ? a2 : a1, transposeA ? a1 : a2, transposeB ? b1 : b2];
  const out: number[] = [];
  for (let batch = 0; batch < a.size / (a1 * a2); batch++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let k = 0; k < inner; k++) {
          const left = x[batch * a1 * a2 + (transposeA ? k * a2 + i : i * a2 + k)] as number;
          sum += left * (y[batch * b1 * b2 + (transposeB ? j * b2 + k : k * b2 + j)] as number);
        }
        out.push(sum);
      }
    }
  }
  return out;
}

describe('kernels of the wasm backend', () => {
  before(() => loadBackend('wasm'));

  it('BatchMatMul: any transposition, sizes on both sides of the copying threshold', () => {
    const size = fc.integer({ min: 1, max: 24 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3 }),
        size,
        size,
        size,
        fc.boolean(),
        fc.boolean(),
        (batch, m, k, n, ta, tb) => {
          tf.tidy(() => {
            const a = tensor([batch, ...(ta ? [k, m] : [m, k])], 1) as Tensor3D;
            const b = tensor([batch, ...(tb ? [n, k] : [k, n])], 2) as Tensor3D;
            const product = tf.matMul(a, b, ta, tb);
            assert.deepEqual(product.shape, [batch, m, n]);
            close(product.dataSync(), productOf(a, b, ta, tb));
          });
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('conv2d gradients are exact over sizes, strides, dilations, paddings', () => {
    const small = fc.integer({ min: 1, max: 3 });
    fc.assert(
      fc.property(
        fc.record({
          size: fc.tuple(fc.integer({ min: 4, max: 8 }), fc.integer({ min: 4, max: 8 })),
          kernel: fc.tuple(small, small),
          stride: fc.tuple(small, small),
          dilated: fc.boolean(),
          pad: fc.constantFrom<'same' | 'valid' | ExplicitPadding>('same', 'valid', UNEVEN),
          channels: fc.tuple(small, small),
        }),
        ({ size, kernel, stride, dilated, pad, channels }) => {
          tf.tidy(() => {
            // TensorFlow.js takes strides or dilations, not both.
            const dilation = dilated ? stride : ([1, 1] as [number, number]);
            const strides = dilated ? ([1, 1] as [number, number]) : stride;
            if (
              pad === 'valid' &&
              size.some((length, axis) => length < ((kernel[axis] as number) - 1) * (dilation[axis] as number) + 1)
            )
              return;
            const x = tensor([2, ...size, channels[0]], 3) as Tensor4D;
            const w = tensor([...kernel, ...channels], 4) as Tensor4D;
            const conv = (a: Tensor4D, b: Tensor4D): Tensor4D => tf.conv2d(a, b, strides, pad, 'NHWC', dilation);
            const upstream = tensor(conv(x, w).shape, 5);
            const [dx, dw] = tf.grads((a, b) => tf.sum(tf.mul(conv(a as Tensor4D, b as Tensor4D), upstream)))([x, w]);
            // The loss is linear in x and in w: <gradient, direction> is the loss at the direction, exactly.
            const [atX, atW] = [tensor(x.shape, 6) as Tensor4D, tensor(w.shape, 7) as Tensor4D];
            const dot = (a: Tensor, b: Tensor): number => tf.sum(tf.mul(a, b)).dataSync()[0] as number;
            close(
              [dot(dx as Tensor, atX), dot(dw as Tensor, atW)],
              [dot(conv(atX, w), upstream), dot(conv(x, atW), upstream)],
            );
          });
        },
      ),
      { numRuns: 80, seed: 2 },
    );
  });

  it('UnsortedSegmentSum leaves out ids that are no segment', () => {
    tf.tidy(() => {
      const sums = tf.unsortedSegmentSum(
        tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]),
        tf.tensor1d([1, -1, 1, 5], 'int32'),
        3,
      );
      assert.deepEqual([...sums.dataSync()], [0, 0, 6, 8, 0, 0]);
    });
  });

  it('MaxPoolGrad gives a window of equal elements to the first', () => {
    tf.tidy(() => {
      const gradient = tf.grad((x) => tf.sum(tf.maxPool(x as Tensor4D, 2, 2, 'valid')))(tf.fill([1, 2, 2, 1], -3));
      assert.deepEqual([...gradient.dataSync()], [1, 0, 0, 0]);
    });
  });

  it('no kernel leaks memory of the backend', () => {
    const work = (): void =>
      tf.tidy(() => {
        const x = tensor([2, 6, 6, 2]) as Tensor4D;
        const w = tensor([3, 3, 2, 2]) as Tensor4D;
        tf.grads((a, b) => tf.sum(tf.conv2d(a as Tensor4D, b as Tensor4D, 2, 'same')))([x, w]);
        tf.grads((a, b) => tf.sum(tf.depthwiseConv2d(a as Tensor4D, b as Tensor4D, 1, 'same')))([x, w]);
        tf.grads((a, b) => tf.sum(tf.matMul(a as Tensor4D, b as Tensor4D)))([tensor([2, 20, 20]), tensor([2, 20, 20])]);
        tf.grad((a) => tf.sum(tf.maxPool(a as Tensor4D, 2, 2, 'same')))(x);
        tf.grads((a, b) => tf.sum(tf.conv3d(a as never, b as never, 1, 'same')))([
          tensor([2, 3, 3, 3, 2]),
          tensor([2, 2, 2, 2, 3]),
        ]);
        tf.batchNorm(x, tf.zeros([1, 6, 1, 1]), tf.ones([1, 6, 1, 1]));
      });
    work();
    const before = tf.engine().backend.numDataIds();
    work();
    assert.equal(tf.engine().backend.numDataIds(), before);
  });
});
