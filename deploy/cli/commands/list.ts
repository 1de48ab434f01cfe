import { resolve } from 'node:path';
import { WhittleError } from '../../../shared/errors.ts';
import { commandLine } from '../../../shared/invocation.ts';
import { plural } from '../../../shared/plural.ts';
import { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import type { RunState } from '../../../shared/telemetry/run-status.ts';
import { defineCommand } from '../command.ts';
import { ageInSeconds, formatDuration, formatPercent } from '../quantities.ts';
import { runsOption } from '../run-command.ts';
import { formatTable } from '../table.ts';

/** A run in the list; null where it is not known yet. */
export interface ListedRun {
  readonly runId: string;
  readonly runDirectory: string;
  readonly state: RunState;
  readonly step: number | null;
  readonly totalSteps: number | null;
  readonly testAccuracy: number | null;
  readonly sparsity: number | null;
  readonly updatedAt: string | null;
}

export const command = defineCommand({
  name: 'list',
  description: 'List the runs of a folder, newest first.',
  options: { runsDir: runsOption },
  examples: [{ command: 'list', effect: 'list the runs in ./runs' }],
  handler: async ({ options, output }) => {
    const runs: ListedRun[] = [];
    for (const run of await RunDirectory.list(options.runsDir)) {
      try {
        runs.push(await describe(run));
      } catch (reason) {
        // One damaged run must not hide the others.
        output.warn(WhittleError.from(reason).message);
      }
    }
    output.result(runs, () => formatRuns(runs, Date.now(), resolve(options.runsDir)));
  },
});

async function describe(run: RunDirectory): Promise<ListedRun> {
  const status = await run.effectiveStatus();
  // One that a launcher refused has a result alone.
  const refused = status === null ? await run.readResult() : null;
  return {
    runId: run.runId,
    runDirectory: run.path,
    state: status?.state ?? refused?.state ?? 'PENDING',
    step: status?.step ?? null,
    totalSteps: status?.totalSteps ?? null,
    testAccuracy: status?.testAccuracy ?? null,
    sparsity: status?.sparsity ?? null,
    updatedAt: status?.updatedAt ?? null,
  };
}

/** `folder`: where was looked. */
export function formatRuns(runs: readonly ListedRun[], now: number, folder: string): string {
  if (runs.length === 0)
    return `no runs in ${folder}; start one with: ${commandLine('launch', 'run.yaml')}, or name another folder with --runs-dir`;
  const table = formatTable(
    [
      { title: 'run' },
      { title: 'state' },
      { title: 'step', align: 'right' },
      { title: 'accuracy', align: 'right' },
      { title: 'sparsity', align: 'right' },
      { title: 'updated', align: 'right' },
    ],
    runs.map((run) => {
      const age = run.updatedAt === null ? null : ageInSeconds(run.updatedAt, now);
      return [
        run.runId,
        run.state,
        run.step === null ? undefined : `${run.step}/${run.totalSteps ?? '?'}`,
        run.testAccuracy === null ? undefined : formatPercent(run.testAccuracy),
        run.sparsity === null ? undefined : formatPercent(run.sparsity),
        age === null ? undefined : `${formatDuration(age)} ago`,
      ];
    }),
  );
  return `${table}\n\n${plural(runs.length, 'run')} in ${folder}`;
}
