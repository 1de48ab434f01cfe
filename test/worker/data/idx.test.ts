import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'mocha';
import { WhittleError } from '../../../shared/errors.ts';
import type { Column, Dataset, Part } from '../../../worker/data/dataset.ts';
import { fashionMnistFolder } from '../../../worker/data/fashion-mnist.ts';
import { loadData } from '../../../worker/data/load-data.ts';
import { loadMnist } from '../../../worker/data/mnist.ts';
import { temporaryFolder } from '../../fixtures/user-module.ts';

/** An idx file of unsigned bytes. */
function idx(shape: readonly number[], values: readonly number[]): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header[2] = 8;
  header[3] = shape.length;
  shape.forEach((size, axis) => header.writeUInt32BE(size, 4 + 4 * axis));
  return Buffer.concat([header, Buffer.from(values)]);
}

const IMAGES = idx([3, 2, 2], [0, 51, 102, 255, 1, 2, 3, 4, 5, 6, 7, 8]);
const LABELS = idx([3], [2, 0, 1]);

/** How many examples each of the classes 0 to 9 has. */
async function labelCounts(part: Part): Promise<number[]> {
  const counts = new Array<number>(10).fill(0);
  for (let start = 0; start < part.size; start += 1000) {
    const indices = Int32Array.from({ length: 1000 }, (_, i) => start + i);
    const { labels } = await part.batch(indices, Math.random);
    for (const label of (labels as Column).data) counts[label] = (counts[label] ?? 0) + 1;
  }
  return counts;
}

