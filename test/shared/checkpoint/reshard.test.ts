import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { digestCheckpoint } from '../../../shared/checkpoint/digests.ts';
import type { ShardSnapshot } from '../../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { bitmap, cut, useFolder, wholeSnapshot, writeCheckpoint } from './fixtures.ts';

/** Any snapshot of the whole space: random bits, values of any float32 pattern except NaN (which deepEqual would equate). */
const anySnapshot: fc.Arbitrary<ShardSnapshot> = fc.integer({ min: 101, max: 400 }).chain((size) =>
  fc
    .array(
      fc.record({
        fate: fc.constantFrom('gone', 'latent', 'survivor'),
        w: fc.float({ noNaN: true }),
        m: fc.float({ noNaN: true }),
      }),
      { minLength: size, maxLength: size },
    )
    .map((elements) => {
      const stored = elements.filter(({ fate }) => fate !== 'gone');
      return {
        start: 0,
        end: size,
        stored: bitmap(size, (i) => elements[i]!.fate !== 'gone'),
        mask: bitmap(size, (i) => elements[i]!.fate === 'survivor'),
        weights: Float32Array.from(stored, ({ w }) => w),
        slots: { m: Float32Array.from(stored, ({ m }) => m) },
        state: Float32Array.of(1, 2, 3),
      };
    }),
);

/** Cut points of k shards: sorted multiples of 64 within the space, some shards empty. */
function cutsOf(size: number, blocks: readonly number[]): number[] {
  return [0, ...blocks.map((block) => Math.min(size, block * 64)).sort((a, b) => a - b), size];
}

describe('readRange', () => {
  const folder = useFolder();

  it('gives the same whatever the shards were, at any new cut (property)', async () => {
    await fc.assert(
      fc.asyncProperty(
        anySnapshot,
        fc.array(fc.nat(7), { maxLength: 4 }),
        fc.array(fc.nat(400), { maxLength: 4 }),
        async (whole, oldBlocks, newCuts) => {
          const run = mkdtempSync(join(tmpdir(), 'whittle-reshard-'));
          try {
            const store = new CheckpointStore(run);
            const manifest = await writeCheckpoint(store, { whole, cuts: cutsOf(whole.end, oldBlocks) });
            await store.verify(store.folderOf(manifest));
            const cuts = [0, ...newCuts.map((at) => Math.min(at, whole.end)).sort((a, b) => a - b), whole.end];
            for (let i = 0; i + 1 < cuts.length; i++) {
              const [start, end] = [cuts[i]!, cuts[i + 1]!];
              assert.deepEqual(await store.readRange(manifest, start, end), cut(whole, start, end, null));
            }
          } finally {
            rmSync(run, { recursive: true });
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it('gives the state to everyone who asks, wherever it lies', async () => {
    const store = new CheckpointStore(folder());
    const manifest = await writeCheckpoint(store);
    const { state } = await store.readRange(manifest, 200, 300, { withState: true });
    assert.deepEqual(state, Float32Array.of(1.5, -2.5, 3.5));
  });

  it('digests do not depend on the cuts', async () => {
    const store = new CheckpointStore(folder());
    const digests = [];
    for (const [clock, cuts] of [
      [0, 300],
      [0, 64, 300],
      [0, 64, 128, 128, 256, 300],
    ].entries()) {
      digests.push(
        await digestCheckpoint(await writeCheckpoint(store, { clock, cuts, whole: wholeSnapshot() }), store),
      );
    }
    assert.deepEqual(digests[1], digests[0]);
    assert.deepEqual(digests[2], digests[0]);
  });
});
