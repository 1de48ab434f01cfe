import { readRange, readState } from '../../shared/checkpoint/reshard.ts';
import { sizeOfShape } from '../../shared/checkpoint/safetensors.ts';
import type { PackedTensor } from '../../shared/packed/packed-tensor.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';
import { pack, unpack } from '../../shared/sparsity/packing.ts';
import { float32Transform } from './dense-tensors.ts';
import type { ExportSource } from './format.ts';

/** Every tensor of `denseBytes` packed over its survivors, float32: parameters in model order, then states. */
export async function* packedTensors(source: ExportSource): AsyncGenerator<PackedTensor> {
  const { folder, manifest } = source;
  const { parameters, states } = manifest.model;
  const transform = float32Transform(manifest);
  let offset = 0;
  for (const spec of parameters) {
    const { name, shape } = spec;
    const size = sizeOfShape(shape);
    const { mask, stored, weights } = await readRange(folder, manifest, offset, offset + size);
    // Latent weights are stored, and no survivors.
    const survivors = compact(weights, stored, mask);
    const data = transform === null ? survivors : pack(transform(unpack(survivors, mask, size), spec), mask);
    yield { name, shape, mask: countBits(mask) === size ? null : mask, values: { kind: 'float32', data } };
    offset += size;
  }
  const state = source.state ?? (await readState(folder, manifest));
  let at = 0;
  for (const { name, shape } of states) {
    const data = state.subarray(at, at + sizeOfShape(shape));
    yield { name, shape, mask: null, values: { kind: 'float32', data } };
    at += data.length;
  }
}
