import type { SparsitySchedule } from '../../config/types.ts';
import { risingKind } from './kind.ts';

type Linear = Extract<SparsitySchedule, { kind: 'linear' }>;

/** s = sf + (si - sf)(1 - x): as much at each update. */
export const linear = risingKind<Linear>(
  ({ initialSparsity, finalSparsity }, x) => finalSparsity + (initialSparsity - finalSparsity) * (1 - x),
);
