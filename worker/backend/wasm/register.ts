import { registerBatchNorm } from './batch-norm.ts';
import { registerConvolution2d } from './convolution-2d.ts';
import { registerConvolution3d } from './convolution-3d.ts';
import { registerDepthwise } from './depthwise.ts';
import { registerMatMul } from './mat-mul.ts';
import { registerPadding } from './padding.ts';
import { registerPooling } from './pooling.ts';
import { registerSegmentSum } from './segment-sum.ts';

let registered = false;

/** Replaces the kernels of the wasm backend that are wrong, slow or missing. Once in a thread, after the backend started. */
export function registerWasmKernels(): void {
  if (registered) return;
  registered = true;
  registerMatMul();
  registerPadding();
  registerConvolution2d();
  registerDepthwise();
  registerConvolution3d();
  registerPooling();
  registerSegmentSum();
  registerBatchNorm();
}
