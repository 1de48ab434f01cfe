/** Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): MNIST's format, downloaded or installed by the user once. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Dataset } from './dataset.ts';
import { loadIdx } from './idx.ts';

const ADDRESS = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com';
/** Of Debian and what comes from it. */
export const DEBIAN_PACKAGE = { name: 'dataset-fashion-mnist', folder: '/usr/share/datasets/fashion-mnist' } as const;

/**
 * `$WHITTLE_DATA/fashion-mnist`, where WHITTLE_DATA defaults to ~/.cache/whittle. Where the variable is not set and that
 * folder not there: what Debian's package has installed.
 */
export function fashionMnistFolder(systemFolder: string = DEBIAN_PACKAGE.folder): string {
  const parent = process.env['WHITTLE_DATA'];
  const own = join(parent ?? join(homedir(), '.cache', 'whittle'), 'fashion-mnist');
  return parent === undefined && !existsSync(own) && existsSync(systemFolder) ? systemFolder : own;
}

export function loadFashionMnist(): Dataset {
  const folder = fashionMnistFolder();
  return loadIdx(
    folder,
    'fashion-mnist',
    `download {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz from ${ADDRESS} into ${folder} on every machine ` +
      `that runs a worker (WHITTLE_DATA names another parent folder), or, without WHITTLE_DATA, ` +
      `apt-get install ${DEBIAN_PACKAGE.name}`,
  );
}
