import type { RunResult, RunStatus } from '../../../shared/telemetry/run-status.ts';

/**
 * What a scheduler's pod prints between the lines of its log, a line of JSON each: pod logs are what every user of a
 * cluster may read, from anywhere, also after the end of the run.
 */
export type PodEvent =
  | { readonly event: 'listening'; readonly address: string; readonly generation: number }
  | { readonly event: 'status'; readonly status: RunStatus }
  | { readonly event: 'result'; readonly result: RunResult };

/** The event in a line of a pod's log, or null: the line is one of the role's own. */
export function parsePodEvent(line: string): PodEvent | null {
  if (!line.startsWith('{"event":"')) return null;
  try {
    const value = JSON.parse(line) as PodEvent;
    return ['listening', 'status', 'result'].includes(value.event) ? value : null;
  } catch {
    return null;
  }
}

/** Seconds between statuses that tell nothing but progress: a log that is full of them is soon cut. */
export const STATUS_EVERY = 10;

/** Whether a status is worth a line after the one before it. */
export function isNews(before: RunStatus | null, now: RunStatus): boolean {
  if (before === null) return true;
  const told = ({ state, activity, generation, maskEpoch, evaluatedAt, lastCheckpoint, failure }: RunStatus): string =>
    JSON.stringify([state, activity, generation, maskEpoch, evaluatedAt, lastCheckpoint?.step, failure?.message]);
  return told(before) !== told(now) || Date.parse(now.updatedAt) - Date.parse(before.updatedAt) >= 1000 * STATUS_EVERY;
}
