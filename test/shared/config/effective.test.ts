import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { parseRunConfig, runConfigToYaml } from '../../../shared/config/effective.ts';
import { resolveRunConfig } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const positive = fc.double({ min: 1e-12, max: 1e6, noNaN: true });
const small = fc.integer({ min: 1, max: 64 });
const steps = fc.integer({ min: 0, max: 2 ** 31 - 1 });
// Absolute and normal, as loadRunFile makes them.
const fileName = fc
  .string({ minLength: 1, maxLength: 20 })
  .map((text) => resolve(`/x/${text.replace(/[/\0\n]/g, '-')}`));
const kind = <const K extends string, T extends object>(name: K, members: { [P in keyof T]: fc.Arbitrary<T[P]> }) =>
  fc.record({ kind: fc.constant(name), ...members });

const optimizer = fc.oneof(
  kind('sgd', { learningRate: positive, momentum: unit.filter((m) => m > 0), nesterov: fc.boolean() }),
  kind('adam', { learningRate: positive, beta1: unit, beta2: unit, epsilon: positive }),
  kind('rmsprop', { learningRate: positive, rho: unit, epsilon: positive, momentum: unit, centered: fc.boolean() }),
  kind('adagrad', { learningRate: positive, epsilon: positive, initialAccumulator: fc.constantFrom(0, 0.1) }),
);
const learningRateSchedule = fc.oneof(
  kind('constant', { warmupSteps: steps }),
  kind('step', { every: small, factor: fc.constantFrom(0.1, 0.5), warmupSteps: steps }),
  kind('cosine', { finalFactor: unit, warmupSteps: steps }),
  kind('linear', { finalFactor: unit, warmupSteps: steps }),
);
const source = fc.oneof(
  fc.constantFrom('mnist', 'fashion-mnist'),
  fileName,
  fc.record({ idx: fileName }),
  fc.record({
    csv: fc.record({
      train: fileName,
      test: fc.option(fileName),
      label: fc.oneof(fc.integer({ min: -1, max: 99 }), fc.constantFrom('class', '1', 'yes')),
      header: fc.boolean(),
      labels: fc.constantFrom('classes', 'numbers'),
    }),
  }),
);
const norm = fc.constantFrom(1, 2, 'mean');
const pair = fc.tuple(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 1, max: 16 }));
const schedules = (runSteps: number) => {
  const moments = fc.uniqueArray(fc.integer({ min: 0, max: runSteps }), { minLength: 1, maxLength: 5 });
  const shares = fc.array(unit, { minLength: 5, maxLength: 5 });
  return fc
    .record({ moments, shares, lengths: pair, power: positive.filter((p) => p <= 100), every: small })
    .chain(({ moments, shares, lengths: [sparseSteps, denseSteps], power, every }) => {
      const at = moments.sort((a, b) => a - b);
      const levels = shares.sort((a, b) => a - b);
      const [initialSparsity = 0, finalSparsity = 0] = levels;
      const [beginStep = 0, endStep = beginStep] = at;
      const rising = { initialSparsity, finalSparsity, beginStep, endStep, frequency: every };
      const entries = at.map((step, i) => ({ step, sparsity: levels[i] ?? 0 }));
      const [first, last] = [entries[0], entries.at(-1)];
      return fc.constantFrom(
        { kind: 'polynomial', ...rising, power },
        ...['linear', 'exponential', 'cosine'].map((kind) => ({ kind, ...rising })),
        { kind: 'constant', finalSparsity, beginStep, endStep, frequency: every },
        { kind: 'oneShot', finalSparsity, beginStep, endStep: beginStep, frequency: 1 },
        {
          kind: 'steps',
          finalSparsity: last?.sparsity,
          beginStep: first?.step,
          endStep: last?.step,
          frequency: 1,
          steps: entries,
        },
        ...(beginStep + sparseSteps < endStep
          ? [{ kind: 'cyclic', finalSparsity, beginStep, endStep, frequency: 1, sparseSteps, denseSteps }]
          : []),
      );
    });
};
const override = fc.record({ match: fc.constantFrom('dense_3/kernel', '*'), finalSparsity: fc.constant(0) });
const rule = (runSteps: number) => {
  const common = {
    match: fc.constantFrom(null, '*/kernel', 'dense_?/*', 'null', '~', '#x'),
    scope: fc.constantFrom('global', 'layer', 'erk', 'er'),
    protect: fc.record({ minSurvivorsPerParameter: steps }),
  };
  const pruned = fc.record({
    ...common,
    schedule: schedules(runSteps),
    criterion: fc.constantFrom('magnitude', 'normalizedMagnitude', 'random', 'lamp'),
    granularity: fc.oneof(fc.constant('element'), fc.record({ block: pair, norm }), fc.constant({ nm: [1, 1024] })),
    regrowth: fc.constant('none'),
  });
  const exchanged = fc.record(
    {
      ...common,
      schedule: fc.constant({ kind: 'constant', finalSparsity: 0.5, beginStep: 0, endStep: runSteps, frequency: 3 }),
      criterion: fc.constant('magnitude'),
      granularity: fc.constant('element'),
      overrides: fc.array(override, { minLength: 1, maxLength: 2 }),
      regrowth: fc.record({
        kind: fc.constantFrom('set', 'rigl'),
        fraction: fc.constantFrom(0.1, 0.3),
        initial: fc.constantFrom('random', 'magnitude', 'snip'),
      }),
    },
    { requiredKeys: ['match', 'scope', 'protect', 'schedule', 'criterion', 'granularity', 'regrowth'] },
  );
  const units = fc.record({
    ...common,
    schedule: fc.constant({ kind: 'oneShot', finalSparsity: 0.5, beginStep: 1, endStep: 1, frequency: 1 }),
    criterion: fc.constant('magnitude'),
    granularity: fc.oneof(fc.record({ neuron: fc.record({ norm }) }), fc.record({ filter: fc.record({ norm }) })),
    regrowth: fc.constant('none'),
  });
  const latent = pruned.filter(({ schedule }) => schedule.beginStep !== schedule.endStep);
  return fc.oneof(
    // Of n:m no more than its share can be asked, and not by erk.
    pruned.filter(({ granularity, scope, schedule }) => {
      const isNm = typeof granularity === 'object' && 'nm' in granularity;
      return !isNm || (!scope.startsWith('er') && (schedule.finalSparsity ?? 1) < 0.9);
    }),
    exchanged,
    units,
    latent.map((each) => ({ ...each, granularity: 'element', straightThrough: true })),
  );
};
const coordination = fc.oneof(
  fc.constant('embedded'),
  fc.record({
    etcd: fc.record(
      {
        endpoints: fc.constant(['https://etcd-0:2379', 'https://[::1]:2379']),
        prefix: fc.constantFrom('whittle', 'a/b.c'),
        username: fc.constant('me'),
        certificates: fc.oneof(
          fc.record({ ca: fileName }),
          fc.record({ ca: fileName, certificate: fileName, key: fileName }),
        ),
        leaseSeconds: fc.integer({ min: 3, max: 300 }),
        deadlineSeconds: small,
      },
      { requiredKeys: ['endpoints', 'prefix', 'leaseSeconds', 'deadlineSeconds'] },
    ),
  }),
);
const config = fc.integer({ min: 1, max: 2 ** 31 - 1 }).chain((runSteps) =>
  fc.record({
    name: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/),
    seed: steps,
    model: fc.oneof(fc.constantFrom('lenet-5', '3', 'true'), fileName),
    data: fc.record({
      source,
      batchSize: fc.integer({ min: 64, max: 1e6 }),
      order: fc.constantFrom('shuffled', 'sequential'),
    }),
    cluster: fc
      .tuple(small, small, small, fc.constantFrom('wasm', 'cpu', 'tensorflow'))
      .map(([servers, workers, slices, backend]) => ({
        servers,
        workers: { min: workers, max: workers },
        backend,
        replication: 0,
        orphanAfterSeconds: 120,
        slices,
      })),
    consistency: fc.constant({ mode: 'bsp', staleness: 0, backupWorkers: 0 }),
    training: fc.record({
      steps: fc.constant(runSteps),
      optimizer,
      learningRateSchedule,
      decay: fc.record({ weightDecay: unit, l2: unit, l1: unit, match: fc.constantFrom('*', '*/kernel') }),
      clipNorm: fc.option(positive),
      evaluateEvery: steps,
    }),
    sparsity: fc.array(rule(runSteps), { maxLength: 3 }),
    kernels: fc.record({ sparseBelow: unit }),
    wire: fc.record({ push: fc.constantFrom('float32', 'int8'), pull: fc.constantFrom('float32', 'bfloat16') }),
    checkpoint: fc.record({ every: small, keep: small }),
    coordination,
    security: fc.record({ certificates: fc.constantFrom(null, '/c/certs'), insecure: fc.boolean() }),
  }),
) as unknown as fc.Arbitrary<RunConfig>;

