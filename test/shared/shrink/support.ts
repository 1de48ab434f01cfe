import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { createRandom, STREAMS } from '../../../shared/kernels/random.ts';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import type { MemberRole } from '../../../shared/model-graph/couplings.ts';
import { elementsOfUnit, unitGroupsOf } from '../../../shared/model-graph/unit-groups.ts';
import type { FlatModel } from '../../../shared/shrink/flat-model.ts';
import { clearBit, fullBitmap, getBit } from '../../../shared/sparsity/bitmap.ts';

export const OWN: readonly MemberRole[] = ['kernel', 'bias', 'gamma', 'beta', 'depthwise', 'alpha'];

/** A trained model: random weights, slots and averages, all alive. */
export function trained(description: ModelDescription, seed: number): FlatModel {
  const random = createRandom(STREAMS.slice, seed, 1, 1);
  const { size } = ParameterSpace.of(description.parameters);
  const draw = (length: number): Float32Array => Float32Array.from({ length }, () => random.float() * 2 - 0.8);
  const states = description.states.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  return {
    description,
    weights: draw(size),
    slots: { m: draw(size), v: draw(size) },
    stored: fullBitmap(size),
    mask: fullBitmap(size),
    // Variances are positive.
    state: draw(states).map((value) => value + 1),
  };
}

/** The model with these units of each group dead in the elements of these roles. */
export function killed(
  model: FlatModel,
  isDead: (producers: readonly string[], unit: number) => boolean,
  roles: readonly MemberRole[] = OWN,
): FlatModel {
  const space = ParameterSpace.of(model.description.parameters);
  const mask = model.mask.slice();
  for (const group of unitGroupsOf(model.description).groups) {
    for (let unit = 0; unit < group.units; unit++) {
      if (!isDead(group.producers, unit)) continue;
      for (const element of elementsOfUnit(space, group, unit, roles)) clearBit(mask, element);
    }
  }
  return { ...model, mask };
}

/** Outputs at inference of the model that TensorFlow.js builds from the topology, for inputs drawn from a seed. */
export async function outputsOf({ description, weights, mask, state }: FlatModel): Promise<Float32Array> {
  const model = await tfl.models.modelFromJSON(structuredClone(description.topology) as never);
  const variables = new Map(model.weights.map((variable) => [variable.originalName, variable]));
  let offset = 0;
  for (const { name, shape, size } of ParameterSpace.of(description.parameters).parameters) {
    const values = weights.slice(offset, offset + size).map((value, i) => (getBit(mask, offset + i) ? value : 0));
    variables.get(name)!.write(tf.tensor(values, [...shape]));
    offset += size;
  }
  offset = 0;
  for (const { name, shape, size } of ParameterSpace.of(
    description.states.map((each) => ({ ...each, layerKind: '', prunable: false })),
  ).parameters) {
    variables.get(name)!.write(tf.tensor(state.slice(offset, offset + size), [...shape]));
    offset += size;
  }
  return (model.predict(inputFor(model)) as tf.Tensor).dataSync<'float32'>().slice();
}

/** Five examples, the same for every model of this input. */
export function inputFor(model: tfl.LayersModel): tf.Tensor {
  return tf.randomNormal([5, ...model.inputs[0]!.shape.slice(1).map(Number)], 0, 1, 'float32', 7);
}

/** Largest difference, relative to values above 1. */
export function distance(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Infinity;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!) / Math.max(1, Math.abs(value))), 0);
}
