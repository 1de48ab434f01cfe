import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { WhittleError } from '../../../shared/errors.ts';
import { loadData } from '../../../worker/data/load-data.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

const BATCH = `batch: async (indices: Int32Array, random: () => number) => ({
  inputs: { data: Float32Array.from(indices, (i) => i + random()), shape: [indices.length, 1] },
  labels: { data: new Int32Array(indices.length), shape: [indices.length] } })`;

describe('data modules', () => {
  const folder = temporaryFolder();
  let count = 0;
  const write = (text: string): string => folder.write(`data-${++count}.ts`, text);

  it('are asked for their batches, with a generator', async () => {
    const data = await loadData(write(`export const train = { size: 5, ${BATCH} }; export const classes = 2;`));
    assert.deepEqual(
      [data.train.size, data.test, data.inputShape, data.labels, data.classes],
      [5, null, [1], 'classes', 2],
    );
    const { inputs } = await data.train.batch(Int32Array.of(3, 4), () => 0.5);
    assert.deepEqual(inputs, { data: Float32Array.of(3.5, 4.5), shape: [2, 1] });
  });

  it('may have several inputs, and labels that are no class ids', async () => {
    const data = await loadData(
      write(`export const train = { size: 1, batch: (indices: Int32Array) => {
        const column = { data: new Float32Array(2 * indices.length), shape: [indices.length, 2] };
        return { inputs: { a: column, b: column }, labels: column }; } };`),
    );
    assert.deepEqual([data.inputShape, data.labels, data.classes], [{ a: [2], b: [2] }, 'values', null]);
  });

  const column = '{ data: new Float32Array(1), shape: [1] }';
  for (const [name, text, said] of [
    ['no train', 'export const test = 1;', /exports no `train`: it exports test; a data module looks like this:/],
    ['no size', 'export const train = { batch() {} };', /`train` of .* has size undefined, not a whole number/],
    ['size 0', `export const train = { size: 0, ${BATCH} };`, /has size 0/],
    ['no batch', 'export const train = { size: 1 };', /has no function `batch`/],
    [
      'a broken test part',
      `export const train = { size: 1, ${BATCH} }; export const test = { size: 2 };`,
      /`test` of .* has no function/,
    ],
    [
      'bad classes',
      `export const train = { size: 1, ${BATCH} }; export const classes = '2';`,
      /`classes` = 2: it must be a whole/,
    ],
    ['an empty batch', 'export const train = { size: 1, batch() {} };', /returns no `inputs` from batch/],
    ['no labels', `export const train = { size: 1, batch: () => ({ inputs: ${column} }) };`, /returns no `labels`/],
    [
      'a plain array',
      `export const train = { size: 1, batch: () => ({ inputs: { data: [1], shape: [1] }, labels: ${column} }) };`,
      /returns inputs\.data that is no typed array/,
    ],
    [
      'no shape',
      `export const train = { size: 1, batch: () => ({ inputs: { data: new Float32Array(1) }, labels: ${column} }) };`,
      /inputs without a shape/,
    ],
    [
      'a wrong shape',
      `export const train = { size: 1, batch: () => ({ inputs: { data: new Float32Array(3), shape: [1, 2] }, labels: ${column} }) };`,
      /inputs of shape \[1, 2\] with 3 values for 1 indices/,
    ],
    [
      'other numbers of examples',
      `export const train = { size: 1, batch: () => ({ inputs: ${column}, labels: { data: new Int32Array(2), shape: [2] } }) };`,
      /labels of shape \[2\] with 2 values for 1 indices/,
    ],
    [
      'an error',
      'export const train = { size: 1,\n  batch() {\n    throw new Error("disk on fire"); } };',
      /train\.batch failed: Error: disk on fire \(.*data-\d+\.ts:3:\d+\)/,
    ],
  ] as const) {
    it(`are refused for ${name}`, async () => {
      await assert.rejects(loadData(write(text)), (error: unknown) => {
        assert.ok(error instanceof WhittleError);
        assert.equal(error.code, 'DATA');
        assert.match(error.message, said);
        return true;
      });
    });
  }
});
