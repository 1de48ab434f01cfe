/** Comma-separated values: one example a line, one column the label, all others numbers. */
import { createReadStream, existsSync } from 'node:fs';
import { parse } from 'csv-parse';
import type { CsvSource } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { Batch, Dataset, Part } from './dataset.ts';

/** @throws DATA with the line and column of the first cell that cannot be used. */
export async function loadCsv(source: CsvSource): Promise<Dataset> {
  const train = await readTable(source.train, source);
  const test = source.test === null ? null : await readTable(source.test, source);
  if (test !== null && test.numFeatures !== train.numFeatures) {
    throw new WhittleError(
      'DATA',
      `${source.train} has ${train.numFeatures} columns beside the label, ${source.test} has ${test.numFeatures}: ` +
        'both need the same columns',
      { data: { train: source.train, test: source.test } },
    );
  }
  const isClasses = source.labels === 'classes';
  return {
    train,
    test,
    inputShape: [train.numFeatures],
    labels: isClasses ? 'classes' : 'values',
    classes: isClasses ? Math.max(train.largestLabel, test?.largestLabel ?? 0) + 1 : null,
    source: source.train,
  };
}

class TablePart implements Part {
  readonly size: number;
  readonly numFeatures: number;
  readonly #features: Float32Array;
  readonly #labels: Float32Array | Int32Array;

  /** @param features [labels.length, numFeatures], @param labels Int32Array for class ids */
  constructor(features: Float32Array, labels: Float32Array | Int32Array, numFeatures: number) {
    this.size = labels.length;
    this.numFeatures = numFeatures;
    this.#features = features;
    this.#labels = labels;
  }

  get largestLabel(): number {
    let largest = 0;
    for (const label of this.#labels) largest = Math.max(largest, label);
    return largest;
  }

  batch(indices: Int32Array): Batch {
    const n = this.numFeatures;
    const features = new Float32Array(indices.length * n);
    const isClasses = this.#labels instanceof Int32Array;
    const labels = isClasses ? new Int32Array(indices.length) : new Float32Array(indices.length);
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i] as number;
      features.set(this.#features.subarray(index * n, (index + 1) * n), i * n);
      labels[i] = this.#labels[index] as number;
    }
    return {
      inputs: { data: features, shape: [indices.length, n] },
      // Numbers are a column, so that they subtract from a model's [n, 1] output instead of broadcasting.
      labels: { data: labels, shape: isClasses ? [indices.length] : [indices.length, 1] },
    };
  }
}

async function readTable(path: string, source: CsvSource): Promise<TablePart> {
  if (!existsSync(path)) {
    throw new WhittleError('DATA', `no file ${path}: check data.source.csv, paths are relative to the run file`, {
      data: { path },
    });
  }
  const rows = createReadStream(path).pipe(parse({ skip_empty_lines: true, bom: true, trim: true, info: true }));
  const features = new Floats();
  const labels = new Floats();
  let names: string[] | null = null;
  let labelColumn = -1;
  let width = 0;
  try {
    for await (const { record, info } of rows as AsyncIterable<{ record: string[]; info: { lines: number } }>) {
      if (width === 0) {
        width = record.length;
        labelColumn = findLabel(path, source, record);
        if (source.header) {
          names = record;
          continue;
        }
      }
      for (let column = 0; column < width; column++) {
        const cell = record[column] ?? '';
        const value = cell === '' ? NaN : Number(cell);
        const isLabel = column === labelColumn;
        const isUsable =
          isLabel && source.labels === 'classes'
            ? Number.isInteger(value) && value >= 0 && value < 2 ** 31
            : Number.isFinite(value);
        if (!isUsable) throw badCell(path, info.lines, names?.[column] ?? String(column), cell, isLabel, source);
        (isLabel ? labels : features).push(value);
      }
    }
  } catch (reason) {
    if (reason instanceof WhittleError) throw reason;
    const message = reason instanceof Error ? reason.message : String(reason);
    throw new WhittleError('DATA', `${path} cannot be read as CSV: ${message}`, { cause: reason, data: { path } });
  }
  if (labels.length === 0) throw new WhittleError('DATA', `${path} holds no examples`, { data: { path } });
  const values = labels.toArray();
  return new TablePart(features.toArray(), source.labels === 'classes' ? Int32Array.from(values) : values, width - 1);
}

/** Position of the label column; a negative index counts from the end. */
function findLabel(path: string, { label, header }: CsvSource, first: readonly string[]): number {
  const index =
    typeof label === 'number' ? (label < 0 ? label + first.length : label) : header ? first.indexOf(label) : -1;
  if (index >= 0 && index < first.length && first.length > 1) return index;
  const columns = header ? `its columns are ${first.join(', ')}` : `it has ${first.length} columns and no header`;
  throw new WhittleError('DATA', `${path} has no label column ${JSON.stringify(label)} beside others: ${columns}`, {
    data: { path, label },
  });
}

function badCell(
  path: string,
  line: number,
  column: string,
  cell: string,
  isLabel: boolean,
  source: CsvSource,
): WhittleError {
  const wanted = isLabel && source.labels === 'classes' ? 'a class id (0, 1, 2 ...)' : 'a number';
  const cure = isLabel && source.labels === 'classes' ? ', or set data.source.csv.labels to numbers' : '';
  return new WhittleError(
    'DATA',
    `${path}:${line}: column ${column} holds ${JSON.stringify(cell)}, not ${wanted}${cure}`,
    {
      data: { path, line, column, value: cell },
    },
  );
}

/** A Float32Array that grows. */
class Floats {
  length = 0;
  #values = new Float32Array(4096);

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new Float32Array(2 * this.length);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.length++] = value;
  }

  toArray(): Float32Array {
    return this.#values.slice(0, this.length);
  }
}
