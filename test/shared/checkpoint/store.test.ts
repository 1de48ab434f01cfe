import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import type { GenerationRecord } from '../../../shared/coordination/coordinator.ts';
import { collectWarnings, useFolder, writeCheckpoint } from './fixtures.ts';

describe('CheckpointStore', () => {
  const run = useFolder();

  it('publishes nothing but the shard files and the manifest', async () => {
    const store = new CheckpointStore(run());
    const manifest = await writeCheckpoint(store, { clock: 468, generation: 2 });
    const folder = join(run(), 'checkpoints', 'step-00000468-g2');
    assert.equal(store.folderOf(manifest), folder);
    assert.deepEqual(readdirSync(folder).sort(), ['manifest.json', 'shard-0.safetensors', 'shard-1.safetensors']);
    assert.deepEqual(await store.verify('step-00000468-g2'), manifest);
    await assert.rejects(store.create(468, 2), /exists and is finished/);
  });

  it('refuses to publish while a shard is missing', async () => {
    const store = new CheckpointStore(run());
    const manifest = await writeCheckpoint(store);
    const folder = store.folderOf(manifest);
    rmSync(join(folder, 'manifest.json'));
    rmSync(join(folder, 'shard-1.safetensors'));
    await assert.rejects(store.publish(manifest), /shard-1.safetensors has -1 bytes/);
    assert.equal(existsSync(join(folder, 'manifest.json')), false);
  });

  const damages: [string, (folder: string) => void, RegExp][] = [
    [
      'a truncated shard',
      (folder) => truncateSync(join(folder, 'shard-1.safetensors'), 100),
      /shard-1\.safetensors has 100 bytes.*truncated/,
    ],
    [
      'one flipped bit',
      (folder) => flipBit(join(folder, 'shard-0.safetensors'), -5),
      /shard-0\.safetensors does not match its sha256/,
    ],
    ['a missing shard', (folder) => rmSync(join(folder, 'shard-0.safetensors')), /shard-0\.safetensors is missing/],
    ['no manifest', (folder) => rmSync(join(folder, 'manifest.json')), /no manifest\.json/],
    ['an empty manifest', (folder) => truncateSync(join(folder, 'manifest.json'), 0), /not JSON/],
    ['a truncated manifest', (folder) => truncateSync(join(folder, 'manifest.json'), 500), /not JSON/],
    ['a manifest of garbage', (folder) => writeFileSync(join(folder, 'manifest.json'), '[1, 2]'), /manifest\.json/],
    [
      'a manifest nested without end',
      (folder) => writeFileSync(join(folder, 'manifest.json'), '['.repeat(3_000_000)),
      /not JSON/,
    ],
    [
      'a manifest of 4 GB',
      (folder) => truncateSync(join(folder, 'manifest.json'), 2 ** 32),
      /4294967296 bytes, more than/,
    ],
    [
      'a manifest that leads out of the folder',
      (folder) => edit(folder, '"shard-0.safetensors"', '"../../shard-0.safetensors"'),
      /shards\.0\.file/,
    ],
    ['a gap between shards', (folder) => edit(folder, '"start": 128', '"start": 192'), /starts at 192, not at 128/],
    [
      'shards that end too early',
      (folder) => edit(folder, '"end": 300', '"end": 256'),
      /the shards end at 256, the model has 300/,
    ],
    ['another format', (folder) => edit(folder, '"version": 1', '"version": 2'), /format 2, this Whittle reads 1/],
    [
      'a renamed folder',
      (folder) => edit(folder, '"clock": 20', '"clock": 21'),
      /holds the manifest of step-00000021-g1/,
    ],
  ];
  for (const [what, damage, reason] of damages) {
    it(`falls back over ${what}, naming folder and reason`, async () => {
      const store = new CheckpointStore(run());
      await writeCheckpoint(store, { clock: 10 });
      const newer = store.folderOf(await writeCheckpoint(store, { clock: 20 }));
      assert.equal((await store.newestUsable({}, assert.fail))?.folder, newer);
      damage(newer);
      const { warn, warnings } = collectWarnings();
      const usable = await store.newestUsable({ pointer: 'step-00000020-g1' }, warn);
      assert.equal(usable?.manifest.clock, 10);
      assert.equal(warnings.length, 1);
      assert.match(warnings[0]!, /step-00000020-g1 is skipped/);
      assert.match(warnings[0]!, reason);
    });
  }

  it('finds nothing in a run without checkpoints', async () => {
    assert.equal(await new CheckpointStore(run()).newestUsable({}, assert.fail), null);
  });

  it('uses nothing above the clock asked for, nor newer than the pointer, and names a missing pointer', async () => {
    const store = new CheckpointStore(run());
    for (const clock of [10, 20, 30]) await writeCheckpoint(store, { clock });
    const { warn, warnings } = collectWarnings();
    assert.equal((await store.newestUsable({ atOrBelow: 29 }, warn))?.manifest.clock, 20);
    assert.equal((await store.newestUsable({ pointer: 'step-00000020-g1' }, warn))?.manifest.clock, 20);
    assert.deepEqual(warnings, []);
    assert.equal((await store.newestUsable({ pointer: 'step-00000025-g1' }, warn))?.manifest.clock, 20);
    assert.match(warnings[0]!, /step-00000025-g1 is missing/);
  });

  it('leaves out checkpoints of a timeline that a rollback abandoned', async () => {
    const store = new CheckpointStore(run());
    for (const clock of [10, 20, 30]) await writeCheckpoint(store, { clock });
    const lineage: GenerationRecord[] = [
      { generation: 1, from: null },
      { generation: 2, from: { clock: 10, checkpoint: 'step-00000010-g1' } },
    ];
    await writeCheckpoint(store, { clock: 40, generation: 2 });
    rmSync(join(run(), 'checkpoints/step-00000040-g2/manifest.json'));
    const { warn, warnings } = collectWarnings();
    assert.equal((await store.newestUsable({ pointer: 'step-00000040-g2', lineage }, warn))?.manifest.clock, 10);
    assert.equal(warnings.length, 1);
  });

  it('retains the newest, the latest, and what may be being written; deletes the rest', async () => {
    const store = new CheckpointStore(run());
    for (const clock of [10, 20, 30, 40]) await writeCheckpoint(store, { clock, generation: 2 });
    await writeCheckpoint(store, { clock: 5, generation: 3 });
    await store.create(35, 1); // left over by an older generation
    await store.create(15, 2); // the same
    await store.create(50, 2); // being written
    await store.create(60, 3); // a newer generation's
    const deleted = await store.retain(2, { latest: 'step-00000020-g2', generation: 2 }, assert.fail);
    assert.deepEqual(deleted.sort(), ['step-00000010-g2', 'step-00000015-g2', 'step-00000035-g1']);
    assert.deepEqual(
      (await store.list()).map(({ name, complete }) => [name, complete]),
      [
        ['step-00000020-g2', true],
        ['step-00000030-g2', true],
        ['step-00000040-g2', true],
        ['step-00000050-g2', false],
        ['step-00000005-g3', true],
        ['step-00000060-g3', false],
      ],
    );
  });

  it('deletes abandoned timelines before those of the run', async () => {
    const store = new CheckpointStore(run());
    for (const clock of [10, 20, 30]) await writeCheckpoint(store, { clock });
    await writeCheckpoint(store, { clock: 20, generation: 2 });
    const lineage: GenerationRecord[] = [
      { generation: 1, from: null },
      { generation: 2, from: { clock: 10, checkpoint: 'step-00000010-g1' } },
    ];
    const deleted = await store.retain(2, { latest: 'step-00000020-g2', generation: 2, lineage });
    assert.deepEqual(deleted.sort(), ['step-00000020-g1', 'step-00000030-g1']);
  });

  it('goes on where a checkpoint cannot be deleted, with a warning', async () => {
    const store = new CheckpointStore(run());
    for (const clock of [10, 20, 30]) await writeCheckpoint(store, { clock });
    // A folder in the place of the manifest cannot be removed as a file, whoever asks.
    const oldest = join(run(), 'checkpoints', 'step-00000010-g1');
    renameSync(join(oldest, 'manifest.json'), join(oldest, 'away'));
    mkdirSync(join(oldest, 'manifest.json'));
    const { warn, warnings } = collectWarnings();
    assert.deepEqual(await store.retain(1, { latest: null, generation: 1 }, warn), ['step-00000020-g1']);
    assert.match(warnings.join(), /step-00000010-g1 could not be deleted/);
  });
});

function flipBit(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[(at + bytes.length) % bytes.length]! ^= 1;
  writeFileSync(path, bytes);
}

function edit(folder: string, from: string, to: string): void {
  const path = join(folder, 'manifest.json');
  const text = readFileSync(path, 'utf8');
  assert.ok(text.includes(from));
  writeFileSync(path, text.replace(from, to));
}
