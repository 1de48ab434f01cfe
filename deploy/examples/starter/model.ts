import type * as tfjs from '@tensorflow/tfjs-layers';

/**
 * The model that is trained: any LayersModel of TensorFlow.js, built or loaded. Its weights are the initial
 * weights. The last layer gives logits, without softmax: the default loss is softmax cross-entropy on logits.
 */
export function model(tf: typeof tfjs): tfjs.LayersModel {
  return tf.sequential({
    layers: [
      tf.layers.dense({ units: 64, activation: 'relu', inputShape: [2] }),
      tf.layers.dense({ units: 64, activation: 'relu' }),
      tf.layers.dense({ units: 3 }),
    ],
  });
}

// A loss of your own, the mean over the examples of the batch, would be:
//   export function loss(tf, labels, outputs) { return tf.losses.meanSquaredError(labels, outputs); }
