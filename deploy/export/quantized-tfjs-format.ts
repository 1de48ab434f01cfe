import type { io } from '@tensorflow/tfjs-core';
import { bytesOf, sizeOfShape, type TensorSpec } from '../../shared/checkpoint/safetensors.ts';
import { isOwnState } from '../../shared/layout/own-states.ts';
import { withoutRanges } from './dense-tensors.ts';
import type { ExportFormat } from './format.ts';
import type { QuantizedModel, WholeNumbers } from './quantized-model.ts';
import { untrainedWeights, writeLayersModel } from './tfjs-format.ts';

/** The byte that stands for 0. */
const ZERO = 128;

/**
 * TensorFlow.js layers format with uint8 weights: `quantization: { dtype, scale, min }` in the weights manifest, as
 * tensorflowjs_converter writes it, so that stock TensorFlow.js makes byte x scale + min of them while loading. min is
 * -128 x scale, exactly: zeros come back as +0. The model's states stay float32.
 */
export function quantizedTfjs({ parameters, state }: QuantizedModel): ExportFormat {
  return async (folder, { manifest, metadata }) => {
    const { topology, states } = manifest.model;
    const weights = parameters.map(({ spec, values, quantized }) =>
      quantized === null ? float32(spec, bytesOf(values)) : uint8(spec, quantized, values),
    );
    let at = 0;
    for (const each of states) {
      const size = sizeOfShape(each.shape);
      if (!isOwnState(each)) weights.push(float32(each, bytesOf(state.slice(at, at + size))));
      at += size;
    }
    for (const each of await untrainedWeights(withoutRanges(manifest))) weights.push(float32(each, each.bytes));
    return writeLayersModel(folder, {
      topology,
      metadata,
      weights: weights.map(({ entry }) => entry),
      size: weights.reduce((sum, { bytes }) => sum + bytes.length, 0),
      bytes: () => all(weights.map(({ bytes }) => bytes)),
      values: () => all(weights.map(({ values }) => values)),
    });
  };
}

interface StoredWeight {
  readonly entry: io.WeightsManifestEntry;
  readonly bytes: Uint8Array;
  /** What TensorFlow.js must make of the bytes, float32. */
  readonly values: Uint8Array;
}

type Named = Pick<TensorSpec, 'name' | 'shape'>;

function float32({ name, shape }: Named, bytes: Uint8Array): StoredWeight {
  return { entry: { name, shape: [...shape], dtype: 'float32' }, bytes, values: bytes };
}

function uint8({ name, shape }: Named, { whole, scales }: WholeNumbers, values: Float32Array): StoredWeight {
  const scale = scales[0] ?? 0;
  return {
    entry: {
      name,
      shape: [...shape],
      dtype: 'float32',
      quantization: { dtype: 'uint8', scale, min: -ZERO * scale },
    },
    bytes: Uint8Array.from(whole, (q) => q + ZERO),
    values: bytesOf(values),
  };
}

async function* all(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}
