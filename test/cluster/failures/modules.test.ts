import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  FIXTURES,
  goldenRunFile,
  latestCheckpoint,
  smallRunFile,
  whittle,
  withFolder,
  writeRunFile,
} from '../support.ts';
import { assertFailed, assertRefused, launchArgs, resumable } from './support.ts';

describe('a model or data module that cannot be used', function () {
  this.timeout(300_000);
  const cases: readonly [what: string, key: 'model' | 'data', code: string, messages: readonly (string | RegExp)[]][] =
    [
      [
        'throws while it is loaded',
        'model',
        `\nthrow new Error('my own words');`,
        ['[MODEL]', 'my own words', /module\.ts:2/],
      ],
      [
        'throws while it builds',
        'model',
        `export function model() {\n  throw new RangeError('too deep');\n}`,
        ['[MODEL]', 'RangeError: too deep', /module\.ts:2/],
      ],
      ['exports nothing', 'model', 'const x = 1;', ['[MODEL]', 'exports nothing', 'module.ts']],
      [
        'has labels out of range',
        'data',
        `\nconst part = { size: 64, batch: (indices) => ({
  inputs: { data: new Float32Array(20 * indices.length), shape: [indices.length, 20] },
  labels: { data: indices.map((i) => i % 5), shape: [indices.length] } }) };
export const train = part, classes = 4;`,
        ['[DATA]', /label 4 of example 4 in the training data of .*module\.ts is out of range/],
      ],
      ['exports no training data', 'data', 'export const test = 1;', ['[DATA]', 'train', 'module.ts']],
    ];
  for (const [what, key, code, messages] of cases) {
    it(`is refused: a ${key} module that ${what}`, () =>
      withFolder(async (folder) => {
        const module = join(folder, 'module.ts');
        await writeFile(module, code);
        const base = goldenRunFile({ servers: 1, workers: 1 });
        const document =
          key === 'model' ? { ...base, model: module } : { ...base, data: { source: module, batchSize: 32 } };
        await assertRefused(launchArgs(folder, await writeRunFile(folder, document)), folder, messages);
      }));
  }

  for (const [what, source, messages] of [
    ['a folder without idx files', { idx: './nowhere' }, ['[DATA]', 'nowhere', /train-images-idx3-ubyte/]],
    [
      'a csv file that is not there',
      { csv: { train: './nowhere.csv' } },
      ['[DATA]', 'nowhere.csv', /relative to the run file/],
    ],
  ] as const) {
    it(`is refused: ${what}, saying where the files come from`, () =>
      withFolder(async (folder) => {
        const document = {
          ...goldenRunFile({ servers: 1, workers: 1 }),
          model: 'logistic-regression',
          data: { source, batchSize: 32 },
        };
        await assertRefused(launchArgs(folder, await writeRunFile(folder, document)), folder, messages);
      }));
  }

  it('fails the run with its own words when it throws in the middle', () =>
    withFolder(async (folder) => {
      const module = join(folder, 'data.ts');
      await writeFile(
        module,
        `import { train as all } from ${JSON.stringify(join(FIXTURES, 'golden-data.ts'))};
let batches = 0;
export const train = { size: all.size, batch: (indices) => {
  if (++batches > 30) throw new Error('the tape is torn');
  return all.batch(indices);
} };`,
      );
      const document = {
        ...smallRunFile({ steps: 500, every: 10, workers: 1 }),
        data: { source: module, batchSize: 32 },
      };
      const end = await whittle(launchArgs(folder, await writeRunFile(folder, document)));
      const result = await assertFailed(end, join(folder, 'run'), 'DATA');
      assert.match(end.stderr, /worker\[0\].*the tape is torn/);
      assert.ok(result.step > 0);
      assert.equal(await resumable(join(folder, 'run')), (await latestCheckpoint(join(folder, 'run'))).clock);
    }));
});
