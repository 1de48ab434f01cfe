import assert from 'node:assert/strict';
import { decayProblems, decaySchema } from '../../../shared/config/decay.ts';
import { parseRunConfig, runConfigToYaml } from '../../../shared/config/effective.ts';
import { configWarnings, resolveRunConfig, type JobFacts } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

const FACTS: JobFacts = {
  trainExamples: 1000,
  testExamples: 100,
  backend: 'wasm',
  parameterNames: ['dense_1/kernel', 'dense_1/bias'],
  prunableNames: ['dense_1/kernel'],
};

const parsed = (decay: string) => parseRunFile(VALID, 'run.yaml', { set: [`training.decay=${decay}`] });
const resolved = (decay: string) => resolveRunConfig(parsed(decay), FACTS);

describe('training.decay', () => {
  it('keeps kinds that are off and schedules that are not given out of the effective file', () => {
    const off = { weightDecay: 0, l2: 0, l1: 0, match: '*' };
    assert.deepEqual(resolved('{}').training.decay, off);
    assert.deepEqual(resolved('{ groupLasso: 0, latent: 0, schedules: {} }').training.decay, off);
  });

  it('goes through the effective file unchanged', () => {
    const config = resolved(
      '{ groupLasso: 0.01, l1: 0.1, schedules: { l1: { kind: cosine }, groupLasso: { kind: constant, warmupSteps: 9 } } }',
    );
    assert.deepEqual(config.training.decay, {
      weightDecay: 0,
      l2: 0,
      l1: 0.1,
      match: '*',
      groupLasso: 0.01,
      schedules: {
        l1: { kind: 'cosine', finalFactor: 0, warmupSteps: 0 },
        groupLasso: { kind: 'constant', warmupSteps: 9 },
      },
    });
    assert.deepEqual(parseRunConfig(runConfigToYaml(config)), config);
  });

  it('refuses what does not fit, at its place', () => {
    assertSays(
      runFileErrorOf(() => parsed('{ schedules: { l3: { kind: cosine } } }')),
      ['unknown key "l3" in training.decay.schedules'],
    );
    assertSays(
      runFileErrorOf(() => parsed('{ schedules: { l1: { kind: polynomial } } }')),
      ['training.decay.schedules.l1', 'constant, step, cosine, linear'],
    );
    const set = ['training.decay={ groupLasso: 0.1 }', 'consistency.mode=asp'];
    assertSays(
      runFileErrorOf(() => parseRunFile(VALID, 'run.yaml', { set })),
      ['training.decay.groupLasso 0.1', 'mode asp does not wait for', 'use mode: bsp'],
    );
  });

  it('refuses decay of latent weights where no rule has any', () => {
    const decay = decaySchema.parse({ latent: 0.0002 });
    const [problem] = decayProblems(decay, { mode: 'bsp', straightThrough: false });
    assert.match(problem?.message ?? '', /decay.latent 0.0002 .* no sparsity rule trains straight through/);
    assert.deepEqual(decayProblems(decay, { mode: 'bsp', straightThrough: true }), []);
  });

  const ignored: readonly (readonly [decay: string, says: RegExp])[] = [
    ['{ match: "*/kernel" }', /decay.match "\*\/kernel" is ignored: all coefficients/],
    ['{ schedules: { l2: { kind: cosine } } }', /schedules.l2 is ignored: training.decay.l2 is 0/],
    ['{ groupLasso: 0.1, match: "*/bias" }', /groupLasso 0.1 is ignored.*"\*\/bias" matches no kernel/],
  ];
  for (const [decay, says] of ignored) {
    it(`warns of ${decay}`, () => {
      const runFile = parsed(decay);
      const warnings = configWarnings(runFile, resolveRunConfig(runFile, FACTS), FACTS);
      assert.equal(warnings.length, 1, warnings.join('\n'));
      assert.match(warnings[0] ?? '', says);
    });
  }
  it('does not warn of a match that group lasso has', () => {
    const runFile = parsed('{ groupLasso: 0.1, match: "*/kernel" }');
    assert.deepEqual(configWarnings(runFile, resolveRunConfig(runFile, FACTS), FACTS), []);
  });
});
