import type { CommanderError } from 'commander';
import { WhittleError } from '../../shared/errors.ts';
import { commandLine } from '../../shared/invocation.ts';
import { paint, wantsColor, type Streams } from './output.ts';

/** Shows an error as design section 11 wants it and returns the exit code: 2 usage, 130 interrupted, else 1. */
export function reportError(reason: unknown, streams: Streams, json: boolean): number {
  const error = WhittleError.from(reason);
  if (json) {
    const body = { error: { code: error.code, message: error.rawMessage, data: error.data } };
    streams.stdout.write(
      `${JSON.stringify(body, (_, value: unknown) => (typeof value === 'bigint' ? Number(value) : value))}\n`,
    );
  }
  const color = wantsColor(streams.stderr.isTTY === true, streams.env);
  streams.stderr.write(`${paint(color, 'red', 'error:')} ${error.message}\n${stackOf(error)}`);
  return error.exitCode;
}

/**
 * A mistake of the user's needs no stack. A role's own stack travels in `data.stack`; a defect shows ours. That of
 * whoever noticed a lost role says nothing of its end.
 */
function stackOf(error: WhittleError): string {
  if (error.isUserError || error.code === 'INTERRUPTED') return '';
  const remote = error.data['stack'];
  if (typeof remote === 'string' && remote !== '') return `${remote}\n`;
  if (error.code === 'ROLE_LOST') return '';
  if (error.cause instanceof Error) return `${error.cause.stack ?? error.cause.message}\n`;
  return error.code === 'INTERNAL' ? `${error.stack ?? ''}\n` : '';
}

/** Commander's own errors in this project's form; help and version are no errors and give null. */
export function usageError(error: CommanderError, command: string | undefined): WhittleError | null {
  if (error.exitCode === 0 || error.code === 'commander.help') return null;
  const message = error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '');
  const help = command === undefined ? commandLine('--help') : commandLine(command, '--help');
  return new WhittleError('USAGE', `${message}; see \`${help}\``, { data: { reason: error.code } });
}
