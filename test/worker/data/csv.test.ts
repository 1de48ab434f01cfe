import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import type { CsvSource } from '../../../shared/config/types.ts';
import { WhittleError } from '../../../shared/errors.ts';
import type { Dataset } from '../../../worker/data/dataset.ts';
import { loadData } from '../../../worker/data/load-data.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

const FLOWERS = 'length,width,kind\n1.5,2,0\n"3",4e-1,2\n\n5,6,1\n';

describe('csv files', () => {
  const folder = temporaryFolder();
  let count = 0;
  const load = (text: string, changes: Partial<CsvSource> = {}): Promise<Dataset> => {
    const train = folder.write(`${++count}.csv`, text);
    return loadData({ csv: { train, test: null, label: -1, header: true, labels: 'classes', ...changes } });
  };

  it('take the last column as the label', async () => {
    const data = await load(FLOWERS);
    assert.deepEqual([data.train.size, data.inputShape, data.classes, data.labels], [3, [2], 3, 'classes']);
    assert.deepEqual(await data.train.batch(Int32Array.of(1, 1, 0), Math.random), {
      inputs: { data: Float32Array.of(3, 0.4, 3, 0.4, 1.5, 2), shape: [3, 2] },
      labels: { data: Int32Array.of(2, 2, 0), shape: [3] },
    });
  });

  it('take the label by name or index, with or without header, and numbers as a column', async () => {
    const byName = await load(FLOWERS, { label: 'length', labels: 'numbers' });
    assert.deepEqual(await byName.train.batch(Int32Array.of(0), Math.random), {
      inputs: { data: Float32Array.of(2, 0), shape: [1, 2] },
      labels: { data: Float32Array.of(1.5), shape: [1, 1] },
    });
    assert.deepEqual([byName.labels, byName.classes], ['values', null]);
    const byIndex = await load('1,7\n2,8\n', { label: 0, header: false });
    assert.deepEqual((await byIndex.train.batch(Int32Array.of(1), Math.random)).labels, {
      data: Int32Array.of(2),
      shape: [1],
    });
  });

  it('have a test part', async () => {
    const data = await load(FLOWERS, { test: folder.write('test.csv', 'length,width,kind\n1,1,4\n') });
    assert.deepEqual([data.test?.size, data.classes], [1, 5]);
  });

  for (const [name, text, changes, said] of [
    ['a word', 'a,b\n1,0\nx,1\n', {}, /\d+\.csv:3: column a holds "x", not a number$/],
    ['an empty cell', 'a,b\n,0\n', {}, /:2: column a holds "", not a number/],
    [
      'a broken class',
      'a,b\n1,0.5\n',
      {},
      /column b holds "0.5", not a class id .*set data\.source\.csv\.labels to numbers/,
    ],
    ['a negative class', 'a,b\n1,-1\n', {}, /holds "-1", not a class id/],
    ['a missing column', FLOWERS, { label: 'species' }, /no label column "species" .* length, width, kind/],
    ['an index out of range', FLOWERS, { label: 3 }, /no label column 3/],
    ['a name without header', '1,2\n', { label: 'kind', header: false }, /has 2 columns and no header/],
    ['a label alone', 'kind\n1\n', {}, /no label column -1 beside others/],
    ['a row of another length', 'a,b\n1,0\n1,2,3\n', {}, /cannot be read as CSV: .*line 3/],
    ['no examples', 'a,b\n', {}, /holds no examples/],
    ['an empty file', '', {}, /holds no examples/],
    ['a missing file', '', { train: '/nowhere/iris.csv' }, /no file \/nowhere\/iris\.csv: .*relative to the run file/],
  ] as const) {
    it(`refuse ${name}`, async () => {
      await assert.rejects(load(text, changes), (error: unknown) => {
        assert.ok(error instanceof WhittleError);
        assert.equal(error.code, 'DATA');
        assert.match(error.message, said);
        return true;
      });
    });
  }

  it('refuse a test part of other columns', async () => {
    const test = folder.write('narrow.csv', 'a,b\n1,0\n');
    await assert.rejects(load(FLOWERS, { test }), /has 2 columns beside the label, .*narrow\.csv has 1/);
  });
});
