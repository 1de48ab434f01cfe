import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  checkBackends,
  checkCores,
  checkData,
  checkMemory,
  checkNode,
  checkPort,
  checkRunsFolder,
  checkTransport,
} from '../../../deploy/cli/doctor-checks.ts';
import { cli } from './run.ts';

describe('whittle doctor', () => {
  let folder: string;
  beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'whittle-doctor-'))));
  afterEach(() => rmSync(folder, { recursive: true }));

  it('passes on this machine and leaves nothing behind', async () => {
    const runs = join(folder, 'runs');
    const { exitCode, stdout } = await cli(['doctor', '--runs-dir', runs, '--json']);
    const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: { check: string; status: string }[] };
    assert.deepEqual(
      checks.map(({ check }) => check),
      ['node', 'cores', 'memory', 'backends', 'data', 'runs folder', 'port', 'transport'],
    );
    assert.deepEqual(
      checks.filter(({ status }) => status === 'fail'),
      [],
    );
    assert.equal(ok, true);
    assert.equal(exitCode, 0);
    assert.equal(existsSync(runs), false);
  });

  it('exits with 1 and a cure where a check fails', async () => {
    writeFileSync(join(folder, 'file'), '');
    const { exitCode, stdout } = await cli(['doctor', '--runs-dir', join(folder, 'file', 'runs')]);
    assert.equal(exitCode, 1);
    assert.match(stdout, /^fail {2}runs folder .*\n +cure: name another folder with --runs-dir$/m);
    assert.match(stdout, /1 of 8 checks failed\n$/);
  });

  it('ends with a failure where the file system makes no folders', async () => {
    const { status, detail, cure } = await checkRunsFolder('/proc/whittle/runs');
    assert.equal(status, 'fail');
    assert.match(detail, /\/proc\/whittle cannot be made: \/proc takes no folders/);
    assert.match(cure ?? '', /--runs-dir/);
  });

  it('takes away the folders it made, and no others', async () => {
    assert.notEqual((await checkRunsFolder(join(folder, 'a', 'b'))).status, 'fail');
    assert.deepEqual(readdirSync(folder), []);
  });

  it('keeps what is in the runs folder', async () => {
    writeFileSync(join(folder, 'mine'), '');
    assert.notEqual((await checkRunsFolder(folder)).status, 'fail');
    assert.deepEqual(readdirSync(folder), ['mine']);
  });

  it('knows the oldest Node', () => {
    assert.equal(checkNode('20.19.0').status, 'ok');
    assert.equal(checkNode('24.0.1').status, 'ok');
    assert.equal(checkNode('20.18.3').status, 'fail');
    assert.match(checkNode('18.20.0').cure ?? '', /Node 20\.19/);
  });

  it('warns of one core and of little memory', () => {
    assert.equal(checkCores(2).status, 'ok');
    assert.match(checkCores(1).cure ?? '', /servers: 1, workers: 1/);
    assert.equal(checkMemory(2e9, 8e9).status, 'ok');
    assert.deepEqual([checkMemory(5e8, 8e9).status, checkMemory(5e8, 8e9).detail], ['warn', '500 MB free of 8.00 GB']);
  });

  it('computes with the backend that auto picks, and finds MNIST', async () => {
    assert.match((await checkBackends()).detail, /auto picks \S+; load: .*wasm/);
    assert.match((await checkData()).detail, /mnist \(60000 \+ 10000 examples\)/);
  });

  it('finds a port, and says where it cannot listen', async () => {
    assert.match((await checkPort()).detail, /127\.0\.0\.1:\d+ is free/);
    // TEST-NET-1 (RFC 5737) is no address of this machine.
    assert.equal((await checkPort('192.0.2.1')).status, 'fail');
  });

  it('raises the window', async () => assert.equal((await checkTransport()).status, 'ok'));
});
