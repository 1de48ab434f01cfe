import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it } from 'mocha';
import { parseRunConfig, runConfigToYaml } from '../../../shared/config/effective.ts';
import { resolveRunConfig } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

const FACTS = {
  trainExamples: 6000,
  testExamples: 100,
  backend: 'wasm',
  parameterNames: ['dense_1/kernel', 'dense_1/bias'],
  prunableNames: ['dense_1/kernel'],
} as const;

function configOf(more: string, facts: Parameters<typeof resolveRunConfig>[1] = FACTS): RunConfig {
  return resolveRunConfig(parseRunFile(VALID + more, '/some/where/run.yaml'), facts);
}

describe('initialize, distillation, clustering and recalibrate', () => {
  it('are absent where they are not asked for', () => {
    const config = configOf('');
    for (const key of ['initialize', 'distillation', 'clustering', 'recalibrate']) assert.ok(!(key in config), key);
  });

  it('have defaults, and steps in place of shares and epochs', () => {
    const config = configOf(
      'distillation: { teacher: dense-run }\nclustering: { beginStep: 60% }\nrecalibrate: {}\ninitialize: { from: ./old }\n',
    );
    assert.deepEqual(config.distillation, { teacher: 'dense-run', temperature: 4, weight: 0.5 });
    assert.deepEqual(config.clustering, { clusters: 16, match: null, beginStep: 600, initialization: 'linear' });
    assert.deepEqual(config.recalibrate, { batches: 50 });
    // From the folder of the run file; a bare name that is no file there is a run's id.
    assert.deepEqual(config.initialize, { from: '/some/where/old' });
    // 3 epochs of 60 steps.
    assert.equal(configOf('clustering: { beginStep: 3 epochs }\n').clustering?.beginStep, 180);
    assert.deepEqual(parseRunConfig(runConfigToYaml(config), '/other/run.yaml'), config);
  });

  it('take a bare name for a path where there is such a file', () => {
    const file = parseRunFile(`${VALID}initialize: { from: shared }\n`, resolve('run.yaml'));
    assert.deepEqual(file.initialize, { from: resolve('shared') });
  });

  for (const [what, text, says] of [
    ['a weight over 1', 'distillation: { teacher: x, weight: 1.5 }', ['distillation.weight must be', ':9:']],
    [
      'a temperature of 0',
      'distillation: { teacher: x, temperature: 0 }',
      ['distillation.temperature must be a number > 0'],
    ],
    ['no teacher', 'distillation: { weight: 0.5 }', ['distillation.teacher is missing; it must be the id of a run']],
    ['an unknown key', 'initialize: { form: x }', ['unknown key "form" in initialize', 'did you mean from?']],
    [
      'one cluster',
      'clustering: { clusters: 1 }',
      ['clustering.clusters must be a whole number from 2 to 65536, is 1'],
    ],
    ['another initialization', 'clustering: { initialization: random }', ['must be one of linear, density']],
    [
      'clustering after the end',
      'clustering: { beginStep: 2000 }',
      ['clustering.beginStep 2000 is beyond the run', ':9:'],
    ],
    [
      'no batches',
      'recalibrate: { batches: 0 }',
      ['recalibrate.batches must be a whole number from 1 to 100000, is 0'],
    ],
  ] as const) {
    it(`are refused with their place: ${what}`, () =>
      assertSays(
        runFileErrorOf(() => configOf(`${text}\n`)),
        says,
      ));
  }

  it('find a glob that matches nothing, and a model without kernels', () => {
    assertSays(
      runFileErrorOf(() => configOf('clustering: { match: "fc*" }\n')),
      ['clustering.match "fc*" matches no parameter'],
    );
    const facts = { ...FACTS, prunableNames: [] };
    const problem = runFileErrorOf(() => configOf('clustering: {}\n', facts));
    assertSays(problem, ['clustering has no match and the model has no kernels']);
  });
});
