import { join } from 'node:path';
import { bytesOf, sizeOfShape } from '../../shared/checkpoint/safetensors.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import type { PackedTensor, PackedValues } from '../../shared/packed/packed-tensor.ts';
import { TensorFile, writePacked } from '../../shared/packed/tensor-file.ts';
import { isOwnState } from '../../shared/layout/own-states.ts';
import { countBits, getBit, sliceBits } from '../../shared/sparsity/bitmap.ts';
import { requireSameBytes } from './dense-tensors.ts';
import type { ExportFormat } from './format.ts';
import type { ActivationRange } from './quantized-accuracy.ts';
import type { QuantizedModel, QuantizedParameter } from './quantized-model.ts';

const FILE = 'model.safetensors';

/** Safetensors with the survivors only, as int8, in the layout of shared/packed/packed-layout.ts; the rest float32. */
export function quantizedPacked(model: QuantizedModel, ranges: readonly ActivationRange[]): ExportFormat {
  return async (folder, { manifest, metadata }) => {
    const path = join(folder, FILE);
    await writePacked(path, packedTensors(model, ranges, manifest), { format: 'tf', ...metadata });
    const file = await TensorFile.open(path);
    try {
      await requireSameBytes(path, measuredValues(model), readBack(file, model));
    } finally {
      await file.close();
    }
    return [FILE];
  };
}

function* packedTensors(
  { parameters, mask, state }: QuantizedModel,
  ranges: readonly ActivationRange[],
  { model }: Manifest,
): Generator<PackedTensor> {
  let offset = 0;
  for (const parameter of parameters) {
    const { name, shape } = parameter.spec;
    const size = sizeOfShape(shape);
    const bits = sliceBits(mask, offset, offset + size);
    yield { name, shape, mask: countBits(bits) === size ? null : bits, values: survivorsOf(parameter, bits) };
    offset += size;
  }
  let at = 0;
  for (const each of model.states) {
    const size = sizeOfShape(each.shape);
    if (!isOwnState(each)) yield float32(each.name, each.shape, state.slice(at, at + size));
    at += size;
  }
  for (const { name, range } of ranges) yield float32(name, [], Float32Array.of(range));
}

function survivorsOf({ values, quantized }: QuantizedParameter, bits: Uint8Array): PackedValues {
  const survives = (_: number, i: number): boolean => getBit(bits, i);
  if (quantized === null) return { kind: 'float32', data: values.filter(survives) };
  const { whole, scales, channels } = quantized;
  return { kind: 'int8', data: whole.filter(survives), scales, inner: channels.inner };
}

function float32(name: string, shape: readonly number[], data: Float32Array): PackedTensor {
  return { name, shape, mask: null, values: { kind: 'float32', data } };
}

async function* measuredValues({ parameters }: QuantizedModel): AsyncGenerator<Uint8Array> {
  for (const { values } of parameters) yield bytesOf(values);
}

async function* readBack(file: TensorFile, { parameters }: QuantizedModel): AsyncGenerator<Uint8Array> {
  for (const { spec } of parameters) yield bytesOf(await file.read(spec.name));
}
