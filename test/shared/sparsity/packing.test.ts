import assert from 'node:assert/strict';
import fc from 'fast-check';
import { emptyBitmap, fullBitmap, setBit } from '../../../shared/sparsity/bitmap.ts';
import { compact, repack } from '../../../shared/sparsity/mask-rule.ts';
import { pack, unpack } from '../../../shared/sparsity/packing.ts';

const elements = fc.array(
  fc.record({ value: fc.float({ noNaN: true }), stored: fc.boolean(), survives: fc.boolean() }),
  { maxLength: 200 },
);

function bitmapOf(flags: readonly boolean[]): Uint8Array {
  const bits = emptyBitmap(flags.length);
  flags.forEach((flag, i) => flag && setBit(bits, i));
  return bits;
}

describe('packed values', () => {
  it('hold the set in flat order, and come back with +0 elsewhere', () => {
    fc.assert(
      fc.property(elements, (list) => {
        const bits = bitmapOf(list.map(({ stored }) => stored));
        const packed = pack(
          Float32Array.from(list, ({ value }) => value),
          bits,
        );
        assert.deepEqual(
          packed,
          Float32Array.from(
            list.filter(({ stored }) => stored),
            ({ value }) => value,
          ),
        );
        const dense = Float32Array.from(list, ({ stored, value }) => (stored ? value : 0));
        assert.deepEqual(unpack(packed, bits, list.length), dense);
        const used = new Float32Array(list.length).fill(7);
        assert.equal(unpack(packed, bits, list.length, used), used);
        assert.deepEqual(used, dense);
      }),
    );
  });

  it('compact to a subset like packing the dense values anew', () => {
    fc.assert(
      fc.property(elements, (list) => {
        const values = Float32Array.from(list, ({ value }) => value);
        const before = bitmapOf(list.map(({ stored }) => stored));
        const after = bitmapOf(list.map(({ stored, survives }) => stored && survives));
        assert.deepEqual(compact(pack(values, before), before, after), pack(values, after));
      }),
    );
  });

  it('repack to any other set like packing the dense values anew, with fresh values where they enter it', () => {
    fc.assert(
      fc.property(elements, fc.constantFrom(0, 0.5), (list, fresh) => {
        const before = bitmapOf(list.map(({ stored }) => stored));
        const after = bitmapOf(list.map(({ survives }) => survives));
        const values = Float32Array.from(list, ({ value }) => value);
        const expected = Float32Array.from(list, ({ value, stored }) => (stored ? value : fresh));
        assert.deepEqual(repack(pack(values, before), before, after, fresh), pack(expected, after));
      }),
    );
  });

  it('refuses to revive an element, and values that do not fit the set', () => {
    const one = bitmapOf([true, false]);
    assert.throws(() => compact(new Float32Array(1), one, fullBitmap(2)), { code: 'INTERNAL' });
    assert.throws(() => compact(new Float32Array(2), one, one), { code: 'INTERNAL' });
    assert.throws(() => unpack(new Float32Array(2), one, 2), { code: 'INTERNAL' });
    assert.throws(() => repack(new Float32Array(1), one, new Uint8Array(2)), { code: 'INTERNAL' });
    assert.throws(() => repack(new Float32Array(2), one, one), { code: 'INTERNAL' });
  });
});
