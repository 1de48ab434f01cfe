import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LineTail } from '../../../deploy/launchers/line-tail.ts';

describe('LineTail', () => {
  let folder: string;
  let path: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'whittle-tail-'));
    path = join(folder, 'log');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('gives each whole line once, also of a file that comes later', async () => {
    const tail = new LineTail(path);
    assert.deepEqual(await tail.read(), []);
    writeFileSync(path, 'one\ntw');
    assert.deepEqual(await tail.read(), ['one']);
    appendFileSync(path, 'o\nthree\n');
    assert.deepEqual(await tail.read(), ['two', 'three']);
    assert.deepEqual(await tail.read(), []);
  });

  it('starts where it is told and again where the file was cut', async () => {
    writeFileSync(path, 'old\nnew\n');
    const tail = new LineTail(path, 4);
    assert.deepEqual(await tail.read(), ['new']);
    writeFileSync(path, 'x\n');
    assert.deepEqual(await tail.read(), ['x']);
  });

  it('joins a character that was written in two pieces', async () => {
    const bytes = Buffer.from('größe\n');
    const tail = new LineTail(path);
    writeFileSync(path, bytes.subarray(0, 3));
    assert.deepEqual(await tail.read(), []);
    appendFileSync(path, bytes.subarray(3));
    assert.deepEqual(await tail.read(), ['größe']);
  });

  it('reads files larger than its buffer', async () => {
    const lines = Array.from({ length: 20_000 }, (_, i) => `line ${i}`);
    writeFileSync(path, `${lines.join('\n')}\n`);
    assert.deepEqual(await new LineTail(path).read(), lines);
  });
});
