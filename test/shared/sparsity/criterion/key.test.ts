import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isFiniteKey, keyOf } from '../../../../shared/sparsity/criterion/key.ts';

describe('sort keys', () => {
  it('are ordered like the scores', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), fc.float({ noNaN: true }), (a, b) => {
        assert.equal(Math.sign(keyOf(a) - keyOf(b)), a < b ? -1 : a > b ? 1 : 0);
      }),
    );
  });

  it('take -0 for +0 and tell denormals from it', () => {
    assert.equal(keyOf(-0), keyOf(0));
    assert.ok(keyOf(1.4e-45) > keyOf(0));
    assert.ok(keyOf(-1.4e-45) < keyOf(0));
  });

  it('tell finite scores from all others', () => {
    const largest = 3.4028234663852886e38;
    for (const score of [0, 1, -1, largest, -largest, 1e-45]) assert.ok(isFiniteKey(keyOf(score)), `${score}`);
    for (const score of [NaN, Infinity, -Infinity]) assert.ok(!isFiniteKey(keyOf(score)), `${score}`);
    const negativeNaN = new Float32Array(Uint32Array.of(0xffc00000).buffer)[0] as number;
    assert.ok(!isFiniteKey(keyOf(negativeNaN)));
  });
});
