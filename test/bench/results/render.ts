import { cellId, SPARSITIES, type Cell, type Dataset, type Epochs } from './cells.ts';
import { METHODS, type Method } from './methods.ts';
import type { CellRecord } from './records.ts';

/** Test accuracy in percent at these sparsities, from elsewhere; null: not given. */
interface Reference {
  readonly name: string;
  readonly dense: number | null;
  readonly at: readonly (number | null)[];
}

/** PyTorch with the same recipe and global magnitude, 3 seeds, on the machine of these runs. */
export const PYTORCH_12: Reference = { name: 'PyTorch, 3 seeds', dense: 97.97, at: [98.17, 98.18, 97.75, 96.77] };
/** Sparse from scratch on LeNet-300-100, 100 epochs; from the repository of Dettmers & Zettlemoyer (2019). */
export const SPARSE_MOMENTUM: Reference = {
  name: 'Sparse Momentum',
  dense: 98.69,
  at: [98.67, 98.53, 98.2, 97.53],
};
const PUBLISHED_100: readonly Reference[] = [
  { name: 'PyTorch, 1 seed', dense: null, at: [null, 98.52, null, 97.99] },
  SPARSE_MOMENTUM,
  { name: 'Dynamic Sparse (Mostafa & Wang 2019)', dense: null, at: [98.44, 98.32, 98.14, 97.54] },
  { name: 'SET', dense: null, at: [98.39, 98.14, 97.74, 95.8] },
  { name: 'DEEP-R', dense: null, at: [98.19, 98.06, 98.21, 94] },
];

/** How far below a reference the mean of magnitude-global may be, in points, by sparsity. */
const ALLOWED_12 = [0.15, 0.15, 0.3, 0.3];
const ALLOWED_100 = [0.3, 0.3, 0.3, 0.3];

export type Records = ReadonlyMap<string, CellRecord>;

/** The results page. */
export function renderPage(cells: readonly Cell[], records: Records): string {
  const done = cells.filter((cell) => records.has(cellId(cell))).length;
  return `${[
    '# Results',
    'Test accuracy in percent of LeNet-300-100 (266,200 kernel weights), mean ± standard deviation over seeds where there ' +
      'are several. Everything is measured by `npm run results`, which goes on where it was interrupted, skips what is ' +
      'finished, and writes this page from [results.jsonl](results.jsonl), where every run has its digests. ' +
      `${done} of ${cells.length} runs are there; – is not run yet.`,
    '## MNIST, 12 epochs',
    'Adam, learning rate 0.001, batch 128, no tuning by method. Gradual methods prune between step 468 and 3,931 of 5,616.',
    table('mnist', 12, cells, records, [PYTORCH_12]),
    verdict('mnist', 12, cells, records, PYTORCH_12, ALLOWED_12),
    ...others(cells, records),
    '## MNIST, 100 epochs',
    'Stochastic gradient descent, Nesterov momentum 0.9, learning rate 0.1 times 0.1 every 25,000 steps, L2 0.0005, batch ' +
      '100, pruned between 10 and 60 % of 60,000 steps.',
    table('mnist', 100, cells, records, PUBLISHED_100),
    verdict('mnist', 100, cells, records, SPARSE_MOMENTUM, ALLOWED_100),
    'Published figures: files of results in the repository of Dettmers & Zettlemoyer (2019), sparse from scratch.',
    '## Fashion-MNIST, 12 epochs',
    'As MNIST, 12 epochs. No sparse figures are published for this network and data.',
    table('fashion-mnist', 12, cells, records, []),
    '## The methods',
    ...[methodList(cells)],
  ]
    .filter((part) => part !== '')
    .join('\n\n')}\n`;
}

