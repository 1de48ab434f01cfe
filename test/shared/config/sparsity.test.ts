import assert from 'node:assert/strict';
import { parseRunConfig, runConfigToYaml } from '../../../shared/config/effective.ts';
import { resolveRunConfig, type JobFacts } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import type { SparsityRule } from '../../../shared/config/types.ts';
import type { ParameterSpec } from '../../../shared/layout/model-description.ts';
import { assertSays, runFileErrorOf } from './helpers.ts';

const parameter = (name: string, shape: number[], layerKind: string): ParameterSpec => ({
  name,
  shape,
  layerKind,
  prunable: name.endsWith('kernel'),
});
const PARAMETERS = [
  parameter('conv_1/kernel', [5, 5, 1, 20], 'Conv2D'),
  parameter('conv_2/kernel', [5, 5, 20, 50], 'Conv2D'),
  parameter('dense_1/kernel', [800, 500], 'Dense'),
  parameter('dense_1/bias', [500], 'Dense'),
  parameter('dense_2/kernel', [500, 10], 'Dense'),
];

function factsOf(parameters: readonly ParameterSpec[]): JobFacts {
  return {
    trainExamples: 60_000,
    testExamples: 10_000,
    backend: 'wasm',
    parameters,
    parameterNames: parameters.map(({ name }) => name),
    prunableNames: parameters.filter(({ prunable }) => prunable).map(({ name }) => name),
  };
}

/** A run of 1000 steps of 100 examples with these rules, each YAML of a flow mapping. */
const file = (rules: readonly string[]): string =>
  [
    'model: lenet-5',
    'data: { source: mnist, batchSize: 100 }',
    'training: { steps: 1000, optimizer: { kind: adam } }',
    'sparsity:',
    ...rules.map((rule) => `  - ${rule}`),
  ].join('\n');

function rulesOf(rules: readonly string[], set: readonly string[] = [], facts = factsOf(PARAMETERS)): SparsityRule[] {
  const config = resolveRunConfig(parseRunFile(file(rules), 'run.yaml', { set }), facts);
  // What roles read is the effective file: it must say the same.
  assert.deepEqual(parseRunConfig(runConfigToYaml(config)), config);
  return [...config.sparsity];
}

const HALF = 'schedule: {kind: constant, finalSparsity: 0.5}';

