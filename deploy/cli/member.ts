import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { schedulerLocator } from '../../shared/coordination/locate.ts';
import { WhittleError } from '../../shared/errors.ts';
import { endLingering, roleSignal } from '../launchers/role-signal.ts';
import type { OptionDefinitions } from './command.ts';

/** What a server or worker is told. */
export interface MemberOptions {
  readonly scheduler: string;
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
  const given = options.scheduler ?? null;
  if (given !== null && !/^.+:\d{1,5}$/.test(given))
    throw new WhittleError('USAGE', `--scheduler is "${given}"; give HOST:PORT, such as 127.0.0.1:7000`);
  const runDirectory = resolve(required(options.runDir, '--run-dir'));
  const locate = schedulerLocator(runDirectory, given);
  const role = roleSignal({ signal, scheduler: locate });
  try {
    const scheduler = given ?? (await untilFound(locate, runDirectory, role.signal));
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

/** Milliseconds. Roles start in any order. */
const LOOK_EVERY = 200;
const SCHEDULER_DEADLINE = 60_000;

async function untilFound(
  locate: () => Promise<string | null>,
  runDirectory: string,
  signal: AbortSignal,
): Promise<string> {
  for (const end = Date.now() + SCHEDULER_DEADLINE; !signal.aborted && Date.now() < end;) {
    const address = await locate();
    if (address !== null) return address;
    await sleep(LOOK_EVERY, undefined, { signal }).catch(() => undefined);
  }
  throw new WhittleError(
    'DEADLINE',
    `waited ${SCHEDULER_DEADLINE / 1000} s for a scheduler to take ${runDirectory}/run.lock; start one, or name its address with --scheduler HOST:PORT`,
  );
}

export function required(value: string | undefined, option: string): string {
  if (value === undefined) throw new WhittleError('USAGE', `${option} is missing; launchers pass it`);
  return value;
}
