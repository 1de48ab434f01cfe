import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { defineCommand, kebabCase, type Command } from '../../../deploy/cli/command.ts';
import { COMMANDS, type CommandEntry } from '../../../deploy/cli/registry.ts';
import type { WhittleError as WhittleErrorType } from '../../../shared/errors.ts';
import { packageRoot } from '../../../shared/package-root.ts';
import { cli } from './run.ts';

/** A command line with one command, `try`. */
function only(command: Command): readonly CommandEntry[] {
  return [{ name: 'try', group: 'Commands:', summary: 'try things', load: () => Promise.resolve({ command }) }];
}

const echo = defineCommand({
  name: 'try',
  description: 'Echo what was parsed.',
  arguments: { file: { label: 'run.yaml', description: 'a file' }, more: { optional: true, description: 'another' } },
  options: {
    runId: { type: 'string', label: 'ID', description: 'an id' },
    on: { type: 'string', default: 'local', choices: ['local', 'slurm'], description: 'where' },
    set: { type: 'strings', label: 'path=value', description: 'overrides' },
    dryRun: { type: 'boolean', short: 'n', description: 'only say' },
    port: { type: 'integer', default: 0, min: 0, max: 65535, description: 'a port' },
    rank: { type: 'integer', min: 0, description: 'a rank' },
  },
  examples: [{ command: 'try run.yaml', effect: 'echo it' }],
  handler: ({ arguments: given, options, output }) => {
    output.line('for people');
    output.progress('progress');
    output.warn('careful');
    output.result({ given, options }, () => 'done');
    return Promise.resolve();
  },
});

function failing(error: unknown): readonly CommandEntry[] {
  return only(
    defineCommand({
      name: 'try',
      description: 'Fail.',
      examples: [{ command: 'try', effect: 'fails' }],
      handler: () => Promise.reject(error as Error),
    }),
  );
}

