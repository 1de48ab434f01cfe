/**
 * Batch normalisation. Stock wasm reads statistics as if they lay along the last axis, whatever their shape:
 * normalising along another axis gave wrong numbers.
 */
import { util } from '@tensorflow/tfjs-core';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { floats, free, input, makeFloats, replaceKernel, stockKernel } from './kernel.ts';

export function registerBatchNorm(): void {
  const stock = stockKernel('FusedBatchNorm');
  const [add, sub, mul, rsqrt] = ['Add', 'Sub', 'Multiply', 'Rsqrt'].map(stockKernel) as [
    Kernel,
    Kernel,
    Kernel,
    Kernel,
  ];

  replaceKernel('FusedBatchNorm', (inputs, attributes, heap) => {
    const x = input(inputs, 'x');
    const mean = input(inputs, 'mean');
    const variance = input(inputs, 'variance');
    const { scale, offset } = inputs;
    const alongLast = [mean, variance, scale, offset].every((info) => !info || followsX(info, x));
    if (alongLast) return stock(inputs, attributes, heap);

    const epsilon = makeFloats(heap, []);
    floats(heap, epsilon)[0] = attributes['varianceEpsilon'] as number;
    const shifted = add({ a: variance, b: epsilon }, {}, heap);
    const inverse = rsqrt({ x: shifted }, {}, heap);
    const factor = scale ? mul({ a: inverse, b: scale }, {}, heap) : inverse;
    const centred = sub({ a: x, b: mean }, {}, heap);
    const scaled = mul({ a: centred, b: factor }, {}, heap);
    const out = offset ? add({ a: scaled, b: offset }, {}, heap) : scaled;
    free(heap, epsilon, shifted, inverse, centred);
    if (factor !== inverse) free(heap, factor);
    if (out !== scaled) free(heap, scaled);
    return out;
  });
}

type Kernel = ReturnType<typeof stockKernel>;

/** Whether the flat index of `info` is that of x modulo its size, which is how stock wasm reads it. */
function followsX(info: TensorInfo, x: TensorInfo): boolean {
  const trimmed = info.shape.slice(info.shape.findIndex((length) => length !== 1));
  const size = util.sizeFromShape(info.shape);
  return size === 1 || trimmed.join() === x.shape.slice(x.shape.length - trimmed.length).join();
}
