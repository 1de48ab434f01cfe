import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { Role, RunResult } from '../../shared/telemetry/run-status.ts';
import {
  assertQuiet,
  digestsOf,
  type Ended,
  finish,
  lastJson,
  readStatus,
  smallRunFile,
  start,
  until,
  untilStep,
  withFolder,
  writeRunFile,
} from './support.ts';

export const STEPS = 500;
export const EVERY = 100;

/** What a run ends with that nothing disturbed. */
export function undisturbedDigests(): Promise<readonly string[]> {
  return withFolder(async (folder) => {
    const runFile = await writeRunFile(folder, smallRunFile({ steps: STEPS, every: EVERY }));
    return digestsOf(await finish(['launch', runFile, '--runs-dir', folder, '--run-id', 'quiet']));
  });
}

export interface Disturbance {
  readonly coordination?: unknown;
  readonly cluster?: Record<string, unknown>;
  readonly more?: readonly string[];
}

export interface Launched {
  readonly directory: string;
  readonly ended: Promise<Ended>;
  /** Kills a role once a step is recorded; resolves when its process is gone. */
  kill(role: Role, rank: number, step: number): Promise<void>;
  signal(role: Role, rank: number, step: number, signal: NodeJS.Signals): Promise<void>;
}

/** A run that comes to its end in spite of `disturb`. */
export async function disturbed(options: Disturbance, disturb: (run: Launched) => Promise<void>): Promise<RunResult> {
  return withFolder(async (folder) => {
    const run = await launched(folder, options);
    await disturb(run);
    const ended = await run.ended;
    assert.equal(ended.code, 0, `${ended.stderr}\n${ended.stdout}`);
    await assertQuiet(run.directory);
    return lastJson<RunResult>(ended);
  });
}

export async function launched(folder: string, { cluster, coordination, more = [] }: Disturbance): Promise<Launched> {
  const document = smallRunFile({ steps: STEPS, every: EVERY });
  const runFile = await writeRunFile(folder, {
    ...document,
    ...(cluster ? { cluster } : {}),
    ...(coordination ? { coordination } : {}),
  });
  const directory = join(folder, 'run');
  const { ended } = start(['launch', runFile, '--runs-dir', folder, '--run-id', 'run', '--json', ...more]);
  const signal = async (role: Role, rank: number, step: number, name: NodeJS.Signals): Promise<void> => {
    await untilStep(directory, step, ended);
    const pid = await until(`the process of ${role}[${rank}]`, () => pidOf(directory, role, rank));
    process.kill(pid, name);
    await until(`process ${pid} to be gone`, () => (isGone(pid) ? true : null));
  };
  return { directory, ended, signal, kill: (role, rank, step) => signal(role, rank, step, 'SIGKILL') };
}

async function pidOf(directory: string, role: Role, rank: number): Promise<number | null> {
  const { scheduler, members } = await readStatus(directory);
  if (role === 'scheduler') return scheduler.pid;
  return members.find((member) => member.role === role && member.rank === rank)?.pid ?? null;
}

function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}
