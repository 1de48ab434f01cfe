/** A data module of the user's: exports `train`, optionally `test` and `classes`. What it returns is checked. */
import { WhittleError } from '../../shared/errors.ts';
import { fromUserCode, importUserModule, listExports } from '../model/user-module.ts';
import type { Batch, Column, Columns, Dataset, Part, Random } from './dataset.ts';
import { isColumn, isWholeNumberArray } from './dataset.ts';

const CONTRACT = `a data module looks like this:
  export const train = {
    size: 60000,                         // number of examples
    batch(indices, random) {             // Int32Array of positions; may return a promise
      return { inputs: { data: new Float32Array(...), shape: [indices.length, 28, 28, 1] },
               labels: { data: new Int32Array(...), shape: [indices.length] } };   // class ids
    },
  };
  export const test = { ... };           // optional
  export const classes = 10;             // needed by the built-in models; labels are checked against it`;

export async function loadDataModule(path: string): Promise<Dataset> {
  const module = await importUserModule(path, 'DATA');
  if (module['train'] === undefined) {
    throw new WhittleError('DATA', `${path} exports no \`train\`: ${listExports(module)}; ${CONTRACT}`, {
      data: { path, exports: Object.keys(module) },
    });
  }
  const train = checkedPart(path, 'train', module['train']);
  const test =
    module['test'] === undefined || module['test'] === null ? null : checkedPart(path, 'test', module['test']);
  const { classes } = module;
  if (classes !== undefined && (typeof classes !== 'number' || !Number.isInteger(classes) || classes < 1)) {
    throw new WhittleError(
      'DATA',
      `${path} exports \`classes\` = ${typeof classes === 'string' ? classes : JSON.stringify(classes)}: it must be a whole number from 1`,
    );
  }
  const first = await train.batch(Int32Array.of(0), () => 0);
  return {
    train,
    test,
    inputShape: shapesOf(first.inputs),
    labels: isClassIds(first.labels) ? 'classes' : 'values',
    classes: classes ?? null,
    source: path,
  };
}

function shapesOf(columns: Columns): Dataset['inputShape'] {
  if (isColumn(columns)) return columns.shape.slice(1);
  return Object.fromEntries(Object.entries(columns).map(([name, { shape }]) => [name, shape.slice(1)]));
}

function isClassIds(labels: Columns): boolean {
  return isColumn(labels) && labels.shape.length === 1 && isWholeNumberArray(labels.data);
}

function checkedPart(path: string, name: 'train' | 'test', value: unknown): Part {
  const part = value as Partial<Part> | null;
  const fail = (why: string): WhittleError =>
    new WhittleError('DATA', `\`${name}\` of ${path} ${why}; ${CONTRACT}`, { data: { path, part: name } });
  if (typeof part !== 'object' || part === null) throw fail('is not an object');
  const { size } = part;
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 1 || size >= 2 ** 31) {
    throw fail(`has size ${String(size)}, not a whole number of examples from 1`);
  }
  if (typeof part.batch !== 'function') throw fail('has no function `batch`');
  return {
    size,
    async batch(indices: Int32Array, random: Random): Promise<Batch> {
      let batch: unknown;
      try {
        batch = await (part as Part).batch(indices, random);
      } catch (reason) {
        throw fromUserCode(reason, 'DATA', path, `${name}.batch failed`);
      }
      const { inputs, labels } = (batch ?? {}) as Partial<Batch>;
      checkColumns(inputs, 'inputs', indices.length, fail);
      checkColumns(labels, 'labels', indices.length, fail);
      return batch as Batch;
    },
  };
}

function checkColumns(
  columns: Columns | undefined,
  what: string,
  examples: number,
  fail: (why: string) => Error,
): void {
  if (typeof columns !== 'object' || columns === null) throw fail(`returns no \`${what}\` from batch`);
  // A plain array is refused below as one column, not looked into as a record.
  const isSingle = isColumn(columns) || Array.isArray(columns['data']);
  const named: [string, Column][] = isSingle
    ? [[what, columns as Column]]
    : Object.entries(columns).map(([name, column]) => [`${what}.${name}`, column]);
  if (named.length === 0) throw fail(`returns no \`${what}\` from batch`);
  for (const [name, column] of named) {
    const { data, shape } = (column ?? {}) as Partial<Column>;
    if (
      !ArrayBuffer.isView(data) ||
      data instanceof DataView ||
      data instanceof BigInt64Array ||
      data instanceof BigUint64Array
    ) {
      throw fail(`returns ${name}.data that is no typed array of numbers`);
    }
    if (!Array.isArray(shape)) throw fail(`returns ${name} without a shape`);
    const size = (shape as number[]).reduce((product, each) => product * each, 1);
    if (shape[0] !== examples || size !== (data as Float32Array).length) {
      throw fail(
        `returns ${name} of shape [${shape.join(', ')}] with ${(data as Float32Array).length} values for ${examples} indices`,
      );
    }
  }
}
