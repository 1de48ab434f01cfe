import { isAbsolute } from 'node:path';
import type { DataConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { loadCsv } from './csv.ts';
import type { Dataset } from './dataset.ts';
import { loadFashionMnist } from './fashion-mnist.ts';
import { loadIdx } from './idx.ts';
import { loadMnist } from './mnist.ts';
import { loadDataModule } from './module.ts';

/** From the run file's `data.source` to a dataset. Throws DATA. */
export async function loadData(source: DataConfig['source']): Promise<Dataset> {
  if (typeof source === 'object') {
    if ('csv' in source) return await loadCsv(source.csv);
    return loadIdx(
      source.idx,
      source.idx,
      'data.source.idx must name a folder with the idx files, named as those of MNIST',
    );
  }
  if (source === 'mnist') return loadMnist();
  if (source === 'fashion-mnist') return loadFashionMnist();
  if (isAbsolute(source)) return await loadDataModule(source);
  throw new WhittleError(
    'DATA',
    `no data source "${source}": use mnist, fashion-mnist, { idx: DIR }, { csv: ... } or ./file.ts`,
    { data: { source } },
  );
}
