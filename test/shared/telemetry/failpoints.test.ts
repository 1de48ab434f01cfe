import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { WhittleError } from '../../../shared/errors.ts';
import {
  FAILPOINTS_FOLDER_VARIABLE,
  FAILPOINTS_VARIABLE,
  firedFile,
  formatFailpoint,
  parseFailpoints,
  releaseFailpoint,
} from '../../../shared/telemetry/failpoints.ts';
import { until, withFolder } from '../../cluster/support.ts';

const WALKER = fileURLToPath(new URL('fixtures/failpoint-walker.ts', import.meta.url));

/** Node arguments of a process that passes hold.reached at steps 1 to 5 and says so. */
const ARGS = ['--import', 'tsx', WALKER];

function environment(points: string, folder?: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    [FAILPOINTS_VARIABLE]: points,
    ...(folder === undefined ? {} : { [FAILPOINTS_FOLDER_VARIABLE]: folder }),
  };
}

function walk(points: string, folder?: string): { steps: string; signal: string | null; code: number | null } {
  const { stdout, signal, status } = spawnSync(process.execPath, ARGS, {
    env: environment(points, folder),
    encoding: 'utf8',
  });
  return { steps: stdout.trim().replaceAll('\n', ' '), signal, code: status };
}

describe('named failpoints', function () {
  this.timeout(60_000);

  it('do nothing where none is armed, or another one is', () => {
    assert.deepEqual(walk(''), { steps: '1 2 3 4 5', signal: null, code: 0 });
    assert.deepEqual(walk('step.applied=kill'), { steps: '1 2 3 4 5', signal: null, code: 0 });
  });

  it('kill at the n-th passage, or at a step', () => {
    assert.deepEqual(walk('hold.reached#3=kill'), { steps: '1 2', signal: 'SIGKILL', code: null });
    assert.deepEqual(walk('hold.reached@4=kill'), { steps: '1 2 3', signal: 'SIGKILL', code: null });
  });

  it('end the process with a code of their own', () => {
    assert.deepEqual(walk('hold.reached=exit'), { steps: '', signal: null, code: 70 });
  });

  it('fire once in the life of their folder, and leave word', () =>
    withFolder(async (folder) => {
      const point = 'first:hold.reached#2=kill';
      assert.equal(walk(point, folder).steps, '1');
      assert.equal((JSON.parse(readFileSync(firedFile(folder, 'first'), 'utf8')) as { step: number }).step, 2);
      assert.deepEqual(walk(point, folder), { steps: '1 2 3 4 5', signal: null, code: 0 });
    }));

  it('stand still until they are released', () =>
    withFolder(async (folder) => {
      const child = spawn(process.execPath, ARGS, {
        env: environment('wait:hold.reached@3=block', folder),
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      await until('the failpoint', () => (existsSync(firedFile(folder, 'wait')) ? true : null));
      await until('the steps before it', () => (output.includes('2') ? true : null));
      assert.equal(output, '1\n2\n');
      releaseFailpoint(folder, 'wait');
      await once(child, 'close');
      assert.equal(output, '1\n2\n3\n4\n5\n');
    }));

  it('are written as they are read', () => {
    const [point] = parseFailpoints('a:push.half-sent#2@120=pause 500');
    assert.ok(point);
    assert.deepEqual(point, {
      id: 'a',
      name: 'push.half-sent',
      hit: 2,
      step: 120,
      action: { kind: 'pause', milliseconds: 500 },
    });
    assert.deepEqual(parseFailpoints(formatFailpoint(point)), [point]);
  });

  for (const text of [
    'hold.reached',
    'hold.reached=explode',
    'nowhere=kill',
    'hold.reached#0=kill',
    'hold.reached=pause',
  ]) {
    it(`refuse "${text}"`, () => {
      assert.throws(
        () => parseFailpoints(text),
        (error) => error instanceof WhittleError && error.code === 'USAGE' && error.message.includes(`"${text}"`),
      );
    });
  }
});
