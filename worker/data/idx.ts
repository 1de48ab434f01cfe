/**
 * The idx files of MNIST and its successors (LeCun, Cortes & Burges): `train-images-idx3-ubyte` and its like,
 * plain or gzipped. A header of two zero bytes, the type (8: unsigned byte), the number of dimensions, and each
 * dimension as a big-endian uint32; then the values.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { WhittleError } from '../../shared/errors.ts';
import type { Dataset } from './dataset.ts';
import { ImagePart } from './image-part.ts';

/** Also the limit of what a gzipped file may unpack to. */
const MAX_BYTES = 2 ** 31;
const UNSIGNED_BYTE = 8;

/**
 * Reads the train-* files of `folder` and, where both are there, the t10k-* files.
 * @param cure how to get the files, for the message when they are missing
 * @throws DATA
 */
export function loadIdx(folder: string, source: string, cure: string): Dataset {
  const train = loadPart(folder, 'train', cure);
  const hasTest = ['images', 'labels'].some((what) => find(folder, 't10k', what) !== null);
  const test = hasTest ? loadPart(folder, 't10k', cure) : null;
  if (test !== null && test.shape.join() !== train.shape.join()) {
    throw new WhittleError(
      'DATA',
      `the images in ${folder} have shape [${train.shape.join(', ')}] in the train files and ` +
        `[${test.shape.join(', ')}] in the t10k files: they are not of one data set`,
      { data: { folder } },
    );
  }
  return {
    train: train.part,
    test: test?.part ?? null,
    inputShape: train.shape,
    labels: 'classes',
    classes: Math.max(train.part.classes, test?.part.classes ?? 0),
    source,
  };
}

function loadPart(folder: string, prefix: string, cure: string): { part: ImagePart; shape: number[] } {
  const images = readIdx(existing(folder, prefix, 'images', cure));
  const labels = readIdx(existing(folder, prefix, 'labels', cure));
  if (images.shape.length < 2 || images.shape.length > 4) {
    throw new WhittleError(
      'DATA',
      `${images.path} has ${images.shape.length} dimensions: images have 3, or 4 with channels`,
      {
        data: { path: images.path },
      },
    );
  }
  if (labels.shape.length !== 1 || labels.shape[0] !== images.shape[0]) {
    throw new WhittleError(
      'DATA',
      `${labels.path} has shape [${labels.shape.join(', ')}] for ${images.shape[0]} images in ${images.path}: ` +
        'there must be one label an image, so the two files are not of one data set',
      { data: { images: images.path, labels: labels.path } },
    );
  }
  const shape = images.shape.slice(1);
  if (shape.length === 2) shape.push(1);
  return { part: new ImagePart(images.values, labels.values, shape), shape };
}

/** The file of the four that `prefix` and `what` name, in any of the spellings in use; null where none is there. */
function find(folder: string, prefix: string, what: string): string | null {
  const dimensions = what === 'labels' ? 1 : 3;
  for (const separator of ['-', '.']) {
    for (const extension of ['', '.gz']) {
      const path = join(folder, `${prefix}-${what}${separator}idx${dimensions}-ubyte${extension}`);
      if (existsSync(path)) return path;
    }
  }
  return null;
}

function existing(folder: string, prefix: string, what: string, cure: string): string {
  const path = find(folder, prefix, what);
  if (path !== null) return path;
  const wanted = join(folder, `${prefix}-${what}-idx${what === 'labels' ? 1 : 3}-ubyte`);
  throw new WhittleError('DATA', `no file ${wanted} (or ${wanted}.gz): ${cure}`, { data: { path: wanted } });
}

/** @throws DATA for a file that is not whole or not of bytes. */
export function readIdx(path: string): { path: string; shape: number[]; values: Uint8Array } {
  const broken = (why: string): WhittleError =>
    new WhittleError('DATA', `${path} is not a whole idx file of unsigned bytes: ${why}; download it again`, {
      data: { path },
    });
  let bytes: Buffer = readFileSync(path);
  if (path.endsWith('.gz')) {
    try {
      bytes = gunzipSync(bytes, { maxOutputLength: MAX_BYTES });
    } catch (reason) {
      throw broken(`it does not unpack (${reason instanceof Error ? reason.message : String(reason)})`);
    }
  }
  const numDimensions = bytes[3] ?? 0;
  const start = 4 + 4 * numDimensions;
  if (bytes.length < start || bytes.readUInt16BE(0) !== 0 || bytes[2] !== UNSIGNED_BYTE || numDimensions === 0) {
    throw broken(`it starts with ${bytes.subarray(0, 4).toString('hex') || 'nothing'}, not 0000080 and its dimensions`);
  }
  const shape = Array.from({ length: numDimensions }, (_, i) => bytes.readUInt32BE(4 + 4 * i));
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  if (size !== bytes.length - start) {
    throw broken(`its header says ${shape.join(' x ')} = ${size} values, it holds ${bytes.length - start}`);
  }
  if (size === 0) throw broken('it holds no values');
  return { path, shape, values: new Uint8Array(bytes.buffer, bytes.byteOffset + start, size) };
}
