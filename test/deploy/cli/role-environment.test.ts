import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withEnvironment } from '../../../deploy/cli/role-environment.ts';
import { LAUNCHER_PIPE } from '../../../deploy/launchers/role-process.ts';
import { resolveRunConfig } from '../../../shared/config/resolve.ts';
import { parseRunFile } from '../../../shared/config/run-file.ts';
import { runConfigToYaml } from '../../../shared/config/effective.ts';
import { cli } from './run.ts';

const nothing: Parameters<typeof withEnvironment>[0] = {
  runDir: undefined,
  scheduler: undefined,
  rank: undefined,
  host: undefined,
  port: undefined,
};
const config = (host: string) => ({
  TF_CONFIG: JSON.stringify({
    cluster: { chief: ['head:7000'], ps: [`${host}:1`, `${host}:2`], worker: ['c:3'] },
    task: { type: 'ps', index: 1 },
  }),
});

describe('role commands in an environment', () => {
  it('take from it what the options leave open', () => {
    assert.deepEqual(withEnvironment(nothing, 'server', config('127.0.0.5')), {
      ...nothing,
      scheduler: 'head:7000',
      rank: 1,
      host: '127.0.0.5',
      port: 2,
    });
    const off = withEnvironment(nothing, 'server', config('node7'));
    assert.deepEqual(
      [off.host, off.port, (off as { advertise?: string }).advertise],
      ['0.0.0.0', 2, 'node7'],
      'off loopback it listens everywhere under its name',
    );
  });

  it('let options win', () => {
    const given = { runDir: undefined, scheduler: 'other:1', rank: 0, host: '127.0.0.9', port: 5 };
    assert.deepEqual(withEnvironment(given, 'server', config('127.0.0.5')), given);
  });

  it('do not look at it under a launcher', () => {
    const env = { ...config('node7'), [LAUNCHER_PIPE]: '1' };
    assert.deepEqual(withEnvironment(nothing, 'worker', env), { ...nothing, host: '127.0.0.1', port: 0 });
  });

  it('refuse other counts than those of the run file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'whittle-role-'));
    try {
      const text =
        'model: m\ndata: { source: mnist, batchSize: 32 }\ncluster: { servers: 3 }\ntraining: { steps: 5, optimizer: { kind: sgd } }\n';
      const runFile = parseRunFile(text, '/x/run.yaml');
      const facts = { trainExamples: 100, testExamples: 0, backend: 'wasm' } as const;
      writeFileSync(join(folder, 'run.yaml'), runConfigToYaml(resolveRunConfig(runFile, facts)));
      assert.throws(
        () => withEnvironment({ ...nothing, runDir: folder }, 'server', config('node7')),
        /\[USAGE\] the environment has 2 servers, and .*run\.yaml has cluster\.servers 3/,
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('whittle role', () => {
  it('says what it needs', async () => {
    const { exitCode, stderr } = await cli(['role', '--run-dir', '/nowhere']);
    assert.equal(exitCode, 2);
    assert.match(stderr, /\[USAGE\] the environment names no role: set TF_CONFIG or DMLC_ROLE/);
  });
});
