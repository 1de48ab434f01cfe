import type { RunConfig } from '../config/types.ts';

/**
 * A change of the whole model in the middle of a run: all shards are cut at its step and stop there, the checkpoint is
 * transformed, and a new generation goes on from what comes of it. So it takes part in recovery, resuming and
 * resharding like any checkpoint, and servers and workers know nothing of it.
 */
export interface Intervention {
  /** Kept in manifests, such as `rewind@2000`. */
  readonly id: string;
  readonly kind: 'rewind';
  readonly step: number;
}

/** Ascending by step. */
export function interventionsOf(config: Pick<RunConfig, 'rewind'>): Intervention[] {
  const rewinds = (config.rewind ?? []).map(({ at }) => ({ id: `rewind@${at}`, kind: 'rewind' as const, step: at }));
  return rewinds.sort((a, b) => a.step - b.step);
}

/** Clocks at which all shards are cut for interventions: where they act, and whose values they bring back. */
export function interventionCuts(config: Pick<RunConfig, 'rewind'>): ReadonlySet<number> {
  return new Set([...interventionsOf(config).map(({ step }) => step), ...(config.rewind ?? []).map(({ to }) => to)]);
}

/** The first that is due at a checkpoint and not in it yet; null where training may go on. */
export function dueIntervention(
  config: Pick<RunConfig, 'rewind'>,
  checkpoint: { readonly clock: number; readonly interventions?: readonly string[] },
): Intervention | null {
  const done = new Set(checkpoint.interventions);
  return interventionsOf(config).find(({ id, step }) => step <= checkpoint.clock && !done.has(id)) ?? null;
}

/** Clocks of checkpoints that an intervention at or after `clock` still needs. */
export function clocksNeeded(config: Pick<RunConfig, 'rewind'>, clock: number): number[] {
  return (config.rewind ?? []).flatMap(({ at, to }) => (at >= clock ? [to] : []));
}
