import { basename, join } from 'node:path';
import type { RunPlan } from '../launchers/plan.ts';
import { shortenUpdates } from '../launchers/plan.ts';
import { parseCheckpointName } from '../../shared/checkpoint/manifest-file.ts';
import { commandLine } from '../../shared/invocation.ts';
import { plural } from '../../shared/plural.ts';
import type { Recovery, LayerResult, RunFailure, RunResult } from '../../shared/telemetry/run-status.ts';
import { formatLayers } from './layer-table.ts';
import { formatBytes, formatCount, formatDuration, formatPercent } from './quantities.ts';
import { formatTable } from './table.ts';

/** What a report shows besides the result. */
export interface ReportContext {
  /** Elements that the sparsity rules match, and how many of them the schedule removes by the step of the result's layers. */
  readonly prunable: number;
  readonly scheduledRemoved: number | null;
  /** Bytes of values a step moves before anything is pruned, by the formula of the plan. */
  readonly denseBytesPerStep: number;
}

/** The step that the layers of a result are of: its checkpoint's, which is earlier than a failure. */
export function layersAt({ checkpoint, step }: RunResult): number {
  return (checkpoint == null ? null : parseCheckpointName(basename(checkpoint))?.clock) ?? step;
}

/** The closing report of a run. */
export function formatReport(result: RunResult, context: ReportContext | null): string {
  const lines = ['', `Run ${result.runId} ${ENDINGS[result.state]} at step ${result.step} of ${result.totalSteps}`, ''];
  const rows: [string, string][] = [];
  const at = layersAt(result);
  const early = at === result.step ? '' : ` at step ${at}`;
  if (result.layers.length > 0) {
    if (early !== '') lines.push(`The checkpoint of step ${at}:`, '');
    lines.push(formatLayers(result.layers), '');
  }
  if (context !== null && context.prunable > 0 && result.layers.length > 0) {
    const removed = removedElements(result.layers);
    const scheduled = context.scheduledRemoved;
    const compared =
      scheduled === null
        ? ''
        : scheduled === removed
          ? ', exactly as scheduled'
          : `, scheduled ${formatCount(scheduled)}`;
    rows.push([
      'removed',
      `${formatCount(removed)} of ${formatCount(context.prunable)} prunable elements${early}${compared}`,
    ]);
  }
  rows.push(['sparsity', `${formatPercent(result.sparsity)} at step ${result.step}`]);
  const { parameterSparsity } = result;
  if (parameterSparsity != null)
    rows.push(['all parameters', `${formatPercent(parameterSparsity)} sparse at step ${at}`]);
  const evaluated = `at step ${result.evaluatedAt ?? result.step}`;
  if (result.testAccuracy !== null) rows.push(['test accuracy', `${formatPercent(result.testAccuracy)} ${evaluated}`]);
  if (result.testLoss != null) rows.push(['test loss', `${result.testLoss.toFixed(4)} ${evaluated}`]);
  if (result.loss !== null) rows.push(['training loss', result.loss.toFixed(4)]);
  rows.push(...formatGuard(result.guard));
  if (result.resumedFrom !== null) rows.push(['resumed from', `step ${result.resumedFrom}`]);
  const since = result.resumedFrom === null ? '' : ' since the resume';
  rows.push([
    'wall time',
    `${formatDuration(result.wallSeconds)}, ${formatCount(result.examplesPerSecond)} examples/s, ${plural(result.stepsComputed, 'step')} computed${since}`,
  ]);
  for (const recovery of result.recoveries) rows.push(['recovered', formatRecovery(recovery)]);
  const slices = formatSlices(result.slicesByWorker);
  if (slices !== '') rows.push(['slices', `${slices}${since}`]);
  rows.push(['bytes', `${formatTraffic(result.bytes)}${since}`]);
  const { bytesPerStep } = result;
  if (bytesPerStep != null && bytesPerStep > 0) {
    const dense = context?.denseBytesPerStep;
    const compared = dense === undefined ? '' : `, ${formatBytes(dense)} dense${formatRatio(dense / bytesPerStep)}`;
    rows.push(['bytes a step', `${formatBytes(bytesPerStep)} at step ${result.step}${compared}`]);
  }
  for (const [name, digest] of [
    ['weights', result.weightsDigest],
    ['mask', result.maskDigest],
    ['state', result.stateDigest],
  ] as const) {
    if (digest !== null) rows.push([`${name} digest`, digest]);
  }
  if (result.checkpoint != null) rows.push(['checkpoint', result.checkpoint]);
  rows.push(['run directory', result.runDirectory]);
  lines.push(formatPairs(rows));
  return lines.join('\n');
}

