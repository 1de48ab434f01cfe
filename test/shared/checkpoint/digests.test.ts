import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { digestCheckpoint } from '../../../shared/checkpoint/digests.ts';
import type { ShardSnapshot } from '../../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { isSet, useFolder, wholeSnapshot, writeCheckpoint } from './fixtures.ts';

const sha256 = (...parts: Uint8Array[]): string => createHash('sha256').update(Buffer.concat(parts)).digest('hex');
const bytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer);

describe('digestCheckpoint', () => {
  const folder = useFolder();

  it('is what section 5 defines, computed here from the definition', async () => {
    const store = new CheckpointStore(folder());
    const whole = wholeSnapshot();
    const dense = new Float32Array(300);
    for (let i = 0; i < 300; i++) if (isSet(whole.mask, i)) dense[i] = i / 7;
    assert.deepEqual(await digestCheckpoint(await writeCheckpoint(store), store), {
      maskDigest: sha256(whole.mask),
      weightsDigest: sha256(bytes(dense)),
      stateDigest: sha256(
        Buffer.from('m\0'),
        bytes(whole.slots['m']!),
        Buffer.from('v\0'),
        bytes(whole.slots['v']!),
        bytes(whole.state!),
      ),
    });
  });

  // Each change is written with its own, correct hashes: only the digests can tell.
  const changes: [string, (whole: ShardSnapshot) => void, string[]][] = [
    [
      'the last bit of one surviving weight',
      ({ weights }) => void (new Uint32Array(weights.buffer)[9]! ^= 1),
      ['weightsDigest'],
    ],
    // Element 2 is stored and masked, packed second after element 0: its latent value has no effect.
    ['a latent weight', ({ weights }) => void (weights[1] = 99), []],
    ['one slot value', ({ slots }) => void (slots['v']![3] = 0.25), ['stateDigest']],
    ['the non-trainable state', ({ state }) => void (state![2] = 0), ['stateDigest']],
    ['one mask bit, of a weight of zero', ({ mask }) => void (mask[0]! &= ~1), ['maskDigest']],
  ];
  for (const [what, change, changed] of changes) {
    it(`tells ${what}: ${changed.join() || 'no digest'} changes`, async () => {
      const store = new CheckpointStore(folder());
      const before = await digestCheckpoint(await writeCheckpoint(store, { clock: 1 }), store);
      const whole = wholeSnapshot();
      change(whole);
      const manifest = await writeCheckpoint(store, { clock: 2, whole });
      await store.verify(store.folderOf(manifest));
      const after = await digestCheckpoint(manifest, store);
      assert.deepEqual(
        Object.keys(after).filter((name) => after[name as keyof typeof after] !== before[name as keyof typeof after]),
        changed,
      );
    });
  }
});
