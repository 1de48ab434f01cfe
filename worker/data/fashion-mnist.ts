/** Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): MNIST's format, downloaded by the user once. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Dataset } from './dataset.ts';
import { loadIdx } from './idx.ts';

const ADDRESS = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com';

/** `$WHITTLE_DATA/fashion-mnist`; WHITTLE_DATA defaults to ~/.cache/whittle. */
export function fashionMnistFolder(): string {
  return join(process.env['WHITTLE_DATA'] ?? join(homedir(), '.cache', 'whittle'), 'fashion-mnist');
}

export function loadFashionMnist(): Dataset {
  const folder = fashionMnistFolder();
  return loadIdx(
    folder,
    'fashion-mnist',
    `download {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz from ${ADDRESS} into ${folder} on every machine ` +
      'that runs a worker (WHITTLE_DATA names another parent folder)',
  );
}
