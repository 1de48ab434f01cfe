import assert from 'node:assert/strict';
import fc from 'fast-check';
import { sliceIndices, sliceSizes, type StreamOptions } from '../../../shared/layout/slices.ts';

const options = fc.record({
  batchSize: fc.integer({ min: 1, max: 40 }),
  slices: fc.integer({ min: 1, max: 9 }),
  examples: fc.integer({ min: 1, max: 60 }),
  order: fc.constantFrom<StreamOptions['order']>('shuffled', 'sequential'),
  seed: fc.integer({ min: 0, max: 2 ** 31 - 1 }),
});

function batch(step: number, stream: StreamOptions): number[] {
  return Array.from({ length: stream.slices }, (_, slice) => [...sliceIndices(step, slice, stream)]).flat();
}

describe('slices', () => {
  it('uses every example exactly once an epoch', () => {
    fc.assert(
      fc.property(options, (stream) => {
        const steps = Math.ceil((3 * stream.examples) / stream.batchSize);
        const positions = Array.from({ length: steps }, (_, i) => batch(i + 1, stream)).flat();
        for (let epoch = 0; epoch < 3; epoch++) {
          const used = positions.slice(epoch * stream.examples, (epoch + 1) * stream.examples).sort((a, b) => a - b);
          assert.deepEqual(
            used,
            Array.from({ length: stream.examples }, (_, i) => i),
          );
        }
      }),
    );
  });

  it('puts slices end to end to the same batch, however many there are', () => {
    fc.assert(
      fc.property(options, fc.integer({ min: 1, max: 50 }), (stream, step) => {
        const whole = batch(step, { ...stream, slices: 1 });
        assert.equal(whole.length, stream.batchSize);
        assert.deepEqual(batch(step, stream), whole);
        assert.deepEqual(
          sliceSizes(stream.batchSize, stream.slices),
          Array.from({ length: stream.slices }, (_, slice) => sliceIndices(step, slice, stream).length),
        );
      }),
    );
  });

  it('goes over the data in order, step by step, when sequential', () => {
    const stream = { batchSize: 4, slices: 2, examples: 6, order: 'sequential', seed: 1 } as const;
    assert.deepEqual(batch(1, stream), [0, 1, 2, 3]);
    assert.deepEqual(batch(2, stream), [4, 5, 0, 1]);
    assert.deepEqual([...sliceIndices(2, 1, stream)], [0, 1]);
  });

  it('shuffles each epoch anew, and by the seed', () => {
    const stream = { batchSize: 100, slices: 1, examples: 100, order: 'shuffled', seed: 1 } as const;
    assert.notDeepEqual(batch(1, stream), batch(2, stream));
    assert.notDeepEqual(batch(1, stream), batch(1, { ...stream, seed: 2 }));
    assert.deepEqual(batch(1, stream), batch(1, stream));
  });

  it('cuts a batch that slices do not divide', () => {
    // floor(i * 10 / 4): 0, 2, 5, 7, 10.
    assert.deepEqual(sliceSizes(10, 4), [2, 3, 2, 3]);
  });

  it('refuses an unknown slice and empty data', () => {
    const stream = { batchSize: 4, slices: 2, examples: 6, order: 'sequential', seed: 1 } as const;
    assert.throws(() => sliceIndices(1, 2, stream), { code: 'PROTOCOL' });
    assert.throws(() => sliceIndices(1, 0, { ...stream, examples: 0 }), { code: 'DATA' });
  });
});
