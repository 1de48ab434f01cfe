import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseHostfile } from '../../../deploy/launchers/hostfile.ts';
import type { LaunchPlan } from '../../../deploy/launchers/launcher.ts';
import { forwardedEnvironment } from '../../../deploy/launchers/ssh.ts';
import { launcherConformance } from './conformance.ts';
import { startSshd, type TestSshd } from './sshd.ts';

let sshd: TestSshd | null = null;
const start = async (): Promise<string | null> => {
  const started = await startSshd();
  if (typeof started === 'string') return started;
  sshd = started;
  return null;
};
const stop = async (): Promise<void> => {
  await sshd?.stop();
  sshd = null;
};
const hostsOf = ({ addresses, port }: TestSshd, rest = '') =>
  parseHostfile(addresses.map((address) => `${address}:${port} ${rest}\n`).join(''), 'hosts');

launcherConformance({
  name: 'ssh',
  prepare: start,
  cleanUp: stop,
  module: new URL('../../../deploy/launchers/ssh.ts', import.meta.url).href,
  factory: 'createSshLauncher',
  optionsOf: (entry, deadlines) => {
    assert.ok(sshd);
    // An unlimited number of slots is no JSON.
    const hosts = hostsOf(sshd, 'slots=2');
    return { hosts, sshArguments: ['-F', sshd.config], entry, deadlines };
  },
  slower: 5_000,
});

describe('ssh launcher', function () {
  this.timeout(300_000);
  let folder: string;
  before(async function () {
    const reason = await start();
    if (reason === null) return;
    console.log(`      skipped: ${reason}`);
    this.skip();
  });
  after(stop);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'whittle-ssh-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const never = new AbortController().signal;
  const plan = (): LaunchPlan => ({
    runId: 'fake',
    runDirectory: folder,
    servers: 1,
    workers: 1,
    minWorkers: 1,
    standbys: 0,
    maxRestarts: 0,
    host: '127.0.0.1',
    port: 0,
    resume: null,
  });
  const fake = new URL('./fixtures/fake-role.mjs', import.meta.url).pathname;
  const launch = async (hostfile: string, env = {}) => {
    // Not the twin that a static import gives in a test: it asks where its own files lie.
    const { createSshLauncher } = await import('../../../deploy/launchers/ssh.ts');
    return createSshLauncher({
      hosts: parseHostfile(hostfile, 'hosts'),
      sshArguments: ['-F', sshd?.config ?? ''],
      entry: [fake],
      env,
    }).start(plan(), never);
  };

  it('names a host that is not reached', async () => {
    writeFileSync(join(folder, 'run.yaml'), '');
    await assert.rejects(
      launch(`127.0.0.1:${sshd?.port}\n127.0.0.2:1\n`),
      /\[ROLE_LOST\] host 127\.0\.0\.2 \(port 1\) is not reached by ssh: .*Connection refused.*`ssh .*-p 1 127\.0\.0\.2 true` must work/,
    );
  });

  it('names a host without Node, without Whittle, and without the run directory', async () => {
    const host = `127.0.0.2:${sshd?.port}`;
    await assert.rejects(
      launch(`${host} node=/nowhere/node\n`),
      /\[USAGE\] host 127\.0\.0\.2 has no \/nowhere\/node; .*node=PATH/,
    );
    await assert.rejects(
      launch(`${host} whittle=/nowhere\n`),
      /\[USAGE\] host 127\.0\.0\.2 has no \/nowhere\/deploy\/launchers\/remote-role-main\.ts; .*whittle=FOLDER/,
    );
    await assert.rejects(
      launch(`${host}\n`),
      /\[USAGE\] host 127\.0\.0\.2 does not see .*run\.yaml; .*storage that all hosts share/,
    );
  });

  it('forwards the environment and takes words that a shell would change', async () => {
    writeFileSync(join(folder, 'run.yaml'), '');
    writeFileSync(
      join(folder, 'fake.json'),
      JSON.stringify({ scheduler: {}, worker: { env: 'WHITTLE_TRIED' }, server: {} }),
    );
    const value = `it's "$HOME" \`id\`\n; *`;
    const run = await launch(`127.0.0.1:${sshd?.port}\n`, { WHITTLE_TRIED: value });
    writeFileSync(join(folder, 'end'), '');
    assert.equal((await run.ended).loss, null);
    assert.equal(readFileSync(join(folder, 'worker-0.env'), 'utf8'), value);
  });
});

describe('forwardedEnvironment', () => {
  it('takes what is ours and what is named', () => {
    const env = { WHITTLE_X: '1', HOME: '/me', LANG: 'C', NODE_OPTIONS: '-r x' };
    assert.deepEqual(forwardedEnvironment(['LANG', 'A=b=c'], env), {
      WHITTLE_X: '1',
      NODE_OPTIONS: '-r x',
      LANG: 'C',
      A: 'b=c',
    });
    assert.throws(() => forwardedEnvironment(['GONE'], env), /\[USAGE\] --env GONE: it is not set here/);
  });
});
