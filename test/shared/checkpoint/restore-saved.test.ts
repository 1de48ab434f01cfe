import assert from 'node:assert/strict';
import { restoreSaved, type WholeCheckpoint } from '../../../shared/checkpoint/restore-saved.ts';
import type { Manifest } from '../../../shared/checkpoint/manifest.ts';

const parameter = (size: number) => ({ name: 'a/kernel', shape: [size], layerKind: 'Dense', prunable: true });

function checkpoint(clock: number, maskEpoch: number, mask: number, size = 8): WholeCheckpoint {
  const model = { parameters: [parameter(size)], states: [], topology: {}, layers: [] };
  const manifest = { clock, maskEpoch, dataPosition: clock * 10, sparsity: maskEpoch / 10, model };
  const snapshot = {
    start: 0,
    end: size,
    stored: Uint8Array.of(mask),
    mask: Uint8Array.of(mask),
    weights: Float32Array.of(clock),
    slots: { m: Float32Array.of(-clock) },
    state: Float32Array.of(clock),
  };
  return { manifest: manifest as unknown as Manifest, snapshot };
}

describe('restoring a saved checkpoint in the middle of a run', () => {
  it('takes arrays from the saved one and the clock from now, in a new mask epoch', () => {
    const saved = checkpoint(30, 2, 0xff);
    const now = checkpoint(45, 4, 0x0f);
    const { manifest, snapshot } = restoreSaved(now, saved);
    assert.deepEqual(snapshot, saved.snapshot);
    assert.deepEqual(manifest, { ...now.manifest, maskEpoch: 5, sparsity: 0.2 });
  });

  it('refuses another shape', () => {
    assert.throws(
      () => restoreSaved(checkpoint(45, 4, 0x0f), checkpoint(30, 2, 0xff, 7)),
      /CHECKPOINT.*checkpoint of step 30/s,
    );
  });
});
