import type { RunStatus } from '../../shared/telemetry/run-status.ts';
import { hasEnded } from '../launchers/follow.ts';
import { ageInSeconds, formatBytes, formatDuration, formatPercent } from './quantities.ts';
import { formatTarget } from './progress.ts';
import { commandToContinue, formatFailure, formatPairs } from './report.ts';
import { formatTable } from './table.ts';

/** A status for people: where the run stands and who is in it. `now`: milliseconds. */
export function formatStatus(status: RunStatus, now: number): string {
  const rows: [string, string][] = [
    ['run', status.runId],
    ['state', hasEnded(status) || status.activity === '' ? status.state : `${status.state}, ${status.activity}`],
    [
      'step',
      `${status.step} of ${status.totalSteps}${status.totalSteps === 0 ? '' : ` (${formatPercent(status.step / status.totalSteps, 0)})`}`,
    ],
  ];
  if (status.loss !== null) rows.push(['loss', status.loss.toFixed(4)]);
  if (status.testAccuracy !== null) {
    rows.push(['test accuracy', `${formatPercent(status.testAccuracy)} at step ${status.evaluatedAt ?? status.step}`]);
  }
  rows.push([
    'sparsity',
    `${formatPercent(status.sparsity)}, target ${formatTarget(status)}, mask ${status.maskEpoch}`,
  ]);
  if (status.examplesPerSecond > 0) {
    rows.push([
      'speed',
      `${Math.round(status.examplesPerSecond)} examples/s, ${formatBytes(status.bytesPerStep)} a step`,
    ]);
  }
  if (!hasEnded(status) && status.secondsLeft !== null) rows.push(['time left', formatDuration(status.secondsLeft)]);
  const { lastCheckpoint } = status;
  if (lastCheckpoint !== null) {
    const age = ageInSeconds(lastCheckpoint.at, now);
    rows.push(['last checkpoint', `step ${lastCheckpoint.step}${age === null ? '' : `, ${formatDuration(age)} ago`}`]);
  }
  rows.push(['generation', String(status.generation)]);
  rows.push(['scheduler', `${status.scheduler.address}, pid ${status.scheduler.pid} on ${status.scheduler.host}`]);
  rows.push(['run directory', status.runDirectory]);
  if (status.state === 'FAILED' || status.state === 'STOPPED') {
    const hasCheckpoint = lastCheckpoint !== null;
    rows.push([hasCheckpoint ? 'resume' : 'start over', commandToContinue(status.runDirectory, hasCheckpoint)]);
  }
  const parts = [formatPairs(rows)];
  if (status.members.length > 0 && !hasEnded(status)) parts.push(formatMembers(status));
  if (status.failure !== null) parts.push(formatFailure(status.failure));
  return parts.join('\n\n');
}

function formatMembers(status: RunStatus): string {
  return formatTable(
    [
      { title: 'member' },
      { title: 'address' },
      { title: 'pid', align: 'right' },
      { title: 'host' },
      { title: 'clock', align: 'right' },
      { title: 'heard', align: 'right' },
      { title: 'memory', align: 'right' },
      { title: 'step p50 / p90', align: 'right' },
      { title: 'slices' },
    ],
    status.members.map((each) => [
      `${each.role}[${each.rank}]`,
      each.address === '' ? undefined : each.address,
      each.pid,
      each.host,
      each.clock,
      `${each.secondsSinceHeartbeat.toFixed(1)} s ago`,
      each.rssBytes === 0 ? undefined : formatBytes(each.rssBytes),
      each.stepMilliseconds === null
        ? undefined
        : `${each.stepMilliseconds.median.toFixed(1)} / ${each.stepMilliseconds.p90.toFixed(1)} ms`,
      each.role === 'worker' ? each.slices.join(', ') || 'none' : undefined,
    ]),
  );
}
