/**
 * Three-dimensional convolutions as matrix products: windows are copied out as rows of a matrix of
 * [outputs, size x channels] ("im2col"). Stock wasm's gradients are wrong for most shapes, it has none for
 * dilated windows, and its transposed convolution cannot be trained.
 */
import * as tfc from '@tensorflow/tfjs-core';
import type { Tensor5D, TensorInfo } from '@tensorflow/tfjs-core';
import { floats, free, input, makeFloats, makeZeros, replaceKernel, reshaped, stockKernel } from './kernel.ts';
import type { Heap } from './kernel.ts';
import { conv3dWindows, volume, windowTable } from './windows.ts';
import type { Windows, WindowTable } from './windows.ts';

/** Call after `registerMatMul`. */
export function registerConvolution3d(): void {
  const matMul = stockKernel('BatchMatMul');

  replaceKernel('Conv3D', (inputs, attributes, heap) => {
    const x = input(inputs, 'x');
    const filter = input(inputs, 'filter');
    const w = conv3dWindows(x.shape, filter.shape, attributes);
    const table = windowTable(w);
    const weights = reshaped(filter, [1, volume(w.size) * w.inChannels, w.outChannels]);
    const out = makeFloats(heap, [w.batch, ...w.outputs, w.outChannels]);
    const rows = volume(w.outputs);
    for (let n = 0; n < w.batch; n++) {
      const columns = copyWindows(heap, x, w, table, n);
      const part = matMul({ a: columns, b: weights }, { transposeA: false, transposeB: false }, heap);
      floats(heap, out).set(floats(heap, part), n * rows * w.outChannels);
      free(heap, columns, part);
    }
    return out;
  });

  replaceKernel('Conv3DBackpropFilterV2', (inputs, attributes, heap) => {
    const x = input(inputs, 'x');
    const dy = input(inputs, 'dy');
    const shape = attributes['filterShape'] as number[];
    const w = conv3dWindows(x.shape, shape, attributes);
    const table = windowTable(w);
    const out = makeZeros(heap, shape);
    for (let n = 0; n < w.batch; n++) {
      const columns = copyWindows(heap, x, w, table, n);
      const slice = sliceOf(heap, dy, w, n);
      const part = matMul({ a: columns, b: slice }, { transposeA: true, transposeB: false }, heap);
      const [sum, values] = [floats(heap, out), floats(heap, part)];
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
      free(heap, columns, slice, part);
    }
    return out;
  });

  replaceKernel('Conv3DBackpropInputV2', (inputs, attributes, heap) => {
    const dy = input(inputs, 'dy');
    const filter = input(inputs, 'filter');
    const shape = attributes['inputShape'] as number[];
    const w = conv3dWindows(shape, filter.shape, attributes);
    const table = windowTable(w);
    const weights = reshaped(filter, [1, volume(w.size) * w.inChannels, w.outChannels]);
    const out = makeZeros(heap, shape);
    for (let n = 0; n < w.batch; n++) {
      const slice = sliceOf(heap, dy, w, n);
      const columns = matMul({ a: slice, b: weights }, { transposeA: false, transposeB: true }, heap);
      addWindows(heap, columns, w, table, n, out);
      free(heap, slice, columns);
    }
    return out;
  });

  registerGradients();
}

/** Windows of example n as [1, outputs, size x channels]; padding is zero. */
function copyWindows(
  heap: Heap,
  x: TensorInfo,
  w: Windows,
  { starts, rows, taps }: WindowTable,
  n: number,
): TensorInfo {
  const width = volume(w.size) * w.inChannels;
  const info = makeZeros(heap, [1, volume(w.outputs), width]);
  const [from, to] = [floats(heap, x), floats(heap, info)];
  const first = n * volume(w.inputs);
  for (let output = 0; output < starts.length - 1; output++) {
    for (let k = starts[output] as number; k < (starts[output + 1] as number); k++) {
      const source = (first + (rows[k] as number)) * w.inChannels;
      const target = output * width + (taps[k] as number) * w.inChannels;
      for (let c = 0; c < w.inChannels; c++) to[target + c] = from[source + c] as number;
    }
  }
  return info;
}

/** The reverse of `copyWindows`: adds each window to where it came from. */
function addWindows(
  heap: Heap,
  columns: TensorInfo,
  w: Windows,
  { starts, rows, taps }: WindowTable,
  n: number,
  out: TensorInfo,
): void {
  const width = volume(w.size) * w.inChannels;
  const [from, to] = [floats(heap, columns), floats(heap, out)];
  const first = n * volume(w.inputs);
  for (let output = 0; output < starts.length - 1; output++) {
    for (let k = starts[output] as number; k < (starts[output + 1] as number); k++) {
      const target = (first + (rows[k] as number)) * w.inChannels;
      const source = output * width + (taps[k] as number) * w.inChannels;
      for (let c = 0; c < w.inChannels; c++) to[target + c] = (to[target + c] as number) + (from[source + c] as number);
    }
  }
}

/** Example n of dy as [1, outputs, channels]. */
function sliceOf(heap: Heap, dy: TensorInfo, w: Windows, n: number): TensorInfo {
  const info = makeFloats(heap, [1, volume(w.outputs), w.outChannels]);
  const to = floats(heap, info);
  to.set(floats(heap, dy).subarray(n * to.length, (n + 1) * to.length));
  return info;
}

function registerGradients(): void {
  const run = (kernelName: string, inputs: object, attributes: object): Tensor5D =>
    tfc.engine().runKernel(kernelName, inputs as never, attributes as never);
  tfc.unregisterGradient('Conv3D');
  tfc.registerGradient({
    kernelName: 'Conv3D',
    inputsToSave: ['x', 'filter'],
    gradFunc: (dy, saved, attributes) => {
      const [x, filter] = saved as [Tensor5D, Tensor5D];
      return {
        x: () => run('Conv3DBackpropInputV2', { dy, filter }, { ...attributes, inputShape: x.shape }),
        filter: () => run('Conv3DBackpropFilterV2', { x, dy }, { ...attributes, filterShape: filter.shape }),
      };
    },
  });
  // What conv3dTranspose computes with; it is linear in dy and in the filter.
  tfc.registerGradient({
    kernelName: 'Conv3DBackpropInputV2',
    inputsToSave: ['dy', 'filter'],
    gradFunc: (ddx, saved, attributes) => {
      const [dy, filter] = saved as [Tensor5D, Tensor5D];
      const shared = { dataFormat: 'NDHWC', dilations: [1, 1, 1], ...attributes };
      return {
        dy: () => run('Conv3D', { x: ddx, filter }, shared),
        filter: () => run('Conv3DBackpropFilterV2', { x: ddx, dy }, { ...shared, filterShape: filter.shape }),
      };
    },
  });
}
