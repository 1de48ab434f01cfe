import assert from 'node:assert/strict';
import type { ParameterSpec } from '../../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';

const spec = (name: string, shape: readonly number[]): ParameterSpec => ({
  name,
  shape,
  layerKind: 'Dense',
  prunable: true,
});

describe('ParameterSpace', () => {
  const space = ParameterSpace.of([
    spec('a/kernel', [3, 4]),
    spec('a/bias', [4]),
    spec('scale', []),
    spec('b/kernel', [4, 2]),
  ]);

  it('lays parameters end to end in model order', () => {
    assert.deepEqual(
      space.parameters.map(({ name, offset, size }) => [name, offset, size]),
      [
        ['a/kernel', 0, 12],
        ['a/bias', 12, 4],
        ['scale', 16, 1],
        ['b/kernel', 17, 8],
      ],
    );
    assert.equal(space.size, 25);
  });

  it('finds parameters by name and by flat index', () => {
    assert.equal(space.byName('a/bias')?.offset, 12);
    assert.equal(space.byName('bias'), undefined);
    assert.deepEqual(
      [0, 11, 12, 16, 17, 24].map((i) => space.at(i)?.name),
      ['a/kernel', 'a/kernel', 'a/bias', 'scale', 'b/kernel', 'b/kernel'],
    );
    assert.equal(space.at(25), undefined);
  });

  it('gives the parts of a range by parameter', () => {
    const parts = space.overlapping(10, 18).map(({ parameter, start, end }) => [parameter.name, start, end]);
    assert.deepEqual(parts, [
      ['a/kernel', 10, 12],
      ['a/bias', 12, 16],
      ['scale', 16, 17],
      ['b/kernel', 17, 18],
    ]);
    assert.deepEqual(space.overlapping(12, 12), []);
  });

  it('refuses a name that occurs twice and a shape that is not fixed', () => {
    assert.throws(() => ParameterSpace.of([spec('a', [1]), spec('a', [2])]), { code: 'MODEL', message: /"a"/ });
    assert.throws(() => ParameterSpace.of([spec('a', [-1, 2])]), { code: 'MODEL' });
  });
});