/** Without the null prototypes that generated records have. */
const plain = (value: RunConfig): RunConfig => JSON.parse(JSON.stringify(value)) as RunConfig;

describe('effective run file', () => {
  it('loads again to the same config, from YAML through loadRunFile and from JSON', () => {
    fc.assert(
      fc.property(config, (generated) => {
        const wanted = plain(generated);
        const yaml = runConfigToYaml(wanted);
        // Facts that would change everything that is still open.
        const facts = { trainExamples: 17, testExamples: 0, backend: 'tensorflow-gpu' as const };
        assert.deepEqual(resolveRunConfig(parseRunFile(yaml, '/elsewhere/run.yaml'), facts), wanted);
        assert.deepEqual(parseRunConfig(yaml), wanted);
        assert.deepEqual(parseRunConfig(JSON.stringify(wanted)), wanted);
      }),
      { numRuns: 60 },
    );
  });

  it('refuses a file in which something is still open', () => {
    assertSays(
      runFileErrorOf(() => parseRunConfig(VALID)),
      ['not an effective run file', 'cluster.backend: auto', 'training.evaluateEvery'],
    );
    const percent = VALID.replace('endStep: 700', 'endStep: 70%');
    assertSays(
      runFileErrorOf(() => parseRunConfig(percent)),
      ['sparsity.0.schedule.endStep: 70%'],
    );
  });

  it('refuses a damaged file', () => {
    const good = runConfigToYaml(
      resolveRunConfig(parseRunFile(VALID, 'run.yaml'), { trainExamples: 1, testExamples: 1, backend: 'wasm' }),
    );
    assertSays(
      runFileErrorOf(() => parseRunConfig(good.replace('steps: 1000', 'steps: x'), 'runs/a/run.yaml')),
      ['runs/a/run.yaml:', 'training.steps must be a whole number'],
    );
    assertSays(
      runFileErrorOf(() => parseRunConfig('{ "name": ')),
      ['effective run file'],
    );
  });
});
