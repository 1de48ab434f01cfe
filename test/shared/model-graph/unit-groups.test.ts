import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { elementsOfUnit, unitGroupsOf, type UnitGroup } from '../../../shared/model-graph/unit-groups.ts';
import { variablesOf } from '../../../worker/model/describe-model.ts';
import { createRandom, STREAMS } from '../../../shared/kernels/random.ts';
import { descriptionOf, MODELS } from './models.ts';

/** `parameter@axis(role): positions of unit 0 | of unit 1 ...` */
function shown({ members }: UnitGroup): string[] {
  return members.map(
    ({ parameter, axis, role, positions }) =>
      `${parameter}@${axis} ${role}: ${positions.map((each) => each.join(',')).join(' | ')}`,
  );
}

function groupsOf(model: LayersModel): UnitGroup[] {
  return [...unitGroupsOf(descriptionOf(model)).groups];
}

describe('unit groups', () => {
  before(() => tf.setBackend('cpu'));

  it('dense: kernel column, bias, and the next kernel row; never the outputs', () => {
    const { groups, refused } = unitGroupsOf(descriptionOf(MODELS.dense()));
    assert.deepEqual(groups.map(shown), [
      [
        'dense_1/kernel@1 kernel: 0 | 1 | 2 | 3',
        'dense_1/bias@0 bias: 0 | 1 | 2 | 3',
        'dense_2/kernel@0 consumer: 0 | 1 | 2 | 3',
      ],
      ['dense_2/kernel@1 kernel: 0 | 1 | 2', 'dense_2/bias@0 bias: 0 | 1 | 2', 'dense_3/kernel@0 consumer: 0 | 1 | 2'],
    ]);
    assert.deepEqual([...refused], [['dense_3/kernel', { isOutput: true, why: 'they are outputs of the model' }]]);
  });

  it('convolution: batch normalisation and its averages go along, flatten makes several rows', () => {
    const [first, second] = groupsOf(MODELS.convolution());
    assert.deepEqual(shown(first!), [
      'conv2d_1/kernel@3 kernel: 0 | 1 | 2 | 3',
      'conv2d_1/bias@0 bias: 0 | 1 | 2 | 3',
      'batch_normalization_1/gamma@0 gamma: 0 | 1 | 2 | 3',
      'batch_normalization_1/beta@0 beta: 0 | 1 | 2 | 3',
      'batch_normalization_1/moving_mean@0 state: 0 | 1 | 2 | 3',
      'batch_normalization_1/moving_variance@0 state: 0 | 1 | 2 | 3',
      'conv2d_2/kernel@2 consumer: 0 | 1 | 2 | 3',
    ]);
    assert.deepEqual(shown(second!), [
      'conv2d_2/kernel@3 kernel: 0 | 1 | 2',
      'conv2d_2/bias@0 bias: 0 | 1 | 2',
      'dense_1/kernel@0 consumer: 0,3,6,9 | 1,4,7,10 | 2,5,8,11',
    ]);
  });

  it('depthwise: each filter has its slices, and those of every channel that is made of it', () => {
    const [first, second] = groupsOf(MODELS.depthwise());
    assert.deepEqual(shown(first!), [
      'conv2d_1/kernel@3 kernel: 0 | 1 | 2',
      'conv2d_1/bias@0 bias: 0 | 1 | 2',
      'depthwise_conv2d_1/depthwise_kernel@2 depthwise: 0 | 1 | 2',
      'depthwise_conv2d_1/bias@0 bias: 0,1 | 2,3 | 4,5',
      'batch_normalization_1/gamma@0 gamma: 0,1 | 2,3 | 4,5',
      'batch_normalization_1/beta@0 beta: 0,1 | 2,3 | 4,5',
      'batch_normalization_1/moving_mean@0 state: 0,1 | 2,3 | 4,5',
      'batch_normalization_1/moving_variance@0 state: 0,1 | 2,3 | 4,5',
      'separable_conv2d_1/depthwise_kernel@2 depthwise: 0,1 | 2,3 | 4,5',
      'separable_conv2d_1/pointwise_kernel@2 consumer: 0,1,2,3 | 4,5,6,7 | 8,9,10,11',
    ]);
    assert.deepEqual(second!.producers, ['separable_conv2d_1/pointwise_kernel']);
  });

  it('what is added is one unit of both kernels; what is concatenated keeps its own', () => {
    const [sum, other] = groupsOf(MODELS.residual());
    assert.deepEqual(sum!.producers, ['conv2d_1/kernel', 'branch/kernel']);
    assert.equal(sum!.units, 3);
    assert.deepEqual(other!.producers, ['conv2d_2/kernel']);
    const rows = (group: UnitGroup): unknown =>
      group.members.find(({ parameter }) => parameter === 'dense_1/kernel')?.positions.map((each) => each.slice(0, 2));
    // 7 channels side by side at each of 9 places: the sum's 3, then the other 4.
    assert.deepEqual(rows(sum!), [
      [0, 7],
      [1, 8],
      [2, 9],
    ]);
    assert.deepEqual(rows(other!), [
      [3, 10],
      [4, 11],
      [5, 12],
      [6, 13],
    ]);
  });

  it('nested models are entered, reshapes that keep channels are passed', () => {
    assert.deepEqual(
      groupsOf(MODELS.nested()).map(({ producers, units }) => [producers[0], units]),
      [
        ['dense_1/kernel', 5],
        ['dense_2/kernel', 4],
        ['dense_3/kernel', 3],
        ['dense_4/kernel', 4],
      ],
    );
    const [first] = groupsOf(MODELS.sequence());
    assert.deepEqual(shown(first!), [
      'conv1d_1/kernel@2 kernel: 0 | 1 | 2 | 3',
      'conv1d_1/bias@0 bias: 0 | 1 | 2 | 3',
      'p_re_lu_1/alpha@1 alpha: 0 | 1 | 2 | 3',
      'dense_1/kernel@0 consumer: 0 | 1 | 2 | 3',
    ]);
  });

  it('shared and custom layers, and what mixes units, are refused by name', () => {
    const { groups, refused } = unitGroupsOf(descriptionOf(MODELS.odd()));
    assert.deepEqual(
      groups.map(({ producers }) => producers),
      [['free/kernel']],
    );
    assert.match(refused.get('dense_1/kernel')!.why, /layer twin \(Dense\) is shared: the model uses it 2 times/);
    assert.match(refused.get('twin/kernel')!.why, /layer twin \(Dense\) is shared/);
    assert.match(refused.get('before/kernel')!.why, /layer doubled \(Twice\) is not one whose couplings are known/);
    assert.match(refused.get('mixed/kernel')!.why, /softmax of layer mixed/);
    assert.equal(refused.get('dense_2/kernel')!.isOutput, true);
  });

  for (const [name, build] of Object.entries(MODELS)) {
    it(`${name}: a unit's slices change nothing once its consumers are 0, and each consumer counts`, () => {
      const model = build();
      const random = createRandom(STREAMS.slice, 1, 2, 3);
      const description = descriptionOf(model);
      const space = ParameterSpace.of(description.parameters);
      const { parameters } = variablesOf(model);
      const weights = Float32Array.from({ length: space.size }, () => random.float() - 0.3);
      const input = tf.randomNormal([4, ...model.inputs[0]!.shape.slice(1).map(Number)], 0, 1, 'float32', 7);
      const outputs = (values: Float32Array): Float32Array => {
        for (const [k, { offset, size, shape }] of space.parameters.entries())
          parameters[k]!.write(tf.tensor(values.slice(offset, offset + size), [...shape]));
        return (model.predict(input) as tf.Tensor).dataSync<'float32'>().slice();
      };
      for (const group of unitGroupsOf(description).groups) {
        const consumers = elementsOfUnit(space, group, 1, ['consumer']);
        const own = elementsOfUnit(space, group, 1, ['kernel', 'bias', 'gamma', 'beta', 'depthwise', 'alpha']);
        const all = elementsOfUnit(space, group, 1);
        assert.deepEqual(
          all,
          [...new Set([...consumers, ...own])].sort((a, b) => a - b),
        );
        const cut = weights.slice();
        for (const element of consumers) cut[element] = 0;
        const changed = cut.slice();
        for (const element of own) if (!consumers.includes(element)) changed[element]! += 1;
        assert.deepEqual(outputs(changed), outputs(cut), group.producers.join());
        // Each element of the kernel slice matters while the consumers are there.
        const before = outputs(weights);
        for (const element of [own[0]!, consumers[0]!]) {
          const other = weights.slice();
          other[element]! += 3;
          assert.notDeepEqual(outputs(other), before, `${group.producers.join()} element ${element}`);
        }
      }
    });
  }
});
