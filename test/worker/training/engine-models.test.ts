import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { WhittleError } from '../../../shared/errors.ts';
import { engineConfig } from '../../fixtures/config.ts';
import { assertClose, engineTests, TOLERANCE } from './engine-support.ts';

describe('Engine, with models, losses and labels of all kinds', () => {
  const { folder, create, withModel, tapeFails } = engineTests();

  it('adds regularizers to the loss, once for a layer used twice', async () => {
    const body = (l2: number): string => `export const model = (tf: any) => {
      const shared = tf.layers.dense({ units: 20, kernelInitializer: tf.initializers.constant({ value: 0.1 }),
        kernelRegularizer: ${l2 === 0 ? 'null' : `tf.regularizers.l2({ l2: ${l2} })`} });
      const input = tf.input({ shape: [20] });
      const output = tf.layers.dense({ units: 4, kernelInitializer: 'ones' }).apply(shared.apply(shared.apply(input)));
      return tf.model({ inputs: input, outputs: output }); };`;
    const plain = await (await withModel(body(0))).gradient(1, 0);
    const engine = await withModel(body(0.5));
    const penalized = await engine.gradient(1, 0);
    // 0.5 x 400 x 0.01 = 2; its gradient is 2 x 0.5 x 0.1 on the kernel
    assert.ok(Math.abs(penalized.loss - plain.loss - 2) < 1e-5, `${penalized.loss - plain.loss}`);
    assertClose(
      penalized.gradient.subarray(0, 400),
      plain.gradient.subarray(0, 400).map((value) => value + 0.1),
      1e-5,
    );
    // The test loss has none.
    engine.keepForEvaluation(1);
    const { lossSum, examples } = await engine.evaluateChunk(1, 0);
    assert.ok(lossSum / examples < penalized.loss - 1);
  });

  it('computes no gradient of frozen layers', async () => {
    const engine = await withModel(`export const model = (tf: any) => tf.sequential({ layers: [
      tf.layers.dense({ units: 8, inputShape: [20], trainable: false }), tf.layers.dense({ units: 4 })] });`);
    assert.equal((await engine.gradient(1, 0)).gradient.length, 36);
  });

  it('gives zeros to a parameter that the loss does not reach', async () => {
    const engine = await withModel(`export const model = (tf: any) => tf.sequential({ layers: [
      tf.layers.dense({ units: 4, inputShape: [20] }), tf.layers.dense({ units: 4, kernelInitializer: 'ones' })] });
      export const loss = (tf: any, labels: any, outputs: any) => tf.sum(outputs).mul(0);`);
    assert.ok((await engine.gradient(1, 0)).gradient.every((value) => value === 0));
  });

  it('uses cross-entropy on probabilities after a softmax, and says so', async () => {
    const body = (last: string): string => `export const model = (tf: any) => tf.sequential({ layers: [
      tf.layers.dense({ units: 4, inputShape: [20], ${last} })] });`;
    const logits = await (await withModel(body(''))).gradient(1, 0);
    const engine = await withModel(body("activation: 'softmax'"));
    const probabilities = await engine.gradient(1, 0);
    assert.ok(Math.abs(logits.loss - probabilities.loss) < 1e-5);
    assertClose(probabilities.gradient, logits.gradient, 1e-4);
    assert.match(engine.description.notes.join(), /ends in softmax: the loss is cross-entropy on its probabilities/);
  });

  it("uses the user's loss, and counts no answers where labels are no classes", async () => {
    const csv = folder.write(
      'line.csv',
      ['x,y', ...Array.from({ length: 32 }, (_, i) => `${i / 32},${(2 * i) / 32 + 1}`)].join('\n'),
    );
    const source = { csv: { train: csv, test: csv, label: -1, header: true, labels: 'numbers' as const } };
    const engine = await withModel(
      `export const model = (tf: any) => tf.sequential({ layers: [tf.layers.dense({ units: 1, inputShape: [1] })] });
       export const loss = (tf: any, labels: any, outputs: any) => tf.losses.meanSquaredError(labels, outputs);`,
      { data: { source, batchSize: 32, order: 'sequential' } },
    );
    engine.setWeights(Float32Array.of(2, 1), new Float32Array(0));
    assert.equal((await engine.gradient(1, 0)).loss, 0);
    engine.setWeights(Float32Array.of(2, 3), new Float32Array(0));
    const { loss, gradient } = await engine.gradient(1, 0);
    assert.equal(loss, 4);
    // d/db mean((2)^2) = 4
    assert.ok(Math.abs((gradient[1] as number) - 4) < TOLERANCE);
    engine.keepForEvaluation(1);
    assert.deepEqual(await engine.evaluateChunk(1, 0), { correct: null, lossSum: 128, examples: 32 });
  });

  it('feeds several inputs by name, and several outputs to the loss', async () => {
    const source = folder.write(
      'pairs.ts',
      `const column = (n: number, v: number) => ({ data: new Float32Array(n).fill(v), shape: [n, 1] });
       export const train = { size: 4, batch: (i: Int32Array) => ({
         inputs: { right: column(i.length, 3), left: column(i.length, 2) },
         labels: { a: column(i.length, 0), b: column(i.length, 1) } }) };`,
    );
    const engine = await withModel(
      `export const model = (tf: any) => {
         const left = tf.input({ shape: [1], name: 'left' }), right = tf.input({ shape: [1], name: 'right' });
         const ones = { units: 1, kernelInitializer: 'ones' };
         return tf.model({ inputs: [left, right], outputs: [
           tf.layers.dense({ ...ones, name: 'double' }).apply(left), tf.layers.dense(ones).apply(right)] }); };
       export const loss = (tf: any, labels: any, outputs: any) =>
         tf.mean(outputs.double.mul(100).add(outputs.dense_1).add(labels.b.mul(1000)).add(labels.a));`,
      { data: { source, batchSize: 4, order: 'sequential' } },
    );
    assert.equal((await engine.gradient(1, 0)).loss, 1203);
  });

  it('stops at a loss that is not finite, with the step and the slice', async () => {
    const engine = await create(engineConfig());
    engine.setWeights(new Float32Array(404).fill(NaN), new Float32Array(0));
    await assert.rejects(engine.gradient(7, 0), (error: unknown) => {
      assert.ok(error instanceof WhittleError);
      assert.equal(error.code, 'NOT_FINITE');
      assert.match(error.message, /the loss of step 7, slice 0 is NaN: lower training\.optimizer\.learningRate/);
      return true;
    });
  });

  const dense = (units: number, inputs: number): string =>
    `export const model = (tf: any) => tf.sequential({ layers: [tf.layers.dense({ units: ${units}, inputShape: [${inputs}] })] });`;
  for (const [name, body, code, said] of [
    [
      'another input shape',
      dense(4, 21),
      'DATA',
      /takes inputs of shape \[21\], the examples of .*golden-data\.ts have shape \[20\]/,
    ],
    [
      'too few outputs',
      dense(3, 20),
      'DATA',
      /label 3 is out of range: .* has 4 classes, the model of .* has 3 outputs/,
    ],
    ['one output', dense(1, 20), 'MODEL', /has 1 output unit: give it one a class/],
    [
      'an output of other rank',
      `export const model = (tf: any) => tf.sequential({ layers: [tf.layers.reshape({ targetShape: [5, 4], inputShape: [20] }), tf.layers.dense({ units: 4 })] });`,
      'MODEL',
      /needs one output of shape \[classes\], .* has \[5, 4\]/,
    ],
    [
      'nothing to train',
      `export const model = (tf: any) => tf.sequential({ layers: [tf.layers.activation({ activation: 'relu', inputShape: [20] })] });`,
      'MODEL',
      /no trainable weights/,
    ],
  ] as const) {
    it(`refuses a model with ${name}`, async () => {
      await assert.rejects(withModel(body), (error: unknown) => {
        assert.ok(error instanceof WhittleError);
        assert.equal(error.code, code);
        assert.match(error.message, said);
        return true;
      });
    });
  }

  it("shows an error in the user's loss, and a loss that is no scalar", async () => {
    tapeFails();
    const failing = await withModel(`${dense(4, 20)}\nexport function loss() {\n  throw new Error('no loss'); }`);
    await assert.rejects(
      failing.gradient(1, 0),
      /\[MODEL\] loss\(tf, labels, outputs\) failed: Error: no loss \(.*\.ts:3:\d+\)/,
    );
    const wide = await withModel(
      `${dense(4, 20)}\nexport const loss = (tf: any, labels: any, outputs: any) => outputs;`,
    );
    await assert.rejects(wide.gradient(1, 0), /returns a tensor of shape \[32, 4\]: it must return a scalar/);
  });

  it('refuses a label that is out of range when it meets it', async () => {
    tapeFails();
    const source = folder.write(
      'labels.ts',
      `export const train = { size: 4, batch: (i: Int32Array) => ({
         inputs: { data: new Float32Array(20 * i.length), shape: [i.length, 20] },
         labels: { data: Int32Array.from(i, (each) => each + 1), shape: [i.length] } }) };`,
    );
    const engine = await create(engineConfig({ data: { source, batchSize: 4, order: 'sequential' } }));
    await assert.rejects(engine.gradient(1, 0), /\[DATA\] label 4 is out of range: the model has 4 outputs/);
  });
});
