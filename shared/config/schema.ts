import * as z from 'zod';
import { clusteringSchema } from './clustering.ts';
import { coordinationSchema } from './coordination.ts';
import { decaySchema } from './decay.ts';
import { choice, flag, kinds, mapping, only, real, whole } from './fields.ts';
import { rewindSchema } from './rewind.ts';
import { shrinkSchema } from './shrink.ts';
import { sparsitySchema } from './schema-sparsity.ts';
import { distillationSchema } from './distillation.ts';
import { initializeSchema } from './initialize.ts';
import { quantizationSchema } from './quantization.ts';
import { recalibrateSchema } from './recalibrate.ts';
import { rateSchedule } from './rate-schedule.ts';
import { nearest } from './suggest.ts';

/** Built-in data sets, by name. */
export const DATA_NAMES = ['mnist', 'fashion-mnist'] as const;

const path = (about: string) =>
  z.string({ error: 'must be a path' }).min(1, { error: 'must be a path' }).describe(about);

const labelError = 'must be a column name or its index from 0 (-1: the last)';
const csv = mapping('tables of numbers, one example a row', {
  train: path('training file, relative to the run file'),
  test: path('').nullable().describe('test file; default none').default(null),
  label: z
    .union([z.string(), z.int().min(-1, { error: labelError })], { error: labelError })
    .describe('column of the label: a header name or an index from 0; default -1, the last column')
    .default(-1),
  header: flag('does the first row name the columns; default true').default(true),
  labels: choice('classes: class ids; numbers: regression targets; default classes', ['classes', 'numbers']).default(
    'classes',
  ),
});

/** True for a module's or file's path, false for a built-in's name. */
export function isPath(text: string): boolean {
  return /^\.{0,2}\//.test(text) || /\.[cm]?[jt]s$/.test(text);
}

function dataError({ input }: { input?: unknown }): string {
  const near = typeof input === 'string' ? nearest(input, DATA_NAMES) : undefined;
  const cure = near === undefined ? '' : `|did you mean ${near}?`;
  return `must be ${DATA_NAMES.join(', ')}, {idx: DIR}, {csv: ...} or a module such as ./data.ts${cure}`;
}

const dataSource = z
  .union(
    [
      z
        .string()
        .refine((text) => isPath(text) || (DATA_NAMES as readonly string[]).includes(text), { error: dataError }),
      mapping('files in the format of MNIST', { idx: path('folder with the four IDX files') }),
      mapping('', {
        csv: z.union([path('training file'), csv], {
          error: 'must be a path or a mapping with train, test, label, header, labels',
        }),
      }),
    ],
    { error: dataError },
  )
  .describe('mnist, fashion-mnist, {idx: DIR}, {csv: ...}, or a module that exports train and test');

const learningRate = (standard: number) => real(`step size, > 0; default ${standard}`, { above: 0 }).default(standard);
const epsilon = (standard: number) =>
  real(`added to the denominator, > 0; default ${standard}`, { above: 0 }).default(standard);
const beta = (about: string, standard: number) =>
  real(`${about}, 0 <= x < 1; default ${standard}`, { min: 0, below: 1 }).default(standard);
const momentum = beta('momentum', 0);
const adam = {
  learningRate: learningRate(0.001),
  beta1: beta("decay of the gradient's average", 0.9),
  beta2: beta("decay of the squared gradient's average", 0.999),
  epsilon: epsilon(1e-8),
};

const optimizer = kinds('how gradients become updates; names and defaults as in PyTorch; default adam', {
  sgd: {
    learningRate: learningRate(0.001),
    momentum,
    nesterov: flag('Nesterov momentum; needs momentum > 0; default false').default(false),
  },
  adam,
  adamw: adam,
  rmsprop: {
    learningRate: learningRate(0.01),
    rho: beta("decay of the squared gradient's average", 0.99),
    epsilon: epsilon(1e-8),
    momentum,
    centered: flag('subtract the squared average of the gradient; default false').default(false),
  },
  adagrad: {
    learningRate: learningRate(0.01),
    epsilon: epsilon(1e-10),
    initialAccumulator: real('start of the accumulated squares, >= 0; default 0', { min: 0 }).default(0),
  },
});

const learningRateSchedule = rateSchedule("factor of the optimizer's learning rate by step; default constant");

const pushFormat = choice('format of pushed gradients, rounded stochastically; default float32', [
  'float32',
  'bfloat16',
  'float16',
  'int8',
]).default('float32');
// int8 has one scale a frame: weights pulled so would depend on how the model is cut into shards.
const pullFormat = choice(
  'format of pulled weights; default float32',
  ['float32', 'bfloat16', 'float16'],
  ['int8'],
).default('float32');
const faultError = 'must be a line such as "at step 120 kill server[1]"';
const modelError = 'must be a built-in such as lenet-300-100, or a module such as ./model.ts';
const nameError = 'must be letters, digits, dots, dashes and underscores, at most 100, starting with a letter or digit';

