import { readRange, readState } from '../../shared/checkpoint/reshard.ts';
import { sizeOfShape } from '../../shared/checkpoint/safetensors.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import type { PackedTensor } from '../../shared/packed/packed-tensor.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';

/** Every tensor of a checkpoint packed over its survivors, float32: parameters in model order, then states. */
export async function* packedTensors(folder: string, manifest: Manifest): AsyncGenerator<PackedTensor> {
  const { parameters, states } = manifest.model;
  let offset = 0;
  for (const { name, shape } of parameters) {
    const size = sizeOfShape(shape);
    const { mask, stored, weights } = await readRange(folder, manifest, offset, offset + size);
    // Latent weights are stored, and no survivors.
    const data = compact(weights, stored, mask);
    yield { name, shape, mask: countBits(mask) === size ? null : mask, values: { kind: 'float32', data } };
    offset += size;
  }
  const state = await readState(folder, manifest);
  let at = 0;
  for (const { name, shape } of states) {
    const data = state.subarray(at, at + sizeOfShape(shape));
    yield { name, shape, mask: null, values: { kind: 'float32', data } };
    at += data.length;
  }
}
