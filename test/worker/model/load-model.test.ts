import assert from 'node:assert/strict';
import type { Tensor } from '@tensorflow/tfjs-core';
import { before, describe, it } from 'mocha';
import { WhittleError } from '../../../shared/errors.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { loadModel } from '../../../worker/model/load-model.ts';
import type { LoadedModel } from '../../../worker/model/load-model.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

const SHAPE = { inputShape: [4], classes: 3, labels: 'classes', data: 'data.ts' } as const;
const load = (source: string, seed = 1): Promise<LoadedModel> => loadModel(tf, source, seed, SHAPE);

async function failure(promise: Promise<unknown>, code = 'MODEL'): Promise<WhittleError> {
  const reason: unknown = await promise.then(
    () => assert.fail('it did not fail'),
    (each: unknown) => each,
  );
  assert.ok(reason instanceof WhittleError, String(reason));
  assert.equal(reason.code, code);
  return reason;
}

describe('loadModel', () => {
  const folder = temporaryFolder();
  const DENSE = 'tf.sequential({ layers: [tf.layers.dense({ units: 3, inputShape: [4] })] })';
  before(() => loadBackend('wasm'));

  for (const name of ['plain.ts', 'plain.mts', 'plain.mjs', 'plain.js']) {
    it(`loads ${name}, sync or async, outside any package`, async () => {
      const annotation = name.endsWith('ts') ? ': any' : '';
      const path = folder.write(
        name,
        `export async function model(tf${annotation}) { return ${DENSE}; }\nexport const loss = (tf${annotation}) => tf.scalar(1);`,
      );
      const { model, loss, source } = await load(path);
      assert.deepEqual(model.outputs[0]?.shape, [null, 3]);
      assert.equal(typeof loss, 'function');
      assert.equal(source, path);
    });
  }

  it('loads CommonJS', async () => {
    const { model } = await load(folder.write('common.cjs', `module.exports = { model: (tf) => ${DENSE} };`));
    assert.equal(model.countParams(), 15);
  });

  it('draws the same weights from the same seed, and gives Math.random back', async () => {
    const path = folder.write('seeded.ts', `export const model = (tf: any) => ${DENSE};`);
    const random = Math.random;
    const kernels: string[] = [];
    for (const seed of [1, 1, 2]) {
      const { model } = await load(path, seed);
      kernels.push(String(model.trainableWeights[0]?.read().dataSync()));
    }
    assert.equal(Math.random, random);
    assert.equal(kernels[0], kernels[1]);
    assert.notEqual(kernels[0], kernels[2]);
  });

  it('names a missing module', async () => {
    assert.match(
      (await failure(load(`${folder.path}/none.ts`))).message,
      /no model module at .*none\.ts: check the path/,
    );
  });

  it("shows what the module's top level threw, and where in the user's file", async () => {
    const path = folder.write(
      'throws.ts',
      'interface A {\n  readonly a: number;\n}\nthrow new RangeError("bad luck");\nexport {};',
    );
    const { message, data } = await failure(load(path));
    assert.match(message, /RangeError: bad luck/);
    assert.match(String(data['frame']), /throws\.ts:4/);
  });

  it('shows what model(tf) threw, and where', async () => {
    const path = folder.write(
      'fails.ts',
      'export function model() {\n  return inner();\n}\nfunction inner(): never {\n  throw new Error("no layers today");\n}',
    );
    const { message } = await failure(load(path));
    assert.match(message, /model\(tf\) failed: Error: no layers today \(.*fails\.ts:5:\d+\)/);
  });

  it('shows a syntax error with its file', async () => {
    const { message } = await failure(load(folder.write('syntax.ts', 'export function model( {')));
    assert.match(message, /cannot be loaded: .*syntax\.ts/s);
  });

  it('lists what a module without model exports, and shows the contract', async () => {
    const { message } = await failure(load(folder.write('other.ts', 'export const build = 1, loss = 2;')));
    assert.match(message, /exports no function `model`: it exports build, loss; a model module looks like this:/);
    const nothing = await failure(load(folder.write('nothing.ts', 'export {};')));
    assert.match(nothing.message, /it exports nothing/);
  });

  for (const [name, returned, said] of [
    ['undefined', 'undefined', /returns undefined, not a tf\.LayersModel/],
    ['a bare object', '({})', /returns a Object, not/],
    ['a layer', 'tf.layers.dense({ units: 1 })', /returns a Dense, not/],
    ['a foreign model', '({ layers: [], trainableWeights: [] })', /another copy of TensorFlow\.js/],
    ['a model without layers', 'tf.sequential()', /no input shape/],
    [
      'a first layer without shape',
      'tf.sequential({ layers: [tf.layers.dense({ units: 1 })] })',
      /must get an `inputShape`/,
    ],
  ] as const) {
    it(`refuses ${name}`, async () => {
      const path = folder.write(`${name.replaceAll(' ', '-')}.ts`, `export const model = (tf: any) => ${returned};`);
      assert.match((await failure(load(path))).message, said);
    });
  }

  it('refuses a loss that is no function', async () => {
    const path = folder.write('loss.ts', `export const model = (tf: any) => ${DENSE}; export const loss = 'mse';`);
    assert.match((await failure(load(path))).message, /exports `loss` as a string, not as a function/);
  });

  it('takes the seed off dropout and says so', async () => {
    const path = folder.write(
      'dropout.ts',
      `export const model = (tf: any) => tf.sequential({ layers: [
        tf.layers.dense({ units: 3, inputShape: [4] }), tf.layers.dropout({ rate: 0.5, seed: 7 })] });`,
    );
    const { model, notes } = await load(path);
    assert.match(notes.join(), /layer dropout_1: seed 7 is ignored/);
    const ones = tf.ones([1, 4]);
    const draw = (): string => {
      const [output] = model.call(ones, { training: true }) as Tensor[];
      const drawn = String(output?.dataSync());
      output?.dispose();
      return drawn;
    };
    assert.ok(new Set(Array.from({ length: 20 }, draw)).size > 1);
    ones.dispose();
  });

  it('names the built-in models', async () => {
    const { message } = await failure(load('lenet-300'));
    assert.match(message, /no built-in model "lenet-300": use lenet-300-100, lenet-5, logistic-regression, or/);
  });

  it('refuses a built-in model where the labels are not classes', async () => {
    const loaded = loadModel(tf, 'logistic-regression', 1, { ...SHAPE, classes: null, labels: 'values' });
    assert.match((await failure(loaded)).message, /the labels of data\.ts are not class ids/);
  });

  it('refuses a built-in model where the data does not say how many classes there are', async () => {
    const loaded = loadModel(tf, 'logistic-regression', 1, { ...SHAPE, classes: null });
    const { message } = await failure(loaded, 'DATA');
    assert.match(message, /needs the number of classes, and data\.ts does not export it: add `export const classes/);
    assert.doesNotMatch(message, /not class ids/);
  });
});
