import { setTimeout as sleep } from 'node:timers/promises';
import { WhittleError } from '../../shared/errors.ts';
import type { Role, RunStatus } from '../../shared/telemetry/run-status.ts';
import type { PodState } from '../launchers/kubernetes/explain.ts';
import { type ClusterRun, findClusterRun } from '../launchers/kubernetes/find.ts';
import { JOB_SET } from '../launchers/kubernetes/job-set.ts';
import { PodLog } from '../launchers/kubernetes/pod-log.ts';
import { parsePodEvent } from '../launchers/kubernetes/pod-events.ts';
import { askPodToStop } from '../launchers/kubernetes/stop.ts';
import { RunWatch, type WatchHooks } from '../launchers/kubernetes/watch.ts';
import type { OptionDefinitions } from './command.ts';
import { formatLine, jsonOfLine, type LogLine, mergeByTime, timedLines } from './logs.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { progressStream } from './run-command.ts';
import { formatStatus } from './status-view.ts';
import { formatTable } from './table.ts';

/** Options of the commands that also know runs of a cluster; one launched from here needs none of them. */
export const clusterOptions = {
  on: {
    type: 'string',
    label: 'launcher',
    choices: ['kubernetes'],
    description: 'look for the run there; default: where it was launched, if from here',
  },
  namespace: { type: 'string', label: 'NAME', description: "namespace (--on kubernetes); default: the context's" },
  context: { type: 'string', label: 'NAME', description: 'context of the kubeconfig (--on kubernetes)' },
} as const satisfies OptionDefinitions;

export { findClusterRun };

/** Milliseconds between looks at a cluster. */
const POLL_EVERY = 2_000;

/** The signal is read only where something is waited for: reading it takes Ctrl-C over. */
interface Showing {
  readonly output: Output;
  readonly signal: AbortSignal;
}

/** `whittle status` of a run on a cluster: its last status, and its pods with what is wrong with them. */
export async function showClusterStatus(run: ClusterRun, watch: boolean, context: Showing): Promise<void> {
  const { output } = context;
  const progress = new Progress(progressStream(output));
  const hooks: WatchHooks = watch
    ? {
        tell: (line) => progress.line(line),
        onStatus: (status) => (output.json ? output.result(status, () => '') : progress.update(status)),
      }
    : {};
  const seen = new RunWatch(run.api, run.names, run.sizes, { ...hooks, tailLines: watch ? undefined : TAIL });
  await seen.look();
  if (watch) {
    const { signal } = context;
    while (seen.end === null && !signal.aborted) {
      await sleep(POLL_EVERY, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) await seen.look();
    }
    progress.clear();
    if (output.json) return;
  }
  const status = statusOf(seen);
  const { jobSet, namespace, runId } = run.names;
  const pods = seen.pods.map(({ createdAt: _createdAt, ...pod }) => pod);
  output.result({ ...(status ?? { runId, state: 'PENDING' }), jobSet, namespace, pods }, () =>
    [
      status === null
        ? `run ${runId} is PENDING, JobSet ${jobSet} in namespace ${namespace}`
        : formatStatus(status, Date.now()),
      formatPods(seen.pods),
    ].join('\n\n'),
  );
}

/** Lines of the scheduler's log that hold its last status; one comes every ten seconds. */
const TAIL = 1_000;

/** The last word of the run, or of its JobSet where the run could not speak any more. */
function statusOf({ status, result, end, pods }: RunWatch): RunStatus | null {
  if (status === null || (status.state !== 'RUNNING' && status.state !== 'PENDING')) return status;
  if (result !== null) return { ...status, state: result.state, step: result.step, failure: result.failure };
  if (end === null) return status;
  const problem = pods.find((pod) => pod.problem?.kind === 'ended')?.problem;
  const message = problem === undefined || problem === null ? end.message : `${end.message}; ${problem.message}`;
  const failure = { role: 'scheduler', rank: 0, code: 'ROLE_LOST', message, stack: '', step: status.step } as const;
  return { ...status, state: 'FAILED', activity: 'ended', failure };
}

function formatPods(pods: readonly PodState[]): string {
  if (pods.length === 0) return 'no pods yet';
  const table = formatTable(
    [{ title: 'role' }, { title: 'pod' }, { title: 'phase' }, { title: 'ready' }, { title: 'node' }],
    pods.map(({ role, rank, name, phase, ready, node }) => [
      `${role}[${rank}]`,
      name,
      phase,
      ready ? 'yes' : 'no',
      node ?? undefined,
    ]),
  );
  const problems = pods.flatMap(({ role, rank, problem }) =>
    problem === null ? [] : [`${role}[${rank}] ${problem.message} [${problem.reason}]`],
  );
  return [table, ...problems].join('\n');
}

