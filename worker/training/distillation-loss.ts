import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { Tf } from '../backend/tf.ts';

/** Smallest probability told from 0 where a model gives probabilities instead of logits. */
const TINY = 1e-30;

/** Logits that softmax takes back to these probabilities. */
export function logitsOf(tf: Tf, probabilities: Tensor): Tensor {
  return tf.log(tf.maximum(probabilities, TINY));
}

/**
 * T^2 x KL(softmax(teacher / T) || softmax(student / T)), mean over the examples (Hinton, Vinyals & Dean 2015; T^2 keeps
 * its gradient comparable at every T). No gradient flows into the teacher.
 * @param teacher logits [examples, classes]
 * @param student logits of the same shape
 */
export function distillationLoss(tf: Tf, teacher: Tensor, student: Tensor, temperature: number): Scalar {
  const scale = temperature / (student.shape[0] ?? 1);
  const loss = tf.customGrad((logits, save) => {
    const wanted = logSoftmax(tf, tf.div(teacher, temperature));
    const found = logSoftmax(tf, tf.div(logits as Tensor, temperature));
    const probabilities = tf.exp(wanted);
    // Saved both: what a gradient only closes over is freed when the forward pass ends.
    (save as (tensors: Tensor[]) => void)([found, probabilities]);
    return {
      value: tf.mul(tf.sum(tf.mul(probabilities, tf.sub(wanted, found))), scale * temperature),
      // By logits: T^2 x (softmax(student / T) - softmax(teacher / T)) / T.
      gradFunc: (dy: Tensor, saved: Tensor[]) =>
        tf.mul(tf.sub(tf.exp(saved[0] as Tensor), saved[1] as Tensor), tf.mul(dy, scale)),
    };
  });
  return loss(student) as Scalar;
}

function logSoftmax(tf: Tf, logits: Tensor): Tensor {
  const shifted = tf.sub(logits, tf.max(logits, 1, true));
  return tf.sub(shifted, tf.log(tf.sum(tf.exp(shifted), 1, true)));
}
