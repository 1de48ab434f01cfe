import type { ManifestFacts, ShardSnapshot } from '../checkpoint/manifest.ts';
import { ParameterSpace } from '../layout/parameter-space.ts';
import { countBits } from '../sparsity/bitmap.ts';
import { pack, unpack } from '../sparsity/packing.ts';
import { matchedParameters } from '../sparsity/rules.ts';
import type { ShrinkScope } from './candidates.ts';
import { shrinkModel, type Shrunk } from './shrink.ts';

/** A checkpoint's content, wherever its shards will be cut. */
export interface ShrunkCheckpoint extends Pick<Shrunk, 'units' | 'refused'> {
  /** The same clock, data position, run file and backend; a smaller model, the next mask epoch. */
  readonly manifest: ManifestFacts;
  /** The whole smaller parameter space, and its state. */
  readonly whole: ShardSnapshot;
}

/**
 * A checkpoint of the same run at the same clock whose model lacks its dead units; what survives keeps weights and
 * optimizer slots, and the model computes the same. Pure. Errors: MODEL, where the topology cannot be read.
 * @param whole the checkpoint's content, see readWhole
 */
export function shrinkCheckpoint(manifest: ManifestFacts, whole: ShardSnapshot, scope: ShrinkScope): ShrunkCheckpoint {
  const dense = (packed: Float32Array): Float32Array => unpack(packed, whole.stored, whole.end);
  const mapSlots = (
    slots: Readonly<Record<string, Float32Array>>,
    change: (values: Float32Array) => Float32Array,
  ): Record<string, Float32Array> =>
    Object.fromEntries(Object.entries(slots).map(([name, values]) => [name, change(values)]));
  const { model, units, refused } = shrinkModel(
    {
      description: manifest.model,
      weights: dense(whole.weights),
      slots: mapSlots(whole.slots, dense),
      stored: whole.stored,
      mask: whole.mask,
      state: whole.state ?? new Float32Array(0),
    },
    scope,
  );
  const packed = (values: Float32Array): Float32Array => pack(values, model.stored);
  const space = ParameterSpace.of(model.description.parameters);
  const begun = ParameterSpace.begunWith(model.description);
  const matched = matchedParameters(manifest.config.sparsity, begun).reduce((sum, { size }) => sum + size, 0);
  return {
    units,
    refused,
    manifest: {
      ...manifest,
      model: model.description,
      maskEpoch: manifest.maskEpoch + 1,
      sparsity: matched === 0 ? 0 : (begun.size - countBits(model.mask)) / matched,
    },
    whole: {
      start: 0,
      end: space.size,
      stored: model.stored,
      mask: model.mask,
      weights: packed(model.weights),
      slots: mapSlots(model.slots, packed),
      state: whole.state === null ? null : model.state,
    },
  };
}
