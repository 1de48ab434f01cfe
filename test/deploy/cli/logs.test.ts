import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatLine, jsonOfLine, mergeByTime, timedLines } from '../../../deploy/cli/logs.ts';
import { statusOf } from '../launchers/fixtures/statuses.ts';
import { cli } from './run.ts';

const line = (time: string, msg: string, role = 'worker', rank = 0): string =>
  JSON.stringify({ level: 'info', time: `2026-08-01T12:00:${time}Z`, role, rank, run: 'mine', msg });

describe('mergeByTime', () => {
  it('merges by time and keeps lines without one behind their predecessor', () => {
    const server = timedLines('server', 2, [line('01.000', 'a'), line('03.000', 'c'), 'Killed', '']);
    const worker = timedLines('worker', 0, [line('02.000', 'b'), line('04.000', 'd')]);
    assert.deepEqual(
      mergeByTime([server, worker]).map(({ text }) => (text.startsWith('{') ? /"msg":"(.)"/.exec(text)?.[1] : text)),
      ['a', 'b', 'c', 'Killed', 'd'],
    );
  });

  it('never changes the order within a role, also when its clock was set back', () => {
    const lines = timedLines('server', 0, [line('05.000', 'a'), line('01.000', 'b')]);
    assert.deepEqual(mergeByTime([lines]), lines);
  });
});

describe('formatLine', () => {
  it('shows members as S[2] and leaves what is no log line as it is', () => {
    const [first, second] = timedLines('server', 2, [line('01.000', 'hello', 'server', 2), 'Segmentation fault']);
    assert.ok(first !== undefined && second !== undefined);
    assert.equal(formatLine(first), '2026-08-01 12:00:01.000 S[2] hello');
    assert.equal(formatLine(second), 'server[2] Segmentation fault');
    assert.deepEqual(jsonOfLine(second), {
      level: 'info',
      time: '2026-08-01T12:00:01.000Z',
      role: 'server',
      rank: 2,
      msg: 'Segmentation fault',
    });
  });
});