function table(
  dataset: Dataset,
  epochs: Epochs,
  cells: readonly Cell[],
  records: Records,
  references: readonly Reference[],
): string {
  const own = cells.filter((cell) => cell.dataset === dataset && cell.epochs === epochs);
  const dense = own.filter(({ method }) => method === 'dense');
  const methods = [...new Set(own.map(({ method }) => method))].filter((method) => isColumned(method));
  const rows = methods.map((method) => [
    method,
    method === methods[0] ? spread(dense, records) : '',
    ...SPARSITIES.map((sparsity) =>
      spread(
        own.filter((cell) => cell.method === method && cell.sparsity === sparsity),
        records,
      ),
    ),
  ]);
  const figure = (value: number | null): string => (value === null ? '' : value.toFixed(2));
  const cited = references.map(({ name, dense, at }) => [`_${name}_`, figure(dense), ...at.map(figure)]);
  return lines(
    ['method', 'dense', ...SPARSITIES.map((sparsity) => `${Math.round(sparsity * 100)} %`)],
    [...rows, ...cited],
  );
}

/** Methods that fill the columns of the table; the others have a sparsity of their own. */
function isColumned(method: Method): boolean {
  return (METHODS[method].sparsities ?? SPARSITIES).length === SPARSITIES.length;
}

/** What has only one sparsity. */
function others(cells: readonly Cell[], records: Records): string[] {
  const own = cells.filter(({ method }) => method !== 'dense' && !isColumned(method));
  const rows = own.map((cell) => [cell.method, `${Math.round(cell.sparsity * 100)} %`, spread([cell], records)]);
  return rows.length === 0 ? [] : [lines(['method', 'sparsity', 'accuracy'], rows)];
}

/** How magnitude-global stands to a reference, in words. Empty while runs are missing. */
export function verdict(
  dataset: Dataset,
  epochs: Epochs,
  cells: readonly Cell[],
  records: Records,
  reference: Reference,
  allowed: readonly number[],
): string {
  const parts = SPARSITIES.map((sparsity, i) => {
    const own = cells.filter(
      (cell) =>
        cell.dataset === dataset &&
        cell.epochs === epochs &&
        cell.method === 'magnitude-global' &&
        cell.sparsity === sparsity,
    );
    const values = accuracies(own, records);
    const expected = reference.at[i];
    if (own.length === 0 || values.length < own.length || expected === null || expected === undefined) return null;
    const difference = mean(values) - expected;
    const limit = allowed[i] ?? 0;
    const sign = difference >= 0 ? '+' : '−';
    // Means are compared as they are shown.
    const isWithin = Math.round(difference * 100) >= -Math.round(limit * 100);
    return `${sign}${Math.abs(difference).toFixed(2)} (${isWithin ? 'within' : 'not within'} ${limit})`;
  });
  if (parts.includes(null)) return '';
  return `magnitude-global against ${reference.name}, in points, by sparsity: ${parts.join(', ')}.`;
}

function spread(cells: readonly Cell[], records: Records): string {
  const values = accuracies(cells, records);
  if (cells.length === 0) return '';
  if (values.length === 0) return '–';
  const middle = mean(values).toFixed(2);
  if (values.length === 1) return cells.length === 1 ? middle : `${middle} (1 of ${cells.length})`;
  const variance = values.reduce((sum, x) => sum + (x - mean(values)) ** 2, 0) / (values.length - 1);
  const missing = values.length < cells.length ? ` (${values.length} of ${cells.length})` : '';
  return `${middle} ± ${Math.sqrt(variance).toFixed(2)}${missing}`;
}

function accuracies(cells: readonly Cell[], records: Records): number[] {
  return cells.flatMap((cell) => {
    const record = records.get(cellId(cell));
    return record === undefined ? [] : [100 * record.testAccuracy];
  });
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, x) => sum + x, 0) / values.length;
}

function methodList(cells: readonly Cell[]): string {
  const methods = [...new Set(cells.map(({ method }) => method))];
  return lines(
    ['method', 'what is pruned'],
    methods.map((method) => [method, METHODS[method].about]),
  );
}

/** A table as prettier writes it. */
function lines(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, i) => Math.max(3, cell.length, ...rows.map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    `| ${widths.map((width, i) => (cells[i] ?? '').padEnd(width)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}
