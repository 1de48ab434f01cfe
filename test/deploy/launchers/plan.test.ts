import assert from 'node:assert/strict';
import { bytesPerStep, planRun, shortenUpdates, sliceExamples } from '../../../deploy/launchers/plan.ts';
import { resolveRunConfig } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';

const description: ModelDescription = {
  parameters: [
    { name: 'dense_1/kernel', shape: [784, 300], layerKind: 'Dense', prunable: true },
    { name: 'dense_1/bias', shape: [300], layerKind: 'Dense', prunable: false },
    { name: 'dense_2/kernel', shape: [300, 10], layerKind: 'Dense', prunable: true },
    { name: 'dense_2/bias', shape: [10], layerKind: 'Dense', prunable: false },
  ],
  states: [],
  topology: {},
  layers: [],
  trainExamples: 1000,
  testExamples: 100,
  notes: [],
};
const kernels = 784 * 300 + 300 * 10;
const all = kernels + 310;

function configOf(text: string, set: readonly string[] = []): RunConfig {
  const base =
    'model: m\ndata: { source: mnist, batchSize: 100 }\ntraining: { steps: 50, optimizer: { kind: adam } }\n';
  return resolveRunConfig(parseRunFile(base + text, '/x/run.yaml', { set }), {
    trainExamples: 1000,
    testExamples: 100,
    backend: 'wasm',
  });
}
const planOf = (config: RunConfig) =>
  planRun({ config, description, runId: 'r', runDirectory: '/runs/r', launcher: 'local', notes: ['n'] });

describe('bytesPerStep', () => {
  const cluster = 'cluster: { servers: 2, workers: 3, slices: 4 }\n';
  it('is value size x packed x (slices pushed + workers answered)', () => {
    assert.equal(bytesPerStep(configOf(cluster), 1000), 1000 * (4 * 4 + 4 * 3));
  });
  it('takes the size of each direction', () => {
    const config = configOf(cluster);
    const sized = (push: RunConfig['wire']['push'], pull: RunConfig['wire']['pull']): number =>
      bytesPerStep({ ...config, wire: { push, pull } }, 10);
    assert.equal(sized('bfloat16', 'float32'), 10 * (2 * 4 + 4 * 3));
    assert.equal(sized('int8', 'float16'), 10 * (1 * 4 + 2 * 3));
  });
  it('counts no idle worker: one without a slice is answered nothing', () => {
    assert.equal(bytesPerStep(configOf('cluster: { servers: 1, workers: 5, slices: 2 }\n'), 10), 10 * 4 * (2 + 2));
  });
});

describe('planRun', () => {
  it('counts parameters, prunable elements and epochs', () => {
    const plan = planOf(configOf(''));
    assert.equal(plan.parameters, all);
    assert.equal(plan.prunable, 0);
    assert.equal(plan.epochs, 5);
    assert.deepEqual(plan.sparsity, []);
    assert.equal(plan.bytesPerStep.dense, plan.bytesPerStep.final);
    assert.deepEqual(plan.notes, ['n']);
  });

  it('lists every mask update with the exact count removed', () => {
    const rule =
      'sparsity: [{ schedule: { kind: polynomial, finalSparsity: 0.9, beginStep: 10, endStep: 35, frequency: 10, power: 1 } }]\n';
    const plan = planOf(configOf(rule));
    assert.deepEqual(
      plan.sparsity.map(({ step }) => step),
      [10, 20, 30, 35],
    );
    // At step 20: 0.9 x (20 - 10) / (35 - 10) = 0.36 of the kernels; at the end round(0.9 n).
    assert.deepEqual(
      plan.sparsity.map(({ packed }) => all - packed),
      [0, Math.round(0.36 * kernels), Math.round(0.72 * kernels), Math.round(0.9 * kernels)],
    );
    assert.deepEqual(
      plan.layers.map(({ rules }) => rules),
      [[0], [], [0], []],
    );
    assert.equal(plan.bytesPerStep.final, bytesPerStep(configOf(rule), all - Math.round(0.9 * kernels)));
  });

  it('counts the elements that units take with them, and parameters with a sparsity of their own', () => {
    const removed = (rule: string): number | undefined => {
      const schedule = 'schedule: { kind: oneShot, finalSparsity: 0.5, at: 5 }';
      return planOf(configOf(`sparsity: [{ ${rule}, ${schedule} }]\n`)).sparsity.map(({ packed }) => all - packed)[0];
    };
    // 784 x 300 in blocks of 4 x 2 is 29,400 of them.
    assert.equal(removed('match: dense_1/kernel, granularity: { block: [4, 2] }'), 117_600);
    assert.equal(removed('match: dense_1/kernel, granularity: { nm: [2, 4] }'), 117_600);
    assert.equal(removed('overrides: [{ match: dense_1/*, finalSparsity: 0.9 }]'), 211_680 + 1500);
  });

  it('adds up rules of different parameters', () => {
    const rules =
      'sparsity:\n  - { match: dense_1/kernel, schedule: { kind: constant, finalSparsity: 0.5, beginStep: 5, endStep: 5 } }\n' +
      '  - { match: dense_2/kernel, schedule: { kind: constant, finalSparsity: 0.1, beginStep: 9, endStep: 9 } }\n';
    const { sparsity, layers } = planOf(configOf(rules));
    assert.deepEqual(
      sparsity.map(({ step, targets, packed }) => [step, targets, all - packed]),
      [
        [5, [0.5, 0], 117_600],
        [9, [0.5, 0.1], 117_900],
      ],
    );
    assert.deepEqual(
      layers.map(({ rules: matched }) => matched),
      [[0], [], [1], []],
    );
  });
});

describe('sliceExamples', () => {
  it('cuts at floor(iB/k)', () => {
    assert.deepEqual(sliceExamples(10, 4), [2, 3, 2, 3]);
    assert.deepEqual(sliceExamples(128, 2), [64, 64]);
  });
});

describe('shortenUpdates', () => {
  it('keeps the first and the last, and all where they are few', () => {
    const hundred = Array.from({ length: 100 }, (_, i) => i);
    assert.deepEqual(shortenUpdates(hundred, 4), [0, 33, 66, 99]);
    assert.deepEqual(shortenUpdates([1, 2, 3], 3), [1, 2, 3]);
  });
});
