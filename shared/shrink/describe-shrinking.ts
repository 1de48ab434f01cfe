import { plural } from '../plural.ts';
import type { Shrunk } from './shrink.ts';

/** `dense_1/kernel 300 to 90 units; 2 units of conv2d_2/kernel stay: ...` */
export function describeShrinking({ units, refused }: Pick<Shrunk, 'units' | 'refused'>): string {
  const left = units
    .filter(({ before, after }) => after < before)
    .map(({ producers, before, after }) => `${producers.join(' + ')} ${before} to ${after} units`);
  return [
    left.length === 0 ? 'no unit is dead, and none left the model' : left.join(', '),
    ...refused.map(
      ({ producers, units: stay, why }) => `${plural(stay, 'unit')} of ${producers.join(' + ')} stay: ${why}`,
    ),
  ].join('; ');
}
