import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { commandLine } from '../../../shared/invocation.ts';
import { packageRoot } from '../../../shared/package-root.ts';
import { defineCommand } from '../command.ts';
import { type Example, exampleNamed, EXAMPLES_FOLDER, firstSentence, listExamples } from '../examples.ts';
import { formatTable } from '../table.ts';

const RUN_FILE = 'run.yaml';
const STARTER = join(EXAMPLES_FOLDER, 'starter');

export const command = defineCommand({
  name: 'init',
  description:
    'Write a commented run file, a model and a data module that train as they are, or a copy of an example.\n' +
    'There is an example of each way to train, prune and shrink a model.',
  arguments: { folder: { label: 'dir', optional: true, description: 'folder to write into; default: this one' } },
  options: {
    example: {
      type: 'string',
      label: 'NAME',
      description: 'the run file of this example, with the files that it needs',
    },
    list: { type: 'boolean', description: 'only name the examples' },
    force: { type: 'boolean', description: 'overwrite files that are there' },
  },
  examples: [
    { command: 'init my-model', effect: 'write my-model/run.yaml, model.ts and data.ts' },
    { command: 'init --list', effect: 'name the examples' },
    { command: 'init tickets --example lottery-ticket', effect: 'write tickets/run.yaml' },
  ],
  handler: async ({ arguments: { folder = '.' }, options, output }) => {
    if (options.list) {
      const examples = listExamples();
      output.result({ examples: examples.map(({ name, about, files }) => ({ name, about, files })) }, () =>
        formatTable(
          [{ title: 'example' }, { title: 'what it does' }],
          examples.map(({ name, about }) => [name, firstSentence(about)]),
        ),
      );
      return;
    }
    const directory = resolve(folder);
    const example = options.example === undefined ? null : exampleNamed(options.example);
    const beside = example?.files ?? ['model.ts', 'data.ts'];
    const files = [RUN_FILE, ...beside];
    const present = files.filter((file) => existsSync(join(directory, file)));
    if (present.length > 0 && !options.force) {
      throw new WhittleError(
        'USAGE',
        `${present.join(', ')} in ${directory} would be overwritten; choose another folder or add --force`,
        {
          data: { directory, files: present },
        },
      );
    }
    try {
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, RUN_FILE), runFileFor(directory, example));
      const from = example === null ? STARTER : EXAMPLES_FOLDER;
      for (const file of beside) copyFileSync(join(from, file), join(directory, file));
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new WhittleError('USAGE', `cannot write into ${directory}: ${message}; choose a folder you may write to`, {
        cause,
      });
    }
    const near = relative('.', directory);
    const runFile = join(near.startsWith('..') ? directory : near, RUN_FILE);
    output.result({ directory, files }, () =>
      [
        `wrote ${files.join(', ')} in ${directory}`,
        '',
        'next:',
        `  ${commandLine('schedule', runFile)}`,
        `  ${commandLine('launch', runFile)}`,
      ].join('\n'),
    );
  },
});

/** Its link to the JSON schema, and what it says of its own place, are made to fit the folder it goes to. */
function runFileFor(directory: string, example: Example | null): string {
  const text = example?.text ?? readFileSync(join(STARTER, RUN_FILE), 'utf8');
  const schema = relative(directory, join(packageRoot, 'shared', 'config', 'run-file.schema.json'))
    .split(sep)
    .join('/');
  return text
    .replace(/\$schema=\S+/, () => `$schema=${schema}`)
    .replaceAll(`deploy/examples/${example?.name ?? ''}.yaml`, RUN_FILE);
}
