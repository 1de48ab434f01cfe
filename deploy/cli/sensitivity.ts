import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { type Parameter } from '../../shared/layout/parameter-space.ts';
import { countBits, concatBits, sliceBits } from '../../shared/sparsity/bitmap.ts';
import { unpack } from '../../shared/sparsity/packing.ts';
import { pruneAlone } from '../../shared/sparsity/prune-alone.ts';
import type { WholeEvaluation } from '../../worker/training/evaluate-all.ts';
import { type CheckpointEngine, evaluateCheckpoint } from '../export/checkpoint-engine.ts';

export interface SensitivityPoint extends Pick<WholeEvaluation, 'testAccuracy' | 'testLoss'> {
  /** What was asked for. */
  readonly sparsity: number;
  /** Dead elements of the parameter; more than asked for where it was sparser before. */
  readonly removed: number;
}

export interface LayerSensitivity {
  readonly name: string;
  readonly size: number;
  /** In the checkpoint. */
  readonly survivors: number;
  readonly points: readonly SensitivityPoint[];
}

export interface Sensitivity {
  /** As it is in the checkpoint. */
  readonly base: WholeEvaluation;
  readonly layers: readonly LayerSensitivity[];
}

/**
 * Accuracy against sparsity of each parameter (Li et al. 2017, Pruning Filters for Efficient ConvNets, figure 2b):
 * it alone is pruned by magnitude to each point, without training afterwards, and the test set evaluated.
 */
export async function measureSensitivity(
  checkpoint: CheckpointEngine,
  options: {
    readonly space: ParameterSpace;
    readonly parameters: readonly Parameter[];
    readonly points: readonly number[];
    readonly onLayer: (layer: LayerSensitivity) => void;
  },
): Promise<Sensitivity> {
  const { space, parameters, points, onLayer } = options;
  const { mask, weights } = checkpoint;
  const dense = unpack(weights, mask, space.size);
  const base = await evaluateCheckpoint(checkpoint);
  const layers: LayerSensitivity[] = [];
  for (const { name, offset, size } of parameters) {
    const own = sliceBits(mask, offset, offset + size);
    const survivors = countBits(own);
    const measured: SensitivityPoint[] = [];
    for (const sparsity of points) {
      const pruned = pruneAlone(dense.subarray(offset, offset + size), own, sparsity);
      const left = countBits(pruned);
      const { testAccuracy, testLoss } =
        left === survivors
          ? base
          : await evaluateCheckpoint(checkpoint, { mask: replaceBits(mask, pruned, offset, size, space.size) });
      measured.push({ sparsity, removed: size - left, testAccuracy, testLoss });
    }
    const layer = { name, size, survivors, points: measured };
    layers.push(layer);
    onLayer(layer);
  }
  return { base, layers };
}

/** `bits` with [offset, offset + length) taken from `part`. */
function replaceBits(bits: Uint8Array, part: Uint8Array, offset: number, length: number, size: number): Uint8Array {
  return concatBits([
    { bits: sliceBits(bits, 0, offset), length: offset },
    { bits: part, length },
    { bits: sliceBits(bits, offset + length, size), length: size - offset - length },
  ]);
}
