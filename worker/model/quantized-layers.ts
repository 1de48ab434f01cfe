/** Which activations of a model are quantized. */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { isContainer, leavesOf, viewOf } from './layer-tree.ts';
import type { LayerView } from './layer-tree.ts';

/** Layers that only move, drop or pick values, which are on a grid already. */
const PASSING: ReadonlySet<string> = new Set([
  'InputLayer',
  'Flatten',
  'Reshape',
  'Permute',
  'RepeatVector',
  'Masking',
  'Dropout',
  'SpatialDropout1D',
  'AlphaDropout',
  'GaussianDropout',
  'GaussianNoise',
  'MaxPooling1D',
  'MaxPooling2D',
  'MaxPooling3D',
  'GlobalMaxPooling1D',
  'GlobalMaxPooling2D',
  'Cropping2D',
  'ZeroPadding2D',
]);

/** Layers whose inputs are numbers of words or classes. */
const BY_INDEX: ReadonlySet<string> = new Set(['Embedding', 'CategoryEncoding']);

/**
 * The layers whose outputs are quantized, in model order: all that compute, but for those that give the model's
 * outputs. Nothing multiplies these any more: integer kernels hand them over from their sums, without rounding.
 */
export function quantizedLayers(model: LayersModel): LayerView[] {
  const last = new Set(outputLayers(viewOf(model)));
  return leavesOf(model).filter((layer) => !PASSING.has(layer.getClassName()) && !last.has(layer));
}

/** For each input of the model its layer, or null where it is not quantized: whole numbers that stand for themselves. */
export function quantizedInputs(model: LayersModel): (LayerView | null)[] {
  return model.inputs.map((tensor) => {
    const layer = viewOf(tensor.sourceLayer);
    const isNumber = tensor.dtype !== 'int32' && !readers(layer).some((each) => BY_INDEX.has(each.getClassName()));
    return isNumber ? layer : null;
  });
}

function outputLayers({ outputs = [] }: LayerView): LayerView[] {
  return outputs.flatMap(({ sourceLayer }) => (isContainer(sourceLayer) ? outputLayers(sourceLayer) : [sourceLayer]));
}

/** The layers that compute with what `layer` gives out, whatever it passes through on the way. */
function readers(layer: LayerView): LayerView[] {
  const { outboundNodes = [] } = layer as LayerView & {
    readonly outboundNodes?: readonly { readonly outboundLayer: LayerView }[];
  };
  return outboundNodes.flatMap(({ outboundLayer: next }) => {
    if (isContainer(next))
      return (next.layers ?? []).filter((each) => each.getClassName() === 'InputLayer').flatMap(readers);
    return PASSING.has(next.getClassName()) ? readers(next) : [next];
  });
}
