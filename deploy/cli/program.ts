import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Argument, Command as Parser, CommanderError, InvalidArgumentError, Option } from 'commander';
import { LEAVES_ON_INTERRUPT } from '../launchers/role-signal.ts';
import { commandLine, programName } from '../../shared/invocation.ts';
import { packageRoot } from '../../shared/package-root.ts';
import { kebabCase, type Command, type Context, type OptionDefinition } from './command.ts';
import { reportError, usageError } from './handle-errors.ts';
import { createOutput, type Streams } from './output.ts';
import { COMMANDS, type CommandEntry } from './registry.ts';

/**
 * Runs one command line (without node and the script) and resolves to the exit code of design section 11.
 * Never throws and never ends the process. Only the called command's file is imported.
 */
export async function runCli(argv: readonly string[], streams: Streams, entries = COMMANDS): Promise<number> {
  const called = entries.find((entry) => entry.name === calledName(argv));
  let exitCode = 0;
  try {
    const command = await called?.load();
    const program = buildProgram(entries, streams);
    if (called !== undefined && command !== undefined) {
      const parser = program.commands.find((each) => each.name() === called.name) as Parser;
      addCommand(parser, command.command, streams, (code) => (exitCode = code));
    }
    await program.parseAsync(argv.length === 0 ? ['--help'] : [...argv], { from: 'user' });
    return exitCode;
  } catch (reason) {
    const error = reason instanceof CommanderError ? usageError(reason, called?.name) : reason;
    return error === null ? 0 : reportError(error, streams, wantsJson(argv));
  }
}

/** All commands with their one-line summaries, none of them imported. */
function buildProgram(entries: readonly CommandEntry[], streams: Streams): Parser {
  const program = new Parser('whittle')
    .description('Distributed training that prunes while it trains.')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help; also `<command> --help`')
    .helpCommand('help [command]', 'show help')
    .configureHelp({ subcommandTerm: (command) => command.name() })
    .addHelpText('after', `\nExample:\n  ${commandLine('launch', 'run.yaml')}\n`);
  program.configureOutput({
    writeOut: (text) => void streams.stdout.write(text),
    writeErr: (text) => void streams.stderr.write(text),
    // Errors are shown by reportError, once and in one form.
    outputError: () => undefined,
  });
  program.exitOverride();
  for (const entry of entries) program.command(entry.name).description(entry.summary).helpGroup(entry.group);
  return program;
}

function addCommand(parser: Parser, command: Command, streams: Streams, done: (exitCode: number) => void): void {
  parser
    .description(command.description.replaceAll('`whittle ', `\`${programName()} `))
    .helpOption('-h, --help', 'show help');
  const argumentKeys = Object.keys(command.arguments);
  for (const [key, { label = key, description, optional }] of Object.entries(command.arguments)) {
    parser.addArgument(new Argument(optional === true ? `[${label}]` : `<${label}>`, description));
  }
  for (const [key, definition] of Object.entries(command.options)) parser.addOption(toOption(key, definition));
  parser.option('--json', 'print the result as JSON on stdout');
  const examples = command.examples
    .map(({ command: line, effect }) => `  ${programName()} ${line}\n      ${effect}`)
    .join('\n');
  parser.addHelpText('after', `\nExamples:\n${examples}\n`);
  parser.action(async (...parsed: unknown[]) => {
    const values = parsed[argumentKeys.length] as Record<string, unknown>;
    const json = values['json'] === true;
    const context: Context = {
      arguments: Object.fromEntries(argumentKeys.map((key, k) => [key, parsed[k] as string])),
      options: Object.fromEntries(
        Object.entries(command.options).map(([key, { type }]) => [key, values[key] ?? absent(type)]),
      ) as Context['options'],
      json,
      output: createOutput(streams, json),
      get signal() {
        return interruption().first.signal;
      },
      get killSignal() {
        return killing();
      },
    };
    done((await command.handler(context as unknown as Context<never, never>)) ?? 0);
  });
}

function toOption(key: string, definition: OptionDefinition): Option {
  const short = definition.short === undefined ? '' : `-${definition.short}, `;
  const label = definition.type === 'boolean' ? '' : ` <${definition.label ?? definition.type}>`;
  const option = new Option(`${short}--${kebabCase(key)}${label}`, definition.description);
  option.hideHelp(definition.hidden === true);
  if ('default' in definition) option.default(definition.default);
  if (definition.type === 'string' && definition.choices !== undefined) option.choices(definition.choices);
  if (definition.type === 'strings')
    option.argParser((value, all: readonly string[] | undefined) => [...(all ?? []), value]);
  if (definition.type === 'integer' || definition.type === 'number') {
    option.argParser((value) => parseNumber(value, definition.type === 'integer', definition.min, definition.max));
  }
  return option;
}

function parseNumber(text: string, whole: boolean, min = -Infinity, max = Infinity): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (Number.isFinite(value) && (!whole || Number.isSafeInteger(value)) && value >= min && value <= max) return value;
  const range = max < Infinity ? ` from ${min} to ${max}` : min > -Infinity ? ` >= ${min}` : '';
  throw new InvalidArgumentError(`It must be a ${whole ? 'whole ' : ''}number${range}.`);
}

function absent(type: OptionDefinition['type']): unknown {
  if (type === 'boolean') return false;
  return type === 'strings' ? [] : undefined;
}

/** The command's name is the first word that is no option; `help launch` asks for launch. */
function calledName(argv: readonly string[]): string | undefined {
  const words = argv.filter((word) => !word.startsWith('-'));
  return words[0] === 'help' ? words[1] : words[0];
}

function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf('--');
  return (end === -1 ? argv : argv.slice(0, end)).includes('--json');
}

export function version(): string {
  return (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string }).version;
}

interface Interruption {
  readonly first: AbortController;
  /** Null: nobody handles a second SIGINT, it ends the process. */
  second: AbortController | null;
}
let interrupted: Interruption | undefined;
function interruption(): Interruption {
  if (interrupted !== undefined) return interrupted;
  const state: Interruption = (interrupted = { first: new AbortController(), second: null });
  const stop = (signal: NodeJS.Signals): void => {
    if (signal !== 'SIGINT' || !state.first.signal.aborted) state.first.abort(signal);
    else if (state.second === null || state.second.signal.aborted) process.exit(130);
    else state.second.abort(signal);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', process.env[LEAVES_ON_INTERRUPT] === '1' ? () => undefined : stop);
  return state;
}

function killing(): AbortSignal {
  return (interruption().second ??= new AbortController()).signal;
}
