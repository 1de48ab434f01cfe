import assert from 'node:assert/strict';
import { parseRunFile, type RunFile } from '../../../shared/config/run-file.ts';
import { assertSays, runFileErrorOf, VALID } from './helpers.ts';

/** The schedule of VALID, its defaults filled in. */
const POLYNOMIAL = {
  kind: 'polynomial',
  initialSparsity: 0,
  finalSparsity: 0.95,
  beginStep: 100,
  endStep: 700,
  frequency: 100,
  power: 3,
};
const load = (...set: string[]): RunFile => parseRunFile(VALID, 'run.yaml', { set });

describe('--set', () => {
  it('overrides keys, list items by index, whole mappings, and keys that the file does not have', () => {
    const { document } = load(
      'sparsity.0.schedule.finalSparsity=0.9',
      'seed=7',
      'cluster={ servers: 3, workers: 4 }',
      'wire.push=int8',
      'training.clipNorm=null',
    );
    assert.deepEqual(document.sparsity[0]?.schedule, { ...POLYNOMIAL, finalSparsity: 0.9 });
    assert.equal(document.seed, 7);
    assert.equal(document.cluster.servers, 3);
    assert.equal(document.cluster.workers, 4);
    assert.deepEqual(document.wire, { push: 'int8', pull: 'float32' });
    assert.equal(document.training.clipNorm, null);
  });

  it('reads the value as YAML, with later ones winning, and equals signs allowed', () => {
    const [rule] = load('sparsity.0.schedule.beginStep=20%').document.sparsity;
    assert.deepEqual(rule?.schedule, { ...POLYNOMIAL, beginStep: '20%' });
    assert.equal(load('seed=1', 'seed=2').document.seed, 2);
    assert.equal(load('sparsity.0.match="a=b"').document.sparsity[0]?.match, 'a=b');
    assert.deepEqual(load('sparsity=[]').document.sparsity, []);
  });

  it('appends a rule one past the end', () => {
    const { document } = load('sparsity.1={ schedule: { kind: constant, finalSparsity: 0.5 } }');
    assert.equal(document.sparsity.length, 2);
    assert.equal(document.sparsity[1]?.schedule.kind, 'constant');
  });

  it('lets epochs replace the steps of the file, and the other way round', () => {
    const { training } = load('training.epochs=3').document;
    assert.equal(training.steps, undefined);
    assert.equal(training.epochs, 3);
    assertSays(
      runFileErrorOf(() => load('training.epochs=3', 'training.steps=9')),
      ['both steps (9) and epochs (3)'],
    );
  });

  const bad: readonly (readonly [set: string, ...says: string[]])[] = [
    ['sparsty.0.schedule.power=1', '--set sparsty.0.schedule.power=1: unknown key "sparsty"; did you mean sparsity?'],
    [
      'sparsity.0.schedule.finalSparsty=0.9',
      '--set sparsity.0.schedule.finalSparsty=0.9: unknown key "finalSparsty"',
      'did you mean finalSparsity?',
    ],
    [
      'sparsity.0.schedule.finalSparsity=95',
      '--set sparsity.0.schedule.finalSparsity=95:',
      'must be a number >= 0 and < 1, is 95',
    ],
    [
      'sparsity.0.schedule.endStep=2000',
      '--set sparsity.0.schedule.endStep=2000:',
      'endStep 2000 is beyond the run, which has 1000 steps',
    ],
    [
      'sparsity.3.match=a',
      '--set sparsity.3.match=a: sparsity is a list and takes an index from 0 to 0, or 1 to append, is "3"',
    ],
    ['sparsity.first.match=a', 'sparsity is a list', 'is "first"'],
    ['sparsity.1.match=a', '--set sparsity.1.match=a: sparsity.1.schedule is missing'],
    ['training.steps=two', '--set training.steps=two: training.steps must be a whole number >= 1, is "two"'],
    ['training.steps=', '--set training.steps=: training.steps must be a whole number >= 1, is empty'],
    ['seed.x=1', '--set seed.x=1: seed must be a whole number >= 0, is {"x":1}'],
    ['model.x=1', '--set model.x=1: model is "lenet-300-100" and has no keys'],
    ['data=[', '--set data=[: the value is not YAML'],
    ['seed', '--set seed: must be path=value, such as training.steps=1000'],
    ['=3', 'must be path=value'],
    ['a..b=3', 'must be path=value'],
    ['__proto__.polluted=1', 'must be path=value'],
    ['wire.push=fp16', '--set wire.push=fp16:', 'did you mean float16?'],
  ];
  for (const [set, ...says] of bad) {
    it(`refuses ${set}`, () => {
      const error = runFileErrorOf(() => load(set));
      assertSays(error, says);
      assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
    });
  }

  it('is not blamed for what stands in the file beside it', () => {
    const text = VALID.replace('learningRate: 0.001', 'learningRate: 0');
    const error = runFileErrorOf(() => parseRunFile(text, 'run.yaml', { set: ['training.clipNorm=1'] }));
    assertSays(error, ['run.yaml:5:42: training.optimizer.learningRate must be']);
  });

  it('leaves the next reader of the same text alone', () => {
    const powerOf = ({ document: { sparsity } }: RunFile): unknown =>
      sparsity.map(({ schedule }) => ('power' in schedule ? schedule.power : null));
    assert.deepEqual(powerOf(load('sparsity.0.schedule.power=1')), [1]);
    assert.deepEqual(powerOf(load()), [3]);
  });
});
