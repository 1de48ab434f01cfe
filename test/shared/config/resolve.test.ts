import assert from 'node:assert/strict';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { configWarnings, resolveRunConfig, type JobFacts } from '../../../shared/config/resolve.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

const FACTS: JobFacts = {
  trainExamples: 60_000,
  testExamples: 10_000,
  backend: 'wasm',
  parameterNames: ['dense_1/kernel', 'dense_1/bias', 'dense_2/kernel', 'dense_2/bias'],
  prunableNames: ['dense_1/kernel', 'dense_2/kernel'],
};

function resolved(set: readonly string[] = [], facts: JobFacts = FACTS): RunConfig {
  return resolveRunConfig(parseRunFile(VALID, '/runs/run.yaml', { set }), facts);
}

function warnings(set: readonly string[], facts: JobFacts = FACTS): string[] {
  const runFile = parseRunFile(VALID, '/runs/run.yaml', { set });
  return configWarnings(runFile, resolveRunConfig(runFile, facts), facts);
}

describe('resolveRunConfig', () => {
  it('fills every default', () => {
    const minimal = 'model: lenet-5\ndata: { source: mnist, batchSize: 128 }\ntraining: { epochs: 12 }\n';
    assert.deepEqual(resolveRunConfig(parseRunFile(minimal, '/runs/first.yaml'), FACTS), {
      name: 'first',
      seed: 1,
      model: 'lenet-5',
      data: { source: 'mnist', batchSize: 128, order: 'shuffled' },
      cluster: { servers: 1, workers: { min: 1, max: 1 }, backend: 'wasm', replication: 0, orphanAfterSeconds: 120, slices: 1 },
      consistency: { mode: 'bsp', staleness: 0, backupWorkers: 0 },
      training: {
        steps: 5625, // ceil(12 x 60000 / 128) = ceil(5625)
        optimizer: { kind: 'adam', learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        learningRateSchedule: { kind: 'constant', warmupSteps: 0 },
        decay: { weightDecay: 0, l2: 0, l1: 0, match: '*' },
        clipNorm: null,
        evaluateEvery: 469, // ceil(60000 / 128) = ceil(468.75)
      },
      sparsity: [],
      kernels: { sparseBelow: 0.2 },
      wire: { push: 'float32', pull: 'float32' },
      checkpoint: { every: 500, keep: 3 },
    } satisfies RunConfig);
  });

  it('takes optimizer defaults from PyTorch', () => {
    const optimizer = (kind: string): unknown => resolved([`training.optimizer={ kind: ${kind} }`]).training.optimizer;
    assert.deepEqual(optimizer('sgd'), { kind: 'sgd', learningRate: 0.001, momentum: 0, nesterov: false });
    assert.deepEqual(optimizer('rmsprop'), {
      kind: 'rmsprop',
      learningRate: 0.01,
      rho: 0.99,
      epsilon: 1e-8,
      momentum: 0,
      centered: false,
    });
    assert.deepEqual(optimizer('adagrad'), {
      kind: 'adagrad',
      learningRate: 0.01,
      epsilon: 1e-10,
      initialAccumulator: 0,
    });
  });

  it('makes adamw an adam with decoupled decay of 0.01, unless the decay is given', () => {
    const adamw = resolved(['training.optimizer={ kind: adamw, beta1: 0.8 }']).training;
    assert.deepEqual(adamw.optimizer, { kind: 'adam', learningRate: 0.001, beta1: 0.8, beta2: 0.999, epsilon: 1e-8 });
    assert.equal(adamw.decay.weightDecay, 0.01);
    assert.equal(
      resolved(['training.optimizer.kind=adamw', 'training.decay.weightDecay=0']).training.decay.weightDecay,
      0,
    );
    assert.equal(
      resolved(['training.optimizer.kind=adamw', 'training.decay.weightDecay=0.1']).training.decay.weightDecay,
      0.1,
    );
  });

  it('turns epochs and percentages into steps', () => {
    const ends = (begin: string, end: string, ...set: string[]): number[] => {
      const schedule = resolved([
        `sparsity.0.schedule={ kind: constant, finalSparsity: 0.5, beginStep: ${begin}, endStep: ${end} }`,
        ...set,
      ]).sparsity[0]?.schedule;
      return [schedule?.beginStep ?? -1, schedule?.endStep ?? -1];
    };
    assert.deepEqual(ends('0%', '100%'), [0, 1000]);
    assert.deepEqual(ends('12.5%', '33%'), [125, 330]);
    // An epoch is 60000 / 100 = 600 steps; half of one 300; a third of a batch is rounded up.
    assert.deepEqual(ends('0.5 epochs', '1 epoch'), [300, 600]);
    assert.deepEqual(ends('1 epochs', '3 epochs', 'data.batchSize=128', 'training.epochs=12'), [469, 1407]); // ceil(468.75), ceil(1406.25)
    assert.deepEqual(ends('30%', '70%', 'training.steps=5616'), [1685, 3931]); // 1684.8 and 3931.2
  });

  it('defaults begin and end to 30 % and 75 % of the run, frequency to 100, power to 3', () => {
    const [rule] = resolved(['sparsity.0={ schedule: { kind: polynomial, finalSparsity: 0.5 } }']).sparsity;
    assert.deepEqual(rule, {
      match: null,
      schedule: {
        kind: 'polynomial',
        initialSparsity: 0,
        finalSparsity: 0.5,
        beginStep: 300,
        endStep: 750,
        frequency: 100,
        power: 3,
      },
      criterion: 'magnitude',
      granularity: 'element',
      scope: 'global',
      regrowth: 'none',
      protect: { minSurvivorsPerParameter: 1 },
    });
  });

  it('checks steps that depend on the data, with their values', () => {
    const error = runFileErrorOf(() => resolved(['training.epochs=2', 'sparsity.0.schedule.endStep=3 epochs']));
    assertSays(error, [
      '--set sparsity.0.schedule.endStep=3 epochs:',
      'endStep 1800 (3 epochs) is beyond the run, which has 1200 steps',
    ]);
  });

  it('slices default to the workers; an explicit backend stays', () => {
    assert.equal(resolved(['cluster.workers=4']).cluster.slices, 4);
    assert.equal(resolved(['cluster.workers=4', 'cluster.slices=8']).cluster.slices, 8);
    assert.equal(resolved(['cluster.backend=cpu']).cluster.backend, 'cpu');
  });

  it('evaluates only at the end where there is nothing to evaluate on', () => {
    assert.equal(resolved([], { ...FACTS, testExamples: 0 }).training.evaluateEvery, 0);
    assert.equal(resolved(['training.evaluateEvery=0']).training.evaluateEvery, 0);
  });

  it('refuses a glob that matches no parameter, and names the nearest', () => {
    const error = runFileErrorOf(() =>
      resolveRunConfig(parseRunFile(VALID.replace('*/kernel', '*/kernal'), 'run.yaml'), FACTS),
    );
    assertSays(error, ['run.yaml:7:12', 'sparsity.0.match "*/kernal" matches no parameter', 'dense_1/kernel']);
    const decay = runFileErrorOf(() => resolved(['training.decay={ weightDecay: 1, match: dens_1/* }']));
    assertSays(decay, ['training.decay.match "dens_1/*" matches no parameter', 'the nearest are dense_1/bias']);
  });

  it('refuses a rule without match where the model has nothing to prune', () => {
    const error = runFileErrorOf(() => resolved(['sparsity.0.match=null'], { ...FACTS, prunableNames: [] }));
    assertSays(error, ['sparsity.0 has no match', 'name parameters with match']);
  });
});

describe('configWarnings', () => {
  it('is silent about an ordinary file', () => assert.deepEqual(warnings([]), []));

  const cases: readonly (readonly [set: readonly string[], facts: Partial<JobFacts>, says: RegExp])[] = [
    [['cluster.workers=4', 'cluster.slices=2'], {}, /workers 4 is more than cluster.slices 2: 2 will be idle/],
    [['kernels.sparseBelow=0.3'], {}, /kernels.sparseBelow 0.3 is ignored/],
    [['consistency.staleness=2'], {}, /staleness 2 is ignored/],
    [['training.evaluateEvery=5'], { testExamples: 0 }, /evaluateEvery 5 is ignored/],
    [
      ['training.learningRateSchedule={ kind: cosine, warmupSteps: 1000 }'],
      {},
      /warmupSteps 1000 spans the whole run of 1000 steps/,
    ],
    [['training.decay.match="*/kernel"'], {}, /decay.match "\*\/kernel" is ignored/],
    [[], { trainExamples: 50 }, /batchSize 100 is more than the 50 training examples/],
    [['sparsity.0.match="*"'], {}, /sparsity.0.match "\*" also prunes dense_1\/bias, dense_2\/bias/],
  ];
  for (const [set, facts, says] of cases) {
    it(`warns of ${set.join(' ') || JSON.stringify(facts)}`, () => {
      const found = warnings(set, { ...FACTS, ...facts });
      assert.equal(found.length, 1, found.join('\n'));
      assert.match(found[0] ?? '', says);
    });
  }
});
