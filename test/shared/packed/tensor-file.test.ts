import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import * as fc from 'fast-check';
import { SafetensorsFile, sizeOfShape, writeSafetensors } from '../../../shared/checkpoint/safetensors.ts';
import { gaussian, uniform } from './draws.ts';
import { countSurvivors, densify, type PackedTensor } from '../../../shared/packed/packed-tensor.ts';
import { PACKED_KEY } from '../../../shared/packed/packed-layout.ts';
import { TensorFile, writePacked } from '../../../shared/packed/tensor-file.ts';
import { countBits } from '../../../shared/sparsity/bitmap.ts';
import { bitmap, useFolder } from '../checkpoint/fixtures.ts';

const KERNEL: PackedTensor = {
  name: 'dense_1/kernel',
  shape: [2, 3],
  // Elements 1, 2, 5: bits 00100110.
  mask: Uint8Array.of(0b100110),
  values: { kind: 'float32', data: Float32Array.of(1.5, -2.5, 3.5) },
};
const QUANTIZED: PackedTensor = {
  ...KERNEL,
  name: 'dense_2/kernel',
  values: { kind: 'int8', data: Int8Array.of(10, -20, 0), scales: Float32Array.of(1, 0.5, 0.25), inner: 1 },
};
const BIAS: PackedTensor = {
  name: 'dense_1/bias',
  shape: [3],
  mask: null,
  values: { kind: 'float32', data: Float32Array.of(0, -1, 2) },
};

describe('densify', () => {
  it('puts survivors in their places and +0 elsewhere', () => {
    assert.deepEqual(densify(KERNEL), Float32Array.of(0, 1.5, -2.5, 0, 0, 3.5));
    assert.deepEqual(densify(BIAS), Float32Array.of(0, -1, 2));
  });

  it('multiplies whole numbers with the scale of their channel', () => {
    // Columns 0, 1, 2 have scales 1, 0.5, 0.25: 10 x 0.5, -20 x 0.25, 0.
    assert.deepEqual(densify(QUANTIZED), Float32Array.of(0, 5, -5, 0, 0, 0));
    // Channels of 3 neighbours are rows: row 0 has scale 1, row 1 has 2.
    const values = { kind: 'int8', data: Int8Array.of(10, -20, 3), scales: Float32Array.of(1, 2), inner: 3 } as const;
    assert.deepEqual(densify({ ...QUANTIZED, values }), Float32Array.of(0, 10, -20, 0, 0, 6));
    assert.throws(() => densify({ ...QUANTIZED, values: { ...values, inner: 4 } }), /\[INTERNAL\] 2 scales/);
  });
});

