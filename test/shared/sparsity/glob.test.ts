import assert from 'node:assert/strict';
import { matchesGlob } from '../../../shared/sparsity/glob.ts';

describe('glob over parameter names', () => {
  const cases: [pattern: string, name: string, matches: boolean][] = [
    ['*/kernel', 'dense_1/kernel', true],
    ['*/kernel', 'block/dense_1/kernel', true],
    ['**/kernel', 'dense_1/kernel', true],
    ['*/kernel', 'dense_1/bias', false],
    ['*/kernel', 'dense_1/kernel_2', false],
    ['*/kernel', 'kernel', false],
    ['dense_?/*', 'dense_1/bias', true],
    ['dense_?/*', 'dense_12/bias', false],
    ['dense_1/kernel', 'dense_1/kernel', true],
    ['dense_1/kernel', 'dense_11/kernel', false],
    ['*', 'anything/at/all', true],
    ['*', '', true],
    ['', '', true],
    ['', 'a', false],
    ['a.c', 'abc', false],
    ['*_1/*nel', 'conv2d_1/kernel', true],
    ['*a*b', 'aab', true],
    ['*a*b', 'aba', false],
  ];
  for (const [pattern, name, expected] of cases) {
    it(`"${pattern}" ${expected ? 'matches' : 'does not match'} "${name}"`, () => {
      assert.equal(matchesGlob(pattern, name), expected);
    });
  }
});
