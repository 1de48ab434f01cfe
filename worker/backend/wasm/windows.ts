/**
 * The geometry of a sliding window over depth, height and width; one and two dimensions have depth 1. Tensors
 * are channels last: x is [batch, inputs 0, 1, 2, channels], y [batch, outputs 0, 1, 2, channels].
 */
import { backend_util } from '@tensorflow/tfjs-core';
import type { Attributes } from './kernel.ts';

type Triple = readonly [depth: number, height: number, width: number];

export interface Windows {
  readonly batch: number;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly inputs: Triple;
  readonly outputs: Triple;
  readonly size: Triple;
  readonly strides: Triple;
  readonly dilations: Triple;
  /** Padding before the first element. */
  readonly before: Triple;
}

type Shape4 = [number, number, number, number];
type Shape5 = [number, number, number, number, number];
type Info2 = ReturnType<typeof backend_util.computeConv2DInfo>;
type Info3 = ReturnType<typeof backend_util.computeConv3DInfo>;

/** Attributes as TensorFlow.js passes them to its convolution and pooling kernels. */
interface WindowAttributes {
  readonly filterSize: [number, number];
  readonly strides: [number, number] | number;
  readonly dilations?: [number, number] | number;
  readonly pad: 'same' | 'valid' | number;
  readonly dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

function read(attributes: Attributes): WindowAttributes {
  return attributes as unknown as WindowAttributes;
}

export function conv2dWindows(
  x: readonly number[],
  filter: readonly number[],
  attributes: Attributes,
  depthwise = false,
): Windows {
  if (attributes['dataFormat'] === 'NCHW') throw new Error('the wasm backend computes convolutions in NHWC only');
  return from2(conv2dInfo(x, filter, attributes, depthwise));
}

/** Shapes and padding as TensorFlow.js works them out. */
export function conv2dInfo(
  x: readonly number[],
  filter: readonly number[],
  attributes: Attributes,
  depthwise: boolean,
): Info2 {
  const { strides, dilations, pad, dimRoundingMode } = read(attributes);
  const rate = dilations ?? [1, 1];
  return backend_util.computeConv2DInfo(x as Shape4, filter as Shape4, strides, rate, pad, dimRoundingMode, depthwise);
}

export function pool2dWindows(x: readonly number[], attributes: Attributes): Windows {
  const { filterSize, strides, pad, dimRoundingMode } = read(attributes);
  return from2(backend_util.computePool2DInfo(x as Shape4, filterSize, strides, 1, pad, dimRoundingMode));
}

export function conv3dWindows(x: readonly number[], filter: readonly number[], attributes: Attributes): Windows {
  const { strides, dilations, pad } = attributes as unknown as {
    strides: Triple | number;
    dilations?: Triple | number;
    pad: 'same' | 'valid';
  };
  const triple = (value: Triple | number): [number, number, number] =>
    typeof value === 'number' ? [value, value, value] : [...value];
  return from3(
    backend_util.computeConv3DInfo(x as Shape5, filter as Shape5, triple(strides), triple(dilations ?? 1), pad),
  );
}

export function pool3dWindows(x: readonly number[], attributes: Attributes): Windows {
  const { filterSize, strides, pad, dimRoundingMode } = attributes as unknown as {
    filterSize: [number, number, number];
    strides: [number, number, number];
    pad: 'same' | 'valid';
    dimRoundingMode?: 'floor';
  };
  return from3(backend_util.computePool3DInfo(x as Shape5, filterSize, strides, 1, pad, dimRoundingMode));
}

function from2(info: Info2): Windows {
  return {
    batch: info.batchSize,
    inChannels: info.inChannels,
    outChannels: info.outChannels,
    inputs: [1, info.inHeight, info.inWidth],
    outputs: [1, info.outHeight, info.outWidth],
    size: [1, info.filterHeight, info.filterWidth],
    strides: [1, info.strideHeight, info.strideWidth],
    dilations: [1, info.dilationHeight, info.dilationWidth],
    before: [0, info.padInfo.top, info.padInfo.left],
  };
}

function from3(info: Info3): Windows {
  return {
    batch: info.batchSize,
    inChannels: info.inChannels,
    outChannels: info.outChannels,
    inputs: [info.inDepth, info.inHeight, info.inWidth],
    outputs: [info.outDepth, info.outHeight, info.outWidth],
    size: [info.filterDepth, info.filterHeight, info.filterWidth],
    strides: [info.strideDepth, info.strideHeight, info.strideWidth],
    dilations: [info.dilationDepth, info.dilationHeight, info.dilationWidth],
    // TensorFlow.js makes 'same' padding negative in 3D where a stride is larger than the window.
    before: [Math.max(0, info.padInfo.front), Math.max(0, info.padInfo.top), Math.max(0, info.padInfo.left)],
  };
}

/** Elements of `triple` multiplied. */
export function volume([depth, height, width]: Triple): number {
  return depth * height * width;
}

/**
 * Which rows of x each output position covers, the same for every example. Entries `starts[o] .. starts[o + 1]`
 * belong to output position o (an index of [outputs]): `rows` are indices of [inputs], `taps` of [size].
 * Padding is left out.
 */
export interface WindowTable {
  readonly starts: Int32Array;
  readonly rows: Int32Array;
  readonly taps: Int32Array;
}

export function windowTable(w: Windows): WindowTable {
  const starts = new Int32Array(volume(w.outputs) + 1);
  const rows = new Int32Array(volume(w.outputs) * volume(w.size));
  const taps = new Int32Array(rows.length);
  const [inD, inH, inW] = w.inputs;
  const [outD, outH, outW] = w.outputs;
  const [sizeD, sizeH, sizeW] = w.size;
  let count = 0;
  let output = 0;
  for (let od = 0; od < outD; od++) {
    for (let oh = 0; oh < outH; oh++) {
      for (let ow = 0; ow < outW; ow++) {
        for (let kd = 0; kd < sizeD; kd++) {
          const d = od * w.strides[0] + kd * w.dilations[0] - w.before[0];
          if (d < 0 || d >= inD) continue;
          for (let kh = 0; kh < sizeH; kh++) {
            const h = oh * w.strides[1] + kh * w.dilations[1] - w.before[1];
            if (h < 0 || h >= inH) continue;
            for (let kw = 0; kw < sizeW; kw++) {
              const column = ow * w.strides[2] + kw * w.dilations[2] - w.before[2];
              if (column < 0 || column >= inW) continue;
              rows[count] = (d * inH + h) * inW + column;
              taps[count++] = (kd * sizeH + kh) * sizeW + kw;
            }
          }
        }
        starts[++output] = count;
      }
    }
  }
  return { starts, rows, taps };
}
