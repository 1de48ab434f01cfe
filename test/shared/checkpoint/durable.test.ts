import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeFolder } from '../../../shared/checkpoint/durable.ts';

describe('makeFolder', () => {
  let folder = '';
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'whittle-durable-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it('makes a folder and its parents, also twice and at once', async () => {
    const path = join(folder, 'a', 'b', 'c');
    await Promise.all([makeFolder(path), makeFolder(path), makeFolder(join(folder, 'a', 'b'))]);
    await makeFolder(path);
    assert.ok(existsSync(path));
  });

  it('ends with an error where a file is in the way, or no folders are taken', async function () {
    writeFileSync(join(folder, 'file'), '');
    await assert.rejects(makeFolder(join(folder, 'file')), { code: 'DISK' });
    await assert.rejects(makeFolder(join(folder, 'file', 'below')), { code: 'DISK' });
    if (!existsSync('/proc/self')) this.skip();
    await assert.rejects(makeFolder('/proc/whittle/runs'), { code: 'DISK' });
  });
});
