/**
 * The chained methods of tensors. TensorFlow.js ships them only as browser modules that would load a second
 * copy of its core, so they are bound here: each is the op of the same name with the tensor as first argument.
 */
import type * as Core from '@tensorflow/tfjs-core';
import type { Tensor, Tensor4D, TensorLike } from '@tensorflow/tfjs-core';

type Core = typeof Core;
type Method = (this: Tensor, ...args: never[]) => unknown;

/** Methods that are the op of the same name. */
const PLAIN = `abs acos acosh add all any argMax argMin asin asinh atan atan2 atanh avgPool batchToSpaceND batchNorm
  broadcastTo cast ceil clipByValue conv1d conv2d conv2dTranspose cos cosh cumprod cumsum depthToSpace depthwiseConv2d
  dilation2d div divNoNan dot elu equal erf euclideanNorm exp expandDims expm1 fft floor floorDiv gather greater
  greaterEqual ifft irfft isFinite isInf isNaN leakyRelu less lessEqual localResponseNormalization log log1p logSigmoid
  logSoftmax logSumExp logicalAnd logicalNot logicalOr logicalXor matMul max maxPool maximum mean min minimum mirrorPad
  mod mul neg norm notEqual oneHot onesLike pad pool pow prelu prod reciprocal relu relu6 reshape reverse rfft round rsqrt selu separableConv2d sigmoid sign sin sinh slice softmax softplus
  spaceToBatchND split sqrt square squaredDifference squeeze step stridedSlice sub sum tan tanh tile topk transpose
  unique unsortedSegmentSum unstack zerosLike`;

/** Adds the chained methods to the tensor class of `core`. Harmless when repeated. */
export function registerChainedOps(core: Core): void {
  const prototype = core.Tensor.prototype as unknown as Record<string, unknown>;
  const define = (name: string, method: Method): void => {
    prototype[name] = function (this: Tensor, ...args: never[]): unknown {
      (this as unknown as { throwIfDisposed(): void }).throwIfDisposed();
      return method.apply(this, args);
    };
  };
  const ops = core as unknown as Record<string, (x: Tensor, ...args: never[]) => unknown>;
  for (const name of PLAIN.split(/\s+/)) {
    const op = ops[name];
    if (op === undefined) throw new Error(`TensorFlow.js has no op ${name}`);
    define(name, function (...args) {
      return op(this, ...args);
    });
  }
  const shaped = function (this: Tensor, ...shape: number[]): unknown {
    return core.reshape(this, shape);
  };
  for (const name of ['as2D', 'as3D', 'as4D', 'as5D']) define(name, shaped);
  for (const name of ['as1D', 'flatten'])
    define(name, function () {
      return core.reshape(this, [this.size]);
    });
  define('asScalar', function () {
    core.util.assert(this.size === 1, () => 'The array must have only 1 element.');
    return core.reshape(this, []);
  });
  define('reshapeAs', function (x: Tensor) {
    return core.reshape(this, x.shape);
  });
  for (const name of ['resizeBilinear', 'resizeNearestNeighbor'] as const) {
    define(name, function (...args) {
      return core.image[name](this as Tensor4D, ...(args as unknown as [[number, number]]));
    });
  }
  define('asType', function (dtype: 'float32') {
    return core.cast(this, dtype);
  });
  define('toBool', function () {
    return core.cast(this, 'bool');
  });
  define('toFloat', function () {
    return core.cast(this, 'float32');
  });
  define('toInt', function () {
    return core.cast(this, 'int32');
  });
  define('concat', function (x: Tensor | Tensor[], axis?: number) {
    return core.concat([this, ...(x instanceof core.Tensor ? [x] : x)], axis);
  });
  define('stack', function (x: Tensor | Tensor[], axis?: number) {
    return core.stack([this, ...(x instanceof core.Tensor ? [x] : x)], axis);
  });
  define('where', function (condition: Tensor | TensorLike, x: Tensor | TensorLike) {
    return core.where(condition, this, x);
  });
}
