import { WhittleError } from '../../errors.ts';
import type { Criterion } from './criterion.ts';
import { magnitude } from './magnitude.ts';

const CRITERIA: ReadonlyMap<string, Criterion> = new Map([magnitude].map((criterion) => [criterion.name, criterion]));

/** Throws UNSUPPORTED for a name that is none of the criteria. */
export function criterionNamed(name: string): Criterion {
  const criterion = CRITERIA.get(name);
  if (criterion === undefined) {
    const known = [...CRITERIA.keys()].join(', ');
    throw new WhittleError('UNSUPPORTED', `no criterion is named "${name}"; choose one of: ${known}`);
  }
  return criterion;
}
