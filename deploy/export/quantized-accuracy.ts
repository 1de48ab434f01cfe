import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { isActivationRange } from '../../shared/quantization/activation-range.ts';
import { Engine } from '../../worker/training/engine.ts';
import { evaluateAll } from '../../worker/training/evaluate-all.ts';
import { isQuantizing, packedValues, type QuantizedModel } from './quantized-model.ts';

/** Global batches of training data that ranges of activations are taken from. */
export const CALIBRATION_BATCHES = 10;

export interface ActivationRange {
  /** `<layer>/activation_range` */
  readonly name: string;
  /** Largest |x| that int8 stands for: whole numbers times range / 127. */
  readonly range: number;
}

export interface QuantizedAccuracy {
  /** Null where there is no test set, or its labels are no classes. */
  readonly testAccuracy: number | null;
  /** Empty where activations stay float32. */
  readonly ranges: readonly ActivationRange[];
}

/**
 * Accuracy of an export with exactly the values that it stores, and with int8 activations where asked for. Their
 * ranges are the run's own where it trained with them, else the largest |x| in ten batches of training data.
 * Errors: those of building the run's model and reading its data.
 */
export async function measureQuantized(
  manifest: Manifest,
  model: QuantizedModel,
  options: { readonly activations: boolean },
): Promise<QuantizedAccuracy> {
  const { quantization: own, ...others } = manifest.config;
  const config: RunConfig = options.activations
    ? {
        ...others,
        quantization: {
          weights: null,
          activations: own?.activations ?? { bits: 8, decay: 0 },
          beginStep: 0,
          match: null,
        },
      }
    : others;
  const engine = await Engine.create({ config, left: manifest.model });
  try {
    const weights = packedValues(model);
    const { states } = engine.description;
    const size = states.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    // Ranges come last, and start at 0 where the checkpoint has none.
    let state: Float32Array = new Float32Array(size);
    state.set(model.state.subarray(0, size));
    engine.setMask(model.mask);
    // No weight transform acts before clock 0: these are the exported values.
    engine.setWeights(weights, state, -1);
    const hasRanges = manifest.model.states.some(isActivationRange) && isQuantizing(manifest);
    if (options.activations && !hasRanges) {
      state = await engine.calibrate(CALIBRATION_BATCHES);
      engine.setWeights(weights, state, -1);
    }
    engine.keepForEvaluation(0);
    const names = states.filter(isActivationRange).map(({ name }) => name);
    const ranges = [...state.subarray(size - names.length)];
    return {
      testAccuracy: engine.numEvaluationChunks === 0 ? null : (await evaluateAll(engine, 0)).testAccuracy,
      ranges: names.map((name, i) => ({ name, range: ranges[i] as number })),
    };
  } finally {
    engine.dispose();
  }
}
