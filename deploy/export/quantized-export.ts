import { WhittleError } from '../../shared/errors.ts';
import { matchesGlob } from '../../shared/sparsity/glob.ts';
import type { ExportFormat, ExportSource } from './format.ts';
import { measureQuantized, type ActivationRange } from './quantized-accuracy.ts';
import { isQuantizing, quantizeModel, type PrecisionOf } from './quantized-model.ts';
import { quantizedPacked } from './quantized-packed-format.ts';
import { quantizedSafetensors } from './quantized-safetensors-format.ts';
import { quantizedTfjs } from './quantized-tfjs-format.ts';

/** What an export manifest says of a quantized export. */
export interface QuantizationReport {
  readonly weights: string;
  readonly activations: string;
  /** With exactly the values in the files; null where there is no test set, or its labels are no classes. */
  readonly testAccuracy: number | null;
  /** What int8 activations stand for; empty where they stay float32. */
  readonly ranges: readonly ActivationRange[];
}

export interface QuantizedExport {
  readonly write: ExportFormat;
  readonly report: QuantizationReport;
}

/**
 * An export that stores whole numbers, its accuracy measured on the test set.
 * safetensors: what the run trained with, or int8 per output channel of the kernels, and ranges of activations; packed:
 * the survivors only.
 * tfjs: all parameters as TensorFlow.js's own quantization has them, one scale a tensor.
 * Errors: UNSUPPORTED for other formats; those of building the run's model and reading its data.
 */
export async function quantizedExport(format: string, packed: boolean, source: ExportSource): Promise<QuantizedExport> {
  const { manifest } = source;
  if (format === 'safetensors') {
    const model = await quantizeModel(source, ownPrecision(source), { keepsOwn: true });
    const { testAccuracy, ranges } = await measureQuantized(manifest, model, { activations: true });
    const { weights = null, match = null } = manifest.config.quantization ?? {};
    const precision = weights !== null && isQuantizing(manifest) ? weights : STANDARD;
    return {
      write: packed ? quantizedPacked(model, ranges) : quantizedSafetensors(model, ranges),
      report: {
        weights:
          `int${precision.bits} per ${precision.perChannel ? 'output channel' : 'tensor'}, ` +
          (match === null ? 'kernels' : `parameters ${match}`),
        activations: 'int8 per tensor',
        testAccuracy,
        ranges,
      },
    };
  }
  if (format === 'tfjs') {
    const model = await quantizeModel(source, () => ({ bits: 8, perChannel: false }), { keepsOwn: false });
    const { testAccuracy, ranges } = await measureQuantized(manifest, model, { activations: false });
    return {
      write: quantizedTfjs(model),
      report: { weights: 'uint8 per tensor, all parameters', activations: 'float32', testAccuracy, ranges },
    };
  }
  throw new WhittleError(
    'UNSUPPORTED',
    `--quantize int8 goes with --format safetensors and tfjs, not with ${format}; choose one of them`,
  );
}

const STANDARD = { bits: 8, perChannel: true } as const;

/** As the run trained, else int8 per channel; either for what the run file's match names, else for kernels. */
function ownPrecision({ manifest }: ExportSource): PrecisionOf {
  const { weights = null, match = null } = manifest.config.quantization ?? {};
  const precision = weights !== null && isQuantizing(manifest) ? weights : STANDARD;
  return ({ name, prunable }) => ((match === null ? prunable : matchesGlob(match, name)) ? precision : null);
}
