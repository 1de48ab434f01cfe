/**
 * Fake quantization of activations: symmetric int8 per tensor, of the model's inputs and of what its layers give out,
 * within ranges that are a moving average of max|x| (Jacob et al. 2018). A layer's forward pass is wrapped on the
 * instance, so that class, weights and configuration, and thus exported models, stay what they were.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers';
import type { QuantizationConfig } from '../../shared/config/quantization.ts';
import { activationRangeName } from '../../shared/quantization/activation-range.ts';
import { maxAbs } from '../../shared/quantization/max-abs.ts';
import { symmetricLimits } from '../../shared/quantization/symmetric.ts';
import type { Tf } from '../backend/tf.ts';
import type { ModelVariables } from '../model/describe-model.ts';
import type { LayerView } from '../model/layer-tree.ts';
import { quantizedInputs, quantizedLayers } from '../model/quantized-layers.ts';
import { viewOfTensor } from './weight-sets.ts';

/** A model's variables with the ranges among its states, and what uses them. */
export interface Quantized {
  readonly variables: ModelVariables;
  /** Null where activations stay float32. */
  readonly activations: ActivationQuantizer | null;
}

/** Wraps the layers of a built model where the run file asks for quantized activations. */
export function quantizeActivations(
  tf: Tf,
  model: LayersModel,
  variables: ModelVariables,
  options: QuantizationConfig['activations'],
): Quantized {
  if (options === null) return { variables, activations: null };
  const activations = new ActivationQuantizer(tf, model, variables, options);
  const { names, parameters, states } = variables;
  return {
    variables: {
      names: { ...names, variables: new Map([...names.variables, ...activations.ranges]) },
      parameters,
      states: [...states, ...activations.ranges.keys()],
    },
    activations,
  };
}

/** What the next forward pass does with ranges and activations. */
export interface ActivationPhase {
  /** `average`: move the ranges, `largest`: widen them to all that is met, null: leave them. */
  readonly observe: 'average' | 'largest' | null;
  /** Whether activations are quantized. One whose range was never observed stays as it is. */
  readonly quantize: boolean;
}

export class ActivationQuantizer {
  /** Scalars, one for each input and layer in model order; 0 before the first observation. */
  readonly ranges: ReadonlyMap<LayerVariable, string>;
  phase: ActivationPhase = { observe: null, quantize: false };
  readonly #tf: Tf;
  readonly #decay: number;
  readonly #inputs: readonly (LayerVariable | null)[];

  /** Wraps the layers of a built model, whose other variables are `variables`. */
  constructor(
    tf: Tf,
    model: LayersModel,
    { names }: ModelVariables,
    { decay }: NonNullable<QuantizationConfig['activations']>,
  ) {
    this.#tf = tf;
    this.#decay = decay;
    const ranges = new Map<LayerVariable, string>();
    const rangeOf = (layer: string): LayerVariable => {
      const name = activationRangeName(layer);
      const unobserved = tf.scalar(0);
      const range = new tf.LayerVariable(unobserved, 'float32', name, false);
      unobserved.dispose();
      ranges.set(range, name);
      return range;
    };
    // A sequential model does not list its input among its layers, so that it has no canonical name.
    this.#inputs = quantizedInputs(model).map((input, i) =>
      input === null ? null : rangeOf(names.layers.get(input) ?? `input_${i + 1}`),
    );
    for (const layer of quantizedLayers(model))
      this.#wrap(layer as Callable, rangeOf(names.layers.get(layer) ?? layer.name));
    this.ranges = ranges;
  }

  /** The model's inputs as its first layers get them. */
  inputs(tensors: readonly Tensor[]): Tensor[] {
    return tensors.map((tensor, i) => {
      const range = this.#inputs[i] ?? null;
      return range === null ? tensor : this.#pass(tensor, range);
    });
  }

  #wrap(layer: Callable, range: LayerVariable): void {
    const call = layer.call.bind(layer);
    layer.call = (inputs, kwargs) => {
      const outputs = call(inputs, kwargs);
      return Array.isArray(outputs) ? outputs.map((output) => this.#pass(output, range)) : this.#pass(outputs, range);
    };
  }

  #pass(x: Tensor, variable: LayerVariable): Tensor {
    if (x.dtype !== 'float32') return x;
    const tf = this.#tf;
    let range = variable.read().dataSync<'float32'>()[0] as number;
    if (this.phase.observe !== null) {
      const largest = maxAbs(viewOfTensor(tf, x));
      range = this.phase.observe === 'average' ? this.#averaged(range, largest) : Math.max(range, largest);
      variable.write(tf.scalar(range));
    }
    // Not a number stays in sight: the loss is none either.
    return this.phase.quantize && range !== 0 ? fakeQuantizeTensor(tf, x, range) : x;
  }

  /** The first observation counts whole: an average that began at 0 would cut everything off at first. */
  #averaged(range: number, largest: number): number {
    return range === 0 ? largest : range + (1 - this.#decay) * (largest - range);
  }
}

type Callable = LayerView & {
  call: (inputs: Tensor | Tensor[], kwargs: Record<string, unknown>) => Tensor | Tensor[];
};

/**
 * The float32 values of whole numbers -127 .. 127 times range / 127. Its gradient is 1 where x rounds to one of them
 * and 0 beyond, as that of torch.fake_quantize_per_tensor_affine.
 */
export function fakeQuantizeTensor(tf: Tf, x: Tensor, range: number): Tensor {
  const { quantMin, quantMax } = symmetricLimits(8);
  const scale = Math.fround(range / quantMax);
  const inverse = Math.fround(1 / scale);
  // No smaller float32 has a reciprocal: there is nothing but zeros to tell apart.
  if (inverse === Infinity) return tf.zerosLike(x);
  const quantize = tf.customGrad((values, save) => {
    const input = values as Tensor;
    const rounded = tf.round(tf.mul(input, inverse));
    (save as (tensors: Tensor[]) => void)([rounded]);
    return {
      value: tf.mul(tf.clipByValue(rounded, quantMin, quantMax), scale),
      gradFunc: (dy: Tensor, saved: Tensor[]) =>
        tf.mul(dy, tf.cast(tf.lessEqual(tf.abs(saved[0] as Tensor), quantMax), 'float32')),
    };
  });
  return quantize(x);
}
