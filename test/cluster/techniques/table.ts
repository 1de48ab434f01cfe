import type { Branch } from '../../fixtures/branched-model.ts';

/** One way to prune, on a branch of its own; see branched-model.ts. */
export interface Technique {
  readonly name: string;
  readonly branch: Branch['kind'];
  /** Layers of the branch that it prunes; default: both. */
  readonly layers?: 'b';
  /** As in a run file, without `match`. */
  readonly rule: Readonly<Record<string, unknown>>;
  /** Dead elements by step: of the kernels of both layers, or of both together where they are ranked as one. */
  readonly dead: Readonly<Record<number, number | readonly [a: number, b: number]>>;
}

export const STEPS = 60;
/** Steps between checkpoints: at those `dead` can be counted. */
export const EVERY = 15;

const regular = { beginStep: 10, endStep: 50, frequency: 10 };

/**
 * Kernels of a dense branch have 12544 and 192 elements, those of a convolutional one 72 and 576. A further criterion,
 * granularity, scope, schedule or regrowth is one more line here; a test sees to it that none is forgotten.
 */
export const TECHNIQUES: readonly Technique[] = [
  {
    name: 'magnitude',
    branch: 'dense',
    rule: { schedule: { kind: 'polynomial', finalSparsity: 0.9, beginStep: 5, endStep: 50, frequency: 10 } },
    dead: { 0: 0, 30: 9497, 60: 11462 },
  },
  {
    name: 'normalizedMagnitude',
    branch: 'dense',
    rule: { criterion: 'normalizedMagnitude', schedule: { kind: 'linear', finalSparsity: 0.8, ...regular } },
    dead: { 30: 5094, 60: 10189 },
  },
  {
    name: 'gradient',
    branch: 'dense',
    rule: {
      criterion: 'gradient',
      scope: 'layer',
      schedule: { kind: 'exponential', finalSparsity: 0.8, ...regular, frequency: 20 },
    },
    dead: { 30: [6934, 106], 60: [10035, 154] },
  },
  {
    name: 'saliency',
    branch: 'dense',
    rule: {
      criterion: 'saliency',
      scope: 'erk',
      schedule: { kind: 'cosine', finalSparsity: 0.6, ...regular, endStep: 40 },
    },
    dead: { 30: [3821, 0], 60: [7622, 20] },
  },
  {
    name: 'movement',
    branch: 'dense',
    rule: {
      criterion: 'movement',
      scope: 'er',
      schedule: { kind: 'steps', steps: [at(10, 0.3), at(30, 0.5), at(50, 0.7)] },
    },
    dead: { 30: [6368, 0], 60: [8852, 63] },
  },
  {
    name: 'movementStraightThrough',
    branch: 'dense',
    rule: {
      criterion: 'movement',
      scope: 'layer',
      straightThrough: true,
      schedule: { kind: 'linear', finalSparsity: 0.7, ...regular, endStep: 45, frequency: 5 },
    },
    dead: { 30: [5018, 77], 60: [8781, 134] },
  },
  {
    name: 'straightThrough',
    branch: 'dense',
    // What is dead early and keeps learning overtakes survivors only while their number stays.
    rule: {
      straightThrough: true,
      schedule: { kind: 'constant', finalSparsity: 0.5, beginStep: 5, endStep: 45, frequency: 5 },
    },
    dead: { 15: 6368, 30: 6368, 60: 6368 },
  },
  {
    name: 'random',
    branch: 'dense',
    rule: {
      criterion: 'random',
      schedule: { kind: 'constant', finalSparsity: 0.5, beginStep: 20, endStep: 40, frequency: 10 },
    },
    dead: { 15: 0, 30: 6368, 60: 6368 },
  },
  {
    name: 'fisher',
    branch: 'dense',
    rule: { criterion: 'fisher', scope: 'layer', schedule: { kind: 'cosine', finalSparsity: 0.85, ...regular } },
    dead: { 30: [3123, 48], 60: [10662, 163] },
  },
  {
    name: 'snip',
    branch: 'dense',
    rule: { criterion: 'snip', schedule: { kind: 'oneShot', finalSparsity: 0.5, at: 0 } },
    dead: { 15: 6368, 60: 6368 },
  },
  {
    name: 'lamp',
    branch: 'dense',
    rule: { criterion: 'lamp', schedule: { kind: 'linear', finalSparsity: 0.75, ...regular } },
    dead: { 30: 4776, 60: 9552 },
  },
  {
    name: 'override',
    branch: 'dense',
    rule: {
      scope: 'layer',
      overrides: [{ match: '*_b/kernel', finalSparsity: 0.25 }],
      schedule: { kind: 'linear', finalSparsity: 0.5, ...regular },
    },
    dead: { 30: [3136, 24], 60: [6272, 48] },
  },
  {
    name: 'block',
    branch: 'dense',
    rule: {
      granularity: { block: [4, 1], norm: 1 },
      schedule: { kind: 'polynomial', finalSparsity: 0.75, ...regular },
    },
    dead: { 30: 8360, 60: 9552 },
  },
  {
    name: 'nm',
    branch: 'dense',
    rule: {
      criterion: 'saliency',
      granularity: { nm: [2, 4] },
      scope: 'layer',
      schedule: { kind: 'linear', finalSparsity: 0.5, ...regular },
    },
    dead: { 30: [3136, 48], 60: [6272, 96] },
  },
  {
    // Neurons of the first layer take rows of the second kernel with them.
    name: 'neuron',
    branch: 'dense',
    rule: {
      criterion: 'saliency',
      granularity: { neuron: { norm: 1 } },
      scope: 'layer',
      schedule: { kind: 'linear', finalSparsity: 0.5, ...regular },
    },
    dead: { 30: [4 * 784, 4 * 12 + 3 * 16 - 4 * 3], 60: [8 * 784, 8 * 12 + 6 * 16 - 8 * 6] },
  },
  {
    name: 'activation',
    branch: 'dense',
    rule: {
      criterion: 'activation',
      granularity: { neuron: { norm: 2 } },
      scope: 'layer',
      schedule: { kind: 'linear', finalSparsity: 0.5, ...regular },
    },
    dead: { 30: [4 * 784, 4 * 12 + 3 * 16 - 4 * 3], 60: [8 * 784, 8 * 12 + 6 * 16 - 8 * 6] },
  },
  {
    name: 'cyclic',
    branch: 'dense',
    rule: {
      schedule: {
        kind: 'cyclic',
        finalSparsity: 0.6,
        beginStep: 5,
        endStep: 50,
        sparseSteps: 10,
        denseSteps: 10,
      },
    },
    dead: { 15: 0, 30: 7642, 60: 7642 },
  },
  {
    name: 'set',
    branch: 'dense',
    rule: {
      scope: 'erk',
      regrowth: { kind: 'set', initial: 'random' },
      schedule: { kind: 'constant', finalSparsity: 0.8, beginStep: 5, endStep: 50, frequency: 10 },
    },
    dead: { 15: [10083, 106], 30: [10083, 106], 60: [10083, 106] },
  },
  {
    name: 'setFromMagnitude',
    branch: 'dense',
    rule: {
      scope: 'layer',
      regrowth: { kind: 'set', initial: 'magnitude' },
      schedule: { kind: 'linear', finalSparsity: 0.8, ...regular },
    },
    dead: { 30: [5018, 77], 60: [10035, 154] },
  },
  {
    name: 'rigl',
    branch: 'dense',
    rule: {
      scope: 'layer',
      regrowth: { kind: 'rigl', initial: 'snip' },
      schedule: { kind: 'constant', finalSparsity: 0.8, beginStep: 0, endStep: 50, frequency: 10 },
    },
    dead: { 15: [10035, 154], 30: [10035, 154], 60: [10035, 154] },
  },
  {
    // Filters of the first layer take channels of the second kernel with them.
    name: 'filter',
    branch: 'convolution',
    rule: {
      criterion: 'fisher',
      granularity: { filter: { norm: 2 } },
      scope: 'layer',
      schedule: { kind: 'oneShot', finalSparsity: 0.25, at: 20 },
    },
    dead: { 15: [0, 0], 30: [2 * 9, 2 * 72 + 2 * 72 - 4 * 9], 60: [2 * 9, 2 * 72 + 2 * 72 - 4 * 9] },
  },
  {
    name: 'convolutionBlock',
    branch: 'convolution',
    rule: {
      criterion: 'movement',
      granularity: { block: [3, 2], norm: 'mean' },
      scope: 'er',
      schedule: {
        kind: 'linear',
        initialSparsity: 0.25,
        finalSparsity: 0.5,
        beginStep: 20,
        endStep: 40,
        frequency: 20,
      },
    },
    dead: { 15: [0, 0], 30: [0, 162], 60: [0, 324] },
  },
  {
    name: 'convolutionNm',
    branch: 'convolution',
    layers: 'b',
    rule: {
      criterion: 'gradient',
      granularity: { nm: [2, 4] },
      scope: 'layer',
      schedule: { kind: 'steps', steps: [at(10, 0.25), at(50, 0.5)] },
    },
    dead: { 30: [0, 144], 60: [0, 288] },
  },
];

function at(step: number, sparsity: number): { at: number; sparsity: number } {
  return { at: step, sparsity };
}