const ENDINGS: Readonly<Record<RunResult['state'], string>> = {
  PENDING: 'never began',
  RUNNING: 'is running',
  SUCCEEDED: 'finished',
  FAILED: 'failed',
  STOPPED: 'stopped',
};

/** What to show when a run did not finish, and how to go on; empty when it did. */
export function formatEnding(result: RunResult): string {
  if (result.state === 'SUCCEEDED') return '';
  const lines = result.failure === null ? [] : [formatFailure(result.failure)];
  const { checkpoint, runDirectory } = result;
  if (checkpoint != null) lines.push(`its last checkpoint is that of step ${layersAt(result)}: ${checkpoint}`);
  const command = commandToContinue(runDirectory, checkpoint != null);
  lines.push(`${checkpoint == null ? 'no checkpoint was written; start over with' : 'continue it with'}: ${command}`);
  lines.push(`its logs: ${commandLine('logs', runDirectory)}`);
  return lines.join('\n');
}

/** The command by which a run goes on that did not finish, or begins anew. */
export function commandToContinue(runDirectory: string, hasCheckpoint: boolean): string {
  return hasCheckpoint ? commandLine('resume', runDirectory) : commandLine('launch', join(runDirectory, 'run.yaml'));
}

/** `worker[1] failed at step 12: [CODE] message`, then the stack of the role itself where there is one. */
export function formatFailure(failure: RunFailure): string {
  const coded = failure.message.startsWith(`[${failure.code}]`)
    ? failure.message
    : `[${failure.code}] ${failure.message}`;
  const stack = failure.stack.trim();
  // A stack usually begins with the message; shown once is enough.
  const shown = stack.split('\n').filter((line, i) => i > 0 || !line.includes(failure.message));
  return [
    `${failure.role}[${failure.rank}] failed at step ${failure.step}: ${coded}`,
    ...(stack === '' ? [] : shown),
  ].join('\n');
}

/** At most this many decisions of a guard are shown, the newest. */
const SHOWN_DECISIONS = 12;

/** What a guard decided, a row each, and whether it still holds something back. */
export function formatGuard(guard: RunResult['guard']): [string, string][] {
  if (guard === undefined) return [];
  const { decisions, state } = guard;
  const left = decisions.length - SHOWN_DECISIONS;
  const rows = decisions
    .slice(-SHOWN_DECISIONS)
    .map(({ said }): [string, string] => ['guard', said.replace(/^guard /, '')]);
  if (left > 0) rows.unshift(['guard', `${plural(left, 'earlier decision')} not shown`]);
  if (decisions.length === 0) rows.push(['guard', 'never had to hold before the last mask update']);
  if (state.owed) rows.push(['guard', 'sparsity is below its schedule: an update was held back or undone']);
  return rows;
}

/** Of what rules match: biases and normalisation that died with their units are not counted. */
export function removedElements(layers: readonly LayerResult[]): number {
  return layers.filter(({ prunable }) => prunable).reduce((sum, each) => sum + each.size - each.survivors, 0);
}

/**
 * The plan that `launch` prints before it starts.
 * @param source what `whittle schedule` is given to show all of it
 */
