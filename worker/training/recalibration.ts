/**
 * Batch-normalisation statistics measured anew. Pruning, quantization and clustering move what layers put out, and moving
 * averages still remember how it was. Every process that measures them finds the same bits: they are a function of the
 * weights and of the run's data in its order.
 */
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers';
import { WhittleError } from '../../shared/errors.ts';
import type { Tf } from '../backend/tf.ts';
import { leavesOf, unwrap } from '../model/layer-tree.ts';
import { concatValues } from './weight-sets.ts';

interface Normalizer {
  momentum: number;
  readonly movingMean: LayerVariable;
  readonly movingVariance: LayerVariable;
}

/** The model's batch normalisations, wrapped ones included. */
export function normalizersOf(model: LayersModel): Normalizer[] {
  const parts = new Set(leavesOf(model).flatMap(unwrap));
  return [...parts]
    .filter((layer) => layer.getClassName() === 'BatchNormalization')
    .map((layer) => layer as unknown as Normalizer);
}

/**
 * The state with each moving mean and variance replaced by the average over `batches` training forward passes of that
 * batch's mean and variance (population's), every batch weighing the same: no momentum, nothing of the old value. A layer
 * that is used several times counts its last use. Leaves the variables written over. Errors: MODEL without such a layer.
 * @param forward a training forward pass of batch 1 .. batches
 */
export async function recalibratedState(options: {
  readonly tf: Tf;
  readonly model: LayersModel;
  /** All non-trainable variables, in the state's order. */
  readonly states: readonly Variable[];
  readonly before: Float32Array;
  readonly batches: number;
  readonly forward: (batch: number) => Promise<void>;
}): Promise<Float32Array> {
  const { tf, model, states, before, batches, forward } = options;
  const layers = normalizersOf(model);
  if (layers.length === 0) throw new WhittleError('MODEL', 'the model has no batch normalisation to recalibrate');
  const measured = new Set<Tensor>(layers.flatMap((layer) => [layer.movingMean.read(), layer.movingVariance.read()]));
  const momenta = layers.map(({ momentum }) => momentum);
  const sums = new Float64Array(before.length);
  try {
    for (let batch = 1; batch <= batches; batch++) {
      // From zero without momentum the layer writes the batch's own statistics, to the bit.
      for (const layer of layers) layer.momentum = 0;
      for (const state of states) if (measured.has(state)) tf.tidy(() => void state.assign(tf.zerosLike(state)));
      await forward(batch);
      const values = concatValues(tf, states);
      for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + (values[i] as number);
    }
  } finally {
    layers.forEach((layer, k) => (layer.momentum = momenta[k] as number));
  }
  const after = before.slice();
  let at = 0;
  for (const state of states) {
    if (measured.has(state)) for (let i = at; i < at + state.size; i++) after[i] = (sums[i] as number) / batches;
    at += state.size;
  }
  return after;
}
