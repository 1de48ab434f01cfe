import type * as tfjs from '@tensorflow/tfjs-layers';

/** Two dense layers with batch normalisation between them, for images of 28 x 28 and 10 classes. */
export function model(tf: typeof tfjs): tfjs.LayersModel {
  return tf.sequential({
    layers: [
      tf.layers.dense({ units: 100, useBias: false, inputShape: [784] }),
      tf.layers.batchNormalization(),
      tf.layers.activation({ activation: 'relu' }),
      tf.layers.dense({ units: 10 }),
    ],
  });
}