/** The run file as the user writes it, design section 10. Output has defaults that need no knowledge of the data. */
export const runFileSchema = mapping('A Whittle run file', {
  name: z
    .string({ error: nameError })
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, { error: nameError })
    .describe("the run's name, part of its id; default: the file's name")
    .optional(),
  seed: whole('all randomness derives from it, 0 to 2^31-1; default 1').default(1),
  model: z
    .string({ error: modelError })
    .min(1, { error: modelError })
    .describe("a built-in's name, or a module such as ./model.ts that exports model(tf)"),
  data: mapping('what is trained on', {
    source: dataSource,
    batchSize: whole('examples in a global batch, over all workers, >= 1', { min: 1 }),
    order: choice('of the examples; shuffled: anew in each epoch; default shuffled', [
      'shuffled',
      'sequential',
    ]).default('shuffled'),
  }),
  cluster: mapping('the processes of the run', {
    servers: whole('parameter servers, >= 1; default 1', { min: 1, max: 1024 }).default(1),
    workers: workers(),
    backend: choice('what computes; auto: the best that loads; default auto', [
      'auto',
      'tensorflow-gpu',
      'tensorflow',
      'wasm',
      'cpu',
    ]).default('auto'),
    replication: only('standby servers; default 0', 0, 'a standby for each server').default(0),
    orphanAfterSeconds: whole('how long servers and workers go on without a scheduler; default 120', {
      min: 1,
      max: 86_400,
    }).default(120),
    slices: whole('parts a global batch is cut into, at most batchSize; default: workers', {
      min: 1,
      max: 65536,
    }).optional(),
  }).prefault({}),
  consistency: mapping('how far workers may drift apart', {
    mode: choice(
      'bsp: steps in lockstep, exact digests; ssp: workers at most `staleness` clocks apart; asp: no bound; default bsp',
      ['bsp', 'ssp', 'asp'],
    ).default('bsp'),
    staleness: whole('clocks a worker may lag, for ssp; default 0').default(0),
    backupWorkers: whole('idle workers that recompute the slowest slices, for bsp; default 0', { max: 1024 }).default(
      0,
    ),
  }).prefault({}),
  training: mapping('steps and optimizer; give steps or epochs', {
    steps: whole('optimizer steps, >= 1', { min: 1 }).optional(),
    epochs: real('passes over the training data, > 0: ceil(epochs x examples / batchSize) steps', {
      above: 0,
      max: 1e6,
    }).optional(),
    optimizer: optimizer.prefault({ kind: 'adam' }),
    learningRateSchedule: learningRateSchedule.prefault({ kind: 'constant' }),
    decay: decaySchema.prefault({}),
    clipNorm: real('', { above: 0 })
      .nullable()
      .describe('largest global L2 norm of the gradient, > 0; default none')
      .default(null),
    evaluateEvery: whole('steps between evaluations, 0: only at the end; default one epoch').optional(),
  }),
  sparsity: sparsitySchema,
  rewind: rewindSchema,
  shrink: shrinkSchema,
  initialize: initializeSchema,
  distillation: distillationSchema,
  clustering: clusteringSchema,
  recalibrate: recalibrateSchema,
  quantization: quantizationSchema,
  kernels: mapping('how layers are computed', {
    sparseBelow: real('density below which a layer runs sparse, 0 to 1; default 0.2', { min: 0, max: 1 }).default(0.2),
  }).prefault({}),
  wire: mapping('what travels between workers and servers', { push: pushFormat, pull: pullFormat }).prefault({}),
  checkpoint: mapping('when and how many', {
    every: whole('steps between checkpoints, >= 1; default 500', { min: 1 }).default(500),
    keep: whole('newest checkpoints that are kept, >= 1; default 3', { min: 1 }).default(3),
  }).prefault({}),
  coordination: coordinationSchema,
  security: mapping('who may take part', {
    certificates: path('')
      .nullable()
      .describe('folder that `whittle certs` made; default none: loopback only')
      .default(null),
    insecure: flag('listen off loopback also without certificates; default false').default(false),
  }).prefault({}),
  faults: z
    .array(z.string({ error: faultError }), {
      error: 'must be a list of lines, each such as "at step 120 kill server[1]"',
    })
    .max(1000, { error: 'must be at most 1000 lines' })
    .describe('faults made on purpose, such as "at step 120 kill server[1]"; default none')
    .optional(),
  history: flag('do roles write down what they do, in history/ of the run directory; default false').optional(),
});

/** A number, or a range `2:8` of workers that come and go. */
function workers() {
  const about = 'worker processes, >= 1, or a range such as 2:8 of how many there may be; default 1';
  const error = 'must be a whole number from 1 to 1024, or a range such as 2:8';
  const isRange = (text: string): boolean => {
    const [, min = '', max = ''] = /^(\d{1,4}):(\d{1,4})$/.exec(text) ?? [];
    return min !== '' && Number(min) >= 1 && Number(min) <= Number(max) && Number(max) <= 1024;
  };
  const range = z.string({ error }).refine(isRange, { error });
  return z
    .union([z.int({ error }).min(1, { error }).max(1024, { error }), range], { error })
    .describe(about)
    .default(1);
}

/** The least and most workers of a run. */
export function workerRange(workers: number | string): { readonly min: number; readonly max: number } {
  if (typeof workers === 'number') return { min: workers, max: workers };
  const [min = 1, max = min] = workers.split(':').map(Number);
  return { min, max };
}

export type RunFileDocument = z.output<typeof runFileSchema>;
