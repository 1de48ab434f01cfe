import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { startSshd, type TestSshd } from '../deploy/launchers/sshd.ts';
import {
  assertQuiet,
  digestsOf,
  finish,
  lastJson,
  latestCheckpoint,
  processesOf,
  readStatus,
  smallRunFile,
  start,
  untilStep,
  withFolder,
  writeRunFile,
} from './support.ts';

const STEPS = 120;

describe('one run file on every launcher', function () {
  this.timeout(300_000);
  const document = smallRunFile({ steps: STEPS, every: 20 });
  let sshd: TestSshd | null = null;
  let local: RunResult;

  before(() =>
    withFolder(async (folder) => {
      local = await finish(['launch', await writeRunFile(folder, document), '--runs-dir', folder]);
    }),
  );
  after(() => sshd?.stop());

  /** Arguments for ssh with each loopback address as a host; skips where there is no sshd. */
  async function onSsh(context: Mocha.Context, folder: string): Promise<string[]> {
    if (sshd === null) {
      const started = await startSshd();
      if (typeof started === 'string') {
        console.log(`      skipped: ${started}`);
        return context.skip();
      }
      sshd = started;
    }
    const { addresses, port, config } = sshd;
    const hostfile = join(folder, 'hosts');
    await writeFile(hostfile, addresses.map((address) => `${address}:${port} slots=2\n`).join(''));
    return ['--on', 'ssh', '--hostfile', hostfile, '--ssh-config', config];
  }

  it('ssh: three hosts give the digests of one machine, also when a server is killed', function () {
    return withFolder(async (folder) => {
      const on = await onSsh(this, folder);
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, document);
      const { ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json', ...on]);
      await untilStep(runDirectory, 30, ended);
      const server = await roleOf(runDirectory, 'server', 1);
      process.kill(server, 'SIGKILL');
      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      assert.match(end.stderr, /server\[1\] was killed by SIGKILL; started again \(1 of 10\)/);
      assert.deepEqual(digestsOf(lastJson<RunResult>(end)), digestsOf(local));
      await assertQuiet(runDirectory);
    });
  });

  it('ssh: stops with a checkpoint when its launcher is killed, and nothing is left', function () {
    return withFolder(async (folder) => {
      const on = await onSsh(this, folder);
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, smallRunFile({ steps: 100_000, every: 1000 }));
      const { child, ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json', ...on]);
      await untilStep(runDirectory, 10, ended);
      child.kill('SIGKILL');
      while ((await processesOf(runDirectory)).length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
      await assertQuiet(runDirectory);
      const status = await readStatus(runDirectory);
      assert.equal(status.state, 'STOPPED');
      assert.equal((await latestCheckpoint(runDirectory)).clock, status.step);
    });
  });

  it('local: starts a killed role again, within --max-restarts', () =>
    withFolder(async (folder) => {
      const runDirectory = join(folder, 'run');
      const runFile = await writeRunFile(folder, document);
      const args = ['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json', '--max-restarts', '1'];
      const { ended } = start(args);
      await untilStep(runDirectory, 30, ended);
      process.kill(await roleOf(runDirectory, 'worker', 0), 'SIGKILL');
      const end = await ended;
      assert.equal(end.code, 0, end.stderr);
      assert.match(end.stderr, /worker\[0\] was killed by SIGKILL; started again \(1 of 1\)/);
      assert.deepEqual(digestsOf(lastJson<RunResult>(end)), digestsOf(local));
      await assertQuiet(runDirectory);
    }));
});

/** The pid of a role's own process, not of those that stand for it. */
async function roleOf(runDirectory: string, role: string, rank: number): Promise<number> {
  for (const pid of await processesOf(runDirectory)) {
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const at = words.indexOf('--rank');
    if (words.includes(role) && words[at + 1] === String(rank)) return pid;
  }
  assert.fail(`no process of ${role}[${rank}]`);
}
