import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { channelsAlong } from '../../../shared/quantization/channels.ts';
import {
  dequantizePerChannel,
  fakeQuantize,
  fakeQuantizePerChannel,
  quantizePerChannel,
} from '../../../shared/quantization/fake-quantize.ts';
import { roundHalfEven } from '../../../shared/quantization/round.ts';

interface Golden {
  readonly fakeQuantizePerTensor: {
    scale: number;
    zeroPoint: number;
    quantMin: number;
    quantMax: number;
    input: number[];
    output: number[];
  };
  readonly fakeQuantizePerChannel: {
    axis: number;
    shape: number[];
    scales: number[];
    quantMin: number;
    quantMax: number;
    input: number[];
    output: number[];
  };
}
const golden = JSON.parse(readFileSync(new URL('../../golden/formats.json', import.meta.url), 'utf8')) as Golden;

/** As numbers: the reference may write -0 for 0. */
const numbers = (values: Iterable<number>): number[] => Array.from(values, (value) => Math.fround(value) + 0);

describe('fake quantization', () => {
  it('per tensor: golden', () => {
    const { input, output, ...options } = golden.fakeQuantizePerTensor;
    assert.deepEqual(numbers(fakeQuantize(Float32Array.from(input), options)), numbers(output));
  });

  it('per channel: golden', () => {
    const { input, output, shape, axis, scales, ...limits } = golden.fakeQuantizePerChannel;
    const values = Float32Array.from(input);
    const channels = channelsAlong(shape, axis);
    const faked = fakeQuantizePerChannel(values, channels, Float32Array.from(scales), limits);
    assert.deepEqual(numbers(faked), numbers(output));
    const whole = quantizePerChannel(values, channels, Float32Array.from(scales), limits);
    assert.ok(whole.every((q) => q >= limits.quantMin && q <= limits.quantMax));
    assert.deepEqual(dequantizePerChannel(whole, channels, Float32Array.from(scales)), faked);
  });

  it('per channel: along the last axis, as kernels [in, out] have their outputs', () => {
    const values = Float32Array.of(1.2, 1.2, 2.6, 2.6);
    const limits = { quantMin: -2, quantMax: 2 };
    const faked = fakeQuantizePerChannel(values, channelsAlong([2, 2], 1), Float32Array.of(1, 0.5), limits);
    assert.deepEqual([...faked], [1, 1, 2, 1]);
    assert.throws(() => fakeQuantizePerChannel(values, channelsAlong([2, 2], 1), Float32Array.of(1), limits), {
      code: 'INTERNAL',
    });
  });

  it('keeps 0, with any zero point', () => {
    assert.deepEqual(
      [...fakeQuantize(Float32Array.of(0, 9), { scale: 0.1, zeroPoint: 3, quantMin: 0, quantMax: 15 })],
      [0, Math.fround(12 * Math.fround(0.1))],
    );
  });

  it('rounds halves to the even number', () => {
    assert.deepEqual(
      [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -2.51].map((x) => roundHalfEven(x) + 0),
      [0, 2, 2, 0, -2, 0, -3],
    );
  });
});
