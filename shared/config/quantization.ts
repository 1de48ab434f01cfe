import * as z from 'zod';
import { flag, mapping, only, position, real } from './fields.ts';

const matchError = 'must be a glob of parameter names, such as "*/kernel"';
const bitsError = 'must be 8 or 4';

const weights = mapping('how weights become whole numbers while they are computed with', {
  bits: z
    .union([z.literal(8), z.literal(4)], { error: bitsError })
    .describe('8: -127 .. 127, 4: -7 .. 7; default 8')
    .default(8),
  perChannel: flag('a scale for each output channel, not one for the tensor; default true').default(true),
});

const activations = mapping("how the model's inputs and its layers' outputs become whole numbers", {
  bits: only('-127 .. 127; default 8', 8, 'another width of activations').default(8),
  decay: real('weight of the past in the moving average of max|x|, 0 <= x < 1; default 0.99', {
    min: 0,
    below: 1,
  }).default(0.99),
});

/** Quantization-aware training. Absent: off. */
export const quantizationSchema = mapping('quantization-aware training: compute with what whole numbers stand for', {
  weights: weights.nullable().describe('null: weights stay float32; default 8 bits per channel').prefault({}),
  activations: activations
    .nullable()
    .describe('null: activations stay float32, the default; {} for 8 bits')
    .default(null),
  beginStep: position(
    'the first step after it computes quantized, ranges are observed from the start; a step, `30%` of the run, or `3 epochs`; default 0',
  ).default(0),
  match: z
    .string({ error: matchError })
    .min(1, { error: matchError })
    .nullable()
    .describe('glob of the parameters that are quantized; default: kernels of dense and convolution layers')
    .default(null),
})
  .describe('quantization-aware training; default none')
  .optional();

/** The resolved key of the effective run file. */
export interface QuantizationConfig {
  readonly weights: { readonly bits: 8 | 4; readonly perChannel: boolean } | null;
  /** Ranges are a moving average of max|x|: range += (1 - decay) x (max|x| - range). */
  readonly activations: { readonly bits: 8; readonly decay: number } | null;
  /** The weights of this clock are the first that are quantized: step beginStep + 1 computes with them. */
  readonly beginStep: number;
  /** Glob of parameter names; null: the prunable parameters (kernels of dense and convolution layers). */
  readonly match: string | null;
}