/** `whittle logs` of a run on a cluster. */
export async function showClusterLogs(
  run: ClusterRun,
  options: {
    readonly role: string | undefined;
    readonly rank: number | undefined;
    readonly tail: number | undefined;
    readonly follow: boolean;
  },
  context: Showing,
): Promise<void> {
  const { output } = context;
  const seen = new RunWatch(run.api, run.names, run.sizes, { tailLines: 0 });
  const logs = new Map<string, { readonly log: PodLog; time: string }>();
  const read = async (): Promise<LogLine[]> => {
    await seen.look();
    const lines: LogLine[][] = [];
    for (const pod of seen.pods) {
      if (pod.phase === 'Pending' || (options.role !== undefined && options.role !== pod.role)) continue;
      if (options.rank !== undefined && options.rank !== pod.rank) continue;
      let file = logs.get(pod.name);
      if (file === undefined) logs.set(pod.name, (file = { log: new PodLog(run.api, pod.name), time: '' }));
      lines.push(await roleLines(file, pod.role, pod.rank));
    }
    return mergeByTime(lines);
  };
  const print = (lines: readonly LogLine[]): void => {
    for (const line of lines) output.result(jsonOfLine(line), () => formatLine(line));
  };
  const first = await read();
  print(options.tail === undefined ? first : options.tail === 0 ? [] : first.slice(-options.tail));
  if (!options.follow) {
    if (first.length === 0) output.progress(`run ${run.names.runId} has no such logs on the cluster`);
    return;
  }
  const { signal } = context;
  while (seen.end === null && !signal.aborted) {
    await sleep(POLL_EVERY, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) print(await read());
  }
}

async function roleLines(file: { readonly log: PodLog; time: string }, role: Role, rank: number): Promise<LogLine[]> {
  const texts = (await file.log.read()).map(({ text }) => text).filter((text) => parsePodEvent(text) === null);
  const lines = timedLines(role, rank, texts, file.time);
  file.time = lines.at(-1)?.time ?? file.time;
  return lines;
}

/** `whittle stop` of a run on a cluster; one whose scheduler does not run has nothing to keep and is deleted. */
export async function stopClusterRun(run: ClusterRun, timeout: number, context: Showing): Promise<void> {
  const { output, signal } = context;
  const { runId, jobSet, namespace } = run.names;
  const seen = new RunWatch(run.api, run.names, run.sizes, { tailLines: TAIL });
  await seen.look();
  const wasRunning = seen.end === null;
  let asked: string | null = null;
  // Again where its pod was replaced meanwhile.
  const ask = async (): Promise<void> => {
    const { scheduler } = seen;
    if (scheduler === null || scheduler.name === asked) return;
    if (await askPodToStop(run.api, scheduler, 'whittle stop')) asked = scheduler.name;
  };
  if (wasRunning) await ask();
  // Servers start when the scheduler was ready: without one the run has not begun.
  const begun = asked !== null || seen.pods.some(({ role }) => role === 'server');
  const deleted = wasRunning && !begun && (await run.api.remove({ ...JOB_SET, name: jobSet }, 'Background'));
  for (const end = Date.now() + 1000 * timeout; wasRunning && !deleted && timeout > 0 && seen.end === null;) {
    if (signal.aborted)
      throw new WhittleError('INTERRUPTED', `stopped waiting for the end of run ${runId}; it was asked to stop`);
    if (Date.now() >= end)
      throw new WhittleError(
        'DEADLINE',
        `run ${runId} was asked to stop ${timeout} s ago and has not ended; see \`whittle logs ${runId} --on kubernetes\`, or delete it: kubectl delete jobset ${jobSet} --namespace ${namespace}`,
        { data: { runId, jobSet, namespace } },
      );
    await sleep(POLL_EVERY / 4, undefined, { signal }).catch(() => undefined);
    await seen.look();
    if (seen.end === null) await ask();
  }
  const status = statusOf(seen);
  const state = deleted ? 'STOPPED' : (status?.state ?? 'PENDING');
  const step = status?.step ?? 0;
  output.result({ runId, state, step, wasRunning, deleted }, () =>
    deleted
      ? `run ${runId} had no scheduler that could write a checkpoint; JobSet ${jobSet} is deleted`
      : !wasRunning
        ? `run ${runId} is not running: ${state} at step ${step}`
        : timeout === 0
          ? `run ${runId} was asked to stop`
          : `run ${runId} ended ${state} at step ${step}`,
  );
}
