/** Logistic regression: one dense layer from the inputs to the classes. */
import type { BuiltIn } from './built-in.ts';
import { dense, flattened, sizeOf } from './built-in.ts';

export const logisticRegression: BuiltIn = (tf, { inputShape, classes }) => {
  const inputs = sizeOf(inputShape);
  return tf.sequential({ layers: [...flattened(tf, inputShape), dense(tf, inputs, classes, 'linear')] });
};