describe('sparsity rules of a run file', () => {
  const schedules: readonly [written: string, effective: object][] = [
    [
      '{kind: linear, finalSparsity: 0.9}',
      { kind: 'linear', initialSparsity: 0, finalSparsity: 0.9, beginStep: 300, endStep: 750, frequency: 100 },
    ],
    [
      '{kind: exponential, initialSparsity: 0.1, finalSparsity: 0.9, beginStep: 1 epochs, endStep: 100%, frequency: 7}',
      { kind: 'exponential', initialSparsity: 0.1, finalSparsity: 0.9, beginStep: 600, endStep: 1000, frequency: 7 },
    ],
    [
      '{kind: cosine, finalSparsity: 0.9, beginStep: 0, endStep: 10}',
      { kind: 'cosine', initialSparsity: 0, finalSparsity: 0.9, beginStep: 0, endStep: 10, frequency: 100 },
    ],
    [
      '{kind: oneShot, finalSparsity: 0.9, at: 20%}',
      { kind: 'oneShot', finalSparsity: 0.9, beginStep: 200, endStep: 200, frequency: 1 },
    ],
    [
      '{kind: steps, steps: [{at: 5, sparsity: 0}, {at: 10%, sparsity: 0.5}, {at: 1 epochs, sparsity: 0.8}]}',
      {
        kind: 'steps',
        finalSparsity: 0.8,
        beginStep: 5,
        endStep: 600,
        frequency: 1,
        steps: [
          { step: 5, sparsity: 0 },
          { step: 100, sparsity: 0.5 },
          { step: 600, sparsity: 0.8 },
        ],
      },
    ],
    [
      '{kind: cyclic, finalSparsity: 0.9, beginStep: 100, endStep: 80%, sparseSteps: 10%, denseSteps: 0.1 epochs}',
      {
        kind: 'cyclic',
        finalSparsity: 0.9,
        beginStep: 100,
        endStep: 800,
        frequency: 1,
        sparseSteps: 100,
        denseSteps: 60,
      },
    ],
  ];
  for (const [written, effective] of schedules) {
    it(`schedule ${written}`, () => {
      assert.deepEqual(rulesOf([`{schedule: ${written}}`])[0]?.schedule, effective);
    });
  }

  const granularities: readonly [written: string, effective: unknown][] = [
    ['{block: [4, 1]}', { block: [4, 1], norm: 2 }],
    ['{block: [2, 2], norm: mean}', { block: [2, 2], norm: 'mean' }],
    ['{nm: [2, 4]}', { nm: [2, 4] }],
    ['{neuron: {}}', { neuron: { norm: 2 } }],
    ['{neuron: {norm: 1}}', { neuron: { norm: 1 } }],
  ];
  for (const [written, effective] of granularities) {
    it(`granularity ${written}`, () => {
      const [rule] = rulesOf([`{match: dense_1/kernel, granularity: ${written}, ${HALF}}`]);
      assert.deepEqual(rule?.granularity, effective);
    });
  }

  it('overrides, regrowth, straightThrough; the last two and overrides are absent where they say nothing', () => {
    const overrides = 'overrides: [{match: conv_1/kernel, finalSparsity: 0}]';
    const [full] = rulesOf([`{${overrides}, regrowth: {kind: rigl}, scope: erk, ${HALF}}`]);
    assert.deepEqual(full?.overrides, [{ match: 'conv_1/kernel', finalSparsity: 0 }]);
    assert.deepEqual(full.regrowth, { kind: 'rigl', fraction: 0.3, initial: 'random' });
    assert.equal(rulesOf([`{straightThrough: true, ${HALF}}`])[0]?.straightThrough, true);
    const [empty = {}] = rulesOf([`{overrides: [], straightThrough: false, ${HALF}}`]);
    assert.deepEqual(Object.keys(empty).sort(), Object.keys(rulesOf([`{${HALF}}`])[0] ?? {}).sort());
  });

  it('a neuron or filter rule without match takes what it can; a fisher rule an optimizer with squares', () => {
    assert.equal(rulesOf([`{granularity: {filter: {norm: 2}}, ${HALF}}`]).length, 1);
    for (const kind of ['adam', 'adamw', 'rmsprop', 'adagrad']) {
      assert.equal(rulesOf([`{criterion: fisher, ${HALF}}`], [`training.optimizer={ kind: ${kind} }`]).length, 1);
    }
  });

  it('schedules may fall where something comes back', () => {
    const falls = 'schedule: {kind: steps, steps: [{at: 1, sparsity: 0.8}, {at: 2, sparsity: 0.5}]}';
    assert.equal(rulesOf([`{${falls}, regrowth: {kind: set}}`]).length, 1);
    assert.equal(rulesOf([`{${falls}, straightThrough: true}`]).length, 1);
  });

  const steps = (list: string): string => `{schedule: {kind: steps, steps: [${list}]}}`;
  const cyclic = (inner: string): string => `{schedule: {kind: cyclic, finalSparsity: 0.5, ${inner}}}`;
  const bad: readonly [name: string, rules: readonly string[], says: readonly string[], set?: readonly string[]][] = [
    ['a misspelt kind', ['{schedule: {kind: liner}}'], ['is "liner"', 'did you mean linear?']],
    ['a misspelt granularity', [`{granularity: {blok: [4, 1]}, ${HALF}}`], ['write {block: [4, 1]}']],
    ['a bare word for units', [`{granularity: neuron, ${HALF}}`], ['is "neuron"; write {neuron: {norm: 2}}']],
    ['a block of one number', [`{granularity: {block: [4]}, ${HALF}}`], ['granularity.block must be [rows, columns]']],
    ['all of m', [`{granularity: {nm: [4, 4]}, ${HALF}}`], ['granularity.nm must be [n, m]', '1 <= n < m']],
    ['a norm', [`{granularity: {block: [4, 1], norm: 3}, ${HALF}}`], ['must be 1, 2 or mean, is 3']],
    ['a bare word for regrowth', [`{regrowth: rigl, ${HALF}}`], ['is "rigl"; write {kind: rigl}']],
    ['a misspelt regrowth', [`{regrowth: {kind: riggl}, ${HALF}}`], ['is "riggl"', 'did you mean rigl?']],
    ['a fraction of all', [`{regrowth: {kind: set, fraction: 1}, ${HALF}}`], ['regrowth.fraction', '< 1, is 1']],
    ['no steps', [steps('')], ['schedule.steps must have at least one update']],
    [
      'steps out of order',
      [steps('{at: 400, sparsity: 0.2}, {at: 30%, sparsity: 0.5}')],
      ['run.yaml:5:', 'steps.1.at 300 (30%) must be after steps.0.at 400'],
    ],
    [
      'steps that fall',
      [steps('{at: 3, sparsity: 0.5}, {at: 5, sparsity: 0.4}')],
      ['from sparsity 0.5 to sparsity 0.4', 'regrowth: none'],
    ],
    [
      'one shot beyond the run',
      ['{schedule: {kind: oneShot, finalSparsity: 0.5, at: 1001}}'],
      ['at 1001 is beyond the run, which has 1000 steps; lower at'],
    ],
    [
      'a step beyond the run',
      [steps('{at: 3, sparsity: 0.5}, {at: 2 epochs, sparsity: 0.6}')],
      ['steps.1.at 1200 (2 epochs) is beyond the run'],
    ],
    ['a phase of no length', [cyclic('sparseSteps: 5, denseSteps: 0')], ['denseSteps 0 must be >= 1']],
    [
      'no room for a dense phase',
      [cyclic('beginStep: 0, endStep: 50, sparseSteps: 5%, denseSteps: 5')],
      ['sparseSteps 50 (5%) leaves no dense phase', 'kind: constant'],
    ],
    [
      'fisher under sgd',
      [`{criterion: fisher, ${HALF}}`],
      ['sparsity.0.criterion fisher needs the second moment', 'sgd', 'use adam'],
      ['training.optimizer={ kind: sgd }'],
    ],
    [
      'activations of single elements',
      [`{criterion: activation, ${HALF}}`],
      ['sparsity.0.criterion activation is about neurons and filters', 'granularity: {neuron: {norm: 2}}'],
    ],
    [
      'signed scores under a norm',
      [`{match: dense_1/kernel, criterion: movement, granularity: {block: [4, 1]}, ${HALF}}`],
      ['movement has scores below 0, whose sign norm 2 takes away; write norm: mean'],
    ],
    [
      'snip where steps overlap',
      ['{criterion: snip, schedule: {kind: oneShot, finalSparsity: 0.5, at: 0}}'],
      ['sparsity.0.criterion snip ranks the gradients of one batch', 'consistency.mode is asp', 'use mode: bsp'],
      ['consistency.mode=asp'],
    ],
    ['snip later on', [`{criterion: snip, ${HALF}}`], ['updates at steps 300 to 750', 'kind: oneShot', 'at: 0']],
    [
      'snip with regrowth',
      [`{criterion: snip, regrowth: {kind: set}, ${HALF}}`],
      ['write initial: snip in regrowth and criterion: magnitude'],
    ],
    [
      'regrowth that begins with snip later on',
      [`{regrowth: {kind: set, initial: snip}, ${HALF}}`],
      ['initial snip is for step 0, and beginStep is 300'],
    ],
    [
      'a criterion that is learnt, before any step',
      ['{criterion: saliency, schedule: {kind: oneShot, finalSparsity: 0.5, at: 0}}'],
      ['saliency is learnt from steps, and the first update, at step 0'],
    ],
    [
      'regrowth without lockstep',
      [`{regrowth: {kind: rigl}, ${HALF}}`],
      ['regrowth rigl', 'consistency.mode is asp; use mode: bsp'],
      ['consistency.mode=asp'],
    ],
    [
      'regrowth of blocks',
      [`{match: dense_1/kernel, regrowth: {kind: set}, granularity: {block: [4, 1]}, ${HALF}}`],
      ['set is of single elements; use granularity: element'],
    ],
    [
      'regrowth by lamp',
      [`{regrowth: {kind: set}, criterion: lamp, ${HALF}}`],
      ['criterion is lamp; use criterion: magnitude'],
    ],
    [
      'regrowth after one shot',
      ['{regrowth: {kind: set}, schedule: {kind: oneShot, finalSparsity: 0.5, at: 7}}'],
      ['acts after the first update, and there is only one, at step 7'],
    ],
    [
      'regrowth in a cycle',
      ['{regrowth: {kind: set}, schedule: {kind: cyclic, finalSparsity: 0.5, sparseSteps: 50, denseSteps: 50}}'],
      ['dense phases of a cyclic schedule do already'],
    ],
    [
      'straight-through with regrowth',
      [`{straightThrough: true, regrowth: {kind: set}, ${HALF}}`],
      ['remove one of the two'],
    ],
    [
      'straight-through units',
      [`{match: dense_1/kernel, straightThrough: true, granularity: {neuron: {norm: 2}}, ${HALF}}`],
      ['straightThrough keeps what is dead', 'use granularity: element'],
    ],
    [
      'straight-through after one shot',
      ['{straightThrough: true, schedule: {kind: oneShot, finalSparsity: 0.5, at: 7}}'],
      ['only one update, at step 7'],
    ],
    [
      'units that come back',
      ['{granularity: {neuron: {}}, schedule: {kind: cyclic, finalSparsity: 0.5, sparseSteps: 50, denseSteps: 50}}'],
      ['cyclic brings back what was removed, which neurons and filters cannot'],
    ],
    [
      'more than n:m removes',
      ['{match: dense_1/kernel, granularity: {nm: [3, 4]}, schedule: {kind: linear, finalSparsity: 0.5}}'],
      ['sparsity 0.5 is more than 1 - 3/4 = 0.25', 'lower it to 0.25'],
    ],
    [
      'more than n:m removes, of one parameter',
      [
        `{match: dense_*/kernel, granularity: {nm: [2, 4]}, overrides: [{match: dense_2/kernel, finalSparsity: 0.6}], ${HALF}}`,
      ],
      ['sparsity.0.overrides.0.finalSparsity: sparsity 0.6 is more than'],
    ],
    [
      'n:m by erk',
      [`{match: dense_1/kernel, granularity: {nm: [2, 4]}, scope: erk, ${HALF}}`],
      ['scope erk asks more of large parameters than 2:4 can give'],
    ],
    [
      'overrides of nothing',
      ['{schedule: {kind: constant, finalSparsity: 0}, overrides: [{match: "*", finalSparsity: 0.5}]}'],
      ['ends at sparsity 0; give these parameters a rule of their own'],
    ],
    [
      'overrides that leave the range on the way',
      [
        '{schedule: {kind: steps, steps: [{at: 1, sparsity: 0.8}, {at: 2, sparsity: 0.4}]}, regrowth: {kind: set}, overrides: [{match: "*", finalSparsity: 0.5}]}',
      ],
      ['scales the schedule to sparsity 1 on the way'],
    ],
    [
      'an override that matches nothing',
      [`{overrides: [{match: dens_1/kernel, finalSparsity: 0.5}], ${HALF}}`],
      ['overrides.0.match "dens_1/kernel" matches no parameter; the nearest are dense_1/kernel'],
    ],
    [
      'an override beside its rule',
      [`{match: "conv_*/kernel", overrides: [{match: dense_1/kernel, finalSparsity: 0.5}], ${HALF}}`],
      ['matches no parameter of its rule, which matches conv_1/kernel, conv_2/kernel'],
    ],
    [
      'an axis that does not divide',
      [`{granularity: {nm: [2, 4]}, ${HALF}}`],
      ['the 1 inputs of conv_1/kernel [5, 5, 1, 20] are no multiple of 4', 'leave it out of match'],
    ],
    [
      'neurons of a convolution',
      [`{match: conv_1/kernel, granularity: {neuron: {}}, ${HALF}}`],
      ['conv_1/kernel [5, 5, 1, 20] is of a convolution', 'granularity: {filter: {norm: 2}}'],
    ],
    [
      'two rules where one brings back',
      [`{match: dense_1/kernel, ${HALF}}`, `{regrowth: {kind: set}, ${HALF}}`],
      ['run.yaml:6:', 'sparsity.1 brings elements back (regrowth set) and shares dense_1/kernel with sparsity.0'],
    ],
  ];
  for (const [name, rules, says, set] of bad) {
    it(`refuses: ${name}`, () => {
      const error = runFileErrorOf(() => rulesOf(rules, set));
      assertSays(error, says);
      assert.doesNotMatch(error.message, /Invalid input|expected|zod|undefined|NaN/i);
      const { problems } = error.data as { problems: unknown[] };
      assert.equal(problems.length, 1, `one mistake is told once:\n${error.message}`);
    });
  }

  it('refuses a filter rule where the model has no convolution', () => {
    const dense = factsOf(PARAMETERS.filter(({ layerKind }) => layerKind === 'Dense'));
    const error = runFileErrorOf(() => rulesOf([`{granularity: {filter: {}}, ${HALF}}`], [], dense));
    assertSays(error, ['the model has nothing with filters']);
  });
});
