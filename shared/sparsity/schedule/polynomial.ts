import type { SparsitySchedule } from '../../config/types.ts';
import { pow } from '../../kernels/math.ts';
import { risingKind } from './kind.ts';

type Polynomial = Extract<SparsitySchedule, { kind: 'polynomial' }>;

/** s = sf + (si - sf)(1 - x)^p: prunes early for p > 1 (Zhu & Gupta 2017). */
export const polynomial = risingKind<Polynomial>(
  ({ initialSparsity, finalSparsity, power }, x) =>
    finalSparsity + (initialSparsity - finalSparsity) * pow(1 - x, power),
);
