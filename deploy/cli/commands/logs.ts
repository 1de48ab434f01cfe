import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../../shared/errors.ts';
import type { RunDirectory } from '../../../shared/telemetry/run-directory.ts';
import { hasEnded } from '../../launchers/follow.ts';
import { LineTail } from '../../launchers/line-tail.ts';
import { defineCommand } from '../command.ts';
import { clusterOptions, findClusterRun, showClusterLogs } from '../cluster-run.ts';
import { findRun } from '../find-run.ts';
import { formatLine, jsonOfLine, type LogLine, mergeByTime, timedLines } from '../logs.ts';
import { runsOption } from '../run-command.ts';

/** Milliseconds between looks at the files. */
const POLL_EVERY = 250;

export const command = defineCommand({
  name: 'logs',
  description: "Show a run's logs, merged by time. S[2] is server 2, W[0] worker 0.",
  arguments: { run: { description: 'id or directory of the run; default: the newest', optional: true } },
  options: {
    role: { type: 'string', choices: ['scheduler', 'server', 'worker'], label: 'role', description: 'only this role' },
    rank: { type: 'integer', label: 'N', min: 0, description: 'only members of this rank' },
    tail: { type: 'integer', label: 'N', min: 0, description: 'only the last N lines; default: all' },
    follow: { type: 'boolean', short: 'f', description: 'go on with new lines until the run ends' },
    runsDir: runsOption,
    ...clusterOptions,
  },
  examples: [
    { command: 'logs mine --tail 50', effect: 'show the last 50 lines of all roles' },
    { command: 'logs mine --role worker --rank 1 --follow', effect: 'follow worker 1' },
  ],
  handler: async (context) => {
    const { arguments: args, options, output } = context;
    const elsewhere = await findClusterRun(args.run, options);
    if (elsewhere !== null) return showClusterLogs(elsewhere, options, context);
    const run = await findRun(args.run, options.runsDir);
    const reader = new LogReader(run, options.role, options.rank);
    const show = (lines: readonly LogLine[]): void => {
      for (const line of lines) output.result(jsonOfLine(line), () => formatLine(line));
    };
    const first = await reader.read();
    if (options.rank !== undefined && !reader.found) await requireLater(run, options, options.follow);
    show(options.tail === undefined ? first : options.tail === 0 ? [] : first.slice(-options.tail));
    if (!options.follow) {
      if (first.length === 0) output.progress(`run ${run.runId} has no such logs in ${run.logsFolder}`);
      return;
    }
    const { signal } = context;
    while (!signal.aborted) {
      // Asked before the last look: what was logged until the end is shown.
      const status = await run.effectiveStatus();
      show(await reader.read());
      if (status !== null && hasEnded(status)) return;
      await sleep(POLL_EVERY, undefined, { signal }).catch(() => undefined);
    }
  },
});

/** Errors: USAGE where the logs that were asked for are not there and, by all that is known, will not be. */
async function requireLater(
  run: RunDirectory,
  { role, rank }: { readonly role: string | undefined; readonly rank: number | undefined },
  follow: boolean,
): Promise<void> {
  if (follow) {
    const status = await run.effectiveStatus();
    if (status === null || !hasEnded(status)) return;
  }
  const members = (await run.logFiles()).filter((each) => role === undefined || each.role === role);
  const there = members.map((each) => `${each.role}[${each.rank}]`).join(', ');
  throw new WhittleError(
    'USAGE',
    `run ${run.runId} has no logs of ${role ?? 'rank '}${role === undefined ? rank : `[${rank}]`}; ${there === '' ? `${run.logsFolder} is empty` : `there are those of ${there}`}`,
    { data: { runId: run.runId, role: role ?? null, rank: rank ?? null } },
  );
}

/** Reads what is new in the log files of a run; files may appear later. */
class LogReader {
  readonly #run: RunDirectory;
  readonly #role: string | undefined;
  readonly #rank: number | undefined;
  readonly #files = new Map<string, { readonly tail: LineTail; time: string }>();

  constructor(run: RunDirectory, role: string | undefined, rank: number | undefined) {
    this.#run = run;
    this.#role = role;
    this.#rank = rank;
  }

  /** True when there was a file to read. */
  get found(): boolean {
    return this.#files.size > 0;
  }

  async read(): Promise<LogLine[]> {
    const logs: LogLine[][] = [];
    for (const { role, rank, path } of await this.#run.logFiles()) {
      if (this.#role !== undefined && role !== this.#role) continue;
      if (this.#rank !== undefined && rank !== this.#rank) continue;
      let file = this.#files.get(path);
      if (file === undefined) this.#files.set(path, (file = { tail: new LineTail(path), time: '' }));
      const lines = timedLines(role, rank, await file.tail.read(), file.time);
      file.time = lines.at(-1)?.time ?? file.time;
      logs.push(lines);
    }
    return mergeByTime(logs);
  }
}
