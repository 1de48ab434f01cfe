import type { OptimizerConfig } from '../../../shared/config/types.ts';
import { adagrad } from './adagrad.ts';
import { adam } from './adam.ts';
import { rmsprop } from './rmsprop.ts';
import { sgd } from './sgd.ts';
import type { Optimizer } from './types.ts';

export type { Optimizer } from './types.ts';

/** The optimizer of a run file. Holds no state: slots belong to the shard. */
export function createOptimizer(config: OptimizerConfig): Optimizer {
  switch (config.kind) {
    case 'sgd':
      return sgd(config);
    case 'adam':
      return adam(config);
    case 'rmsprop':
      return rmsprop(config);
    case 'adagrad':
      return adagrad(config);
  }
}
