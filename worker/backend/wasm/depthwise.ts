/** Gradients of depthwise convolutions, which stock wasm lacks. Filters are [height, width, channels, multiplier]. */
import * as tfc from '@tensorflow/tfjs-core';
import type { Tensor4D } from '@tensorflow/tfjs-core';
import { spreadOut } from './convolution-2d.ts';
import { floats, free, input, makeZeros, replaceKernel, reshaped, stockKernel } from './kernel.ts';
import { conv2dWindows, volume, windowTable } from './windows.ts';

export function registerDepthwise(): void {
  const depthwise = stockKernel('DepthwiseConv2dNative');
  const reverse = stockKernel('Reverse');
  const sum = stockKernel('Sum');

  // dy, with strides filled by zeros, convolved with the filter turned round, added up over the multiplier.
  replaceKernel('DepthwiseConv2dNativeBackpropInput', (inputs, attributes, heap) => {
    const filter = input(inputs, 'filter');
    const shape = attributes['inputShape'] as number[];
    const w = conv2dWindows(shape, filter.shape, attributes, true);
    const turned = reverse({ x: filter }, { dims: [0, 1] }, heap);
    const spread = spreadOut(heap, input(inputs, 'dy'), w);
    const out = depthwise(
      { x: spread, filter: reshaped(turned, [w.size[1], w.size[2], w.outChannels, 1]) },
      { strides: [1, 1], dilations: [...w.dilations.slice(1)], pad: 'valid', dataFormat: 'NHWC' },
      heap,
    );
    free(heap, turned, spread);
    const multiplier = w.outChannels / w.inChannels;
    if (multiplier === 1) return out;
    const total = sum({ x: reshaped(out, [...shape, multiplier]) }, { axis: [4], keepDims: false }, heap);
    free(heap, out);
    return total;
  });

  replaceKernel('DepthwiseConv2dNativeBackpropFilter', (inputs, attributes, heap) => {
    const xInfo = input(inputs, 'x');
    const dyInfo = input(inputs, 'dy');
    const shape = attributes['filterShape'] as number[];
    const w = conv2dWindows(xInfo.shape, shape, attributes, true);
    const out = makeZeros(heap, shape);
    const [x, dy, result] = [floats(heap, xInfo), floats(heap, dyInfo), floats(heap, out)];
    const channels = w.inChannels;
    const multiplier = w.outChannels / channels;
    const { starts, rows, taps } = windowTable(w);
    const outputs = starts.length - 1;
    const sums = new Float64Array(result.length);
    for (let n = 0; n < w.batch; n++) {
      const example = n * volume(w.inputs) * channels;
      for (let o = 0; o < outputs; o++) {
        const from = (n * outputs + o) * w.outChannels;
        for (let k = starts[o] as number; k < (starts[o + 1] as number); k++) {
          const source = example + (rows[k] as number) * channels;
          const target = (taps[k] as number) * w.outChannels;
          for (let c = 0, m = 0; c < channels; c++) {
            const value = x[source + c] as number;
            for (const end = m + multiplier; m < end; m++) {
              sums[target + m] = (sums[target + m] as number) + value * (dy[from + m] as number);
            }
          }
        }
      }
    }
    result.set(sums);
    return out;
  });

  registerGradient();
}

/** The stock gradient refuses dilations; the kernels above take them. */
function registerGradient(): void {
  tfc.unregisterGradient('DepthwiseConv2dNative');
  tfc.registerGradient({
    kernelName: 'DepthwiseConv2dNative',
    inputsToSave: ['x', 'filter'],
    gradFunc: (dy, saved, attributes) => {
      const [x, filter] = saved as [Tensor4D, Tensor4D];
      const run = (kernelName: string, inputs: object, more: object): Tensor4D =>
        tfc.engine().runKernel(kernelName, inputs as never, { ...attributes, ...more });
      return {
        x: () => run('DepthwiseConv2dNativeBackpropInput', { dy, filter }, { inputShape: x.shape }),
        filter: () => run('DepthwiseConv2dNativeBackpropFilter', { x, dy }, { filterShape: filter.shape }),
      };
    },
  });
}
