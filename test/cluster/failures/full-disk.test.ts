import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { RunResult } from '../../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  lastJson,
  latestCheckpoint,
  readMetrics,
  smallRunFile,
  start,
  until,
  untilStep,
  withFolder,
  writeRunFile,
} from '../support.ts';
import { assertFailed, launchArgs } from './support.ts';

const run = promisify(execFile);

describe('a full disk while checkpoints are written', function () {
  this.timeout(300_000);
  const STEPS = 700;
  const document = smallRunFile({ steps: STEPS, every: 50, keep: 2 });
  let never: RunResult;

  before(() =>
    withFolder(async (folder) => {
      never = await finish(['launch', await writeRunFile(folder, document), '--runs-dir', folder]);
    }),
  );

  /** Runs on a file system of its own of 3 MiB, or skips. */
  async function onSmallDisk(
    context: Mocha.Context,
    body: (disk: string, folder: string) => Promise<void>,
  ): Promise<void> {
    await withFolder(async (folder) => {
      const disk = join(folder, 'disk');
      await mkdir(disk);
      try {
        await run('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', disk]);
      } catch (error) {
        console.log(`      skipped: no small file system can be mounted here: ${String(error)}`);
        context.skip();
      }
      try {
        await body(disk, folder);
      } finally {
        await run('umount', ['-l', disk]);
      }
    });
  }

  async function fill(disk: string): Promise<string> {
    const ballast = join(disk, 'ballast');
    for (let size = 1 << 20; size >= 1; size = Math.floor(size / 2)) {
      for (;;) {
        try {
          await writeFile(ballast, Buffer.alloc(size), { flag: 'a' });
        } catch {
          break;
        }
      }
    }
    return ballast;
  }

  it('is a warning while an older checkpoint exists, and loses nothing', function () {
    return onSmallDisk(this, async (disk, folder) => {
      const runFile = await writeRunFile(folder, document);
      const runDirectory = join(disk, 'run');
      const { child, ended } = start(launchArgs(disk, runFile));
      let told = '';
      child.stderr?.on('data', (chunk: Buffer) => (told += chunk.toString()));
      await untilStep(runDirectory, 60, ended);
      const ballast = await fill(disk);
      await until('the warning', () =>
        /checkpoint \d+ failed: .*no space left.*the checkpoint of step \d+ is kept, training goes on/.test(told)
          ? true
          : null,
      );
      await rm(ballast);
      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      assert.deepEqual(digestsOf(lastJson<RunResult>(end)), digestsOf(never));
      assert.deepEqual(
        (await readMetrics(runDirectory)).map(({ step }) => step),
        Array.from({ length: STEPS }, (_, i) => i + 1),
      );
      await assertQuiet(runDirectory);
    });
  });

  it('fails the run at its last checkpoint, and the older one goes on when there is space', function () {
    return onSmallDisk(this, async (disk, folder) => {
      const runFile = await writeRunFile(folder, document);
      const runDirectory = join(disk, 'run');
      const { ended } = start(launchArgs(disk, runFile));
      await untilStep(runDirectory, 60, ended);
      const ballast = await fill(disk);
      const end = await ended;
      const result = await assertFailed(end, runDirectory, 'DISK');
      assert.match(result.failure?.message ?? '', /no space left on the device.*free space there/);
      assert.match(result.failure?.message ?? '', /the checkpoint of step \d+ is kept/);
      await rm(ballast);
      const { clock } = await latestCheckpoint(runDirectory);
      assert.ok(clock >= 50 && clock < STEPS, `checkpoint ${clock} is kept`);
      const again = await finish(['resume', runDirectory]);
      assert.equal(again.resumedFrom, clock);
      assert.deepEqual(digestsOf(again), digestsOf(never));
      assert.deepEqual(
        (await readMetrics(runDirectory)).map(({ step }) => step),
        Array.from({ length: STEPS }, (_, i) => i + 1),
      );
      assert.ok(!(await readdir(join(runDirectory, 'checkpoints'))).some((name) => name.endsWith('.tmp')));
      await assertQuiet(runDirectory);
    });
  });
});
