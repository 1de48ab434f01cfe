import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ERROR_CODES, type ErrorCode, WhittleError } from '../../shared/errors.ts';
import { isCompiled, packageRoot } from '../../shared/package-root.ts';
import type { Role } from '../../shared/telemetry/run-status.ts';
import { defineLauncher } from './define.ts';
import { describeExit, type LaunchedRun, type Launcher, type LaunchPlan, type RunEnd } from './launcher.ts';
import { lastLines, startRole, type RoleProcess } from './role-process.ts';

/** Milliseconds. */
export interface LocalDeadlines {
  /** From the scheduler's start to its "listening" line. */
  readonly listening: number;
  /** From a role's unexpected end until the scheduler must have ended the run. */
  readonly loss: number;
  /** The same for a role that left with code 0, which may only be early. */
  readonly leave: number;
  /** From the scheduler's end until the roles must have left. */
  readonly leaving: number;
  /** From SIGTERM to SIGKILL. */
  readonly terminate: number;
}

const DEADLINES: LocalDeadlines = { listening: 30_000, loss: 4_000, leave: 20_000, leaving: 8_000, terminate: 3_000 };

export interface LocalOptions {
  /** What follows `node` before the role command and its arguments. Default: this package's command line. */
  readonly entry?: readonly string[];
  readonly deadlines?: Partial<LocalDeadlines>;
}

/** Node arguments and script of Whittle's own command line, from the sources or compiled. */
export function ownEntry(): readonly string[] {
  // An absolute URL: `--import tsx` alone would be looked up from the user's folder.
  if (isCompiled) return [join(packageRoot, 'dist', 'deploy', 'cli', 'main.js')];
  return ['--import', import.meta.resolve('tsx'), join(packageRoot, 'deploy', 'cli', 'main.ts')];
}

/** What `--on local` is. */
export const localLauncher = defineLauncher({
  name: 'local',
  summary: 'as processes of this machine',
  options: {},
  create: () => createLocalLauncher(),
});

/** Runs all roles as supervised processes on this machine. */
export function createLocalLauncher(options: LocalOptions = {}): Launcher {
  const entry = options.entry ?? ownEntry();
  const deadlines = { ...DEADLINES, ...options.deadlines };
  return { name: 'local', start: (plan, signal) => start(plan, signal, entry, deadlines) };
}

async function start(
  plan: LaunchPlan,
  signal: AbortSignal,
  entry: readonly string[],
  deadlines: LocalDeadlines,
): Promise<LaunchedRun> {
  const processes: RoleProcess[] = [];
  // A second Ctrl-C, an uncaught error: whatever ends this process ends its roles.
  const killAll = (): void => processes.forEach((each) => each.kill('SIGKILL'));
  process.on('exit', killAll);

  const spawnRole = async (role: Role, rank: number, args: readonly string[]): Promise<RoleProcess> => {
    const started = await startRole({
      role,
      rank,
      argv: [...entry, role, '--run-dir', plan.runDirectory, '--host', plan.host, ...args],
      outputFile: join(plan.runDirectory, 'logs', `${role}-${rank}.out`),
    });
    processes.push(started);
    return started;
  };

  try {
    const resume = plan.resume === null ? [] : ['--resume', plan.resume.folder ?? 'newest'];
    const scheduler = await spawnRole('scheduler', 0, ['--port', String(plan.port), ...resume]);
    const { address, generation } = await waitForListening(scheduler, deadlines.listening, signal);
    const member = ['--scheduler', address];
    for (let rank = 0; rank < plan.servers; rank++)
      await spawnRole('server', rank, [...member, '--rank', String(rank)]);
    for (let rank = 0; rank < plan.workers; rank++)
      await spawnRole('worker', rank, [...member, '--rank', String(rank)]);
    throwIfInterrupted(signal);

    const ended = supervise(scheduler, processes, deadlines).finally(() => process.off('exit', killAll));
    return {
      schedulerAddress: address,
      generation,
      processes: processes.map(({ role, rank, pid }) => ({ role, rank, pid })),
      ended,
      kill: killAll,
    };
  } catch (error) {
    await endAll(processes, deadlines.terminate);
    process.off('exit', killAll);
    throw error;
  }
}

