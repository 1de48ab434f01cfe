import { resolve } from 'node:path';
import { WhittleError } from '../../shared/errors.ts';
import { endLingering, roleSignal } from '../launchers/role-signal.ts';
import { schedulerLocator } from '../../shared/coordination/locate.ts';
import type { OptionDefinitions } from './command.ts';

/** What a server or worker is told. */
export interface MemberOptions {
  /** Null: the run directory says. */
  readonly scheduler: string | null;
  /** Null: the scheduler gives one. */
  readonly rank: number | null;
  readonly host: string;
  readonly port: number;
  readonly runDirectory: string;
  readonly signal: AbortSignal;
}

/** The options of `server` and `worker`, which are the same. */
export const memberOptions = {
  scheduler: {
    type: 'string',
    label: 'HOST:PORT',
    description: "the scheduler's address; default: the run directory says",
  },
  runDir: { type: 'string', label: 'DIR', description: 'run directory, on storage that all roles share' },
  rank: { type: 'integer', label: 'N', min: 0, description: 'rank to take; default: the scheduler gives one' },
  host: { type: 'string', label: 'ADDRESS', default: '127.0.0.1', description: 'address to listen on' },
  port: {
    type: 'integer',
    label: 'PORT',
    default: 0,
    min: 0,
    max: 65535,
    description: 'port to listen on; 0 takes a free one',
  },
} as const satisfies OptionDefinitions;

export interface ParsedMemberOptions {
  readonly scheduler: string | undefined;
  readonly runDir: string | undefined;
  readonly rank: number | undefined;
  readonly host: string;
  readonly port: number;
}

/** Runs a server or worker until it leaves; resolves to its exit code. */
export async function runMember(
  options: ParsedMemberOptions,
  signal: AbortSignal,
  run: (options: MemberOptions) => Promise<number>,
): Promise<number> {
  const scheduler = options.scheduler ?? null;
  if (scheduler !== null && !/^.+:\d{1,5}$/.test(scheduler))
    throw new WhittleError('USAGE', `--scheduler is "${scheduler}"; give HOST:PORT, such as 127.0.0.1:7000`);
  const runDirectory = resolve(required(options.runDir, '--run-dir'));
  const role = roleSignal({ signal, scheduler: schedulerLocator(runDirectory, scheduler) });
  try {
    return await run({
      scheduler,
      rank: options.rank ?? null,
      host: options.host,
      port: options.port,
      runDirectory,
      signal: role.signal,
    });
  } finally {
    role.dispose();
    endLingering();
  }
}

export function required(value: string | undefined, option: string): string {
  if (value === undefined) throw new WhittleError('USAGE', `${option} is missing; launchers pass it`);
  return value;
}
