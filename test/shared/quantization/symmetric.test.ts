import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { ParameterSpec } from '../../../shared/layout/model-description.ts';
import { outputChannels } from '../../../shared/quantization/channels.ts';
import { channelsOf, fakeQuantizeWeights, symmetricScales } from '../../../shared/quantization/symmetric.ts';

function parameter(shape: number[], name = 'dense_1/kernel', layerKind = 'Dense'): ParameterSpec {
  return { name, shape, layerKind, prunable: true };
}

const BITS = [8, 4] as const;
const weights = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e6), max: Math.fround(1e6) });

describe('symmetric fake quantization of weights', () => {
  it('gives the whole numbers of a channel times max|x| / 127', () => {
    // Channel 0: 12.7, -6.35, 0.05 with scale 0.1; 63.5 rounds to 64, 0.5 to 0. Channel 1: scale 2 / 127.
    const values = Float32Array.of(12.7, 2, -6.35, -1, 0.05, 0);
    const [a, b] = [Math.fround(Math.fround(12.7) / 127), Math.fround(2 / 127)];
    assert.deepEqual(
      [...fakeQuantizeWeights(values, parameter([3, 2]), { bits: 8, perChannel: true })],
      [127 * a, 127 * b, -64 * a, -64 * b, 0, 0].map(Math.fround),
    );
  });

  it('has 15 levels with 4 bits', () => {
    const values = Float32Array.from({ length: 1001 }, (_, i) => (i - 500) / 500);
    const faked = fakeQuantizeWeights(values, parameter([1001, 1]), { bits: 4, perChannel: true });
    assert.equal(new Set(faked).size, 15);
    assert.deepEqual([faked[0], faked[1000]], [-1, 1]);
  });

  it('keeps zeros at +0, stays within half a scale, and changes nothing when repeated', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...BITS),
        fc.boolean(),
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.oneof(fc.constant(0), weights), { minLength: 1, maxLength: 40 }),
        (bits, perChannel, outputs, drawn) => {
          const rows = Math.ceil(drawn.length / outputs);
          const values = new Float32Array(rows * outputs);
          values.set(drawn.map((x) => x + 0));
          const kernel = parameter([rows, outputs]);
          const precision = { bits, perChannel };
          const faked = fakeQuantizeWeights(values, kernel, precision);
          const channels = channelsOf(kernel, precision);
          const scales = symmetricScales(values, channels, bits);
          faked.forEach((x, i) => {
            const scale = scales[i % channels.count] as number;
            if (values[i] === 0) assert.ok(Object.is(x, 0), `element ${i} is ${Object.is(x, -0) ? '-0' : x}`);
            // Scales that have no reciprocal in float32 stand for nothing but zeros.
            else if (scale > 1e-37)
              assert.ok(Math.abs(x - (values[i] as number)) <= scale * 0.5001, `${values[i]} became ${x}`);
          });
          const again = fakeQuantizeWeights(faked, kernel, precision);
          again.forEach((x, i) => assert.ok(Math.abs(x - (faked[i] as number)) <= Math.abs(x) * 1e-6));
        },
      ),
    );
  });

  it('makes zeros of a channel of zeros, or of numbers too small for a scale', () => {
    for (const bits of BITS) {
      const values = Float32Array.of(0, 1, 0, 0.5, 1e-44, 0.25);
      const faked = fakeQuantizeWeights(values, parameter([3, 2]), { bits, perChannel: true });
      assert.deepEqual([faked[0], faked[2], faked[4]], [0, 0, 0]);
      assert.ok((faked[1] as number) > 0.99);
      assert.deepEqual(
        [...fakeQuantizeWeights(new Float32Array(4), parameter([2, 2]), { bits, perChannel: false })],
        [0, 0, 0, 0],
      );
    }
  });

  it('shows values that are not finite', () => {
    for (const bad of [NaN, Infinity]) {
      const faked = fakeQuantizeWeights(Float32Array.of(bad, 1, 0.5, 0.5), parameter([2, 2]), {
        bits: 8,
        perChannel: true,
      });
      assert.ok(Number.isNaN(faked[0]) && Number.isNaN(faked[2]));
      assert.ok((faked[1] as number) > 0.99);
    }
  });
});

describe('outputChannels', () => {
  for (const [what, spec, expected] of [
    ['dense kernels [in, out]', parameter([784, 300]), { count: 300, inner: 1 }],
    ['convolutions [h, w, in, out]', parameter([5, 5, 20, 50], 'c/kernel', 'Conv2D'), { count: 50, inner: 1 }],
    [
      'transposed convolutions [h, w, out, in]',
      parameter([5, 5, 20, 50], 'c/kernel', 'Conv2DTranspose'),
      { count: 20, inner: 50 },
    ],
    [
      'depthwise kernels [h, w, in, multiplier]',
      parameter([3, 3, 8, 2], 'd/depthwise_kernel', 'DepthwiseConv2D'),
      { count: 16, inner: 1 },
    ],
    ['vectors', parameter([300], 'dense_1/bias'), { count: 1, inner: 300 }],
  ] as const) {
    it(`of ${what}`, () => assert.deepEqual(outputChannels(spec), expected));
  }
});
