import * as z from 'zod';
import { choice, flag, kinds, mapping, position, real, whole } from './fields.ts';
import { nearest } from './suggest.ts';
import type { CriterionName } from './types.ts';

/** Where a schedule ends that does not say. */
export const END_DEFAULT = '75%';
const BEGIN = 'first update; a step, `30%` of the run, or `3 epochs`; default 30%';
const END = `last update, always made; a step, \`75%\` of the run, or \`9 epochs\`; default ${END_DEFAULT}`;
const FREQUENCY = 'steps between mask updates, >= 1; default 100';
const SPARSITY_CURE = 'sparsity is the share of zeros: 0.95 is 95 %';

const sparsity = (about: string) => real(about, { min: 0, below: 1 }, SPARSITY_CURE);
const finalSparsity = sparsity('sparsity from endStep on, 0 <= x < 1');
const span = { beginStep: position(BEGIN).default('30%'), endStep: position(END).default(END_DEFAULT) };
const frequency = whole(FREQUENCY, { min: 1 }).default(100);
const rising = {
  initialSparsity: sparsity('sparsity at beginStep, 0 <= x < 1; default 0').default(0),
  finalSparsity,
  ...span,
  frequency,
};

const schedule = kinds('target sparsity by step', {
  polynomial: {
    ...rising,
    power: real('exponent; 1 is linear, 3 prunes early; > 0, default 3', { above: 0, max: 100 }).default(3),
  },
  constant: { finalSparsity: sparsity('sparsity from beginStep on, 0 <= x < 1'), ...span, frequency },
  linear: rising,
  exponential: rising,
  cosine: rising,
  oneShot: {
    finalSparsity: sparsity('sparsity from the update on, 0 <= x < 1'),
    at: position('the only update; a step, `30%` of the run, or `3 epochs`; 0: before training'),
  },
  steps: {
    steps: z
      .array(
        mapping('one update', {
          at: position('when; a step, `30%` of the run, or `3 epochs`'),
          sparsity: sparsity('sparsity from then on, 0 <= x < 1'),
        }),
        { error: 'must be a list of updates, each such as {at: 30%, sparsity: 0.5}' },
      )
      .min(1, { error: 'must have at least one update, such as {at: 30%, sparsity: 0.5}' })
      .max(10_000, { error: 'must have at most 10000 updates' })
      .describe('updates in order of time, each with its sparsity'),
  },
  cyclic: {
    finalSparsity: sparsity('sparsity of sparse phases, and from endStep on, 0 <= x < 1'),
    ...span,
    sparseSteps: position('length of a sparse phase; steps, `10%` of the run, or `1 epochs`'),
    denseSteps: position('length of a dense phase; steps, `10%` of the run, or `1 epochs`'),
  },
});

const CRITERIA = [
  'magnitude',
  'normalizedMagnitude',
  'gradient',
  'saliency',
  'movement',
  'random',
  'fisher',
  'snip',
  'lamp',
  'activation',
] as const satisfies readonly CriterionName[];

const GRANULARITIES = {
  element: 'element',
  block: '{block: [4, 1]}',
  nm: '{nm: [2, 4]}',
  neuron: '{neuron: {norm: 2}}',
  filter: '{filter: {norm: 2}}',
} as const;

function granularityError({ input }: { input?: unknown }): string {
  const forms = Object.values(GRANULARITIES);
  const word = typeof input === 'string' ? input : Object.keys((input as object | null) ?? {})[0];
  const near = word === undefined ? undefined : nearest(word, Object.keys(GRANULARITIES));
  const cure = near === undefined ? '' : `|write ${GRANULARITIES[near as keyof typeof GRANULARITIES]}`;
  return `must be one of ${forms.join(', ')}${cure}`;
}

const normError = 'must be 1, 2 or mean';
const norm = z
  .union([z.literal(1), z.literal(2), z.literal('mean')], { error: normError })
  .describe('how scores of elements become one: 1 sum of |s|, 2 root of the sum of squares, mean; default 2')
  .default(2);
