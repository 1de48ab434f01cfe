import { FIXED, type Couplings, type MemberRole } from '../model-graph/couplings.ts';
import { forEachOnAxis, type EffectiveValues } from './effective.ts';

/**
 * Which units go. `masked`: those of which kernel slices, biases, gammas, betas and depthwise slices are all masked
 * dead. `useless`: also those that compute a constant (kernel slices of zeros) or that nothing reads.
 */
export type ShrinkScope = 'masked' | 'useless';

const OWN: readonly MemberRole[] = ['kernel', 'bias', 'gamma', 'beta', 'depthwise'];

/** Sets of coupled units, by their representative, of which `isAlive` is false for every element of these roles. */
function withoutLife(
  { unions, axes }: Couplings,
  roles: readonly MemberRole[],
  values: EffectiveValues,
  isAlive: (parameter: string, element: number) => boolean,
): Set<number> {
  const dead = new Set<number>();
  for (let label = 0; label < unions.size; label++) if (unions.reason(label) === null) dead.add(unions.find(label));
  for (const { parameter, role, axis, labels } of axes) {
    if (!roles.includes(role)) continue;
    forEachOnAxis(values.shape(parameter), axis, (element, position) => {
      const label = labels[position]!;
      if (label !== FIXED && isAlive(parameter, element)) dead.delete(unions.find(label));
    });
  }
  return dead;
}

/** Units that may go if what reads them allows it. */
export function candidatesOf(couplings: Couplings, values: EffectiveValues, scope: ShrinkScope): Set<number> {
  if (scope === 'masked')
    return withoutLife(couplings, OWN, values, (parameter, element) => values.survives(parameter, element));
  const isNonzero = (parameter: string, element: number): boolean => values.of(parameter)[element] !== 0;
  const constant = withoutLife(couplings, ['kernel'], values, isNonzero);
  const unread = withoutLife(couplings, ['consumer'], values, isNonzero);
  return new Set([...constant, ...unread].sort((a, b) => a - b));
}
