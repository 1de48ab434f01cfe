import { setTimeout as sleep } from 'node:timers/promises';
import { leaderOf } from '../../../shared/coordination/scheduler-finder.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { commandLine } from '../../../shared/invocation.ts';
import { loadRunSecurity } from '../../../shared/security/run-security.ts';
import type { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import { askToStop } from '../../launchers/execute.ts';
import { describeJob, stopJob, untilNoJob } from '../../launchers/slurm-queue.ts';
import { defineCommand } from '../command.ts';
import { clusterOptions, findClusterRun, stopClusterRun } from '../cluster-run.ts';
import { findRun } from '../find-run.ts';
import { certsOption } from '../security-options.ts';
import { runsOption } from '../run-command.ts';

export const command = defineCommand({
  name: 'stop',
  description: 'Checkpoint a run and stop it; returns when it has ended. `whittle resume` continues it.',
  arguments: { run: { description: 'id or directory of the run; default: the newest', optional: true } },
  options: {
    timeout: {
      type: 'number',
      label: 'seconds',
      default: 120,
      min: 0,
      description: 'how long to wait for the end of the run; 0: do not wait',
    },
    runsDir: runsOption,
    certs: certsOption,
    ...clusterOptions,
  },
  examples: [{ command: 'stop mine', effect: 'checkpoint and stop the run `mine`' }],
  handler: async (context) => {
    const { arguments: args, options, output, signal } = context;
    const elsewhere = await findClusterRun(args.run, options);
    if (elsewhere !== null) return stopClusterRun(elsewhere, options.timeout, context);
    const run = await findRun(args.run, options.runsDir);
    const job = await stopJob(run.path);
    const holder = await leaderOf(run.path);
    if (holder !== null) {
      const { credentials } = await loadRunSecurity(run.path, { certificates: options.certs });
      // In a job, its supervisor was told: the scheduler may not be reachable from here.
      if (job === null) await askToStop(holder.address, 'whittle stop', credentials);
      if (options.timeout > 0) await waitForEnd(run, holder.token, options.timeout, signal);
    }
    // A resume right after this one must not meet the job.
    if (job !== null && options.timeout > 0) await untilNoJob(run.path, options.timeout);
    const status = await run.effectiveStatus();
    const result = {
      runId: run.runId,
      state: status?.state ?? 'PENDING',
      step: status?.step ?? 0,
      wasRunning: holder !== null,
      ...(job === null ? {} : { jobId: job.jobId }),
    };
    output.result(result, () =>
      holder === null && job !== null
        ? `${describeJob(job)}: cancelled; run ${run.runId} did not run`
        : holder === null
          ? `run ${run.runId} is not running: ${result.state}${status === null ? ', it never started' : ` at step ${result.step}`}`
          : options.timeout === 0
            ? `run ${run.runId} was asked to stop`
            : `run ${run.runId} ended ${result.state} at step ${result.step}; continue it with: ${commandLine('resume', run.path)}`,
    );
  },
});

/** Resolves when the scheduler that held the directory has given it back. */
async function waitForEnd(run: RunDirectory, token: string, seconds: number, signal: AbortSignal): Promise<void> {
  for (const end = Date.now() + 1000 * seconds; ;) {
    const holder = await leaderOf(run.path);
    if (holder === null || holder.token !== token) return;
    if (signal.aborted)
      throw new WhittleError('INTERRUPTED', `stopped waiting for the end of run ${run.runId}; it was asked to stop`);
    if (Date.now() >= end) {
      throw new WhittleError(
        'DEADLINE',
        `run ${run.runId} was asked to stop ${seconds} s ago and has not ended; its scheduler is pid ${holder.pid} on ${holder.host}, see \`${commandLine('logs', run.path)}\``,
        {
          data: { runId: run.runId, holder },
        },
      );
    }
    await sleep(100, undefined, { signal }).catch(() => undefined);
  }
}