const blockError = 'must be [rows, columns], two whole numbers >= 1, such as [4, 1]';
const side = z.int({ error: blockError }).min(1, { error: blockError }).max(65_536, { error: blockError });
const nmError = 'must be [n, m], n of m neighbours that stay, 1 <= n < m <= 1024, such as [2, 4]';
const count = z.int({ error: nmError }).min(1, { error: nmError }).max(1024, { error: nmError });

const granularity = z
  .union(
    [
      z.literal('element', { error: granularityError }),
      mapping('blocks of the kernel as a matrix of inputs by outputs', {
        block: z.tuple([side, side], { error: blockError }).describe('rows (inputs) and columns (outputs) of a block'),
        norm,
      }),
      mapping('of every m neighbours along the input axis n stay', {
        nm: z
          .tuple([count, count], { error: nmError })
          .refine(([n, m]) => n < m, { error: nmError })
          .describe('n of every m neighbours stay, such as [2, 4]'),
      }),
      mapping('neurons of dense layers, with all that is coupled to them', {
        neuron: mapping('how neurons are scored', { norm }),
      }),
      mapping('filters of convolutions, with all that is coupled to them', {
        filter: mapping('how filters are scored', { norm }),
      }),
    ],
    { error: granularityError },
  )
  .describe('what is pruned as one; default element')
  .default('element');

const drawn = {
  fraction: real('share of the survivors that is exchanged at first, 0 < x < 1; default 0.3', {
    above: 0,
    below: 1,
  }).default(0.3),
  initial: choice('criterion of the first update, which only removes; default random', [
    'random',
    'magnitude',
    'snip',
  ]).default('random'),
};
const regrowth = z
  .union(
    [
      z.literal('none', { error: 'must be none, {kind: set} or {kind: rigl}' }),
      kinds('set grows at random, rigl by the gradient', { set: drawn, rigl: drawn }),
    ],
    {
      error: ({ input }) => {
        const cure = input === 'set' || input === 'rigl' ? `|write {kind: ${input}}` : '';
        return `must be none, {kind: set} or {kind: rigl}${cure}`;
      },
    },
  )
  .describe('what brings elements back; default none')
  .default('none');

const glob = (about: string) => {
  const error = 'must be a glob of parameter names, such as "*/kernel"';
  return z.string({ error }).min(1, { error }).describe(about);
};

const rule = mapping('what to prune, how much, when', {
  match: glob('')
    .nullable()
    .describe('glob of parameter names; default: kernels of dense and convolution layers')
    .default(null),
  schedule,
  criterion: choice('what the least important is; default magnitude', CRITERIA).default('magnitude'),
  granularity,
  scope: choice(
    'global: ranked together; layer: the same sparsity in each parameter; erk, er: denser the smaller the parameter; default global',
    ['global', 'layer', 'erk', 'er'],
  ).default('global'),
  overrides: z
    .array(
      mapping('parameters with a sparsity of their own', {
        match: glob('glob of parameter names'),
        finalSparsity: sparsity("takes the place of the schedule's, 0 <= x < 1; 0 leaves them dense"),
      }),
      { error: 'must be a list, each item such as {match: dense_3/kernel, finalSparsity: 0.5}' },
    )
    .max(1000, { error: 'must be at most 1000 items' })
    .describe('parameters with a sparsity of their own, ranked within themselves; the first match holds; default none')
    .optional(),
  regrowth,
  straightThrough: flag(
    'dead weights go on learning from the gradient of their zero, and may come back until endStep; default false',
  ).optional(),
  protect: mapping('what pruning never takes', {
    minSurvivorsPerParameter: whole('survivors left in each parameter, >= 0; default 1').default(1),
  }).prefault({}),
});

/** The run file's `sparsity` as the user writes it. */
export const sparsitySchema = z
  .array(rule, { error: 'must be a list of rules, each starting with a dash; [] prunes nothing' })
  .max(64, { error: 'must be at most 64 rules' })
  .describe('rules of pruning, applied in order; default none')
  .default([]);

export type SparsityDocument = z.output<typeof sparsitySchema>;
