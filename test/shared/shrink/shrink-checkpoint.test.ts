import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import { digestCheckpoint, locatedAt } from '../../../shared/checkpoint/digests.ts';
import type { Manifest, ShardSnapshot } from '../../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { readWhole, writeWhole } from '../../../shared/checkpoint/whole.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import { cutEvenly } from '../../../shared/layout/shard-map.ts';
import { shrinkCheckpoint } from '../../../shared/shrink/shrink-checkpoint.ts';
import { shrinkModel } from '../../../shared/shrink/shrink.ts';
import type { FlatModel } from '../../../shared/shrink/flat-model.ts';
import { countBits } from '../../../shared/sparsity/bitmap.ts';
import { pack, unpack } from '../../../shared/sparsity/packing.ts';
import { useFolder, writeCheckpoint, isSet } from '../checkpoint/fixtures.ts';
import { descriptionOf, MODELS } from '../model-graph/models.ts';
import { distance, killed, OWN, outputsOf, trained } from './support.ts';

function snapshotOf({ weights, slots, stored, mask, state }: FlatModel): ShardSnapshot {
  return {
    start: 0,
    end: weights.length,
    stored,
    mask,
    weights: pack(weights, stored),
    slots: Object.fromEntries(Object.entries(slots).map(([name, values]) => [name, pack(values, stored)])),
    state,
  };
}

describe('shrinking a checkpoint', () => {
  before(() => tf.setBackend('cpu'));
  const run = useFolder();

  /** A checkpoint of three shards, with every other unit dead and a third of the dead elements still latent. */
  async function write(): Promise<{ model: FlatModel; manifest: Manifest; store: CheckpointStore }> {
    const dead = killed(trained(descriptionOf(MODELS.convolution()), 3), (_, unit) => unit % 2 === 0, [
      ...OWN,
      'consumer',
    ]);
    const stored = dead.mask.slice();
    for (let i = 0; i < dead.weights.length; i += 3) stored[i >> 3]! |= 1 << (i & 7);
    const model: FlatModel = { ...dead, stored };
    const store = new CheckpointStore(run());
    const manifest = await writeCheckpoint(store, {
      whole: snapshotOf(model),
      description: model.description,
      cuts: cutEvenly(model.weights.length, 3),
    });
    return { model, manifest: { ...manifest, config: { sparsity: [{ match: '*' }] } as unknown as RunConfig }, store };
  }

  it('reads any cuts and writes any others, bit by bit', async () => {
    const { model, manifest, store } = await write();
    const whole = await readWhole(store.folderOf(manifest), manifest);
    assert.deepEqual(whole, snapshotOf(model));
    const folder = await store.create(10, 2);
    for (const servers of [1, 2, 5]) {
      const shards = await writeWhole(folder, whole, cutEvenly(whole.end, servers));
      const copy: Manifest = { ...manifest, generation: 2, shards };
      assert.deepEqual(await readWhole(folder, copy), whole);
      assert.deepEqual(await digestCheckpoint(copy, locatedAt(folder)), await digestCheckpoint(manifest, store));
    }
  });

  it('gives a checkpoint of the same clock that verifies and computes the same', async () => {
    const { model, manifest, store } = await write();
    const shrunk = shrinkCheckpoint(manifest, await readWhole(store.folderOf(manifest), manifest), 'masked');
    const folder = await store.create(10, 2);
    const shards = await writeWhole(folder, shrunk.whole, cutEvenly(shrunk.whole.end, 2));
    await store.publish({ ...shrunk.manifest, generation: 2, writtenAt: manifest.writtenAt, shards });
    const verified = await store.verify(folder);
    assert.deepEqual(
      [verified.clock, verified.maskEpoch, verified.dataPosition, verified.testAccuracy],
      [10, 2, 80, 0.75],
    );
    assert.deepEqual(verified.config, manifest.config);
    assert.deepEqual(
      shrunk.units.map(({ before, after }) => [before, after]),
      [
        [4, 2],
        [3, 1],
        [5, 2],
      ],
    );
    const whole = await readWhole(folder, verified);
    const small: FlatModel = {
      description: verified.model,
      weights: unpack(whole.weights, whole.stored, whole.end),
      slots: {},
      stored: whole.stored,
      mask: whole.mask,
      state: whole.state!,
    };
    assert.ok(distance(await outputsOf(model), await outputsOf(small)) < 1e-5);
    // Of all that the model began with, which the rule matches: shrinking changes no count.
    const dead = model.weights.length - countBits(model.mask);
    assert.equal(verified.sparsity, dead / model.weights.length);
    assert.deepEqual(verified.model.shrunkFrom, {
      parameters: model.description.parameters,
      states: model.description.states,
    });
    const direct = shrinkModel(model, 'masked').model;
    assert.deepEqual(snapshotOf(direct), whole);
  });

  it('latent elements keep weights and slots where their unit survives', async () => {
    const { model, manifest, store } = await write();
    // A survivor's element is masked and latent.
    const whole = await readWhole(store.folderOf(manifest), manifest);
    const mask = whole.mask.slice();
    const latent = [...model.weights.keys()].find((i) => isSet(whole.mask, i) && i > 3)!;
    mask[latent >> 3]! &= ~(1 << (latent & 7));
    const { whole: small } = shrinkCheckpoint(manifest, { ...whole, mask }, 'masked');
    const at = unpack(small.weights, small.stored, small.end).indexOf(model.weights[latent]!);
    assert.deepEqual([isSet(small.stored, at), isSet(small.mask, at)], [true, false]);
    assert.equal(unpack(small.slots['v']!, small.stored, small.end)[at], model.slots['v']![latent]);
  });
});