describe('command line', () => {
  // The one that the program imports, see run.ts.
  let WhittleError: typeof WhittleErrorType;
  before(async () => ({ WhittleError } = await import('../../../shared/errors.ts')));

  it('parses arguments and options into the handler, absent ones included', async () => {
    const { exitCode, stdout } = await cli(
      ['try', 'a', '--set', 'x=1', '--set', 'y=2', '-n', '--port', '80', '--json'],
      only(echo),
    );
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(stdout), {
      given: { file: 'a' },
      options: { on: 'local', set: ['x=1', 'y=2'], dryRun: true, port: 80 },
    });
    const plain = await cli(['try', 'a', 'b', '--run-id', 'r', '--json'], only(echo));
    assert.deepEqual(JSON.parse(plain.stdout), {
      given: { file: 'a', more: 'b' },
      options: { runId: 'r', on: 'local', set: [], dryRun: false, port: 0 },
    });
  });

  it('under --json stdout carries the result only', async () => {
    const plain = await cli(['try', 'a'], only(echo));
    assert.equal(plain.stdout, 'for people\ndone\n');
    assert.equal(plain.stderr, 'progress\nwarning: careful\n');
    const json = await cli(['try', 'a', '--json'], only(echo));
    assert.equal(json.stdout.split('\n').length, 2);
    assert.equal(json.stderr, 'for people\nprogress\nwarning: careful\n');
  });

  it('shows help with arguments, options, defaults and examples, and does nothing else', async () => {
    for (const argv of [
      ['try', '--help'],
      ['try', '-h'],
      ['help', 'try'],
    ]) {
      const { exitCode, stdout, stderr } = await cli(argv, only(echo));
      assert.equal(exitCode, 0);
      assert.equal(stderr, '');
      for (const part of [
        'Usage: whittle try',
        '<run.yaml>',
        '[more]',
        '--run-id <ID>',
        '(choices: "local", "slurm", default: "local")',
        '-n, --dry-run',
        '--json',
        'whittle try run.yaml\n      echo it',
      ]) {
        assert.ok(stdout.includes(part), `${part} is not in\n${stdout}`);
      }
    }
  });

  const wrong: readonly (readonly [argv: readonly string[], ...says: RegExp[]])[] = [
    [['tri'], /unknown command 'tri'/, /Did you mean try\?/, /whittle --help/],
    [['try'], /missing required argument 'run.yaml'/, /whittle try --help/],
    [['try', 'a', 'b', 'c'], /too many arguments/],
    [['try', 'a', '--run-ids', 'x'], /unknown option '--run-ids'/, /Did you mean --run-id\?/],
    [['try', 'a', '--run-id'], /'--run-id <ID>' argument missing/],
    [['try', 'a', '--on', 'moon'], /'moon' is invalid/, /local, slurm/],
    [['try', 'a', '--port', '70000'], /'70000' is invalid/, /whole number from 0 to 65535/],
    [['try', 'a', '--port', '1.5'], /'1.5' is invalid/],
    [['try', 'a', '--rank', ''], /'' is invalid/],
    [['try', 'a', '--rank', '-1'], /'-1' is invalid/, /whole number >= 0/],
    [['--nonsense'], /unknown option '--nonsense'/],
  ];
  for (const [argv, ...says] of wrong) {
    it(`refuses \`${argv.join(' ')}\` with exit code 2 and no stack`, async () => {
      const { exitCode, stdout, stderr } = await cli(argv, only(echo));
      assert.equal(exitCode, 2);
      assert.equal(stdout, '');
      assert.match(stderr, /^error: \[USAGE\] /);
      for (const each of says) assert.match(stderr, each);
      assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    });
  }

  it('without a command it shows help', async () => {
    const { exitCode, stdout } = await cli([], only(echo));
    assert.equal(exitCode, 0);
    assert.match(stdout, /try {2,}try things/);
  });

  it('prints the version of package.json', async () => {
    const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string };
    assert.equal((await cli(['--version'])).stdout, `${version}\n`);
  });

  it('errors: user errors have no stack, defects show theirs, roles show their own', async () => {
    const user = await cli(['try'], failing(new WhittleError('DATA', 'no file x')));
    assert.deepEqual([user.exitCode, user.stderr], [2, 'error: [DATA] no file x\n']);
    const defect = await cli(['try'], failing(new TypeError('x is not a function')));
    assert.equal(defect.exitCode, 1);
    assert.match(defect.stderr, /^error: \[INTERNAL\] x is not a function\nTypeError: x is not a function\n +at /);
    const role = await cli(
      ['try'],
      failing(new WhittleError('ROLE_LOST', 'W[1] died', { data: { stack: 'Error: boom\n    at model.ts:3' } })),
    );
    const cause = new Error('14 UNAVAILABLE');
    const witness = await cli(['try'], failing(new WhittleError('ROLE_LOST', 'S[0] is gone', { cause })));
    assert.deepEqual([witness.exitCode, witness.stderr], [1, 'error: [ROLE_LOST] S[0] is gone\n']);
    assert.deepEqual(
      [role.exitCode, role.stderr],
      [1, 'error: [ROLE_LOST] W[1] died\nError: boom\n    at model.ts:3\n'],
    );
    const interrupted = await cli(['try'], failing(new WhittleError('INTERRUPTED', 'stopped')));
    assert.deepEqual([interrupted.exitCode, interrupted.stderr], [130, 'error: [INTERRUPTED] stopped\n']);
  });

  it('errors under --json are the last line of stdout', async () => {
    const { stdout, exitCode } = await cli(
      ['try', '--json'],
      failing(new WhittleError('DATA', 'no file x', { data: { path: 'x', clock: 3n } })),
    );
    assert.equal(exitCode, 2);
    assert.deepEqual(JSON.parse(stdout), {
      error: { code: 'DATA', message: 'no file x', data: { path: 'x', clock: 3 } },
    });
    const usage = await cli(['try', '--nope', '--json'], only(echo));
    assert.equal((JSON.parse(usage.stdout) as { error: { code: string } }).error.code, 'USAGE');
  });

  it('colors only on a terminal without NO_COLOR', async () => {
    const error = failing(new WhittleError('DATA', 'x'));
    const hasEscape = async (isTTY: boolean, env: Record<string, string>): Promise<boolean> =>
      (await cli(['try'], error, isTTY, env)).stderr.includes('\u001b[');
    assert.equal(await hasEscape(false, {}), false);
    assert.equal(await hasEscape(true, {}), true);
    assert.equal(await hasEscape(true, { NO_COLOR: '1' }), false);
    assert.equal(await hasEscape(true, { TERM: 'dumb' }), false);
    assert.equal(await hasEscape(false, { FORCE_COLOR: '1' }), true);
  });

  it('a handler gives the exit code', async () => {
    const command = defineCommand({
      name: 'try',
      description: 'Give 1.',
      examples: [{ command: 'try', effect: 'gives 1' }],
      handler: () => Promise.resolve(1),
    });
    assert.equal((await cli(['try'], only(command))).exitCode, 1);
  });

  it('writes option names in kebab case', () => assert.equal(kebabCase('minSurvivorsOf'), 'min-survivors-of'));

  it('loads only the called command', async () => {
    const loaded: string[] = [];
    const entries = ['one', 'two'].map((name): CommandEntry => ({
      name,
      group: 'Commands:',
      summary: name,
      load: () => {
        loaded.push(name);
        return Promise.resolve({ command: { ...echo, name } });
      },
    }));
    await cli(['--help'], entries);
    assert.deepEqual(loaded, []);
    await cli(['two', 'a'], entries);
    assert.deepEqual(loaded, ['two']);
  });

  it('starts without the heavy packages: help imports commander and nothing else', () => {
    const packages = new Set<string>();
    const seen = new Set<string>();
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      // Static imports of values; `import(...)` is lazy and `import type` is erased.
      for (const [, name = ''] of readFileSync(file, 'utf8').matchAll(
        /^(?:import|export)\s+(?!type\b)[^;]*?from\s+'([^']+)'/gm,
      )) {
        if (name.startsWith('.')) visit(resolve(dirname(file), name));
        else if (!name.startsWith('node:')) packages.add(name);
      }
    };
    visit(join(packageRoot, 'deploy', 'cli', 'main.ts'));
    assert.ok(seen.size > 4, 'the walk found no files');
    assert.deepEqual([...packages], ['commander']);
  });

  it('every command is in its file under its own name', async () => {
    for (const entry of COMMANDS) assert.equal((await entry.load()).command.name, entry.name);
  });
});