describe('commands on a run that ended', () => {
  let runs: string;
  let run: string;
  beforeEach(() => {
    runs = mkdtempSync(join(tmpdir(), 'whittle-runs-'));
    run = join(runs, 'mine');
    mkdirSync(join(run, 'logs'), { recursive: true });
    writeFileSync(join(run, 'run.yaml'), 'name: mine\n');
    writeFileSync(join(run, 'logs', 'worker-0.log'), `${line('01.000', 'one')}\n${line('03.000', 'three')}\n`);
    writeFileSync(join(run, 'logs', 'worker-1.log'), `${line('02.000', 'two', 'worker', 1)}\n`);
    writeStatus('SUCCEEDED');
  });
  afterEach(() => rmSync(runs, { recursive: true, force: true }));

  const writeStatus = (state: 'SUCCEEDED' | 'RUNNING'): void =>
    writeFileSync(join(run, 'status.json'), JSON.stringify(statusOf({ state, step: 9, totalSteps: 9 })));
  const messages = (stdout: string): string[] =>
    stdout
      .trim()
      .split('\n')
      .map((each) => each.split(' ').at(-1) ?? '');

  it('logs: all, by rank, and the last ones', async () => {
    const logs = async (...args: string[]): Promise<string[]> =>
      messages((await cli(['logs', 'mine', '--runs-dir', runs, ...args])).stdout);
    assert.deepEqual(await logs(), ['one', 'two', 'three']);
    assert.deepEqual(await logs('--rank', '0'), ['one', 'three']);
    assert.deepEqual(await logs('--tail', '2'), ['two', 'three']);
    assert.deepEqual(await logs('--role', 'server'), ['']);
  });

  it('logs: a rank that is not there is the user’s mistake, and those there are are named', async () => {
    for (const follow of [[], ['--follow']]) {
      const { exitCode, stderr } = await cli(['logs', 'mine', '--runs-dir', runs, '--rank', '7', ...follow]);
      assert.equal(exitCode, 2);
      assert.match(stderr, /\[USAGE\] run mine has no logs of rank 7; there are those of worker\[0\], worker\[1\]$/m);
    }
    const server = await cli(['logs', 'mine', '--runs-dir', runs, '--role', 'server', '--rank', '0']);
    assert.equal(server.exitCode, 2);
    assert.match(server.stderr, /has no logs of server\[0\]; /);
  });

  it('logs --follow: shows what was written until the end, then ends by itself', async () => {
    const { stdout, exitCode } = await cli(['logs', '--runs-dir', runs, '--follow', '--json']);
    assert.equal(exitCode, 0);
    assert.deepEqual(
      stdout
        .trim()
        .split('\n')
        .map((each) => (JSON.parse(each) as { msg: string }).msg),
      ['one', 'two', 'three'],
    );
  });

  it('status: of the newest run, and of one whose scheduler is gone', async () => {
    const status = async (): Promise<{ state: string; step: number }> =>
      JSON.parse((await cli(['status', '--runs-dir', runs, '--json'])).stdout) as { state: string; step: number };
    const { state, step } = await status();
    assert.deepEqual([state, step], ['SUCCEEDED', 9]);
    writeStatus('RUNNING');
    assert.equal((await status()).state, 'FAILED');
  });

  it('status --watch: ends with a run that ended', async () => {
    const { exitCode, stdout } = await cli(['status', 'mine', '--runs-dir', runs, '--watch']);
    assert.equal(exitCode, 0);
    assert.match(stdout, /^state +SUCCEEDED$/m);
  });

  it('list: all runs, damaged ones named', async () => {
    mkdirSync(join(runs, 'bad'));
    writeFileSync(join(runs, 'bad', 'run.yaml'), '');
    writeFileSync(join(runs, 'bad', 'status.json'), '{');
    const { stdout, stderr, exitCode } = await cli(['list', '--runs-dir', runs]);
    assert.equal(exitCode, 0);
    assert.match(stdout, /^mine +SUCCEEDED +9\/9 +- +0\.00 %/m);
    assert.match(stderr, /bad.status\.json is damaged/);
  });

  it('stop: says that the run is not running', async () => {
    const { stdout, exitCode } = await cli(['stop', 'mine', '--runs-dir', runs]);
    assert.equal(exitCode, 0);
    assert.equal(stdout, 'run mine is not running: SUCCEEDED at step 9\n');
  });

  it('an unknown run is the user’s error, and names those there are', async () => {
    for (const command of ['status', 'logs', 'stop', 'inspect', 'resume']) {
      const { stderr, exitCode } = await cli([command, 'mind', '--runs-dir', runs]);
      assert.equal(exitCode, 2, command);
      assert.match(stderr, /\[RUN_UNKNOWN\] no run mind in .*did you mean mine/, command);
    }
  });

  it('inspect: says that there is no checkpoint', async () => {
    appendFileSync(join(run, 'run.yaml'), '');
    const { stderr, exitCode } = await cli(['inspect', 'mine', '--runs-dir', runs]);
    assert.equal(exitCode, 1);
    assert.match(stderr, /\[CHECKPOINT\] .* holds no usable checkpoint/);
  });

  it('roles: say what launchers must pass', async () => {
    const server = await cli(['server']);
    assert.deepEqual([server.exitCode, /--scheduler is missing/.test(server.stderr)], [2, true]);
    const address = await cli(['worker', '--scheduler', 'nowhere', '--run-dir', run]);
    assert.deepEqual([address.exitCode, /give HOST:PORT/.test(address.stderr)], [2, true]);
    const scheduler = await cli(['scheduler']);
    assert.deepEqual([scheduler.exitCode, /--run-dir is missing/.test(scheduler.stderr)], [2, true]);
  });
});