async function waitForListening(
  scheduler: RoleProcess,
  deadline: number,
  signal: AbortSignal,
): Promise<{ address: string; generation: number }> {
  for (const end = Date.now() + deadline; ; await sleep(20)) {
    throwIfInterrupted(signal);
    const exit = scheduler.ended();
    const output = await scheduler.output();
    const found = findListening(output);
    if (found !== null) return found;
    const tail = lastLines(output, 20);
    if (exit !== null) {
      const told = findError(tail);
      if (told !== null) throw told;
      throw new WhittleError(
        'ROLE_LOST',
        `scheduler[0] ${describeExit(exit)} before it accepted members${indented(tail)}`,
        {
          data: { role: 'scheduler', rank: 0, ...exit, output: tail },
        },
      );
    }
    if (Date.now() > end) {
      throw new WhittleError(
        'DEADLINE',
        `waited ${deadline / 1000} s for scheduler[0] to accept members (its "listening" line)${indented(tail)}`,
        { data: { role: 'scheduler', rank: 0, output: tail } },
      );
    }
  }
}

/** The scheduler's `{"event":"listening",...}` line, among whatever else was printed. */
export function findListening(output: string): { address: string; generation: number } | null {
  // The last piece may be half a line.
  for (const line of output.split('\n').slice(0, -1)) {
    if (!line.startsWith('{')) continue;
    try {
      const value = JSON.parse(line) as Record<string, unknown>;
      if (value['event'] === 'listening' && typeof value['address'] === 'string') {
        return { address: value['address'], generation: Number(value['generation'] ?? 0) };
      }
    } catch {
      continue;
    }
  }
  return null;
}

/** The error that a role of ours printed before it ended, with its code: what the user can mend stays a user's error. */
export function findError(lines: readonly string[]): WhittleError | null {
  for (const [i, line] of lines.entries()) {
    const [, code = '', message = ''] = /^error: \[([A-Z_]+)\] (.*)$/.exec(line) ?? [];
    if (!Object.hasOwn(ERROR_CODES, code)) continue;
    return new WhittleError(code as ErrorCode, message, {
      data: { role: 'scheduler', rank: 0, stack: lines.slice(i + 1).join('\n') },
    });
  }
  return null;
}

/** Waits for the run's end and reaps everything. Never rejects. */
async function supervise(
  scheduler: RoleProcess,
  processes: readonly RoleProcess[],
  deadlines: LocalDeadlines,
): Promise<RunEnd> {
  const members = processes.filter((each) => each !== scheduler);
  const first = await Promise.race(
    [scheduler, ...members].map(async (each) => ({ process: each, exit: await each.exit })),
  );
  let schedulerEnded = true;
  if (first.process !== scheduler) {
    const clean = first.exit.code === 0;
    schedulerEnded = await within(clean ? deadlines.leave : deadlines.loss, scheduler.exit);
    if (!schedulerEnded) await endAll([scheduler], deadlines.terminate);
  }
  const schedulerExit = await scheduler.exit;
  if (schedulerEnded && schedulerExit.code === 0)
    await within(deadlines.leaving, Promise.all(members.map((each) => each.exit)));
  else if (schedulerExit.code === 1) await within(deadlines.terminate, Promise.all(members.map((each) => each.exit)));
  await endAll(members, deadlines.terminate);

  // Members end when the scheduler is killed, and may be seen to end before it.
  const killed = schedulerEnded && schedulerExit.signal !== null;
  const { process: lost, exit } = killed ? { process: scheduler, exit: schedulerExit } : first;
  if (exit.code === 0 && schedulerEnded) return { schedulerExit, loss: null };
  const output = lastLines(await lost.output().catch(() => ''), 20);
  return { schedulerExit, loss: { role: lost.role, rank: lost.rank, exit, output, schedulerEnded } };
}

/** SIGTERM, then SIGKILL after the deadline; resolves when all are reaped. */
async function endAll(processes: readonly RoleProcess[], deadline: number): Promise<void> {
  const running = processes.filter((each) => each.ended() === null);
  if (running.length === 0) return;
  const all = Promise.all(running.map((each) => each.exit));
  running.forEach((each) => each.kill('SIGTERM'));
  if (await within(deadline, all)) return;
  running.forEach((each) => each.kill('SIGKILL'));
  await all;
}

/** True when the promise settled within so many milliseconds. Leaves no timer. */
async function within(milliseconds: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

function throwIfInterrupted(signal: AbortSignal): void {
  if (signal.aborted)
    throw new WhittleError(
      'INTERRUPTED',
      'interrupted while the run was starting; nothing was started that still runs',
    );
}

function indented(lines: readonly string[]): string {
  return lines.length === 0
    ? '; it printed nothing'
    : `; its last output:\n${lines.map((line) => `    ${line}`).join('\n')}`;
}
