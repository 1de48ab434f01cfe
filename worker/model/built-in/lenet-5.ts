/**
 * LeNet-5 as Caffe has it, the one that pruning papers use: 430,500 kernel weights on 28 x 28 images and 10
 * classes. Its convolutions carry no activation of their own.
 */
import { WhittleError } from '../../../shared/errors.ts';
import type { Tf } from '../../backend/tf.ts';
import type { ModelLayer } from '../tf-types.ts';
import type { BuiltIn } from './built-in.ts';
import { dense, uniformByFanIn } from './built-in.ts';

export const lenet5: BuiltIn = (tf, { inputShape, classes }) => {
  const image = imageShape(inputShape);
  const [height, width] = image;
  const features = pooledTwice(height) * pooledTwice(width) * 50;
  return tf.sequential({
    layers: [
      ...(inputShape.length === 3 ? [] : [tf.layers.reshape({ targetShape: image, inputShape: [...inputShape] })]),
      convolution(tf, image, 20),
      tf.layers.maxPooling2d({ poolSize: 2, strides: 2 }),
      convolution(tf, [(height - 4) >> 1, (width - 4) >> 1, 20], 50),
      tf.layers.maxPooling2d({ poolSize: 2, strides: 2 }),
      tf.layers.flatten(),
      dense(tf, features, 500, 'relu'),
      dense(tf, 500, classes, 'linear'),
    ],
  });

  function imageShape(shape: readonly number[]): [number, number, number] {
    const side = shape.length === 1 ? Math.sqrt(shape[0] ?? 0) : 0;
    const [rows = 0, columns = 0, depth = 1] = shape.length === 1 ? [side, side, 1] : shape;
    if (shape.length > 3 || !Number.isInteger(side) || rows < 16 || columns < 16) {
      throw new WhittleError(
        'MODEL',
        `model lenet-5 needs images of at least 16 x 16 pixels, the data's examples have shape [${shape.join(', ')}]; ` +
          'use lenet-300-100 or a model module',
        { data: { inputShape: shape, channels: depth } },
      );
    }
    return [rows, columns, depth];
  }
};

function convolution(tf: Tf, inputShape: number[], filters: number): ModelLayer {
  const fanIn = 25 * (inputShape[2] ?? 1);
  return tf.layers.conv2d({ filters, kernelSize: 5, inputShape, ...uniformByFanIn(tf, fanIn) });
}

/** What two rounds of a 5 x 5 valid convolution and 2 x 2 pooling leave of `size` pixels. */
function pooledTwice(size: number): number {
  return (((size - 4) >> 1) - 4) >> 1;
}