describe('packed safetensors', () => {
  const folder = useFolder();
  const path = (): string => join(folder(), 'model.safetensors');

  async function readAll(): Promise<Map<string, Float32Array>> {
    const file = await TensorFile.open(path());
    try {
      const all = new Map<string, Float32Array>();
      for (const name of file.tensors.keys()) all.set(name, await file.read(name));
      return all;
    } finally {
      await file.close();
    }
  }

  it('come back with name, shape, mask and values', async () => {
    await writePacked(path(), [KERNEL, QUANTIZED, BIAS], { runId: 'mine' });
    const file = await TensorFile.open(path());
    assert.equal(file.isPacked, true);
    assert.equal(file.metadata['runId'], 'mine');
    assert.deepEqual(
      [...file.tensors],
      [
        ['dense_1/kernel', [2, 3]],
        ['dense_2/kernel', [2, 3]],
        ['dense_1/bias', [3]],
      ],
    );
    for (const tensor of [KERNEL, QUANTIZED, BIAS]) assert.deepEqual(await file.readPacked(tensor.name), tensor);
    await assert.rejects(file.read('dense_3/kernel'), /\[CHECKPOINT\] .* has no tensor dense_3\/kernel/);
    await file.close();
  });

  it('are read from dense files in the same way', async () => {
    const values = Float32Array.of(1, 2, 3, 4);
    await writeSafetensors(
      path(),
      [
        { name: 'a', dtype: 'F32', shape: [2, 2] },
        { name: 'b', dtype: 'U8', shape: [1] },
      ],
      {},
      [new Uint8Array(values.buffer), Uint8Array.of(1)],
    );
    const file = await TensorFile.open(path());
    assert.equal(file.isPacked, false);
    assert.deepEqual(await file.read('a'), values);
    assert.deepEqual((await file.readPacked('a')).mask, null);
    await assert.rejects(file.read('b'), /\[UNSUPPORTED\] .*tensor b is U8.*float32/);
    await file.close();
  });

  it('any tensor survives the way through a file', async () => {
    const tensors = fc.record({
      shape: fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 3 }),
      density: fc.constantFrom(0, 0.05, 0.5, 1),
      kind: fc.constantFrom('float32', 'int8'),
      seed: fc.integer({ min: 1, max: 1e6 }),
    });
    await fc.assert(
      fc.asyncProperty(tensors, async ({ shape, density, kind, seed }) => {
        const size = sizeOfShape(shape);
        const random = uniform(seed);
        const mask = bitmap(size, () => random() < density);
        const survivors = countBits(mask);
        const channels = shape.at(-1) ?? 1;
        const values: PackedTensor['values'] =
          kind === 'float32'
            ? { kind: 'float32', data: Float32Array.from({ length: survivors }, () => random() - 0.5) }
            : {
                kind: 'int8',
                data: Int8Array.from({ length: survivors }, () => 254 * random() - 127),
                scales: Float32Array.from({ length: Math.max(1, channels) }, () => random()),
                inner: 1,
              };
        const tensor: PackedTensor = { name: 't', shape, mask, values };
        await writePacked(path(), [tensor], {});
        assert.deepEqual((await readAll()).get('t'), densify(tensor));
      }),
      { numRuns: 60 },
    );
  });

  it('a 95 % sparse LeNet-300-100 in int8 takes at most 1/35 of its dense float32 file', async () => {
    const shapes: Record<string, number[]> = {};
    const sizes = [784, 300, 100, 10];
    for (const [k, units] of sizes.slice(1).entries()) {
      shapes[`dense_${k + 1}/kernel`] = [sizes[k] as number, units];
      shapes[`dense_${k + 1}/bias`] = [units];
    }
    const tensors = Object.entries(shapes).map(([name, shape]) => lenetTensor(name, shape));
    const dense = join(folder(), 'dense.safetensors');
    const specs = tensors.map(({ name, shape }) => ({ name, dtype: 'F32' as const, shape }));
    await writeSafetensors(
      dense,
      specs,
      {},
      tensors.map((tensor) => new Uint8Array(densify(tensor).buffer)),
    );
    const { bytes } = await writePacked(path(), tensors, {});
    assert.equal(bytes, statSync(path()).size);
    const survivors = tensors.reduce((sum, tensor) => sum + countSurvivors(tensor), 0);
    // 13,310 of 266,200 kernel elements, to the draw, and 410 biases.
    assert.ok(Math.abs(survivors - 13_720) < 400, `${survivors}`);
    const ratio = statSync(dense).size / bytes;
    assert.ok(ratio >= 35, `${statSync(dense).size} / ${bytes} = ${ratio}`);
  });

  /** Places at random, which is what compresses least; magnitudes as after pruning by magnitude: none near zero. */
  function lenetTensor(name: string, shape: number[]): PackedTensor {
    const size = sizeOfShape(shape);
    const random = uniform(size);
    const normal = gaussian(random);
    if (name.endsWith('bias')) {
      return { name, shape, mask: null, values: { kind: 'float32', data: new Float32Array(size).map(normal) } };
    }
    const mask = bitmap(size, () => random() < 0.05);
    const data = new Int8Array(countBits(mask)).map(() => {
      let weight = 0;
      while (Math.abs(weight) < 1.96) weight = normal();
      return Math.max(-127, Math.min(127, Math.round((weight / 3.9) * 127)));
    });
    const scales = new Float32Array(shape[1] as number).map(() => random());
    return { name, shape, mask, values: { kind: 'int8', data, scales, inner: 1 } };
  }

  it('are documented well enough for a reader of 20 lines in another language', async function () {
    await writePacked(path(), [KERNEL, QUANTIZED, BIAS], {});
    const script = `
import json, struct, sys, zlib
data = open(sys.argv[1], 'rb').read()
n, = struct.unpack('<Q', data[:8]); header = json.loads(data[8:8 + n])
packed = json.loads(header['__metadata__']['whittle.packed'])
def part(name, entry, kind):
    begin, end = header[name + '.' + kind]['data_offsets']
    raw = data[8 + n + begin:8 + n + end]
    return zlib.decompress(raw) if kind in entry['deflated'] else raw
out = {}
for name, e in packed['tensors'].items():
    size = 1
    for d in e['shape']: size *= d
    alive = range(size)
    if e['survivors'] < size:
        bits = part(name, e, 'mask'); alive = [i for i in range(size) if bits[i >> 3] >> (i & 7) & 1]
    fmt = 'f' if e['values'] == 'float32' else 'b'
    values = struct.unpack('<%d%s' % (e['survivors'], fmt), part(name, e, 'values'))
    dense = [0.0] * size
    for i, v in zip(alive, values): dense[i] = v
    if fmt == 'b':
        raw = part(name, e, 'scales'); s = struct.unpack('<%df' % (len(raw) // 4), raw)
        dense = [v * s[i // e['inner'] % len(s)] for i, v in enumerate(dense)]
    out[name] = dense
print(json.dumps(out))
`;
    let stdout: string;
    try {
      stdout = execFileSync('python3', ['-c', script, path()], { encoding: 'utf8' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') this.skip();
      throw error;
    }
    const expected = [KERNEL, QUANTIZED, BIAS].map((tensor) => [tensor.name, [...densify(tensor)]]);
    assert.deepEqual(JSON.parse(stdout), Object.fromEntries(expected));
  });

  it('that are damaged are refused by name, without taking memory that the file does not have', async () => {
    const rewrite = async (change: (entry: Record<string, unknown>, parts: Map<string, Uint8Array>) => void) => {
      await writePacked(path(), [KERNEL, QUANTIZED], {});
      const file = await SafetensorsFile.open(path());
      const packed = JSON.parse(file.header.metadata[PACKED_KEY] as string) as {
        tensors: Record<string, Record<string, unknown>>;
      };
      const parts = new Map<string, Uint8Array>();
      for (const [name, info] of file.header.tensors) {
        const bytes = new Uint8Array(info.end - info.begin);
        await file.read(info, 0, bytes);
        parts.set(name, bytes);
      }
      await file.close();
      change(packed.tensors['dense_1/kernel'] as Record<string, unknown>, parts);
      // Of U8 all: types come second to what is missing or too long here.
      await writeSafetensors(
        path(),
        [...parts].map(([name, bytes]) =>
          name.endsWith('1/kernel.values')
            ? { name, dtype: 'F32', shape: [bytes.length / 4] }
            : { name, dtype: 'U8', shape: [bytes.length] },
        ),
        { [PACKED_KEY]: JSON.stringify(packed) },
        parts.values(),
      );
      const read = await TensorFile.open(path());
      try {
        await read.read('dense_1/kernel');
      } finally {
        await read.close();
      }
    };
    await rewrite(() => undefined);
    const mask = 'dense_1/kernel.mask';
    for (const [change, message] of [
      [(_, parts) => parts.delete(mask), /lacks dense_1\/kernel\.mask/],
      [(_, parts) => parts.set(mask, Uint8Array.of(1, 2)), /damaged dense_1\/kernel\.mask/],
      [(_, parts) => parts.set(mask, deflateSync(Uint8Array.of(1))), /mask of dense_1\/kernel that is not one of 3/],
      [(_, parts) => parts.set(mask, deflateSync(Uint8Array.of(0b1100_0001))), /is not one of 3 survivors/],
      [(_, parts) => parts.set(mask, deflateSync(new Uint8Array(1 << 24))), /damaged dense_1\/kernel\.mask/],
      [(_, parts) => parts.set('dense_1/kernel.values', new Uint8Array(8)), /holds 8 bytes of .*values, 12 belong/],
      [(entry) => (entry['survivors'] = 7), /counts 7 survivors of 6/],
      [(entry) => (entry['values'] = 'int4'), /whittle\.packed cannot be read/],
    ] as readonly [Parameters<typeof rewrite>[0], RegExp][]) {
      await assert.rejects(
        rewrite(change),
        (error: Error) => /\[CHECKPOINT\]/.test(error.message) && message.test(error.message),
        String(message),
      );
    }
    const whole = readFileSync(path());
    writeFileSync(path(), whole.subarray(0, whole.length - 1));
    await assert.rejects(TensorFile.open(path()), /\[CHECKPOINT\] .*is damaged/);
  });
});
