/**
 * Gradients of TensorFlow.js core that are missing or wrong on every backend.
 */
import * as tfc from '@tensorflow/tfjs-core';
import type { Tensor } from '@tensorflow/tfjs-core';

let registered = false;

/** Once in a thread. */
export function registerGradients(): void {
  if (registered) return;
  registered = true;
  registerComparisons();
  registerExtremes();
  registerReductions();
  registerBatchNorm();
}

function replaceGradient(config: Parameters<typeof tfc.registerGradient>[0]): void {
  if (tfc.getGradient(config.kernelName) !== undefined && tfc.getGradient(config.kernelName) !== null) {
    tfc.unregisterGradient(config.kernelName);
  }
  tfc.registerGradient(config);
}

/** Adds up what a broadcast of `shape` repeated. */
function sumTo(x: Tensor, shape: number[]): Tensor {
  const axes = tfc.broadcast_util.getReductionAxes(shape, x.shape);
  return tfc.reshape(axes.length > 0 ? tfc.sum(x, axes) : x, shape);
}

/** Comparisons are constant almost everywhere. ThresholdedReLU and Masking need this. */
function registerComparisons(): void {
  const zeros = (x: Tensor | undefined): Tensor => tfc.zeros((x as Tensor).shape, 'float32');
  for (const kernelName of [
    'Greater',
    'GreaterEqual',
    'Less',
    'LessEqual',
    'Equal',
    'NotEqual',
    'LogicalAnd',
    'LogicalOr',
  ]) {
    replaceGradient({
      kernelName,
      inputsToSave: ['a', 'b'],
      gradFunc: (_dy, [a, b]) => ({ a: () => zeros(a), b: () => zeros(b) }),
    });
  }
  for (const kernelName of ['Any', 'All', 'LogicalNot']) {
    replaceGradient({ kernelName, inputsToSave: ['x'], gradFunc: (_dy, [x]) => ({ x: () => zeros(x) }) });
  }
}

/** Element-wise maximum and minimum: stock forgets to add up over broadcast axes. Ties go to the first operand. */
function registerExtremes(): void {
  for (const [kernelName, first, second] of [
    ['Maximum', tfc.greaterEqual, tfc.less],
    ['Minimum', tfc.lessEqual, tfc.greater],
  ] as const) {
    replaceGradient({
      kernelName,
      inputsToSave: ['a', 'b'],
      gradFunc: (dy, saved) => {
        const [a, b] = saved as [Tensor, Tensor];
        const part = (won: Tensor, shape: number[]): Tensor =>
          sumTo(tfc.mul(dy as Tensor, tfc.cast(won, 'float32')), shape);
        return { a: () => part(first(a, b), a.shape), b: () => part(second(a, b), b.shape) };
      },
    });
  }
}

/** Maxima and minima over axes: elements that tie share the gradient; stock gives each of them all of it. */
function registerReductions(): void {
  for (const [kernelName, attribute] of [
    ['Max', 'reductionIndices'],
    ['Min', 'axis'],
  ] as const) {
    replaceGradient({
      kernelName,
      inputsToSave: ['x'],
      outputsToSave: [true],
      gradFunc: (dy, saved, attributes) => {
        const [x, y] = saved as [Tensor, Tensor];
        const axes = tfc.util.parseAxisParam(attributes[attribute] as number[], x.shape);
        const kept = x.shape.map((length, axis) => (axes.includes(axis) ? 1 : length));
        return {
          x: () => {
            const won = tfc.cast(tfc.equal(x, tfc.reshape(y, kept)), 'float32');
            return tfc.mul(won, tfc.div(tfc.reshape(dy as Tensor, kept), tfc.sum(won, axes, true)));
          },
        };
      },
    });
  }
}

/** Batch normalisation for statistics of any shape that broadcasts against x; stock takes [channels] only. */
function registerBatchNorm(): void {
  replaceGradient({
    kernelName: 'FusedBatchNorm',
    inputsToSave: ['x', 'mean', 'variance', 'scale'],
    gradFunc: (dy, saved, attributes) => {
      const [x, mean, variance, scale] = saved as [Tensor, Tensor, Tensor, Tensor];
      const inverse = tfc.rsqrt(tfc.add(variance, attributes['varianceEpsilon'] as number));
      const scaled = tfc.mul(scale, inverse);
      const total = sumTo(dy as Tensor, mean.shape);
      // Sum of dy (x - mean): what variance and scale need.
      const moment = sumTo(tfc.mul(dy as Tensor, tfc.sub(x, mean)), mean.shape);
      return {
        x: () => tfc.mul(dy as Tensor, scaled),
        mean: () => tfc.neg(tfc.mul(total, scaled)),
        variance: () => tfc.mul(tfc.mul(moment, scaled), tfc.mul(tfc.square(inverse), -0.5)),
        scale: () => tfc.mul(moment, inverse),
        offset: () => total,
      };
    },
  });
}
