import { join } from 'node:path';
import type { Role } from '../../shared/telemetry/run-status.ts';
import { endAll, within } from './end-all.ts';
import type { LaunchedRun, LaunchPlan, RunEnd } from './launcher.ts';
import { throwIfInterrupted, waitForListening } from './listening.ts';
import { lastLines, type RoleProcess } from './role-process.ts';

/** Milliseconds. */
export interface SuperviseDeadlines {
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

const DEADLINES: SuperviseDeadlines = {
  listening: 30_000,
  loss: 4_000,
  leave: 20_000,
  leaving: 8_000,
  terminate: 3_000,
};

/** One role to start; what it is told comes from the supervisor, where it listens from its host. */
export interface RoleStart {
  readonly role: Role;
  readonly rank: number;
  /** What follows the role's command, without `--host`. */
  readonly args: readonly string[];
  /** Where its stdout and stderr are appended. */
  readonly outputFile: string;
}

/** How a launcher starts one process of a run; everything else about a run is the supervisor's. */
export interface RoleHost {
  /** Rejects when the process cannot be started. It must end when this process does, however that ends. */
  start(start: RoleStart): Promise<RoleProcess>;
}

/** Starts all roles of a run and watches over them; see Launcher.start. */
export async function superviseRun(
  plan: LaunchPlan,
  signal: AbortSignal,
  host: RoleHost,
  deadlinesGiven: Partial<SuperviseDeadlines> = {},
): Promise<LaunchedRun> {
  const deadlines = { ...DEADLINES, ...deadlinesGiven };
  const processes: RoleProcess[] = [];
  // A second Ctrl-C, an uncaught error: whatever ends this process ends its roles.
  const killAll = (): void => processes.forEach((each) => each.kill('SIGKILL'));
  process.on('exit', killAll);

  const spawnRole = async (role: Role, rank: number, args: readonly string[]): Promise<RoleProcess> => {
    const started = await host.start({
      role,
      rank,
      args: ['--run-dir', plan.runDirectory, ...args],
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

/** Waits for the run's end and reaps everything. Never rejects. */
async function supervise(
  scheduler: RoleProcess,
  processes: readonly RoleProcess[],
  deadlines: SuperviseDeadlines,
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
