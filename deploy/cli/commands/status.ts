import { setTimeout as sleep } from 'node:timers/promises';
import { schedulerLocator } from '../../../shared/coordination/locate.ts';
import { WhittleError } from '../../../shared/errors.ts';
import type { RunStatus } from '../../../shared/telemetry/run-status.ts';
import { followRun, hasEnded } from '../../launchers/follow.ts';
import { defineCommand } from '../command.ts';
import { clusterOptions, findClusterRun, showClusterStatus } from '../cluster-run.ts';
import { findRun } from '../find-run.ts';
import { Progress } from '../progress.ts';
import { progressStream, runsOption } from '../run-command.ts';
import { formatStatus } from '../status-view.ts';

export const command = defineCommand({
  name: 'status',
  description: 'Show where a run stands: step, loss, sparsity, speed, last checkpoint, members.',
  arguments: { run: { description: 'id or directory of the run; default: the newest', optional: true } },
  options: {
    watch: { type: 'boolean', short: 'w', description: 'follow the run until it ends; with --json one line a change' },
    runsDir: runsOption,
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
    if (first === null && !options.watch) {
      throw new WhittleError(
        'RUN_UNKNOWN',
        `run ${directory.runId} has no status: it never started, or starts just now; try again, or see \`whittle logs ${directory.path}\``,
      );
    }
    let last: RunStatus | null = first;
    if (options.watch && (first === null || !hasEnded(first))) {
      const { signal } = context;
      const progress = new Progress(progressStream(output));
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
        const locate = schedulerLocator(directory.path, last.scheduler.address);
        await followRun({ locate, signal, readStatus: read, onStatus: show });
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
