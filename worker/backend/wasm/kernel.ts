/**
 * What kernels of the wasm backend are built from: memory on its heap, the kernels it ships with, and how one
 * kernel takes the place of another.
 */
import * as tfc from '@tensorflow/tfjs-core';
import type { NamedAttrMap, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core';

/** The members of the wasm backend that kernels use. */
export interface Heap {
  /** New memory on the heap, not cleared. It may move the heap: views taken earlier are dead afterwards. */
  makeOutput(shape: readonly number[], dtype: 'float32' | 'int32'): TensorInfo;
  typedArrayFromHeap(info: TensorInfo): Float32Array | Int32Array | Uint8Array;
  disposeData(dataId: object): boolean;
}

export type Inputs = NamedTensorInfoMap;
export type Attributes = NamedAttrMap;
export type Kernel = (inputs: Inputs, attributes: Attributes, heap: Heap) => TensorInfo;

/** Registers a kernel, in place of the stock one if there is one. */
export function replaceKernel(kernelName: string, kernel: Kernel): void {
  if (tfc.getKernel(kernelName, 'wasm') !== undefined) tfc.unregisterKernel(kernelName, 'wasm');
  tfc.registerKernel({
    kernelName,
    backendName: 'wasm',
    kernelFunc: ({ inputs, backend, attrs }) => kernel(inputs, attrs ?? {}, backend as Heap),
  });
}

/** The kernel that is registered now, to be called from one that takes its place or from another. */
export function stockKernel(kernelName: string): Kernel {
  const { kernelFunc } = tfc.getKernel(kernelName, 'wasm');
  return (inputs, attrs, heap) => kernelFunc({ inputs, attrs, backend: heap }) as TensorInfo;
}

export function input(inputs: Inputs, name: string): TensorInfo {
  const info = inputs[name];
  if (info === undefined || info === null) throw new Error(`the kernel needs an input ${name}`);
  return info;
}

/** A view of a float32 tensor on the heap, good until the next allocation. */
export function floats(heap: Heap, info: TensorInfo): Float32Array {
  return heap.typedArrayFromHeap(info) as Float32Array;
}

export function makeFloats(heap: Heap, shape: readonly number[]): TensorInfo {
  return heap.makeOutput(shape, 'float32');
}

export function makeZeros(heap: Heap, shape: readonly number[]): TensorInfo {
  const info = makeFloats(heap, shape);
  floats(heap, info).fill(0);
  return info;
}

/** The same data under another shape. Owns nothing: dispose the original only. */
export function reshaped(info: TensorInfo, shape: number[]): TensorInfo {
  return { dataId: info.dataId, dtype: info.dtype, shape };
}

/** Frees intermediate tensors. */
export function free(heap: Heap, ...infos: readonly TensorInfo[]): void {
  for (const { dataId } of infos) heap.disposeData(dataId);
}
