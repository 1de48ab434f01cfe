/** Gradients of depthwise convolutions, which stock wasm lacks. Filters are [height, width, channels, multiplier]. */
import * as tfc from '@tensorflow/tfjs-core';
import type { Tensor4D } from '@tensorflow/tfjs-core';
import { floats, input, makeZeros, replaceKernel } from './kernel.ts';
import { conv2dWindows, forEachWindow } from './windows.ts';

export function registerDepthwise(): void {
  replaceKernel('DepthwiseConv2dNativeBackpropInput', (inputs, attributes, heap) => {
    const dyInfo = input(inputs, 'dy');
    const filterInfo = input(inputs, 'filter');
    const shape = attributes['inputShape'] as number[];
    const w = conv2dWindows(shape, filterInfo.shape, attributes, true);
    const out = makeZeros(heap, shape);
    const [dy, filter, dx] = [floats(heap, dyInfo), floats(heap, filterInfo), floats(heap, out)];
    const channels = w.inChannels;
    const multiplier = w.outChannels / channels;
    forEachWindow(w, (output, rows, taps, count) => {
      const from = output * w.outChannels;
      for (let k = 0; k < count; k++) {
        const target = (rows[k] as number) * channels;
        const weights = (taps[k] as number) * w.outChannels;
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let m = c * multiplier; m < (c + 1) * multiplier; m++) {
            sum += (dy[from + m] as number) * (filter[weights + m] as number);
          }
          dx[target + c] = (dx[target + c] as number) + sum;
        }
      }
    });
    return out;
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
    const sums = new Float64Array(result.length);
    forEachWindow(w, (output, rows, taps, count) => {
      const from = output * w.outChannels;
      for (let k = 0; k < count; k++) {
        const source = (rows[k] as number) * channels;
        const target = (taps[k] as number) * w.outChannels;
        for (let c = 0; c < channels; c++) {
          const value = x[source + c] as number;
          for (let m = c * multiplier; m < (c + 1) * multiplier; m++) {
            sums[target + m] = (sums[target + m] as number) + value * (dy[from + m] as number);
          }
        }
      }
    });
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