export function formatPlan(plan: RunPlan, source: readonly string[]): string {
  const { min, max } = plan.workers;
  const sizes = [...new Set(plan.sliceExamples)].sort((a, b) => a - b);
  const epochs =
    plan.epochs === 0
      ? ''
      : ` (${Number(plan.epochs.toFixed(2))} ${plan.epochs === 1 ? 'epoch' : 'epochs'} of ${formatCount(plan.trainExamples)} examples)`;
  const rows: [string, string][] = [
    ['run', plan.runId],
    [
      'model',
      `${plan.model}, ${formatCount(plan.parameters)} parameters, ${formatCount(plan.prunable)} of them prunable`,
    ],
    [
      'data',
      `${plan.data}, ${formatCount(plan.trainExamples)} training and ${formatCount(plan.testExamples)} test examples`,
    ],
    [
      'roles',
      `1 scheduler, ${plural(plan.servers, 'server')}, ${min === max ? plural(max, 'worker') : `${min} to ${max} workers`}; ${plan.launcher}, backend ${plan.backend}`,
    ],
    [
      'steps',
      `${formatCount(plan.steps)}${epochs}; ${plan.evaluateEvery === 0 ? 'evaluation at the end' : `evaluation every ${plural(plan.evaluateEvery, 'step')}`}`,
    ],
    [
      'batch',
      `${plural(plan.batchSize, 'example')} in ${plural(plan.sliceExamples.length, 'slice')} of ${sizes.join(' or ')}`,
    ],
    ...formatQuantization(plan),
    [
      'bytes a step',
      `${formatBytes(plan.bytesPerStep.dense)} dense, ${formatBytes(plan.bytesPerStep.final)} at final sparsity${formatRatio(plan.bytesPerStep.dense / plan.bytesPerStep.final)}`,
    ],
    [
      'checkpoints',
      `${plan.checkpoint.every === 0 ? 'at the end' : `every ${plural(plan.checkpoint.every, 'step')}`}, newest ${plan.checkpoint.keep} kept`,
    ],
    ['run directory', plan.runDirectory],
    ['watch', commandLine('status', plan.runDirectory, '--watch')],
    ['stop', `Ctrl-C, or ${commandLine('stop', plan.runDirectory)}`],
    ['resume', commandLine('resume', plan.runDirectory)],
  ];
  const parameters = formatTable(
    [
      { title: 'parameter' },
      { title: 'shape' },
      { title: 'layer' },
      { title: 'size', align: 'right' },
      { title: 'sparsity rule' },
    ],
    plan.layers.map((each) => [
      each.name,
      `[${each.shape.join(', ')}]`,
      each.kind,
      formatCount(each.size),
      each.rules.length === 0 ? undefined : each.rules.join(', '),
    ]),
  );
  const parts = [formatPairs(rows), parameters];
  if (plan.sparsity.length > 0) parts.push(formatSparsity(plan, source));
  for (const note of plan.notes) parts.push(`note: ${note}`);
  return parts.join('\n\n');
}

function formatQuantization({ quantization }: RunPlan): [string, string][] {
  if (quantization === undefined) return [];
  const { weights, activations, match, beginStep } = quantization;
  const parts = [
    ...(weights === null
      ? []
      : [`${match ?? 'kernels'} int${weights.bits} per ${weights.perChannel ? 'output channel' : 'tensor'}`]),
    ...(activations === null ? [] : [`activations int${activations.bits}`]),
  ];
  return [['quantization', `${parts.join(', ')}, from step ${formatCount(beginStep + 1)} on`]];
}

/** At most this many mask updates are shown. */
const SHOWN_UPDATES = 12;

function formatSparsity(plan: RunPlan, source: readonly string[]): string {
  const shown = shortenUpdates(plan.sparsity, SHOWN_UPDATES);
  const rules = plan.sparsity[0]?.targets.length ?? 0;
  const perRule =
    rules > 1 ? Array.from({ length: rules }, (_, r) => ({ title: `rule ${r}`, align: 'right' as const })) : [];
  const table = formatTable(
    [
      { title: 'step', align: 'right' },
      ...perRule,
      { title: 'sparsity', align: 'right' },
      { title: 'removed', align: 'right' },
    ],
    shown.map((each) => [
      each.step,
      ...(rules > 1 ? each.targets.map((target) => formatPercent(target)) : []),
      formatPercent(each.sparsity),
      formatCount(plan.parameters - each.packed),
    ]),
  );
  return shown.length === plan.sparsity.length
    ? table
    : `${table}\n${shown.length} of ${plan.sparsity.length} mask updates; all: ${commandLine('schedule', ...source)}`;
}

function formatRecovery({ cause, step, resumedFrom, pauseSeconds }: Recovery): string {
  const went = resumedFrom === null ? 'went on' : `went back to step ${resumedFrom}`;
  const pause = pauseSeconds > 0 ? `, paused ${formatDuration(pauseSeconds)}` : '';
  return `at step ${step}, ${went}${pause}: ${cause}`;
}

function formatSlices(slices: RunResult['slicesByWorker']): string {
  return Object.entries(slices)
    .map(([rank, count]) => `worker[${rank}] ${formatCount(count)}`)
    .join(', ');
}

/** What is not known is left out. */
function formatTraffic({ pushed, pulled, masks, control }: RunResult['bytes']): string {
  const parts = [`${formatBytes(pushed)} pushed`, `${formatBytes(pulled)} pulled`];
  if (masks !== null) parts.push(`${formatBytes(masks)} masks`);
  if (control !== null) parts.push(`${formatBytes(control)} control`);
  return parts.join(', ');
}

function formatRatio(ratio: number): string {
  return Number.isFinite(ratio) && ratio > 1.005 ? ` (${ratio.toFixed(ratio < 10 ? 2 : 1)} times less)` : '';
}

/** `key    value` lines, values in one column. */
export function formatPairs(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([key]) => key.length));
  return rows.map(([key, value]) => `${key.padEnd(width)}   ${value}`).join('\n');
}
