import type { SparsitySchedule } from '../../config/types.ts';
import { pow } from '../../kernels/math.ts';
import { risingKind } from './kind.ts';

type Exponential = Extract<SparsitySchedule, { kind: 'exponential' }>;

/** Density falls by the same factor at each update: 1 - s = (1 - si)((1 - sf) / (1 - si))^x. */
export const exponential = risingKind<Exponential>(({ initialSparsity, finalSparsity }, x) =>
  x === 0 ? initialSparsity : 1 - (1 - initialSparsity) * pow((1 - finalSparsity) / (1 - initialSparsity), x),
);
