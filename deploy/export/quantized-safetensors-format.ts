import { join } from 'node:path';
import { bytesOf, SafetensorsFile, sizeOfShape, writeSafetensors } from '../../shared/checkpoint/safetensors.ts';
import type { TensorSpec } from '../../shared/checkpoint/safetensors.ts';
import { isOwnState } from '../../shared/layout/own-states.ts';
import { dequantizePerChannel } from '../../shared/quantization/fake-quantize.ts';
import { requireSameBytes } from './dense-tensors.ts';
import type { ExportFormat, ExportSource } from './format.ts';
import type { ActivationRange } from './quantized-accuracy.ts';
import type { QuantizedModel } from './quantized-model.ts';

const FILE = 'model.safetensors';
const KEY = 'whittle.quantized';
const LAYOUT =
  'NAME: whole numbers (I8), dense, row-major; NAME.scales (F32): element i stands for ' +
  'NAME[i] * NAME.scales[floor(i / inner) % len(NAME.scales)]; LAYER/activation_range (F32): what LAYER gives out is ' +
  'quantized to round(x / (range / 127)), -127 .. 127';

/**
 * Safetensors with I8 tensors under the parameters' names, their scales as `<name>.scales`, everything else float32.
 * The metadata key `whittle.quantized` says how they belong together.
 */
export function quantizedSafetensors(model: QuantizedModel, ranges: readonly ActivationRange[]): ExportFormat {
  return async (folder, { manifest, metadata }) => {
    const path = join(folder, FILE);
    const tensors = tensorsOf(model, ranges, manifest);
    const facts = { version: 1, layout: LAYOUT, tensors: Object.fromEntries(entriesOf(model)) };
    await writeSafetensors(
      path,
      tensors.map(({ spec }) => spec),
      { format: 'tf', ...metadata, [KEY]: JSON.stringify(facts) },
      tensors.map(({ bytes }) => bytes),
    );
    const file = await SafetensorsFile.open(path);
    try {
      await requireSameBytes(path, expected(model), readBack(file, model));
      await requireSameBytes(path, all(tensors.map(({ bytes }) => bytes)), inOrder(file, tensors));
    } finally {
      await file.close();
    }
    return [FILE];
  };
}

interface Tensor {
  readonly spec: TensorSpec;
  readonly bytes: Uint8Array;
}

/** Float32 first, so that each lies aligned. */
function tensorsOf(
  { parameters, state }: QuantizedModel,
  ranges: readonly ActivationRange[],
  { model }: ExportSource['manifest'],
): Tensor[] {
  const wide: Tensor[] = [];
  const whole: Tensor[] = [];
  const add = (name: string, shape: readonly number[], values: Float32Array): void =>
    void wide.push({ spec: { name, dtype: 'F32', shape }, bytes: bytesOf(values) });
  for (const { spec, values, quantized } of parameters) {
    const { name, shape } = spec;
    if (quantized === null) {
      add(name, shape, values);
      continue;
    }
    add(scalesOf(name), [quantized.scales.length], quantized.scales);
    whole.push({ spec: { name, dtype: 'I8', shape }, bytes: bytesOf(quantized.whole) });
  }
  let at = 0;
  for (const each of model.states) {
    const size = sizeOfShape(each.shape);
    if (!isOwnState(each)) add(each.name, each.shape, state.slice(at, at + size));
    at += size;
  }
  for (const { name, range } of ranges) add(name, [], Float32Array.of(range));
  return [...wide, ...whole];
}

function scalesOf(name: string): string {
  return `${name}.scales`;
}

function* entriesOf({ parameters }: QuantizedModel): Generator<[string, { bits: number; inner: number }]> {
  for (const { spec, quantized } of parameters)
    if (quantized !== null) yield [spec.name, { bits: quantized.bits, inner: quantized.channels.inner }];
}

async function* all(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

async function* inOrder(file: SafetensorsFile, tensors: readonly Tensor[]): AsyncGenerator<Uint8Array> {
  for (const { spec } of tensors) yield* file.chunks(file.tensor(spec.name, spec.dtype));
}

/** What whole numbers stand for, as they were measured. */
async function* expected({ parameters }: QuantizedModel): AsyncGenerator<Uint8Array> {
  for (const { values, quantized } of parameters) if (quantized !== null) yield bytesOf(values);
}

/** The same from the file alone. */
async function* readBack(file: SafetensorsFile, { parameters }: QuantizedModel): AsyncGenerator<Uint8Array> {
  const entries = (JSON.parse(file.header.metadata[KEY] ?? '{}') as { tensors: Record<string, { inner: number }> })
    .tensors;
  for (const { spec, quantized } of parameters) {
    if (quantized === null) continue;
    const info = file.tensor(spec.name, 'I8');
    const whole = new Int8Array(sizeOfShape(info.shape));
    await file.read(info, 0, bytesOf(whole));
    const scalesInfo = file.tensor(scalesOf(spec.name), 'F32');
    const scales = new Float32Array(sizeOfShape(scalesInfo.shape));
    await file.read(scalesInfo, 0, bytesOf(scales));
    const inner = entries[spec.name]?.inner ?? 1;
    yield bytesOf(dequantizePerChannel(whole, { count: scales.length, inner }, scales));
  }
}
