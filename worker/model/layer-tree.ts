/**
 * Walks a LayersModel as a tree: nested models are entered, wrappers (TimeDistributed, Bidirectional) and
 * recurrent layers are one leaf, and a layer met twice counts once.
 */
import type { LayersModel, LayerVariable } from '@tensorflow/tfjs-layers';
import type { Scalar } from '@tensorflow/tfjs-core';
import type { ModelLayer } from './tf-types.ts';

/** The members of a layer that Whittle reads; TensorFlow.js declares some of them private. */
export interface LayerView {
  readonly name: string;
  readonly layers?: readonly LayerView[];
  /** Outputs of a nested model. */
  readonly outputs?: readonly { readonly sourceLayer: LayerView }[];
  /** The wrapped layer of TimeDistributed. */
  readonly layer?: LayerView;
  readonly forwardLayer?: LayerView;
  readonly backwardLayer?: LayerView;
  /** The cell of a recurrent layer, and the cells of stacked ones. */
  readonly cell?: LayerView;
  readonly cells?: readonly LayerView[];
  readonly weights: readonly LayerVariable[];
  readonly trainableWeights: readonly LayerVariable[];
  readonly outputShape: unknown;
  readonly inboundNodes: readonly { readonly outputShapes: readonly unknown[] }[];
  /** Of depthwise and separable convolutions. */
  readonly depthMultiplier?: number;
  readonly activation?: { getClassName?(): string } | null;
  /** Variables made with `trainable: true`, frozen or not; undefined in a custom layer that keeps its own. */
  readonly _trainableWeights?: readonly LayerVariable[];
  readonly _nonTrainableWeights?: readonly LayerVariable[];
  /** Regularizers of this layer's own variables. */
  readonly _losses?: readonly (() => Scalar)[];
  getClassName(): string;
}

export function viewOf(layer: LayersModel | ModelLayer): LayerView {
  return layer as unknown as LayerView;
}

export function isContainer(layer: LayerView): boolean {
  return Array.isArray(layer.layers);
}

/** Every container and leaf once, in model order, a container before what it holds. */
export function walkModel(model: LayersModel): LayerView[] {
  const seen = new Set<LayerView>();
  const visit = (layer: LayerView): void => {
    if (seen.has(layer)) return;
    seen.add(layer);
    layer.layers?.forEach(visit);
  };
  visit(viewOf(model));
  return [...seen];
}

/** The leaves of `walkModel`. */
export function leavesOf(model: LayersModel): LayerView[] {
  return walkModel(model).filter((layer) => !isContainer(layer));
}

/** A leaf and all that it wraps: the layer of TimeDistributed, both directions, recurrent cells. */
export function unwrap(layer: LayerView): LayerView[] {
  const inner = [layer.layer, layer.forwardLayer, layer.backwardLayer, layer.cell, ...(layer.cells ?? [])];
  return [layer, ...inner.filter((each) => each !== undefined).flatMap(unwrap)];
}
