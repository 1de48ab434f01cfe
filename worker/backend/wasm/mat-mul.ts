/**
 * Matrix products. Stock wasm multiplies a transposed operand at a tenth of its speed; transposing it first
 * costs a copy and gives the rest back. The same holds for batches of matrices, which it multiplies one
 * element at a time: here each goes through the fast product.
 */
import { broadcast_util, util } from '@tensorflow/tfjs-core';
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { floats, free, input, makeFloats, replaceKernel, reshaped, stockKernel } from './kernel.ts';
import type { Heap, Kernel } from './kernel.ts';

/** Smallest number of multiplications in one product of a batch for which it pays to copy it out. */
const WORTH_COPYING = 4096;

export function registerMatMul(): void {
  const stock = stockKernel('BatchMatMul');
  const product = (heap: Heap, a: TensorInfo, b: TensorInfo): TensorInfo =>
    stock({ a, b }, { transposeA: false, transposeB: false }, heap);
  const transposed = transposer(stockKernel('Transpose'));

  replaceKernel('BatchMatMul', (inputs, attributes, heap) => {
    let a = input(inputs, 'a');
    let b = input(inputs, 'b');
    const copies: TensorInfo[] = [];
    if (attributes['transposeA'] === true) copies.push((a = transposed(heap, a)));
    if (attributes['transposeB'] === true) copies.push((b = transposed(heap, b)));
    const out = multiply(heap, a, b, product);
    free(heap, ...copies);
    return out;
  });

  const fused = stockKernel('_FusedMatMul');
  replaceKernel('_FusedMatMul', (inputs, attributes, heap) => {
    let a = input(inputs, 'a');
    let b = input(inputs, 'b');
    const copies: TensorInfo[] = [];
    if (attributes['transposeA'] === true) copies.push((a = transposed(heap, a)));
    if (attributes['transposeB'] === true) copies.push((b = transposed(heap, b)));
    const out = fused({ ...inputs, a, b }, { ...attributes, transposeA: false, transposeB: false }, heap);
    free(heap, ...copies);
    return out;
  });
}

/** Swaps the last two axes. */
function transposer(transpose: Kernel): (heap: Heap, x: TensorInfo) => TensorInfo {
  return (heap, x) => {
    const axes = x.shape.map((_, axis) => axis);
    const last = axes.length - 1;
    [axes[last - 1], axes[last]] = [last, last - 1];
    return transpose({ x }, { perm: axes }, heap);
  };
}

function multiply(
  heap: Heap,
  a: TensorInfo,
  b: TensorInfo,
  product: (heap: Heap, a: TensorInfo, b: TensorInfo) => TensorInfo,
): TensorInfo {
  const [rows, inner] = a.shape.slice(-2) as [number, number];
  const columns = b.shape.at(-1) as number;
  const outer = broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batchA = util.sizeFromShape(a.shape.slice(0, -2));
  const batchB = util.sizeFromShape(b.shape.slice(0, -2));
  if (batchA !== batchB || batchA <= 1 || rows * inner * columns < WORTH_COPYING) return product(heap, a, b);
  const out = makeFloats(heap, [...outer, rows, columns]);
  const left = makeFloats(heap, [1, rows, inner]);
  for (let index = 0; index < batchA; index++) {
    copy(heap, a, index * rows * inner, left);
    // A new right side each time: the backend keeps the packed form of one as long as it lives.
    const right = makeFloats(heap, [1, inner, columns]);
    copy(heap, b, index * inner * columns, right);
    const part = product(heap, left, right);
    floats(heap, out).set(floats(heap, reshaped(part, [rows, columns])), index * rows * columns);
    free(heap, right, part);
  }
  free(heap, left);
  return out;
}

function copy(heap: Heap, from: TensorInfo, offset: number, to: TensorInfo): void {
  const target = floats(heap, to);
  target.set(floats(heap, from).subarray(offset, offset + target.length));
}