describe('idx files', () => {
  const root = temporaryFolder();
  let count = 0;

  function folderOf(files: Readonly<Record<string, Buffer>>): string {
    const path = join(root.path, `set-${++count}`);
    mkdirSync(path);
    for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), content);
    return path;
  }

  const load = (files: Readonly<Record<string, Buffer>>): Promise<Dataset> => loadData({ idx: folderOf(files) });
  const TRAIN = { 'train-images-idx3-ubyte': IMAGES, 'train-labels-idx1-ubyte': LABELS };

  for (const [name, files] of [
    ['plain', TRAIN],
    ['gzipped', { 'train-images-idx3-ubyte.gz': gzipSync(IMAGES), 'train-labels-idx1-ubyte.gz': gzipSync(LABELS) }],
    ['dotted', { 'train-images.idx3-ubyte': IMAGES, 'train-labels.idx1-ubyte': LABELS }],
  ] as const) {
    it(`reads ${name} files`, async () => {
      const data = await load(files);
      assert.deepEqual(data.inputShape, [2, 2, 1]);
      assert.deepEqual([data.train.size, data.test, data.classes, data.labels], [3, null, 3, 'classes']);
      const { inputs, labels } = await data.train.batch(Int32Array.of(2, 0), Math.random);
      assert.deepEqual(inputs, {
        data: Float32Array.of(5 / 255, 6 / 255, 7 / 255, 8 / 255, 0, 51 / 255, 102 / 255, 1),
        shape: [2, 2, 2, 1],
      });
      assert.deepEqual(labels, { data: Int32Array.of(1, 2), shape: [2] });
    });
  }

  it('reads the t10k files where they are', async () => {
    const data = await load({
      ...TRAIN,
      't10k-images-idx3-ubyte': idx([1, 2, 2], [9, 9, 9, 9]),
      't10k-labels-idx1-ubyte': idx([1], [4]),
    });
    assert.equal(data.test?.size, 1);
    assert.equal(data.classes, 5);
  });

  for (const [name, files, said] of [
    ['no file', {}, /no file .*train-images-idx3-ubyte \(or .*\.gz\): data\.source\.idx must name a folder/],
    ['labels missing', { 'train-images-idx3-ubyte': IMAGES }, /no file .*train-labels-idx1-ubyte/],
    ['half a test part', { ...TRAIN, 't10k-images-idx3-ubyte': IMAGES }, /no file .*t10k-labels-idx1-ubyte/],
    [
      'another magic',
      { ...TRAIN, 'train-images-idx3-ubyte': Buffer.from('PNG\x00....') },
      /starts with 504e4700, not 0000080/,
    ],
    ['an empty file', { ...TRAIN, 'train-images-idx3-ubyte': Buffer.alloc(0) }, /starts with nothing/],
    [
      'a cut file',
      { ...TRAIN, 'train-images-idx3-ubyte': IMAGES.subarray(0, -1) },
      /header says 3 x 2 x 2 = 12 values, it holds 11/,
    ],
    [
      'a long file',
      { ...TRAIN, 'train-labels-idx1-ubyte': Buffer.concat([LABELS, Buffer.alloc(1)]) },
      /= 3 values, it holds 4/,
    ],
    [
      'a header of huge sizes',
      { ...TRAIN, 'train-images-idx3-ubyte': idx([0xffffffff, 0xffffffff, 9], []) },
      /it holds 0/,
    ],
    ['a cut gzip', { 'train-images-idx3-ubyte.gz': gzipSync(IMAGES).subarray(0, 12) }, /does not unpack/],
    ['other numbers of labels', { ...TRAIN, 'train-labels-idx1-ubyte': idx([2], [0, 1]) }, /shape \[2\] for 3 images/],
    [
      'other test images',
      { ...TRAIN, 't10k-images-idx3-ubyte': idx([1, 1, 2], [0, 0]), 't10k-labels-idx1-ubyte': idx([1], [0]) },
      /\[2, 2, 1\] in the train files and \[1, 2, 1\]/,
    ],
  ] as const) {
    it(`refuses ${name}`, async () => {
      await assert.rejects(load(files), (error: unknown) => {
        assert.ok(error instanceof WhittleError);
        assert.equal(error.code, 'DATA');
        assert.match(error.message, said);
        return true;
      });
    });
  }

  describe('Fashion-MNIST', () => {
    const before = { data: process.env['WHITTLE_DATA'], home: process.env['HOME'] };
    const restore = (name: string, value: string | undefined): void => {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    };
    afterEach(() => {
      restore('WHITTLE_DATA', before.data);
      restore('HOME', before.home);
    });

    it('says how to get it', async () => {
      process.env['WHITTLE_DATA'] = root.path;
      await assert.rejects(
        loadData('fashion-mnist'),
        /download \{train,t10k\}-.*ubyte\.gz from http.* into .*fashion-mnist.* apt-get install dataset-fashion-mnist/,
      );
    });

    it("takes the system's where the user named no folder and has none", async () => {
      const system = root.path;
      const home = join(root.path, 'home');
      process.env['HOME'] = home;
      delete process.env['WHITTLE_DATA'];
      assert.equal(fashionMnistFolder(system), system);
      assert.equal(fashionMnistFolder(join(root.path, 'absent')), join(home, '.cache/whittle/fashion-mnist'));
      mkdirSync(join(home, '.cache/whittle/fashion-mnist'), { recursive: true });
      assert.equal(fashionMnistFolder(system), join(home, '.cache/whittle/fashion-mnist'));
      process.env['WHITTLE_DATA'] = root.path;
      assert.equal(fashionMnistFolder(system), join(root.path, 'fashion-mnist'));
    });

    it('is the real one, where this machine has it', async function () {
      if (!existsSync(fashionMnistFolder())) this.skip();
      const { train, test, inputShape, classes } = await loadData('fashion-mnist');
      assert.deepEqual([train.size, test?.size, inputShape, classes], [60_000, 10_000, [28, 28, 1], 10]);
      // Every class has as many examples; MNIST's have not.
      assert.deepEqual(await labelCounts(train), new Array<number>(10).fill(6000));
    });
  });

  it('names the sources there are', async () => {
    await assert.rejects(loadData('cifar'), /no data source "cifar": use mnist, fashion-mnist, \{ idx: DIR \}/);
  });
});

describe('mnist', () => {
  it('is the real one: 60,000 and 10,000 images with the known numbers of each digit', async () => {
    const { train, test, inputShape, classes } = loadMnist();
    assert.deepEqual([train.size, test?.size, inputShape, classes], [60_000, 10_000, [28, 28, 1], 10]);
    // LeCun, Cortes & Burges
    assert.deepEqual(await labelCounts(train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    assert.ok(test);
    assert.deepEqual(await labelCounts(test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
  });

  it('has pixels in 0 .. 1 with the known mean and deviation', async () => {
    const { train } = loadMnist();
    let [sum, squares, pixels] = [0, 0, 0];
    for (let start = 0; start < train.size; start += 1000) {
      const { inputs } = await train.batch(
        Int32Array.from({ length: 1000 }, (_, i) => start + i),
        Math.random,
      );
      for (const pixel of (inputs as Column).data) {
        sum += pixel;
        squares += pixel * pixel;
      }
      pixels += (inputs as Column).data.length;
    }
    // The constants of every tutorial's normalisation: 0.1307, 0.3081
    assert.equal((sum / pixels).toFixed(4), '0.1307');
    assert.equal(Math.sqrt(squares / pixels - (sum / pixels) * (sum / pixels)).toFixed(4), '0.3081');
  });
});
