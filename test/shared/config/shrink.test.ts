import assert from 'node:assert/strict';
import { checkShrink, resolveShrink } from '../../../shared/config/resolve-shrink.ts';
import { type RunFileDocument, runFileSchema } from '../../../shared/config/schema.ts';

/** 200 steps, of which 100 are an epoch of 800 examples. */
function documentOf(changes: Record<string, unknown>): RunFileDocument {
  return runFileSchema.parse({
    model: 'lenet-5',
    data: { source: 'mnist', batchSize: 8 },
    training: { epochs: 2 },
    sparsity: [rule({ filter: { norm: 2 } }, 120)],
    ...changes,
  });
}

function rule(granularity: unknown, endStep: number): unknown {
  return { schedule: { kind: 'polynomial', finalSparsity: 0.5, beginStep: 10, endStep, frequency: 10 }, granularity };
}

const facts = { trainExamples: 800 };

describe('the key shrink', () => {
  for (const [atStep, step] of [
    [150, 150],
    [120, 120],
    ['75%', 150],
    ['1.5 epochs', 150],
  ] as const) {
    it(`atStep ${atStep}`, () => {
      const document = documentOf({ shrink: { atStep } });
      assert.deepEqual(checkShrink(document, facts), []);
      assert.deepEqual(resolveShrink(document, 800), { shrink: { atStep: step } });
    });
  }

  it('absent: off', () => {
    assert.deepEqual(resolveShrink(documentOf({}), 800), {});
    assert.deepEqual(checkShrink(documentOf({ sparsity: [] }), facts), []);
  });

  for (const [atStep, message] of [
    [0, /atStep 0 is before the first step.*>= 1/],
    ['0%', /atStep 0 \(0%\) is before the first step/],
    [200, /atStep 200 is not within the run, which has 200 steps; lower it.*export --shrink/],
    ['3 epochs', /atStep 300 \(3 epochs\) is not within the run/],
    [119, /atStep 119 is before step 120, the last update of sparsity.0, whose filter granularity.*shrink at 120/],
  ] as const) {
    it(`refuses ${atStep}`, () => {
      const [problem, ...others] = checkShrink(documentOf({ shrink: { atStep } }), facts);
      assert.deepEqual([problem!.path, others], [['shrink', 'atStep'], []]);
      assert.match(problem!.message, message);
    });
  }

  it('is refused without a rule that kills units', () => {
    const document = documentOf({ shrink: { atStep: 150 }, sparsity: [rule('element', 120)] });
    const [problem] = checkShrink(document, facts);
    assert.match(problem!.message, /no rule kills neurons or filters.*\{filter: \{norm: 2\}\}/);
  });

  it('lets rules of single elements go on after it, and no others', () => {
    const after = (granularity: unknown): number =>
      checkShrink(
        documentOf({
          shrink: { atStep: 150 },
          sparsity: [rule({ filter: { norm: 2 } }, 120), rule(granularity, 180)],
        }),
        facts,
      ).length;
    assert.equal(after('element'), 0);
    assert.equal(after({ nm: [2, 4] }), 1);
    assert.equal(after({ block: [2, 2] }), 1);
  });

  it('refuses a rewind across it', () => {
    const found = (at: number, to: number): string[] =>
      checkShrink(documentOf({ shrink: { atStep: 150 }, rewind: [{ at, to }] }), facts).map(({ message }) => message);
    assert.deepEqual(found(150, 20), []);
    assert.deepEqual(found(190, 150), []);
    assert.match(found(151, 149)[0]!, /rewind.0 goes back from step 151 to 149, across shrink.atStep 150/);
  });

  it('says nothing of what depends on data not known yet', () => {
    assert.deepEqual(checkShrink(documentOf({ shrink: { atStep: '3 epochs' } }), {}), []);
  });
});
