import type { SparsitySchedule } from '../../config/types.ts';
import { cos } from '../../kernels/math.ts';
import { risingKind } from './kind.ts';

type Cosine = Extract<SparsitySchedule, { kind: 'cosine' }>;

/** s = si + (sf - si)(1 - cos(pi x / 2)): prunes late (Intel Neural Compressor's `cos`). */
export const cosine = risingKind<Cosine>(
  ({ initialSparsity, finalSparsity }, x) =>
    initialSparsity + (finalSparsity - initialSparsity) * (1 - cos((Math.PI * x) / 2)),
);
