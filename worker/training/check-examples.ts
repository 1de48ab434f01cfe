/**
 * Puts some examples of each part through the model and its loss before anything is started, so that labels out of
 * range, values that are no numbers, wrong shapes and a loss that fails are said at once, and where they are.
 */
import type { Tensor } from '@tensorflow/tfjs-core';
import { WhittleError } from '../../shared/errors.ts';
import { isColumn, isWholeNumberArray } from '../data/dataset.ts';
import type { Column, Columns, Dataset, Part } from '../data/dataset.ts';
import { generatorAt, withSeed, withSeedSync } from '../model/seeded-random.ts';
import type { Job } from './job.ts';

/** More than this many tell no more. */
const MAX_EXAMPLES = 512;

/**
 * Looks at as many examples as a batch has, spread evenly over the part: files are often sorted by class.
 * @throws DATA, or MODEL where the loss fails; leaves no tensor behind
 */
export async function checkExamples(
  job: Job,
  options: { readonly batchSize: number; readonly seed: number },
): Promise<void> {
  const { train, test, source } = job.data;
  await checkPart(job, train, `the training data of ${source}`, options);
  if (test !== null) await checkPart(job, test, `the test data of ${source}`, options);
}

async function checkPart(
  job: Job,
  part: Part,
  name: string,
  { batchSize, seed }: { readonly batchSize: number; readonly seed: number },
): Promise<void> {
  const examples = Math.min(part.size, batchSize, MAX_EXAMPLES);
  const indices = Int32Array.from({ length: examples }, (_, i) => Math.floor((i * part.size) / examples));
  const place = { seed, step: 0, slice: 0 };
  const { inputs, labels } = await withSeed(place, 'data', () => part.batch(indices, generatorAt(place, 'data')));
  for (const [key, column] of columnsOf(inputs, 'inputs')) checkFinite(column, key, indices, name);
  checkLabels(job, labels, indices, name);
  const { tf } = job.backend;
  const { feeds, objective, loaded, teacher } = job;
  tf.tidy(() => {
    let fed: Tensor[];
    try {
      fed = feeds.inputs(inputs, examples);
    } catch (reason) {
      if (!(reason instanceof WhittleError)) throw reason;
      throw new WhittleError(reason.code, `${name}: ${reason.rawMessage}`, { cause: reason, data: reason.data });
    }
    const called = withSeedSync(place, 'model', () => loaded.model.call(fed, { training: false }));
    const outputs = Array.isArray(called) ? called : [called];
    const own = objective.loss(feeds.labels(labels), outputs);
    const loss = teacher?.blend(own, outputs, teacher.logits({ inputs, labels }, examples)) ?? own;
    const value = loss.dataSync()[0] as number;
    if (Number.isFinite(value)) return;
    throw new WhittleError(
      'MODEL',
      `the loss of ${loaded.source} is ${value} on ${examples} examples of ${name}, with the initial weights and finite ` +
        'inputs: look for a division by 0 or the logarithm of 0 in the loss, and for initial weights that are too large',
      { data: { loss: value, examples } },
    );
  });
}

function checkFinite({ data, shape }: Column, key: string, indices: Int32Array, name: string): void {
  const at = data.findIndex((value: number) => !Number.isFinite(value));
  if (at < 0) return;
  const size = data.length / indices.length;
  const example = indices[Math.floor(at / size)] as number;
  throw new WhittleError(
    'DATA',
    `${key} of example ${example} in ${name} hold ${data[at]} (value ${at % size} of [${shape.slice(1).join(', ')}]): ` +
      'every input must be a finite number; leave such examples out, or put a number in their place',
    { data: { example, value: String(data[at]) } },
  );
}

/** What the default loss and counting right answers need. A loss of the user's may take any labels. */
function checkLabels(job: Job, labels: Columns, indices: Int32Array, name: string): void {
  const { data, loaded } = job;
  const isDefault = loaded.loss === null;
  if (!isColumn(labels)) return;
  if (labels.shape.length === 1 && isWholeNumberArray(labels.data)) {
    const classes = data.classes ?? (isDefault ? (loaded.model.outputs[0]?.shape.at(-1) ?? null) : null);
    if (classes !== null) checkRange(labels, classes, data, indices, name);
    return;
  }
  if (!isDefault) return;
  checkFinite(labels, 'the labels', indices, name);
  if (labels.shape.length !== 1) return;
  const at = labels.data.findIndex((value: number) => !Number.isInteger(value));
  const what =
    at < 0
      ? 'whole numbers in an array of floating-point numbers: return them as an Int32Array of shape [n]'
      : `fractional: example ${indices[at]} has ${labels.data[at]}; class ids are whole numbers (an Int32Array), and for ` +
        'other values the model module exports a `loss`';
  throw new WhittleError('DATA', `the labels of ${name} are ${what}`);
}

function checkRange({ data: ids }: Column, classes: number, data: Dataset, indices: Int32Array, name: string): void {
  const at = ids.findIndex((id: number) => id < 0 || id >= classes);
  if (at < 0) return;
  const whose = data.classes === null ? `the model has ${classes} outputs` : `${data.source} says classes = ${classes}`;
  throw new WhittleError(
    'DATA',
    `label ${ids[at]} of example ${indices[at]} in ${name} is out of range: ${whose}, so labels are 0 .. ${classes - 1}; ` +
      'correct the label, or the number of classes',
    { data: { label: ids[at], example: indices[at], classes } },
  );
}

function columnsOf(columns: Columns, what: string): [string, Column][] {
  return isColumn(columns)
    ? [[what, columns]]
    : Object.entries(columns).map(([name, column]) => [`${what}.${name}`, column]);
}
