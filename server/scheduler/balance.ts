/** What a worker computes, and how long for. */
export interface Load {
  readonly worker: number;
  readonly slices: readonly number[];
  /** Milliseconds a slice; null: not known, or known for too long to count on it. */
  readonly perSlice: number | null;
}

export interface Move {
  readonly from: number;
  readonly to: number;
  readonly slice: number;
}

/** A slice moves only where the slowest worker's step becomes shorter by this share: less is noise. */
const WORTH_MOVING = 0.15;

/**
 * A slice to move from the slowest worker to another, or null where that would not help. A worker without slices is
 * tried where its speed is not known: it is taken to be as fast as the median of those that compute, the slowest left
 * out, so that one that lost all its slices gets some again.
 * Null also where the speed of one with slices is not known.
 */
export function moveOf(loads: readonly Load[]): Move | null {
  const busy: { worker: number; slices: readonly number[]; perSlice: number }[] = [];
  for (const { worker, slices, perSlice } of loads) {
    if (slices.length === 0) continue;
    if (perSlice === null) return null;
    busy.push({ worker, slices, perSlice });
  }
  const slowest = most(busy, ({ slices, perSlice }) => slices.length * perSlice);
  const slice = slowest?.slices.at(-1);
  if (!slowest || slice === undefined) return null;
  const others = busy.filter((load) => load !== slowest);
  const usual = medianOf((others.length > 0 ? others : busy).map(({ perSlice }) => perSlice));
  const idle = loads.filter(({ slices }) => slices.length === 0);
  const takers = [...others, ...idle.map((load) => ({ ...load, perSlice: load.perSlice ?? usual }))];
  const after = ({ slices, perSlice }: (typeof takers)[number]): number => (slices.length + 1) * perSlice;
  const to = most(takers, (load) => -after(load));
  if (!to) return null;
  const now = slowest.slices.length * slowest.perSlice;
  const then = Math.max((slowest.slices.length - 1) * slowest.perSlice, after(to));
  return then < (1 - WORTH_MOVING) * now ? { from: slowest.worker, to: to.worker, slice } : null;
}

function medianOf(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? 0;
}

function most<T>(items: readonly T[], weight: (item: T) => number): T | undefined {
  return items.reduce<T | undefined>((a, b) => (a === undefined || weight(b) > weight(a) ? b : a), undefined);
}
