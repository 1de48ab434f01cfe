import type { Tf } from './tf.ts';

/** tf.tidy for results without tensors; tf.tidy itself would search every element of an array for them. */
export function tidied<T>(tf: Tf, work: () => T): T {
  let result: { readonly value: T } | undefined;
  tf.tidy(() => {
    result = { value: work() };
  });
  return (result as unknown as { readonly value: T }).value;
}
