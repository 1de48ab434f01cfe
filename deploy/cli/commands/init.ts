import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { commandLine } from '../../../shared/invocation.ts';
import { packageRoot } from '../../../shared/package-root.ts';
import { defineCommand } from '../command.ts';

const FILES = ['run.yaml', 'model.ts', 'data.ts'] as const;

export const command = defineCommand({
  name: 'init',
  description: 'Write a commented run file, a model and a data module that train as they are.',
  arguments: { folder: { label: 'dir', optional: true, description: 'folder to write into; default: this one' } },
  options: { force: { type: 'boolean', description: 'overwrite files that are there' } },
  examples: [{ command: 'init my-model', effect: 'write my-model/run.yaml, model.ts and data.ts' }],
  handler: async ({ arguments: { folder = '.' }, options, output }) => {
    const directory = resolve(folder);
    const present = FILES.filter((file) => existsSync(join(directory, file)));
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
      for (const file of FILES) writeFileSync(join(directory, file), starter(file, directory));
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new WhittleError('USAGE', `cannot write into ${directory}: ${message}; choose a folder you may write to`, {
        cause,
      });
    }
    const near = relative('.', directory);
    const runFile = join(near.startsWith('..') ? directory : near, 'run.yaml');
    output.result({ directory, files: FILES }, () =>
      [
        `wrote ${FILES.join(', ')} in ${directory}`,
        '',
        'next:',
        `  ${commandLine('schedule', runFile)}`,
        `  ${commandLine('launch', runFile)}`,
      ].join('\n'),
    );
  },
});

/** The starter's file; its link to the JSON schema is made to fit the folder it goes to. */
function starter(file: (typeof FILES)[number], directory: string): string {
  const text = readFileSync(join(packageRoot, 'deploy', 'examples', 'starter', file), 'utf8');
  const schema = relative(directory, join(packageRoot, 'shared', 'config', 'run-file.schema.json'))
    .split(sep)
    .join('/');
  return text.replace(/\$schema=\S+/, () => `$schema=${schema}`);
}
