import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import {
  clearBit,
  concatBits,
  countBits,
  emptyBitmap,
  fullBitmap,
  getBit,
  maskDigest,
  setBit,
  setPositions,
  sliceBits,
} from '../../../shared/sparsity/bitmap.ts';

const flags = fc.array(fc.boolean(), { maxLength: 300 });

function bitmapOf(list: readonly boolean[]): Uint8Array {
  const bits = emptyBitmap(list.length);
  list.forEach((flag, i) => flag && setBit(bits, i));
  return bits;
}

function range(list: readonly unknown[], a: number, b: number): [number, number] {
  const ends = [a % (list.length + 1), b % (list.length + 1)];
  return [Math.min(...ends), Math.max(...ends)];
}

describe('bitmap', () => {
  it('is least significant bit first', () => {
    const bits = emptyBitmap(10);
    setBit(bits, 0);
    setBit(bits, 3);
    setBit(bits, 9);
    assert.deepEqual([...bits], [0b00001001, 0b10]);
    clearBit(bits, 3);
    assert.deepEqual([...bits], [1, 2]);
    assert.deepEqual([getBit(bits, 0), getBit(bits, 3), getBit(bits, 9)], [true, false, true]);
  });

  it('keeps unused bits 0 when full', () => {
    assert.deepEqual([...fullBitmap(11)], [0xff, 0b111]);
    assert.deepEqual([...fullBitmap(16)], [0xff, 0xff]);
    assert.deepEqual([...fullBitmap(0)], []);
  });

  it('counts and lists the set bits of any range, at any address', () => {
    fc.assert(
      fc.property(flags, fc.nat(), fc.nat(), fc.integer({ min: 0, max: 7 }), (list, a, b, shift) => {
        const plain = bitmapOf(list);
        const bits = new Uint8Array(plain.length + shift).subarray(shift);
        bits.set(plain);
        const [start, end] = range(list, a, b);
        const expected = list.flatMap((flag, i) => (flag && i >= start && i < end ? [i] : []));
        assert.equal(countBits(bits, start, end), expected.length);
        assert.deepEqual([...setPositions(bits, start, end)], expected);
        assert.equal(countBits(bits), list.filter(Boolean).length);
      }),
    );
  });

  it('cuts any range out', () => {
    fc.assert(
      fc.property(flags, fc.nat(), fc.nat(), (list, a, b) => {
        const [start, end] = range(list, a, b);
        assert.deepEqual(sliceBits(bitmapOf(list), start, end), bitmapOf(list.slice(start, end)));
      }),
    );
  });

  it('joins parts of any length, whatever stands in their unused bits', () => {
    fc.assert(
      fc.property(fc.array(flags, { maxLength: 6 }), (lists) => {
        const parts = lists.map((list) => {
          const bits = bitmapOf(list);
          if (list.length % 8 !== 0)
            bits[bits.length - 1] = (bits[bits.length - 1] as number) | (0xff << (list.length % 8));
          return { bits, length: list.length };
        });
        assert.deepEqual(concatBits(parts), bitmapOf(lists.flat()));
      }),
    );
  });

  it('has one digest for any cuts', () => {
    const list = Array.from({ length: 200 }, (_, i) => i % 3 === 0);
    const expected = createHash('sha256').update(bitmapOf(list)).digest('hex');
    const cut = (at: number[]): string =>
      maskDigest(
        at.slice(1).map((end, i) => ({ bits: sliceBits(bitmapOf(list), at[i] ?? 0, end), length: end - (at[i] ?? 0) })),
      );
    assert.equal(cut([0, 200]), expected);
    assert.equal(cut([0, 64, 64, 192, 200]), expected);
  });
});
