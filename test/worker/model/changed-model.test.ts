import assert from 'node:assert/strict';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { before, describe, it } from 'mocha';
import { changedBehaviour, diffModels, USER_LOSS } from '../../../shared/checkpoint/compatibility.ts';
import { diffTopologies } from '../../../shared/checkpoint/topology-diff.ts';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { describeModel } from '../../../worker/model/describe-model.ts';

const { layers } = tf;

function describeOf(model: LayersModel, loss = 'softmax cross-entropy on logits'): ModelDescription {
  const description = describeModel(model, { trainExamples: 1, testExamples: 0, notes: [], loss });
  // As a checkpoint gives it back.
  return JSON.parse(JSON.stringify(description)) as ModelDescription;
}

interface Choices {
  readonly activation?: 'relu' | 'tanh';
  readonly rate?: number;
  readonly units?: number;
  readonly between?: 'leakyReLU' | 'elu';
  readonly initializer?: 'glorotNormal' | 'zeros';
  readonly name?: string;
  readonly isFrozen?: boolean;
}

function plain(choices: Choices = {}): LayersModel {
  const { activation = 'relu', rate = 0.25, units = 4, between = 'elu', initializer = 'glorotNormal', name } = choices;
  return tf.sequential({
    layers: [
      layers.dense({
        units,
        activation,
        inputShape: [5],
        kernelInitializer: initializer,
        kernelRegularizer: 'l1l2',
        trainable: choices.isFrozen !== true,
      }),
      layers.dropout({ rate, ...(name === undefined ? {} : { name }) }),
      layers[between]({}),
      layers.dense({ units: 3 }),
    ],
  });
}

function branched(from: 'first' | 'second'): LayersModel {
  const input = tf.input({ shape: [4] });
  const first = layers.dense({ units: 4, name: 'first' }).apply(input);
  const sides = { first: layers.elu({ name: 'elu' }).apply(first), second: layers.reLU({ name: 'relu' }).apply(first) };
  const head = layers.dense({ units: 2, name: 'head' }).apply(sides[from]);
  return tf.model({ inputs: input, outputs: [sides.first, sides.second, head] as never });
}

const nested = (activation: 'relu' | 'tanh'): LayersModel =>
  tf.sequential({
    layers: [
      tf.sequential({ layers: [layers.dense({ units: 4, activation, inputShape: [5] })], name: 'encoder' }),
      layers.dense({ units: 3 }),
    ],
  });

const wrapped = (activation: 'relu' | 'tanh'): LayersModel =>
  tf.sequential({
    layers: [layers.timeDistributed({ layer: layers.dense({ units: 4, activation }), inputShape: [3, 5] })],
  });

describe('a changed model with the same tensors', () => {
  before(() => loadBackend('wasm'));

  for (const [what, old, now, lines] of [
    ['nothing, under other automatic names', plain, plain, []],
    ['an initializer, as weights come from the checkpoint', plain, () => plain({ initializer: 'zeros' }), []],
    [
      'an initializer of frozen weights, which are built again',
      () => plain({ isFrozen: true }),
      () => plain({ isFrozen: true, initializer: 'zeros' }),
      ['layer dense_1: kernel_initializer.class_name was "VarianceScaling", is "Zeros"', /kernel_initializer/],
    ],
    [
      'an activation and a rate',
      plain,
      () => plain({ activation: 'tanh', rate: 0.5 }),
      ['layer dense_1: activation was "relu", is "tanh"', 'layer dropout_1: rate was 0.25, is 0.5'],
    ],
    [
      'a layer without weights',
      plain,
      () => plain({ between: 'leakyReLU' }),
      [/^layer elu_1 \(ELU\) is gone$/, /^layer leaky\w+_1 \(LeakyReLU\) is new$/],
    ],
    [
      'a layer of the same name and another class',
      () => tf.sequential({ layers: [layers.elu({ name: 'act', inputShape: [2] }), layers.dense({ units: 2 })] }),
      () => tf.sequential({ layers: [layers.leakyReLU({ name: 'act', inputShape: [2] }), layers.dense({ units: 2 })] }),
      ['layer act was a ELU, is a LeakyReLU'],
    ],
    [
      'the order of layers',
      () =>
        tf.sequential({
          layers: [layers.flatten({ inputShape: [2, 2] }), layers.elu(), layers.dropout({ rate: 0.5 })],
        }),
      () =>
        tf.sequential({
          layers: [layers.flatten({ inputShape: [2, 2] }), layers.dropout({ rate: 0.5 }), layers.elu()],
        }),
      ['layer dropout_1 stands where layer elu_1 stood'],
    ],
    ['the wiring', () => branched('second'), () => branched('first'), ['layer head takes other inputs']],
    [
      'a layer of a nested model',
      () => nested('relu'),
      () => nested('tanh'),
      ['layer encoder/dense_1: activation was "relu", is "tanh"'],
    ],
    [
      'a wrapped layer',
      () => wrapped('relu'),
      () => wrapped('tanh'),
      ['layer time_distributed_1: layer.activation was "relu", is "tanh"'],
    ],
  ] as const satisfies readonly (readonly [
    string,
    () => LayersModel,
    () => LayersModel,
    readonly (string | RegExp)[],
  ])[]) {
    it(`tells of ${what}`, () => {
      const [before, after] = [describeOf(old()), describeOf(now())];
      assert.deepEqual(diffModels(before, after), []);
      const found = diffTopologies(before.topology, after.topology);
      if (lines.length === 0) assert.deepEqual(found, []);
      for (const line of lines as readonly (string | RegExp)[]) {
        assert.ok(
          found.some((each) => (typeof line === 'string' ? each === line : line.test(each))),
          `${line} in ${found.join('\n')}`,
        );
      }
    });
  }

  it('is one warning that names the checkpoint, the changes and the cure', () => {
    const [before, after] = [describeOf(plain()), describeOf(plain({ activation: 'tanh' }))];
    assert.equal(changedBehaviour(before, before, 'step-7'), null);
    assert.match(
      changedBehaviour(before, after, 'step-7') ?? '',
      /^the model changed since step-7 was written.*\n {2}layer dense_1: activation was "relu", is "tanh"\nUndo the change/,
    );
  });

  it('tells of another loss, where the checkpoint has one', () => {
    const model = plain();
    const own = describeOf(model, `${USER_LOSS}1`);
    assert.match(changedBehaviour(describeOf(model), own, 'x') ?? '', /the loss was softmax .*, is the module's own\n/);
    assert.match(
      changedBehaviour(own, describeOf(model, `${USER_LOSS}2`), 'x') ?? '',
      /the code of the function `loss` changed/,
    );
    assert.equal(changedBehaviour(own, own, 'x'), null);
    const { loss: _loss, ...older } = own;
    assert.equal(changedBehaviour(older, own, 'x'), null);
  });

  it('is not looked for in a topology of another kind', () => {
    assert.deepEqual(diffTopologies({}, describeOf(plain()).topology), []);
    assert.deepEqual(diffTopologies(null, null), []);
  });
});
