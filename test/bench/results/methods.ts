import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { packageRoot } from '../../../shared/package-root.ts';

export type Method =
  | 'dense'
  | 'magnitude-global'
  | 'erk'
  | 'rigl'
  | 'set'
  | 'fisher'
  | 'movement'
  | 'random'
  | '2:4'
  | 'neuron'
  | 'distilled';

/** When a method prunes: `gradual` while it trains, `sparse` from the start, with the last mask update at endStep. */
interface Times {
  readonly beginStep: number;
  readonly endStep: number;
  readonly frequency: number;
}

interface Recipe {
  /** The sparsity rule as a run file has it; absent: nothing is pruned. */
  readonly rule?: (at: { sparsity: number; gradual: Times; sparse: Times }) => Record<string, unknown>;
  /** Further keys of the run file. */
  readonly keys?: (teacher: string) => Record<string, unknown>;
  /** Where the method can have only these. */
  readonly sparsities?: readonly number[];
  /** For the results page. */
  readonly about: string;
}

const gradually = (keys: Record<string, unknown>): NonNullable<Recipe['rule']> =>
  function ({ sparsity, gradual }) {
    return { schedule: { kind: 'polynomial', finalSparsity: sparsity, ...gradual }, ...keys };
  };
/** Sparse from step 0 on; mask updates move survivors. */
const regrowing = (kind: 'rigl' | 'set'): NonNullable<Recipe['rule']> =>
  function ({ sparsity, sparse }) {
    return {
      schedule: { kind: 'constant', finalSparsity: sparsity, ...sparse },
      scope: 'erk',
      regrowth: { kind, fraction: 0.3, initial: 'random' },
    };
  };

/** The example is what the table has. */
const taught = parse(readFileSync(join(packageRoot, 'deploy', 'examples', 'distillation.yaml'), 'utf8')) as {
  readonly sparsity: readonly [Record<string, unknown>];
  readonly data: object;
  readonly training: object;
  readonly distillation: object;
};

export const METHODS: Readonly<Record<Method, Recipe>> = {
  dense: { sparsities: [0], about: 'nothing pruned' },
  'magnitude-global': { rule: gradually({ scope: 'global' }), about: 'smallest weights of all kernels, gradually' },
  erk: { rule: gradually({ scope: 'erk' }), about: 'smallest weights, layers by Erdős–Rényi kernel, gradually' },
  rigl: { rule: regrowing('rigl'), about: 'RigL, sparse from step 0, ERK, 30 % dropped at first' },
  set: { rule: regrowing('set'), about: 'SET, sparse from step 0, ERK, 30 % dropped at first' },
  fisher: { rule: gradually({ criterion: 'fisher', scope: 'global' }), about: "w² v with Adam's v, gradually" },
  movement: { rule: gradually({ criterion: 'movement', scope: 'global' }), about: 'movement scores, gradually' },
  random: { rule: gradually({ criterion: 'random', scope: 'layer' }), about: 'random, every layer alike, gradually' },
  '2:4': {
    rule: gradually({ granularity: { nm: [2, 4] }, scope: 'layer' }),
    sparsities: [0.5],
    about: '2 of every 4 inputs, 50 % sparse',
  },
  neuron: {
    rule: gradually({ granularity: { neuron: { norm: 2 } }, scope: 'layer' }),
    about: 'whole neurons by L2 norm: the share of neurons',
  },
  distilled: {
    rule: () => taught.sparsity[0],
    keys: (teacher) => ({
      data: taught.data,
      initialize: { from: teacher },
      training: taught.training,
      distillation: { ...taught.distillation, teacher },
    }),
    sparsities: [0.99],
    about: 'Fisher; begins as the dense run of the same seed and is taught by it, batch 64, L1 0.003',
  },
};
