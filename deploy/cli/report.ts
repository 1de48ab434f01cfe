import type { RunPlan } from '../launchers/plan.ts';
import { shortenUpdates } from '../launchers/plan.ts';
import type { LayerResult, RunFailure, RunResult } from '../../shared/telemetry/run-status.ts';
import { formatBytes, formatCount, formatDuration, formatPercent } from './quantities.ts';
import { formatTable } from './table.ts';

/** What a report shows besides the result. */
export interface ReportContext {
  /** Elements that the sparsity rules match, and how many of them the schedule removes by the last step. */
  readonly prunable: number;
  readonly scheduledRemoved: number | null;
  /** Bytes of values a step moves, by the formula of the plan, and as measured over the last steps. */
  readonly denseBytesPerStep: number;
  readonly bytesPerStep: number | null;
  readonly checkpoint: string | null;
}

/** The closing report of a run. */
export function formatReport(result: RunResult, context: ReportContext | null): string {
  const lines = ['', `Run ${result.runId} ${ENDINGS[result.state]} at step ${result.step} of ${result.totalSteps}`, ''];
  if (result.layers.length > 0) lines.push(formatLayers(result.layers), '');
  const rows: [string, string][] = [];
  const removed = removedElements(result.layers);
  if (context !== null && context.prunable > 0) {
    const scheduled = context.scheduledRemoved;
    const compared =
      scheduled === null
        ? ''
        : scheduled === removed
          ? ', exactly as scheduled'
          : `, scheduled ${formatCount(scheduled)}`;
    rows.push(['removed', `${formatCount(removed)} of ${formatCount(context.prunable)} prunable elements${compared}`]);
  }
  rows.push(['sparsity', formatPercent(result.sparsity)]);
  if (result.testAccuracy !== null) rows.push(['test accuracy', formatPercent(result.testAccuracy)]);
  if (result.loss !== null) rows.push(['training loss', result.loss.toFixed(4)]);
  rows.push([
    'wall time',
    `${formatDuration(result.wallSeconds)}, ${formatCount(result.examplesPerSecond)} examples/s, ${formatCount(result.stepsComputed)} steps computed`,
  ]);
  if (result.resumedFrom !== null) rows.push(['resumed from', `step ${result.resumedFrom}`]);
  rows.push(['slices', formatSlices(result.slicesByWorker)]);
  const { pushed, pulled, masks, control } = result.bytes;
  rows.push([
    'bytes',
    `${formatBytes(pushed)} pushed, ${formatBytes(pulled)} pulled, ${formatBytes(masks)} masks, ${formatBytes(control)} control`,
  ]);
  if (context !== null && context.bytesPerStep !== null && context.bytesPerStep > 0) {
    rows.push([
      'bytes a step',
      `${formatBytes(context.bytesPerStep)} now, ${formatBytes(context.denseBytesPerStep)} dense${formatRatio(context.denseBytesPerStep / context.bytesPerStep)}`,
    ]);
  }
  for (const [name, digest] of [
    ['weights', result.weightsDigest],
    ['mask', result.maskDigest],
    ['state', result.stateDigest],
  ] as const) {
    if (digest !== null) rows.push([`${name} digest`, digest]);
  }
  if (context?.checkpoint != null) rows.push(['checkpoint', context.checkpoint]);
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
  lines.push(`continue from its last checkpoint with: whittle resume ${result.runDirectory}`);
  lines.push(`its logs: whittle logs ${result.runDirectory}`);
  return lines.join('\n');
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

/** Size, survivors, density and zero survivors of each layer, and their totals. */
export function formatLayers(layers: readonly LayerResult[]): string {
  const total = layers.reduce(
    (sum, each) => ({
      name: 'total',
      size: sum.size + each.size,
      survivors: sum.survivors + each.survivors,
      zeroSurvivors: sum.zeroSurvivors + each.zeroSurvivors,
    }),
    { name: 'total', size: 0, survivors: 0, zeroSurvivors: 0 },
  );
  return formatTable(
    [
      { title: 'parameter' },
      { title: 'size', align: 'right' },
      { title: 'survivors', align: 'right' },
      { title: 'density', align: 'right' },
      { title: 'zero survivors', align: 'right' },
    ],
    [...layers, total].map((each) => [
      each.name,
      formatCount(each.size),
      formatCount(each.survivors),
      formatPercent(each.size === 0 ? 1 : each.survivors / each.size),
      formatCount(each.zeroSurvivors),
    ]),
  );
}

export function removedElements(layers: readonly LayerResult[]): number {
  return layers.reduce((sum, each) => sum + each.size - each.survivors, 0);
}

/** The plan that `launch` prints before it starts. */
export function formatPlan(plan: RunPlan): string {
  const { min, max } = plan.workers;
  const sizes = [...new Set(plan.sliceExamples)].sort((a, b) => a - b);
  const epochs =
    plan.epochs === 0
      ? ''
      : ` (${Number(plan.epochs.toFixed(2))} epochs of ${formatCount(plan.trainExamples)} examples)`;
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
      `1 scheduler, ${plan.servers} servers, ${min === max ? max : `${min} to ${max}`} workers; ${plan.launcher}, backend ${plan.backend}`,
    ],
    [
      'steps',
      `${formatCount(plan.steps)}${epochs}; ${plan.evaluateEvery === 0 ? 'evaluation at the end' : `evaluation every ${plan.evaluateEvery} steps`}`,
    ],
    ['batch', `${plan.batchSize} examples in ${plan.sliceExamples.length} slices of ${sizes.join(' or ')}`],
    [
      'bytes a step',
      `${formatBytes(plan.bytesPerStep.dense)} dense, ${formatBytes(plan.bytesPerStep.final)} at final sparsity${formatRatio(plan.bytesPerStep.dense / plan.bytesPerStep.final)}`,
    ],
    [
      'checkpoints',
      `${plan.checkpoint.every === 0 ? 'at the end' : `every ${plan.checkpoint.every} steps`}, newest ${plan.checkpoint.keep} kept`,
    ],
    ['run directory', plan.runDirectory],
    ['watch', `whittle status ${plan.runDirectory} --watch`],
    ['stop', `Ctrl-C, or whittle stop ${plan.runDirectory}`],
    ['resume', `whittle resume ${plan.runDirectory}`],
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
  if (plan.sparsity.length > 0) parts.push(formatSparsity(plan));
  for (const note of plan.notes) parts.push(`note: ${note}`);
  return parts.join('\n\n');
}

/** At most this many mask updates are shown. */
const SHOWN_UPDATES = 12;

function formatSparsity(plan: RunPlan): string {
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
    : `${table}\n${shown.length} of ${plan.sparsity.length} mask updates; all: whittle schedule`;
}

function formatSlices(slices: RunResult['slicesByWorker']): string {
  const entries = Object.entries(slices);
  return entries.length === 0
    ? 'none'
    : entries.map(([rank, count]) => `worker[${rank}] ${formatCount(count)}`).join(', ');
}

function formatRatio(ratio: number): string {
  return Number.isFinite(ratio) && ratio > 1.005 ? ` (${ratio.toFixed(ratio < 10 ? 2 : 1)} times less)` : '';
}

/** `key    value` lines, values in one column. */
export function formatPairs(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([key]) => key.length));
  return rows.map(([key, value]) => `${key.padEnd(width)}   ${value}`).join('\n');
}
