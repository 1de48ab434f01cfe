/**
 * Pooling. Stock wasm's maximum gradient drops windows whose maximum is not positive, its average gradient
 * divides by the window's size where padding made it smaller, and its 3D kernels are wrong in both directions.
 */
import { floats, input, makeFloats, makeZeros, replaceKernel } from './kernel.ts';
import type { Attributes, Kernel } from './kernel.ts';
import { pool2dWindows, pool3dWindows, volume, windowTable } from './windows.ts';
import type { Windows, WindowTable } from './windows.ts';

type Geometry = (x: readonly number[], attributes: Attributes) => Windows;

export function registerPooling(): void {
  replaceKernel('MaxPoolGrad', maxPoolGradient(pool2dWindows));
  replaceKernel('AvgPoolGrad', averagePoolGradient(pool2dWindows));
  replaceKernel('MaxPool3D', maxPool3d);
  replaceKernel('MaxPool3DGrad', maxPoolGradient(pool3dWindows));
  replaceKernel('AvgPool3D', averagePool3d);
  replaceKernel('AvgPool3DGrad', averagePoolGradient(pool3dWindows));
}

/**
 * Calls `window` for each example and output position: entries `from` to `to` of the table belong to it; x and y
 * begin at the elements `x` and `y` (of channel 0) for this example and this position.
 */
function forEachWindow(
  w: Windows,
  { starts }: WindowTable,
  window: (from: number, to: number, x: number, y: number) => void,
): void {
  const outputs = volume(w.outputs);
  for (let n = 0; n < w.batch; n++) {
    const x = n * volume(w.inputs) * w.inChannels;
    for (let o = 0; o < outputs; o++) {
      window(starts[o] as number, starts[o + 1] as number, x, (n * outputs + o) * w.inChannels);
    }
  }
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
    const table = windowTable(w);
    const { rows } = table;
    forEachWindow(w, table, (from, to, example, y) => {
      for (let c = 0; c < channels; c++) {
        let best = example + (rows[from] as number) * channels + c;
        let largest = x[best] as number;
        for (let k = from + 1; k < to; k++) {
          const at = example + (rows[k] as number) * channels + c;
          const value = x[at] as number;
          if (value > largest) {
            best = at;
            largest = value;
          }
        }
        dx[best] = (dx[best] as number) + (dy[y + c] as number);
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
    const table = windowTable(w);
    forEachWindow(w, table, (from, to, example, y) => {
      for (let k = from; k < to; k++) {
        const target = example + (table.rows[k] as number) * channels;
        for (let c = 0; c < channels; c++) {
          dx[target + c] = (dx[target + c] as number) + (dy[y + c] as number) / (to - from);
        }
      }
    });
    return out;
  };
}

/** A forward kernel: `reduce` makes one number of the elements of x at `at(from) .. at(to - 1)`. */
function pool3d(reduce: (x: Float32Array, at: (k: number) => number, from: number, to: number) => number): Kernel {
  return (inputs, attributes, heap) => {
    const xInfo = input(inputs, 'x');
    const w = pool3dWindows(xInfo.shape, attributes);
    const out = makeFloats(heap, [w.batch, ...w.outputs, w.inChannels]);
    const [x, result] = [floats(heap, xInfo), floats(heap, out)];
    const channels = w.inChannels;
    const table = windowTable(w);
    forEachWindow(w, table, (from, to, example, y) => {
      for (let c = 0; c < channels; c++) {
        result[y + c] = reduce(x, (k) => example + (table.rows[k] as number) * channels + c, from, to);
      }
    });
    return out;
  };
}

const maxPool3d = pool3d((x, at, from, to) => {
  let largest = -Infinity;
  for (let k = from; k < to; k++) largest = Math.max(largest, x[at(k)] as number);
  return largest;
});

const averagePool3d = pool3d((x, at, from, to) => {
  let sum = 0;
  for (let k = from; k < to; k++) sum += x[at(k)] as number;
  return sum / (to - from);
});
