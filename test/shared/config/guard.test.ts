import assert from 'node:assert/strict';
import { parseRunConfig, runConfigToYaml } from '../../../shared/config/effective.ts';
import { guardSchema } from '../../../shared/config/guard.ts';
import { resolveRunConfig } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { assertSays, runFileErrorOf } from './helpers.ts';

const FACTS = { trainExamples: 5000, testExamples: 100, backend: 'wasm' as const };
const BASE = `model: ./model.ts
data: { source: mnist, batchSize: 100 }
training: { steps: 1000, evaluateEvery: 100 }
`;
const RULE = 'sparsity: [{ schedule: { kind: polynomial, finalSparsity: 0.9 } }]\n';
const resolved = (text: string, facts = FACTS): RunConfig => resolveRunConfig(parseRunFile(text, 'run.yaml'), facts);

describe('guard in the run file', () => {
  it('is off where absent, and has a default for every key', () => {
    assert.equal(guardSchema.parse(undefined), undefined);
    assert.deepEqual(guardSchema.parse({}), { metric: 'accuracy', band: 0.02, action: 'hold', patience: 1 });
    assert.ok(!('guard' in resolved(BASE + RULE)));
    const config = resolved(`${BASE}${RULE}guard: { action: restore }\n`);
    assert.deepEqual(config.guard, { metric: 'accuracy', band: 0.02, action: 'restore', patience: 1 });
    assert.deepEqual(parseRunConfig(runConfigToYaml(config)), config, 'read back without any facts');
  });

  for (const [value, says] of [
    [{ metric: 'f1' }, /must be one of accuracy, loss/],
    [{ band: 0 }, /must be a number > 0/],
    [{ action: 'stop' }, /must be one of hold, restore/],
    [{ patience: 0 }, /must be a whole number from 1 to 1000/],
    [{ bands: 1 }, /metric band action patience/],
  ] as const) {
    it(`refuses ${JSON.stringify(value)}`, () => {
      assert.match(guardSchema.safeParse(value).error?.issues[0]?.message ?? '', says);
    });
  }

  for (const [what, text, says, cure] of [
    ['nothing to guard', BASE, 'guard has nothing to hold', 'add a rule to sparsity'],
    [
      'no evaluations',
      BASE.replace('evaluateEvery: 100', 'evaluateEvery: 0') + RULE,
      'training.evaluateEvery is 0',
      'set it',
    ],
    [
      'steps that overlap',
      `${BASE}${RULE}consistency: { mode: ssp, staleness: 2 }\n`,
      'consistency.mode is ssp',
      'use mode: bsp',
    ],
    [
      'rewinding',
      `${BASE}${RULE}rewind: [{ at: 500, to: 100 }]\n`,
      'guard.action restore and rewind',
      'use action: hold',
    ],
    [
      'snip',
      `${BASE}sparsity: [{ criterion: snip, schedule: { kind: oneShot, finalSparsity: 0.9, at: 0 } }]\n`,
      'before snip prunes',
      'use action: hold',
    ],
  ] as const) {
    it(`is refused with ${what}`, () => {
      const error = runFileErrorOf(() => parseRunFile(`${text}guard: { action: restore }\n`, 'run.yaml'));
      assertSays(error, [says, cure]);
    });
  }

  it('is refused where the data has no test part', () => {
    const error = runFileErrorOf(() => resolved(`${BASE}${RULE}guard: {}\n`, { ...FACTS, testExamples: 0 }));
    assertSays(error, ['the data has no test part', 'remove guard']);
  });
});
