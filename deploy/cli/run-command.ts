import { startInBackground } from '../launchers/background.ts';
import { concludeUnstarted } from '../launchers/conclude.ts';
import { executeRun, exitCodeOf } from '../launchers/execute.ts';
import type { RunPlan } from '../launchers/plan.ts';
import { allLauncherOptions, launcherOptionsOf, type LauncherOptions } from '../launchers/define.ts';
import { DEFAULT_LAUNCHER, LAUNCHERS } from '../launchers/registry.ts';
import { DEFAULT_MAX_RESTARTS, type PreparedRun } from '../launchers/run.ts';
import { commandLine } from '../../shared/invocation.ts';
import { plural } from '../../shared/plural.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import type { Context, OptionDefinitions } from './command.ts';
import type { Output } from './output.ts';
import { Progress, type ProgressStream } from './progress.ts';
import { formatEnding, formatPlan, formatReport, layersAt, type ReportContext } from './report.ts';
import { securityOptions } from './security-options.ts';

/** Options that every command on runs has. */
export const runsOption = {
  type: 'string',
  label: 'DIR',
  default: 'runs',
  description: 'folder of run directories',
} as const satisfies OptionDefinitions[string];

/** Option of the commands that take a checkpoint as it would be used. */
export const recalibrateOption = {
  type: 'integer',
  label: 'N',
  min: 0,
  description: 'measure batch normalisation anew over N batches of the training data; default: as the run file says',
} as const satisfies OptionDefinitions[string];

/** Options that `launch` and `resume` share. */
export const startOptions = {
  runsDir: runsOption,
  on: {
    type: 'string',
    label: 'launcher',
    default: DEFAULT_LAUNCHER,
    choices: Object.keys(LAUNCHERS),
    description: `where the processes run: ${Object.values(LAUNCHERS)
      .map(({ name, summary }) => `${name}: ${summary}`)
      .join('; ')}`,
  },
  maxRestarts: {
    type: 'integer',
    label: 'N',
    min: 0,
    default: DEFAULT_MAX_RESTARTS,
    description: 'how many roles that died are started again, over the whole run; 0: the first death ends it',
  },
  standbys: {
    type: 'integer',
    label: 'N',
    min: 0,
    default: 0,
    description: 'schedulers that wait to take over; they need coordination by etcd',
  },
  ...securityOptions,
  dryRun: { type: 'boolean', description: 'print the plan and start nothing' },
  detach: { type: 'boolean', description: 'return as soon as the run has started; it goes on in the background' },
} as const satisfies OptionDefinitions;

/** The options of the launchers, after those that every launcher has. */
export const launcherOptions = allLauncherOptions(LAUNCHERS);

/** What a command that starts runs was told for its launcher. Errors: USAGE for an option of another launcher. */
export function givenLauncherOptions(on: string, options: object): LauncherOptions {
  return launcherOptionsOf(LAUNCHERS, on, options as LauncherOptions);
}

/** Starts a prepared run in the foreground, shows its progress and its report; resolves to the exit code. */
export async function runInForeground(
  prepared: PreparedRun,
  context: Pick<Context, 'output' | 'signal' | 'killSignal'>,
): Promise<number> {
  const { output, signal, killSignal } = context;
  const progress = new Progress(progressStream(output));
  const onAbort = (): void =>
    progress.line('stopping: the run writes a checkpoint first; Ctrl-C again kills it at once');
  const onKill = (): void => progress.line('killing all processes of the run');
  signal.addEventListener('abort', onAbort, { once: true });
  killSignal.addEventListener('abort', onKill, { once: true });
  let result: RunResult;
  try {
    result = await executeRun(prepared.launcher, prepared.launchPlan, {
      signal,
      killSignal,
      onStarted: (run) =>
        progress.line(
          `started ${plural(run.processes.length, 'process', 'processes')}, scheduler at ${run.schedulerAddress}`,
        ),
      onNotice: (line) => progress.line(line),
      onStatus: (status) => progress.update(status),
    });
  } finally {
    signal.removeEventListener('abort', onAbort);
    killSignal.removeEventListener('abort', onKill);
    progress.clear();
  }
  const report = formatReport(result, reportContext(prepared.plan, result));
  // Under --json the report is still for people to see; the JSON is the last line of stdout.
  if (output.json) output.line(report);
  output.result(result, () => report);
  const ending = formatEnding(result);
  if (ending !== '') output.progress(`\n${ending}`);
  return exitCodeOf(result);
}

/** Starts a prepared run under a supervisor and says how to follow it. */
export async function runInBackground(prepared: PreparedRun, output: Output): Promise<number> {
  const { runId, runDirectory } = prepared.launchPlan;
  const detached = await prepared.launcher.detach?.(prepared.launchPlan).catch(async (error: unknown) => {
    await concludeUnstarted(prepared.launchPlan, error);
    throw error;
  });
  if (detached !== undefined) {
    output.result({ runId, runDirectory, state: 'PENDING', ...detached.data }, () =>
      [`run ${runId} is ${detached.what}`, ...howToFollow(runDirectory)].join('\n'),
    );
    return 0;
  }
  const started = await startInBackground({
    launcher: prepared.launcher.name,
    launcherOptions: prepared.launcherOptions,
    plan: prepared.launchPlan,
  });
  const { pid, schedulerAddress, processes } = started;
  output.result(
    { runId, runDirectory, state: 'PENDING', supervisor: pid, scheduler: schedulerAddress, processes },
    () =>
      [
        `run ${runId} goes on in the background (supervisor ${pid}, scheduler at ${schedulerAddress})`,
        ...howToFollow(runDirectory),
      ].join('\n'),
  );
  return 0;
}

function howToFollow(runDirectory: string): string[] {
  return [
    `follow it with: ${commandLine('status', runDirectory, '--watch')}`,
    `stop it with:   ${commandLine('stop', runDirectory)}`,
  ];
}

/**
 * Shows what would be started. Where a batch system or cluster would be given something, that alone goes to stdout, to
 * be handed on (`| kubectl apply -f -`), and the plan to stderr.
 */
export async function showPlan(prepared: PreparedRun, output: Output, data: object = {}, note = ''): Promise<void> {
  const plan = [formatPlan(prepared.plan, prepared.source), note].filter((text) => text !== '').join('\n\n');
  const preview = await prepared.launcher.preview?.(prepared.launchPlan, prepared.config);
  if (preview !== undefined && !output.json) output.progress(plan);
  const all = { ...prepared.plan, ...data, ...(preview === undefined ? {} : { preview }) };
  output.result(all, () => preview ?? plan);
}

/** What the report shows besides the result. */
export function reportContext(plan: RunPlan, result: RunResult): ReportContext {
  const update = plan.sparsity.findLast((each) => each.step <= layersAt(result));
  return {
    prunable: plan.prunable,
    scheduledRemoved: update === undefined ? 0 : plan.parameters - update.packed,
    denseBytesPerStep: plan.bytesPerStep.dense,
  };
}

/** Progress goes to stderr: stdout holds plan and report, or JSON. A terminal is redrawn, elsewhere lines are added. */
export function progressStream(output: Output): ProgressStream {
  if (process.stderr.isTTY) return process.stderr;
  return { write: (text) => output.progress(text.replace(/\n$/, '')) };
}
