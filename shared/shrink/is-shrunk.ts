import type { ModelDescription } from '../layout/model-description.ts';

type Tensors = Pick<ModelDescription, 'parameters' | 'states'>;

/** True where `small` has the tensors of `full` in the same order, none of them larger and some smaller. */
export function isShrunkFrom(small: Tensors, full: Tensors): boolean {
  const before = [...full.parameters, ...full.states];
  const after = [...small.parameters, ...small.states];
  if (after.length !== before.length || small.states.length !== full.states.length) return false;
  let isSmaller = false;
  for (const [i, { name, shape }] of after.entries()) {
    const old = before[i];
    if (name !== old?.name || shape.length !== old.shape.length) return false;
    for (const [axis, size] of shape.entries()) {
      const was = old.shape[axis] as number;
      if (size > was) return false;
      if (size < was) isSmaller = true;
    }
  }
  return isSmaller;
}
