/** Types of TensorFlow.js that its packages do not export by name. */
import type { layers } from '@tensorflow/tfjs-layers';

export type ModelLayer = layers.Layer;
