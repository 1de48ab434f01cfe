/**
 * What a model may hold. Everything else that TensorFlow.js offers is refused by name before a run starts;
 * test/worker/backend/layers.test.ts checks the gradients of what is left.
 */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { WhittleError } from '../../shared/errors.ts';
import { leavesOf, unwrap } from '../model/layer-tree.ts';
import type { LayerView } from '../model/layer-tree.ts';
import { nameModel } from '../model/names.ts';
import { isDilated, repairLayer } from './repairs.ts';
import { tf } from './tf.ts';

/** Members that the rules below look at. */
interface Inspected {
  readonly stateful?: boolean;
  readonly axis?: number | readonly number[];
  readonly padding?: string;
  readonly dropout?: number;
  readonly recurrentDropout?: number;
  readonly cell?: LayerView;
  readonly cells?: readonly LayerView[];
  readonly outputShape?: unknown;
}

interface Refusal {
  readonly why: string;
  readonly cure: string;
}

/** Layers refused whatever their arguments. */
const REFUSED: Readonly<Record<string, Refusal>> = {
  Resizing: {
    why: 'TensorFlow.js cannot apply it to a batch',
    cure: 'resize the images in the data module, or use UpSampling2D',
  },
  CenterCrop: { why: 'TensorFlow.js has no gradient for it', cure: 'crop in the data module, or use Cropping2D' },
  RandomWidth: { why: 'TensorFlow.js gets its output shape wrong', cure: 'augment in the data module' },
  RandomHeight: { why: 'TensorFlow.js gets its output shape wrong', cure: 'augment in the data module' },
};

/**
 * Throws UNSUPPORTED for the first layer that cannot be trained exactly, naming layer, class, why and what to do
 * instead; repairs the layers that can be. Returns notes for the user.
 */
export function assertSupported(model: LayersModel): string[] {
  const names = nameModel(model).layers;
  for (const leaf of leavesOf(model)) {
    for (const part of unwrap(leaf)) {
      const refusal = refusalOf(part);
      if (refusal !== undefined) refuse(names.get(part) ?? names.get(leaf) ?? part.name, part.getClassName(), refusal);
      repairLayer(part);
    }
  }
  return [];
}

function refuse(layer: string, className: string, { why, cure }: Refusal): never {
  throw new WhittleError('UNSUPPORTED', `layer ${layer} (${className}) cannot be trained: ${why}; ${cure}`, {
    data: { layer, className },
  });
}

function refusalOf(view: LayerView): Refusal | undefined {
  const className = view.getClassName();
  const layer = view as unknown as Inspected;
  if (layer.stateful === true) {
    return {
      why: 'it is stateful, so that its gradient would depend on which worker computed the slices before',
      cure: 'set stateful: false and feed whole sequences',
    };
  }
  const constrained = view.weights.find((weight) => (weight as { constraint?: unknown }).constraint != null);
  if (constrained !== undefined) {
    return {
      why: `its weight ${constrained.originalName} has a constraint, which only an optimizer of TensorFlow.js would apply`,
      cure: 'remove the constraint, or use a regularizer or training.decay',
    };
  }
  if (layer.padding === 'causal') {
    return {
      why: "TensorFlow.js does not compute padding 'causal'",
      cure: "pad the sequence at its start and use padding 'valid'",
    };
  }
  if (className === 'DepthwiseConv2D' && isDilated(view)) {
    return { why: 'TensorFlow.js ignores its dilationRate', cure: 'use SeparableConv2D or Conv2D, or dilationRate 1' };
  }
  if (isDilated(view) && tf.getBackend() !== 'wasm') {
    return {
      why: `backend ${tf.getBackend()} has no gradient for dilationRate`,
      cure: 'set cluster.backend to wasm, or dilationRate 1',
    };
  }
  if (
    className === 'RNN' &&
    cellsOf(layer).some((cell) => (cell.dropout ?? 0) > 0 || (cell.recurrentDropout ?? 0) > 0)
  ) {
    return {
      why: 'TensorFlow.js draws the dropout mask of its cell once and keeps it for ever',
      cure: 'use SimpleRNN, GRU or LSTM with dropout, or a Dropout layer',
    };
  }
  if (className === 'Softmax' && !isLastAxis(layer)) {
    return {
      why: 'TensorFlow.js computes softmax over the last axis only',
      cure: 'set axis: -1, with Permute before and after',
    };
  }
  return REFUSED[className];
}

function cellsOf(layer: Inspected): Inspected[] {
  if (layer.cell === undefined) return [];
  const cell = layer.cell as unknown as Inspected;
  return [cell, ...((cell.cells ?? []) as unknown as Inspected[])];
}

/** Several axes are computed by another way, which is right for any of them. */
function isLastAxis(layer: Inspected): boolean {
  if (typeof layer.axis !== 'number') return true;
  const shape = layer.outputShape;
  const rank = Array.isArray(shape) && !Array.isArray(shape[0]) ? shape.length : undefined;
  return layer.axis === -1 || rank === undefined || layer.axis === rank - 1;
}
