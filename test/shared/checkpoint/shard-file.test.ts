import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { WhittleError } from '../../../shared/errors.ts';
import { packageRoot } from '../../../shared/package-root.ts';
import { readShardFile, writeShardFile } from '../../../shared/checkpoint/shard-file.ts';
import { useFolder, wholeSnapshot } from './fixtures.ts';

describe('writeShardFile', () => {
  const folder = useFolder();

  it('is read back bit for bit', async () => {
    const snapshot = wholeSnapshot();
    snapshot.weights[0] = -0;
    const entry = await writeShardFile(folder(), 3, snapshot);
    assert.equal(entry.file, 'shard-3.safetensors');
    assert.equal(entry.bytes, readFileSync(join(folder(), entry.file)).length);
    const { v, m } = snapshot.slots;
    assert.deepEqual(await readShardFile(join(folder(), entry.file)), { ...snapshot, slots: { m, v } });
  });

  it('is a defect, and no file, when bitmaps and values contradict each other', async () => {
    const snapshot = wholeSnapshot();
    await assert.rejects(
      writeShardFile(folder(), 0, { ...snapshot, weights: snapshot.weights.subarray(1) }),
      /199 weights for 200 stored elements/,
    );
    await assert.rejects(
      writeShardFile(folder(), 0, { ...snapshot, mask: snapshot.mask.map(() => 255) }),
      /not stored/,
    );
    await assert.rejects(
      writeShardFile(folder(), 0, { ...snapshot, stored: snapshot.stored.map(() => 255) }),
      /beyond the end/,
    );
    assert.deepEqual(readdirSync(folder()), []);
  });

  it('names a folder that is not there', async () => {
    await assert.rejects(
      writeShardFile(join(folder(), 'gone'), 0, wholeSnapshot()),
      (error: WhittleError) => error.code === 'DISK' && /gone/.test(error.message),
    );
  });

  it('a full disk: DISK with path, bytes and cure, no temporary file, the older file whole', async function () {
    const disk = join(folder(), 'disk');
    mkdirSync(disk);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]).status !== 0) {
      this.skip(); // Only root may mount; the next test has a limit that everyone may set.
    }
    try {
      await writeShardFile(disk, 0, wholeSnapshot());
      const older = readFileSync(join(disk, 'shard-0.safetensors'));
      await assert.rejects(writeShardFile(disk, 0, wholeSnapshot(100_000)), (error: WhittleError) => {
        assert.equal(error.code, 'DISK');
        assert.equal(error.data['systemCode'], 'ENOSPC');
        assert.match(
          error.message,
          /disk\/shard-0\.safetensors: no space left on the device \(needs 8\d{5} bytes, \d+ free\); free space/,
        );
        return true;
      });
      assert.deepEqual(readdirSync(disk), ['shard-0.safetensors']);
      assert.deepEqual(readFileSync(join(disk, 'shard-0.safetensors')), older);
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  it('a file size limit, in a real process: DISK, and nothing left behind', () => {
    const url = (path: string): string => JSON.stringify(pathToFileURL(join(packageRoot, path)).href);
    const script = `
      const { writeShardFile } = await import(${url('shared/checkpoint/shard-file.ts')});
      const size = 100_000, bits = new Uint8Array(size / 8).fill(255), weights = new Float32Array(size);
      const snapshot = { start: 0, end: size, stored: bits, mask: bits, weights, slots: {}, state: null };
      await writeShardFile(process.argv[1], 0, snapshot).then(() => console.log('written'), (error) => console.log(error.message));`;
    const child = spawnSync(
      'sh',
      [
        '-c',
        'ulimit -f 64; exec "$@"',
        'sh',
        process.execPath,
        '--import',
        'tsx',
        '--input-type=module',
        '-e',
        script,
        folder(),
      ],
      {
        encoding: 'utf8',
        cwd: packageRoot,
      },
    );
    assert.match(
      child.stdout,
      /^\[DISK\] cannot write .*shard-0\.safetensors.* exceed the largest size allowed \(needs 4\d{5} bytes/,
      child.stderr,
    );
    assert.deepEqual(readdirSync(folder()), []);
  });
});
