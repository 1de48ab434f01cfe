/**
 * Forward convolutions with 'same' padding. Stock wasm leaves its output unwritten where the window has length 1
 * and a stride above 1 on one axis only; with the same padding spelled out it computes.
 */
import { input, replaceKernel, stockKernel } from './kernel.ts';
import { conv2dInfo } from './windows.ts';

export function registerPadding(): void {
  for (const kernelName of ['Conv2D', 'FusedConv2D', 'DepthwiseConv2dNative', 'FusedDepthwiseConv2D']) {
    const stock = stockKernel(kernelName);
    const depthwise = kernelName.includes('Depthwise');
    replaceKernel(kernelName, (inputs, attributes, heap) => {
      if (attributes['pad'] !== 'same' || attributes['dataFormat'] === 'NCHW') return stock(inputs, attributes, heap);
      const { padInfo: pad } = conv2dInfo(
        input(inputs, 'x').shape,
        input(inputs, 'filter').shape,
        attributes,
        depthwise,
      );
      const spelledOut = [
        [0, 0],
        [pad.top, pad.bottom],
        [pad.left, pad.right],
        [0, 0],
      ];
      return stock(inputs, { ...attributes, pad: spelledOut }, heap);
    });
  }
}
