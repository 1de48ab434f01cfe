import assert from 'node:assert/strict';
import { dropCount, dropFraction } from '../../../shared/sparsity/regrowth.ts';

const RIGL = { kind: 'rigl', fraction: 0.3, initial: 'random' } as const;

describe('regrowth', () => {
  it('exchanges less and less, by half a cosine, and nothing from endStep on', () => {
    const span = { beginStep: 100, endStep: 1100 };
    const fractions = [100, 350, 600, 850, 1099, 1100, 5000].map((step) => dropFraction(RIGL, span, step).toFixed(4));
    assert.deepEqual(fractions, ['0.3000', '0.2561', '0.1500', '0.0439', '0.0000', '0.0000', '0.0000']);
    assert.ok(dropFraction(RIGL, span, 1099) > 0);
    assert.equal(dropFraction(RIGL, span, 1100), 0);
  });

  it('of one update exchanges nothing', () => assert.equal(dropFraction(RIGL, { beginStep: 5, endStep: 5 }, 5), 0));

  it('rounds down', () => {
    assert.equal(dropCount(0.3, 9), 2);
    assert.equal(dropCount(0.3, 3), 0);
    assert.equal(dropCount(0, 100), 0);
  });
});
