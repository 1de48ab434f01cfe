/** LeNet-300-100 (LeCun et al. 1998): 266,610 parameters on 784 inputs and 10 classes, 266,200 of them in kernels. */
import type { BuiltIn } from './built-in.ts';
import { dense, flattened, sizeOf } from './built-in.ts';

export const lenet300100: BuiltIn = (tf, { inputShape, classes }) => {
  const inputs = sizeOf(inputShape);
  return tf.sequential({
    layers: [
      ...flattened(tf, inputShape),
      dense(tf, inputs, 300, 'relu'),
      dense(tf, 300, 100, 'relu'),
      dense(tf, 100, classes, 'linear'),
    ],
  });
};
