import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { kebabCase, type Command, type OptionDefinition } from '../../../deploy/cli/command.ts';
import { COMMANDS } from '../../../deploy/cli/registry.ts';
import { cli } from './run.ts';

const FIXTURE = new URL('./fixtures/command-line.txt', import.meta.url);

/** Every command with its arguments and options, one a line: what scripts of users depend on. */
async function surface(): Promise<string> {
  const blocks: string[] = [];
  for (const { load } of COMMANDS) {
    const { command } = await load();
    blocks.push(
      [
        `whittle ${command.name}${argumentsOf(command)}`,
        ...Object.entries(command.options).map(([key, option]) => `  ${optionLine(key, option)}`),
      ].join('\n'),
    );
  }
  return `${blocks.join('\n')}\n`;
}

function argumentsOf({ arguments: given }: Command): string {
  return Object.entries(given)
    .map(([key, { label = key, optional }]) => (optional === true ? ` [${label}]` : ` <${label}>`))
    .join('');
}

function optionLine(key: string, option: OptionDefinition): string {
  const short = option.short === undefined ? '' : ` -${option.short}`;
  const standard = 'default' in option && option.default !== undefined ? ` = ${JSON.stringify(option.default)}` : '';
  const words = option.type === 'string' && option.choices !== undefined ? ` (${option.choices.join('|')})` : '';
  return `--${kebabCase(key)}${short} ${option.type}${words}${standard}${option.hidden === true ? ' hidden' : ''}`;
}

describe('command-line surface', () => {
  it('is as frozen; a change is deliberate (UPDATE_FIXTURES=1 writes it)', async () => {
    const found = await surface();
    if (process.env['UPDATE_FIXTURES'] === '1') writeFileSync(FIXTURE, found);
    assert.equal(found, readFileSync(FIXTURE, 'utf8'));
  });

  it('every command shows its example and --json in its help', async () => {
    for (const { name } of COMMANDS) {
      const { exitCode, stdout, stderr } = await cli([name, '--help']);
      assert.deepEqual([exitCode, stderr], [0, ''], name);
      assert.match(stdout, new RegExp(`^Usage: whittle ${name} `), name);
      assert.match(stdout, new RegExp(`\\nExamples:\\n {2}npx --no-install whittle ${name}`), name);
      assert.match(stdout, /\n {2}--json {2,}print the result as JSON/, name);
    }
  });

  it('suggests the nearest command and the nearest option, with exit code 2', async () => {
    for (const [argv, near] of [
      [['lanch', 'run.yaml'], 'launch'],
      [['exprt', 'mine'], 'export'],
      [['launch', 'run.yaml', '--dryrun'], '--dry-run'],
      [['export', 'mine', '--frmat', 'tfjs'], '--format'],
    ] as const) {
      const { exitCode, stdout, stderr } = await cli(argv);
      assert.deepEqual([exitCode, stdout], [2, ''], argv.join(' '));
      assert.match(stderr, new RegExp(`Did you mean ${near}\\?`), argv.join(' '));
    }
  });

  it('every command has an example of itself, and a description of one sentence or more', async () => {
    for (const { load, name } of COMMANDS) {
      const { command } = await load();
      assert.ok(command.examples.length > 0, name);
      for (const example of command.examples)
        assert.ok(example.command === name || example.command.startsWith(`${name} `), example.command);
      assert.match(command.description, /^[A-Z].*\.$/s, name);
      for (const [key, { description }] of Object.entries(command.options))
        assert.ok(description.length > 5, `${name} --${key}`);
    }
  });
});
