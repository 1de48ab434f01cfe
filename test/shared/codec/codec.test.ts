import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { bytesFor, decode, encode, roundingKey, scaleOf } from '../../../shared/codec/codec.ts';
import type { WireFormat } from '../../../shared/config/types.ts';

interface Golden {
  readonly values: (number | string)[];
  readonly float16Bits: number[];
  readonly bfloat16Bits: number[];
}
const golden = JSON.parse(readFileSync(new URL('../../golden/formats.json', import.meta.url), 'utf8')) as Golden;
const goldenValues = Float32Array.from(golden.values, (value) =>
  value === 'inf' ? Infinity : value === '-inf' ? -Infinity : Number(value),
);

const FORMATS: readonly WireFormat[] = ['float32', 'bfloat16', 'float16', 'int8'];
const halves = (bytes: Uint8Array): number[] => Array.from(new Uint16Array(bytes.slice().buffer));
const finite = fc
  .array(fc.float({ noNaN: true, min: -1000, max: 1000 }), { maxLength: 60 })
  .map((list) => Float32Array.from(list));

describe('codec', () => {
  it('float16: golden bits', () => assert.deepEqual(halves(encode('float16', goldenValues)), golden.float16Bits));
  it('bfloat16: golden bits', () => assert.deepEqual(halves(encode('bfloat16', goldenValues)), golden.bfloat16Bits));

  it('float16 and bfloat16: every bit pattern comes back', () => {
    const all = Uint8Array.from(new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
    for (const format of ['float16', 'bfloat16'] as const) {
      const values = decode(format, all, 65536);
      const again = halves(encode(format, values));
      again.forEach((bits, i) => assert.ok(bits === i || Number.isNaN(values[i]), `${format} ${i} became ${bits}`));
    }
    const [one, tiny, largest, infinity] = decode(
      'float16',
      new Uint8Array(Uint16Array.of(0x3c00, 1, 0x7bff, 0xfc00).buffer),
      4,
    );
    assert.deepEqual([one, tiny, largest, infinity], [1, 2 ** -24, 65504, -Infinity]);
  });

  it('float16 and bfloat16: round to nearest, ties to even', () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, noDefaultInfinity: true, min: -65504, max: 65504 }), (value) => {
        for (const [format, precision, smallest] of [
          ['float16', 10, -14],
          ['bfloat16', 7, -126],
        ] as const) {
          // prettier-ignore
          const exponent = Math.max(smallest, value === 0 ? smallest : Math.floor(Math.log2(Math.abs(value))));
          const unit = 2 ** (exponent - precision);
          const below = Math.floor(Math.abs(value) / unit);
          const rest = Math.abs(value) / unit - below;
          const rounded = rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
          const [decoded] = decode(format, encode(format, Float32Array.of(value)), 1);
          assert.equal(Math.abs(decoded as number), rounded * unit, `${format} of ${value}`);
        }
      }),
    );
  });

  it('keeps NaN', () => {
    for (const format of FORMATS) {
      const values = decode(format, encode(format, Float32Array.of(NaN, 1)), 2);
      assert.ok(Number.isNaN(values[0]), format);
    }
    assert.ok(decode('int8', encode('int8', Float32Array.of(Infinity, 1)), 2).every(Number.isNaN));
  });

  it('int8: off by half a step at most, 0 stays 0, the largest stays largest', () => {
    fc.assert(
      fc.property(finite, (values) => {
        const decoded = decode('int8', encode('int8', values), values.length);
        const scale = scaleOf(values);
        values.forEach((value, i) => {
          assert.ok(
            Math.abs(value - (decoded[i] as number)) <= scale * 0.5001 + 1e-43, // scales below 1e-38 have few bits
            `${value} became ${decoded[i]}`,
          );
          if (value === 0) assert.equal(decoded[i], 0);
        });
      }),
    );
    assert.deepEqual([...decode('int8', encode('int8', Float32Array.of(254, -254, 3, 1)), 4)], [254, -254, 4, 0]);
    assert.deepEqual([...encode('int8', new Float32Array(3))], [0, 0, 0, 0, 0, 0, 0]);
  });

  it('int8: parts given one scale are the whole, cut', () => {
    const values = Float32Array.of(1, -2, 3, 100);
    const whole = encode('int8', values);
    const part = encode('int8', values.slice(0, 2), { scale: scaleOf(values) });
    assert.deepEqual(part.slice(4), whole.slice(4, 6));
    assert.deepEqual(part.slice(0, 4), whole.slice(0, 4));
  });

  it('counts bytes, and refuses a wrong number', () => {
    assert.deepEqual(
      FORMATS.map((format) => bytesFor(format, 10)),
      [40, 20, 20, 14],
    );
    for (const format of FORMATS) {
      assert.equal(encode(format, new Float32Array(10)).length, bytesFor(format, 10));
      assert.throws(() => decode(format, new Uint8Array(bytesFor(format, 10)), 9), { code: 'PROTOCOL' });
    }
  });

  it('reads bytes at any address', () => {
    const values = Float32Array.of(1.5, -2, 0.25);
    for (const format of FORMATS) {
      const bytes = encode(format, values);
      const expected = [...decode(format, bytes, 3)];
      for (let shift = 0; shift < 4; shift++) {
        const moved = new Uint8Array(bytes.length + shift).subarray(shift);
        moved.set(bytes);
        assert.deepEqual([...decode(format, moved, 3)], expected, `${format} at ${shift}`);
      }
    }
  });

  it('float32: shares memory where it can', () => {
    const values = Float32Array.of(1, 2, 3).subarray(1);
    const bytes = encode('float32', values);
    assert.equal(bytes.buffer, values.buffer);
    assert.equal(decode('float32', bytes, 2).buffer, values.buffer);
  });

  describe('stochastic rounding', () => {
    const key = roundingKey(1, 2, 3);

    it('gives a neighbour, and the right one on average', () => {
      const n = 20_000;
      for (const [format, value, below, above] of [
        ['bfloat16', 1 + 2 ** -9, 1, 1 + 2 ** -7],
        ['float16', -(1 + 2 ** -12), -1, -(1 + 2 ** -10)],
        ['float16', 2 ** -26, 0, 2 ** -24],
      ] as const) {
        const values = new Float32Array(n).fill(value);
        const decoded = decode(format, encode(format, values, { rounding: { key, first: 0 } }), n);
        const ups = decoded.filter((x) => x === above).length;
        assert.equal(ups + decoded.filter((x) => x === below).length, n, format);
        // A quarter; the standard deviation of the share is sqrt(3/16/n) = 0.003.
        assert.ok(Math.abs(ups / n - 0.25) < 0.02, `${format}: ${ups / n}`);
      }
      const values = new Float32Array(n).fill(1.25);
      values[0] = 127;
      const decoded = decode('int8', encode('int8', values, { rounding: { key, first: 0 } }), n);
      assert.ok(Math.abs(decoded.slice(1).filter((x) => x === 2).length / n - 0.25) < 0.02);
      assert.equal(decoded[0], 127);
    });

    it('keeps what is representable, signs, infinities and the largest finite numbers', () => {
      const exact = Float32Array.of(0, -0, 1, -2, 0.5, 2 ** -24, -65504, Infinity, -Infinity);
      const decoded = decode('float16', encode('float16', exact, { rounding: { key, first: 0 } }), exact.length);
      assert.deepEqual(decoded, exact);
      const large = new Float32Array(1000).fill(3.4e38);
      assert.ok(
        decode('bfloat16', encode('bfloat16', large, { rounding: { key, first: 0 } }), 1000).every(Number.isFinite),
      );
      const half = new Float32Array(1000).fill(65510);
      assert.ok(
        decode('float16', encode('float16', half, { rounding: { key, first: 0 } }), 1000).every(Number.isFinite),
      );
    });

    it('draws by position, so that shards do not change bits', () => {
      fc.assert(
        fc.property(finite, fc.nat(), fc.constantFrom(...FORMATS), (values, pick, format) => {
          const cut = pick % (values.length + 1);
          const scale = scaleOf(values);
          const part = (start: number, end: number): number[] => {
            const bytes = encode(format, values.slice(start, end), { rounding: { key, first: 1000 + start }, scale });
            return [...decode(format, bytes, end - start)];
          };
          assert.deepEqual([...part(0, cut), ...part(cut, values.length)], part(0, values.length));
        }),
      );
    });

    it('draws anew for every seed, step and slice', () => {
      const keys = [
        roundingKey(1, 2, 3),
        roundingKey(2, 2, 3),
        roundingKey(1, 3, 3),
        roundingKey(1, 2, 4),
        roundingKey(1, 3, 2),
      ];
      assert.equal(new Set(keys).size, 5);
    });
  });
});
