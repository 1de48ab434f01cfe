/**
 * Gradients of two-dimensional convolutions, each as a forward convolution, which XNNPACK computes fast.
 * Stock wasm has no filter gradient at all and none for dilated windows.
 */
import * as tfc from '@tensorflow/tfjs-core';
import type { Tensor4D, TensorInfo } from '@tensorflow/tfjs-core';
import { floats, free, input, makeZeros, replaceKernel, stockKernel } from './kernel.ts';
import type { Heap } from './kernel.ts';
import { conv2dWindows } from './windows.ts';
import type { Windows } from './windows.ts';

export function registerConvolution2d(): void {
  const conv2d = stockKernel('Conv2D');
  const transpose = stockKernel('Transpose');
  const reverse = stockKernel('Reverse');
  const slice = stockKernel('Slice');

  // The sum over batch and outputs of x(o * stride + k * dilation) dy(o) is a convolution over k with batch and
  // channels of x swapped and dy as its filter; strides become dilations and the other way round.
  replaceKernel('Conv2DBackpropFilter', (inputs, attributes, heap) => {
    const x = input(inputs, 'x');
    const dy = input(inputs, 'dy');
    const w = conv2dWindows(x.shape, attributes['filterShape'] as number[], attributes);
    const swappedX = transpose({ x }, { perm: [3, 1, 2, 0] }, heap);
    const swappedY = transpose({ x: dy }, { perm: [1, 2, 0, 3] }, heap);
    const after = ([1, 2] as const).map((axis) => Math.max(0, spanOf(w, axis) - w.inputs[axis] - w.before[axis]));
    const pad = [
      [0, 0],
      [w.before[1], after[0]],
      [w.before[2], after[1]],
      [0, 0],
    ] as number[][];
    let out = conv2d(
      { x: swappedX, filter: swappedY },
      { strides: [...w.dilations.slice(1)], dilations: [...w.strides.slice(1)], pad, dataFormat: 'NHWC' },
      heap,
    );
    free(heap, swappedX, swappedY);
    const wanted = [w.inChannels, w.size[1], w.size[2], w.outChannels];
    if (out.shape.some((length, axis) => length !== wanted[axis])) {
      // Rows that no window reached, where the stride left a rest.
      const all = out;
      out = slice({ x: all }, { begin: [0, 0, 0, 0], size: wanted }, heap);
      free(heap, all);
    }
    const filter = transpose({ x: out }, { perm: [1, 2, 0, 3] }, heap);
    free(heap, out);
    return filter;
  });

  // dx is dy, with strides filled by zeros, convolved with the filter turned round.
  replaceKernel('Conv2DBackpropInput', (inputs, attributes, heap) => {
    const dy = input(inputs, 'dy');
    const filter = input(inputs, 'filter');
    const w = conv2dWindows(attributes['inputShape'] as number[], filter.shape, attributes);
    const swapped = transpose({ x: filter }, { perm: [0, 1, 3, 2] }, heap);
    const turned = reverse({ x: swapped }, { dims: [0, 1] }, heap);
    const spread = spreadOut(heap, dy, w);
    const out = conv2d(
      { x: spread, filter: turned },
      { strides: [1, 1], dilations: [...w.dilations.slice(1)], pad: 'valid', dataFormat: 'NHWC' },
      heap,
    );
    free(heap, swapped, turned, spread);
    return out;
  });

  registerGradient();
}

/** Elements of x from the first that the first window covers to the last that the last one does. */
function spanOf(w: Windows, axis: 1 | 2): number {
  return (w.outputs[axis] - 1) * w.strides[axis] + (w.size[axis] - 1) * w.dilations[axis] + 1;
}

/** dy with strides - 1 zeros between its elements and as many around as a valid convolution to dx needs. */
export function spreadOut(heap: Heap, dy: TensorInfo, w: Windows): TensorInfo {
  const reach = ([1, 2] as const).map((axis) => (w.size[axis] - 1) * w.dilations[axis]);
  const [reachH, reachW] = reach as [number, number];
  const [height, width] = [w.inputs[1] + reachH, w.inputs[2] + reachW];
  const channels = w.outChannels;
  const out = makeZeros(heap, [w.batch, height, width, channels]);
  const from = floats(heap, dy);
  const to = floats(heap, out);
  const dense = w.strides[2] === 1;
  const left = reachW - w.before[2];
  for (let n = 0; n < w.batch; n++) {
    for (let oh = 0; oh < w.outputs[1]; oh++) {
      const row = oh * w.strides[1] + reachH - w.before[1];
      if (row < 0 || row >= height) continue;
      const source = (n * w.outputs[1] + oh) * w.outputs[2] * channels;
      const target = (n * height + row) * width * channels;
      if (dense && left >= 0 && left + w.outputs[2] <= width) {
        to.set(from.subarray(source, source + w.outputs[2] * channels), target + left * channels);
        continue;
      }
      for (let ow = 0; ow < w.outputs[2]; ow++) {
        const column = ow * w.strides[2] + left;
        if (column < 0 || column >= width) continue;
        const start = source + ow * channels;
        for (let c = 0; c < channels; c++) to[target + column * channels + c] = from[start + c] as number;
      }
    }
  }
  return out;
}

/** The stock gradient of conv2d refuses dilations; the kernels above take them. */
function registerGradient(): void {
  tfc.unregisterGradient('Conv2D');
  tfc.registerGradient({
    kernelName: 'Conv2D',
    inputsToSave: ['x', 'filter'],
    gradFunc: (dy, saved, attributes) => {
      const [x, filter] = saved as [Tensor4D, Tensor4D];
      const run = (kernelName: string, inputs: object, more: object): Tensor4D =>
        tfc.engine().runKernel(kernelName, inputs as never, { ...attributes, ...more });
      return {
        x: () => run('Conv2DBackpropInput', { dy, filter }, { inputShape: x.shape }),
        filter: () => run('Conv2DBackpropFilter', { x, dy }, { filterShape: filter.shape }),
      };
    },
  });
}
