import type { RunConfig } from '../config/types.ts';

/**
 * A change of the whole model in the middle of a run: all shards are cut at its step and stop there, the checkpoint is
 * transformed, and a new generation goes on from what comes of it. So it takes part in recovery, resuming and
 * resharding like any checkpoint, and servers and workers know nothing of it.
 */
export interface Intervention {
  /** Kept in manifests, such as `rewind@2000`. */
  readonly id: string;
  readonly kind: 'rewind' | 'shrink';
  readonly step: number;
}

type Calendar = Pick<RunConfig, 'rewind' | 'shrink'>;

/** Ascending by step; at the same step in the order in which they act. */
export function interventionsOf({ rewind = [], shrink }: Calendar): Intervention[] {
  const all = [
    ...rewind.map(({ at }) => ({ kind: 'rewind' as const, step: at })),
    ...(shrink === undefined ? [] : [{ kind: 'shrink' as const, step: shrink.atStep }]),
  ];
  return all.map((each) => ({ id: `${each.kind}@${each.step}`, ...each })).sort((a, b) => a.step - b.step);
}

/** Clocks at which all shards are cut for interventions: where they act, and whose values they bring back. */
export function interventionCuts(config: Calendar): ReadonlySet<number> {
  return new Set([...interventionsOf(config).map(({ step }) => step), ...(config.rewind ?? []).map(({ to }) => to)]);
}

/** Those that are due at a checkpoint and not in it yet, in the order in which they act; none where training may go on. */
export function dueInterventions(
  config: Calendar,
  checkpoint: { readonly clock: number; readonly interventions?: readonly string[] },
): Intervention[] {
  const done = new Set(checkpoint.interventions);
  return interventionsOf(config).filter(({ id, step }) => step <= checkpoint.clock && !done.has(id));
}

/** Clocks of checkpoints that an intervention at or after `clock` still needs. */
export function clocksNeeded(config: Calendar, clock: number): number[] {
  return (config.rewind ?? []).flatMap(({ at, to }) => (at >= clock ? [to] : []));
}
