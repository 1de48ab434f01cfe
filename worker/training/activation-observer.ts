/**
 * Statistics of what units give out, for rules that rank them by it: a moving average over training batches, kept on the
 * servers as non-trainable state like those of batch normalisation. A layer's forward pass is wrapped on the instance.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers';
import { activationStatistics, type ObservedLayer } from '../../shared/model-graph/activation-statistics.ts';
import type { Tf } from '../backend/tf.ts';
import type { ModelVariables } from '../model/describe-model.ts';
import type { LayerView } from '../model/layer-tree.ts';
import { leavesOf } from '../model/layer-tree.ts';
import { viewOfTensor } from './weight-sets.ts';

/** Weight of the past in the moving averages: about the last ten batches count. */
const DECAY = 0.9;

/** Looks at activations while `isOn`; see `observeActivations`. */
export interface ActivationObserver {
  isOn: boolean;
}

/** The model's variables with the statistics among its states; null where nothing is to be observed. */
export function observeActivations(
  tf: Tf,
  model: LayersModel,
  variables: ModelVariables,
  observed: readonly ObservedLayer[],
): { readonly variables: ModelVariables; readonly observer: ActivationObserver | null } {
  if (observed.length === 0) return { variables, observer: null };
  const observer: ActivationObserver = { isOn: false };
  const own = new Map<LayerVariable, string>();
  const create = (name: string, units: number): LayerVariable => {
    const unobserved = tf.zeros([units]);
    const variable = new tf.LayerVariable(unobserved, 'float32', name, false);
    unobserved.dispose();
    own.set(variable, name);
    return variable;
  };
  const leaves = new Map(leavesOf(model).map((leaf) => [variables.names.layers.get(leaf) ?? leaf.name, leaf]));
  for (const { layer, units, at } of observed) {
    const names = activationStatistics(layer);
    const [mean, zeros] = [create(names.mean, units), create(names.zeros, units)];
    const leaf = leaves.get(at) as Callable | undefined;
    if (leaf === undefined) continue;
    const call = leaf.call.bind(leaf);
    leaf.call = (inputs, kwargs) => {
      const outputs = call(inputs, kwargs);
      const output = Array.isArray(outputs) ? outputs[0] : outputs;
      if (observer.isOn && output?.dtype === 'float32') {
        const seen = statisticsOf(viewOfTensor(tf, output), units);
        move(tf, mean, seen.mean);
        move(tf, zeros, seen.zeros);
      }
      return outputs;
    };
  }
  const { names, parameters, states } = variables;
  const named = { ...names, variables: new Map([...names.variables, ...own]) };
  return { variables: { names: named, parameters, states: [...states, ...own.keys()] }, observer };
}

/** Mean of |x| and share of zeros of each unit, over examples and positions; units lie on the last axis. */
export function statisticsOf(
  values: Float32Array,
  units: number,
): { readonly mean: Float64Array; readonly zeros: Float64Array } {
  const mean = new Float64Array(units);
  const zeros = new Float64Array(units);
  const rows = values.length / units;
  for (let i = 0; i < values.length; i += units) {
    for (let unit = 0; unit < units; unit++) {
      const value = values[i + unit] as number;
      mean[unit] = (mean[unit] as number) + Math.abs(value);
      if (value === 0) zeros[unit] = (zeros[unit] as number) + 1;
    }
  }
  for (let unit = 0; unit < units; unit++) {
    mean[unit] = (mean[unit] as number) / rows;
    zeros[unit] = (zeros[unit] as number) / rows;
  }
  return { mean, zeros };
}

/** From 0, which all units share: the first averages are too small, all by the same factor. */
function move(tf: Tf, variable: LayerVariable, seen: Float64Array): void {
  const before = variable.read().dataSync<'float32'>();
  const after = Float32Array.from(before, (value, unit) => value + (1 - DECAY) * ((seen[unit] as number) - value));
  variable.write(tf.tensor1d(after));
}

type Callable = LayerView & {
  call: (inputs: Tensor | Tensor[], kwargs: Record<string, unknown>) => Tensor | Tensor[];
};
