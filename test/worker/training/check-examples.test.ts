import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { describeJob } from '../../../worker/training/describe.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

interface Part {
  readonly size?: number;
  /** Source of a function of the example's index. */
  readonly input?: string;
  readonly width?: number;
  readonly label?: string;
  /** Of the labels, and what stands behind [n. */
  readonly labels?: 'Int32Array' | 'Float32Array';
  readonly rows?: number;
}

function part({ size = 50, input = 'i / 50', width = 2, label = 'i % 3', labels = 'Int32Array', rows }: Part): string {
  const count = rows ?? 1;
  return `{ size: ${size}, batch: (indices) => ({
    inputs: { data: Float32Array.from({ length: indices.length * ${width} }, (_, k) => { const i = indices[Math.floor(k / ${width})]; return ${input}; }),
      shape: [indices.length, ${width}] },
    labels: { data: ${labels}.from({ length: indices.length * ${count} }, (_, k) => { const i = indices[Math.floor(k / ${count})]; return ${label}; }),
      shape: [indices.length${rows === undefined ? '' : `, ${rows}`}] } }) }`;
}

const MODEL =
  'export const model = (tf) => tf.sequential({ layers: [tf.layers.dense({ units: 3, inputShape: [2] })] });';

describe('examples tried before a run starts', () => {
  const folder = temporaryFolder();
  let count = 0;
  async function check(train: Part, test: Part | null, also = 'export const classes = 3;', model = MODEL) {
    const n = ++count;
    folder.write(
      `data-${n}.mjs`,
      `export const train = ${part(train)};\n${test === null ? '' : `export const test = ${part(test)};`}\n${also}`,
    );
    folder.write(`model-${n}.mjs`, model);
    const text = `
name: check
model: ./model-${n}.mjs
data: { source: ./data-${n}.mjs, batchSize: 50 }
cluster: { servers: 1, workers: 1, backend: wasm }
training: { steps: 1, optimizer: { kind: sgd, learningRate: 0.1 } }
`;
    return describeJob(parseRunFile(text, `${folder.path}/run.yaml`));
  }

  it('accepts class ids, rows of probabilities, and what a loss of one’s own takes', async () => {
    await check({}, {});
    await check({ size: 7 }, null, '');
    await check({ labels: 'Float32Array', rows: 3, label: '1 / 3' }, {});
    const loss = 'export const loss = (tf, labels, outputs) => tf.mean(tf.square(tf.sub(labels, outputs)));';
    await check({ labels: 'Float32Array', rows: 3, label: 'i - 0.5' }, null, '', `${MODEL}\n${loss}`);
    // -1 may say "none" to a loss of one's own.
    const own = 'export const loss = (tf, labels, outputs) => tf.mean(outputs);';
    await check({ label: 'i === 0 ? -1 : 0' }, null, '', `${MODEL}\n${own}`);
  });

  for (const [what, train, test, also, said] of [
    [
      'a label above the classes the data module names',
      { label: 'i === 40 ? 3 : 0' },
      {},
      undefined,
      /label 3 of example 40 in the training data of .*: .* says classes = 3, so labels are 0 \.\. 2/,
    ],
    [
      'a negative label',
      { label: 'i === 40 ? -1 : 0' },
      null,
      undefined,
      /label -1 of example 40 in the training data/,
    ],
    [
      'a bad label of the test part',
      {},
      { label: 'i === 49 ? 9 : 0' },
      undefined,
      /label 9 of example 49 in the test data/,
    ],
    ['a label above the outputs', { label: 'i' }, null, '', /label 3 of example 3 .*: the model has 3 outputs/],
    [
      'fractional labels',
      { labels: 'Float32Array', label: 'i === 4 ? 0.5 : 1' },
      null,
      '',
      /labels of the training data .* are fractional: example 4 has 0\.5; .*export/,
    ],
    [
      'class ids in an array of floating-point numbers',
      {},
      { labels: 'Float32Array' },
      '',
      /labels of the test data .* whole numbers in an array of floating.*Int32Array/,
    ],
    [
      'probabilities that are no numbers',
      { labels: 'Float32Array', rows: 3, label: 'i === 2 ? NaN : 0' },
      null,
      '',
      /the labels of example 2 in the training data .* hold NaN \(value 0 of \[3\]\)/,
    ],
    [
      'rows of another length',
      { labels: 'Float32Array', rows: 4, label: '0.25' },
      null,
      '',
      /float32 of shape \[50, 4\].*rows of shape \[n, 3\]/,
    ],
    [
      'an input that is no number',
      { input: 'k === 21 ? NaN : 0' },
      {},
      undefined,
      /inputs of example 10 in the training data of .* hold NaN \(value 1 of \[2\]\)/,
    ],
    [
      'an infinite input of the test part',
      {},
      { input: 'i === 7 ? Infinity : 0' },
      undefined,
      /example 7 in the test data .* hold Infinity/,
    ],
    [
      'test examples of another shape',
      {},
      { width: 5 },
      undefined,
      /the test data of .*: a batch has inputs of shape \[5\], the model takes \[2\]/,
    ],
  ] as const satisfies readonly (readonly [string, Part, Part | null, string | undefined, RegExp])[]) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(check(train, test, also), (error: unknown) => {
        assert.ok(error instanceof WhittleError, String(error));
        assert.equal(error.code, 'DATA', error.message);
        assert.match(error.message, said);
        return true;
      });
    });
  }

  for (const [what, body, said] of [
    [
      'throws',
      "{ throw new RangeError('no such thing'); }",
      /loss\(tf, labels, outputs\) failed: RangeError: no such thing/,
    ],
    ['returns no scalar', 'outputs', /returns a tensor of shape \[50, 3\]: it must return a scalar/],
    [
      'is no number at once',
      'tf.log(tf.mul(tf.mean(outputs), 0)).neg().mul(0)',
      /is NaN on 50 examples of the training data/,
    ],
  ] as const) {
    it(`refuses a loss of the user’s that ${what}`, async () => {
      const model = `${MODEL}\nexport const loss = (tf, labels, outputs) => ${body};`;
      await assert.rejects(check({}, {}, '', model), (error: unknown) => {
        assert.ok(error instanceof WhittleError, String(error));
        assert.equal(error.code, 'MODEL', error.message);
        assert.match(error.message, said);
        return true;
      });
    });
  }

  it('leaves no tensor behind, also when it refuses', async () => {
    await check({}, {});
    const before = tf.memory().numTensors;
    await check({}, {});
    await assert.rejects(check({ label: '5' }, {}));
    await assert.rejects(check({}, {}, '', `${MODEL}\nexport const loss = (tf, labels, outputs) => outputs;`));
    assert.equal(tf.memory().numTensors, before);
  });

  it('says what the default loss makes of a last activation, and nothing of a loss of one’s own', async () => {
    const ending = (activation: string): string => MODEL.replace('units: 3', `units: 3, activation: '${activation}'`);
    assert.match(
      (await check({}, {}, '', ending('softmax'))).warnings.join(),
      /ends in softmax: .*on its probabilities/,
    );
    assert.match((await check({}, {}, '', ending('relu'))).warnings.join(), /ends in relu, whose outputs .* as logits/);
    const own = `${ending('relu')}\nexport const loss = (tf, labels, outputs) => tf.mean(outputs);`;
    assert.deepEqual((await check({}, {}, '', own)).warnings, []);
    assert.deepEqual((await check({}, {}, '')).warnings, []);
  });
});
