/**
 * Pooling. Stock wasm's maximum gradient drops windows whose maximum is not positive, its average gradient
 * divides by the window's size where padding made it smaller, and its 3D kernels are wrong in both directions.
 */
import { util } from '@tensorflow/tfjs-core';
import { floats, input, makeFloats, makeZeros, replaceKernel } from './kernel.ts';
import type { Attributes, Kernel } from './kernel.ts';
import { forEachWindow, pool2dWindows, pool3dWindows } from './windows.ts';
import type { Windows } from './windows.ts';

type Geometry = (x: readonly number[], attributes: Attributes) => Windows;

export function registerPooling(): void {
  replaceKernel('MaxPoolGrad', maxPoolGradient(pool2dWindows));
  replaceKernel('AvgPoolGrad', averagePoolGradient(pool2dWindows));
  replaceKernel('MaxPool3D', maxPool3d);
  replaceKernel('MaxPool3DGrad', maxPoolGradient(pool3dWindows));
  replaceKernel('AvgPool3D', averagePool3d);
  replaceKernel('AvgPool3DGrad', averagePoolGradient(pool3dWindows));
}

/** Each window's gradient goes to the first of its largest elements. */
function maxPoolGradient(geometry: Geometry): Kernel {
  return (inputs, attributes, heap) => {
    const dyInfo = input(inputs, 'dy');
    const xInfo = input(inputs, 'input');
    const w = geometry(xInfo.shape, attributes);
    const out = makeZeros(heap, xInfo.shape);
    const [x, dy, dx] = [floats(heap, xInfo), floats(heap, dyInfo), floats(heap, out)];
    const channels = w.inChannels;
    forEachWindow(w, (output, rows, _taps, count) => {
      for (let c = 0; c < channels; c++) {
        let best = (rows[0] as number) * channels + c;
        let largest = x[best] as number;
        for (let k = 1; k < count; k++) {
          const at = (rows[k] as number) * channels + c;
          if ((x[at] as number) > largest) {
            best = at;
            largest = x[at] as number;
          }
        }
        dx[best] = (dx[best] as number) + (dy[output * channels + c] as number);
      }
    });
    return out;
  };
}

/** Each window's gradient is shared by the elements it covers; padding is none. */
function averagePoolGradient(geometry: Geometry): Kernel {
  return (inputs, attributes, heap) => {
    const dyInfo = input(inputs, 'dy');
    const xInfo = input(inputs, 'input');
    const w = geometry(xInfo.shape, attributes);
    const out = makeZeros(heap, xInfo.shape);
    const [dy, dx] = [floats(heap, dyInfo), floats(heap, out)];
    const channels = w.inChannels;
    forEachWindow(w, (output, rows, _taps, count) => {
      for (let k = 0; k < count; k++) {
        const target = (rows[k] as number) * channels;
        for (let c = 0; c < channels; c++) {
          dx[target + c] = (dx[target + c] as number) + (dy[output * channels + c] as number) / count;
        }
      }
    });
    return out;
  };
}

const maxPool3d: Kernel = (inputs, attributes, heap) => {
  const xInfo = input(inputs, 'x');
  const w = pool3dWindows(xInfo.shape, attributes);
  const out = makeFloats(heap, [w.batch, ...w.outputs, w.inChannels]);
  const [x, y] = [floats(heap, xInfo), floats(heap, out)];
  const channels = w.inChannels;
  forEachWindow(w, (output, rows, _taps, count) => {
    for (let c = 0; c < channels; c++) {
      let largest = -Infinity;
      for (let k = 0; k < count; k++) largest = Math.max(largest, x[(rows[k] as number) * channels + c] as number);
      y[output * channels + c] = largest;
    }
  });
  return out;
};

const averagePool3d: Kernel = (inputs, attributes, heap) => {
  const xInfo = input(inputs, 'x');
  util.assert(xInfo.dtype === 'float32', () => `average pooling needs float32 values, got ${xInfo.dtype}`);
  const w = pool3dWindows(xInfo.shape, attributes);
  const out = makeFloats(heap, [w.batch, ...w.outputs, w.inChannels]);
  const [x, y] = [floats(heap, xInfo), floats(heap, out)];
  const channels = w.inChannels;
  forEachWindow(w, (output, rows, _taps, count) => {
    for (let c = 0; c < channels; c++) {
      let sum = 0;
      for (let k = 0; k < count; k++) sum += x[(rows[k] as number) * channels + c] as number;
      y[output * channels + c] = sum / count;
    }
  });
  return out;
};
