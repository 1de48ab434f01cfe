import type { CriterionName } from '../../config/types.ts';
import { WhittleError } from '../../errors.ts';
import { activation } from './activation.ts';
import type { Criterion } from './criterion.ts';
import { fisher } from './fisher.ts';
import { gradient } from './gradient.ts';
import { lamp } from './lamp.ts';
import { magnitude } from './magnitude.ts';
import { movement } from './movement.ts';
import { normalizedMagnitude } from './normalized-magnitude.ts';
import { random } from './random.ts';
import { saliency } from './saliency.ts';
import { snip } from './snip.ts';

/** A further criterion is one more file and one more line here. */
const CRITERIA: Readonly<Record<CriterionName, Criterion>> = {
  magnitude,
  normalizedMagnitude,
  gradient,
  saliency,
  movement,
  random,
  fisher,
  snip,
  lamp,
  activation,
};

/** Throws UNSUPPORTED for a name that is none of the criteria. */
export function criterionNamed(name: string): Criterion {
  if (Object.hasOwn(CRITERIA, name)) return CRITERIA[name as CriterionName];
  const known = Object.keys(CRITERIA).join(', ');
  throw new WhittleError('UNSUPPORTED', `no criterion is named "${name}"; choose one of: ${known}`);
}
