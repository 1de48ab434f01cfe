import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { readRange } from '../../shared/checkpoint/reshard.ts';
import type { ParameterSpec } from '../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import type { Channels } from '../../shared/quantization/channels.ts';
import { dequantizePerChannel, quantizePerChannel } from '../../shared/quantization/fake-quantize.ts';
import { channelsOf, symmetricLimits, symmetricScales } from '../../shared/quantization/symmetric.ts';
import type { WeightPrecision } from '../../shared/quantization/symmetric.ts';
import { pack, unpack } from '../../shared/sparsity/packing.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';
import { transformAt, weightTransforms } from '../../worker/training/weight-transforms.ts';
import type { ExportSource } from './format.ts';

/** A parameter as whole numbers; element `i` stands for whole[i] x scales[its channel]. */
export interface WholeNumbers {
  readonly whole: Int8Array;
  readonly scales: Float32Array;
  readonly channels: Channels;
  readonly bits: WeightPrecision['bits'];
}

export interface QuantizedParameter {
  readonly spec: ParameterSpec;
  /** Dense values, those that whole numbers stand for; exactly +0 where dead. */
  readonly values: Float32Array;
  /** Null where it stays float32. */
  readonly quantized: WholeNumbers | null;
}

/** A checkpoint's weights made ready for an export that stores whole numbers. */
export interface QuantizedModel {
  /** In model order. */
  readonly parameters: readonly QuantizedParameter[];
  /** Bit 1 = survivor, over the whole parameter space. */
  readonly mask: Uint8Array;
  /** The checkpoint's non-trainable state. */
  readonly state: Float32Array;
}

/** How each parameter is quantized; null: it stays float32. */
export type PrecisionOf = (parameter: ParameterSpec) => WeightPrecision | null;

/**
 * Quantizes what the run computed with: its own weight transforms come first, but fake quantization only where the
 * export's is another. Memory: the dense model twice.
 */
export async function quantizeModel(
  { folder, manifest }: ExportSource,
  precisionOf: PrecisionOf,
  options: { readonly keepsOwn: boolean },
): Promise<QuantizedModel> {
  const { config, clock, model } = manifest;
  const { quantization: _, ...others } = config;
  const transform = transformAt(weightTransforms(options.keepsOwn ? others : config), clock);
  const space = ParameterSpace.of(model.parameters);
  const { mask, stored, weights, state } = await readRange(folder, manifest, 0, space.size, { withState: true });
  const dense = unpack(compact(weights, stored, mask), mask, space.size);
  const parameters = space.parameters.map(({ offset, size, ...spec }): QuantizedParameter => {
    const part = dense.subarray(offset, offset + size);
    const latent = transform === null ? part : transform(part, spec);
    const precision = precisionOf(spec);
    if (precision === null) return { spec, values: latent, quantized: null };
    const channels = channelsOf(spec, precision);
    const scales = symmetricScales(latent, channels, precision.bits);
    const whole = quantizePerChannel(latent, channels, scales, symmetricLimits(precision.bits));
    const quantized = { whole, scales, channels, bits: precision.bits };
    return { spec, values: dequantizePerChannel(whole, channels, scales), quantized };
  });
  return { parameters, mask, state: state ?? new Float32Array(0) };
}

/** The values of all parameters, packed over the survivors in flat order. */
export function packedValues({ parameters, mask }: QuantizedModel): Float32Array {
  const dense = new Float32Array(parameters.reduce((sum, { values }) => sum + values.length, 0));
  let at = 0;
  for (const { values } of parameters) {
    dense.set(values, at);
    at += values.length;
  }
  return pack(dense, mask);
}

/** Whether the checkpoint's clock lies where the run computes quantized. */
export function isQuantizing({ config, clock }: Manifest): boolean {
  return config.quantization !== undefined && clock >= config.quantization.beginStep;
}
