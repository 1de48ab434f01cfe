import { setTimeout as sleep } from 'node:timers/promises';
import { openSchedulerFinder } from '../../../shared/coordination/scheduler-finder.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { commandLine } from '../../../shared/invocation.ts';
import { credentialsToAsk } from '../../../shared/security/run-security.ts';
import type { RunStatus } from '../../../shared/telemetry/run-status.ts';
import { followRun, hasEnded } from '../../launchers/follow.ts';
import { describeJob, waitingJob } from '../../launchers/slurm-queue.ts';
import { defineCommand } from '../command.ts';
import { clusterOptions, findClusterRun, showClusterStatus } from '../cluster-run.ts';
import { findRun } from '../find-run.ts';
import { Progress } from '../progress.ts';
import { progressStream, runsOption } from '../run-command.ts';
import { certsOption } from '../security-options.ts';
import { formatStatus } from '../status-view.ts';

export const command = defineCommand({
  name: 'status',
  description: 'Show where a run stands: step, loss, sparsity, speed, last checkpoint, members.',
  arguments: { run: { description: 'id or directory of the run; default: the newest', optional: true } },
  options: {
    watch: { type: 'boolean', short: 'w', description: 'follow the run until it ends; with --json one line a change' },
    runsDir: runsOption,
    certs: certsOption,
    ...clusterOptions,
  },
  examples: [
    { command: 'status', effect: 'show the newest run' },
    { command: 'status mine --watch', effect: 'follow the run `mine` to its end' },
  ],
  handler: async (context) => {
    const { arguments: args, options, output } = context;
    const elsewhere = await findClusterRun(args.run, options);
    if (elsewhere !== null) {
      await showClusterStatus(elsewhere, options.watch, context);
      return 0;
    }
    const directory = await findRun(args.run, options.runsDir);
    const first = await directory.effectiveStatus();
    const waiting = await waitingJob(directory.path);
    if (waiting !== null && !options.watch) {
      const { runId, path: runDirectory } = directory;
      const state = { runId, runDirectory, state: 'PENDING', step: first?.step ?? 0, ...waiting };
      output.result(state, () => `run ${runId} waits at step ${state.step}: ${describeJob(waiting.job)}`);
      return 0;
    }
    const refused = first === null && waiting === null ? await directory.readResult() : null;
    if (refused !== null) {
      output.result(
        refused,
        () =>
          `run ${directory.runId} is ${refused.state}: ${refused.failure?.message ?? 'it was ended before it began'}`,
      );
      return 0;
    }
    if (first === null && !options.watch) {
      throw new WhittleError(
        'RUN_UNKNOWN',
        `run ${directory.runId} has no status: it never started, or starts just now; try again, or see \`${commandLine('logs', directory.path)}\``,
      );
    }
    let last: RunStatus | null = first;
    if (options.watch && (first === null || !hasEnded(first))) {
      const { signal } = context;
      const progress = new Progress(progressStream(output));
      if (waiting !== null) progress.line(describeJob(waiting.job));
      const show = (status: RunStatus): void => {
        last = status;
        if (output.json) output.result(status, () => '');
        else progress.update(status);
      };
      const read = (): Promise<RunStatus | null> => directory.effectiveStatus();
      while (last === null && !signal.aborted) {
        last = await read();
        if (last === null) await sleep(200, undefined, { signal }).catch(() => undefined);
      }
      if (last !== null) {
        show(last);
        const finder = await openSchedulerFinder(directory.path, last.scheduler.address);
        const locate = (): Promise<string | null> => finder.locate();
        const credentials = await credentialsToAsk(directory.path, options.certs);
        await followRun({ locate, credentials, signal, readStatus: read, onStatus: show }).finally(() =>
          finder.close(),
        );
        // The stream may have ended before the last word.
        if (!hasEnded(last) && !signal.aborted) last = (await read()) ?? last;
      }
      progress.clear();
      if (output.json) return 0;
    }
    const shown = last;
    if (shown !== null) output.result(shown, () => formatStatus(shown, Date.now()));
    return 0;
  },
});
