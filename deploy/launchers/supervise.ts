import { schedulerLocator } from '../../shared/coordination/locate.ts';
import { endAll } from './end-all.ts';
import type { LaunchedRun, LaunchPlan } from './launcher.ts';
import { throwIfInterrupted, waitForListening } from './listening.ts';
import type { RoleHost, SuperviseDeadlines } from './role-host.ts';
import { memberArguments, standbyArguments, Supervision } from './supervision.ts';

/** Milliseconds. */
const DEADLINES: SuperviseDeadlines = {
  listening: 30_000,
  loss: 4_000,
  leave: 20_000,
  leaving: 8_000,
  terminate: 3_000,
  backoff: 250,
};

/**
 * Starts all roles of a run and watches over them; see Launcher.start. A role that died is started again, as often as
 * the plan allows: the scheduler with `--recover`, the others as before. What happens is told in one line each.
 */
export async function superviseRun(
  plan: LaunchPlan,
  signal: AbortSignal,
  host: RoleHost,
  deadlinesGiven: Partial<SuperviseDeadlines> = {},
  tell: (line: string) => void = () => undefined,
): Promise<LaunchedRun> {
  const deadlines = { ...DEADLINES, ...deadlinesGiven };
  const locate = schedulerLocator(plan.runDirectory, null);
  const supervision = new Supervision({ plan, signal, host, deadlines, tell, locate });
  // A second Ctrl-C, an uncaught error: whatever ends this process ends its roles.
  const killAll = (): void => supervision.kill();
  process.on('exit', killAll);
  try {
    const resume = plan.resume === null ? [] : ['--resume', plan.resume.folder ?? 'newest'];
    const scheduler = await supervision.start('scheduler', 0, ['--port', String(plan.port), ...resume]);
    const { address, generation } = await waitForListening(scheduler, deadlines.listening, signal);
    supervision.schedulerAddress = address;
    for (let rank = 1; rank <= plan.standbys; rank++)
      await supervision.start('scheduler', rank, standbyArguments(rank));
    for (let rank = 0; rank < plan.servers; rank++)
      await supervision.start('server', rank, memberArguments(address, rank));
    for (let rank = 0; rank < plan.workers; rank++)
      await supervision.start('worker', rank, memberArguments(address, rank));
    throwIfInterrupted(signal);
    return {
      get schedulerAddress() {
        return supervision.schedulerAddress;
      },
      generation,
      processes: supervision.processes().map(({ role, rank, pid }) => ({ role, rank, pid })),
      ended: supervision.watch().finally(() => process.off('exit', killAll)),
      kill: killAll,
    };
  } catch (error) {
    await endAll(supervision.processes(), deadlines.terminate);
    process.off('exit', killAll);
    throw error;
  }
}
