/** Reads a built model: which variables are trained, which a forward pass writes, what they are called. */
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers';
import type { ModelDescription, ParameterSpec } from '../../shared/layout/model-description.ts';
import { isContainer, leavesOf, unwrap } from './layer-tree.ts';
import type { LayerView } from './layer-tree.ts';
import { nameModel } from './names.ts';
import type { ModelNames } from './names.ts';
import { topologyOf } from './topology.ts';

export interface ModelVariables {
  readonly names: ModelNames;
  /** Trainable, in model order; the order of the parameter space. */
  readonly parameters: readonly LayerVariable[];
  /** Made as not trainable, so that the training forward pass may write them. */
  readonly states: readonly LayerVariable[];
}

/** Frozen variables are neither: they keep their values in every worker and are not sent. */
export function variablesOf(model: LayersModel): ModelVariables {
  const written = new Set<LayerVariable>();
  for (const leaf of leavesOf(model)) {
    for (const each of unwrap(leaf)) each._nonTrainableWeights?.forEach((variable) => written.add(variable));
  }
  return {
    names: nameModel(model),
    parameters: [...new Set(model.trainableWeights)],
    states: [...new Set(model.nonTrainableWeights)].filter((variable) => written.has(variable)),
  };
}

/** Frees the model's variables. LayersModel.dispose keeps those of a layer that was used twice. */
export function disposeVariables({ names }: ModelVariables): void {
  for (const variable of names.variables.keys()) variable.dispose();
}

export function describeModel(
  model: LayersModel,
  facts: Pick<ModelDescription, 'trainExamples' | 'testExamples' | 'notes' | 'loss'>,
  variables: ModelVariables = variablesOf(model),
): ModelDescription {
  const owners = ownersOf(model);
  const nameOf = (variable: LayerVariable): string => variables.names.variables.get(variable) ?? variable.originalName;
  return {
    parameters: variables.parameters.map((variable): ParameterSpec => {
      const name = nameOf(variable);
      const layerKind = owners.get(variable) ?? 'Unknown';
      return { name, shape: shapeOf(variable), layerKind, prunable: isPrunable(layerKind, name) };
    }),
    states: variables.states.map((variable) => ({ name: nameOf(variable), shape: shapeOf(variable) })),
    topology: topologyOf(model, variables.names),
    layers: leavesOf(model)
      .filter((layer) => layer.getClassName() !== 'InputLayer')
      .map((layer) => ({
        name: variables.names.layers.get(layer) ?? layer.name,
        className: layer.getClassName(),
        outputShape: outputShapeOf(layer),
      })),
    ...facts,
  };
}

/** Class name of the innermost layer that made each variable: Dense for a Dense inside TimeDistributed. */
function ownersOf(model: LayersModel): Map<LayerVariable, string> {
  const owners = new Map<LayerVariable, string>();
  for (const leaf of leavesOf(model)) {
    for (const variable of leaf.weights) if (!owners.has(variable)) owners.set(variable, leaf.getClassName());
    const wrapped = leaf.layer;
    if (wrapped === undefined || isContainer(wrapped)) continue;
    for (const variable of wrapped.weights) owners.set(variable, wrapped.getClassName());
  }
  return owners;
}

/** As TF-MOT's prune registry: depthwise kernels, biases, normalisation and recurrent kernels are not pruned. */
function isPrunable(layerKind: string, name: string): boolean {
  if (layerKind === 'SeparableConv2D') return name.endsWith('/pointwise_kernel');
  return /^(Dense|Conv[123]D|Conv[23]DTranspose)$/.test(layerKind) && name.endsWith('/kernel');
}

function shapeOf(variable: LayerVariable): number[] {
  return variable.shape.map((size) => size ?? 0);
}

/** The first output's shape; a layer used at several shapes reports its first use. */
function outputShapeOf(layer: LayerView): (number | null)[] {
  const shape = layer.inboundNodes[0]?.outputShapes[0] ?? [];
  return (Array.isArray(shape) ? shape : []).map((size) => (typeof size === 'number' ? size : null));
}
