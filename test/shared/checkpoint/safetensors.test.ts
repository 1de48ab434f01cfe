import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SafetensorsFile, writeSafetensors } from '../../../shared/checkpoint/safetensors.ts';
import { useFolder } from './fixtures.ts';

describe('safetensors', () => {
  const folder = useFolder();

  /** A file with this header and body. */
  function craft(header: unknown, bodyBytes: number): string {
    const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    const path = join(folder(), 'crafted.safetensors');
    writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(bodyBytes)]));
    return path;
  }
  const f32 = (begin: number, end: number, shape: unknown = [(end - begin) / 4]): unknown => ({
    dtype: 'F32',
    shape,
    data_offsets: [begin, end],
  });

  it('writes the documented bytes and returns their size and sha256', async () => {
    const path = join(folder(), 'a.safetensors');
    const written = await writeSafetensors(
      path,
      [
        { name: 'w', dtype: 'F32', shape: [2] },
        { name: 'b', dtype: 'U8', shape: [3] },
      ],
      { k: 'v' },
      [new Uint8Array(Float32Array.of(1, -2).buffer), Uint8Array.of(7, 8, 9)],
    );
    const bytes = readFileSync(path);
    const header =
      '{"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
    assert.equal(bytes.readBigUInt64LE(0), BigInt(padded.length));
    assert.equal(bytes.toString('utf8', 8, 8 + padded.length), padded);
    // 1 = 0x3f800000, -2 = 0xc0000000
    assert.equal(bytes.subarray(8 + padded.length).toString('hex'), '0000803f000000c0070809');
    assert.deepEqual(written, { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
  });

  it('reads back parts of tensors', async () => {
    const path = craft({ a: f32(0, 8), b: f32(8, 20) }, 20);
    const bytes = readFileSync(path);
    writeFileSync(path, bytes.fill(5, bytes.length - 4));
    const file = await SafetensorsFile.open(path);
    const last = new Uint8Array(4);
    await file.read(file.tensor('b', 'F32'), 8, last);
    assert.deepEqual([...last], [5, 5, 5, 5]);
    await assert.rejects(file.read(file.tensor('b', 'F32'), 12, last), /read beyond the end of b/);
    assert.throws(() => file.tensor('a', 'U8'), /no tensor a of type U8/);
    await file.close();
  });

  const refused: [string, () => string, RegExp][] = [
    ['an empty file', () => craftRaw(Buffer.alloc(0)), /too few/],
    [
      'a header of 2^63 bytes',
      () => craftRaw(Buffer.from('ffffffffffffff7f', 'hex')),
      /announces a header of 9223372036854775807 bytes/,
    ],
    ['a header longer than the file', () => craftRaw(Buffer.from('ff00000000000000', 'hex')), /truncated/],
    ['a header that is not JSON', () => craft('{"a"', 0), /not JSON/],
    ['a header that is a list', () => craft([], 0), /not an object/],
    ['an unknown dtype', () => craft({ a: { dtype: 'Q9', shape: [1], data_offsets: [0, 1] } }, 1), /unknown type Q9/],
    [
      'an inherited name as dtype',
      () => craft({ a: { dtype: 'toString', shape: [1], data_offsets: [0, 1] } }, 1),
      /unknown type/,
    ],
    ['negative shapes', () => craft({ a: f32(0, 4, [-1, -1]) }, 4), /wrong shape/],
    ['a shape that does not fit its bytes', () => craft({ a: f32(0, 8, [3]) }, 8), /shape \[3\] lies at bytes 0 to 8/],
    ['overlapping tensors', () => craft({ a: f32(0, 8), b: f32(4, 12) }, 12), /overlaps/],
    ['a hole', () => craft({ a: f32(0, 4), b: f32(8, 12) }, 12), /hole/],
    ['a truncated body', () => craft({ a: f32(0, 8) }, 7), /header says/],
    ['bytes behind the body', () => craft({ a: f32(0, 8) }, 9), /header says/],
  ];
  function craftRaw(bytes: Buffer): string {
    const path = join(folder(), 'raw.safetensors');
    writeFileSync(path, bytes);
    return path;
  }
  for (const [what, make, message] of refused) {
    it(`refuses ${what}`, async () => {
      await assert.rejects(
        SafetensorsFile.open(make()),
        (error: Error & { code?: string }) => error.code === 'CHECKPOINT' && message.test(error.message),
      );
    });
  }
});
