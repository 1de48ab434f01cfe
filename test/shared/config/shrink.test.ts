import assert from 'node:assert/strict';
import { checkShrink, resolveShrink } from '../../../shared/config/resolve-shrink.ts';
import type { RunFileDocument } from '../../../shared/config/schema.ts';
import { shrinkSchema } from '../../../shared/config/shrink.ts';

/** 200 steps, of which 100 are an epoch of 800 examples. */
const document = { training: { epochs: 2 }, data: { batchSize: 8 } } as unknown as RunFileDocument;
const facts = { trainExamples: 800 };

describe('the key shrink', () => {
  for (const [atStep, step] of [
    [150, 150],
    ['75%', 150],
    ['1 epochs', 100],
  ] as const) {
    it(`atStep ${atStep}`, () => {
      const shrink = shrinkSchema.parse({ atStep });
      assert.deepEqual(checkShrink(shrink, document, facts), []);
      assert.deepEqual(resolveShrink(shrink, document, 800), { atStep: step });
    });
  }

  it('absent: off', () => {
    assert.equal(resolveShrink(shrinkSchema.parse(undefined), document, 800), undefined);
    assert.deepEqual(checkShrink(undefined, document, facts), []);
  });

  for (const [atStep, message] of [
    [0, /atStep 0 is before the first step.*>= 1/],
    ['0%', /atStep 0 \(0%\) is before the first step/],
    [200, /atStep 200 is not within the run, which has 200 steps; lower it.*export --shrink/],
    ['3 epochs', /atStep 300 \(3 epochs\) is not within the run/],
  ] as const) {
    it(`refuses ${atStep}`, () => {
      const [problem, ...others] = checkShrink(shrinkSchema.parse({ atStep }), document, facts);
      assert.deepEqual([problem!.path, others], [['shrink', 'atStep'], []]);
      assert.match(problem!.message, message);
    });
  }

  it('says nothing of what depends on data not known yet', () => {
    assert.deepEqual(checkShrink(shrinkSchema.parse({ atStep: '3 epochs' }), document, {}), []);
  });
});
