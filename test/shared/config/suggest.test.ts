import assert from 'node:assert/strict';
import { nearest } from '../../../shared/config/suggest.ts';

describe('nearest', () => {
  const KEYS = ['name', 'seed', 'model', 'data', 'cluster', 'training', 'sparsity', 'checkpoint'];

  it('finds what a slip of the fingers meant', () => {
    for (const [word, meant] of [
      ['sead', 'seed'],
      ['modle', 'model'],
      ['dtaa', 'data'],
      ['trainig', 'training'],
      ['checkponit', 'checkpoint'],
    ] as const)
      assert.equal(nearest(word, KEYS), meant, word);
  });

  it('makes no far-fetched guess', () => {
    for (const word of ['foo', 'xyz', 'nodes', 'lenet', 'rating', 'verbosity', 'checksummed'])
      assert.equal(nearest(word, KEYS), undefined, word);
  });
});
