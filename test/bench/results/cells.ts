import { createHash } from 'node:crypto';
import { METHODS, type Method } from './methods.ts';

export type Dataset = 'mnist' | 'fashion-mnist';
/** 12: Adam, as in the example. 100: the recipe of published results, stochastic gradient descent. */
export type Epochs = 12 | 100;

/** One run of the table. */
export interface Cell {
  readonly dataset: Dataset;
  readonly epochs: Epochs;
  readonly method: Method;
  /** 0: dense. */
  readonly sparsity: number;
  readonly seed: number;
}

export const SPARSITIES = [0.9, 0.95, 0.98, 0.99] as const;

/** Every cell, in the order in which they run: a teacher before its students, the main results first. */
export function allCells(): Cell[] {
  const mnist = (epochs: Epochs, method: Method, seeds: number): Cell[] => cells('mnist', epochs, method, seeds);
  const fashion = (method: Method): Cell[] => cells('fashion-mnist', 12, method, 1);
  return [
    ...mnist(12, 'dense', 3),
    ...mnist(12, 'magnitude-global', 3),
    ...mnist(12, 'erk', 3),
    ...mnist(12, 'rigl', 3),
    ...(['set', 'fisher', 'movement', 'random', '2:4', 'neuron'] as const).flatMap((method) => mnist(12, method, 1)),
    ...mnist(12, 'distilled', 1),
    ...(['dense', 'magnitude-global', 'rigl', 'random'] as const).flatMap(fashion),
    ...(['dense', 'magnitude-global'] as const).flatMap((method) => mnist(100, method, 1)),
  ];
}

function cells(dataset: Dataset, epochs: Epochs, method: Method, seeds: number): Cell[] {
  return (METHODS[method].sparsities ?? SPARSITIES).flatMap((sparsity) =>
    Array.from({ length: seeds }, (_, i) => ({ dataset, epochs, method, sparsity, seed: i + 1 })),
  );
}

/** `mnist/12/magnitude-global/95/1`: what --only matches. */
export function cellId({ dataset, epochs, method, sparsity, seed }: Cell): string {
  return [dataset, epochs, method, Math.round(sparsity * 100), seed].join('/');
}

/** Run id of a cell; another recipe is another run. */
export function runIdOf(cell: Cell): string {
  const digest = createHash('sha256')
    .update(JSON.stringify(runFileOf(cell, '')))
    .digest('hex');
  return `${cellId(cell).replaceAll(/[/:]/g, '-')}-${digest.slice(0, 8)}`;
}

/** The cell whose run teaches this one. */
export function teacherOf(cell: Cell): Cell | null {
  return cell.method === 'distilled' ? { ...cell, method: 'dense', sparsity: 0 } : null;
}

/** The run file of a cell, as written to YAML. `teacher`: directory of the teacher's run, where it has one. */
export function runFileOf(cell: Cell, teacher: string): Record<string, unknown> {
  const { dataset, epochs, seed, sparsity } = cell;
  const { rule, keys } = METHODS[cell.method];
  const { batchSize, training, gradual, sparse } = RECIPES[epochs];
  return {
    name: cellId(cell).replaceAll(/[/:]/g, '-'),
    seed,
    model: 'lenet-300-100',
    data: { source: dataset, batchSize },
    // The digests depend on no number of processes; these cost the least.
    cluster: { servers: 1, workers: 1, slices: 1 },
    training,
    sparsity: rule ? [rule({ sparsity, gradual, sparse })] : [],
    checkpoint: { every: 2000, keep: 1 },
    ...keys?.(teacher),
  };
}

const RECIPES = {
  // 468 steps an epoch of 60,000 examples: as the example run file, and the same recipe in PyTorch.
  12: {
    batchSize: 128,
    training: { steps: 5616, optimizer: { kind: 'adam', learningRate: 0.001 }, evaluateEvery: 468 },
    gradual: { beginStep: 468, endStep: 3931, frequency: 100 },
    sparse: { beginStep: 0, endStep: 4212, frequency: 100 },
  },
  // As Dettmers & Zettlemoyer (2019) train LeNet-300-100, pruned between 10 and 60 % of the run.
  100: {
    batchSize: 100,
    training: {
      steps: 60_000,
      optimizer: { kind: 'sgd', learningRate: 0.1, momentum: 0.9, nesterov: true },
      learningRateSchedule: { kind: 'step', every: 25_000, factor: 0.1 },
      decay: { l2: 0.0005 },
      evaluateEvery: 600,
    },
    gradual: { beginStep: 6000, endStep: 36_000, frequency: 100 },
    sparse: { beginStep: 0, endStep: 45_000, frequency: 100 },
  },
} as const satisfies Record<Epochs, unknown>;
