import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { WhittleError } from '../../shared/errors.ts';
import { packageRoot } from '../../shared/package-root.ts';
import { nearest } from '../../shared/config/suggest.ts';

export const EXAMPLES_FOLDER = join(packageRoot, 'deploy', 'examples');

export interface Example {
  readonly name: string;
  /** The comment at its head. */
  readonly about: string;
  /** Its run file. */
  readonly text: string;
  /** Modules and tables beside it that it names. */
  readonly files: readonly string[];
}

/** All run files that come with Whittle, by name. */
export function listExamples(): Example[] {
  const all = readdirSync(EXAMPLES_FOLDER, { withFileTypes: true }).filter((entry) => entry.isFile());
  const names = all.map(({ name }) => name).sort();
  const isRunFile = (name: string): boolean => name.endsWith('.yaml');
  const others = names.filter((name) => !isRunFile(name));
  return names.filter(isRunFile).map((file) => {
    const text = readFileSync(join(EXAMPLES_FOLDER, file), 'utf8');
    const files = others.filter((name) => text.includes(name));
    return { name: file.replace(/\.yaml$/, ''), about: aboutOf(text), text, files };
  });
}

/** Errors: USAGE, with the nearest name. */
export function exampleNamed(name: string): Example {
  const all = listExamples();
  const found = all.find((example) => example.name === name);
  if (found !== undefined) return found;
  const names = all.map((example) => example.name);
  const near = nearest(name, names);
  const cure = near === undefined ? `there are ${names.join(', ')}` : `did you mean ${near}? --list names them all`;
  throw new WhittleError('USAGE', `--example ${name}: there is no such example; ${cure}`, { data: { names } });
}

/** The first sentence of a text. */
export function firstSentence(text: string): string {
  return text.split(/(?<=\.) (?=[A-Z])/)[0] ?? text;
}

/** The comment after the line for editors, up to how the example is launched. */
function aboutOf(text: string): string {
  const lines = text.split('\n').slice(1);
  const end = lines.findIndex((line) => !line.startsWith('#') || /^# {2,}whittle/.test(line));
  return lines
    .slice(0, end)
    .map((line) => line.slice(1).trim())
    .join(' ')
    .trim();
}
